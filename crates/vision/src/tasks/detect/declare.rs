//! The declaration of a detection task, and the conversion of boxes with class words to labels. If annotators looked
//! for only some of the classes in an image, the whole picture becomes a region with the list of these classes. For the
//! other classes, the loss does not train on absence there, and the metric does not count a detection as a false
//! positive. Classes that were looked for, and all drawn boxes, are trained on as usual.

use super::Detect;
use crate::error::Result;
use crate::reading::yaml::list;
use crate::reading::{Raw, RawBox, RawClass, Reading, Word, count_of, list_some};
use crate::tasks::classes::{ClassNumbers, classes_of, note_inferred};
use crate::tasks::declare::{Block, Declared, Keys, Messages, Readings, Resolved, TaskContext};
use crate::tasks::{Boxes, Label, LabelledBox, PartialRegion, PartialRegions, TaskSpec};
use std::collections::HashSet;
use std::sync::Arc;

pub const KEYS: &[&str] = &["bbox_format", "labelled_categories"];

/// The classes that were looked for in images that do not list their own; `None` means all.
#[derive(Clone, Debug, Default)]
pub struct LookedFor(Option<Vec<String>>);

pub fn declare(block: &Block) -> Result<Arc<dyn Declared>> {
    Ok(Arc::new(LookedFor(block.texts("labelled_categories")?)))
}

pub fn undeclared() -> Arc<dyn Declared> {
    Arc::new(LookedFor::default())
}

impl Declared for LookedFor {
    fn keys(&self, reading: Keys) -> Keys {
        let looked_for = self.0.as_ref().map(|names| ("labelled_categories", list(names)));
        looked_for.into_iter().chain(reading).collect()
    }

    /// The rewritten labels list the classes for every image.
    fn rewritten(&self, _: &dyn TaskSpec) -> Option<Arc<dyn Declared>> {
        Some(undeclared())
    }

    fn looked_for(&self) -> Option<&[String]> {
        self.0.as_deref()
    }

    /// The size is needed for the region that covers the image.
    fn needs_size(&self, reading: &Reading) -> bool {
        let is_partial = reading.labelled_categories.is_some() || self.0.is_some();
        is_partial && matches!(reading.raw, Raw::Boxes(_))
    }

    fn resolve(&self, context: &TaskContext, readings: &Readings, messages: &mut Messages) -> Result<Resolved> {
        let classes = classes_of(context, readings)?;
        if context.names.is_none() {
            note_inferred(context.name, &classes, messages.notes);
        }
        let numbers = ClassNumbers::new(context, &classes);
        let boxes = readings.all.iter().map(|reading| match &reading.raw {
            Raw::Boxes(raw) => labelled(&numbers, reading, raw).map(Some),
            Raw::Unlabelled | Raw::Class(_) | Raw::Names(_) | Raw::Flags(_) | Raw::Values(_) => Ok(None),
        });
        let boxes = boxes.collect::<Result<Vec<_>>>()?;
        let mut regions = Regions::new(self, context, &classes, &numbers, messages)?;
        let mut labels = Vec::with_capacity(boxes.len());
        for (reading, list) in readings.all.iter().zip(boxes) {
            labels.push(match list {
                Some(list) => {
                    let partial = regions.of(reading)?;
                    Label::of(Boxes { list, partial })
                }
                None => Label::UNLABELLED,
            });
        }
        regions.add_notes(messages.notes);
        Ok((Arc::new(Detect::new(classes)), labels))
    }

    fn trained(
        &self,
        context: &TaskContext,
        task: Arc<dyn TaskSpec>,
        training: &[&Label],
        messages: &mut Messages,
    ) -> Result<Arc<dyn TaskSpec>> {
        messages.notes.extend(never_annotated(context.name, task.classes(), training));
        Ok(task)
    }
}

fn labelled(numbers: &ClassNumbers, reading: &Reading, raw: &[RawBox]) -> Result<Vec<LabelledBox>> {
    // The list has exact capacity, because there may be a million images.
    let mut list = Vec::with_capacity(raw.len());
    for b in raw {
        let class = numbers.of(&b.class, &reading.place.file)?;
        list.push(LabelledBox { class, xyxy: b.xyxy, ignore: b.ignore });
    }
    Ok(list)
}

/// Builds the regions in which some classes were not looked for, image by image.
struct Regions<'a> {
    context: &'a TaskContext<'a>,
    classes: &'a [String],
    numbers: &'a ClassNumbers<'a>,
    /// Per class, whether it was looked for in images that do not list their own.
    by_default: Vec<bool>,
    /// Images annotated for some classes only.
    partial: usize,
    /// Class lists seen so far; images with the same list share one.
    shared: HashSet<Arc<[u32]>>,
}

impl<'a> Regions<'a> {
    /// # Errors
    /// `labelled_categories` names a class that the task does not have.
    fn new(
        declared: &LookedFor,
        context: &'a TaskContext,
        classes: &'a [String],
        numbers: &'a ClassNumbers<'a>,
        messages: &mut Messages,
    ) -> Result<Regions<'a>> {
        let mut by_default = vec![declared.0.is_none(); classes.len()];
        for name in declared.0.iter().flatten() {
            let class = RawClass { word: Word::Name(name.as_str().into()), spot: context.place.spot };
            match numbers.of(&class, &context.place.file) {
                Ok(class) => by_default[class] = true,
                Err(error) => (messages.tolerate)(error)?,
            }
        }
        Ok(Regions { context, classes, numbers, by_default, partial: 0, shared: HashSet::new() })
    }

    fn of(&mut self, reading: &Reading) -> Result<PartialRegions> {
        let mut own = None;
        if let Some(names) = &reading.labelled_categories {
            let looked_for = own.insert(vec![false; self.classes.len()]);
            for class in names {
                looked_for[self.numbers.of(class, &reading.place.file)?] = true;
            }
        }
        let looked_for = own.as_ref().unwrap_or(&self.by_default);
        if looked_for.iter().all(|looked_for| *looked_for) {
            return Ok(PartialRegions::default());
        }
        self.partial += 1;
        // A class index is far below 2^32.
        let numbers: Arc<[u32]> = (0..self.classes.len()).filter(|c| looked_for[*c]).map(|c| c as u32).collect();
        let looked_for = match self.shared.get(&numbers) {
            Some(shared) => shared.clone(),
            None => {
                self.shared.insert(numbers.clone());
                numbers
            }
        };
        let [width, height] = reading.size.map(|side| side as f32);
        Ok([PartialRegion { xyxy: [0.0, 0.0, width, height], looked_for }].into_iter().collect())
    }

    fn add_notes(self, notes: &mut Vec<String>) {
        let Regions { context: TaskContext { name, .. }, partial, .. } = self;
        if partial > 0 {
            notes.push(format!(
                "{name}: {} annotated for some classes only: the loss and the metrics ignore the other classes there",
                count_of(partial, "image")
            ));
        }
    }
}

/// A note on the classes that were looked for in none of the training images.
fn never_annotated(name: &str, classes: &[String], training: &[&Label]) -> Option<String> {
    let mut looked_for = vec![false; classes.len()];
    let mut is_labelled = false;
    for boxes in training.iter().filter_map(|label| label.boxes()) {
        is_labelled = true;
        let regions = boxes.partial.iter();
        if boxes.partial.is_empty() {
            return None;
        }
        regions.flat_map(|region| region.looked_for.iter()).for_each(|&class| looked_for[class as usize] = true);
    }
    let never: Vec<&str> = (0..classes.len()).filter(|c| !looked_for[*c]).map(|c| classes[c].as_str()).collect();
    (is_labelled && !never.is_empty()).then(|| {
        format!(
            "{name}: no training image was annotated for {}, so the model cannot learn where {} absent: label some images for all classes",
            list_some(&never, 6),
            if never.len() == 1 { "it is" } else { "they are" },
        )
    })
}
