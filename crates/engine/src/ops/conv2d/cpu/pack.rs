//! Packs weights into panels of as many channels as a register tile has columns: output channels for fprop, input channels for
//! dgrad. The last panel is padded with zeros. Weights for minimal filtering have the layout of `winograd::pack`.

use super::geometry::Geometry;
use super::winograd;
use crate::device::cpu::gemm::Kernels;
use crate::device::cpu::{Cpu, Isa};
use crate::ops::conv2d::Problem;

/// Length of [`pack_fprop`]'s result: `[K / columns, R, S, C, columns]`.
pub fn packed_fprop_len(isa: Isa, problem: &Problem) -> usize {
    packed_len(isa, &Geometry::fprop(problem))
}

/// Length of [`pack_dgrad`]'s result: `[C / columns, R, S, K, columns]`.
pub fn packed_dgrad_len(isa: Isa, problem: &Problem) -> usize {
    packed_len(isa, &Geometry::dgrad(problem))
}

/// Packs weight `[K, R, S, C]` into panels `[K / columns, R, S, C, columns]`.
pub fn pack_fprop(cpu: &Cpu, problem: &Problem, weight: &[f32], packed: &mut [f32]) {
    pack(cpu, &Geometry::fprop(problem), weight, packed);
}

/// Packs weight `[K, R, S, C]` into panels `[C / columns, R, S, K, columns]`.
pub fn pack_dgrad(cpu: &Cpu, problem: &Problem, weight: &[f32], packed: &mut [f32]) {
    pack(cpu, &Geometry::dgrad(problem), weight, packed);
}

pub(super) fn packed_len(isa: Isa, geometry: &Geometry) -> usize {
    let columns = geometry.columns.next_multiple_of(Kernels::of(isa).columns);
    match geometry.filtered {
        Some(side) => winograd::packed_len(side, geometry.channels, columns),
        None => columns * geometry.r * geometry.s * geometry.channels,
    }
}

pub(super) fn pack(cpu: &Cpu, geometry: &Geometry, weight: &[f32], packed: &mut [f32]) {
    let packed = &mut packed[..packed_len(cpu.isa(), geometry)];
    let panels = 0..geometry.columns.div_ceil(Kernels::of(cpu.isa()).columns);
    match (geometry.filtered, geometry.transposed()) {
        (Some(side), _) => winograd::pack(cpu, side, geometry, weight, panels, packed),
        (None, false) => pack_forward(cpu, geometry, weight, packed),
        (None, true) => pack_transposed(cpu, geometry, weight, packed),
    }
}

fn pack_forward(cpu: &Cpu, geometry: &Geometry, weight: &[f32], packed: &mut [f32]) {
    const STRIP: usize = 16;
    let columns = Kernels::of(cpu.isa()).columns;
    let depth = geometry.r * geometry.s * geometry.channels;
    if depth == 0 {
        return;
    }
    cpu.parallel_chunks(
        packed,
        depth * columns,
        #[inline(always)]
        |index, panel| {
            let first = index * columns;
            let last = geometry.columns.min(first + columns);
            // The reduction is processed in strips, so that the lines being written stay in L1 until all channels have filled
            // them.
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

fn pack_transposed(cpu: &Cpu, geometry: &Geometry, weight: &[f32], packed: &mut [f32]) {
    let columns = Kernels::of(cpu.isa()).columns;
    let (taps, k, c) = (geometry.r * geometry.s, geometry.channels, geometry.columns);
    if taps * k == 0 {
        return;
    }
    // One chunk is one tap of one panel.
    cpu.parallel_chunks(
        packed,
        k * columns,
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
