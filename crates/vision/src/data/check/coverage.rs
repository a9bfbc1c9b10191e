//! Counts of a data set's labels: the table of images × tasks, classes, boxes and values. No image is opened.

use crate::data::dataset::Dataset;
use crate::data::declaration::Split;
use crate::error::{one_line, sentence};
use crate::tasks::coverage::TaskReport;
use serde::Serialize;
use std::fmt;

/// A data set's coverage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// A sentence that names the layout.
    pub layout: String,
    /// Each task's labels, in the data set's order.
    pub tasks: Vec<TaskReport>,
    /// The number of images in train, val and test.
    pub images: [usize; 3],
    /// Notes from opening the data set.
    pub notes: Vec<String>,
}

/// Counts the labels; opens no image.
pub fn check(dataset: &Dataset) -> Report {
    Report {
        layout: dataset.layout.clone(),
        tasks: (0..dataset.tasks.len()).map(|task| dataset.counts(task)).collect(),
        images: Split::ALL.map(|split| dataset.split(split).len()),
        notes: dataset.notes.clone(),
    }
}

impl Report {
    /// A row for each task and split; nothing if no task could be read.
    fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tasks.is_empty() {
            return Ok(());
        }
        writeln!(f)?;
        let width = self.tasks.iter().map(|task| task.name.len()).max().unwrap_or(0).max(4);
        let any_boxes = self.tasks.iter().any(|task| task.marks_boxes);
        let of_boxes = |cell: &str| if any_boxes { format!("  {cell:>8}") } else { String::new() };
        writeln!(
            f,
            "{:width$}  {:14}  {:5}  {:>8}  {:>8}  {:>8}  {:>10}{}",
            "task",
            "kind",
            "split",
            "images",
            "labelled",
            "empty",
            "unlabelled",
            of_boxes("boxes")
        )?;
        for task in &self.tasks {
            for split in Split::ALL.into_iter().filter(|split| self.images[*split as usize] > 0) {
                let c = &task.splits[split as usize];
                let images = self.images[split as usize];
                let boxes = if task.marks_boxes { c.boxes.to_string() } else { "–".into() };
                writeln!(
                    f,
                    "{:width$}  {:14}  {:5}  {:>8}  {:>8}  {:>8}  {:>10}{}",
                    task.name,
                    task.kind,
                    split.word(),
                    images,
                    c.labelled,
                    c.empty,
                    c.unlabelled,
                    of_boxes(&boxes)
                )?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", one_line(&self.layout))?;
        self.table(f)?;
        for task in &self.tasks {
            write!(f, "{task}")?;
        }
        if !self.notes.is_empty() {
            writeln!(f)?;
        }
        for note in &self.notes {
            writeln!(f, "note: {}", sentence(note))?;
        }
        Ok(())
    }
}
