//! The inner products of the tasks' gradients. `Gramian`: gradients of K tasks of one feature, `[N, H, W, C]` or pooled `[N, C]`,
//! or of one convolution's weight, `[K, R, S, C]` → their inner products `[K, K]`. They are unweighted, the terms of one task
//! count as their sum, and a task without a term gets zeros. The order of every sum depends only on the shapes.

pub(crate) mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod tests;

use super::cost::Cost;
use super::{NoGradient, Operation, check_inputs, longest_input, no_gradient};
use crate::error::Result;
use crate::ir::{DType, Gradients, Gramian, Graph, Node, Op, TermForm, ValueId};

/// Appends the inner products of the gradients of `of`, a feature map or a convolution's weight, and keeps them for the host.
pub fn gramian(graph: &mut Graph, of: ValueId, tasks: usize, terms: &[(usize, TermForm, ValueId)]) -> ValueId {
    let out = graph.arena(format!("{}.gramian", graph.value(of).name), &[tasks, tasks], DType::F32);
    let inputs: Vec<ValueId> = terms.iter().map(|term| term.2).collect();
    let shape = graph.shape(of);
    let pixels = shape[1] * shape[2];
    let terms = terms.iter().map(|term| (term.0, term.1)).collect();
    graph.push(Op::Gramian(Gramian { tasks, pixels, terms }), &inputs, &[out]);
    graph.outputs.push(out);
    out
}

impl Operation for Gramian {
    fn name(&self) -> String {
        "gramian".into()
    }

    /// Every input is read once, whatever the number of products.
    fn cost(&self, graph: &Graph, node: &Node) -> Cost {
        Cost::elementwise(graph, node)
    }

    fn check(&self, graph: &Graph, inputs: &[ValueId]) -> Result<()> {
        let expected = "for each term a gradient of one map or weight, dense [N, H, W, C] or pooled [N, C]";
        check_inputs(graph, "gramian", inputs, &[self.terms.len()], expected, |shapes| {
            let ends = |s: &[usize]| [s[0], s[s.len() - 1]];
            let fits = |s: &[usize], form: TermForm| match form {
                TermForm::Dense => s.len() == 4 && s[1] * s[2] == self.pixels,
                TermForm::Pooled => s.len() == 2,
            };
            let of_a_task = self.terms.iter().all(|&(task, _)| task < self.tasks);
            let alike = |(s, term): (&&[usize], &(usize, TermForm))| fits(s, term.1) && ends(s) == ends(shapes[0]);
            of_a_task && shapes.iter().zip(&self.terms).all(alike)
        })
    }

    fn backward(&self, _graph: &mut Graph, _node: &Node, _gradients: &mut Gradients) {
        no_gradient(NoGradient::BackwardNode);
    }

    /// The sizes of the inputs, because the output's size is only `[K, K]`.
    fn sizes(&self, graph: &Graph, node: &Node) -> String {
        let dense = |&&value: &&ValueId| graph.shape(value).len() == 4;
        let largest = node.inputs.iter().find(dense).or(node.inputs.first());
        let of = largest.map_or(String::new(), |&value| super::cost::joined(graph.shape(value)));
        format!("{} of {of}", self.terms.len())
    }

    fn longest_sum(&self, graph: &Graph, node: &Node) -> usize {
        longest_input(graph, node)
    }

    fn compares_tasks(&self) -> bool {
        true
    }
}
