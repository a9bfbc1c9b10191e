//! The seam and gradient sums. `Combine`: the tasks' gradients at one shared feature, `[N, H, W, C]` or pooled `[N, C]` →
//! Σ weight·gradient `[N, H, W, C]`, the weights read from the step's scalars; a task of weight 0 is not touched, so
//! that it equals a task that is not there. `Add`: a, b → a + b.

pub mod cpu;
pub mod cuda;
#[cfg(test)]
mod tests;

use crate::graph::ir::{DType, Graph, Op, TermForm, ValueId};

/// Appends the weighted sum for the feature map `feature`.
pub fn combine(graph: &mut Graph, feature: ValueId, terms: &[(usize, TermForm, ValueId)]) -> ValueId {
    let shape = graph.shape(feature).to_vec();
    let name = format!("{}.seam", graph.value(feature).name);
    let out = graph.arena(name, &shape, DType::F32);
    let inputs: Vec<ValueId> = terms.iter().map(|t| t.2).collect();
    let terms = terms.iter().map(|t| (t.0, t.1)).collect();
    graph.push(Op::Combine { terms }, &inputs, &[out]);
    out
}
