//! The class label of an image: mix-up, counts, and its display and JSON forms.

use super::Classify;
use crate::tasks::coverage::TaskReport;
use crate::tasks::{Label, LabelValue};
use serde_json::Value;

/// The class of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Class {
    /// The image shows the class with this number.
    One(usize),
    /// A mixture of two classes, which mix-up produces in training.
    Mixed(MixedClass),
}

/// A mixture: weight `share` for the first class, the rest for the second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MixedClass {
    /// The numbers of the two classes.
    pub classes: [usize; 2],
    /// The weight of the first class, from 0 to 1.
    pub share: f32,
}

impl LabelValue for Class {
    fn mixed(&self, other: &Label, share: f32) -> Option<Label> {
        match (self, other.get()) {
            (Class::One(first), Some(Class::One(second))) => {
                Some(Label::of(Class::Mixed(MixedClass { classes: [*first, *second], share })))
            }
            (Class::One(_) | Class::Mixed(_), _) => None,
        }
    }

    fn classes(&self) -> Option<Vec<usize>> {
        match self {
            Class::One(class) => Some(vec![*class]),
            Class::Mixed(_) => None,
        }
    }
}

/// `None` for an unlabelled image.
pub fn class_of(label: &Label) -> Option<&Class> {
    label.value()?;
    Some(label.get().unwrap_or_else(|| unreachable!("a classification's labels are classes")))
}

pub fn words(task: &Classify, label: &Label) -> Option<String> {
    class_of(label).map(|class| match class {
        Class::One(class) => task.classes[*class].clone(),
        Class::Mixed(MixedClass { classes, share }) => {
            let [first, second] = classes.map(|class| &task.classes[class]);
            format!("{share:.2} {first}, {:.2} {second}", 1.0 - share)
        }
    })
}

pub fn count(label: &Label, split: usize, report: &mut TaskReport) {
    report.splits[split].labelled += 1;
    if let Some(Class::One(class)) = class_of(label) {
        report.classes[*class].1[split] += 1;
    }
}

/// Mixed labels only arise in training and cannot be stored, so they give `None`.
pub fn to_json(task: &Classify, label: &Label) -> Option<Vec<Value>> {
    match class_of(label)? {
        Class::One(class) => Some(vec![task.classes[*class].as_str().into()]),
        Class::Mixed(_) => None,
    }
}
