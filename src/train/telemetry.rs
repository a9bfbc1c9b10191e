//! Telemetry of balancing: lengths and cosines of the tasks' gradients, and tasks whose weight grows without effect.

use serde::{Deserialize, Serialize};

/// Steps from one computation of the Gramian for the log to the next. At this interval it costs almost nothing.
pub const GRAMIAN_INTERVAL: u64 = 16;

/// A sum, and the number of its terms.
type Sum = (f64, u32);

fn mean((sum, count): Sum) -> Option<f64> {
    (count > 0).then(|| sum / f64::from(count))
}

/// Means over the steps of an epoch in which the Gramian was computed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GradientMeans {
    /// Per task.
    norms: Vec<Sum>,
    weighted: Vec<Sum>,
    /// Per pair of tasks, in the order of [`pairs`].
    cosines: Vec<Sum>,
}

/// All pairs of `tasks` tasks, the earlier task first.
pub fn pairs(tasks: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..tasks).flat_map(move |a| (a + 1..tasks).map(move |b| (a, b)))
}

impl GradientMeans {
    /// The number of lengths, of weighted lengths and of cosines; 0 before the first step.
    pub(super) fn lens(&self) -> [usize; 3] {
        [&self.norms, &self.weighted, &self.cosines].map(Vec::len)
    }

    /// Adds a step: its tasks' `gramian` `[K, K]`, their weights at the seam, and which had labels.
    pub fn add(&mut self, gramian: &[f64], weights: &[f32], active: &[bool]) {
        let tasks = active.len();
        self.norms.resize(tasks, (0.0, 0));
        self.weighted.resize(tasks, (0.0, 0));
        self.cosines.resize(pairs(tasks).count(), (0.0, 0));
        // JSON cannot represent NaN and infinity, so a checkpoint that contains them could not be read again.
        let count = |sum: &mut Sum, value: f64| {
            if value.is_finite() {
                *sum = (sum.0 + value, sum.1 + 1);
            }
        };
        let norm = |task: usize| gramian[task * tasks + task].max(0.0).sqrt();
        for task in (0..tasks).filter(|&task| active[task]) {
            count(&mut self.norms[task], norm(task));
            count(&mut self.weighted[task], norm(task) * f64::from(weights[task]));
        }
        for (sum, (a, b)) in self.cosines.iter_mut().zip(pairs(tasks)) {
            let lengths = norm(a) * norm(b);
            if active[a] && active[b] && lengths > 0.0 {
                count(sum, gramian[a * tasks + b] / lengths);
            }
        }
    }

    /// Mean length of a task's gradient over the shared features or layer, over the steps in which it had labels.
    pub fn norm(&self, task: usize) -> Option<f64> {
        self.norms.get(task).copied().and_then(mean)
    }

    /// Mean of weight · length over the same steps: the task's pull on what is shared.
    pub fn weighted(&self, task: usize) -> Option<f64> {
        self.weighted.get(task).copied().and_then(mean)
    }

    /// Mean cosines of all pairs of tasks' gradients, in the order of [`pairs`], over the steps in which both had
    /// labels.
    pub fn cosines(&self, tasks: usize) -> Vec<Option<f64>> {
        (0..pairs(tasks).count()).map(|pair| self.cosines.get(pair).copied().and_then(mean)).collect()
    }

    /// Column names of [`GradientMeans::cells`].
    pub fn columns(names: &[&str]) -> Vec<String> {
        let of_tasks = |prefix: &'static str| names.iter().map(move |name| format!("{prefix}/{name}"));
        let of_pairs = pairs(names.len()).map(|(a, b)| format!("cosine/{}/{}", names[a], names[b]));
        of_tasks("gradient").chain(of_tasks("weighted_gradient")).chain(of_pairs).collect()
    }

    /// The values for a row of results.csv.
    pub fn cells(&self, tasks: usize) -> Vec<Option<f64>> {
        let norms = (0..tasks).map(|task| self.norm(task));
        norms.chain((0..tasks).map(|task| self.weighted(task))).chain(self.cosines(tasks)).collect()
    }

    /// The epoch as a line of text; `None` with fewer than two tasks, or if no Gramian was computed.
    pub fn line(&self, names: &[&str]) -> Option<String> {
        let figure = |value: Option<f64>, text: fn(f64) -> String| value.map_or("–".to_owned(), text);
        let pull = |(task, name): (usize, &&str)| {
            let text = |v: f64| format!("{v:.2e}");
            format!("{name} {} (weighted {})", figure(self.norm(task), text), figure(self.weighted(task), text))
        };
        let pulls: Vec<String> = names.iter().enumerate().map(pull).collect();
        (names.len() > 1 && self.norms.iter().any(|sum| sum.1 > 0)).then_some(())?;
        let cosines = pairs(names.len()).zip(self.cosines(names.len()));
        let cosine = |((a, b), value): ((usize, usize), Option<f64>)| {
            format!("{}–{} {}", names[a], names[b], figure(value, |v| format!("{v:+.2}")))
        };
        let cosines: Vec<String> = cosines.map(cosine).collect();
        Some(format!("gradient norms: {}; cosines: {}", pulls.join(", "), cosines.join(", ")))
    }
}

/// A task's mean weight in an epoch, and its metric on the validation images.
pub type WeightAndMetric = (f64, Option<f64>);

/// A task that improves within this many epochs is still learning.
const STILL: usize = 3;
/// A metric that changes by at most this is stalled.
const CHANGE: f64 = 0.005;
/// A weight that is larger by this factor has grown.
const GROWTH: f64 = 1.1;

/// Whether a task's metric is stalled while its weight grows: the task is solved or stuck, and its weight is wasted.
/// `past` has an entry per epoch. Returns the weight before and now.
pub fn solved_or_stuck(past: &[WeightAndMetric]) -> Option<[f64; 2]> {
    let (before, last) = past.split_at_checked(past.len().checked_sub(STILL)?)?;
    let best = |part: &[WeightAndMetric]| part.iter().filter_map(|epoch| epoch.1).max_by(f64::total_cmp);
    let (old, now) = (before.last()?.0, last.last()?.0);
    (best(last)? <= best(before)? + CHANGE && now > old * GROWTH && old > 0.0).then_some([old, now])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_over_the_steps_in_which_a_task_had_labels() {
        let mut means = GradientMeans::default();
        assert_eq!((means.norm(0), means.line(&["a", "b", "c"])), (None, None));
        assert_eq!(means.cells(3), [None; 9]);
        // Lengths 2 and 3, cosine −½; then only the first task has labels.
        means.add(&[4.0, -3.0, 0.0, -3.0, 9.0, 0.0, 0.0, 0.0, 0.0], &[0.5, 2.0, 0.0], &[true, true, false]);
        means.add(&[16.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], &[1.0, 0.0, 0.0], &[true, false, false]);
        assert_eq!([means.norm(0), means.norm(1), means.norm(2)], [Some(3.0), Some(3.0), None]);
        assert_eq!([means.weighted(0), means.weighted(1)], [Some(2.5), Some(6.0)]);
        assert_eq!(means.cosines(3), [Some(-0.5), None, None]);
        // Overflow in one step leaves the means unchanged.
        let (infinite, nan) = (f64::INFINITY, f64::NAN);
        let before = means.clone();
        means.add(&[infinite, nan, 0.0, nan, infinite, 0.0, 0.0, 0.0, 0.0], &[1.0, 1.0, 0.0], &[true, true, false]);
        assert_eq!(means, before);
        let columns = GradientMeans::columns(&["a", "b", "c"]);
        assert_eq!((columns.len(), means.cells(3).len()), (9, 9));
        assert_eq!((&*columns[0], &*columns[3], &*columns[6]), ("gradient/a", "weighted_gradient/a", "cosine/a/b"));
        let line = means.line(&["a", "b", "c"]).unwrap();
        assert!(line.contains("a–b -0.50") && line.contains("c –"), "{line}");
    }

    #[test]
    fn a_stalled_task_with_a_growing_weight_is_found() {
        let past = |weights: [f64; 5], figures: [f64; 5]| -> Vec<WeightAndMetric> {
            weights.into_iter().zip(figures.map(Some)).collect()
        };
        let growing = [1.0, 1.2, 1.5, 1.8, 2.2];
        assert_eq!(solved_or_stuck(&past(growing, [0.5, 0.9, 0.9, 0.902, 0.9])), Some([1.2, 2.2]));
        // It still learns, its weight falls, or there were too few epochs.
        assert_eq!(solved_or_stuck(&past(growing, [0.5, 0.8, 0.85, 0.88, 0.9])), None);
        assert_eq!(solved_or_stuck(&past([2.0, 1.5, 1.4, 1.3, 1.0], [0.9; 5])), None);
        assert_eq!(solved_or_stuck(&past(growing, [0.9; 5])[..3]), None);
        assert_eq!(solved_or_stuck(&[(1.0, None); 6]), None);
        assert_eq!(solved_or_stuck(&[]), None);
    }
}
