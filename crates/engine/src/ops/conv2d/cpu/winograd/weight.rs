//! Transforms weights into panels, one matrix per point.

use super::transform::{ToPlanes, Transforms};
use super::{KERNEL, STRIP, Side};
use crate::device::cpu::gemm::{Kernels, MAX_COLUMNS};
use crate::device::cpu::{Cpu, SharedMut};
use crate::ops::conv2d::cpu::geometry::Geometry;
use std::ops::Range;

const TAPS: usize = KERNEL * KERNEL;

/// The length of a transformed weight with this many input channels of the product and, in whole panels, output channels.
pub fn packed_len(side: Side, channels: usize, columns: usize) -> usize {
    side.planes() * channels * columns
}

/// Writes G g Gᵀ of these panels of the weight `[K, 3, 3, C]` as `[planes, panels, reduced channels, columns]`. For dgrad the
/// kernel is rotated by 180°.
pub fn pack(cpu: &Cpu, side: Side, geometry: &Geometry, weight: &[f32], panels: Range<usize>, packed: &mut [f32]) {
    let (channels, columns, transposed) = (geometry.channels, geometry.columns, geometry.transposed());
    let width = Kernels::of(cpu.isa()).columns;
    let (transforms, planes) = (Transforms::of(cpu.isa(), side), side.planes());
    let strips = channels.div_ceil(STRIP);
    let plane = panels.len() * channels * width;
    let packed = SharedMut::new(&mut packed[..packed_len(side, channels, panels.len() * width)]);
    cpu.parallel(
        panels.len() * strips,
        #[inline(always)]
        |task| {
            let (index, first) = (task / strips, task % strips * STRIP);
            let panel = panels.start + index;
            let written = panel * width..columns.min((panel + 1) * width);
            let mut taps = [0.0f32; TAPS * STRIP * MAX_COLUMNS];
            match transposed {
                true => reversed_taps(weight, columns, first..channels.min(first + STRIP), written, width, &mut taps),
                false => forward_taps(weight, channels, first, written, width, &mut taps),
            }
            for row in 0..STRIP.min(channels - first) {
                let from: [*const f32; TAPS] =
                    std::array::from_fn(|tap| taps[(tap * STRIP + row) * width..][..width].as_ptr());
                let start = (index * channels + first + row) * width;
                let to = packed.pointer(start..start + (planes - 1) * plane + width);
                let job = ToPlanes { from: &from, next: &from, to, plane, len: width };
                // SAFETY: the transforms are those of the CPU's instruction set; all pointers hold a panel's width, and
                // these rows of this panel belong to this task.
                unsafe { (transforms.weight)(&job) };
            }
        },
    );
}

/// The taps of a strip of input channels, transposed: `[9, STRIP, width]`.
#[inline(always)]
fn forward_taps(weight: &[f32], c: usize, first: usize, outputs: Range<usize>, width: usize, taps: &mut [f32]) {
    for (column, k) in outputs.enumerate() {
        for tap in 0..TAPS {
            let from = &weight[(k * TAPS + tap) * c..][first..c.min(first + STRIP)];
            let to = taps[tap * STRIP * width..][..STRIP * width].chunks_exact_mut(width);
            for (to, value) in to.zip(from) {
                to[column] = *value;
            }
        }
    }
}

/// The taps of a strip of output channels, in reverse order: `[9, STRIP, width]`.
#[inline(always)]
fn reversed_taps(
    weight: &[f32],
    c: usize,
    outputs: Range<usize>,
    inputs: Range<usize>,
    width: usize,
    taps: &mut [f32],
) {
    for (row, k) in outputs.enumerate() {
        for tap in 0..TAPS {
            let from = &weight[(k * TAPS + TAPS - 1 - tap) * c..][inputs.clone()];
            taps[(tap * STRIP + row) * width..][..from.len()].copy_from_slice(from);
        }
    }
}
