//! Launches binary cross-entropy's kernels (`kernels/multi_label_loss.cu`).

use crate::device::cuda::{Address, Arguments, File, Launch, Work, work};
use crate::ir::MultiLabelLoss;
use crate::ops::cuda::{CudaNode, CudaOp};

const THREADS: usize = 256;
const WARP: usize = 32;
/// Entries per block.
const CHUNK: usize = 2048;
/// One double per warp.
const SHARED: usize = 8 * THREADS / WARP;

/// Bytes of the workspace of [`multi_label_loss`] for `len` entries.
pub fn multi_label_loss_workspace(len: usize) -> usize {
    8 * len.div_ceil(CHUNK).max(1)
}

/// Logits and target `[N, K]`, `len` entries in all (1 present, 0 absent, NaN unlabelled) → loss `[1]`, dlogits `[N, K]`.
/// `denominator` `[1]` is read on the device; if it is 0, all results are 0.
pub fn multi_label_loss(
    len: usize,
    [logits, target, denominator]: [Address; 3],
    [loss, dlogits]: [Address; 2],
    workspace: Address,
) -> Vec<Launch> {
    let blocks = len.div_ceil(CHUNK).max(1);
    let entries = Arguments::new().pointer(logits).pointer(target).pointer(denominator).pointer(dlogits);
    let entries = entries.pointer(workspace).int(len);
    let finish = Arguments::new().pointer(workspace).pointer(denominator).pointer(loss).int(blocks);
    vec![launch("multi_label_loss_entries", blocks, entries), launch("multi_label_loss_finish", 1, finish)]
}

fn launch(kernel: &'static str, blocks: usize, arguments: Arguments) -> Launch {
    let grid = [blocks as u32, 1, 1];
    let (threads, shared_bytes) = (THREADS as u32, SHARED as u32);
    Launch { file: File::MULTI_LABEL_LOSS, kernel, grid, threads, shared_bytes, arguments }
}

impl CudaOp for MultiLabelLoss {
    fn cuda_scratch(&self, node: &CudaNode) -> usize {
        let logits = node.input_shape(0);
        multi_label_loss_workspace(logits[0] * logits[1])
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        let logits = node.input_shape(0);
        let inputs = [node.input(0), node.input(1), node.denominator(self.task)];
        let outputs = [node.output(0), node.output(1)];
        work(multi_label_loss(logits[0] * logits[1], inputs, outputs, node.scratch))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{data, labelled, plain_gradient, plain_loss};
    use super::*;
    use crate::ops::testing::{Board, Expected, check_kernels, wide};

    fn run(board: &mut Board, logits: &[f32], target: &[f32], denominator: f32) -> Vec<Vec<f32>> {
        let inputs = [board.floats(logits), board.floats(target), board.floats(&[denominator])];
        let outputs = [board.floats_out(1), board.floats_out(logits.len())];
        let workspace = board.poisoned(multi_label_loss_workspace(logits.len()));
        board.run(&multi_label_loss(logits.len(), inputs, outputs, workspace));
        vec![board.read_floats(outputs[0], 1), board.read_floats(outputs[1], logits.len())]
    }

    #[test]
    fn loss_and_gradient_match_f64() {
        for (len, spread) in [(1, 1.0), (33, 4.0), (255, 20.0), (2048, 3.0), (2049, 2.0), (5000, 200.0)] {
            let (logits, target) = data(len, spread);
            let denominator = labelled(&target);
            let loss = plain_loss(&wide(&logits), &target, f64::from(denominator));
            let slopes = plain_gradient(&wide(&logits), &target, f64::from(denominator));
            // A few roundings each; e^−|x| is accurate, because |x| is exact.
            let expected = [Expected::near("loss", 8, vec![loss]), Expected::near("dlogits", 8, slopes)];
            let case = format!("multi-label loss {len} ±{spread}");
            check_kernels(&case, &expected, |board| run(board, &logits, &target, denominator));
        }
    }

    #[test]
    fn unlabelled_entries_have_no_loss() {
        let zeros = [Expected::exact("loss", vec![0.0]), Expected::exact("dlogits", vec![0.0; 2])];
        for (target, denominator) in [([f32::NAN; 2], 0.0), ([f32::NAN; 2], 2.0), ([1.0; 2], 0.0)] {
            let case = format!("multi-label loss of {target:?} ÷ {denominator}");
            check_kernels(&case, &zeros, |board| run(board, &[3.0, f32::NAN], &target, denominator));
        }
        let nan = [Expected::exact("loss", vec![f64::NAN]), Expected::exact("dlogits", vec![f64::NAN])];
        check_kernels("multi-label loss of NaN", &nan, |board| run(board, &[f32::NAN], &[0.0], 1.0));
    }
}
