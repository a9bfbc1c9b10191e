//! Unreadable images: how they are reported, and how many of them a run tolerates.

use crate::error::{Error, one_line};
use std::collections::BTreeMap;
use std::fmt;

/// An image that could not be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Broken {
    /// The index of the sample.
    pub index: usize,
    /// The sample's name, for display.
    pub name: String,
    /// The error message.
    pub message: String,
}

/// Written on one line, whatever characters the name contains.
impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", one_line(&self.name), self.message)
    }
}

/// The number of `images` that may be unreadable: `share` of them, rounded down, but at least one unless `share` is 0.
pub fn broken_allowed(share: f32, images: usize) -> usize {
    // The decimal number the user wrote: 0.01 instead of the 0.00999999977 of single precision.
    let written: f64 = share.to_string().parse().unwrap_or_else(|_| f64::from(share));
    match written > 0.0 {
        true => ((written * images as f64 + 1e-6) as usize).max(1),
        false => 0,
    }
}

/// The error for more unreadable images than `max_broken` allows.
pub fn too_many(broken: &BTreeMap<usize, Broken>, images: usize, max_broken: f32) -> Error {
    let shown: Vec<String> =
        broken.values().take(5).map(|b| format!("{} ({})", one_line(&b.name), b.message)).collect();
    let tail = if broken.len() > 5 { "; …" } else { "" };
    Error::Other(format!(
        "{} of {images} images cannot be read, more than --max-broken {max_broken} allows: {}{tail}; repair or remove them, or raise --max-broken",
        broken.len(),
        shown.join("; ")
    ))
}
