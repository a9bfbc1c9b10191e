//! Binary cross-entropy and its gradient in one pass on the CPU. There are only N·K numbers, so it uses one thread and f64.

use crate::ir::MultiLabelLoss;
use crate::ops::cpu::{CpuNode, CpuOp, NO_SCRATCH, Operands};
use std::f64::consts::LN_2;

/// Logits and target `[N, K]` (1 present, 0 absent, NaN unlabelled) → loss `[1]`, dlogits `[N, K]`: binary cross-entropy ÷ ln 2,
/// summed over the labelled entries, ÷ `denominator`. If the denominator is 0, all results are 0.
pub fn multi_label_loss(logits: &[f32], target: &[f32], denominator: f32, loss: &mut [f32], dlogits: &mut [f32]) {
    let scale = 1.0 / (LN_2 * f64::from(denominator));
    let mut sum = 0.0;
    for ((&logit, &target), dlogit) in logits.iter().zip(target).zip(dlogits) {
        if denominator == 0.0 || target.is_nan() {
            *dlogit = 0.0;
            continue;
        }
        // The distance by which the logit is on the wrong side: the loss is ln(1 + e^wrong), its derivative sigmoid(wrong).
        let sign = if target > 0.5 { -1.0 } else { 1.0 };
        let wrong = sign * f64::from(logit);
        let power = (-wrong.abs()).exp();
        sum += wrong.max(0.0) + power.ln_1p();
        let slope = if wrong > 0.0 { 1.0 } else { power } / (1.0 + power);
        *dlogit = (sign * slope * scale) as f32;
    }
    loss[0] = if denominator == 0.0 { 0.0 } else { (sum * scale) as f32 };
}

impl CpuOp for MultiLabelLoss {
    fn cpu_scratch(&self, _node: &CpuNode) -> usize {
        NO_SCRATCH
    }

    fn run(&self, node: &mut Operands) {
        let (denominator, loss, dlogits) = (node.scalars.denominators[self.task], node.output(0), node.output(1));
        multi_label_loss(node.input(0), node.input(1), denominator, loss, dlogits);
    }
}
