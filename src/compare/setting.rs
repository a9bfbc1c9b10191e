//! The setting of a run: one task alone, or all tasks with one balancing method. Runs of the same setting differ only in their
//! seed.

use crate::config::{Choices, TrainConfig};
use crate::error::Result;

/// The setting of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The task that is trained alone; `None` for a run of several tasks.
    pub single: Option<String>,
    /// Label in tables: `single`, or the balancing method with its parameters that are not at their defaults.
    pub label: String,
}

impl Setting {
    /// One task alone.
    pub fn single(task: &str) -> Setting {
        Setting { single: Some(task.to_owned()), label: SINGLE.to_owned() }
    }

    /// The setting of a run of these tasks.
    ///
    /// # Errors
    /// The choices cannot be written.
    pub fn of(config: &TrainConfig, tasks: &[&str]) -> Result<Setting> {
        if let [task] = tasks {
            return Ok(Setting::single(task));
        }
        let (own, default) = (Choices::of(config)?, Choices::of(&TrainConfig::default())?);
        let mut label = own.text(METHOD).unwrap_or_default();
        let belongs = |key: &&str| *key == LOSS_SCALE || (*key != METHOD && Choices::is_of_balancing(key));
        for key in own.keys().filter(belongs) {
            let text = own.text(key);
            if text != default.text(key) {
                label.push_str(&format!(", {key} {}", text.unwrap_or_default()));
            }
        }
        Ok(Setting { single: None, label })
    }

    /// Whether all tasks have the same weight. This setting is the baseline for the other methods.
    pub fn is_equal_weights(&self) -> bool {
        self.single.is_none() && self.label == EQUAL_WEIGHTS
    }
}

/// Label of the setting with one task alone.
pub const SINGLE: &str = "single";
/// The choice that names the balancing method.
pub const METHOD: &str = "balance";
/// The choice of the losses' scale, which weights the tasks against each other, too.
const LOSS_SCALE: &str = "loss_scale";
/// The method that gives all tasks the same weight unless weights are chosen.
pub const EQUAL_WEIGHTS: &str = "fixed";
