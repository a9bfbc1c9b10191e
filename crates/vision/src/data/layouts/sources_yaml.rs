//! Parses `sources:` in data.yaml: several data sets that are used together.

use super::data_yaml::{DataYaml, Purpose};
use super::{Splits, read_source, yaml_files};
use crate::data::declaration::{Declaration, SourceSet, Split, TaskDeclaration, Weight};
use crate::error::{Error, Result, shown};
use crate::reading::yaml::{Mapping, Value, word};
use crate::reading::{did_you_mean, list_some};
use std::collections::HashSet;
use std::path::{Component, Path};

const KEY: [&str; 1] = ["sources"];
const KEYS: [&str; 6] = ["path", "split", "use", "tasks", "ratio", "repeat"];
/// Keys of a data set of its own, which belong into the data.yaml of a source.
const OF_A_SOURCE: [&str; 9] = ["train", "val", "valid", "validation", "test", "names", "nc", "tasks", "group"];

/// An entry of the list, for messages.
struct Entry<'a> {
    yaml: &'a DataYaml,
    number: usize,
    path: String,
}

impl Entry<'_> {
    fn error(&self, message: impl std::fmt::Display) -> Error {
        self.yaml.error(&KEY, format!("source {} (`{}`): {message}", self.number, self.path))
    }
}

impl DataYaml {
    /// The sources, if the file lists any.
    pub fn sources(&self, top: &Mapping, root: &Path, notes: &mut Vec<String>) -> Result<Vec<SourceSet>> {
        let Some(value) = top.get("sources").filter(|value| !value.is_null()) else { return Ok(Vec::new()) };
        let Some(list) = value.as_array().filter(|list| !list.is_empty()) else {
            let form = "`sources:` is a list of data sets, each with `path:`, such as `- {path: street, ratio: 0.3}`";
            return Err(self.error(&KEY, form));
        };
        if let Some(key) = OF_A_SOURCE.iter().find(|key| top.get(**key).is_some_and(|value| !value.is_null())) {
            let message = format!(
                "`{key}:` stands beside `sources:`, and every source has its own: put it into the data.yaml of a source, or list this data set as a source, too"
            );
            return Err(self.error(&[key], message));
        }
        let mut sets: Vec<SourceSet> = Vec::new();
        for (index, value) in list.iter().enumerate() {
            let set = self.source_set(index + 1, value, top, root, notes)?;
            // The name of a folder within another source would allow two images of one name.
            let below =
                |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            let is_free = |name: &String| !sets.iter().any(|set| below(name, &set.name) || below(&set.name, name));
            let flat = set.name.replace('/', "_");
            let numbered = (2..).map(|n| format!("{flat}-{n}"));
            let free = [set.name.clone(), flat.clone()].into_iter().chain(numbered).find(is_free);
            sets.push(SourceSet { name: free.unwrap_or_default(), ..set });
        }
        self.check_ratios(&sets)?;
        Ok(sets)
    }

    fn check_ratios(&self, sets: &[SourceSet]) -> Result<()> {
        let ratios = sets.iter().filter_map(|set| match set.weight {
            Weight::Ratio(ratio) => Some(ratio),
            Weight::Repeat(_) => None,
        });
        let total: f64 = ratios.sum();
        let rest = sets.iter().find(|set| matches!(set.weight, Weight::Repeat(_)));
        match rest {
            _ if total > 1.0 + 1e-9 => {
                Err(self.error(&KEY, format!("the `ratio:` of all sources add up to {total}: expected at most 1")))
            }
            Some(set) if total > 1.0 - 1e-9 => Err(self.error(
                &KEY,
                format!("the `ratio:` of the sources add up to 1, which leaves nothing for `{}`", set.name),
            )),
            None if total < 1.0 - 1e-9 => Err(self.error(
                &KEY,
                format!("every source has a `ratio:`, and together they are {total}: expected 1, or leave one out"),
            )),
            _ => Ok(()),
        }
    }

    fn source_set(
        &self,
        number: usize,
        value: &Value,
        top: &Mapping,
        root: &Path,
        notes: &mut Vec<String>,
    ) -> Result<SourceSet> {
        let none = Mapping::new();
        let map = value.as_object().unwrap_or(&none);
        let path = value.as_str().map(str::to_owned).or_else(|| map.get("path").and_then(word));
        let entry = Entry { yaml: self, number, path: path.clone().unwrap_or_default() };
        if let Some(key) = map.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(entry.error(format!(
                "`{key}` is not a key of a source (known: {}){}",
                KEYS.join(", "),
                did_you_mean(key, KEYS)
            )));
        }
        let path = path.ok_or_else(|| entry.error("expected `path:`, a folder in any layout or a data.yaml"))?;
        let place = root.join(&path);
        if !place.exists() {
            return Err(entry.error(format!("it is not there (looked for {})", shown(&place))));
        }
        let renamed = renamed(&entry, map)?;
        let asked: Vec<String> = match &renamed {
            None => self.asked.clone(),
            Some(names) => names.iter().filter(|(_, new)| self.is_asked(new)).map(|(own, _)| own.clone()).collect(),
        };
        let judged = self.purpose == Purpose::Judging;
        let nested = || entry.error("it lists `sources:` itself: list those here");
        // Checked before it is read, because it may be this file.
        if yaml_files::lists_sources(&place) {
            return Err(nested());
        }
        let mut declared = read_source(&place, &asked, judged, self.evidence)?;
        if !declared.sources.is_empty() {
            return Err(nested());
        }
        self.choose_split(&entry, map, &mut declared, notes)?;
        if let Some(renamed) = renamed {
            declared.tasks = chosen_tasks(&entry, &renamed, declared.tasks)?;
        }
        for task in &mut declared.tasks {
            self.inherit(top, task)?;
        }
        let parts = Path::new(&path).components().filter_map(|part| match part {
            Component::Normal(part) => Some(part.to_string_lossy().into_owned()),
            _ => None,
        });
        let name = parts.collect::<Vec<_>>().join("/");
        let mut written = map.clone();
        let absolute = place.canonicalize().map_err(Error::io("find", &place))?;
        written.insert("path".into(), absolute.to_string_lossy().into());
        Ok(SourceSet {
            name: if name.is_empty() { format!("source-{number}") } else { name },
            declared,
            weight: weight(&entry, map)?,
            undivided: map.get("use").is_some_and(|value| !value.is_null()),
            written: Value::Object(written),
        })
    }

    /// Replaces the splits of a source by those of `split:`, or uses all its images for one.
    fn choose_split(
        &self,
        entry: &Entry,
        map: &Mapping,
        declared: &mut Declaration,
        notes: &mut Vec<String>,
    ) -> Result<()> {
        let get = |key: &str| map.get(key).filter(|value| !value.is_null());
        match (get("split"), get("use")) {
            (None, None) => Ok(()),
            (Some(_), Some(_)) => Err(entry.error("`split:` and `use:` exclude each other: remove one")),
            (None, Some(value)) => {
                let split = value.as_str().and_then(Split::called);
                let split = split.ok_or_else(|| entry.error("`use:` is train, val or test"))?;
                let all = std::mem::take(&mut declared.splits).into_iter().flatten().collect();
                declared.splits[split as usize] = all;
                Ok(())
            }
            (Some(value), None) => {
                let form = "`split:` is a block such as `{train: images/train, val: images/val}`";
                let mut splits: Splits = Default::default();
                for (key, value) in value.as_object().ok_or_else(|| entry.error(form))? {
                    let split = Split::called(key).ok_or_else(|| entry.error(form))?;
                    for name in self.texts(value, &KEY)? {
                        let source = self.source(key, &name, &declared.root, notes);
                        splits[split as usize].push(source.map_err(|message| entry.error(message))?);
                    }
                }
                declared.splits = splits;
                Ok(())
            }
        }
    }
}

/// The tasks that `tasks:` chooses: their own names, and their names here.
fn renamed(entry: &Entry, map: &Mapping) -> Result<Option<Vec<(String, String)>>> {
    let form = "`tasks:` is a list of names, or a block `{own name: name here}`";
    let pairs: Option<Vec<(String, String)>> = match map.get("tasks").filter(|value| !value.is_null()) {
        None => return Ok(None),
        Some(Value::Array(list)) => list.iter().map(|name| word(name).map(|name| (name.clone(), name))).collect(),
        Some(Value::Object(map)) => map.iter().map(|(own, new)| Some((own.clone(), word(new)?))).collect(),
        Some(_) => None,
    };
    let pairs = pairs.filter(|pairs| !pairs.is_empty()).ok_or_else(|| entry.error(form))?;
    let mut seen = HashSet::new();
    match pairs.iter().find(|(_, new)| !seen.insert(new.as_str())) {
        Some((_, new)) => Err(entry.error(format!("`tasks:` calls two tasks `{new}`"))),
        None => Ok(Some(pairs)),
    }
}

fn chosen_tasks(
    entry: &Entry,
    renamed: &[(String, String)],
    mut tasks: Vec<TaskDeclaration>,
) -> Result<Vec<TaskDeclaration>> {
    let mut chosen = Vec::new();
    for (own, new) in renamed {
        let Some(at) = tasks.iter().position(|task| task.name == *own) else {
            let known: Vec<&str> = tasks.iter().map(|task| task.name.as_str()).collect();
            let hint = did_you_mean(own, known.iter().copied());
            return Err(entry.error(format!("it has no task `{own}`; its tasks are {}{hint}", list_some(&known, 12))));
        };
        chosen.push(TaskDeclaration { name: new.clone(), ..tasks.remove(at) });
    }
    Ok(chosen)
}

fn weight(entry: &Entry, map: &Mapping) -> Result<Weight> {
    let get = |key: &str| map.get(key).filter(|value| !value.is_null());
    match (get("ratio"), get("repeat")) {
        (None, None) => Ok(Weight::Repeat(1.0)),
        (Some(_), Some(_)) => Err(entry.error("`ratio:` and `repeat:` exclude each other: remove one")),
        (Some(value), None) => {
            match value.as_f64() {
                Some(ratio) if ratio > 0.0 && ratio <= 1.0 => Ok(Weight::Ratio(ratio)),
                _ => Err(entry
                    .error("`ratio:` is the share of its images in every batch, above 0 and at most 1, such as 0.3")),
            }
        }
        (None, Some(value)) => match value.as_f64() {
            Some(repeat) if repeat > 0.0 && repeat <= 1e6 => Ok(Weight::Repeat(repeat)),
            _ => Err(entry.error("`repeat:` is a number above 0, such as 2 to show its images twice as often")),
        },
    }
}
