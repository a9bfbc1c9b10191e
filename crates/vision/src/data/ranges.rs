//! Parses numbers from text and checks their range. The error is the end of a sentence that says what was expected; the
//! caller puts the name and the value in front of it.

use std::str::FromStr;

/// A whole number.
pub fn whole<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| too_large(text).unwrap_or_else(|| "expected a whole number of at least 0".into()))
}

/// A number above 0.
pub fn count<T: FromStr + Default + PartialOrd>(text: &str) -> Result<T, String> {
    let found: Result<T, String> = number(text, |n| *n > T::default(), "a whole number above 0");
    found.map_err(|expected| too_large(text).unwrap_or(expected))
}

/// The end of the sentence for a whole number that no integer type can hold.
fn too_large(text: &str) -> Option<String> {
    let is_whole = text.len() > 1 && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_whole && text.parse::<u64>().is_err()).then(|| "expected a smaller number".into())
}

/// The number of images in a batch: 1 to 65536, more than any machine can hold.
pub fn batch(text: &str) -> Result<usize, String> {
    at_most(count(text)?, 1 << 16, "images")
}

/// The number of batches in a step: 1 to 65,536.
///
/// # Errors
/// Any other text.
pub fn batches(text: &str) -> Result<usize, String> {
    at_most(count(text)?, 1 << 16, "batches")
}

/// Threads that feed a network: 0 to 1024.
pub fn workers(text: &str) -> Result<usize, String> {
    at_most(whole(text)?, 1 << 10, "threads")
}

/// Returns `n`, or an error if it exceeds `most`.
pub fn at_most(n: usize, most: usize, of_what: &str) -> Result<usize, String> {
    if n <= most { Ok(n) } else { Err(format!("expected at most {most} {of_what}")) }
}

/// A finite number above 0.
pub fn above_0<T: FromStr + Copy + Into<f64>>(text: &str) -> Result<T, String> {
    number(text, |n: &T| (*n).into() > 0.0 && (*n).into().is_finite(), "a number above 0")
}

/// A finite number of at least 0.
pub fn at_least_0(text: &str) -> Result<f32, String> {
    number(text, |n: &f32| *n >= 0.0 && n.is_finite(), "a number of at least 0")
}

/// A share from 0 to 1, inclusive.
pub fn share(text: &str) -> Result<f32, String> {
    number(text, |n| (0.0..=1.0).contains(n), "a share from 0 to 1")
}

/// A share above 0, up to 1.
pub fn share_above_0(text: &str) -> Result<f32, String> {
    number(text, |n| *n > 0.0 && *n <= 1.0, "a share above 0, up to 1")
}

/// A number from 0 to below 1.
pub fn below_1(text: &str) -> Result<f32, String> {
    number(text, |n| (0.0..1.0).contains(n), "a number from 0 to below 1")
}

/// A number from 0 to `most`.
pub fn up_to(most: f32) -> impl Fn(&str) -> Result<f32, String> + Clone + Send + Sync + 'static {
    move |text: &str| number(text, |n| (0.0..=most).contains(n), &format!("a number from 0 to {most}"))
}

/// A number that `is_allowed` accepts; `expected` describes the allowed numbers.
pub fn number<T: FromStr>(text: &str, is_allowed: impl Fn(&T) -> bool, expected: &str) -> Result<T, String> {
    text.parse().ok().filter(is_allowed).ok_or_else(|| format!("expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_outside_their_range_are_refused() {
        let not_finite = ["NaN", "inf", "-inf", "", "x", "-1"];
        for text in not_finite {
            assert!(
                above_0::<f32>(text).is_err() && above_0::<f64>(text).is_err() && at_least_0(text).is_err(),
                "{text}"
            );
            assert!(share(text).is_err() && share_above_0(text).is_err() && below_1(text).is_err(), "{text}");
            assert!(
                up_to(180.0)(text).is_err() && whole::<u64>(text).is_err() && count::<usize>(text).is_err(),
                "{text}"
            );
        }
        assert!(above_0::<f32>("0").is_err() && share_above_0("0").is_err() && count::<u64>("0").is_err());
        assert!(below_1("1").is_err() && share("1.0001").is_err() && count::<u64>("1.5").is_err());
        assert_eq!(up_to(0.001)("0.1"), Err("expected a number from 0 to 0.001".into()));
        let smaller: fn() -> Result<usize, String> = || Err("expected a smaller number".into());
        assert_eq!((count("18446744073709551616"), whole("99999999999999999999")), (smaller(), smaller()));
        assert_eq!(workers("99999999999999999999"), smaller());
    }

    #[test]
    fn the_ends_that_belong_to_a_range_are_taken() {
        assert_eq!([at_least_0("0"), share("0"), below_1("0"), up_to(0.001)("0")], [const { Ok(0.0) }; 4]);
        assert_eq!([share("1"), share_above_0("1"), up_to(1.0)("1")], [const { Ok(1.0) }; 3]);
        assert_eq!((up_to(0.001)("0.001"), whole("0"), count("1")), (Ok(0.001), Ok(0u64), Ok(1usize)));
    }
}
