//! Cross-entropy and its gradient in one pass on the CPU.

use super::optional_inputs;
use crate::device::cpu::{Cpu, SharedMut};
use crate::ir::ClassLoss;
use crate::ops::cpu::{CpuNode, CpuOp, NO_SCRATCH, Operands};
use crate::ops::softmax::cpu::exponentials;

/// The number of parts that the rows are split into, whatever the number of threads.
const PARTS: usize = 64;

/// The weights and shares of a label; the contract in `mod.rs` explains them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shares<'a> {
    /// `[K]`; all 1 if absent.
    pub weights: Option<&'a [f32]>,
    pub smoothing: f32,
    pub mixed: Option<Mixed<'a>>,
}

/// For each row, the other class (−1 for none) and the part of the first.
#[derive(Clone, Copy, Debug)]
pub struct Mixed<'a> {
    pub other: &'a [i32],
    pub part: &'a [f32],
}

impl Mixed<'_> {
    /// Both classes of a row, each with its part.
    fn of(&self, row: usize, class: usize) -> [(usize, f64); 2] {
        match usize::try_from(self.other[row]) {
            Ok(other) => [(class, f64::from(self.part[row])), (other, 1.0 - f64::from(self.part[row]))],
            Err(_) => [(class, 1.0), (class, 0.0)],
        }
    }
}

impl Shares<'_> {
    fn weight(&self, class: usize) -> f64 {
        self.weights.map_or(1.0, |w| f64::from(w[class]))
    }
}

/// Logits `[N, K]`, class `[N]` (−1 unlabelled) → loss `[1]`, dlogits `[N, K]`: cross-entropy ÷ ln K, summed over the
/// labelled rows, ÷ `denominator`. If the denominator is 0, all results are 0.
pub fn class_loss(
    cpu: &Cpu,
    k: usize,
    (logits, class): (&[f32], &[i32]),
    shares: Shares,
    denominator: f32,
    loss: &mut [f32],
    dlogits: &mut [f32],
) {
    if denominator == 0.0 {
        loss[0] = 0.0;
        dlogits.fill(0.0);
        return;
    }
    let scale = 1.0 / ((k as f64).ln() * f64::from(denominator));
    let plain = shares.weights.is_none() && shares.smoothing == 0.0;
    let part = class.len().div_ceil(PARTS);
    let mut sums = [0.0; PARTS];
    let dlogits = SharedMut::new(dlogits);
    cpu.parallel_chunks(
        &mut sums,
        1,
        #[inline(always)]
        |index, sum| {
            for row in index * part..((index + 1) * part).min(class.len()) {
                // SAFETY: parts do not overlap, and each row is visited once.
                let dlogits = unsafe { dlogits.range(row * k..(row + 1) * k) };
                let logits = &logits[row * k..(row + 1) * k];
                sum[0] += match (shares.mixed, usize::try_from(class[row])) {
                    (Some(mixed), Ok(class)) => mixed_row_loss(logits, mixed.of(row, class), &shares, scale, dlogits),
                    _ if plain => row_loss(logits, class[row], scale, dlogits),
                    _ => shared_row_loss(logits, class[row], &shares, scale, dlogits),
                };
            }
        },
    );
    loss[0] = (sums.iter().sum::<f64>() * scale) as f32;
}

/// The row's cross-entropy, and its gradient times `scale`.
#[inline(always)]
fn row_loss(logits: &[f32], class: i32, scale: f64, dlogits: &mut [f32]) -> f64 {
    let Ok(class) = usize::try_from(class) else {
        dlogits.fill(0.0);
        return 0.0;
    };
    let (maximum, sum) = exponentials(logits, dlogits);
    let others = sum - f64::from(dlogits[class]);
    let factor = (scale / sum) as f32;
    dlogits.iter_mut().for_each(|d| *d *= factor);
    // p − 1 = −(the sum of the other classes' p), which stays accurate when p is almost 1.
    dlogits[class] = (-scale * others / sum) as f32;
    sum.ln() + f64::from(maximum) - f64::from(logits[class])
}

/// The loss of a row whose label is a share q of every class, and its gradient times `scale`: (Σ q)·p_c − q_c.
#[inline(always)]
fn shared_row_loss(logits: &[f32], class: i32, shares: &Shares, scale: f64, dlogits: &mut [f32]) -> f64 {
    let Ok(class) = usize::try_from(class) else {
        dlogits.fill(0.0);
        return 0.0;
    };
    let (maximum, sum) = exponentials(logits, dlogits);
    let others = sum - f64::from(dlogits[class]);
    let spread = f64::from(shares.smoothing) / logits.len() as f64;
    let own = (1.0 - f64::from(shares.smoothing)) * shares.weight(class);
    // Sums over all classes: Σ w, and Σ w·(x − maximum).
    let (mut weights, mut weighted) = (0.0, 0.0);
    for (c, &x) in logits.iter().enumerate() {
        weights += shares.weight(c);
        weighted += shares.weight(c) * (f64::from(x) - f64::from(maximum));
    }
    let total = own + spread * weights;
    for (c, d) in dlogits.iter_mut().enumerate() {
        *d = (scale * (total * f64::from(*d) / sum - spread * shares.weight(c))) as f32;
    }
    // The gradient of the label's own class: the other classes' q minus their share of p.
    let of_others = spread * (weights - shares.weight(class));
    dlogits[class] = (scale * (of_others - total * others / sum)) as f32;
    total * sum.ln() - own * (f64::from(logits[class]) - f64::from(maximum)) - spread * weighted
}

/// [`shared_row_loss`] for a label that mixes two classes.
#[inline(always)]
fn mixed_row_loss(logits: &[f32], classes: [(usize, f64); 2], shares: &Shares, scale: f64, dlogits: &mut [f32]) -> f64 {
    let (maximum, sum) = exponentials(logits, dlogits);
    let spread = f64::from(shares.smoothing) / logits.len() as f64;
    let labels =
        classes.map(|(class, part)| (class, (1.0 - f64::from(shares.smoothing)) * part * shares.weight(class)));
    let share = |c: usize| {
        let own: f64 = labels.iter().filter(|l| l.0 == c).map(|l| l.1).sum();
        own + spread * shares.weight(c)
    };
    let total: f64 = (0..logits.len()).map(share).sum();
    let mut crossed = 0.0;
    for (c, (d, &x)) in dlogits.iter_mut().zip(logits).enumerate() {
        // A share of 0 times a logit of −∞ counts as 0.
        if share(c) > 0.0 {
            crossed += share(c) * (f64::from(x) - f64::from(maximum));
        }
        *d = (scale * (total * f64::from(*d) / sum - share(c))) as f32;
    }
    total * sum.ln() - crossed
}

impl CpuOp for ClassLoss {
    fn cpu_scratch(&self, _node: &CpuNode) -> usize {
        NO_SCRATCH
    }

    fn run(&self, node: &mut Operands) {
        let (weights, mixed) = optional_inputs(node.input_count());
        let mixed = mixed.map(|[other, part]| Mixed { other: node.input(other), part: node.input(part) });
        let weights = weights.map(|index| node.input(index));
        let shares = Shares { weights, smoothing: self.smoothing, mixed };
        let (labels, denominator) = ((node.input(0), node.input(1)), node.scalars.denominators[self.task]);
        let (loss, dlogits) = (node.output(0), node.output(1));
        class_loss(node.cpu, node.channels(0), labels, shares, denominator, loss, dlogits);
    }
}
