//! What a balancing method may ask of the seam while the tasks' gradients lie there side by side.

use crate::error::Result;
use crate::ir::{Graph, Node, Term, ValueId};
use crate::ops::combine::{SeamGradient, add_inner_products};
use crate::ops::operation;

/// The gradients that meet at one shared feature.
pub struct Seam {
    /// `[N, HW, C]`.
    sizes: [usize; 3],
    /// For each its task, its form and where it is.
    gradients: Vec<(Term, ValueId)>,
}

/// Every seam of a graph.
pub fn seams(graph: &Graph) -> Vec<Seam> {
    let seam = |node: &Node| {
        let terms = operation(&node.op).seam_terms();
        let s = graph.shape(node.outputs[0]);
        (!terms.is_empty()).then(|| Seam {
            sizes: [s[0], s[1] * s[2], s[3]],
            gradients: terms.iter().copied().zip(node.inputs.iter().copied()).collect(),
        })
    };
    graph.nodes.iter().filter_map(seam).collect()
}

/// The inner products `[K, K]` of the tasks' gradients, added up over `seams`; `read` gives a value's numbers without padding.
///
/// # Errors
/// Those of `read`.
pub fn gramian(seams: &[Seam], tasks: usize, mut read: impl FnMut(ValueId) -> Result<Vec<f32>>) -> Result<Vec<f64>> {
    let mut gramian = vec![0.0; tasks * tasks];
    for seam in seams {
        let mut gradients = Vec::new();
        for &((task, form), value) in &seam.gradients {
            gradients.push(SeamGradient { task, form, gradient: read(value)? });
        }
        add_inner_products(seam.sizes, &gradients, &mut gramian, tasks);
    }
    Ok(gramian)
}
