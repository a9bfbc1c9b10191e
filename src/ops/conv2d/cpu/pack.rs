//! Weights rearranged into panels of as many channels as a register tile has columns, once per update: output channels
//! for fprop, input channels for dgrad. The last panel is filled with zeros.

use super::winograd::{self, Side};
use crate::device::cpu::gemm::Kernels;
use crate::device::cpu::{Cpu, Isa};
use crate::ops::conv2d::Problem;

/// Length of [`pack_fprop`]'s result: `[K / columns, R, S, C, columns]`.
pub fn packed_fprop_len(isa: Isa, problem: &Problem) -> usize {
    let columns = Kernels::of(isa).columns;
    match Side::of(problem) {
        Some(side) => winograd::packed_len(isa, side, problem.c, problem.k),
        None => problem.k.next_multiple_of(columns) * problem.taps() * problem.c,
    }
}

/// Length of [`pack_dgrad`]'s result: `[C / columns, R, S, K, columns]`.
pub fn packed_dgrad_len(isa: Isa, problem: &Problem) -> usize {
    let columns = Kernels::of(isa).columns;
    match Side::of(problem) {
        Some(side) => winograd::packed_len(isa, side, problem.k, problem.c),
        None => problem.c.next_multiple_of(columns) * problem.taps() * problem.k,
    }
}

/// Weight `[K, R, S, C]` to panels `[K / columns, R, S, C, columns]`.
pub fn pack_fprop(cpu: &Cpu, problem: &Problem, weight: &[f32], packed: &mut [f32]) {
    const STRIP: usize = 16;
    if let Some(side) = Side::of(problem) {
        return winograd::pack_fprop(cpu, side, problem, weight, packed);
    }
    let columns = Kernels::of(cpu.isa()).columns;
    let depth = problem.taps() * problem.c;
    if depth == 0 {
        return;
    }
    let packed = &mut packed[..packed_fprop_len(cpu.isa(), problem)];
    cpu.parallel_chunks(
        packed,
        depth * columns,
        #[inline(always)]
        |index, panel| {
            let first = index * columns;
            let last = problem.k.min(first + columns);
            // Strips of the reduction, so that the lines written stay in L1 until all channels have filled them.
            for start in (0..depth).step_by(STRIP) {
                let strip = start..depth.min(start + STRIP);
                let to = &mut panel[start * columns..strip.end * columns];
                let mut k = first;
                while k + 4 <= last {
                    let from: [&[f32]; 4] = std::array::from_fn(|i| &weight[(k + i) * depth..][strip.clone()]);
                    for (d, row) in to.chunks_exact_mut(columns).enumerate() {
                        row[k - first..][..4].copy_from_slice(&from.map(|from| from[d]));
                    }
                    k += 4;
                }
                for k in k..last {
                    let from = &weight[k * depth..][strip.clone()];
                    for (row, value) in to.chunks_exact_mut(columns).zip(from) {
                        row[k - first] = *value;
                    }
                }
                for row in to.chunks_exact_mut(columns) {
                    row[last - first..].fill(0.0);
                }
            }
        },
    );
}

/// Weight `[K, R, S, C]` to panels `[C / columns, R, S, K, columns]`.
pub fn pack_dgrad(cpu: &Cpu, problem: &Problem, weight: &[f32], packed: &mut [f32]) {
    if let Some(side) = Side::of(problem) {
        return winograd::pack_dgrad(cpu, side, problem, weight, packed);
    }
    let columns = Kernels::of(cpu.isa()).columns;
    let (taps, c) = (problem.taps(), problem.c);
    if taps * problem.k == 0 {
        return;
    }
    let packed = &mut packed[..packed_dgrad_len(cpu.isa(), problem)];
    // One piece is one tap of one panel.
    cpu.parallel_chunks(
        packed,
        problem.k * columns,
        #[inline(always)]
        |index, piece| {
            let (panel, tap) = (index / taps, index % taps);
            let channels = panel * columns..c.min((panel + 1) * columns);
            for (k, row) in piece.chunks_exact_mut(columns).enumerate() {
                let from = &weight[(k * taps + tap) * c..][channels.clone()];
                row[..from.len()].copy_from_slice(from);
                row[from.len()..].fill(0.0);
            }
        },
    );
}
