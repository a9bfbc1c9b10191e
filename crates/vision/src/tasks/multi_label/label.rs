//! The classes of an image as a label: counts, and its display and JSON forms.

use super::MultiLabel;
use crate::tasks::coverage::TaskReport;
use crate::tasks::{Label, LabelValue};
use serde_json::Value;
use std::ops::Deref;

/// For each class of a task: present, absent, or `None` if unlabelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classes(Box<[Option<bool>]>);

impl From<Vec<Option<bool>>> for Classes {
    fn from(there: Vec<Option<bool>>) -> Classes {
        Classes(there.into())
    }
}

impl Deref for Classes {
    type Target = [Option<bool>];

    fn deref(&self) -> &[Option<bool>] {
        &self.0
    }
}

impl LabelValue for Classes {
    fn classes(&self) -> Option<Vec<usize>> {
        Some((0..self.len()).filter(|&class| self[class] == Some(true)).collect())
    }
}

/// The classes of a labelled image.
pub fn classes_of(label: &Label) -> &Classes {
    label.get().unwrap_or_else(|| unreachable!("the labels of a multi-label task are lists of classes"))
}

pub fn words(task: &MultiLabel, label: &Label) -> String {
    let said = task.classes.iter().zip(classes_of(label).iter());
    let words = said.filter_map(|(class, there)| match there {
        Some(true) => Some(class.clone()),
        Some(false) => None,
        None => Some(format!("{class}?")),
    });
    let words: Vec<String> = words.collect();
    if words.is_empty() { "none".into() } else { words.join(", ") }
}

pub fn count(label: &Label, split: usize, report: &mut TaskReport) {
    let there = classes_of(label);
    match there.contains(&Some(true)) {
        true => report.splits[split].labelled += 1,
        false => report.splits[split].empty += 1,
    }
    let classes = report.classes.iter_mut().zip(there.iter());
    classes.for_each(|(class, there)| class.1[split] += usize::from(*there == Some(true)));
}

pub fn to_json(label: &Label) -> Value {
    classes_of(label).iter().map(|there| there.map(u8::from)).collect::<Vec<_>>().into()
}
