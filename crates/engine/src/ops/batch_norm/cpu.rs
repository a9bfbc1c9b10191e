//! Batch norm on the CPU over the rows of `[rows, C]`: statistics, merging them, the affine pass and its backward. The
//! convolution's epilogues compute the same partial sums; this is the unfused form, which they are tested against.

mod run;

use super::STATISTICS_ROWS;
use crate::device::cpu::{Cpu, SharedMut};

/// Elements per elementwise task: a few tasks fill a cache, and a map has many.
const TASK_LEN: usize = 1 << 14;
/// Channels merged together, and summed together: four vector registers if there are enough channels.
const LANES: usize = 16;
const WIDE: usize = 4 * LANES;

/// Scale and shift of a norm, `[C]` each.
pub struct Parameters<'a> {
    pub gamma: &'a [f32],
    pub beta: &'a [f32],
    pub epsilon: f32,
}

/// Running statistics `[C]`, moved towards the batch's by `momentum`; the variance is unbiased, as in PyTorch.
pub struct Running<'a> {
    pub mean: &'a mut [f32],
    pub variance: &'a mut [f32],
    pub momentum: f32,
}

/// The inputs of a norm's backward: the gradient, the ReLU's output if there was one, the norm's input and moments.
pub struct Reduce<'a> {
    /// `[rows, C]`.
    pub g: &'a [f32],
    /// `[rows, C]`; the gradient is masked to where it is above zero.
    pub z: Option<&'a [f32]>,
    /// `[rows, C]`.
    pub y: &'a [f32],
    /// `[2, C]`: mean, 1/deviation.
    pub moments: &'a [f32],
}

/// Writes partials `[B, 2, C]`: mean and M2 of every [`STATISTICS_ROWS`] rows of y `[rows, C]`.
pub fn statistics(cpu: &Cpu, c: usize, y: &[f32], partials: &mut [f32]) {
    cpu.parallel_chunks(
        partials,
        2 * c,
        #[inline(always)]
        |block, out| {
            let (mean, m2) = out.split_at_mut(c);
            mean_and_m2(rows_of_block(y, c, block), mean, m2);
        },
    );
}

/// Merges the partials: moments `[2, C]` (mean, 1/deviation), affine `[2, C]` (scale, shift), and the running statistics.
pub fn finish(
    rows: usize,
    partials: &[f32],
    parameters: &Parameters,
    running: Running,
    moments: &mut [f32],
    affine: &mut [f32],
) {
    let c = parameters.gamma.len();
    for first in (0..c).step_by(LANES) {
        let lanes = LANES.min(c - first);
        let (mean, m2) = merge(rows, c, partials, first);
        for (lane, i) in (first..first + lanes).enumerate() {
            let variance = m2[lane] / rows as f64;
            let rstd = 1.0 / (variance + f64::from(parameters.epsilon)).sqrt();
            let scale = f64::from(parameters.gamma[i]) * rstd;
            moments[i] = mean[lane] as f32;
            moments[c + i] = rstd as f32;
            affine[i] = scale as f32;
            affine[c + i] = (f64::from(parameters.beta[i]) - mean[lane] * scale) as f32;
            let unbiased = m2[lane] / (rows.max(2) - 1) as f64;
            running.mean[i] += running.momentum * (mean[lane] as f32 - running.mean[i]);
            running.variance[i] += running.momentum * (unbiased as f32 - running.variance[i]);
        }
    }
}

/// Mean and M2 of [`LANES`] channels from `first` over all blocks, merged in f64 in the order of the blocks.
fn merge(rows: usize, c: usize, partials: &[f32], first: usize) -> ([f64; LANES], [f64; LANES]) {
    let lanes = LANES.min(c - first);
    let count = |block: usize| STATISTICS_ROWS.min(rows - block * STATISTICS_ROWS) as f64;
    let (mut mean, mut m2) = ([0.0; LANES], [0.0; LANES]);
    for (block, partial) in partials.chunks_exact(2 * c).enumerate() {
        for (mean, &p) in mean.iter_mut().zip(&partial[first..first + lanes]) {
            *mean += count(block) * f64::from(p);
        }
    }
    mean.iter_mut().for_each(|mean| *mean /= rows as f64);
    for (block, partial) in partials.chunks_exact(2 * c).enumerate() {
        let (means, m2s) = (&partial[first..first + lanes], &partial[c + first..c + first + lanes]);
        for lane in 0..lanes {
            let apart = f64::from(means[lane]) - mean[lane];
            m2[lane] += f64::from(m2s[lane]) + count(block) * apart * apart;
        }
    }
    (mean, m2)
}

/// Folds the running statistics into affine `[2, C]`, for evaluation.
pub fn fold(parameters: &Parameters, running_mean: &[f32], running_variance: &[f32], affine: &mut [f32]) {
    let (scale, shift) = affine.split_at_mut(parameters.gamma.len());
    for (i, (scale, shift)) in scale.iter_mut().zip(shift).enumerate() {
        let deviation = (f64::from(running_variance[i]) + f64::from(parameters.epsilon)).sqrt();
        let exact = f64::from(parameters.gamma[i]) / deviation;
        *scale = exact as f32;
        *shift = (f64::from(parameters.beta[i]) - f64::from(running_mean[i]) * exact) as f32;
    }
}

/// z `[rows, C]` = act(y·scale + shift + residual). The ReLU passes NaN on, so that a broken step is noticed.
pub fn apply(cpu: &Cpu, c: usize, y: &[f32], affine: &[f32], residual: Option<&[f32]>, relu: bool, z: &mut [f32]) {
    let (scale, shift) = affine.split_at(c);
    let chunk = (TASK_LEN / c).max(1) * c;
    cpu.parallel_chunks(
        z,
        chunk,
        #[inline(always)]
        |task, z| {
            let range = task * chunk..task * chunk + z.len();
            let y = &y[range.clone()];
            match (residual.map(|r| &r[range]), relu) {
                (None, false) => affine_rows(y, scale, shift, z, |v| v),
                (None, true) => affine_rows(y, scale, shift, z, relu_of),
                (Some(r), false) => affine_residual_rows(y, r, scale, shift, z, |v| v),
                (Some(r), true) => affine_residual_rows(y, r, scale, shift, z, relu_of),
            }
        },
    );
}

/// Writes partials `[B, 2, C]`: Σ dz and Σ dz·(y − mean)/deviation of every [`STATISTICS_ROWS`] rows. dz is the masked gradient;
/// it is written too if `dz` is given.
pub fn reduce(cpu: &Cpu, c: usize, inputs: &Reduce, dz: Option<&mut [f32]>, partials: &mut [f32]) {
    let (mean, rstd) = inputs.moments.split_at(c);
    let dz = dz.map(SharedMut::new);
    cpu.parallel_chunks(
        partials,
        2 * c,
        #[inline(always)]
        |block, out| {
            let (sum, dot) = out.split_at_mut(c);
            let (g, y) = (rows_of_block(inputs.g, c, block), rows_of_block(inputs.y, c, block));
            let z = inputs.z.map(|z| rows_of_block(z, c, block));
            let begin = block * STATISTICS_ROWS * c;
            match &dz {
                None => gradient_sums(Rows { g, z, y }, mean, sum, dot),
                Some(dz) => {
                    // SAFETY: blocks do not overlap, and each is visited once.
                    let dz = unsafe { dz.range(begin..begin + g.len()) };
                    gradient_sums_and_mask(Rows { g, z, y }, mean, dz, sum, dot);
                }
            }
            for (dot, rstd) in dot.iter_mut().zip(rstd) {
                *dot *= rstd;
            }
        },
    );
}

/// Writes coefficients `[3, C]` of dy = a·dz + b·y + c, and adds to dgamma and dbeta `[C]`.
pub fn backward_finish(
    rows: usize,
    partials: &[f32],
    moments: &[f32],
    gamma: &[f32],
    coefficients: &mut [f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
) {
    let c = gamma.len();
    for first in (0..c).step_by(LANES) {
        let lanes = LANES.min(c - first);
        let (mut sum, mut dot) = ([0.0; LANES], [0.0; LANES]);
        for partial in partials.chunks_exact(2 * c) {
            let (sums, dots) = (&partial[first..first + lanes], &partial[c + first..c + first + lanes]);
            for lane in 0..lanes {
                sum[lane] += f64::from(sums[lane]);
                dot[lane] += f64::from(dots[lane]);
            }
        }
        for (lane, i) in (first..first + lanes).enumerate() {
            let (mean, rstd) = (f64::from(moments[i]), f64::from(moments[c + i]));
            let a = f64::from(gamma[i]) * rstd;
            let b = -a * rstd * dot[lane] / rows as f64;
            coefficients[i] = a as f32;
            coefficients[c + i] = b as f32;
            coefficients[2 * c + i] = (-a * sum[lane] / rows as f64 - b * mean) as f32;
            dgamma[i] += dot[lane] as f32;
            dbeta[i] += sum[lane] as f32;
        }
    }
}

/// dy `[rows, C]` = a·dz + b·y + c.
pub fn backward_apply(cpu: &Cpu, c: usize, dz: &[f32], y: &[f32], coefficients: &[f32], dy: &mut [f32]) {
    let chunk = (TASK_LEN / c).max(1) * c;
    cpu.parallel_chunks(
        dy,
        chunk,
        #[inline(always)]
        |task, dy| {
            let range = task * chunk..task * chunk + dy.len();
            let rows = dz[range.clone()].chunks_exact(c).zip(y[range].chunks_exact(c));
            for (dy, (dz, y)) in dy.chunks_exact_mut(c).zip(rows) {
                gradient_row(dy, [dz, dz, y], coefficients, |dz, _| dz);
            }
        },
    );
}

/// dy `[rows, C]` = scale·dz for a norm that uses running statistics, with dz = g where z > 0; writes dz too if `dz` is given.
pub fn apply_backward(
    cpu: &Cpu,
    c: usize,
    g: &[f32],
    z: Option<&[f32]>,
    affine: &[f32],
    dz: Option<&mut [f32]>,
    dy: &mut [f32],
) {
    let chunk = (TASK_LEN / c).max(1) * c;
    let dz = dz.map(SharedMut::new);
    cpu.parallel_chunks(
        dy,
        chunk,
        #[inline(always)]
        |task, dy| {
            let range = task * chunk..task * chunk + dy.len();
            let scale = affine[..c].iter().cycle();
            let g = &g[range.clone()];
            let Some(z) = z else {
                dy.iter_mut().zip(g).zip(scale).for_each(|((dy, g), scale)| *dy = scale * g);
                return;
            };
            let masked = g.iter().zip(&z[range.clone()]).map(|(&g, &z)| if z > 0.0 { g } else { 0.0 });
            dy.iter_mut().zip(masked.clone()).zip(scale).for_each(|((dy, dz), scale)| *dy = scale * dz);
            if let Some(all) = &dz {
                // SAFETY: tasks do not overlap, and each is visited once.
                let own = unsafe { all.range(range) };
                own.iter_mut().zip(masked).for_each(|(to, dz)| *to = dz);
            }
        },
    );
}

/// The rows of partial sum `block`; the last block may have fewer.
#[inline(always)]
fn rows_of_block(data: &[f32], c: usize, block: usize) -> &[f32] {
    let begin = block * STATISTICS_ROWS * c;
    &data[begin..(begin + STATISTICS_ROWS * c).min(data.len())]
}

#[inline(always)]
pub(crate) fn relu_of(v: f32) -> f32 {
    if v < 0.0 { 0.0 } else { v }
}

/// Two passes over rows that stay in cache; the second also corrects the mean of the first (Chan et al. 1983, eq. 1.7).
#[inline(always)]
pub(crate) fn mean_and_m2(rows: &[f32], mean: &mut [f32], m2: &mut [f32]) {
    let c = mean.len();
    let mut first = 0;
    while first < c {
        first += match c - first {
            WIDE.. => moments_of_channels::<WIDE>(rows, first, mean, m2),
            LANES.. => moments_of_channels::<LANES>(rows, first, mean, m2),
            _ => moments_of_channels::<1>(rows, first, mean, m2),
        };
    }
}

/// Mean and M2 of `L` channels from `first`, summed in registers; returns `L`.
#[inline(always)]
fn moments_of_channels<const L: usize>(rows: &[f32], first: usize, mean: &mut [f32], m2: &mut [f32]) -> usize {
    let c = mean.len();
    let scale = 1.0 / (rows.len() / c) as f32;
    let mut sum = [0.0f32; L];
    for row in rows.chunks_exact(c) {
        let row = &row[first..first + L];
        for lane in 0..L {
            sum[lane] += row[lane];
        }
    }
    let centre = sum.map(|sum| sum * scale);
    let (mut correction, mut squares) = ([0.0f32; L], [0.0f32; L]);
    for row in rows.chunks_exact(c) {
        let row = &row[first..first + L];
        for lane in 0..L {
            let apart = row[lane] - centre[lane];
            correction[lane] += apart;
            squares[lane] += apart * apart;
        }
    }
    for lane in 0..L {
        let off = correction[lane] * scale;
        mean[first + lane] = centre[lane] + off;
        m2[first + lane] = squares[lane] - correction[lane] * off;
    }
    L
}

#[inline(always)]
pub(crate) fn affine_rows(y: &[f32], scale: &[f32], shift: &[f32], z: &mut [f32], act: impl Fn(f32) -> f32) {
    let c = scale.len();
    for (z, y) in z.chunks_exact_mut(c).zip(y.chunks_exact(c)) {
        for (((z, y), scale), shift) in z.iter_mut().zip(y).zip(scale).zip(shift) {
            *z = act(y * scale + shift);
        }
    }
}

#[inline(always)]
fn affine_residual_rows(
    y: &[f32],
    residual: &[f32],
    scale: &[f32],
    shift: &[f32],
    z: &mut [f32],
    act: impl Fn(f32) -> f32,
) {
    let c = scale.len();
    let rows = y.chunks_exact(c).zip(residual.chunks_exact(c));
    for (z, (y, residual)) in z.chunks_exact_mut(c).zip(rows) {
        for ((((z, y), r), scale), shift) in z.iter_mut().zip(y).zip(residual).zip(scale).zip(shift) {
            *z = act(y * scale + shift + r);
        }
    }
}

#[inline(always)]
fn mask(g: &[f32], z: &[f32], dz: &mut [f32]) {
    for ((dz, g), z) in dz.iter_mut().zip(g).zip(z) {
        *dz = masked(*g, *z);
    }
}

/// The inputs of [`gradient_sums`], `[rows, C]` each. If z is given, the gradient is masked to where z is above zero.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub g: &'a [f32],
    pub z: Option<&'a [f32]>,
    pub y: &'a [f32],
}

/// Σ dz and Σ dz·(y − mean) over the rows, dz being the masked gradient. The maps are streamed, and the sums stay in the L1
/// cache, updated once per [`STEP`] rows. Keeping the sums of some channels in registers would read three maps at a stride.
#[inline(always)]
pub(crate) fn gradient_sums(rows: Rows, mean: &[f32], sum: &mut [f32], dot: &mut [f32]) {
    sum.fill(0.0);
    dot.fill(0.0);
    match rows.z {
        None => sums_of_rows([rows.g, rows.g, rows.y], |g, _| g, mean, sum, dot),
        Some(z) => sums_of_rows([rows.g, z, rows.y], masked, mean, sum, dot),
    }
}

/// Does what [`gradient_sums`] does and also writes dz. A few rows are masked and then summed while they are in the L1 cache, so
/// that every map is read only once.
#[inline(always)]
fn gradient_sums_and_mask(rows: Rows, mean: &[f32], dz: &mut [f32], sum: &mut [f32], dot: &mut [f32]) {
    sum.fill(0.0);
    dot.fill(0.0);
    let step = STEP * mean.len();
    for (i, dz) in dz.chunks_mut(step).enumerate() {
        let range = i * step..i * step + dz.len();
        let g = &rows.g[range.clone()];
        match rows.z {
            None => dz.copy_from_slice(g),
            Some(z) => mask(g, &z[range.clone()], dz),
        }
        sums_of_rows([dz, dz, &rows.y[range]], |dz, _| dz, mean, sum, dot);
    }
}

#[inline(always)]
pub(crate) fn masked(g: f32, z: f32) -> f32 {
    if z > 0.0 { g } else { 0.0 }
}

/// The number of rows added up before their sum is added to the total.
const STEP: usize = 4;

#[inline(always)]
fn sums_of_rows(maps: [&[f32]; 3], dz: impl Fn(f32, f32) -> f32, mean: &[f32], sum: &mut [f32], dot: &mut [f32]) {
    let c = mean.len();
    let rows = maps[0].len() / c;
    let mut row = 0;
    while row < rows {
        row += if rows - row >= STEP {
            add_sums::<STEP>(maps, row, &dz, mean, sum, dot)
        } else {
            add_sums::<1>(maps, row, &dz, mean, sum, dot)
        };
    }
}

/// Adds `R` rows starting at `row`; returns `R`.
#[inline(always)]
fn add_sums<const R: usize>(
    maps: [&[f32]; 3],
    row: usize,
    dz: &impl Fn(f32, f32) -> f32,
    mean: &[f32],
    sum: &mut [f32],
    dot: &mut [f32],
) -> usize {
    let c = mean.len();
    let (sum, dot) = (&mut sum[..c], &mut dot[..c]);
    let [g, z, y]: [[&[f32]; R]; 3] = maps.map(|map| std::array::from_fn(|r| &map[(row + r) * c..][..c]));
    for i in 0..c {
        let (mut dz_sum, mut dz_dot) = (0.0, 0.0);
        for r in 0..R {
            let dz = dz(g[r][i], z[r][i]);
            dz_sum += dz;
            dz_dot += dz * (y[r][i] - mean[i]);
        }
        sum[i] += dz_sum;
        dot[i] += dz_dot;
    }
    R
}

/// One row of dy = a·dz + b·y + c, with dz = g, or g where z is above zero.
#[inline(always)]
pub(crate) fn gradient_row(dy: &mut [f32], [g, z, y]: [&[f32]; 3], coefficients: &[f32], dz: impl Fn(f32, f32) -> f32) {
    let width = y.len();
    let (a, rest) = coefficients.split_at(width);
    let (b, c) = rest.split_at(width);
    for ((((((dy, g), z), y), a), b), c) in dy.iter_mut().zip(g).zip(z).zip(y).zip(a).zip(b).zip(c) {
        *dy = a * dz(*g, *z) + b * y + c;
    }
}
