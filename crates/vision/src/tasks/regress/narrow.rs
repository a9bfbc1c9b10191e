//! Problems of columns whose training values cannot be learned: a constant, differences that the values' own precision cannot
//! hold, or values that become equal when they are standardised.

use crate::tasks::significant;
use crate::tasks::standardisation::{Spread, Standardisation};
use crate::tasks::written::digits;

/// A deviation of fewer steps of single precision than this is a problem. Rounding to steps has a deviation of .29 steps, here
/// .018 of the values'.
const STEPS: f64 = 16.0;
/// The least deviation, as a share of the largest value. Files and sums of values this large keep three digits of it.
const LEAST_DEVIATION: f64 = 1e-12;

/// One sentence for each column with too little spread.
pub fn problems<'a>(task: &str, columns: &[String], rows: impl Iterator<Item = &'a [f64]> + Clone) -> Vec<String> {
    let problem = |(i, column): (usize, &String)| {
        let sentence = problem(rows.clone().map(|row| row[i]))?;
        Some(match columns.len() {
            1 => format!("{task}: {sentence}"),
            _ => format!("{task}, column `{column}`: {sentence}"),
        })
    };
    columns.iter().enumerate().filter_map(problem).collect()
}

fn problem(values: impl Iterator<Item = f64> + Clone) -> Option<String> {
    let spread = Spread::of(values.clone()).filter(|spread| spread.count > 1)?;
    let Spread { count, deviation, least, .. } = spread;
    if spread.is_constant() {
        return Some(format!("all {count} training values are {least}, so the model can only learn this constant"));
    }
    let largest = spread.largest();
    if deviation < LEAST_DEVIATION * largest {
        return Some(format!(
            "the training values have a standard deviation of {}, less than {LEAST_DEVIATION:e} of the largest, {largest}, so \
             their differences are lost in rounding: subtract a constant from the values",
            significant(deviation)
        ));
    }
    if let Some(sentence) = collapsed(values.clone()) {
        return Some(sentence);
    }
    let single = step_in_single_precision(largest)?;
    if deviation < STEPS * single && values.clone().all(is_single) {
        // Values with few digits are exact in single precision, too, but lie further apart than its steps.
        let nearest = nearest(values.collect());
        return (nearest <= 2.0 * single).then(|| {
            format!(
                "the training values have a standard deviation of {} and lie {} apart, as if they had been rounded to \
                 single precision, which holds numbers as large as {largest} in steps of {}: write them with more digits",
                significant(deviation),
                significant(nearest),
                significant(single)
            )
        });
    }
    None
}

/// A sentence if at most half of the distinct values are still distinct in what the network learns.
fn collapsed(values: impl Iterator<Item = f64> + Clone) -> Option<String> {
    let mut distinct: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    distinct.sort_by(f64::total_cmp);
    distinct.dedup();
    let rows: Vec<[f64; 1]> = distinct.iter().map(|value| [*value]).collect();
    let fitted = Standardisation::fit(1, rows.iter().map(|row| &row[..]));
    let mut learned: Vec<f32> = distinct.iter().map(|value| fitted.apply(*value, 0)).collect();
    learned.dedup();
    let [least, greatest] = [distinct.first()?, distinct.last()?];
    (2 * learned.len() <= distinct.len()).then(|| {
        format!(
            "of {} distinct training values, from {least:e} to {greatest:e}, only {} are left when they are standardised for the \
             network: remove values that lie far from the others, or give their logarithm",
            distinct.len(),
            learned.len()
        )
    })
}

/// The distance to the next number in single precision; `None` beyond its range.
fn step_in_single_precision(value: f64) -> Option<f64> {
    let value = value as f32;
    value.is_finite().then(|| f64::from(value.next_up()) - f64::from(value))
}

/// Whether a program that has the value in single precision would write it like this, with all digits or the shortest.
fn is_single(value: f64) -> bool {
    let single = value as f32;
    f64::from(single) == value || digits(single) == value
}

/// The smallest distance between two different values.
fn nearest(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let distances = values.windows(2).map(|pair| pair[1] - pair[0]);
    distances.filter(|distance| *distance > 0.0).fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems_of(values: &[f64]) -> Vec<String> {
        problems("t", &["t".to_owned()], values.chunks(1))
    }

    #[test]
    fn values_that_hardly_differ_are_problems() {
        let constant = "t: all 3 training values are 0.1, so the model can only learn this constant";
        assert_eq!(problems_of(&[0.1; 3]), [constant]);
        // Nanoseconds since 1970, of which an f64 holds every 256th.
        let fine: Vec<f64> = (0..20).map(|i| 1.7e18 + 256.0 * f64::from(i)).collect();
        let note = problems_of(&fine).concat();
        assert!(note.contains("deviation of 1476, less than 1e-12 of the largest, 17000"), "{note}");
        // Seconds since 1970 over ten minutes, rounded to f32.
        let rounded: Vec<f64> = (0..600).map(|i| f64::from((1.7e9 + f64::from(i)) as f32)).collect();
        let note = problems_of(&rounded).concat();
        for words in ["deviation of 17", "lie 128.0 apart", "in steps of 128.0: "] {
            assert!(note.contains(words), "{words}: {note}");
        }
        // The same as most programs write it: 1700000128 becomes 1700000100.
        let shortest: Vec<f64> = rounded.iter().map(|value| (*value as f32).to_string().parse().unwrap()).collect();
        assert!(shortest.contains(&1_700_000_100.0), "{shortest:?}");
        assert!(problems_of(&shortest).concat().contains("in steps of 128.0: "), "{:?}", problems_of(&shortest));
        let two = problems("t", &["a".into(), "b".into()], [[1.0, 5.0], [2.0, 5.0]].iter().map(|row| &row[..]));
        assert_eq!(two, ["t, column `b`: all 2 training values are 5, so the model can only learn this constant"]);
    }

    #[test]
    fn values_that_become_equal_when_standardised_are_a_problem() {
        // The mean and the deviation of the distinct values are those of the single large one.
        let sentence = problems_of(&[1.0, 2.0, 3.0, 4.0, 2.0, 1e30]).concat();
        assert!(sentence.contains("of 5 distinct training values, from 1e0 to 1e30, only 2 are left"), "{sentence}");
        // Just enough of a deviation, and just too little.
        let around = |deviation: f64| problems_of(&[1.0 - deviation, 1.0 + deviation]);
        assert_eq!(around(1.1e-12), [""; 0]);
        assert!(around(0.9e-12).concat().contains("less than 1e-12 of the largest"), "{:?}", around(0.9e-12));
    }

    #[test]
    fn ordinary_values_are_no_problem() {
        let seconds: Vec<f64> = (0..600).map(|i| 1.7e9 + f64::from(i)).collect();
        let tiny: Vec<f64> = (0..20).map(|i| 7e-7 + 1e-9 * f64::from(i)).collect();
        let counts = [1e6, 1_000_001.0, 1e6, 1e6];
        for values in [&seconds[..], &tiny, &counts, &[0.0, 1.0, 0.0], &[5.0], &[], &[-3.0, 4.5, 1e30]] {
            assert_eq!(problems_of(values), [""; 0]);
        }
    }
}
