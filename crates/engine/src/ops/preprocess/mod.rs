//! `Preprocess`: images u8 `[N, H, W, 3]` → (x/255 − mean)/deviation, f32 `[N, H, W, 3]`, with ImageNet's constants.

pub(crate) mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod tests;

pub use cpu::normalise;

use super::cost::Cost;
use super::{NoGradient, Operation, check, no_gradient};
use crate::error::Result;
use crate::ir::{DType, Gradients, Graph, Node, Op, ValueId};

/// ImageNet's mean of red, green and blue pixels in 0–1, as every published ResNet expects.
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// ImageNet's standard deviation, which belongs to [`MEAN`].
pub const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

/// Appends the normalisation of the images.
///
/// # Errors
/// The images are not u8 `[N, H, W, 3]`.
pub fn preprocess(graph: &mut Graph, images: ValueId) -> Result<ValueId> {
    Preprocess.check(graph, &[images])?;
    let shape = graph.shape(images).to_vec();
    let x = graph.arena("images.normalised", &shape, DType::F32);
    graph.push(Op::Preprocess, &[images], &[x]);
    Ok(x)
}

pub(crate) struct Preprocess;

impl Operation for Preprocess {
    fn name(&self) -> String {
        "preprocess".into()
    }

    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        Cost::elementwise(graph, node)
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        let shape = graph.shape(inputs[0]);
        let holds = shape.len() == 4 && shape[3] == 3 && graph.value(inputs[0]).dtype == DType::U8;
        check(holds, "preprocess", || "u8 images [N, H, W, 3]".into(), &[shape])
    }

    fn backward(&self, _graph: &mut Graph, _node: &Node, _gradients: &mut Gradients) {
        no_gradient(NoGradient::ConstantInput);
    }
}
