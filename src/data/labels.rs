//! From what the files say to labels: class words become numbers, what is odd becomes a sentence, what is wrong an error.

use super::dataset::Images;
use super::declaration::{Kind, LabelsFrom, Missing, TaskDeclaration};
use super::formats::{Raw, RawClass, Reading, Remark, Word};
use super::listing::relative_name;
use super::{Spot, count_of, did_you_mean, list_some, loss_options, multi_label};
use crate::error::Result;
use crate::tasks::classify::Classify;
use crate::tasks::detect::Detect;
use crate::tasks::regress::Regress;
use crate::tasks::{Label, LabelledBox, LossOptions, Task};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Label files that are absent one and all are a wrong path, not a data set of background.
pub fn check_label_files(task: &TaskDeclaration, readings: &[Reading], asked: bool) -> Result<()> {
    let absent = |reading: &Reading| reading.remarks.iter().any(|(remark, _)| *remark == Remark::NoLabelFile);
    if asked || readings.is_empty() || !readings.iter().all(absent) {
        return Ok(());
    }
    let message = format!(
        "task `{}`: none of {} has a label file (looked for {}): correct `from:`, or say `missing: background` if that is meant",
        task.name,
        count_of(readings.len(), "image"),
        readings[0].place.file.display()
    );
    Err(task.place.error(message))
}

/// One sentence a kind of remark, with the first places.
pub fn remarks(task: &TaskDeclaration, readings: &[Reading], root: &Path) -> Vec<String> {
    let mut grouped: BTreeMap<u8, (&Remark, Vec<String>)> = BTreeMap::new();
    for (remark, place) in readings.iter().flat_map(|r| &r.remarks) {
        let name = relative_name(&place.file, root);
        let shown = match place.spot {
            Spot::Line(line) => format!("{name}:{line}"),
            Spot::Entry(..) => format!("{name} {}", place.spot),
            Spot::File => name,
        };
        let order = match remark {
            Remark::DegenerateBox => 0,
            Remark::DuplicateBox => 1,
            Remark::BeyondImage => 2,
            Remark::NoLabelFile => 3,
            Remark::UnreadableImage => 4,
            Remark::PartlyBlank => 5,
            Remark::NotMentioned => 6,
        };
        grouped.entry(order).or_insert((remark, Vec::new())).1.push(shown);
    }
    let sentence = |(remark, places): (&Remark, Vec<String>)| {
        let (n, some) = (places.len(), list_some(&places, 3));
        let text = match remark {
            Remark::DegenerateBox => format!("{} without width or height left out ({some})", count_of(n, "box")),
            Remark::DuplicateBox => {
                format!("{} repeated and counted once ({some})", count_of(n, "box"))
            }
            Remark::BeyondImage => {
                format!("{} reaching beyond the stated image size, clipped to the picture ({some})", count_of(n, "box"))
            }
            Remark::NoLabelFile | Remark::NotMentioned => {
                let (taken, other) = match task.missing {
                    Some(Missing::Background) => ("background", "unlabelled"),
                    _ => ("unlabelled", "background"),
                };
                let why = match remark {
                    Remark::NoLabelFile => "without a label file".to_string(),
                    _ => format!("that {} says nothing of", list_some(&distinct(&places), 3)),
                };
                let all = count_of(readings.len(), "image");
                format!("{n} of {all} {why} taken as {taken} (`missing: {other}` says otherwise)")
            }
            Remark::UnreadableImage => format!("{} that cannot be read, so unlabelled ({some})", count_of(n, "image")),
            Remark::PartlyBlank if task.kind == Kind::MultiLabel => {
                format!(
                    "{} with some of the columns blank, so unlabelled for these classes ({some})",
                    count_of(n, "row")
                )
            }
            Remark::PartlyBlank => {
                format!("{} with some of the columns blank, so unlabelled ({some})", count_of(n, "row"))
            }
        };
        format!("{}: {text}", task.name)
    };
    grouped.into_values().map(sentence).collect()
}

fn distinct(places: &[String]) -> Vec<&String> {
    places.iter().collect::<BTreeSet<_>>().into_iter().collect()
}

/// Class words become numbers; the task gets its classes, columns and units.
pub fn resolve(
    task: &TaskDeclaration,
    readings: &[Reading],
    images: &Images,
    notes: &mut Vec<String>,
) -> Result<(Task, Vec<Label>)> {
    let name = task.name.clone();
    if task.kind == Kind::MultiLabel {
        let (spec, labels) = multi_label::resolve(task, readings, images, notes)?;
        return Ok((Task::new(name, spec), labels));
    }
    if task.kind == Kind::Regress {
        let spec = regression(task, readings, images)?;
        let loss = loss_options::resolve(task, &[], &[], notes)?;
        let labels = readings.iter().map(|reading| match &reading.raw {
            Raw::Values(values) => Label::Values(values.clone()),
            _ => Label::Unlabelled,
        });
        return Ok((Task::new(name, Regress { loss: loss.values, ..spec }), labels.collect()));
    }
    let classes = match &task.names {
        Some(names) => names.clone(),
        None => infer_classes(readings, images),
    };
    check_classes(task, &classes, notes)?;
    let labels = readings.iter().map(|reading| label(task, &classes, reading)).collect::<Result<Vec<_>>>()?;
    let loss = loss_options::resolve(task, &classes, &labels[..images.ends[0]], notes)?;
    let LossOptions { class_weights, label_smoothing, .. } = loss;
    let task = match task.kind {
        Kind::Classify => Task::new(name, Classify { class_weights, label_smoothing, ..Classify::new(classes) }),
        _ => Task::new(name, Detect::new(classes)),
    };
    Ok((task, labels))
}

fn check_classes(task: &TaskDeclaration, classes: &[String], notes: &mut Vec<String>) -> Result<()> {
    if classes.is_empty() {
        let message =
            format!("task `{}`: no label in the training split: label some images, or remove the task", task.name);
        return Err(task.place.error(message));
    }
    if task.kind == Kind::Classify && classes.len() < 2 {
        let message = format!(
            "task `{}`: a single class (`{}`) cannot be told from anything: at least two are needed",
            task.name, classes[0]
        );
        return Err(task.place.error(message));
    }
    if task.names.is_none() {
        note_inferred(&task.name, classes, notes);
    }
    Ok(())
}

/// What is said of classes that the labels alone name.
pub(super) fn note_inferred(task: &str, classes: &[String], notes: &mut Vec<String>) {
    notes.push(format!("{task}: classes taken from the labels: {}", list_some(classes, 12)));
    notes.extend(order_note(task, classes));
}

/// `class10` before `class2` is what torchvision does and timm does not. Numbers stand by value, and need no word.
pub(super) fn order_note(task: &str, names: &[String]) -> Option<String> {
    let mut natural = names.to_vec();
    natural.sort_by_key(|name| natural_key(name));
    (names.is_sorted() && natural != names).then(|| {
        let some = list_some(names, 4);
        format!(
            "{task}: classes are numbered in lexicographic order ({some}), as torchvision does; natural order, as timm's, would differ: `names:` in a data.yaml fixes it"
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
        _ => Box::new(std::iter::empty()),
    }
}

/// The distinct words of the training split in order, numbers by value; indices up to the greatest of any split.
pub(super) fn infer_classes(readings: &[Reading], images: &Images) -> Vec<String> {
    let taught = if images.seeded_split { images.ends[1] } else { images.ends[0] };
    let mut names = BTreeSet::new();
    let mut greatest = None;
    for (i, reading) in readings.iter().enumerate() {
        for class in words(reading) {
            match &class.word {
                Word::Index(index) => greatest = greatest.max(Some(*index)),
                Word::Name(name) if i < taught => drop(names.insert(name.to_string())),
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

fn label(task: &TaskDeclaration, classes: &[String], reading: &Reading) -> Result<Label> {
    let number = |class: &RawClass| class_number(task, classes, class, &reading.place.file);
    Ok(match &reading.raw {
        Raw::Unlabelled | Raw::Names(_) | Raw::Flags(_) => Label::Unlabelled,
        Raw::Class(class) => Label::Class(number(class)?),
        Raw::Values(values) => Label::Values(values.clone()),
        Raw::Boxes(boxes) => {
            let labelled =
                boxes.iter().map(|b| Ok(LabelledBox { class: number(&b.class)?, xyxy: b.xyxy, ignore: b.ignore }));
            Label::boxes(labelled.collect::<Result<_>>()?)
        }
    })
}

/// A name, or the number of a declared class.
pub(super) fn class_number(task: &TaskDeclaration, classes: &[String], class: &RawClass, file: &Path) -> Result<usize> {
    let (found, shown) = match &class.word {
        Word::Index(index) => (Some(*index), index.to_string()),
        Word::Name(name) => {
            // Classes found in folders or labels are sorted, and a thousand of them too many to try one by one.
            let by_name = classes.binary_search_by(|c| (**c).cmp(name)).ok();
            let by_name = by_name.or_else(|| classes.iter().position(|c| **c == **name));
            let by_number = || name.parse().ok().filter(|_| task.names.is_some());
            (by_name.or_else(by_number), name.to_string())
        }
    };
    found.filter(|index| *index < classes.len()).ok_or_else(|| {
        let known = task.known_classes(classes);
        let hint = did_you_mean(&shown, classes.iter().map(String::as_str));
        let fix = match task.names {
            Some(_) => "correct it, or add it to `names:`",
            None => "the training split does not hold it: correct it, or list all classes in `names:`",
        };
        class.spot.error(file, format!("class `{shown}` is not known; {known}; {fix}{hint}"))
    })
}

fn regression(task: &TaskDeclaration, readings: &[Reading], images: &Images) -> Result<Regress> {
    let labelled = readings.iter().filter_map(|reading| match &reading.raw {
        Raw::Values(values) => Some((values.len(), &reading.place)),
        _ => None,
    });
    let mut lengths = labelled.clone();
    let taught = if images.seeded_split { images.ends[1] } else { images.ends[0] };
    let any_taught = readings[..taught].iter().any(|r| matches!(r.raw, Raw::Values(_)));
    let Some((length, first)) = lengths.next().filter(|_| any_taught) else {
        let message =
            format!("task `{}`: no label in the training split: label some images, or remove the task", task.name);
        return Err(task.place.error(message));
    };
    if let Some((other, place)) = labelled.clone().find(|(n, _)| *n != length) {
        let message = format!(
            "{other} values, but {length} on line {}: every row needs the same number",
            first.spot.line_number().unwrap_or(0)
        );
        return Err(place.error(message));
    }
    let written = match &task.from {
        LabelsFrom::Columns(columns) | LabelsFrom::Csv { columns, .. } => columns.as_slice(),
        _ => &[],
    };
    let columns = match written {
        [one] if length > 1 => (0..length).map(|i| format!("{one}[{i}]")).collect(),
        columns if columns.len() == length => columns.to_vec(),
        _ => (0..length).map(|i| format!("{}[{i}]", task.name)).collect(),
    };
    let units = match task.units.len() {
        0 => vec![String::new(); length],
        1 => vec![task.units[0].clone(); length],
        n if n == length => task.units.clone(),
        n => {
            let message = format!("task `{}`: {n} units for {length} values: one for all, or one each", task.name);
            return Err(task.place.error(message));
        }
    };
    Ok(Regress { units: units.into(), ..Regress::new(columns) })
}
