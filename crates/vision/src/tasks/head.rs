//! The inputs and outputs of a head, and the pooled linear head that several kinds use.

use crate::error::Result;
use crate::ir::{Level, ValueId};
use crate::layers::Builder;
use crate::layers::pyramid::PyramidSize;
use crate::ops::pool;

/// The trunk's features and the options for the heads built on them.
#[derive(Clone, Copy, Debug)]
pub struct Trunk {
    /// c3, c4, c5 at strides 8, 16, 32.
    pub features: [ValueId; 3],
    /// The width and depth of the pyramid and its towers.
    pub pyramid: PyramidSize,
    /// Levels of the pyramid: 3 (P3–P5) or 5 (P3–P7).
    pub levels: usize,
    /// The dropout before the linear layers of pooled heads.
    pub dropout: Dropout,
}

/// The outputs of a head. Their meaning is known only to the head's kind.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadValues {
    /// The values to read, in the order the kind expects.
    pub outputs: Vec<ValueId>,
    /// The pyramid levels of the head; empty for a pooled head.
    pub levels: Vec<Level>,
}

/// Dropout before a linear layer: its probability, and a salt that gives it a random stream of its own.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// The probability of dropping a value, from 0 to below 1.
    pub probability: f32,
    /// Separates this layer's random numbers from those of other layers.
    pub salt: u64,
}

/// The layer of a pooled head with one output per class or column.
pub const POOLED_LAYER: &str = "linear";

/// Appends a pooled head under `name`: global pool of c5, dropout, linear → `[N, out]`.
///
/// # Errors
/// The dropout probability is not valid.
pub fn pooled_linear(b: &mut Builder, name: &str, trunk: &Trunk, out: usize) -> Result<HeadValues> {
    let Trunk { features: [_, _, c5], dropout, .. } = *trunk;
    let pooled = pool::global_pool(b.graph, c5, &format!("{name}.pooled"))?; // [N, C]
    let dropped = pool::dropout(b.graph, pooled, dropout.probability, dropout.salt)?;
    let values = b.linear(dropped, &format!("{name}.{POOLED_LAYER}"), out)?; // [N, out]
    Ok(HeadValues { outputs: vec![values], levels: Vec::new() })
}
