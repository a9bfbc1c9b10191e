//! Mean absolute error, root mean square error, R², rank correlation and prediction intervals of each column of one
//! regression task, over the whole set and in the original unit.

use crate::tasks::metrics::mean;

/// The fewest residuals from which an interval is computed.
const INTERVAL_FROM: usize = 10;
/// The share of true values that a prediction interval should contain.
pub const INTERVAL_COVERAGE: f64 = INTERVAL_TENTHS as f64 / 10.0;
const INTERVAL_TENTHS: usize = 9;

/// The pairs seen so far, per column.
#[derive(Clone, Debug)]
pub struct RegressionMetric {
    /// `(prediction, truth)` pairs per column. They are kept because R² and ranks need two passes; an evaluation set is
    /// small.
    columns: Vec<Vec<(f64, f64)>>,
}

/// The figures of one column; `None` if no image was labelled, or if the figure needs two images.
#[derive(Clone, Debug, PartialEq)]
pub struct RegressionSummary {
    /// Labelled images.
    pub count: usize,
    /// In the column's unit.
    pub mae: Option<f64>,
    /// In the column's unit.
    pub rmse: Option<f64>,
    /// 1 − residual ÷ total sum of squares. If the truth has no variance: 1 if predicted exactly, else 0 (as in
    /// scikit-learn).
    pub r2: Option<f64>,
    /// Spearman's rank correlation, with mean ranks for ties; undefined if either side is constant.
    pub spearman: Option<f64>,
    /// Half the width of a prediction interval around any value, with coverage `INTERVAL_COVERAGE`, in the column's
    /// unit: for `n` images, the ⌈.9 (n + 1)⌉-th smallest |residual| (split-conformal prediction: Lei et al. 2018,
    /// arXiv:1604.04173, algorithm 2). On new images of the same distribution it contains the truth nine times in ten
    /// on average. If the same images also selected the weights, the interval is slightly too narrow. `None` with fewer
    /// than ten images.
    pub half_width: Option<f64>,
    /// `(prediction, truth)` of the labelled images, in the order they came.
    pub pairs: Vec<(f64, f64)>,
}

impl RegressionSummary {
    /// The share of true values within `half_width` of their predictions.
    pub fn coverage(&self, half_width: f64) -> Option<f64> {
        let inside = |(value, truth): &(f64, f64)| f64::from(u8::from((value - truth).abs() <= half_width));
        mean(self.pairs.iter().map(inside))
    }
}

impl RegressionMetric {
    /// An empty metric for this many columns.
    pub fn new(num_columns: usize) -> Self {
        RegressionMetric { columns: vec![Vec::new(); num_columns] }
    }

    /// Adds one image: predicted values `[R]` and true values `[R]`. An unlabelled image is skipped. A NaN in the truth
    /// skips only its own column.
    pub fn add(&mut self, values: &[f64], truth: Option<&[f64]>) {
        let Some(truth) = truth else { return };
        debug_assert_eq!(values.len(), self.columns.len());
        debug_assert_eq!(truth.len(), self.columns.len());
        for ((column, &value), &truth) in self.columns.iter_mut().zip(values).zip(truth) {
            if !truth.is_nan() {
                column.push((value, truth));
            }
        }
    }

    /// One summary per column.
    pub fn compute(&self) -> Vec<RegressionSummary> {
        self.columns.iter().map(|pairs| summary(pairs)).collect()
    }
}

fn summary(pairs: &[(f64, f64)]) -> RegressionSummary {
    RegressionSummary {
        count: pairs.len(),
        mae: mean(pairs.iter().map(|(value, truth)| (value - truth).abs())),
        rmse: rmse(pairs),
        r2: r2(pairs),
        spearman: spearman(pairs),
        half_width: half_width(pairs),
        pairs: pairs.to_vec(),
    }
}

fn half_width(pairs: &[(f64, f64)]) -> Option<f64> {
    let mut residuals: Vec<f64> = pairs.iter().map(|(value, truth)| (value - truth).abs()).collect();
    residuals.sort_by(f64::total_cmp);
    // ⌈.9 (n + 1)⌉ in integer arithmetic; at most n for n ≥ 9.
    let rank = (INTERVAL_TENTHS * (pairs.len() + 1)).div_ceil(10);
    residuals.get(rank - 1).copied().filter(|_| pairs.len() >= INTERVAL_FROM)
}

fn r2(pairs: &[(f64, f64)]) -> Option<f64> {
    if pairs.len() < 2 {
        return None;
    }
    // Distances from the first value keep the digits that a sum of large values would lose.
    let first = pairs[0].1;
    let center = first + mean(pairs.iter().map(|(_, truth)| truth - first))?;
    let residual = squares(pairs.iter().map(|(value, truth)| truth - value));
    let total = squares(pairs.iter().map(|(_, truth)| truth - center));
    Some(match (residual.sum == 0.0, total.sum == 0.0) {
        (true, _) => 1.0,
        (false, true) => 0.0,
        (false, false) => 1.0 - residual.sum / total.sum * (residual.unit / total.unit).powi(2),
    })
}

fn rmse(pairs: &[(f64, f64)]) -> Option<f64> {
    let Squares { sum, unit } = squares(pairs.iter().map(|(value, truth)| value - truth));
    (!pairs.is_empty()).then(|| (sum / pairs.len() as f64).sqrt() * unit)
}

/// A sum of squares, in `unit` squared.
struct Squares {
    sum: f64,
    unit: f64,
}

/// The unit is 1, unless the squares of the distances would be 0, infinite or numbers of few digits.
fn squares(distances: impl Iterator<Item = f64> + Clone) -> Squares {
    let furthest = distances.clone().map(f64::abs).fold(0.0, f64::max);
    let unit = if furthest == 0.0 || (1e-140..1e140).contains(&furthest) { 1.0 } else { furthest };
    Squares { sum: distances.map(|distance| (distance / unit).powi(2)).sum(), unit }
}

fn spearman(pairs: &[(f64, f64)]) -> Option<f64> {
    let a = ranks(pairs.iter().map(|(value, _)| *value).collect());
    let b = ranks(pairs.iter().map(|(_, truth)| *truth).collect());
    // The mean of the ranks 0..n does not depend on ties.
    let center = (pairs.len() as f64 - 1.0) / 2.0;
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(&b) {
        ab += (a - center) * (b - center);
        aa += (a - center).powi(2);
        bb += (b - center).powi(2);
    }
    (aa > 0.0 && bb > 0.0).then(|| ab / (aa * bb).sqrt())
}

/// The rank of each value from 0; equal values get their mean rank.
fn ranks(values: Vec<f64>) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for tied in order.chunk_by(|&a, &b| values[a] == values[b]) {
        for &index in tied {
            ranks[index] = first as f64 + (tied.len() as f64 - 1.0) / 2.0;
        }
        first += tied.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::metrics::golden;

    fn wide(values: &[f32]) -> Vec<f64> {
        values.iter().copied().map(f64::from).collect()
    }

    #[test]
    fn equals_scikit_learn_and_scipy() {
        for case in golden::cases("regression") {
            let name = case["name"].as_str().unwrap();
            let values = golden::rows(&case["values"]);
            let mut metric = RegressionMetric::new(case["num_columns"].as_u64().unwrap() as usize);
            for (row, truth) in values.iter().zip(case["truth"].as_array().unwrap()) {
                let truth = truth.as_array().map(|row| wide(&golden::row(row)));
                metric.add(&wide(row), truth.as_deref());
            }
            for (got, expected) in metric.compute().iter().zip(case["expected"].as_array().unwrap()) {
                golden::close(name, "mae", got.mae, &expected["mae"]);
                golden::close(name, "rmse", got.rmse, &expected["rmse"]);
                golden::close(name, "r2", got.r2, &expected["r2"]);
                golden::close(name, "spearman", got.spearman, &expected["spearman"]);
                golden::close(name, "half_width", got.half_width, &expected["half_width"]);
                assert_eq!(got.count as u64, expected["count"].as_u64().unwrap(), "{name}");
            }
        }
    }

    /// As scikit-learn's `r2_score`, which has `force_finite` by default.
    #[test]
    fn a_constant_truth_scores_one_if_it_is_predicted_exactly_and_otherwise_nothing() {
        let r2 = |values: &[f64], truth: f64| {
            let mut metric = RegressionMetric::new(1);
            values.iter().for_each(|&value| metric.add(&[value], Some(&[truth])));
            metric.compute().remove(0).r2
        };
        assert_eq!(r2(&[0.1; 3], 0.1), Some(1.0));
        assert_eq!(r2(&[0.1, 0.1, 0.2], 0.1), Some(0.0));
        // The squares of these errors are not numbers that a double can hold.
        assert_eq!(r2(&[1e-310, 1e-310, 2e-310], 1e-310), Some(0.0));
    }

    #[test]
    fn figures_do_not_depend_on_the_unit_even_if_squares_leave_the_range_of_doubles() {
        let figures = |unit: f64| {
            let mut metric = RegressionMetric::new(1);
            for (value, truth) in [(1.0, 2.0), (4.0, 3.0), (6.0, 7.0), (9.0, 8.0)] {
                metric.add(&[value * unit], Some(&[truth * unit]));
            }
            let summary = metric.compute().remove(0);
            [summary.r2.unwrap(), summary.rmse.unwrap() / unit, summary.mae.unwrap() / unit]
        };
        let expected = figures(1.0);
        for unit in [1e-310, 1e-200, 1e200] {
            for (got, expected) in figures(unit).into_iter().zip(expected) {
                assert!((got / expected - 1.0).abs() < 1e-12, "{unit:e}: {got}, {expected}");
            }
        }
    }

    #[test]
    fn an_interval_holds_nine_in_ten_of_the_images_it_came_from_and_as_many_of_others() {
        let summary = |seed: u32| {
            let mut metric = RegressionMetric::new(1);
            let mut state = seed;
            for _ in 0..999 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                metric.add(&[0.0], Some(&[f64::from(state >> 8) / f64::from(1 << 24)]));
            }
            metric.compute().remove(0)
        };
        let (own, other) = (summary(1), summary(2));
        let half_width = own.half_width.unwrap();
        assert_eq!(own.coverage(half_width), Some(900.0 / 999.0));
        // Three standard deviations of the difference between two shares of 999 draws each: 3 · √(.09 · 2 / 999).
        assert!((other.coverage(half_width).unwrap() - INTERVAL_COVERAGE).abs() < 0.04);
        assert_eq!(RegressionMetric::new(1).compute()[0].coverage(1.0), None);
    }
}
