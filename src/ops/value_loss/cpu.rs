//! The loss of values and its gradient in one pass on the CPU. N·R numbers: one thread, f64.

use crate::graph::ir::ValueLoss;

/// Values and target `[N, R]`, standardised (NaN target: unlabelled) → loss `[1]`, dvalues `[N, R]`: Huber with δ = 1 or the
/// square, summed over the labelled entries ÷ `denominator`; with denominator 0 all are 0.
pub fn value_loss(
    form: ValueLoss,
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
            ValueLoss::Huber if apart.abs() <= 1.0 => (0.5 * apart * apart, apart),
            ValueLoss::Huber => (apart.abs() - 0.5, apart.clamp(-1.0, 1.0)),
            ValueLoss::Mse => (apart * apart, 2.0 * apart),
        };
        sum += cost;
        *dvalue = (slope / f64::from(denominator)) as f32;
    }
    loss[0] = if denominator == 0.0 { 0.0 } else { (sum / f64::from(denominator)) as f32 };
}
