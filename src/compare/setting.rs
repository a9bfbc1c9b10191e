//! What a run tries: one task by itself, or all tasks with one way of balancing. Runs of one setting differ in their seed alone.

use crate::config::{Choices, TrainConfig};
use crate::error::Result;

/// What a run tries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The task that is trained by itself; `None` for a run of several tasks.
    pub single: Option<String>,
    /// In tables: `single` or the balancing method, with those of its parameters that are not at their defaults.
    pub label: String,
}

impl Setting {
    /// One task by itself.
    pub fn single(task: &str) -> Setting {
        Setting { single: Some(task.to_owned()), label: SINGLE.to_owned() }
    }

    /// The setting of a run of these tasks.
    ///
    /// # Errors
    /// Choices that cannot be written.
    pub fn of(config: &TrainConfig, tasks: &[&str]) -> Result<Setting> {
        if let [task] = tasks {
            return Ok(Setting::single(task));
        }
        let (own, default) = (Choices::of(config)?, Choices::of(&TrainConfig::default())?);
        let mut label = own.text(METHOD).unwrap_or_default();
        for key in own.keys().filter(|key| *key != METHOD && Choices::is_of_balancing(key)) {
            let text = own.text(key);
            if text != default.text(key) {
                label.push_str(&format!(", {key} {}", text.unwrap_or_default()));
            }
        }
        Ok(Setting { single: None, label })
    }

    /// Whether all tasks weigh the same: what other ways of balancing are held to.
    pub fn is_equal_weights(&self) -> bool {
        self.single.is_none() && self.label == EQUAL_WEIGHTS
    }
}

/// How a setting of one task is called.
pub const SINGLE: &str = "single";
/// The choice that names the balancing method.
pub const METHOD: &str = "balance";
/// The method that, without weights of one's own, weighs all tasks the same.
pub const EQUAL_WEIGHTS: &str = "fixed";
