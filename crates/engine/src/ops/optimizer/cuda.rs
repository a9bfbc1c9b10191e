//! Launches the update's kernels (`kernels/optimizer.cu`) and builds the table of pieces that they process and the scalars that
//! they read.

use super::cpu::{AdamW, GroupScalars, ParameterRange, Sgd};
use crate::device::cuda::{Address, Arguments, File, Launch};

const THREADS: usize = 256;
const WARP: usize = 32;
/// Elements per block, all of one parameter. It is a multiple of 16, so that every piece starts on a cache line.
const PIECE: usize = 4096;
/// Running statistics per block.
const RUNNING: usize = THREADS * 4;
/// Channels of a copy are padded to a multiple of this.
const VECTOR: usize = 8;

/// The position of a parameter's packed copy, which holds activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedCopy {
    /// The offset in activations from the start of all copies, a multiple of 8.
    pub start: usize,
    /// C, the parameter's last dimension. A row of the copy is padded to a multiple of 8; the elements after C are never written.
    pub channels: usize,
}

/// One parameter, and its packed copy if it is a convolution's weight.
#[derive(Clone, Copy, Debug)]
pub struct Packing {
    /// Starts at a multiple of 16.
    pub range: ParameterRange,
    pub copy: Option<PackedCopy>,
}

/// The elements of one parameter that a block of the update processes, in the layout that the kernels read.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub start: i32,
    pub len: i32,
    pub group: i32,
    /// 1 if weight decay applies, else 0.
    pub decay: i32,
    /// The start of the parameter's copy; −1 if there is none.
    pub packed_start: i32,
    /// The index of the piece's first element in the parameter.
    pub first: i32,
    /// The number of channels of the parameter and of the copy.
    pub c: i32,
    pub c8: i32,
}

/// Splits the parameters into pieces.
pub fn pieces(parameters: &[Packing]) -> Vec<Piece> {
    let piece = |of: &Packing, first: usize| {
        let copy = of.copy.map(|copy| [copy.start, copy.channels, copy.channels.next_multiple_of(VECTOR)].map(int));
        let [packed_start, c, c8] = copy.unwrap_or([-1, 1, 1]);
        Piece {
            start: int(of.range.start + first),
            len: int(PIECE.min(of.range.len - first)),
            group: int(of.range.group),
            decay: i32::from(of.range.decay),
            packed_start,
            first: int(first),
            c,
            c8,
        }
    };
    parameters.iter().flat_map(|of| (0..of.range.len).step_by(PIECE).map(move |first| piece(of, first))).collect()
}

fn int(value: usize) -> i32 {
    i32::try_from(value).unwrap_or_else(|_| unreachable!("a Store has fewer than 2³¹ parameters"))
}

/// The table as bytes for the device.
pub fn piece_bytes(pieces: &[Piece]) -> Vec<u8> {
    let words = |p: &Piece| [p.start, p.len, p.group, p.decay, p.packed_start, p.first, p.c, p.c8];
    pieces.iter().flat_map(words).flat_map(i32::to_ne_bytes).collect()
}

/// The settings of an update apart from its rule.
pub struct Step<'a> {
    pub groups: &'a [GroupScalars],
    /// The largest norm that the gradient may have; `None` for no clipping.
    pub clip_norm: Option<f32>,
    /// The decay of the moving average: the share of the old average that stays.
    pub average_decay: f32,
}

/// The number of floats of the scalars for `groups` groups.
pub const fn scalars_len(groups: usize) -> usize {
    6 + 5 * groups
}

/// The scalars of a step of SGD, in the layout that the kernels read.
pub fn sgd_scalars(rule: &Sgd, step: &Step) -> Vec<f32> {
    scalars([rule.momentum, 0.0, 0.0, rule.weight_decay], step)
}

/// The scalars of a step of AdamW, in the layout that the kernels read.
pub fn adamw_scalars(rule: &AdamW, step: &Step) -> Vec<f32> {
    scalars([rule.beta1, rule.beta2, rule.epsilon, rule.weight_decay], step)
}

/// Clip norm (0 for none), average decay, four numbers of the rule; then for each group: factor, active, rate, bias corrections.
fn scalars(rule: [f32; 4], step: &Step) -> Vec<f32> {
    let group = |group: &GroupScalars| {
        let active = if group.active { 1.0 } else { 0.0 };
        [group.factor, active, group.learning_rate, group.bias_correction1, group.bias_correction2]
    };
    let head = [step.clip_norm.unwrap_or(0.0), step.average_decay];
    head.into_iter().chain(rule).chain(step.groups.iter().flat_map(group)).collect()
}

/// The norm of the gradient, and the clip factor computed from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    pub norm: f64,
    /// The factor of every gradient, in addition to its group's.
    pub clip: f32,
    /// Whether the update was done: it is skipped if the norm is not finite.
    pub finite: bool,
}

impl Outcome {
    /// Its size on the device in bytes.
    pub const BYTES: usize = 16;

    pub fn from_bytes(b: &[u8; Outcome::BYTES]) -> Outcome {
        Outcome {
            norm: f64::from_ne_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]),
            clip: f32::from_ne_bytes([b[8], b[9], b[10], b[11]]),
            finite: i32::from_ne_bytes([b[12], b[13], b[14], b[15]]) != 0,
        }
    }
}

/// The pieces on the device, and their number.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    pub pieces: Address,
    pub len: usize,
}

/// The Store on the device: flat f32 buffers of equal length, each aligned to 16 bytes, and the packed copies.
#[derive(Clone, Copy, Debug)]
pub struct Buffers {
    pub values: Address,
    pub gradients: Address,
    pub first_moment: Address,
    /// Unused by SGD.
    pub second_moment: Address,
    pub average: Address,
    pub packed: Address,
}

/// Bytes of the workspace of [`gradient_norm`].
pub fn gradient_norm_workspace(table: &Table) -> usize {
    8 * table.len.max(1)
}

/// Writes √Σ (factor·gradient)² over the active groups, and the clip factor, to `outcome`.
pub fn gradient_norm(
    table: &Table,
    scalars: Address,
    gradients: Address,
    outcome: Address,
    workspace: Address,
) -> Vec<Launch> {
    let squares = Arguments::new().pointer(table.pieces).pointer(scalars).pointer(gradients).pointer(workspace);
    let finish = Arguments::new().pointer(workspace).pointer(scalars).pointer(outcome).int(table.len);
    let shared_bytes = 8 * THREADS / WARP;
    let squares = (table.len > 0).then(|| launch("gradient_norm", table.len, shared_bytes, squares));
    squares.into_iter().chain([launch("gradient_norm_finish", 1, shared_bytes, finish)]).collect()
}

/// One step of SGD over all pieces, including averages and copies. It does nothing if the outcome is not finite.
pub fn update_sgd(table: &Table, buffers: &Buffers, scalars: Address, outcome: Address) -> Launch {
    launch("update_sgd", table.len, 0, update(table, buffers, scalars, outcome))
}

/// One step of AdamW over all pieces, including averages and copies. It does nothing if the outcome is not finite.
pub fn update_adamw(table: &Table, buffers: &Buffers, scalars: Address, outcome: Address) -> Launch {
    launch("update_adamw", table.len, 0, update(table, buffers, scalars, outcome))
}

fn update(table: &Table, buffers: &Buffers, scalars: Address, outcome: Address) -> Arguments {
    let arguments = Arguments::new().pointer(table.pieces).pointer(scalars).pointer(outcome).pointer(buffers.values);
    let arguments = arguments.pointer(buffers.gradients).pointer(buffers.first_moment).pointer(buffers.second_moment);
    arguments.pointer(buffers.average).pointer(buffers.packed)
}

/// Updates the averages of `len` running statistics. It does nothing if the outcome is not finite.
pub fn ema_running(len: usize, running: Address, average: Address, scalars: Address, outcome: Address) -> Launch {
    let arguments = Arguments::new().pointer(scalars).pointer(outcome).pointer(running).pointer(average).int(len);
    launch("ema_running", len.div_ceil(RUNNING).max(1), 0, arguments)
}

/// Writes the packed copies of `values`, which may be the averages.
pub fn pack(table: &Table, values: Address, packed: Address) -> Launch {
    let arguments = Arguments::new().pointer(table.pieces).pointer(values).pointer(packed);
    launch("pack", table.len, 0, arguments)
}

fn launch(kernel: &'static str, blocks: usize, shared_bytes: usize, arguments: Arguments) -> Launch {
    let (grid, threads, shared_bytes) = ([blocks as u32, 1, 1], THREADS as u32, shared_bytes as u32);
    Launch { file: File::OPTIMIZER, kernel, grid, threads, shared_bytes, arguments }
}

#[cfg(test)]
mod tests;
