//! Classes in label files: which exist, in which order, and which class a word refers to. Shared by all kinds with
//! classes.

use super::{Readings, TaskContext};
use crate::error::Result;
use crate::reading::{Raw, RawClass, Reading, Word, did_you_mean, list_some};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

/// The task's classes: the declared ones, otherwise those found in the labels.
///
/// # Errors
/// There is no class at all.
pub(super) fn classes_of(context: &TaskContext, readings: &Readings) -> Result<Vec<String>> {
    let classes = match context.names {
        Some(names) => names.to_vec(),
        None => infer_classes(readings.all, readings.class_images),
    };
    if classes.is_empty() { Err(context.no_labels()) } else { Ok(classes) }
}

/// Adds a note about classes that were inferred from the labels.
pub(super) fn note_inferred(task: &str, classes: &[String], notes: &mut Vec<String>) {
    notes.push(format!("{task}: classes taken from the labels: {}", list_some(classes, 12)));
    notes.extend(order_note(task, classes));
}

/// A note for class names whose order differs between tools: torchvision sorts `class10` before `class2`, timm the
/// other way round. Class numbers are sorted by value and need no note.
pub fn order_note(task: &str, names: &[String]) -> Option<String> {
    let mut natural = names.to_vec();
    natural.sort_by_key(|name| natural_key(name));
    (names.is_sorted() && natural != names).then(|| {
        let some = list_some(names, 4);
        format!(
            "{task}: classes are numbered in lexicographic order ({some}), as in torchvision; timm uses natural order, which differs: set the order with `names:` in a data.yaml"
        )
    })
}

fn natural_key(name: &str) -> Vec<(u64, String)> {
    let mut key = vec![(0, String::new())];
    let mut chars = name.chars().peekable();
    while let Some(&c) = chars.peek() {
        if c.is_ascii_digit() {
            let mut number = 0u64;
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                number = number.saturating_mul(10).saturating_add(u64::from(digit));
                chars.next();
            }
            key.push((number, String::new()));
        } else {
            chars.next();
            if let Some((_, text)) = key.last_mut() {
                text.push(c);
            }
        }
    }
    key
}

fn words(reading: &Reading) -> Box<dyn Iterator<Item = &RawClass> + '_> {
    match &reading.raw {
        Raw::Class(class) => Box::new(std::iter::once(class)),
        Raw::Names(classes) => Box::new(classes.iter()),
        Raw::Boxes(boxes) => Box::new(boxes.iter().map(|b| &b.class)),
        Raw::Unlabelled | Raw::Flags(_) | Raw::Values(_) => Box::new(std::iter::empty()),
    }
}

/// The distinct words of the first `class_images` images, sorted, with numbers sorted by value; class numbers up to the
/// greatest of any split.
pub fn infer_classes(readings: &[Reading], class_images: usize) -> Vec<String> {
    let mut names = BTreeSet::new();
    let mut greatest = None;
    for (i, reading) in readings.iter().enumerate() {
        for class in words(reading) {
            match &class.word {
                Word::Index(index) => greatest = greatest.max(Some(*index)),
                Word::Name(name) if i < class_images => drop(names.insert(name.to_string())),
                Word::Name(_) => {}
            }
        }
    }
    if let Some(greatest) = greatest {
        return (0..=greatest).map(|i| i.to_string()).collect();
    }
    let mut names: Vec<String> = names.into_iter().collect();
    if names.iter().all(|name| name.parse::<f64>().is_ok()) {
        names.sort_by(|a, b| {
            let number = |text: &String| text.parse::<f64>().unwrap_or(f64::NAN);
            number(a).total_cmp(&number(b))
        });
    }
    names
}

/// The numbers of a task's classes by their names, for any number of labels.
pub struct ClassNumbers<'a> {
    context: TaskContext<'a>,
    classes: &'a [String],
    by_name: HashMap<&'a str, usize>,
}

impl<'a> ClassNumbers<'a> {
    /// The numbers of these classes of a task.
    pub fn new(context: &TaskContext<'a>, classes: &'a [String]) -> ClassNumbers<'a> {
        let by_name = classes.iter().enumerate().map(|(number, name)| (name.as_str(), number)).collect();
        ClassNumbers { context: *context, classes, by_name }
    }

    /// Resolves a class name, or the number of a declared class.
    ///
    /// # Errors
    /// The task has no such class.
    pub fn of(&self, class: &RawClass, file: &Path) -> Result<usize> {
        let ClassNumbers { context, classes, by_name } = self;
        let (found, shown) = match &class.word {
            Word::Index(index) => (Some(*index), index.to_string()),
            Word::Name(name) => {
                let by_number = || name.parse().ok().filter(|_| context.names.is_some());
                (by_name.get(&**name).copied().or_else(by_number), name.to_string())
            }
        };
        found.filter(|index| *index < classes.len()).ok_or_else(|| {
            let known = format!("task `{}` knows {}", context.name, list_some(classes, 12));
            let hint = did_you_mean(&shown, classes.iter().map(String::as_str));
            let fix = match context.names {
                Some(_) => "correct it, or add it to `names:`",
                None => "the training split does not contain it: correct it, or list all classes in `names:`",
            };
            class.spot.error(file, format!("class `{shown}` is not known; {known}; {fix}{hint}"))
        })
    }
}
