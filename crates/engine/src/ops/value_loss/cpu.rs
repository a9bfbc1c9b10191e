//! The loss of a regression head and its gradient in one pass on the CPU. There are only N·R numbers, so it uses one thread and
//! f64.

use crate::ir::{self, ValueLossForm};
use crate::ops::cpu::{CpuNode, CpuOp, NO_SCRATCH, Operands};

/// Values and target `[N, R]`, standardised (NaN target: unlabelled) → loss `[1]`, dvalues `[N, R]`: Huber with δ = 1 or the
/// squared error, summed over the labelled entries, ÷ `denominator`. If the denominator is 0, all results are 0.
pub fn value_loss(
    form: ValueLossForm,
    [values, target]: [&[f32]; 2],
    denominator: f32,
    loss: &mut [f32],
    dvalues: &mut [f32],
) {
    let mut sum = 0.0;
    for ((&value, &target), dvalue) in values.iter().zip(target).zip(dvalues) {
        if denominator == 0.0 || target.is_nan() {
            *dvalue = 0.0;
            continue;
        }
        let apart = f64::from(value) - f64::from(target);
        let (cost, slope) = match form {
            ValueLossForm::Huber if apart.abs() <= 1.0 => (0.5 * apart * apart, apart),
            ValueLossForm::Huber => (apart.abs() - 0.5, apart.clamp(-1.0, 1.0)),
            ValueLossForm::Mse => (apart * apart, 2.0 * apart),
        };
        sum += cost;
        *dvalue = (slope / f64::from(denominator)) as f32;
    }
    loss[0] = if denominator == 0.0 { 0.0 } else { (sum / f64::from(denominator)) as f32 };
}

impl CpuOp for ir::ValueLoss {
    fn cpu_scratch(&self, _node: &CpuNode) -> usize {
        NO_SCRATCH
    }

    fn run(&self, node: &mut Operands) {
        let (denominator, loss, dvalues) = (node.scalars.denominators[self.task], node.output(0), node.output(1));
        value_loss(self.form, [node.input(0), node.input(1)], denominator, loss, dvalues);
    }
}
