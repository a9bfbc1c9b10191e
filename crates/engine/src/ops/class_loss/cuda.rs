//! Launches cross-entropy's kernels (`kernels/class_loss.cu`).

use super::optional_inputs;
use crate::device::cuda::{Address, Arguments, File, Launch, Work, work};
use crate::ir::ClassLoss;
use crate::ops::cuda::{CudaNode, CudaOp};

const THREADS: usize = 256;
const WARP: usize = 32;
/// Rows per block, one per warp.
const ROWS: usize = THREADS / WARP;
/// One double per warp.
const SHARED: usize = 8 * ROWS;

/// Bytes of the workspace of [`class_loss`] for N rows.
pub fn class_loss_workspace(n: usize) -> usize {
    8 * n.div_ceil(ROWS).max(1)
}

/// The weights and shares of a label; the contract in `mod.rs` explains them.
#[derive(Clone, Copy, Default)]
pub struct Shares {
    pub weights: Option<Address>,
    pub smoothing: f32,
    /// The other class i32 `[N]` (−1 for none) and the part of the first `[N]`.
    pub mixed: Option<[Address; 2]>,
}

/// Logits `[N, K]` and class i32 `[N]` (−1 unlabelled), optionally with class weights `[K]`, smoothing and mixed labels → loss
/// `[1]`, dlogits `[N, K]`. `denominator` `[1]` is read on the device; if it is 0, all results are 0.
pub fn class_loss(
    [n, k]: [usize; 2],
    [logits, class, denominator]: [Address; 3],
    Shares { weights, smoothing, mixed }: Shares,
    [loss, dlogits]: [Address; 2],
    workspace: Address,
) -> Vec<Launch> {
    let blocks = n.div_ceil(ROWS).max(1);
    let rows = Arguments::new().pointer(logits).pointer(class).pointer(denominator).pointer(dlogits).pointer(workspace);
    let rows = rows.int(n).int(k);
    let rows = match mixed {
        Some([other, part]) => {
            let rows = rows.optional(weights).float(smoothing).pointer(other).pointer(part);
            launch("class_loss_mixed_rows", blocks, rows)
        }
        None if weights.is_none() && smoothing == 0.0 => launch("class_loss_rows", blocks, rows),
        None => launch("class_loss_shared_rows", blocks, rows.optional(weights).float(smoothing)),
    };
    let finish = Arguments::new().pointer(workspace).pointer(denominator).pointer(loss).int(blocks).int(k);
    vec![rows, launch("class_loss_finish", 1, finish)]
}

fn launch(kernel: &'static str, blocks: usize, arguments: Arguments) -> Launch {
    let grid = [blocks as u32, 1, 1];
    Launch { file: File::CLASS_LOSS, kernel, grid, threads: THREADS as u32, shared_bytes: SHARED as u32, arguments }
}

impl CudaOp for ClassLoss {
    fn cuda_scratch(&self, node: &CudaNode) -> usize {
        class_loss_workspace(node.input_shape(0)[0])
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        let logits = node.input_shape(0);
        let inputs = [node.input(0), node.input(1), node.denominator(self.task)];
        let (weights, mixed) = optional_inputs(node.inputs.len());
        let shares = Shares {
            weights: weights.map(|index| node.input(index)),
            smoothing: self.smoothing,
            mixed: mixed.map(|indices| indices.map(|index| node.input(index))),
        };
        work(class_loss([logits[0], logits[1]], inputs, shares, [node.output(0), node.output(1)], node.scratch))
    }
}

#[cfg(test)]
mod tests {
    use super::super::cpu::{Mixed, Shares as Labels};
    use super::super::tests::{class_weights, data, mixtures, plain_loss, plain_mixed, plain_shared, weight_sum};
    use super::*;
    use crate::ops::testing::{Board, Expected, check_kernels, wide};

    fn run(board: &mut Board, k: usize, logits: &[f32], class: &[i32], denominator: f32) -> Vec<Vec<f32>> {
        shared(board, k, logits, class, Labels::default(), denominator)
    }

    fn shared(
        board: &mut Board,
        k: usize,
        logits: &[f32],
        class: &[i32],
        labels: Labels,
        denominator: f32,
    ) -> Vec<Vec<f32>> {
        let n = class.len();
        let shares = Shares {
            weights: labels.weights.map(|w| board.floats(w)),
            smoothing: labels.smoothing,
            mixed: labels.mixed.map(|m| [board.integers(m.other), board.floats(m.part)]),
        };
        let inputs = [board.floats(logits), board.integers(class), board.floats(&[denominator])];
        let outputs = [board.floats_out(1), board.floats_out(n * k)];
        let workspace = board.poisoned(class_loss_workspace(n));
        board.run(&class_loss([n, k], inputs, shares, outputs, workspace));
        vec![board.read_floats(outputs[0], 1), board.read_floats(outputs[1], n * k)]
    }

    /// (p − 1 at the label) ÷ (ln K · denominator), in f64.
    fn plain_gradient(k: usize, logits: &[f64], class: &[i32], denominator: f64) -> Vec<f64> {
        let row = |(x, &class): (&[f64], &i32)| -> Vec<f64> {
            let maximum = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = x.iter().map(|x| (x - maximum).exp()).sum();
            let scale = if class < 0 { 0.0 } else { 1.0 / (k as f64).ln() / denominator };
            let p = x.iter().enumerate().map(|(i, x)| (i, (x - maximum).exp() / sum));
            p.map(|(i, p)| scale * (p - f64::from(u8::from(i as i32 == class)))).collect()
        };
        logits.chunks_exact(k).zip(class).flat_map(row).collect()
    }

    #[test]
    fn loss_and_gradient_match_f64() {
        for (n, k, spread) in
            [(1, 2, 1.0), (3, 5, 4.0), (7, 17, 8.0), (130, 3, 2.0), (9, 10, 3.0), (5, 1003, 3.0), (5, 33, 200.0)]
        {
            let (logits, class) = data(n, k, spread);
            let denominator = class.iter().filter(|&&c| c >= 0).count() as f32;
            let loss = plain_loss(k, &wide(&logits), &class, f64::from(denominator));
            let dlogits = plain_gradient(k, &wide(&logits), &class, f64::from(denominator));
            // The loss is as accurate as the differences from the maximum; a share is at most 1 ÷ (ln K · denominator).
            let share = 1.0 / (k as f64).ln() / f64::from(denominator);
            let expected = [
                Expected::within("loss", 8, loss + 1.0, vec![loss]),
                Expected::within("dlogits", 8 + 2 * spread as usize, share, dlogits),
            ];
            let case = format!("class loss [{n}, {k}] ±{spread}");
            check_kernels(&case, &expected, |board| run(board, k, &logits, &class, denominator));
        }
    }

    #[test]
    fn labels_that_are_shares_match_f64() {
        for (n, k, spread) in [(3, 2, 1.0), (7, 17, 8.0), (130, 3, 2.0), (5, 1003, 3.0), (5, 33, 200.0)] {
            let (logits, class) = data(n, k, spread);
            let weights = class_weights(k);
            for (weights, smoothing) in [(Some(&weights[..]), 0.0), (None, 0.1), (Some(&weights[..]), 0.25)] {
                let denominator = weight_sum(&class, weights);
                let [loss, dlogits] =
                    plain_shared(k, &wide(&logits), &class, weights, smoothing, f64::from(denominator));
                // The bound without shares, because the shares sum to at most the largest weight.
                let share = 2.25 / (k as f64).ln() / f64::from(denominator);
                let expected = [
                    Expected::within("loss", 8, loss[0] + 1.0, loss),
                    Expected::within("dlogits", 8 + 2 * spread as usize, share, dlogits),
                ];
                let weighted = weights.is_some();
                let case = format!("class loss [{n}, {k}] ±{spread} smoothed by {smoothing}, weighted: {weighted}");
                let shares = Labels { weights, smoothing, mixed: None };
                check_kernels(&case, &expected, |board| shared(board, k, &logits, &class, shares, denominator));
            }
        }
    }

    #[test]
    fn mixed_labels_match_f64() {
        for (n, k, spread) in [(3, 2, 1.0), (7, 17, 8.0), (130, 3, 2.0), (5, 1003, 3.0), (5, 33, 200.0)] {
            let ((logits, class), (other, part)) = (data(n, k, spread), mixtures(n, k));
            let (weights, mixed) = (class_weights(k), Mixed { other: &other, part: &part });
            for (weights, smoothing) in [(None, 0.0), (Some(&weights[..]), 0.0), (Some(&weights[..]), 0.25)] {
                let shares = Labels { weights, smoothing, mixed: Some(mixed) };
                let [loss, dlogits, denominator] = plain_mixed(k, &wide(&logits), &class, shares);
                // The bound without mixing.
                let share = 2.25 / (k as f64).ln() / denominator[0];
                let expected = [
                    Expected::within("loss", 8, loss[0] + 1.0, loss),
                    Expected::within("dlogits", 8 + 2 * spread as usize, share, dlogits),
                ];
                let case = format!("mixed class loss [{n}, {k}] ±{spread} smoothed by {smoothing}");
                let denominator = denominator[0] as f32;
                check_kernels(&case, &expected, |board| shared(board, k, &logits, &class, shares, denominator));
            }
        }
    }

    #[test]
    fn unlabelled_entries_have_no_loss() {
        let zeros = [Expected::exact("loss", vec![0.0]), Expected::exact("dlogits", vec![0.0; 12])];
        for (class, denominator) in [([-1; 4], 0.0), ([-1; 4], 3.0), ([1; 4], 0.0)] {
            let case = format!("class loss of {class:?} ÷ {denominator}");
            check_kernels(&case, &zeros, |board| run(board, 3, &[f32::NAN; 12], &class, denominator));
            let mixed = Mixed { other: &[0; 4], part: &[0.5; 4] };
            let shares = Labels { weights: Some(&[1.0, 2.0, 3.0]), smoothing: 0.1, mixed: None };
            let mixtures = Labels { mixed: Some(mixed), ..shares };
            check_kernels(&case, &zeros, |board| shared(board, 3, &[f32::NAN; 12], &class, mixtures, denominator));
            check_kernels(&case, &zeros, |board| shared(board, 3, &[f32::NAN; 12], &class, shares, denominator));
        }
        let nan = [Expected::exact("loss", vec![f64::NAN])];
        check_kernels("class loss of NaN", &nan, |board| vec![run(board, 2, &[f32::NAN, 0.0], &[1], 1.0).remove(0)]);
    }
}
