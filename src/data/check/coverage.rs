//! What the labels of a data set say, counted: the images × tasks table, classes, boxes and values. No image is opened.

use crate::data::dataset::{Dataset, Sample, Split};
use crate::task::{Label, Task, TaskKind};
use serde::Serialize;
use std::fmt;

/// A data set's coverage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub layout: String,
    pub tasks: Vec<TaskReport>,
    /// Images of train, val and test.
    pub images: [usize; 3],
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskReport {
    pub name: String,
    pub kind: &'static str,
    /// Of train, val and test.
    pub splits: [Coverage; 3],
    /// Class names with their images (classification) or boxes (detection) in train, val and test.
    pub classes: Vec<(String, [usize; 3])>,
    /// Boxes by the square root of their area in original pixels, over all splits: the bounds of `SIZES`.
    pub box_sizes: [usize; SIZES.len() + 1],
    pub values: Vec<ValueReport>,
}

/// The three states of an image for a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Coverage {
    /// Labelled with something.
    pub labelled: usize,
    /// Labelled as holding nothing.
    pub empty: usize,
    pub unlabelled: usize,
    pub boxes: usize,
    /// Of those, regions to be ignored.
    pub ignored: usize,
    /// Images annotated for some classes only; the regions that stand for the others are no boxes.
    pub partial: usize,
}

/// One regressed value over the training split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ValueReport {
    pub name: String,
    pub unit: String,
    pub least: f32,
    pub mean: f32,
    pub greatest: f32,
}

/// Upper bounds of the box size classes; 32 and 96 are COCO's small and medium.
pub const SIZES: [f32; 5] = [16.0, 32.0, 64.0, 96.0, 192.0];

/// Counts what the labels say; opens no image.
pub fn check(dataset: &Dataset) -> Report {
    let tasks = dataset.tasks.iter().enumerate();
    Report {
        layout: dataset.layout.clone(),
        tasks: tasks.map(|(i, task)| describe(dataset, task, i)).collect(),
        images: Split::ALL.map(|split| dataset.split(split).len()),
        notes: dataset.notes.clone(),
    }
}

fn describe(dataset: &Dataset, task: &Task, at: usize) -> TaskReport {
    let mut report = TaskReport {
        name: task.name.clone(),
        kind: task.kind_word(),
        splits: [Coverage::default(); 3],
        classes: task.classes().iter().map(|name| (name.clone(), [0; 3])).collect(),
        box_sizes: [0; SIZES.len() + 1],
        values: Vec::new(),
    };
    for split in Split::ALL {
        for sample in dataset.split(split) {
            report.count(&sample.labels[at], split as usize);
        }
    }
    if let TaskKind::Regress { columns, units } = &task.kind {
        report.values = values(dataset, at, columns, units);
    }
    report
}

impl TaskReport {
    fn count(&mut self, label: &Label, split: usize) {
        let coverage = &mut self.splits[split];
        match label {
            Label::Unlabelled => coverage.unlabelled += 1,
            Label::Boxes(boxes) if boxes.is_empty() => coverage.empty += 1,
            Label::Classes(there) if !there.contains(&Some(true)) => coverage.empty += 1,
            _ => coverage.labelled += 1,
        }
        match label {
            Label::Class(class) => self.classes[*class].1[split] += 1,
            Label::Classes(there) => {
                let classes = self.classes.iter_mut().zip(there);
                classes.for_each(|(class, there)| class.1[split] += usize::from(*there == Some(true)));
            }
            Label::Boxes(boxes) => {
                coverage.partial += usize::from(!boxes.partial.is_empty());
                for b in boxes.iter() {
                    coverage.boxes += 1;
                    coverage.ignored += usize::from(b.ignore);
                    self.classes[b.class].1[split] += 1;
                    let side = crate::boxes::area(&b.xyxy).sqrt();
                    self.box_sizes[SIZES.iter().filter(|bound| side >= **bound).count()] += 1;
                }
            }
            _ => {}
        }
    }
}

fn values(dataset: &Dataset, at: usize, columns: &[String], units: &[String]) -> Vec<ValueReport> {
    let report = |(i, (name, unit)): (usize, (&String, &String))| {
        let of = |sample: &Sample| match &sample.labels[at] {
            Label::Values(values) => Some(values[i]),
            _ => None,
        };
        let values: Vec<f32> = dataset.train.iter().filter_map(of).collect();
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len().max(1) as f64;
        ValueReport {
            name: name.clone(),
            unit: unit.clone(),
            least: values.iter().copied().fold(f32::INFINITY, f32::min),
            mean: mean as f32,
            greatest: values.iter().copied().fold(f32::NEG_INFINITY, f32::max),
        }
    };
    columns.iter().zip(units).enumerate().map(report).collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.layout)?;
        writeln!(f)?;
        let width = self.tasks.iter().map(|task| task.name.len()).max().unwrap_or(0).max(4);
        writeln!(
            f,
            "{:width$}  {:14}  {:5}  {:>8}  {:>8}  {:>8}  {:>10}  {:>8}",
            "task", "kind", "split", "images", "labelled", "empty", "unlabelled", "boxes"
        )?;
        for task in &self.tasks {
            for split in Split::ALL.into_iter().filter(|split| self.images[*split as usize] > 0) {
                let c = &task.splits[split as usize];
                let images = self.images[split as usize];
                writeln!(
                    f,
                    "{:width$}  {:14}  {:5}  {:>8}  {:>8}  {:>8}  {:>10}  {:>8}",
                    task.name,
                    task.kind,
                    split.word(),
                    images,
                    c.labelled,
                    c.empty,
                    c.unlabelled,
                    c.boxes
                )?;
            }
        }
        for task in &self.tasks {
            write!(f, "{task}")?;
        }
        if !self.notes.is_empty() {
            writeln!(f)?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}

/// Classes shown before the rest is summed up.
const SHOWN_CLASSES: usize = 40;

impl fmt::Display for TaskReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.classes.is_empty() {
            let what = if self.kind == "detection" { "boxes" } else { "images" };
            writeln!(f, "\n{}: {what} per class (train / val / test)", self.name)?;
            let width = self.classes.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
            let most = self.classes.iter().map(|(_, n)| n[0]).max().unwrap_or(0).max(1);
            for (name, [train, val, test]) in self.classes.iter().take(SHOWN_CLASSES) {
                writeln!(f, "  {name:width$}  {train:>7} / {val} / {test}{}", bar(*train, most))?;
            }
            if self.classes.len() > SHOWN_CLASSES {
                writeln!(f, "  … and {} more", self.classes.len() - SHOWN_CLASSES)?;
            }
        }
        if self.box_sizes.iter().any(|n| *n > 0) {
            writeln!(f, "\n{}: boxes by the root of their area, in pixels", self.name)?;
            let most = self.box_sizes.iter().max().copied().unwrap_or(0);
            for (i, n) in self.box_sizes.iter().enumerate() {
                let from = if i == 0 { 0.0 } else { SIZES[i - 1] };
                let range = SIZES.get(i).map_or(format!("{from} and more"), |to| format!("{from} to {to}"));
                writeln!(f, "  {range:12}  {n:>7}{}", bar(*n, most))?;
            }
        }
        for v in &self.values {
            let unit = if v.unit.is_empty() { String::new() } else { format!(" {}", v.unit) };
            writeln!(f, "\n{}: {} from {} to {}, mean {:.3}{unit}", self.name, v.name, v.least, v.greatest, v.mean)?;
        }
        Ok(())
    }
}

/// Twenty-four blocks for the most, at least one for anything, and nothing for nothing.
fn bar(count: usize, most: usize) -> String {
    if count == 0 { String::new() } else { format!("  {}", "█".repeat((count * 24).div_ceil(most.max(1)))) }
}
