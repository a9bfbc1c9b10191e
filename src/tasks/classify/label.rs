//! An image's class as a label: what the loss is taught of it, what people read.

use super::Classify;
use crate::tasks::coverage::TaskReport;
use crate::tasks::{Label, MixedClass, Target, TargetArray};
use serde_json::Value;

/// Of the loss's inputs: the class, of a mixed label also the other one, and the first one's part.
pub fn encode(task: &Classify, label: &Label) -> Target {
    let weight = |class: usize| task.class_weights.as_ref().map_or(1.0, |w| w[class]);
    let (class, denominator, other, part) = match label {
        Label::Class(class) => (*class as i32, weight(*class), -1, 1.0),
        Label::Mixed(MixedClass { classes: [class, other], share }) => {
            let denominator = share * weight(*class) + (1.0 - share) * weight(*other);
            (*class as i32, denominator, *other as i32, *share)
        }
        _ => (-1, 0.0, -1, 1.0),
    };
    let arrays = vec![TargetArray::I32(vec![class]), TargetArray::I32(vec![other]), TargetArray::F32(vec![part])];
    Target { arrays, denominator, active: class >= 0 }
}

pub fn words(task: &Classify, label: &Label) -> String {
    match label {
        Label::Class(class) => task.classes[*class].clone(),
        Label::Mixed(MixedClass { classes, share }) => {
            let [first, second] = classes.map(|class| &task.classes[class]);
            format!("{share:.2} {first}, {:.2} {second}", 1.0 - share)
        }
        _ => unreachable!("a classification's labels are classes"),
    }
}

pub fn count(label: &Label, split: usize, report: &mut TaskReport) {
    report.splits[split].labelled += 1;
    if let Label::Class(class) = label {
        report.classes[*class].1[split] += 1;
    }
}

/// No file says that a label is mixed: it is made in training.
pub fn to_json(task: &Classify, label: &Label) -> Option<Vec<Value>> {
    match label {
        Label::Class(class) => Some(vec![task.classes[*class].as_str().into()]),
        _ => None,
    }
}
