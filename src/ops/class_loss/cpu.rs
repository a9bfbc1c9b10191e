//! Cross-entropy and its gradient in one pass on the CPU.

use crate::device::cpu::{Cpu, SharedMut};
use crate::ops::softmax::cpu::exponentials;

/// Parts the rows are cut into, whatever the number of threads.
const PARTS: usize = 64;

/// Logits `[N, K]`, class `[N]` (−1 unlabelled) → loss `[1]`, dlogits `[N, K]`: cross-entropy ÷ ln K, summed over the
/// labelled ÷ `denominator`; with denominator 0 all are 0.
pub fn class_loss(
    cpu: &Cpu,
    k: usize,
    logits: &[f32],
    class: &[i32],
    denominator: f32,
    loss: &mut [f32],
    dlogits: &mut [f32],
) {
    if denominator == 0.0 {
        loss[0] = 0.0;
        dlogits.fill(0.0);
        return;
    }
    let scale = 1.0 / ((k as f64).ln() * f64::from(denominator));
    let part = class.len().div_ceil(PARTS);
    let mut sums = [0.0; PARTS];
    let dlogits = SharedMut::new(dlogits);
    cpu.parallel_chunks(
        &mut sums,
        1,
        #[inline(always)]
        |index, sum| {
            for row in index * part..((index + 1) * part).min(class.len()) {
                // SAFETY: parts do not overlap, and each row is visited once.
                let dlogits = unsafe { dlogits.range(row * k..(row + 1) * k) };
                sum[0] += row_loss(&logits[row * k..(row + 1) * k], class[row], scale, dlogits);
            }
        },
    );
    loss[0] = (sums.iter().sum::<f64>() * scale) as f32;
}

/// The row's cross-entropy, and its gradient times `scale`.
#[inline(always)]
fn row_loss(logits: &[f32], class: i32, scale: f64, dlogits: &mut [f32]) -> f64 {
    let Ok(class) = usize::try_from(class) else {
        dlogits.fill(0.0);
        return 0.0;
    };
    let (maximum, sum) = exponentials(logits, dlogits);
    let others = sum - f64::from(dlogits[class]);
    let factor = (scale / sum) as f32;
    dlogits.iter_mut().for_each(|d| *d *= factor);
    // p − 1 = −(the others' share), which keeps its digits when p is almost 1.
    dlogits[class] = (-scale * others / sum) as f32;
    sum.ln() + f64::from(maximum) - f64::from(logits[class])
}
