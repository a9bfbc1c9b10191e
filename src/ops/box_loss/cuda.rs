//! The detection loss's kernels (`kernels/box_loss.cu`): how they are started.

use super::BINS;
use crate::device::cuda::{Address, Arguments, File, Launch};
use crate::graph::ir::Level;

const THREADS: usize = 256;
const WARP: usize = 32;
/// Class logits of a block.
const BLOCK_LOGITS: usize = THREADS * 16;
const BOX_THREADS: usize = 128;
/// Cells of a block, four threads each, several after each other.
const BLOCK_CELLS: usize = 128;
const FINISH_THREADS: usize = 512;
/// Box logits in 16 bytes, and such vectors of a block that scales them.
const WIDE: usize = 4;
const SCALE_VECTORS: usize = THREADS * 4;
/// Levels a launch has room for.
pub const MOST_LEVELS: usize = 8;

/// What the loss reads, for N images of A cells and C classes.
pub struct Inputs {
    /// `[N, A, C]`.
    pub class_logits: Address,
    /// `[N, A, 4·BINS]`.
    pub box_logits: Address,
    /// i32 `[N, A]`: ≥ 0 foreground, −1 background, −2 ignored.
    pub class: Address,
    /// `[N, A, 4]` xyxy in pixels.
    pub target: Address,
    /// `[1]`: foreground cells of the whole step.
    pub num_foreground: Address,
}

/// What the loss writes: loss `[1]`, gradients like the logits, parts `[3]`: quality focal, GIoU, distribution focal.
pub struct Outputs {
    pub loss: Address,
    pub dclass: Address,
    pub dbox: Address,
    pub parts: Address,
}

/// Blocks over the class logits, and over the cells.
fn blocks([n, c]: [usize; 2], levels: &[Level]) -> [usize; 2] {
    let cells = n * anchors(levels);
    [(cells * c).div_ceil(BLOCK_LOGITS), cells.div_ceil(BLOCK_CELLS)].map(|blocks| blocks.max(1))
}

fn anchors(levels: &[Level]) -> usize {
    levels.iter().map(|level| level.h * level.w).sum()
}

/// Bytes of the workspace of [`box_loss`].
pub fn box_loss_workspace(sizes: [usize; 2], levels: &[Level]) -> usize {
    let [of_logits, of_cells] = blocks(sizes, levels);
    8 * (1 + of_logits + 4 * of_cells)
}

/// The loss of N images of C classes over the cells of at most [`MOST_LEVELS`] levels, and its gradients.
pub fn box_loss(
    [n, c]: [usize; 2],
    levels: &[Level],
    inputs: &Inputs,
    outputs: &Outputs,
    workspace: Address,
) -> Vec<Launch> {
    debug_assert!(levels.len() <= MOST_LEVELS);
    let cells = n * anchors(levels);
    let [of_logits, of_cells] = blocks([n, c], levels);
    let vectors = cells * 4 * BINS / WIDE;
    let (scale, logit_sums) = (workspace, workspace.plus(8));
    let cell_sums = logit_sums.plus(8 * of_logits);

    let logits = Arguments::new().pointer(inputs.class_logits).pointer(inputs.class).pointer(inputs.num_foreground);
    let logits = logits.pointer(outputs.dclass).pointer(logit_sums).long((cells * c) as u64).int(c);
    let boxes = Arguments::new().pointer(inputs.class_logits).pointer(inputs.box_logits).pointer(inputs.class);
    let boxes = boxes.pointer(inputs.target).pointer(inputs.num_foreground).pointer(outputs.dclass);
    let boxes = boxes.pointer(outputs.dbox).pointer(cell_sums).int(cells).int(c).int(anchors(levels));
    let boxes = (0..MOST_LEVELS).fold(boxes, |boxes, index| {
        let [h, w, stride] = levels.get(index).map_or([0, 0, 1], |level| [level.h, level.w, level.stride]);
        boxes.int(h * w).int(w).int(stride)
    });
    let finish = Arguments::new().pointer(logit_sums).pointer(cell_sums).pointer(inputs.num_foreground).pointer(scale);
    let finish = finish.pointer(outputs.loss).pointer(outputs.parts).int(of_logits).int(of_cells);
    let foreground = Arguments::new().pointer(scale).pointer(inputs.class).pointer(outputs.dbox).int(vectors);
    vec![
        launch("box_loss_logits", of_logits, THREADS, logits),
        launch("box_loss_boxes", of_cells, BOX_THREADS, boxes),
        launch("box_loss_finish", 1, FINISH_THREADS, finish),
        launch("box_loss_scale", vectors.div_ceil(SCALE_VECTORS).max(1), THREADS, foreground),
    ]
}

fn launch(kernel: &'static str, blocks: usize, threads: usize, arguments: Arguments) -> Launch {
    // A double per warp.
    let shared_bytes = (8 * threads / WARP) as u32;
    let grid = [blocks as u32, 1, 1];
    Launch { file: File::BOX_LOSS, kernel, grid, threads: threads as u32, shared_bytes, arguments }
}
