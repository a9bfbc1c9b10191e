//! The trunk: ResNet v1.5 (stride on the 3×3) with torchvision's names. It computes the features at strides 8, 16 and
//! 32.
//!
//! Source: He et al. 2015; torchvision's `resnet.py` for the names and the place of the stride.

use super::freeze::{Freeze, Stage};
use crate::error::Result;
use crate::ir::{Conv2d, ValueId};
use crate::layers::Builder;
use crate::ops::{batch_norm::Activation, pool};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// The trunks: torchvision's ResNets (He 2015) and a tiny one for tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "a variant's docs would be printed as the flag's help")]
pub enum Backbone {
    Resnet18,
    Resnet34,
    Resnet50,
    Resnet101,
    /// One basic block per stage and an eighth of the width, for tests and for trying things out
    Tiny,
}

/// The type of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    /// 3×3, 3×3.
    Basic,
    /// 1×1, 3×3, 1×1 to four times the width.
    Bottleneck,
}

impl Block {
    /// Number of consecutive convolutions.
    fn layers(self) -> usize {
        match self {
            Block::Basic => 2,
            Block::Bottleneck => 3,
        }
    }
}

impl Backbone {
    /// The word used by `--backbone`.
    pub fn name(self) -> &'static str {
        match self {
            Backbone::Resnet18 => "resnet18",
            Backbone::Resnet34 => "resnet34",
            Backbone::Resnet50 => "resnet50",
            Backbone::Resnet101 => "resnet101",
            Backbone::Tiny => "tiny",
        }
    }

    fn block(self) -> Block {
        match self {
            Backbone::Resnet50 | Backbone::Resnet101 => Block::Bottleneck,
            _ => Block::Basic,
        }
    }

    fn depths(self) -> [usize; 4] {
        match self {
            Backbone::Resnet18 => [2, 2, 2, 2],
            Backbone::Resnet34 | Backbone::Resnet50 => [3, 4, 6, 3],
            Backbone::Resnet101 => [3, 4, 23, 3],
            Backbone::Tiny => [1, 1, 1, 1],
        }
    }

    fn width(self) -> usize {
        match self {
            Backbone::Tiny => 8,
            _ => 64,
        }
    }

    /// The name of the trunk's last convolution. After it, the tasks share only c5's norm and sum.
    pub(super) fn last_convolution(self) -> String {
        format!("layer4.{}.conv{}", self.depths()[3] - 1, self.block().layers())
    }

    /// Channels of c5, the input of a pooled head.
    pub fn features(self) -> usize {
        let expansion = if self.block() == Block::Bottleneck { 4 } else { 1 };
        8 * self.width() * expansion
    }
}

/// Appends the trunk to the builder's graph: x `[N, H, W, 3]` → c3, c4, c5 at strides 8, 16, 32.
///
/// # Errors
/// The image is too small for a stride of 32.
pub fn resnet(b: &mut Builder, x: ValueId, backbone: Backbone, freeze: &Freeze) -> Result<[ValueId; 3]> {
    let width = backbone.width();
    freeze.enter(Stage::Stem, b);
    let y = b.conv(x, "conv1", width, Conv2d { kernel: 7, stride: 2, padding: 3 })?;
    let z = b.batch_norm(y, "bn1", None, Activation::Relu)?;
    let mut x = pool::max_pool(b.graph, z)?; // [N, H/4, W/4, width]
    let mut features = Vec::new();
    for (stage, depth) in backbone.depths().into_iter().enumerate() {
        freeze.enter(Stage::ALL[stage + 1], b);
        for index in 0..depth {
            let stride = if stage > 0 && index == 0 { 2 } else { 1 };
            let name = format!("layer{}.{index}", stage + 1);
            x = block(b, x, &name, backbone.block(), width << stage, stride)?;
        }
        features.push(x);
    }
    Ok([features[1], features[2], features[3]])
}

const fn conv1x1(stride: usize) -> Conv2d {
    Conv2d { kernel: 1, stride, padding: 0 }
}

const fn conv3x3(stride: usize) -> Conv2d {
    Conv2d { kernel: 3, stride, padding: 1 }
}

fn block(b: &mut Builder, x: ValueId, name: &str, block: Block, width: usize, stride: usize) -> Result<ValueId> {
    let part = |suffix: &str| format!("{name}.{suffix}");
    let layers = match block {
        Block::Basic => vec![(width, conv3x3(stride)), (width, conv3x3(1))],
        Block::Bottleneck => {
            vec![(width, conv1x1(1)), (width, conv3x3(stride)), (4 * width, conv1x1(1))]
        }
    };
    let out = layers[layers.len() - 1].0;
    let shape = b.graph.shape(x);
    let identity = if stride != 1 || shape[shape.len() - 1] != out {
        let y = b.conv(x, &part("downsample.0"), out, conv1x1(stride))?;
        b.batch_norm(y, &part("downsample.1"), None, Activation::None)?
    } else {
        x
    };
    let mut z = x;
    for (i, &(channels, conv)) in layers.iter().enumerate() {
        let y = b.conv(z, &part(&format!("conv{}", i + 1)), channels, conv)?;
        let residual = (i + 1 == layers.len()).then_some(identity);
        z = b.batch_norm(y, &part(&format!("bn{}", i + 1)), residual, Activation::Relu)?;
    }
    Ok(z)
}
