//! The weighted sum at the seam, and plain gradient sums. `Combine`: the tasks' gradients at one shared feature, `[N, H, W, C]`
//! or pooled `[N, C]` → Σ weight·gradient `[N, H, W, C]`. The weights are read from the step's scalars. A task of weight 0 is not
//! read, so that it equals an absent task. `Add`: a, b → a + b. `Clear`: → zeros f32, to which other nodes add.

pub(crate) mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod tests;

use super::cost::Cost;
use super::{NoGradient, Operation, check_inputs, no_gradient};
use crate::error::Result;
use crate::ir::{Combine, DType, Gradients, Graph, Node, Op, TermForm, ValueId};

/// Appends the weighted sum for the feature map `feature`.
pub fn combine(graph: &mut Graph, feature: ValueId, terms: &[(usize, TermForm, ValueId)]) -> ValueId {
    let shape = graph.shape(feature).to_vec();
    let name = format!("{}.seam", graph.value(feature).name);
    let out = graph.arena(name, &shape, DType::F32);
    let inputs: Vec<ValueId> = terms.iter().map(|t| t.2).collect();
    let terms = terms.iter().map(|t| (t.0, t.1)).collect();
    graph.push(Op::Combine(Combine { terms }), &inputs, &[out]);
    out
}

pub(crate) struct Add;
pub(crate) struct Clear;

impl Operation for Combine {
    fn name(&self) -> String {
        "combine".into()
    }

    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        Cost::elementwise(graph, node)
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        let expected = "for each term a gradient, dense [N, H, W, C] or pooled [N, C]";
        check_inputs(graph, "combine", inputs, &[self.terms.len()], expected, |shapes| {
            let dimensions = |form: TermForm| match form {
                TermForm::Dense => 4,
                TermForm::Pooled => 2,
            };
            let ends = |s: &[usize]| [s[0], s[s.len() - 1]];
            shapes
                .iter()
                .zip(&self.terms)
                .all(|(s, (_, form))| s.len() == dimensions(*form) && ends(s) == ends(shapes[0]))
        })
    }

    fn backward(&self, _graph: &mut Graph, _node: &Node, _gradients: &mut Gradients) {
        no_gradient(NoGradient::BackwardNode);
    }
}

impl Operation for Add {
    fn name(&self) -> String {
        "add".into()
    }

    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        Cost::elementwise(graph, node)
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        check_inputs(graph, "add", inputs, &[2], "two values of one shape", |s| s[0] == s[1])
    }

    fn backward(&self, _graph: &mut Graph, _node: &Node, _gradients: &mut Gradients) {
        no_gradient(NoGradient::BackwardNode);
    }
}

impl Operation for Clear {
    fn name(&self) -> String {
        "clear".into()
    }

    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        Cost::elementwise(graph, node)
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        check_inputs(graph, "clear", inputs, &[0], "no input", |_| true)
    }

    fn backward(&self, _graph: &mut Graph, _node: &Node, _gradients: &mut Gradients) {
        no_gradient(NoGradient::BackwardNode);
    }
}
