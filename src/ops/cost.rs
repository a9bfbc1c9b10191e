//! What a node is called in a bench and what it costs at least: floating-point operations, and bytes moved when each input is
//! read once and each output written once.

use super::conv2d;
use crate::graph::ir::{ConvEpilogue, DgradEpilogue, Graph, Node, Op};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Multiply-adds counted as two; elementwise work counts as none: its bytes say what it takes.
    pub flops: u64,
    pub bytes: u64,
}

pub fn cost(graph: &Graph, node: &Node) -> Cost {
    let bytes = node.inputs.iter().chain(&node.outputs).map(|&v| graph.value(v).bytes() as u64).sum();
    let len = |index: usize| graph.value(node.inputs[index]).len() as u64;
    let flops = match node.op {
        Op::Conv2d(..) | Op::Conv2dDgrad(..) | Op::Conv2dWgrad(_) => conv2d::problem(graph, node).flops(),
        // x [N, C], weight [K, C]: 2·N·C·K.
        Op::Linear => 2 * len(0) * graph.shape(node.inputs[1])[0] as u64,
        // dy [N, K], x [N, C]: the weight's gradient, and x's where it is wanted.
        Op::LinearBackward { input_gradient } => {
            2 * len(1) * graph.shape(node.inputs[0])[1] as u64 * (1 + u64::from(input_gradient))
        }
        _ => 0,
    };
    Cost { flops, bytes }
}

/// The kind of work, with what is fused into it: `conv2d dgrad 3×3/2 + sum + mask and sums`.
pub fn name(node: &Node) -> String {
    let window = |conv: crate::graph::ir::Conv2d| match conv.stride {
        1 => format!("{0}×{0}", conv.kernel),
        stride => format!("{0}×{0}/{stride}", conv.kernel),
    };
    let also = |on: bool, what: &'static str| if on { what } else { "" };
    match &node.op {
        Op::Conv2d(conv, epilogue) => {
            let fused = match epilogue {
                ConvEpilogue::Plain => String::new(),
                ConvEpilogue::Bias => " + bias".into(),
                ConvEpilogue::Statistics => " + statistics".into(),
                ConvEpilogue::Affine { residual, relu } => {
                    format!(" + norm{}{}", also(*residual, " + residual"), also(*relu, " + ReLU"))
                }
            };
            format!("conv2d fprop {}{fused}", window(*conv))
        }
        Op::Conv2dDgrad(conv, epilogue) => {
            let fused = match epilogue {
                DgradEpilogue::Plain { addend } => also(*addend, " + sum").to_owned(),
                DgradEpilogue::Reduce { addend, .. } => format!("{} + mask and sums", also(*addend, " + sum")),
            };
            format!("conv2d dgrad {}{fused}", window(*conv))
        }
        Op::Conv2dWgrad(conv) => format!("conv2d wgrad {}", window(*conv)),
        Op::BatchNormApply { residual, relu } => {
            format!("batch_norm apply{}{}", also(*residual, " + residual"), also(*relu, " + ReLU"))
        }
        other => {
            // The variant's name, without its attributes.
            let name: String = format!("{other:?}").chars().take_while(|c| c.is_alphanumeric()).collect();
            let snake = |name: String, c: char| match c.is_uppercase() && !name.is_empty() {
                true => name + "_" + &c.to_lowercase().to_string(),
                false => name + &c.to_lowercase().to_string(),
            };
            name.chars().fold(String::new(), snake)
        }
    }
}

/// The sizes that tell one node of a kind from another: of a convolution `N×H×W×C → K`, else of the first output.
pub fn sizes(graph: &Graph, node: &Node) -> String {
    let joined = |shape: &[usize]| shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×");
    match node.op {
        Op::Conv2d(..) | Op::Conv2dDgrad(..) | Op::Conv2dWgrad(_) => {
            let p = conv2d::problem(graph, node);
            format!("{} → {}", joined(&[p.n, p.h, p.w, p.c]), p.k)
        }
        _ => joined(graph.shape(node.outputs[0])),
    }
}
