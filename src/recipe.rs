//! The default recipes: what a run does when nothing else is said. The defaults stand at the fields of [`TrainConfig`]; here is
//! where a recipe differs. They were chosen by runs on the digits and the blood cells.

use crate::config::TrainConfig;
use crate::model::Backbone;
use std::path::Path;

/// A named set of defaults for `polyhead train`, picked by the data and weights that were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// The built-in digits: ready in minutes on two cores.
    QuickStart,
    /// One's own data, weights at random.
    FromScratch,
    /// One's own data, the trunk from a published file.
    FromWeights,
}

impl Recipe {
    /// Every recipe, the one whose values are the plain defaults first.
    pub const ALL: [Recipe; 3] = [Recipe::FromScratch, Recipe::QuickStart, Recipe::FromWeights];

    /// When it is used, for the help.
    pub fn label(self) -> &'static str {
        match self {
            Recipe::QuickStart => "built-in set",
            Recipe::FromScratch => "own data",
            Recipe::FromWeights => "with --weights",
        }
    }

    /// The recipe for a dataset (`None` is the built-in one) and whether the run starts from published weights.
    pub fn choose(data: Option<&Path>, pretrained: bool) -> Recipe {
        match (data, pretrained) {
            (_, true) => Recipe::FromWeights,
            (None, false) => Recipe::QuickStart,
            (Some(_), false) => Recipe::FromScratch,
        }
    }

    /// The configuration of a run whose flags change none of the defaults.
    pub fn config(self) -> TrainConfig {
        let own_data = TrainConfig::default();
        match self {
            Recipe::FromScratch => own_data,
            Recipe::FromWeights => TrainConfig { epochs: 50, lr0: 3e-4, ..own_data },
            Recipe::QuickStart => TrainConfig {
                epochs: 5,
                batch: 32,
                imgsz: 96,
                backbone: Backbone::Resnet18,
                lr0: 2e-3,
                warmup_epochs: 1.0,
                // A mirrored 2 is no 2.
                fliplr: 0.0,
                jitter: 0.2,
                scale: 1.0,
                ..own_data
            },
        }
    }
}
