//! The making of a task: from what a declaration says of it and the label files to a task with a label for every image.

use super::{Label, TaskSpec};
use crate::error::{Error, Result};
use crate::reading::yaml::{Mapping, Value, Yaml};
use crate::reading::{Place, Raw, Reading};
use std::fmt::Debug;
use std::sync::Arc;

/// A task's block in data.yaml, as far as its kind reads it.
pub struct Block<'a> {
    /// The file, for its lines.
    pub yaml: &'a Yaml,
    /// The task's name.
    pub task: &'a str,
    /// The block's keys.
    pub body: &'a Mapping,
}

impl Block<'_> {
    /// The value under a key; nothing if it is null.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.body.get(key).filter(|value| !value.is_null())
    }

    /// One word or several under a key.
    ///
    /// # Errors
    /// Something else.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<String>>> {
        self.get(key).map(|value| self.yaml.texts(value, &["tasks", self.task, key])).transpose()
    }

    /// A sentence about a key: the task's name goes before it.
    pub fn error(&self, key: &str, sentence: &str) -> Error {
        self.yaml.error(&["tasks", self.task, key], format!("task `{}`: {sentence}", self.task))
    }
}

/// Keys of data.yaml with their values as YAML.
pub type Keys = Vec<(&'static str, String)>;

/// The part of a declaration that only the task's kind understands.
pub trait Declared: Debug + Send + Sync {
    /// Its keys, with `reading`, those that say how the labels are read, in the place where people expect them.
    fn keys(&self, reading: Keys) -> Keys {
        reading
    }

    /// The declaration of the task once all its labels are written anew; `None` if that is the same.
    fn rewritten(&self, _task: &dyn TaskSpec) -> Option<Arc<dyn Declared>> {
        None
    }

    /// Whether a label needs the size of its image.
    fn needs_size(&self, _reading: &Reading) -> bool {
        false
    }

    /// Settles the task and gives every image its label.
    ///
    /// # Errors
    /// Labels that do not fit the declaration or each other.
    fn resolve(&self, asked: &Asked, readings: &Readings, heard: &mut Heard) -> Result<Resolved>;
}

/// A settled task, and one label for each image.
pub type Resolved = (Arc<dyn TaskSpec>, Vec<Label>);

/// The part of a declaration that tasks of all kinds have.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The task's name.
    pub name: &'a str,
    /// Class names in index order; without them, what the training labels hold.
    pub names: Option<&'a [String]>,
    /// The columns that are read, where labels stand in columns.
    pub columns: &'a [String],
    /// Where it is declared, for messages.
    pub place: &'a Place,
}

/// The readings of all images, those of the training split first.
#[derive(Clone, Copy, Debug)]
pub struct Readings<'a> {
    /// One per image of the data set.
    pub all: &'a [Reading],
    /// Images of the training split.
    pub training: usize,
    /// The first so many images may name classes: those of the training split, and of validation where it was cut from it.
    pub taught: usize,
}

impl Readings<'_> {
    /// # Errors
    /// None of the images that teach is labelled.
    pub fn check_taught(&self, asked: &Asked) -> Result<()> {
        match self.all[..self.taught].iter().any(|reading| reading.raw != Raw::Unlabelled) {
            true => Ok(()),
            false => Err(asked.untaught()),
        }
    }
}

impl Asked<'_> {
    /// Nothing in the training split teaches the task.
    pub fn untaught(&self) -> Error {
        self.error("no label in the training split: label some images, or remove the task")
    }

    /// A sentence about the task as declared.
    pub fn error(&self, sentence: &str) -> Error {
        self.place.error(format!("task `{}`: {sentence}", self.name))
    }
}

/// The channels for notes and tolerable faults while a task is settled.
pub struct Heard<'a> {
    /// Sentences.
    pub notes: &'a mut Vec<String>,
    /// Takes a fault that need not end the reading, and gives it back where it does.
    pub tolerate: &'a mut dyn FnMut(Error) -> Result<()>,
}
