//! An image's class as a label: how it mixes, what the loss is taught of it, what people read.

use super::Classify;
use crate::tasks::coverage::TaskReport;
use crate::tasks::{Label, LabelValue, Target, TargetArray};
use serde_json::Value;

/// The class of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Class {
    /// An image of the class with this number.
    One(usize),
    /// Two at once, of a picture that mix-up made in training.
    Mixed(MixedClass),
}

/// `share` of the first class, the rest of the second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MixedClass {
    /// Their numbers.
    pub classes: [usize; 2],
    /// Of the first, from 0 to 1.
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

/// `None` of an unlabelled image.
fn class_of(label: &Label) -> Option<&Class> {
    label.value()?;
    Some(label.get().unwrap_or_else(|| unreachable!("a classification's labels are classes")))
}

/// Of the loss's inputs: the class, of a mixed label also the other one, and the first one's part.
pub fn encode(task: &Classify, label: &Label) -> Target {
    let weight = |class: usize| task.class_weights.as_ref().map_or(1.0, |w| w[class]);
    let (class, denominator, other, part) = match class_of(label) {
        Some(Class::One(class)) => (*class as i32, weight(*class), -1, 1.0),
        Some(Class::Mixed(MixedClass { classes: [class, other], share })) => {
            let denominator = share * weight(*class) + (1.0 - share) * weight(*other);
            (*class as i32, denominator, *other as i32, *share)
        }
        None => (-1, 0.0, -1, 1.0),
    };
    let arrays = vec![TargetArray::I32(vec![class]), TargetArray::I32(vec![other]), TargetArray::F32(vec![part])];
    Target { arrays, denominator, active: class >= 0 }
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

/// No file says that a label is mixed: it is made in training.
pub fn to_json(task: &Classify, label: &Label) -> Option<Vec<Value>> {
    match class_of(label)? {
        Class::One(class) => Some(vec![task.classes[*class].as_str().into()]),
        Class::Mixed(_) => None,
    }
}
