//! Writes polyhead's own layout, which can store every task: a folder per split with a metadata.jsonl, and a data.yaml.

use super::{Item, as_written, write_text};
use crate::data::dataset::Dataset;
use crate::data::declaration::{Declaration, Split};
use crate::data::describe::keys;
use crate::data::formats::table::Table;
use crate::error::Result;
use crate::reading::yaml::{list, scalar};
use crate::tasks::Task;
use serde_json::{Map, Value};
use std::fmt::Write as _;
use std::path::Path;

pub fn write(dir: &Path, items: &[Item], declared: &Declaration, dataset: &Dataset) -> Result<()> {
    let columns = columns(&dataset.tasks);
    let mut yaml = String::from("path: .\n");
    for split in Split::ALL.into_iter().filter(|split| items.iter().any(|item| item.split == *split)) {
        let mut lines = String::new();
        for item in items.iter().filter(|item| item.split == split) {
            let _ = writeln!(lines, "{}", line(item, dataset, &columns)); // writing to a String cannot fail
        }
        write_text(&dir.join(split.word()).join("metadata.jsonl"), &lines)?;
        let _ = writeln!(yaml, "{0}: {0}", split.word());
    }
    yaml.push_str("tasks:\n");
    for ((declaration, task), columns) in declared.tasks.iter().zip(&dataset.tasks).zip(&columns) {
        let declaration = as_written(declaration, task);
        let _ = writeln!(yaml, "  {}:", scalar(&task.name));
        for (key, value) in keys(&declaration, Some(task), Some(list(columns))) {
            let _ = writeln!(yaml, "    {key}: {value}");
        }
    }
    write_text(&dir.join("data.yaml"), &yaml)
}

/// The keys of each task's labels: its column names, or the task's name if it has no columns. If any of these is not
/// unique, they are `task.0`, `task.1` and so on.
fn columns(tasks: &[Task]) -> Vec<Vec<String>> {
    let named = |task: &Task| task.spec.columns().map_or_else(|| vec![task.name.clone()], <[String]>::to_vec);
    let all: Vec<Vec<String>> = tasks.iter().map(named).collect();
    let is_free =
        |name: &String| all.iter().flatten().filter(|other| *other == name).count() == 1 && !Table::is_key(name);
    let own = |(task, names): (&Task, &Vec<String>)| match names.iter().all(is_free) {
        true => names.clone(),
        false => (0..names.len()).map(|i| format!("{}.{i}", task.name)).collect(),
    };
    tasks.iter().zip(&all).map(own).collect()
}

/// A note for each task whose columns are renamed.
pub fn renamed(dataset: &Dataset) -> Vec<String> {
    let sentence = |(task, now): (&Task, Vec<String>)| {
        let renamed = task.spec.columns().is_some_and(|columns| columns != now);
        renamed.then(|| format!("{}: its columns are called {} now", task.name, now.join(", ")))
    };
    dataset.tasks.iter().zip(columns(&dataset.tasks)).filter_map(sentence).collect()
}

fn line(item: &Item, dataset: &Dataset, columns: &[Vec<String>]) -> Value {
    let mut line = Map::new();
    line.insert("file_name".into(), item.to.as_str().into());
    for ((task, label), columns) in dataset.tasks.iter().zip(&item.sample.labels).zip(columns) {
        let values = if label.is_labelled() { task.spec.to_json(label) } else { None };
        line.extend(columns.iter().cloned().zip(values.into_iter().flatten()));
    }
    Value::Object(line)
}
