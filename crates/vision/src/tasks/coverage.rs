//! Counts of one task's labels over the splits of a data set.

use super::written::decimals;
use crate::error::one_line;
use crate::reading::cut;
use serde::Serialize;
use std::fmt;

/// The share of a data set that is labelled for one task, and the distribution of the labels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskReport {
    /// The task's name.
    pub name: String,
    /// The kind's title, for display.
    pub kind: &'static str,
    /// The counts of train, val and test.
    pub splits: [Coverage; 3],
    /// Class names with their counts in train, val and test: objects for kinds that mark objects, otherwise images.
    pub classes: Vec<(String, [usize; 3])>,
    /// Boxes of all splits by the square root of their area in original pixels; [`SIZES`] holds the upper bounds.
    pub box_sizes: [usize; SIZES.len() + 1],
    /// One per column.
    pub values: Vec<ValueReport>,
    /// Whether the labels are boxes, so that boxes are counted instead of images.
    #[serde(skip)]
    pub marks_boxes: bool,
}

/// The state of the images for a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Coverage {
    /// Images labelled with something.
    pub labelled: usize,
    /// Images labelled as empty.
    pub empty: usize,
    /// Images without a label for the task.
    pub unlabelled: usize,
    /// Boxes on labelled images.
    pub boxes: usize,
    /// The boxes among them that are ignored regions.
    pub ignored: usize,
    /// Images annotated for some classes only. The ignored regions for the other classes are not counted as boxes.
    pub partial: usize,
}

/// One column of values over the training split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ValueReport {
    /// The column's name.
    pub name: String,
    /// The column's unit; empty if it has none.
    pub unit: String,
    /// The least value, in the unit.
    pub least: f64,
    /// The mean value, in the unit.
    pub mean: f64,
    /// The greatest value, in the unit.
    pub greatest: f64,
}

/// Upper bounds of the box size classes; 32 and 96 are COCO's small and medium.
pub const SIZES: [f32; 5] = [16.0, 32.0, 64.0, 96.0, 192.0];

/// At most this many classes are shown; the rest is summed up.
const SHOWN_CLASSES: usize = 40;

impl fmt::Display for TaskReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.classes.is_empty() {
            let counted = if self.marks_boxes { "boxes" } else { "images" };
            writeln!(f, "\n{}: {counted} per class (train / val / test)", self.name)?;
            let names: Vec<String> =
                self.classes.iter().take(SHOWN_CLASSES).map(|(name, _)| cut(&one_line(name))).collect();
            let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
            let most = self.classes.iter().map(|(_, n)| n[0]).max().unwrap_or(0).max(1);
            for (name, (_, [train, val, test])) in names.iter().zip(&self.classes) {
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
            let unit = if v.unit.is_empty() { String::new() } else { format!(" {}", one_line(&v.unit)) };
            let mean = match v.greatest - v.least {
                0.0 => v.mean.to_string(),
                spread => format!("{:.*}", decimals(1e-4 * spread).max(3), v.mean),
            };
            writeln!(
                f,
                "\n{}: {} from {} to {}, mean {mean}{unit}",
                self.name,
                one_line(&v.name),
                v.least,
                v.greatest
            )?;
        }
        Ok(())
    }
}

/// A bar of at most 24 blocks: 24 for the largest count, at least one for any other count above 0, none for 0.
fn bar(count: usize, most: usize) -> String {
    if count == 0 { String::new() } else { format!("  {}", "█".repeat((count * 24).div_ceil(most.max(1)))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_has_the_digits_of_its_column() {
        let shown = |least: f64, mean: f64, greatest: f64| {
            let value = ValueReport { name: "v".into(), unit: "m".into(), least, mean, greatest };
            let report = TaskReport {
                name: "t".into(),
                kind: "regression",
                splits: [Coverage::default(); 3],
                classes: Vec::new(),
                box_sizes: [0; SIZES.len() + 1],
                values: vec![value],
                marks_boxes: false,
            };
            report.to_string().trim().to_owned()
        };
        assert_eq!(shown(0.0, 10.9472, 25.0), "t: v from 0 to 25, mean 10.947 m");
        assert_eq!(shown(7e-7, 7.123_456_7e-7, 9e-7), "t: v from 0.0000007 to 0.0000009, mean 0.00000071235 m");
        assert_eq!(shown(5.0, 5.0, 5.0), "t: v from 5 to 5, mean 5 m");
    }
}
