//! The network: a ResNet trunk and any number of heads, written as a graph for one batch and image size. This module
//! knows names, parameters and tasks, but not the kinds of task, the data or the device.

pub mod card;
pub mod freeze;
pub mod init;
pub mod resnet;
pub mod start;
pub mod weights;

mod file;
mod forward;
mod head_size;
mod library;
mod loss_scale;
mod pickle;
mod published;
mod training;
mod validation;

pub use card::Card;
pub use file::ModelFile;
pub use forward::ForwardPlan;
pub use freeze::{Freeze, Stage};
pub use head_size::HeadSize;
pub use library::Model;
pub(crate) use library::rgb_bytes;
pub use loss_scale::LossScale;
pub use resnet::Backbone;
pub use training::{Probe, TrainingNetwork};
pub use validation::{BatchLoss, ValidationPlan};

use crate::error::{Error, Result};
use crate::ir::{DType, Graph, Group, Level, Mode, ValueId};
use crate::layers::Builder;
use crate::layers::pyramid::PyramidSize;
use crate::ops::preprocess;
use crate::random::fnv;
use crate::tasks::{Dropout, HeadValues, Task, Trunk};
use serde::{Deserialize, Serialize};

/// The settings that determine the parameters' names and shapes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Architecture {
    /// The trunk.
    pub backbone: Backbone,
    /// The tasks, each with one head, in this order.
    pub tasks: Vec<Task>,
    /// Widths and depths of the heads on a pyramid.
    pub detection: PyramidSize,
    /// 3 (P3–P5) or 5 (P3–P7), fixed when the model is made.
    pub pyramid_levels: usize,
    /// Dropout rate before the linear layers of pooled heads, from 0 up to 1.
    pub dropout: f32,
}

impl Architecture {
    /// The architecture for a training image size in pixels, with lite detection heads. Below 416 pixels the pyramid
    /// ends at P5.
    pub fn new(backbone: Backbone, tasks: Vec<Task>, image_size: usize, dropout: f32) -> Architecture {
        let detection = HeadSize::Lite.on(backbone);
        Architecture { backbone, tasks, detection, pyramid_levels: if image_size < 416 { 3 } else { 5 }, dropout }
    }

    /// Builds the forward pass for a batch of `[N, H, W, 3]` u8 images.
    ///
    /// # Errors
    /// The size is not a multiple of a head's stride, or the model cannot be built.
    pub fn network(&self, shape: [usize; 3], mode: Mode) -> Result<Network> {
        self.partly_frozen(shape, mode, &Freeze::default())
    }

    /// Builds the forward pass like [`Architecture::network`], with frozen parts of the trunk.
    ///
    /// # Errors
    /// The same as [`Architecture::network`].
    pub fn partly_frozen(&self, [n, h, w]: [usize; 3], mode: Mode, freeze: &Freeze) -> Result<Network> {
        for task in &self.tasks {
            let (stride, kind) = (task.spec.stride(), task.kind_word());
            if h % stride != 0 || w % stride != 0 {
                return Err(Error::Usage(format!("image size {h}×{w}: a {kind} head needs multiples of {stride}")));
            }
        }
        let mut graph = Graph::new(mode);
        let images = graph.input("images", &[n, h, w, 3], DType::U8);
        let x = preprocess::preprocess(&mut graph, images)?;
        let mut b = Builder::new(&mut graph);
        let features = resnet::resnet(&mut b, x, self.backbone, freeze)?;
        let trunk_nodes = b.graph.nodes.len();
        let mut heads = Vec::new();
        for (index, task) in self.tasks.iter().enumerate() {
            let first = b.graph.nodes.len();
            b.group = Group::Head(index);
            let values = self.head(&mut b, task, features)?;
            let nodes = (first..b.graph.nodes.len()).collect();
            heads.push(Head { values, nodes });
        }
        Ok(Network { graph, images, features, trunk_nodes, heads })
    }

    fn head(&self, b: &mut Builder, task: &Task, features: [ValueId; 3]) -> Result<HeadValues> {
        let name = format!("heads.{}", task.name);
        let dropout = Dropout { probability: self.dropout, salt: fnv(&name) };
        let trunk = Trunk { features, pyramid: self.detection, levels: self.pyramid_levels, dropout };
        task.spec.head(b, &name, &trunk)
    }

    /// The number of trainable parameters.
    ///
    /// # Errors
    /// The same as [`Architecture::network`].
    pub fn parameter_count(&self, image_size: usize) -> Result<usize> {
        let network = self.network([1, image_size, image_size], Mode::Evaluate)?;
        Ok(network.graph.parameters.iter().map(|p| p.shape.iter().product::<usize>()).sum())
    }

    /// The pyramid's levels for an image of `h`×`w` pixels.
    pub fn levels(&self, h: usize, w: usize) -> Vec<Level> {
        let (mut lh, mut lw) = (h.div_ceil(8), w.div_ceil(8));
        (0..self.pyramid_levels)
            .map(|i| {
                let level = Level { stride: 8 << i, h: lh, w: lw };
                (lh, lw) = (lh.div_ceil(2), lw.div_ceil(2));
                level
            })
            .collect()
    }
}

/// The forward pass and its important values.
pub struct Network {
    /// All nodes and values.
    pub graph: Graph,
    /// u8 `[N, H, W, 3]`
    pub images: ValueId,
    /// c3, c4, c5 `[N, H/8, W/8, C]` …: the seam.
    pub features: [ValueId; 3],
    /// The number of trunk nodes, which come first in the graph.
    pub trunk_nodes: usize,
    /// One per task.
    pub heads: Vec<Head>,
}

/// One task's part of the graph.
pub struct Head {
    /// The computed values.
    pub values: HeadValues,
    /// Its nodes in the graph, including the loss once it exists.
    pub nodes: Vec<usize>,
}

impl Network {
    /// Keeps the heads' results alive for the host to read.
    pub fn keep_outputs(&mut self) {
        self.graph.outputs.extend(self.heads.iter().flat_map(|head| &head.values.outputs));
    }
}
