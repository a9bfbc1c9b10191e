//! Turns a task's declaration and its label files into a task with a label for every image.

use super::{Label, TaskSpec};
use crate::error::{Error, Result};
use crate::reading::yaml::{Mapping, Value, Yaml};
use crate::reading::{Place, Raw, Reading};
use std::fmt::Debug;
use std::sync::Arc;

/// A task's block in data.yaml, as passed to the kind that parses it.
pub struct Block<'a> {
    /// The parsed file, for line numbers in messages.
    pub yaml: &'a Yaml,
    /// The task's name.
    pub task: &'a str,
    /// The block's keys.
    pub body: &'a Mapping,
}

impl Block<'_> {
    /// The value of a key; `None` if it is absent or null.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.body.get(key).filter(|value| !value.is_null())
    }

    /// One word or a list of words under a key.
    ///
    /// # Errors
    /// The value is anything else.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<String>>> {
        self.get(key).map(|value| self.yaml.texts(value, &["tasks", self.task, key])).transpose()
    }

    /// An error about a key. The task's name is put in front of the message.
    pub fn error(&self, key: &str, sentence: &str) -> Error {
        self.yaml.error(&["tasks", self.task, key], format!("task `{}`: {sentence}", self.task))
    }
}

/// Keys of data.yaml with their values as YAML text.
pub type Keys = Vec<(&'static str, String)>;

/// The part of a declaration that only the task's kind interprets.
pub trait Declared: Debug + Send + Sync {
    /// Its keys in the order people expect, including `reading`, the keys about how labels are read.
    fn keys(&self, reading: Keys) -> Keys {
        reading
    }

    /// The task's declaration after all its labels are written out again; `None` if it does not change.
    fn rewritten(&self, _task: &dyn TaskSpec) -> Option<Arc<dyn Declared>> {
        None
    }

    /// Whether a label needs the size of its image.
    fn needs_size(&self, _reading: &Reading) -> bool {
        false
    }

    /// For boxes: the classes that annotators looked for in images that do not list their own; `None` means all.
    fn looked_for(&self) -> Option<&[String]> {
        None
    }

    /// Determines the task's classes or columns and every image's label.
    ///
    /// # Errors
    /// The labels do not fit the declaration or each other.
    fn resolve(&self, context: &TaskContext, readings: &Readings, messages: &mut Messages) -> Result<Resolved>;

    /// The task once it is known which images train it: what depends on their labels alone. The default changes nothing.
    ///
    /// # Errors
    /// The training labels do not fit the declaration.
    fn trained(
        &self,
        _context: &TaskContext,
        task: Arc<dyn TaskSpec>,
        _training: &[&Label],
        _messages: &mut Messages,
    ) -> Result<Arc<dyn TaskSpec>> {
        Ok(task)
    }
}

/// A resolved task and one label per image.
pub type Resolved = (Arc<dyn TaskSpec>, Vec<Label>);

/// The part of a task's declaration that all kinds share.
#[derive(Clone, Copy, Debug)]
pub struct TaskContext<'a> {
    /// The task's name.
    pub name: &'a str,
    /// Class names in index order; `None` to take them from the training labels.
    pub names: Option<&'a [String]>,
    /// The columns to read, if the labels are in columns.
    pub columns: &'a [String],
    /// The place of the declaration, for messages.
    pub place: &'a Place,
}

/// The raw labels of all images, those of the training split first.
#[derive(Clone, Copy, Debug)]
pub struct Readings<'a> {
    /// One per image of the data set.
    pub all: &'a [Reading],
    /// The number of leading images whose labels may define classes: those of the training split, and of validation if
    /// it is still to be cut from training.
    pub class_images: usize,
}

impl Readings<'_> {
    /// # Errors
    /// None of the images that may define classes is labelled.
    pub fn check_labelled(&self, context: &TaskContext) -> Result<()> {
        match self.all[..self.class_images].iter().any(|reading| reading.raw != Raw::Unlabelled) {
            true => Ok(()),
            false => Err(context.no_labels()),
        }
    }
}

impl TaskContext<'_> {
    /// The error for a task without any label in the training split.
    pub fn no_labels(&self) -> Error {
        self.error("no label in the training split: label some images, or remove the task")
    }

    /// An error at the task's declaration.
    pub fn error(&self, sentence: &str) -> Error {
        self.place.error(format!("task `{}`: {sentence}", self.name))
    }
}

/// Collects notes and tolerable faults while a task is resolved.
pub struct Messages<'a> {
    /// Notes for the user, as sentences.
    pub notes: &'a mut Vec<String>,
    /// What the training images cannot teach, as sentences.
    pub problems: &'a mut Vec<String>,
    /// Takes a fault; returns it as an error if it must stop the reading.
    pub tolerate: &'a mut dyn FnMut(Error) -> Result<()>,
}
