//! Detection images whose annotators looked for some of the classes only. Of each other class the picture as a whole
//! becomes a region to ignore: a detection of it is no mistake in the metric, and no background cell there is taught.
//!
//! That leaves out more than it must: the loss ignores a cell for all classes or for none, so the background of such an image
//! teaches nothing about the classes that were looked for either. To teach those, `ops::box_loss` needs a mask per image
//! and class (an input `[N, C]`, its background pass on both devices skipping what is masked), and `losses::assign` would
//! make it from the regions made here.

use super::dataset::Images;
use super::declaration::TaskDeclaration;
use super::faults::Faults;
use super::formats::{Raw, RawClass, Reading, Remark, Word};
use super::labels::class_number;
use super::listing::Listed;
use super::{Place, count_of, decode};
use crate::error::Result;
use crate::task::{Label, LabelledBox, Task};

/// Notes the image's size where classes were left out, for the regions that stand for them.
pub fn measure(task: &TaskDeclaration, mut reading: Reading, image: &Listed) -> Reading {
    let is_partial = reading.labelled_categories.is_some() || task.labelled_categories.is_some();
    if is_partial && matches!(reading.raw, Raw::Boxes(_)) {
        match decode::dimensions(&image.image) {
            Ok(size) => reading.size = size.map(|side| side as u32),
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
    faults: &mut Faults,
    notes: &mut Vec<String>,
) -> Result<()> {
    let classes = task.classes();
    // Of an image that does not say for itself.
    let mut by_default = vec![declared.labelled_categories.is_none(); classes.len()];
    for name in declared.labelled_categories.iter().flatten() {
        let class = RawClass { word: Word::Name(name.as_str().into()), spot: declared.place.spot };
        let number = class_number(declared, classes, &class, &declared.place.file);
        faults.pass(number)?.into_iter().for_each(|class| by_default[class] = true);
    }
    let (mut partial, mut whole_in_training) = (0, false);
    for (index, (reading, label)) in readings.iter().zip(labels).enumerate() {
        let Label::Boxes(boxes) = label else {
            continue;
        };
        let mut own = None;
        if let Some(said) = &reading.labelled_categories {
            let looked_for = own.insert(vec![false; classes.len()]);
            for class in said {
                looked_for[class_number(declared, classes, class, &reading.place.file)?] = true;
            }
        }
        let looked_for = own.as_ref().unwrap_or(&by_default);
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
