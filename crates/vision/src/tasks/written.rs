//! Numbers as text and JSON, with the digits a person would write.

use crate::boxes::Xyxy;
use serde_json::Value;

/// Writes 0.1 rather than 0.10000000149011612, and whole numbers without a decimal point.
pub fn written_number(value: f32) -> Value {
    match value.fract() == 0.0 && value.abs() < 1e7 {
        true => (value as i64).into(),
        false => digits(value).into(),
    }
}

/// Writes the shortest number that is read back as the same value, and whole numbers without a decimal point.
pub(super) fn written_value(value: f64) -> Value {
    match value.fract() == 0.0 && value.abs() < 1e15 {
        true => (value as i64).into(),
        false => value.into(),
    }
}

/// The number of decimal places that tell numbers apart that differ by `step`.
pub(super) fn decimals(step: f64) -> usize {
    (-step.log10()).ceil().clamp(0.0, 330.0) as usize
}

/// The value rounded to the last decimal place that tells numbers apart that differ by `step`.
pub(super) fn rounded(value: f64, step: f64) -> f64 {
    let text = format!("{value:.*}", decimals(step));
    // Adding 0 turns −0 into 0.
    text.parse().unwrap_or(value) + 0.0
}

/// For people: the value with the decimal places of [`rounded`], or with an exponent if these would be many.
pub(super) fn shown(value: f64, step: f64) -> String {
    match decimals(step) {
        few @ 0..=6 => format!("{value:.few$}"),
        _ => {
            let places = value.abs().log10().floor() - step.log10().floor();
            // A step below the digits of a double is that of a constant, which is written as short as it is.
            if places > 16.0 { value.to_string() } else { format!("{value:.*e}", places.max(0.0) as usize) }
        }
    }
}

/// For people: four significant digits, but all digits before the decimal point; with an exponent below 0.0001 and from
/// a billion.
pub fn significant(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude == 0.0 {
        return "0.000".to_owned();
    }
    if !(1e-4..1e9).contains(&magnitude) {
        return format!("{value:.3e}");
    }
    let decimals = (3.0 - magnitude.log10().floor()).max(0.0) as usize;
    format!("{value:.decimals$}")
}

/// A box as left, top, width, height.
pub fn written_xywh(&[x1, y1, x2, y2]: &Xyxy) -> [Value; 4] {
    [x1, y1, side(x1, x2), side(y1, y2)].map(written_number)
}

/// The number a person would write for `value`.
pub(super) fn digits(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// The side length that gives exactly `to` when added to `from` in single precision, if there is one.
fn side(from: f32, to: f32) -> f32 {
    let side = to - from;
    let written = (digits(to) - digits(from)) as f32;
    [written, side, side.next_up(), side.next_down()].into_iter().find(|side| from + side == to).unwrap_or(side)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_keep_the_digits_that_matter() {
        for (value, step, expected) in [
            (36.751_234_567, 9.3e-6, 36.751_235),
            (1_700_000_012.345_678, 6e-5, 1_700_000_012.345_68),
            (7.123_456_789e-7, 2e-13, 7.123_457e-7),
            (-4e-9, 1e-6, 0.0),
            (123_456.7, 3e4, 123_457.0),
        ] {
            assert_eq!(rounded(value, step), expected, "{value} to {step}");
        }
        assert!(rounded(-4e-9, 1e-6).is_sign_positive() && rounded(f64::NAN, 1e-6).is_nan());

        let texts = [5.113, 0.0, 43.6123, 4361.23, 1_234_567.8, 0.051_234, 7.123_4e-7, 1.2e12, -0.5, 9.999_96];
        let texts = texts.map(significant);
        let expected = ["5.113", "0.000", "43.61", "4361", "1234568", "0.05123", "7.123e-7", "1.200e12", "-0.5000"];
        assert_eq!(texts[..9], expected);
        assert_eq!(texts[9], "10.000");
        assert_eq!(significant(f64::NAN), "NaN");

        assert_eq!(shown(36.7512, 0.093), "36.75");
        assert_eq!(shown(1_700_000_012.3, 0.6), "1700000012.3");
        assert_eq!(shown(7.123_456e-7, 2e-9), "7.12e-7");
        assert_eq!(shown(0.0, 1e-9), "0e0");

        let written = [1_700_000_000.0, 0.1, 7e-7, -3.0, 1e20].map(written_value);
        assert_eq!(json!(written).to_string(), "[1700000000,0.1,7e-7,-3,1e+20]");
        assert!(written_value(f64::NAN).is_null());
    }
}
