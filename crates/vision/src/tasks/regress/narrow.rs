//! Notes on columns whose training values hardly differ: a constant, or differences that the values' own precision cannot
//! hold.

use crate::tasks::significant;
use crate::tasks::standardisation::Spread;
use crate::tasks::written::digits;

/// A deviation of fewer steps than this is noted. Rounding to steps has a deviation of .29 steps, here .018 of the values'.
const STEPS: f64 = 16.0;

/// One note for each column with too little spread.
pub fn notes<'a>(task: &str, columns: &[String], rows: impl Iterator<Item = &'a [f64]> + Clone) -> Vec<String> {
    let note = |(i, column): (usize, &String)| {
        let sentence = note(rows.clone().map(|row| row[i]))?;
        Some(match columns.len() {
            1 => format!("{task}: {sentence}"),
            _ => format!("{task}, column `{column}`: {sentence}"),
        })
    };
    columns.iter().enumerate().filter_map(note).collect()
}

fn note(values: impl Iterator<Item = f64> + Clone) -> Option<String> {
    let spread = Spread::of(values.clone()).filter(|spread| spread.count > 1)?;
    let Spread { count, deviation, least, .. } = spread;
    if spread.is_constant() {
        return Some(format!("all {count} training values are {least}, so the model can only learn this constant"));
    }
    let largest = spread.largest();
    let double = largest.next_up() - largest;
    if deviation < STEPS * double {
        return Some(format!(
            "the training values have a standard deviation of {}, and double precision holds numbers as large as {largest} \
             only in steps of {}: subtract a constant from the values",
            significant(deviation),
            significant(double)
        ));
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

    fn notes_on(values: &[f64]) -> Vec<String> {
        notes("t", &["t".to_owned()], values.chunks(1))
    }

    #[test]
    fn values_that_hardly_differ_are_noted() {
        let constant = "t: all 3 training values are 0.1, so the model can only learn this constant";
        assert_eq!(notes_on(&[0.1; 3]), [constant]);
        // Nanoseconds since 1970, of which an f64 holds every 256th.
        let fine: Vec<f64> = (0..20).map(|i| 1.7e18 + 256.0 * f64::from(i)).collect();
        let note = notes_on(&fine).concat();
        assert!(note.contains("deviation of 1476, ") && note.contains("in steps of 256.0: "), "{note}");
        // Seconds since 1970 over ten minutes, rounded to f32.
        let rounded: Vec<f64> = (0..600).map(|i| f64::from((1.7e9 + f64::from(i)) as f32)).collect();
        let note = notes_on(&rounded).concat();
        for words in ["deviation of 17", "lie 128.0 apart", "in steps of 128.0: "] {
            assert!(note.contains(words), "{words}: {note}");
        }
        // The same as most programs write it: 1700000128 becomes 1700000100.
        let shortest: Vec<f64> = rounded.iter().map(|value| (*value as f32).to_string().parse().unwrap()).collect();
        assert!(shortest.contains(&1_700_000_100.0), "{shortest:?}");
        assert!(notes_on(&shortest).concat().contains("in steps of 128.0: "), "{:?}", notes_on(&shortest));
        let two = notes("t", &["a".into(), "b".into()], [[1.0, 5.0], [2.0, 5.0]].iter().map(|row| &row[..]));
        assert_eq!(two, ["t, column `b`: all 2 training values are 5, so the model can only learn this constant"]);
    }

    #[test]
    fn ordinary_values_are_not_noted() {
        let seconds: Vec<f64> = (0..600).map(|i| 1.7e9 + f64::from(i)).collect();
        let tiny: Vec<f64> = (0..20).map(|i| 7e-7 + 1e-9 * f64::from(i)).collect();
        let counts = [1e6, 1_000_001.0, 1e6, 1e6];
        for values in [&seconds[..], &tiny, &counts, &[0.0, 1.0, 0.0], &[5.0], &[], &[-3.0, 4.5, 1e30]] {
            assert_eq!(notes_on(values), [""; 0]);
        }
    }
}
