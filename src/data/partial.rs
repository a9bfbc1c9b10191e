//! Detection images whose annotators looked for some of the classes only. The picture as a whole becomes a region of the classes
//! that were looked for: of any other, a detection is no mistake in the metric, and the loss does not teach its absence. What
//! was looked for, and boxes that are drawn all the same, are taught as everywhere.

use super::dataset::Images;
use super::declaration::TaskDeclaration;
use super::faults::Faults;
use super::formats::{Raw, RawClass, Reading, Remark, Word};
use super::labels::class_number;
use super::listing::Listed;
use super::{Place, count_of, decode, list_some};
use crate::error::Result;
use crate::tasks::{Label, PartialRegion, Task};
use std::collections::HashSet;
use std::sync::Arc;

/// Notes the image's size where classes were left out, for the region that says so.
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

/// Adds the regions in which some classes were not looked for.
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
    let (mut partial, mut taught) = (0, vec![false; classes.len()]);
    // Images that say the same share it.
    let mut said: HashSet<Arc<[u32]>> = HashSet::new();
    for (index, (reading, label)) in readings.iter().zip(labels).enumerate() {
        let Label::Boxes(boxes) = label else {
            continue;
        };
        let mut own = None;
        if let Some(names) = &reading.labelled_categories {
            let looked_for = own.insert(vec![false; classes.len()]);
            for class in names {
                looked_for[class_number(declared, classes, class, &reading.place.file)?] = true;
            }
        }
        let looked_for = own.as_ref().unwrap_or(&by_default);
        if index < images.ends[0] {
            taught.iter_mut().zip(looked_for).for_each(|(taught, looked_for)| *taught |= looked_for);
        }
        if looked_for.iter().all(|looked_for| *looked_for) {
            continue;
        }
        partial += 1;
        // A class index is far below 2^32.
        let numbers: Arc<[u32]> = (0..classes.len()).filter(|c| looked_for[*c]).map(|c| c as u32).collect();
        let looked_for = match said.get(&numbers) {
            Some(shared) => shared.clone(),
            None => {
                said.insert(numbers.clone());
                numbers
            }
        };
        let [width, height] = reading.size.map(|side| side as f32);
        boxes.partial = [PartialRegion { xyxy: [0.0, 0.0, width, height], looked_for }].into_iter().collect();
    }
    if partial > 0 {
        notes.push(format!(
            "{}: {} annotated for some classes only: the others are neither taught nor counted there",
            declared.name,
            count_of(partial, "image")
        ));
    }
    let untaught: Vec<&str> = (0..classes.len()).filter(|c| !taught[*c]).map(|c| classes[c].as_str()).collect();
    if partial > 0 && !untaught.is_empty() {
        notes.push(format!(
            "{}: in no training image {} looked for, so nothing teaches what {} not: label some images for all classes",
            declared.name,
            match untaught.len() {
                1 => format!("was {}", untaught[0]),
                _ => format!("were {}", list_some(&untaught, 6)),
            },
            if untaught.len() == 1 { "it is" } else { "they are" },
        ));
    }
    Ok(())
}
