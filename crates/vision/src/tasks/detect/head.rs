//! Detection head: feature pyramid, two towers of 3×3 convolutions shared by the levels, class logits and the
//! distribution of each side's distance. Source: Li 2020, "Generalized Focal Loss".

use crate::error::Result;
use crate::ir::{Conv2d, Graph, Init, ValueId};
use crate::layers::Builder;
use crate::layers::pyramid::{self, PyramidSize};
use crate::ops::box_loss::BINS;
use crate::ops::{concat, conv2d, group_norm};
use crate::tasks::{HeadValues, Trunk};

/// Groups of the towers' group norms.
const GROUPS: usize = 32;
/// −ln((1 − 0.01)/0.01): initially every class has a probability of 0.01.
const CLASS_BIAS: f32 = -4.595;

/// The layer with one output per class.
pub const CLASS_LAYER: &str = "class.logits";

const SAME: Conv2d = Conv2d { kernel: 3, stride: 1, padding: 1 };

/// The parameters of one tower. They are created once and shared by all levels.
struct Tower {
    convs: Vec<(ValueId, ValueId, ValueId)>,
    weight: ValueId,
    bias: ValueId,
}

/// Appends the head under `name`: class logits `[N, A, C]` and box logits `[N, A, 4·BINS]` over the cells of all
/// levels.
///
/// # Errors
/// The feature maps do not have the sizes of one image.
pub fn detection(b: &mut Builder, name: &str, trunk: &Trunk, classes: usize) -> Result<HeadValues> {
    let size = trunk.pyramid;
    let (maps, levels) = pyramid::fpn(b, &format!("{name}.fpn"), trunk.features, size.channels, trunk.levels)?;
    let class_tower = tower(b, &format!("{name}.class"), size, classes, CLASS_BIAS);
    let box_tower = tower(b, &format!("{name}.box"), size, 4 * BINS, 0.0);
    let mut class_maps = Vec::new();
    let mut box_maps = Vec::new();
    for &map in &maps {
        class_maps.push(run_tower(b.graph, map, &class_tower)?); // [N, h, w, C]
        box_maps.push(run_tower(b.graph, map, &box_tower)?); // [N, h, w, 4·BINS]
    }
    let scales: Vec<ValueId> =
        (0..levels.len()).map(|i| b.vector(format!("{name}.box.scale.{i}"), &[1], Init::Constant(1.0))).collect();
    let class_logits = concat::concat_levels(b.graph, &class_maps, &[], &format!("{name}.class_logits"))?;
    let box_logits = concat::concat_levels(b.graph, &box_maps, &scales, &format!("{name}.box_logits"))?;
    Ok(HeadValues { outputs: vec![class_logits, box_logits], levels })
}

fn tower(b: &mut Builder, name: &str, size: PyramidSize, out: usize, bias: f32) -> Tower {
    let channels = size.channels;
    let convs = (0..size.tower_depth)
        .map(|i| {
            let shape = [channels, 3, 3, channels];
            (
                b.weight(format!("{name}.tower.{i}.conv.weight"), &shape, Init::KaimingFanOut),
                b.vector(format!("{name}.tower.{i}.norm.weight"), &[channels], Init::Constant(1.0)),
                b.vector(format!("{name}.tower.{i}.norm.bias"), &[channels], Init::Constant(0.0)),
            )
        })
        .collect();
    Tower {
        convs,
        weight: b.weight(format!("{name}.logits.weight"), &[out, 3, 3, channels], Init::Normal(0.01)),
        bias: b.vector(format!("{name}.logits.bias"), &[out], Init::Constant(bias)),
    }
}

fn run_tower(graph: &mut Graph, map: ValueId, tower: &Tower) -> Result<ValueId> {
    let mut x = map;
    for &(weight, gamma, beta) in &tower.convs {
        let y = conv2d::conv2d(graph, x, weight, None, SAME)?;
        x = group_norm::group_norm_relu(graph, y, gamma, beta, GROUPS.min(graph.shape(y)[3]))?;
    }
    conv2d::conv2d(graph, x, tower.weight, Some(tower.bias), SAME)
}
