//! Launches the detection loss's kernels (`kernels/box_loss.cu`).

use super::{BINS, partial_inputs};
use crate::device::cuda::{Address, Arguments, File, Launch, Work, work};
use crate::ir::{BoxLoss, Level};
use crate::ops::cuda::{CudaNode, CudaOp};

const THREADS: usize = 256;
const WARP: usize = 32;
/// The number of class logits per block.
const BLOCK_LOGITS: usize = THREADS * 16;
const BOX_THREADS: usize = 128;
/// The number of cells per block: four threads work on a cell, and each handles several cells in turn.
const BLOCK_CELLS: usize = 128;
const FINISH_THREADS: usize = 512;
/// The number of box logits in 16 bytes, and of such vectors per block of the kernel that scales them.
const WIDE: usize = 4;
const SCALE_VECTORS: usize = THREADS * 4;
/// The most pyramid levels that a launch supports.
pub const MAX_LEVELS: usize = 8;

/// The inputs of the loss, for N images of A cells and C classes.
pub struct Inputs {
    /// `[N, A, C]`.
    pub class_logits: Address,
    /// `[N, A, 4·BINS]`.
    pub box_logits: Address,
    /// i32 `[N, A]`: ≥ 0 foreground, −1 background, −2 ignored.
    pub class: Address,
    /// `[N, A, 4]` xyxy in pixels.
    pub target: Address,
    /// `[1]`: the number of foreground cells of the whole step.
    pub num_foreground: Address,
    /// `[1]`: the share of the step that these images are; 1/M for one of M micro-batches.
    pub share: Address,
    /// For images annotated for some classes only: i32 `[N, A]`, a bit for each region that the cell lies in, and i32 `[N, C]`,
    /// the bits of the regions in which the class was not annotated.
    pub partial: Option<[Address; 2]>,
}

/// The outputs of the loss: loss `[1]`, gradients of the logits' shapes, parts `[3]`: quality focal, GIoU, distribution focal.
pub struct Outputs {
    pub loss: Address,
    pub dclass: Address,
    pub dbox: Address,
    pub parts: Address,
}

/// The number of blocks over the class logits, and over the cells.
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

/// The loss of N images with C classes over the cells of at most [`MAX_LEVELS`] levels, and its gradients.
pub fn box_loss(
    [n, c]: [usize; 2],
    levels: &[Level],
    inputs: &Inputs,
    outputs: &Outputs,
    workspace: Address,
) -> Vec<Launch> {
    debug_assert!(levels.len() <= MAX_LEVELS);
    let cells = n * anchors(levels);
    let [of_logits, of_cells] = blocks([n, c], levels);
    let vectors = cells * 4 * BINS / WIDE;
    let (scale, logit_sums) = (workspace, workspace.plus(8));
    let cell_sums = logit_sums.plus(8 * of_logits);

    let (regions, left_out) = (inputs.partial.map(|p| p[0]), inputs.partial.map(|p| p[1]));
    let logits = Arguments::new().pointer(inputs.class_logits).pointer(inputs.class).pointer(inputs.num_foreground);
    let logits = logits.pointer(outputs.dclass).pointer(logit_sums).optional(regions).optional(left_out);
    let logits = logits.int(cells * c).int(c).int(anchors(levels));
    let boxes = Arguments::new().pointer(inputs.class_logits).pointer(inputs.box_logits).pointer(inputs.class);
    let boxes = boxes.pointer(inputs.target).pointer(inputs.num_foreground).pointer(outputs.dclass);
    let boxes = boxes.pointer(outputs.dbox).pointer(cell_sums).optional(regions).optional(left_out);
    let boxes = boxes.int(cells).int(c).int(anchors(levels));
    let boxes = (0..MAX_LEVELS).fold(boxes, |boxes, index| {
        let [h, w, stride] = levels.get(index).map_or([0, 0, 1], |level| [level.h, level.w, level.stride]);
        boxes.int(h * w).int(w).int(stride)
    });
    let finish = Arguments::new().pointer(logit_sums).pointer(cell_sums).pointer(inputs.num_foreground);
    let finish = finish
        .pointer(inputs.share)
        .pointer(scale)
        .pointer(outputs.loss)
        .pointer(outputs.parts)
        .int(of_logits)
        .int(of_cells);
    let foreground = Arguments::new().pointer(scale).pointer(inputs.class).pointer(outputs.dbox).int(vectors);
    vec![
        launch("box_loss_logits", of_logits, THREADS, logits),
        launch("box_loss_boxes", of_cells, BOX_THREADS, boxes),
        launch("box_loss_finish", 1, FINISH_THREADS, finish),
        launch("box_loss_scale", vectors.div_ceil(SCALE_VECTORS).max(1), THREADS, foreground),
    ]
}

fn launch(kernel: &'static str, blocks: usize, threads: usize, arguments: Arguments) -> Launch {
    // One double per warp.
    let shared_bytes = (8 * threads / WARP) as u32;
    let grid = [blocks as u32, 1, 1];
    Launch { file: File::BOX_LOSS, kernel, grid, threads: threads as u32, shared_bytes, arguments }
}

impl CudaOp for BoxLoss {
    fn cuda_scratch(&self, node: &CudaNode) -> usize {
        let logits = node.input_shape(0);
        box_loss_workspace([logits[0], logits[2]], &self.levels)
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        let logits = node.input_shape(0);
        let inputs = Inputs {
            class_logits: node.input(0),
            box_logits: node.input(1),
            class: node.input(2),
            target: node.input(3),
            num_foreground: node.denominator(self.task),
            share: node.scalars.share,
            partial: partial_inputs(node.inputs.len()).map(|indices| indices.map(|index| node.input(index))),
        };
        let outputs =
            Outputs { loss: node.output(0), dclass: node.output(1), dbox: node.output(2), parts: node.output(3) };
        work(box_loss([logits[0], logits[2]], &self.levels, &inputs, &outputs, node.scratch))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Data;
    use super::*;
    use crate::device::cpu::Cpu;
    use crate::ops::testing::{Board, Expected, check_kernels, wide};

    const LEVELS: [Level; 2] = [Level { stride: 8, h: 3, w: 3 }, Level { stride: 32, h: 1, w: 1 }];

    /// The data of the CPU's test with regular cells: the kernels compute the last cell's centre from its level.
    fn data(n: usize, c: usize, spread: f32) -> Data {
        on_levels(Data::new(n, c, spread))
    }

    fn on_levels(mut data: Data) -> Data {
        data.centres.truncate(18);
        data.centres.extend([16.0, 16.0]);
        data
    }

    fn run(board: &mut Board, data: &Data) -> Vec<Vec<f32>> {
        let sizes = [data.images(), data.c];
        let (of_class, of_box) = (data.class_logits.len(), data.box_logits.len());
        let inputs = Inputs {
            class_logits: board.floats(&data.class_logits),
            box_logits: board.floats(&data.box_logits),
            class: board.integers(&data.class),
            target: board.floats(&data.target),
            num_foreground: board.floats(&[data.num_foreground]),
            share: board.floats(&[data.share]),
            partial: data.partial.as_ref().map(|values| values.each_ref().map(|values| board.integers(values))),
        };
        let outputs = Outputs {
            loss: board.floats_out(1),
            dclass: board.floats_out(of_class),
            dbox: board.floats_out(of_box),
            parts: board.floats_out(3),
        };
        let workspace = board.poisoned(box_loss_workspace(sizes, &LEVELS));
        board.run(&box_loss(sizes, &LEVELS, &inputs, &outputs, workspace));
        let (loss, parts) = (board.read_floats(outputs.loss, 1), board.read_floats(outputs.parts, 3));
        vec![loss, parts, board.read_floats(outputs.dclass, of_class), board.read_floats(outputs.dbox, of_box)]
    }

    fn largest(v: &[f64]) -> f64 {
        v.iter().fold(0.0, |a: f64, b| a.max(b.abs()))
    }

    #[test]
    fn loss_and_gradients_match_f64() {
        let sizes = [(1, 1, 1.0), (2, 3, 2.0), (3, 20, 5.0), (1, 33, 3.0), (2, 2, 60.0)];
        let made = |(n, c, spread)| [data(n, c, spread), on_levels(Data::partial(n, c, spread))].map(|d| (spread, d));
        for (spread, data) in sizes.into_iter().flat_map(made) {
            let (n, c) = (data.images(), data.c);
            // The only batch of a step, or one of three.
            let share = if n == 3 { 1.0 / 3.0 } else { 1.0 };
            let data = Data { share, ..data };
            let (parts, held) = data.plain(&wide(&data.class_logits), &wide(&data.box_logits), None);
            let [dclass, dbox] = data.plain_gradients(&held);
            let (of_class, of_box) = (largest(&dclass), largest(&dbox));
            // The bound is the CPU's: terms of about twenty operations, and sums of 16 of them.
            let expected = [
                Expected::near("loss", 36, vec![parts.iter().sum()]),
                Expected::near("parts", 36, parts.to_vec()),
                Expected::within("dclass", 24, of_class, dclass),
                Expected::within("dbox", 24, of_box, dbox),
            ];
            let partial = if data.partial.is_some() { ", partly annotated" } else { "" };
            let case = format!("box loss {n} images, {c} classes, ±{spread}{partial}");
            check_kernels(&case, &expected, |board| run(board, &data));
        }
    }

    /// Sizes that would take too long with finite differences, and cells that are ignored.
    #[test]
    fn loss_and_gradients_match_the_cpu() {
        let nothing = Data { class: vec![-2; 20], num_foreground: 0.0, ..data(2, 3, 1.0) };
        let background = Data { class: vec![-1; 20], num_foreground: 0.0, ..data(2, 5, 30.0) };
        let mut noise = data(5, 3, 2.0);
        for cell in 0..noise.class.len() {
            if noise.class[cell] == -2 {
                noise.class_logits[cell * 3..(cell + 1) * 3].fill(f32::NAN);
            }
            if noise.class[cell] < 0 {
                noise.box_logits[cell * 4 * BINS..(cell + 1) * 4 * BINS].fill(f32::NAN);
            }
        }
        let mut unsought = on_levels(Data::partial(5, 7, 2.0));
        for i in 0..unsought.class_logits.len() {
            if unsought.is_left_out(i / 7, i % 7) {
                unsought.class_logits[i] = f32::NAN;
            }
        }
        for (name, data) in [
            ("noise where nobody looked", unsought),
            ("30 partly annotated images of 80 classes", on_levels(Data::partial(30, 80, 6.0))),
            ("nothing", nothing),
            ("background", background),
            ("noise where none looks", noise),
            ("30 images of 80 classes", data(30, 80, 6.0)),
            ("27 images of 3 classes", data(27, 3, 3.0)),
        ] {
            let [loss, parts, dclass, dbox] = &data.run(&Cpu::new(1).unwrap())[..] else { panic!("four outputs") };
            let (of_class, of_box) = (largest(&wide(dclass)), largest(&wide(dbox)));
            // Both sides are off by at most the bounds above.
            let expected = [
                Expected::near("loss", 72, wide(loss)),
                Expected::near("parts", 72, wide(parts)),
                Expected::within("dclass", 48, of_class, wide(dclass)),
                Expected::within("dbox", 48, of_box, wide(dbox)),
            ];
            check_kernels(&format!("box loss of {name}"), &expected, |board| run(board, &data));
        }
    }

    #[test]
    fn nan_reaches_the_loss() {
        let mut data = data(1, 2, 1.0);
        data.class = vec![-1; 10];
        data.class_logits[3] = f32::NAN;
        let nan = [Expected::exact("loss", vec![f64::NAN])];
        check_kernels("box loss of NaN", &nan, |board| vec![run(board, &data).remove(0)]);
    }
}
