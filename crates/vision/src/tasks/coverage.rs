//! Counts of what the labels of one task say, over the splits of a data set.

use serde::Serialize;
use std::fmt;

/// The share of a data set that has labels, and their spread, for one task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskReport {
    /// The task's name.
    pub name: String,
    /// The kind, for people.
    pub kind: &'static str,
    /// The counts of train, val and test.
    pub splits: [Coverage; 3],
    /// Class names with what of them is in train, val and test: images, or the objects of kinds that mark any.
    pub classes: Vec<(String, [usize; 3])>,
    /// Boxes by the square root of their area in original pixels, over all splits: the bounds of [`SIZES`].
    pub box_sizes: [usize; SIZES.len() + 1],
    /// One per column.
    pub values: Vec<ValueReport>,
    /// The counts by class.
    #[serde(skip)]
    pub counted: &'static str,
}

/// The three states of an image for a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Coverage {
    /// Labelled with something.
    pub labelled: usize,
    /// Labelled as holding nothing.
    pub empty: usize,
    /// Images that nobody labelled for the task.
    pub unlabelled: usize,
    /// Boxes on labelled images.
    pub boxes: usize,
    /// How many of those are regions to be ignored.
    pub ignored: usize,
    /// Images annotated for some classes only; the regions that stand for the others are no boxes.
    pub partial: usize,
}

/// One value over the training split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ValueReport {
    /// The column's name.
    pub name: String,
    /// The column's unit; empty if it has none.
    pub unit: String,
    /// The least value, in the unit.
    pub least: f32,
    /// The mean value, in the unit.
    pub mean: f32,
    /// The greatest value, in the unit.
    pub greatest: f32,
}

/// Upper bounds of the box size classes; 32 and 96 are COCO's small and medium.
pub const SIZES: [f32; 5] = [16.0, 32.0, 64.0, 96.0, 192.0];

/// Classes shown before the rest is summed up.
const SHOWN_CLASSES: usize = 40;

impl fmt::Display for TaskReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.classes.is_empty() {
            writeln!(f, "\n{}: {} per class (train / val / test)", self.name, self.counted)?;
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
