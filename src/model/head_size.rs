//! How large heads on a pyramid are, in a word.

use super::Backbone;
use crate::error::{Error, Result};
use crate::layers::pyramid::PyramidSize;
use serde::{Deserialize, Serialize};

/// What `--head` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeadSize {
    Full,
    /// On the tiny trunk smaller still.
    #[default]
    Lite,
}

impl HeadSize {
    /// # Errors
    /// Another word.
    pub fn parse(word: &str) -> Result<HeadSize> {
        match word {
            "full" => Ok(HeadSize::Full),
            "lite" => Ok(HeadSize::Lite),
            _ => Err(Error::Usage(format!("--head {word}: expected full or lite"))),
        }
    }

    pub fn on(self, backbone: Backbone) -> PyramidSize {
        match (self, backbone) {
            (HeadSize::Full, _) => PyramidSize::FULL,
            (HeadSize::Lite, Backbone::Tiny) => PyramidSize::TINY,
            (HeadSize::Lite, _) => PyramidSize::LITE,
        }
    }
}
