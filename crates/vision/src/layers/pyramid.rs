//! The feature pyramid below the detection towers: P3–P5 are built top-down from c3–c5, P6 and P7 by strided
//! convolutions on P5.
//!
//! Source: Lin et al. 2017; extra levels as in RetinaNet and GFL (Li 2020).

use super::{Builder, ConvStart};
use crate::error::Result;
use crate::ir::{Conv2d, Init, Level, ValueId};
use crate::ops::upsample;
use serde::{Deserialize, Serialize};

/// Width of the pyramid's maps, and depth of the towers on top of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PyramidSize {
    /// Channels of every map of the pyramid and of the towers.
    pub channels: usize,
    /// Number of 3 × 3 convolutions in each of the two towers.
    pub tower_depth: usize,
}

impl PyramidSize {
    /// The size in the paper (Li 2020): 256 channels, four convolutions per tower.
    pub const FULL: PyramidSize = PyramidSize { channels: 256, tower_depth: 4 };
    /// The default: half the paper's width and half its depth.
    pub const LITE: PyramidSize = PyramidSize { channels: 128, tower_depth: 2 };
    /// For the tiny trunk.
    pub const TINY: PyramidSize = PyramidSize { channels: 32, tower_depth: 1 };
}

const START: ConvStart = ConvStart { weight: Init::KaimingFanOut, bias: 0.0 };

/// Appends the pyramid under `name`: one map of `channels` per level, with the sizes of the levels.
///
/// # Errors
/// The feature maps do not have the sizes of one image.
pub fn fpn(
    b: &mut Builder,
    name: &str,
    features: [ValueId; 3],
    channels: usize,
    levels: usize,
) -> Result<(Vec<ValueId>, Vec<Level>)> {
    let conv1x1 = Conv2d { kernel: 1, stride: 1, padding: 0 };
    let conv3x3 = |stride| Conv2d { kernel: 3, stride, padding: 1 };
    let mut top: Option<ValueId> = None;
    let mut maps = Vec::new();
    for i in (0..3).rev() {
        let lateral = b.conv_bias(features[i], &format!("{name}.lateral.{i}"), channels, conv1x1, START)?;
        let merged = match top {
            Some(top) => upsample::upsample_add(b.graph, top, lateral)?,
            None => lateral,
        };
        top = Some(merged);
        maps.push(b.conv_bias(merged, &format!("{name}.output.{i}"), channels, conv3x3(1), START)?);
    }
    maps.reverse(); // P3, P4, P5
    for i in 3..levels {
        let coarser = b.conv_bias(maps[i - 1], &format!("{name}.output.{i}"), channels, conv3x3(2), START)?;
        maps.push(coarser);
    }
    let sizes = maps.iter().enumerate().map(|(i, &m)| {
        let shape = b.graph.shape(m);
        Level { stride: 8 << i, h: shape[1], w: shape[2] }
    });
    let sizes = sizes.collect();
    Ok((maps, sizes))
}
