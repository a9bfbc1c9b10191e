//! Our own layout, which holds every task: a folder a split with its metadata.jsonl, and a data.yaml.

use super::{Item, as_written, number, write_text, xywh};
use crate::data::dataset::{Dataset, Split};
use crate::data::declaration::{Declaration, TaskDeclaration};
use crate::data::describe::{keys, list, scalar};
use crate::data::formats::table::Table;
use crate::error::Result;
use crate::task::{Boxes, Label, Task, TaskKind};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::path::Path;

pub fn write(dir: &Path, items: &[Item], declared: &Declaration, dataset: &Dataset) -> Result<()> {
    let columns = columns(&dataset.tasks);
    let mut yaml = String::from("path: .\n");
    for split in Split::ALL.into_iter().filter(|split| items.iter().any(|item| item.split == *split)) {
        let mut lines = String::new();
        for item in items.iter().filter(|item| item.split == split) {
            let _ = writeln!(lines, "{}", line(item, dataset, &columns)); // a String takes everything
        }
        write_text(&dir.join(split.word()).join("metadata.jsonl"), &lines)?;
        let _ = writeln!(yaml, "{0}: {0}", split.word());
    }
    yaml.push_str("tasks:\n");
    for ((declaration, task), columns) in declared.tasks.iter().zip(&dataset.tasks).zip(&columns) {
        let units = match &task.kind {
            TaskKind::Regress { units, .. } if units.iter().any(|unit| !unit.is_empty()) => units.clone(),
            _ => Vec::new(),
        };
        let declaration = TaskDeclaration { units, ..as_written(declaration) };
        let _ = writeln!(yaml, "  {}:", scalar(&task.name));
        for (key, value) in keys(&declaration, Some(task), Some(list(columns))) {
            let _ = writeln!(yaml, "    {key}: {value}");
        }
    }
    write_text(&dir.join("data.yaml"), &yaml)
}

/// The keys each task's labels stand under: the task's name, or of a regression its columns' where all of them are free.
fn columns(tasks: &[Task]) -> Vec<Vec<String>> {
    let named = |task: &Task| match &task.kind {
        TaskKind::Regress { columns, .. } => columns.clone(),
        _ => vec![task.name.clone()],
    };
    let all: Vec<Vec<String>> = tasks.iter().map(named).collect();
    let is_free =
        |name: &String| all.iter().flatten().filter(|other| *other == name).count() == 1 && !Table::is_key(name);
    let own = |(task, names): (&Task, &Vec<String>)| match names.iter().all(is_free) {
        true => names.clone(),
        false => (0..names.len()).map(|i| format!("{}.{i}", task.name)).collect(),
    };
    tasks.iter().zip(&all).map(own).collect()
}

/// A sentence for each regression whose columns get other names.
pub fn renamed(dataset: &Dataset) -> Vec<String> {
    let sentence = |(task, now): (&Task, Vec<String>)| match &task.kind {
        TaskKind::Regress { columns, .. } if *columns != now => {
            Some(format!("{}: its columns are called {} now", task.name, now.join(", ")))
        }
        _ => None,
    };
    dataset.tasks.iter().zip(columns(&dataset.tasks)).filter_map(sentence).collect()
}

fn line(item: &Item, dataset: &Dataset, columns: &[Vec<String>]) -> Value {
    let mut line = Map::new();
    line.insert("file_name".into(), item.to.as_str().into());
    for ((task, label), columns) in dataset.tasks.iter().zip(&item.sample.labels).zip(columns) {
        let classes = task.classes();
        let value = match label {
            // No file says `Mixed`: it is made in training.
            Label::Unlabelled | Label::Mixed(_) => continue,
            Label::Class(class) => classes[*class].as_str().into(),
            Label::Classes(there) => there.iter().map(|there| there.map(u8::from)).collect::<Vec<_>>().into(),
            Label::Boxes(boxes) => objects(boxes, classes),
            Label::Values(values) => {
                line.extend(columns.iter().cloned().zip(values.iter().map(|v| number(*v))));
                continue;
            }
        };
        line.insert(columns[0].clone(), value);
    }
    Value::Object(line)
}

/// As Hugging Face writes boxes, which of them are to be ignored where some are, and what was looked for where not all was.
fn objects(boxes: &Boxes, classes: &[String]) -> Value {
    let corners = boxes.iter().map(|b| xywh(&b.xyxy));
    let categories: Vec<&str> = boxes.iter().map(|b| classes[b.class].as_str()).collect();
    let mut objects = json!({"bbox": corners.collect::<Vec<_>>(), "categories": categories});
    if boxes.iter().any(|b| b.ignore) {
        objects["ignore"] = boxes.iter().map(|b| b.ignore).collect();
    }
    // Of a file's image the one region is the whole of it.
    if let Some(region) = boxes.partial.first() {
        let names = region.looked_for.iter().map(|&class| classes[class as usize].as_str());
        objects["labelled_categories"] = names.collect();
    }
    objects
}
