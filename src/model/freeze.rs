//! Freezing parts of the trunk while the rest learns.

use crate::error::{Error, Result};
use crate::ir::{Group, Mode};
use crate::layers::Builder;
use crate::ops::batch_norm::Statistics;
use serde::{Deserialize, Serialize};

/// A part of the trunk that can be frozen separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The first convolution and its norm.
    Stem,
    /// The stage of stride 4.
    Layer1,
    /// The stage of stride 8, which makes c3.
    Layer2,
    /// The stage of stride 16, which makes c4.
    Layer3,
    /// The stage of stride 32, which makes c5.
    Layer4,
}

impl Stage {
    /// All stages, from the image onwards.
    pub const ALL: [Stage; 5] = [Stage::Stem, Stage::Layer1, Stage::Layer2, Stage::Layer3, Stage::Layer4];

    /// The word used by `--freeze`; layers have torchvision's names.
    pub fn name(self) -> &'static str {
        ["stem", "layer1", "layer2", "layer3", "layer4"][self as usize]
    }

    /// Reads `stem,layer1` in any case; `trunk` is all of them, `none` is none.
    ///
    /// # Errors
    /// A word is not a stage.
    pub fn parse_list(words: &str) -> Result<Vec<Stage>> {
        let mut stages = Vec::new();
        let words = words.to_lowercase();
        if words == "none" {
            return Ok(stages);
        }
        for word in words.split(',').map(str::trim) {
            match Stage::ALL.into_iter().find(|stage| stage.name() == word) {
                Some(stage) => stages.push(stage),
                None if word == "trunk" => stages.extend(Stage::ALL),
                None => {
                    let names = Stage::ALL.map(Stage::name).join(", ");
                    return Err(Error::Usage(format!(
                        "`{word}` is not a stage: expected some of {names}, or trunk, or none"
                    )));
                }
            }
        }
        stages.sort_unstable();
        stages.dedup();
        Ok(stages)
    }
}

/// The frozen parts of the trunk. Frozen stages run as in evaluation and are not updated. Without learning layers
/// before them, their backward pass is not computed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Freeze {
    /// The stages that do not learn.
    pub stages: Vec<Stage>,
    /// Whether every batch norm uses its running statistics and keeps its scale and shift.
    pub batch_norm: bool,
}

impl Freeze {
    /// Configures the builder for the layers of `stage`.
    pub fn enter(&self, stage: Stage, b: &mut Builder) {
        let frozen = self.stages.contains(&stage);
        b.group = if frozen { Group::Frozen } else { Group::Trunk };
        b.norm_group = if self.batch_norm { Group::Frozen } else { b.group };
        let running = frozen || self.batch_norm || b.graph.mode == Mode::Evaluate;
        b.statistics = if running { Statistics::Running } else { Statistics::Batch };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_stages_in_order_once() {
        assert_eq!(Stage::parse_list("layer1, stem,layer1").unwrap(), [Stage::Stem, Stage::Layer1]);
        assert_eq!(Stage::parse_list("trunk").unwrap(), Stage::ALL);
        let error = Stage::parse_list("stem,layer9").unwrap_err().to_string();
        assert!(error.contains("`layer9`") && error.contains("layer4, or trunk"), "{error}");
        assert_eq!(Stage::parse_list("none").unwrap(), []);
        assert!(Stage::parse_list("").is_err());
    }
}
