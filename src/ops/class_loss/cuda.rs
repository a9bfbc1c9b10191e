//! Cross-entropy's kernels (`kernels/class_loss.cu`): how they are started.

use crate::device::cuda::{Address, Arguments, File, Launch};

const THREADS: usize = 256;
const WARP: usize = 32;
/// Rows of a block, one a warp.
const ROWS: usize = THREADS / WARP;
/// A double per warp.
const SHARED: usize = 8 * ROWS;

/// Bytes of the workspace of [`class_loss`] for N rows.
pub fn class_loss_workspace(n: usize) -> usize {
    8 * n.div_ceil(ROWS).max(1)
}

/// Logits `[N, K]` and class i32 `[N]` (−1 unlabelled) → loss `[1]`, dlogits `[N, K]`; `denominator` `[1]` is read on the
/// device, and where it is 0 so are all.
pub fn class_loss(
    [n, k]: [usize; 2],
    [logits, class, denominator]: [Address; 3],
    [loss, dlogits]: [Address; 2],
    workspace: Address,
) -> Vec<Launch> {
    let blocks = n.div_ceil(ROWS).max(1);
    let rows = Arguments::new().pointer(logits).pointer(class).pointer(denominator).pointer(dlogits).pointer(workspace);
    let rows = rows.int(n).int(k);
    let finish = Arguments::new().pointer(workspace).pointer(denominator).pointer(loss).int(blocks).int(k);
    vec![launch("class_loss_rows", blocks, rows), launch("class_loss_finish", 1, finish)]
}

fn launch(kernel: &'static str, blocks: usize, arguments: Arguments) -> Launch {
    let grid = [blocks as u32, 1, 1];
    Launch { file: File::CLASS_LOSS, kernel, grid, threads: THREADS as u32, shared_bytes: SHARED as u32, arguments }
}
