//! Regression head: global pool of c5, dropout, linear → standardised values `[N, R]`.

use super::classification::{Dropout, pooled_linear};
use crate::error::Result;
use crate::ir::ValueId;
use crate::model::builder::Builder;

/// Appends the head under `name`.
///
/// # Errors
/// A dropout that is no probability.
pub fn regression(b: &mut Builder, name: &str, c5: ValueId, values: usize, dropout: Dropout) -> Result<ValueId> {
    pooled_linear(b, name, c5, values, dropout)
}
