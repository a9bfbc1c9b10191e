//! The update on the CPU over the Store's flat buffers: gradient norm, SGD, AdamW, EMA. The buffers are split into tasks of
//! fixed length, each of which updates its part of the parameter ranges.

use crate::device::cpu::{Cpu, SharedMut};
use std::ops::Range;

/// Elements per task.
const TASK_LEN: usize = 1 << 14;
/// The number of parts in which the norm is summed, whatever the number of threads.
const PARTS: usize = 64;
/// The number of partial sums in the norm's inner loop, and of squares added in f32 before f64 takes over.
const LANES: usize = 16;
const RUN: usize = 64 * LANES;

/// One parameter in the flat buffers. Ranges are sorted and do not overlap; elements between them are not changed.
#[derive(Clone, Copy, Debug)]
pub struct ParameterRange {
    pub start: usize,
    pub len: usize,
    /// Index into the step's [`GroupScalars`].
    pub group: usize,
    /// Whether weight decay applies.
    pub decay: bool,
}

/// The numbers that one group of parameters is updated with at each step.
#[derive(Clone, Copy, Debug)]
pub struct GroupScalars {
    /// Multiplies the gradient: the task's weight for a head, 1 for the trunk.
    pub factor: f32,
    /// A group that is not active is skipped completely: parameters, moments, decay.
    pub active: bool,
    /// The learning rate of this step, after schedule and warm-up.
    pub learning_rate: f32,
    /// 1 − β₁ᵗ, where t is the number of steps in which this group was active, including this one.
    pub bias_correction1: f32,
    /// 1 − β₂ᵗ with the same t.
    pub bias_correction2: f32,
}

/// The ranges and the scalars of their groups. Every gradient is multiplied by `clip` and by its group's factor.
#[derive(Clone, Copy)]
pub struct Update<'a> {
    pub ranges: &'a [ParameterRange],
    pub groups: &'a [GroupScalars],
    pub clip: f32,
}

/// The parameters' moving average, updated in the same pass: `values += (1 − decay)·(parameter − values)`, also for frozen ones.
pub struct Average<'a> {
    pub decay: f32,
    pub values: &'a mut [f32],
}

impl GroupScalars {
    /// The scalars of the frozen group.
    pub const FROZEN: GroupScalars =
        GroupScalars { factor: 0.0, active: false, learning_rate: 0.0, bias_correction1: 1.0, bias_correction2: 1.0 };
}

/// Stochastic gradient descent with momentum, `v ← μ·v + g`, `w ← w − lr·v`; the decay is added to the gradient.
///
/// Source: PyTorch's `torch.optim.SGD`.
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    /// μ.
    pub momentum: f32,
    /// The coefficient of the parameter that is added to the gradient, for parameters with weight decay.
    pub weight_decay: f32,
}

/// Adam with decoupled weight decay.
///
/// Source: Loshchilov & Hutter 2019, algorithm 2.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// The decay rate of the first moment.
    pub beta1: f32,
    /// The decay rate of the second moment.
    pub beta2: f32,
    /// Added to the square root of the corrected second moment.
    pub epsilon: f32,
    /// Multiplied by the learning rate: the fraction by which a parameter with weight decay shrinks in a step.
    pub weight_decay: f32,
}

/// √Σ (factor·gradient)² over the active groups.
pub fn gradient_norm(cpu: &Cpu, ranges: &[ParameterRange], groups: &[GroupScalars], gradients: &[f32]) -> f64 {
    let part = gradients.len().div_ceil(PARTS);
    let mut sums = [0.0; PARTS];
    cpu.parallel_chunks(
        &mut sums,
        1,
        #[inline(always)]
        |index, sum| {
            let bounds = (index * part).min(gradients.len())..((index + 1) * part).min(gradients.len());
            for (range, of) in overlapping(ranges, bounds) {
                let group = &groups[of.group];
                if group.active {
                    sum[0] += f64::from(group.factor).powi(2) * squares(&gradients[range]);
                }
            }
        },
    );
    sums.iter().sum::<f64>().sqrt()
}

/// Σ g².
#[inline(always)]
fn squares(gradients: &[f32]) -> f64 {
    let mut total = 0.0;
    for run in gradients.chunks(RUN) {
        let mut sums = [0.0f32; LANES];
        let (lanes, rest) = run.as_chunks::<LANES>();
        total += rest.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>();
        for g in lanes {
            for lane in 0..LANES {
                sums[lane] += g[lane] * g[lane];
            }
        }
        total += sums.iter().map(|&sum| f64::from(sum)).sum::<f64>();
    }
    total
}

/// PyTorch's SGD: g += decay·p, b = momentum·b + g, p −= rate·b. All gradients are 0 afterwards. The average, if there is one, is
/// updated while a task's parameters are in cache.
pub fn sgd(
    cpu: &Cpu,
    update: &Update,
    sgd: &Sgd,
    parameters: &mut [f32],
    gradients: &mut [f32],
    momentum_buffer: &mut [f32],
    average: Option<Average>,
) {
    let average = average.map(|average| (average.decay, SharedMut::new(average.values)));
    let (parameters, buffer) = (SharedMut::new(parameters), SharedMut::new(momentum_buffer));
    cpu.parallel_chunks(
        gradients,
        TASK_LEN,
        #[inline(always)]
        |task, gradients| {
            let begin = task * TASK_LEN;
            for (range, of) in overlapping(update.ranges, begin..begin + gradients.len()) {
                let group = &update.groups[of.group];
                if group.active {
                    let g = &gradients[range.start - begin..range.end - begin];
                    // SAFETY: tasks and ranges do not overlap, and each is visited once.
                    let (p, b) = unsafe { (parameters.range(range.clone()), buffer.range(range)) };
                    let decay = if of.decay { sgd.weight_decay } else { 0.0 };
                    let scale = group.factor * update.clip;
                    sgd_range(p, g, b, [scale, decay, sgd.momentum, group.learning_rate]);
                }
            }
            gradients.fill(0.0);
            if let Some((decay, average)) = &average {
                let all = begin..begin + gradients.len();
                // SAFETY: tasks do not overlap, and the ranges of this one are no longer in use.
                let (average, parameters) = unsafe { (average.range(all.clone()), parameters.range(all)) };
                move_average(*decay, parameters, average);
            }
        },
    );
}

#[inline(always)]
fn sgd_range(p: &mut [f32], g: &[f32], b: &mut [f32], [scale, decay, momentum, rate]: [f32; 4]) {
    for ((p, g), b) in p.iter_mut().zip(g).zip(b) {
        let g = scale * g + decay * *p;
        *b = momentum * *b + g;
        *p -= rate * *b;
    }
}

/// PyTorch's AdamW: p *= 1 − rate·decay, then p −= rate/c₁·m/(√(v/c₂) + ε), where c₁ and c₂ are the bias corrections. All
/// gradients are 0 afterwards. `moments` are m and v. The average, if there is one, is updated while a task's parameters are in
/// cache.
pub fn adamw(
    cpu: &Cpu,
    update: &Update,
    adamw: &AdamW,
    parameters: &mut [f32],
    gradients: &mut [f32],
    moments: [&mut [f32]; 2],
    average: Option<Average>,
) {
    let average = average.map(|average| (average.decay, SharedMut::new(average.values)));
    let parameters = SharedMut::new(parameters);
    let [first, second] = moments.map(SharedMut::new);
    cpu.parallel_chunks(
        gradients,
        TASK_LEN,
        #[inline(always)]
        |task, gradients| {
            let begin = task * TASK_LEN;
            for (range, of) in overlapping(update.ranges, begin..begin + gradients.len()) {
                let group = &update.groups[of.group];
                if group.active {
                    let g = &gradients[range.start - begin..range.end - begin];
                    // SAFETY: tasks and ranges do not overlap, and each is visited once.
                    let (p, m, v) =
                        unsafe { (parameters.range(range.clone()), first.range(range.clone()), second.range(range)) };
                    let decay = if of.decay { adamw.weight_decay } else { 0.0 };
                    adamw_range(p, g, m, v, adamw, group, [group.factor * update.clip, decay]);
                }
            }
            gradients.fill(0.0);
            if let Some((decay, average)) = &average {
                let all = begin..begin + gradients.len();
                // SAFETY: tasks do not overlap, and the ranges of this one are no longer in use.
                let (average, parameters) = unsafe { (average.range(all.clone()), parameters.range(all)) };
                move_average(*decay, parameters, average);
            }
        },
    );
}

#[inline(always)]
fn adamw_range(
    p: &mut [f32],
    g: &[f32],
    m: &mut [f32],
    v: &mut [f32],
    adamw: &AdamW,
    group: &GroupScalars,
    [scale, decay]: [f32; 2],
) {
    let kept = 1.0 - group.learning_rate * decay;
    let rate = group.learning_rate / group.bias_correction1;
    let root = 1.0 / group.bias_correction2.sqrt();
    let (beta1, beta2, epsilon) = (adamw.beta1, adamw.beta2, adamw.epsilon);
    for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
        let g = scale * g;
        *m += (1.0 - beta1) * (g - *m);
        *v = beta2 * *v + (1.0 - beta2) * (g * g);
        *p = kept * *p - rate * *m / (v.sqrt() * root + epsilon);
    }
}

/// ema += (1 − decay)·(value − ema), over running statistics.
pub fn ema(cpu: &Cpu, decay: f32, values: &[f32], ema: &mut [f32]) {
    cpu.parallel_chunks(
        ema,
        TASK_LEN,
        #[inline(always)]
        |task, ema| {
            move_average(decay, &values[task * TASK_LEN..], ema);
        },
    );
}

#[inline(always)]
fn move_average(decay: f32, values: &[f32], ema: &mut [f32]) {
    for (ema, value) in ema.iter_mut().zip(values) {
        *ema += (1.0 - decay) * (value - *ema);
    }
}

/// The parts of `ranges` that lie within `bounds`, in order.
#[inline(always)]
fn overlapping(
    ranges: &[ParameterRange],
    bounds: Range<usize>,
) -> impl Iterator<Item = (Range<usize>, &ParameterRange)> {
    let first = ranges.partition_point(|range| range.start + range.len <= bounds.start);
    ranges[first..]
        .iter()
        .take_while(move |range| range.start < bounds.end)
        .map(move |range| (range.start.max(bounds.start)..(range.start + range.len).min(bounds.end), range))
}
