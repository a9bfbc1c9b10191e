//! Sizes of the heads on a pyramid.

use super::Backbone;
use crate::layers::pyramid::PyramidSize;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// The values of `--head`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum HeadSize {
    /// The published size: 256 wide, towers of depth 4
    Full,
    /// 128 wide, towers of depth 2; smaller still on the tiny trunk
    #[default]
    Lite,
}

impl HeadSize {
    /// The widths and depths of this size on a backbone.
    pub fn on(self, backbone: Backbone) -> PyramidSize {
        match (self, backbone) {
            (HeadSize::Full, _) => PyramidSize::FULL,
            (HeadSize::Lite, Backbone::Tiny) => PyramidSize::TINY,
            (HeadSize::Lite, _) => PyramidSize::LITE,
        }
    }
}
