//! Detection images whose annotators looked for some of the classes only. Of each other class the picture as a whole
//! becomes a region to ignore: a detection of it is no mistake in the metric, and no background cell there is taught.
//!
//! That leaves out more than it must: the loss ignores a cell for all classes or for none, so the background of such an image
//! teaches nothing about the classes that were looked for either. To teach those, `ops::box_loss` needs a mask per image
//! and class (an input `[N, C]`, its background pass on both devices skipping what is masked), and `losses::assign` would
//! make it from the regions made here.

use super::dataset::Images;
use super::declaration::TaskDeclaration;
use super::formats::{Raw, RawClass, Reading, Remark, Word};
use super::labels::class_number;
use super::listing::Listed;
use super::{Place, count_of, decode};
use crate::error::Result;
use crate::task::{Label, LabelledBox, Task};

/// Notes the image's size where classes were left out, for the regions that stand for them.
pub fn measure(task: &TaskDeclaration, mut reading: Reading, image: &Listed) -> Reading {
    if !matches!(reading.raw, Raw::Boxes(_)) {
        return reading;
    }
    if reading.labelled_categories.is_none() {
        let class = |name: &String| RawClass { word: Word::Name(name.clone()), line: None };
        reading.labelled_categories = task.labelled_categories.as_ref().map(|names| names.iter().map(class).collect());
    }
    if reading.labelled_categories.is_some() {
        match decode::dimensions(&image.image) {
            Ok(size) => reading.size = size,
            Err(_) => {
                reading.remarks.push((Remark::UnreadableImage, Place::new(&image.image, None)));
                reading.raw = Raw::Unlabelled;
            }
        }
    }
    reading
}

/// Adds the regions of the classes nobody looked for.
///
/// Errors: `labelled_categories` with a class that the task does not have.
pub fn apply(
    declared: &TaskDeclaration,
    task: &Task,
    readings: &[Reading],
    labels: &mut [Label],
    images: &Images,
    notes: &mut Vec<String>,
) -> Result<()> {
    let classes = task.classes();
    let (mut partial, mut whole_in_training) = (0, false);
    for (index, (reading, label)) in readings.iter().zip(labels).enumerate() {
        let Label::Boxes(boxes) = label else {
            continue;
        };
        let mut looked_for = vec![reading.labelled_categories.is_none(); classes.len()];
        for class in reading.labelled_categories.iter().flatten() {
            looked_for[class_number(declared, classes, class, &reading.place.file)?] = true;
        }
        let left_out = (0..classes.len()).filter(|class| !looked_for[*class]);
        let [width, height] = reading.size.map(|side| side as f32);
        let before = boxes.len();
        boxes.extend(left_out.map(|class| LabelledBox { class, xyxy: [0.0, 0.0, width, height], ignore: true }));
        let is_partial = boxes.len() > before;
        partial += usize::from(is_partial);
        whole_in_training |= !is_partial && index < images.ends[0];
    }
    if partial > 0 {
        notes.push(format!(
            "{}: {} annotated for some classes only: the others are neither taught nor counted there, nor is background taught",
            declared.name,
            count_of(partial, "image")
        ));
    }
    if partial > 0 && !whole_in_training {
        notes.push(format!(
            "{}: no training image is annotated for all classes, so nothing teaches what background is: label some for all, or give each class a task of its own",
            declared.name
        ));
    }
    Ok(())
}
