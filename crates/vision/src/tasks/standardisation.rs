//! Standardisation: the network learns values with mean 0 and deviation 1, whatever their unit. Labels are f64 up to here,
//! because f32 cannot tell apart values that are large beside their spread, such as times in seconds since 1970.

use serde::{Deserialize, Serialize};

/// Mean and deviation of a task's values, per column over the training set, in the task's own units.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standardisation {
    /// The mean of each column, in its unit.
    pub mean: Vec<f64>,
    /// The standard deviation of each column, in its unit.
    pub deviation: Vec<f64>,
}

impl Standardisation {
    /// A standardisation that leaves values as they are.
    pub fn identity(columns: usize) -> Standardisation {
        Standardisation { mean: vec![0.0; columns], deviation: vec![1.0; columns] }
    }

    /// Fits to the labelled values of the training set, where NaN means unlabelled. A column without labels gets the
    /// identity.
    pub fn fit<'a>(columns: usize, rows: impl Iterator<Item = &'a [f64]> + Clone) -> Standardisation {
        let mut fitted = Standardisation::identity(columns);
        for column in 0..columns {
            if let Some(spread) = Spread::of(rows.clone().map(|row| row[column])) {
                fitted.mean[column] = spread.mean;
                fitted.deviation[column] = spread.deviation.max(spread.smallest_deviation());
            }
        }
        fitted
    }

    /// Converts a value from a column's unit to what the network learns.
    pub fn apply(&self, value: f64, column: usize) -> f32 {
        ((value - self.mean[column]) / self.deviation[column]) as f32
    }

    /// Converts a value from what the network learned to the column's unit.
    pub fn undo(&self, value: f32, column: usize) -> f64 {
        f64::from(value) * self.deviation[column] + self.mean[column]
    }
}

/// The distribution of one column's values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    /// The number of values.
    pub count: usize,
    pub mean: f64,
    /// The standard deviation (with n).
    pub deviation: f64,
    pub least: f64,
    pub greatest: f64,
}

impl Spread {
    /// The spread of the finite values; `None` if there are none. It needs three passes: sums of distances from the first
    /// value, and then from the mean, keep the digits that a sum of large values would lose.
    pub fn of(values: impl Iterator<Item = f64> + Clone) -> Option<Spread> {
        let values = values.filter(|value| value.is_finite());
        let first = values.clone().next()?;
        let (mut count, mut sum, mut least, mut greatest) = (0, 0.0, first, first);
        for value in values.clone() {
            count += 1;
            sum += value - first;
            (least, greatest) = (least.min(value), greatest.max(value));
        }
        let n = count as f64;
        let mean = first + sum / n;
        // Squares of distances outside this range would not be numbers of full precision, or would not be finite.
        let furthest = (greatest - mean).max(mean - least);
        let unit = if furthest == 0.0 || (1e-140..1e140).contains(&furthest) { 1.0 } else { furthest };
        let distances = values.map(|value| (value - mean) / unit);
        // The mean is rounded; the sum of the distances corrects for it (Chan et al. 1983, equation 1.7).
        let rest = distances.clone().sum::<f64>();
        let squares = distances.map(|distance| distance * distance).sum::<f64>();
        let variance = (squares - rest * rest / n) / n;
        Some(Spread { count, mean, deviation: variance.max(0.0).sqrt() * unit, least, greatest })
    }

    /// Whether all values are equal.
    pub fn is_constant(&self) -> bool {
        self.least == self.greatest
    }

    /// The magnitude of the largest value.
    pub fn largest(&self) -> f64 {
        self.least.abs().max(self.greatest.abs())
    }

    /// The smallest deviation that is used, so that a constant column does not divide by zero: far below the rounding of the
    /// values, or of 1 if they are all zero, so that the answers of a constant column are this constant.
    pub fn smallest_deviation(&self) -> f64 {
        let share = f64::EPSILON / 1024.0;
        match self.largest() {
            0.0 => share,
            // Not 0, even if the share of a subnormal number is.
            largest => (largest * share).max(f64::from_bits(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(values: &[f64]) -> Standardisation {
        Standardisation::fit(1, values.chunks(1))
    }

    #[test]
    fn large_values_keep_their_differences() {
        // Seconds since 1970 in steps of 10 s: the mean is 1.7e9 + 495, the deviation 10 · √((100² − 1) ÷ 12).
        let times: Vec<f64> = (0..100).map(|i| 1.7e9 + 10.0 * f64::from(i)).collect();
        let fitted = fit(&times);
        assert_eq!(fitted.mean, [1.7e9 + 495.0]);
        let expected = 10.0 * (9999.0f64 / 12.0).sqrt();
        assert!((fitted.deviation[0] / expected - 1.0).abs() < 1e-14, "{fitted:?}");
        for (i, time) in times.iter().enumerate() {
            let learned = fitted.apply(*time, 0);
            assert_eq!(learned, ((10.0 * i as f64 - 495.0) / fitted.deviation[0]) as f32);
            // A distance of under two deviations is rounded to f32 once.
            assert!((fitted.undo(learned, 0) - time).abs() <= 495.0 * f64::from(f32::EPSILON), "{time}");
        }
    }

    #[test]
    fn the_smallest_deviation_is_relative_to_the_values() {
        let tiny = [6.9e-7, 7.0e-7, 7.1e-7];
        let expected = 1e-8 * (2.0f64 / 3.0).sqrt();
        assert!((fit(&tiny).deviation[0] / expected - 1.0).abs() < 1e-7, "{:?}", fit(&tiny));
        // Not a mean of 0.10000000000000002, which would be many deviations away.
        assert_eq!(fit(&[0.1; 3]), Standardisation { mean: vec![0.1], deviation: vec![0.1 * (f64::EPSILON / 1024.0)] });
        for constant in [0.0, -5.0, 1.7e18, 7e-300] {
            let fitted = fit(&[constant; 7]);
            assert!(fitted.deviation[0] > 0.0 && fitted.apply(constant, 0) == 0.0, "{constant}: {fitted:?}");
            // An error of the network does not reach the answer.
            let error = (fitted.undo(-2.5, 0) - constant).abs();
            assert!(error == 0.0 || constant == 0.0 && error < 1e-18, "{constant}: {error}");
        }
        assert_eq!(fit(&[]), Standardisation::identity(1));
        assert_eq!(fit(&[f64::NAN, 4.0, 6.0]), Standardisation { mean: vec![5.0], deviation: vec![1.0] });
    }

    #[test]
    fn numbers_whose_squares_leave_the_range_of_doubles_have_a_deviation() {
        for unit in [1e-310, 1e-200, 1e200, 1e300] {
            let fitted = fit(&[unit, 3.0 * unit, 5.0 * unit, 7.0 * unit]);
            assert!((fitted.mean[0] / unit - 4.0).abs() < 1e-12, "{unit:e}: {fitted:?}");
            assert!((fitted.deviation[0] / unit / 5.0f64.sqrt() - 1.0).abs() < 1e-12, "{unit:e}: {fitted:?}");
            let learned = fitted.apply(7.0 * unit, 0);
            assert!((learned - 1.341_640_8).abs() < 1e-6, "{unit:e}: {learned}");
        }
    }

    #[test]
    fn a_card_in_single_precision_is_still_read() {
        let card: Standardisation =
            serde_json::from_str(r#"{"mean":[12.345679,-3.0],"deviation":[0.1,1e-6]}"#).unwrap();
        assert_eq!(card, Standardisation { mean: vec![12.345679, -3.0], deviation: vec![0.1, 1e-6] });
    }
}
