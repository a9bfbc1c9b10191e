//! The recipes: sets of default settings. Most defaults are declared at the fields of [`TrainConfig`]; this file holds what a
//! recipe changes. The values were chosen by runs on the digits and the blood cells.

use crate::config::TrainConfig;
use crate::model::Backbone;
use std::path::Path;

/// A named set of defaults for `polyhead train`, chosen from the given data and weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// The built-in digits: trains in minutes on two cores.
    QuickStart,
    /// The user's own data, with random initial weights.
    FromScratch,
    /// The user's own data, with a trunk from published weights.
    FromWeights,
}

impl Recipe {
    /// Every recipe. The first one's values are the plain defaults.
    pub const ALL: [Recipe; 3] = [Recipe::FromScratch, Recipe::QuickStart, Recipe::FromWeights];

    /// Label of the recipe in the help text.
    pub fn label(self) -> &'static str {
        match self {
            Recipe::QuickStart => "built-in set",
            Recipe::FromScratch => "own data",
            Recipe::FromWeights => "with --weights",
        }
    }

    /// The recipe for a data set (`None` is the built-in one) and for a run that does or does not start from published
    /// weights.
    pub fn choose(data: Option<&Path>, pretrained: bool) -> Recipe {
        match (data, pretrained) {
            (_, true) => Recipe::FromWeights,
            (None, false) => Recipe::QuickStart,
            (Some(_), false) => Recipe::FromScratch,
        }
    }

    /// The configuration of a run without any flags.
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
                // A mirrored 2 is not a 2.
                fliplr: 0.0,
                jitter: 0.2,
                scale: 1.0,
                ..own_data
            },
        }
    }
}
