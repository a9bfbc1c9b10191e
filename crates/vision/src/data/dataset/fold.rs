//! One of several folds: equal parts of the training images, each of which validates one run.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A fold of several, written as `2/5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fold {
    /// Counted from 1.
    number: usize,
    of: usize,
}

/// More folds than anybody trains.
const MOST: usize = 1000;

impl Fold {
    /// The number of this fold, counted from 0.
    pub fn index(self) -> usize {
        self.number - 1
    }

    /// The number of all folds, at least 2.
    pub fn count(self) -> usize {
        self.of
    }
}

impl FromStr for Fold {
    type Err = String;

    fn from_str(text: &str) -> Result<Fold, String> {
        let parts = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match parts {
            Some((number, of)) if (2..=MOST).contains(&of) && (1..=of).contains(&number) => Ok(Fold { number, of }),
            _ => Err(format!("expected the number of a fold and of all folds, at most {MOST}, as in 2/5")),
        }
    }
}

impl TryFrom<String> for Fold {
    type Error = String;

    fn try_from(text: String) -> Result<Fold, String> {
        text.parse()
    }
}

impl From<Fold> for String {
    fn from(fold: Fold) -> String {
        fold.to_string()
    }
}

impl fmt::Display for Fold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}
