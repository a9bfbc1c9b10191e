//! The update's kernels (`kernels/optimizer.cu`): the table of pieces they walk, the scalars they read, how each is
//! started.

use super::cpu::{AdamW, GroupScalars, ParameterRange, Sgd};
use crate::device::cuda::{Address, Arguments, File, Launch};

const THREADS: usize = 256;
const WARP: usize = 32;
/// Elements a block takes, all of one parameter; a multiple of 16, so that every piece starts on a cache line.
const PIECE: usize = 4096;
/// Running statistics a block takes.
const RUNNING: usize = THREADS * 4;
/// Channels of a copy are padded to a multiple of it.
const VECTOR: usize = 8;

/// Where the activations' copy of a parameter lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedCopy {
    /// In activations from the start of all copies, a multiple of 8.
    pub start: usize,
    /// C, the parameter's last size; a row of the copy is as long as the next multiple of 8, and what is beyond C is never
    /// written.
    pub channels: usize,
}

/// One parameter, and its copy where a convolution reads one.
#[derive(Clone, Copy, Debug)]
pub struct Packing {
    /// Starts at a multiple of 16.
    pub range: ParameterRange,
    pub copy: Option<PackedCopy>,
}

/// The elements of one parameter that a block of the update takes, laid out as the kernels read it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub start: i32,
    pub len: i32,
    pub group: i32,
    /// 1 where weight decay applies.
    pub decay: i32,
    /// Where the parameter's copy starts; −1 where there is none.
    pub packed_start: i32,
    /// The piece's first element, from the parameter's.
    pub first: i32,
    /// Channels, and channels of the copy.
    pub c: i32,
    pub c8: i32,
}

/// Cuts the parameters into pieces.
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

/// The table as it is written to the device.
pub fn piece_bytes(pieces: &[Piece]) -> Vec<u8> {
    let words = |p: &Piece| [p.start, p.len, p.group, p.decay, p.packed_start, p.first, p.c, p.c8];
    pieces.iter().flat_map(words).flat_map(i32::to_ne_bytes).collect()
}

/// The settings of an update besides its rule.
pub struct Step<'a> {
    pub groups: &'a [GroupScalars],
    /// Largest norm the gradient may have, if any.
    pub clip_norm: Option<f32>,
    /// Share of the old average that stays.
    pub average_decay: f32,
}

/// Floats of the scalars for so many groups.
pub const fn scalars_len(groups: usize) -> usize {
    6 + 5 * groups
}

/// The scalars of a step of SGD, as the kernels read them.
pub fn sgd_scalars(rule: &Sgd, step: &Step) -> Vec<f32> {
    scalars([rule.momentum, 0.0, 0.0, rule.weight_decay], step)
}

/// The scalars of a step of AdamW, as the kernels read them.
pub fn adamw_scalars(rule: &AdamW, step: &Step) -> Vec<f32> {
    scalars([rule.beta1, rule.beta2, rule.epsilon, rule.weight_decay], step)
}

/// Clip norm (0: none), average decay, the rule's four; then for each group factor, active, rate, bias corrections.
fn scalars(rule: [f32; 4], step: &Step) -> Vec<f32> {
    let group = |group: &GroupScalars| {
        let active = if group.active { 1.0 } else { 0.0 };
        [group.factor, active, group.learning_rate, group.bias_correction1, group.bias_correction2]
    };
    let head = [step.clip_norm.unwrap_or(0.0), step.average_decay];
    head.into_iter().chain(rule).chain(step.groups.iter().flat_map(group)).collect()
}

/// The norm of the gradient, and the factor that it led to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    pub norm: f64,
    /// The factor of every gradient besides its group's.
    pub clip: f32,
    /// Whether the update was done: a norm that is not finite changes nothing.
    pub finite: bool,
}

impl Outcome {
    /// Bytes on the device.
    pub const BYTES: usize = 16;

    pub fn from_bytes(b: &[u8; Outcome::BYTES]) -> Outcome {
        Outcome {
            norm: f64::from_ne_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]),
            clip: f32::from_ne_bytes([b[8], b[9], b[10], b[11]]),
            finite: i32::from_ne_bytes([b[12], b[13], b[14], b[15]]) != 0,
        }
    }
}

/// The pieces on the device, and how many they are.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    pub pieces: Address,
    pub len: usize,
}

/// The Store on the device: flat f32 buffers of equal length, each aligned to 16 bytes, and the activations' copies.
#[derive(Clone, Copy, Debug)]
pub struct Buffers {
    pub values: Address,
    pub gradients: Address,
    pub first_moment: Address,
    /// Not touched by SGD.
    pub second_moment: Address,
    pub average: Address,
    pub packed: Address,
}

/// Bytes of the workspace of [`gradient_norm`].
pub fn gradient_norm_workspace(table: &Table) -> usize {
    8 * table.len.max(1)
}

/// √Σ (factor·gradient)² over the active groups, and the clip that follows, into `outcome`.
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

/// One step of SGD over all pieces, with averages and copies; nothing where the outcome is not finite.
pub fn update_sgd(table: &Table, buffers: &Buffers, scalars: Address, outcome: Address) -> Launch {
    launch("update_sgd", table.len, 0, update(table, buffers, scalars, outcome))
}

/// One step of AdamW over all pieces, with averages and copies; nothing where the outcome is not finite.
pub fn update_adamw(table: &Table, buffers: &Buffers, scalars: Address, outcome: Address) -> Launch {
    launch("update_adamw", table.len, 0, update(table, buffers, scalars, outcome))
}

fn update(table: &Table, buffers: &Buffers, scalars: Address, outcome: Address) -> Arguments {
    let arguments = Arguments::new().pointer(table.pieces).pointer(scalars).pointer(outcome).pointer(buffers.values);
    let arguments = arguments.pointer(buffers.gradients).pointer(buffers.first_moment).pointer(buffers.second_moment);
    arguments.pointer(buffers.average).pointer(buffers.packed)
}

/// The averages of `len` running statistics move towards them; nothing where the outcome is not finite.
pub fn ema_running(len: usize, running: Address, average: Address, scalars: Address, outcome: Address) -> Launch {
    let arguments = Arguments::new().pointer(scalars).pointer(outcome).pointer(running).pointer(average).int(len);
    launch("ema_running", len.div_ceil(RUNNING).max(1), 0, arguments)
}

/// Writes the activations' copies of `values`, which may be the averages.
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
