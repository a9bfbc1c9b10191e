//! The sources of a data set that consists of several others.

use super::Declaration;

/// One data set of several that are used together.
#[derive(Clone, Debug)]
pub struct SourceSet {
    /// Its path as written, in the names of its images; no two are equal.
    pub name: String,
    /// Its tasks have the names that they have together.
    pub declared: Declaration,
    pub weight: Weight,
    /// Whether all its images are of one split, so that no validation is split off.
    pub undivided: bool,
    /// Its entry in `sources:`, with an absolute path.
    pub written: serde_json::Value,
}

/// How often the images of a source are shown in training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Weight {
    /// This share of every batch.
    Ratio(f64),
    /// As often as this many copies of its images; 1 if nothing is said.
    Repeat(f64),
}
