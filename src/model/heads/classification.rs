//! Classification head: global pool of c5, dropout, linear → logits `[N, K]`.

use crate::error::Result;
use crate::ir::ValueId;
use crate::model::builder::Builder;
use crate::ops::pool;

/// Appends the head under `name`.
///
/// # Errors
/// A dropout that is no probability.
pub fn classification(b: &mut Builder, name: &str, c5: ValueId, classes: usize, dropout: Dropout) -> Result<ValueId> {
    pooled_linear(b, name, c5, classes, dropout)
}

/// Dropout before a linear layer: its probability, and what sets its random stream apart from the others'.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    pub probability: f32,
    pub salt: u64,
}

/// Global pool, dropout, linear: shared by the two pooled heads.
pub(super) fn pooled_linear(b: &mut Builder, name: &str, c5: ValueId, out: usize, dropout: Dropout) -> Result<ValueId> {
    let pooled = pool::global_pool(b.graph, c5, &format!("{name}.pooled"))?; // [N, C]
    let dropped = pool::dropout(b.graph, pooled, dropout.probability, dropout.salt)?;
    b.linear(dropped, &format!("{name}.linear"), out) // [N, out]
}
