//! The bias gradient: each channel's sum over all rows, computed in fixed blocks of rows that are merged in order.

use super::STATISTICS_ROWS;
use crate::device::cpu::Cpu;

/// Length of the workspace of [`bias_gradient`] for dy of `len` elements and `k` channels.
pub fn bias_workspace(len: usize, k: usize) -> usize {
    (len / k.max(1)).div_ceil(STATISTICS_ROWS) * k
}

/// dbias `[K]` += Σ over the rows of dy `[rows, K]`.
pub fn bias_gradient(cpu: &Cpu, dy: &[f32], dbias: &mut [f32], workspace: &mut [f32]) {
    let k = dbias.len();
    let block = STATISTICS_ROWS * k;
    let partials = &mut workspace[..bias_workspace(dy.len(), k)];
    cpu.parallel_chunks(
        partials,
        k,
        #[inline(always)]
        |index, sums| {
            sums.fill(0.0);
            let rows = &dy[index * block..((index + 1) * block).min(dy.len())];
            for row in rows.chunks_exact(k) {
                for (sum, value) in sums.iter_mut().zip(row) {
                    *sum += value;
                }
            }
        },
    );
    for sums in partials.chunks_exact(k) {
        for (total, sum) in dbias.iter_mut().zip(sums) {
            *total += sum;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cpu::Isa;

    #[test]
    fn sums_each_channel_over_all_rows_and_adds() {
        for isa in Isa::available() {
            for (rows, k) in [(1, 1), (300, 5), (1000, 68), (128, 16)] {
                let dy: Vec<f32> = (0..rows * k).map(|i| ((i * 7919) % 101) as f32 / 50.0 - 1.0).collect();
                let run = |threads| {
                    let cpu = Cpu::with_isa(threads, isa).unwrap();
                    let (mut dbias, mut workspace) = (vec![2.0; k], vec![f32::NAN; bias_workspace(dy.len(), k)]);
                    bias_gradient(&cpu, &dy, &mut dbias, &mut workspace);
                    dbias
                };
                let got = run(1);
                assert_eq!(got, run(3));
                for (channel, got) in got.iter().enumerate() {
                    let column = || (0..rows).map(|r| f64::from(dy[r * k + channel]));
                    let magnitude: f64 = 2.0 + column().map(f64::abs).sum::<f64>();
                    // At most `rows` roundings, each of a partial sum no larger than the magnitude.
                    let bound = rows as f64 * 2f64.powi(-24) * magnitude;
                    assert!((f64::from(*got) - 2.0 - column().sum::<f64>()).abs() <= bound);
                }
            }
        }
    }
}
