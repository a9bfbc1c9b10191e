//! `Preprocess`: images u8 `[N, H, W, 3]` → (x/255 − mean)/deviation, f32 `[N, H, W, 3]`, with ImageNet's constants.

pub mod cpu;
pub mod cuda;
#[cfg(test)]
mod tests;

use super::check;
use crate::error::Result;
use crate::graph::ir::{DType, Graph, Op, ValueId};

/// ImageNet's per-channel mean and deviation of pixels in 0–1, as every published ResNet expects.
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
pub const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

/// Appends the normalisation of the images.
///
/// # Errors
/// Images that are not u8 `[N, H, W, 3]`.
pub fn preprocess(graph: &mut Graph, images: ValueId) -> Result<ValueId> {
    let shape = graph.shape(images).to_vec();
    check(
        shape.len() == 4 && shape[3] == 3 && graph.value(images).dtype == DType::U8,
        "preprocess",
        || "u8 images [N, H, W, 3]".into(),
        &[&shape],
    )?;
    let x = graph.arena("images.normalised", &shape, DType::F32);
    graph.push(Op::Preprocess, &[images], &[x]);
    Ok(x)
}
