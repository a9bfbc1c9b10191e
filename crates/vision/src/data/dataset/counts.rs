//! Counts each task's labels, and names classes that no validation image has.

use super::Dataset;
use crate::data::declaration::Split;
use crate::reading::list_some;
use crate::tasks::Content;
use crate::tasks::coverage::{Coverage, SIZES, TaskReport};

impl Dataset {
    /// The counts of task number `at`; opens no image.
    pub(crate) fn counts(&self, at: usize) -> TaskReport {
        let task = &self.tasks[at];
        let mut report = TaskReport {
            name: task.name.clone(),
            kind: task.kind_word(),
            splits: [Coverage::default(); 3],
            classes: task.classes().iter().map(|name| (name.clone(), [0; 3])).collect(),
            box_sizes: [0; SIZES.len() + 1],
            values: Vec::new(),
            marks_boxes: task.spec.kind().content == Content::Boxes,
        };
        for split in Split::ALL {
            for label in self.split(split).iter().map(|sample| &sample.labels[at]) {
                match label.is_labelled() {
                    true => task.spec.count(label, split as usize, &mut report),
                    false => report.splits[split as usize].unlabelled += 1,
                }
            }
        }
        task.spec.summarise(&mut self.train.iter().map(|sample| &sample.labels[at]), &mut report);
        report
    }

    /// A sentence for each task with classes that only validation or test images have.
    pub(super) fn absent_from_training(&self) -> Vec<String> {
        if self.train.is_empty() {
            return Vec::new();
        }
        let with_classes = (0..self.tasks.len()).filter(|task| !self.tasks[*task].classes().is_empty());
        let sentence = |task: usize| {
            let report = self.counts(task);
            let is_absent = |(_, counts): &&(String, [usize; 3])| counts[0] == 0 && counts[1] + counts[2] > 0;
            let absent: Vec<&str> = report.classes.iter().filter(is_absent).map(|(class, _)| class.as_str()).collect();
            let which = match &absent[..] {
                [] => return None,
                [one] => format!("`{one}`, which validation or test images have: the model cannot learn it"),
                several => format!(
                    "any of {} classes that validation or test images have ({}): the model cannot learn them",
                    several.len(),
                    list_some(several, 6)
                ),
            };
            Some(format!("{}: no training image has {which}; add training images, or take the class out", report.name))
        };
        with_classes.filter_map(sentence).collect()
    }

    /// A note for each task with classes that are in the training images and in none of the validation images.
    pub(super) fn absent_from_validation(&self) -> Vec<String> {
        let with_classes = (0..self.tasks.len()).filter(|task| !self.tasks[*task].classes().is_empty());
        let note = |task: usize| {
            let report = self.counts(task);
            let [train, val, _] = Split::ALL.map(|split| split as usize);
            let is_absent = |(_, counts): &&(String, [usize; 3])| counts[train] > 0 && counts[val] == 0;
            let absent: Vec<&str> = report.classes.iter().filter(is_absent).map(|(class, _)| class.as_str()).collect();
            let which = match &absent[..] {
                [] => return None,
                [one] => format!("the class `{one}`, so the metrics leave it out"),
                several => {
                    format!(
                        "one of {} classes ({}), so the metrics leave them out",
                        several.len(),
                        list_some(several, 6)
                    )
                }
            };
            Some(format!(
                "{}: no validation image has {which}: give the data set a validation split, or choose another --val-fraction or --seed",
                report.name
            ))
        };
        with_classes.filter_map(note).collect()
    }
}
