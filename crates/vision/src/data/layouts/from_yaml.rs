//! Parses `from:` of a task in data.yaml: the format of its labels and their files.

use super::data_yaml::{DataYaml, yolo_rows};
use super::task_yaml::fitting;
use crate::archives;
use crate::data::declaration::{LabelFile, LabelsFrom, Split, YoloRows};
use crate::data::forms::{FORMS, Files, Form};
use crate::error::{Result, shown};
use crate::files;
use crate::reading::did_you_mean;
use crate::reading::yaml::{Mapping, Value};
use crate::tasks::{Content, Kind};
use std::path::{Path, PathBuf};

/// The formats that are not in the list of forms.
const OTHERS: [&str; 5] = ["csv", "yolo", "voc", "coco", "bdd"];

/// The keys of `from:` that name a format.
fn words() -> impl Iterator<Item = &'static str> {
    OTHERS.into_iter().chain(FORMS.iter().map(|form| form.word))
}

fn several_columns(name: &str) -> String {
    format!("task `{name}`: several columns fit {}; name one", fitting(|kind| kind.content.takes_columns()))
}

impl DataYaml {
    /// Parses a column, `folders`, or files in one of the formats.
    pub fn labels_from(
        &self,
        name: &str,
        kind: &Kind,
        body: &Mapping,
        top: &Mapping,
        root: &Path,
    ) -> Result<LabelsFrom> {
        let at = ["tasks", name, "from"];
        let wrong = |form: &str, fits: &str| {
            self.error(&at, format!("task `{name}`: `from: {form}` fits {fits}, not `type: {}`", kind.yaml_word))
        };
        match body.get("from").filter(|v| !v.is_null()) {
            None if kind.content == Content::Boxes && top.contains_key("names") => {
                Ok(LabelsFrom::Yolo { dir: None, rows: yolo_rows(top) })
            }
            None => Ok(LabelsFrom::Columns(vec![name.to_string()])),
            Some(Value::String(word)) if word == "folders" => match kind.content {
                Content::Class => Ok(LabelsFrom::Folders),
                Content::Classes => {
                    let message = format!(
                        "task `{name}`: `from: folders` gives an image one class: remove `multi_label`, or name the columns of 0 and 1"
                    );
                    Err(self.error(&at, message))
                }
                Content::Boxes | Content::Values => {
                    Err(wrong("folders", &fitting(|kind| kind.content == Content::Class)))
                }
            },
            Some(Value::Object(map)) => self.labels_from_files(name, kind, map, top, root),
            Some(value) => {
                let columns = self.texts(value, &at)?;
                if columns.len() != 1 && !kind.content.takes_columns() {
                    return Err(self.error(&at, several_columns(name)));
                }
                Ok(LabelsFrom::Columns(columns))
            }
        }
    }

    fn labels_from_files(
        &self,
        name: &str,
        kind: &Kind,
        map: &Mapping,
        top: &Mapping,
        root: &Path,
    ) -> Result<LabelsFrom> {
        let at = ["tasks", name, "from"];
        let form = words().find(|form| map.contains_key(*form));
        let Some(form) = form else {
            let written = map.keys().next().map_or("", String::as_str);
            let message = format!(
                "task `{name}`: `from:` is a column, `folders`, {{csv: FILE, column: NAME}}, {{yolo: DIR}}, {{voc: DIR}}, {{coco: FILE}}, {{bdd: FILE}}, or one of {} with its file or folder, not `{written}`{}",
                FORMS.iter().map(|form| form.word).collect::<Vec<_>>().join(", "),
                did_you_mean(written, words())
            );
            return Err(self.error(&at, message));
        };
        let is_form = Form::called(form).is_some();
        let known: &[&str] = match (form, kind.content) {
            ("csv", Content::Boxes) => &["csv"],
            ("csv", _) => &["csv", "column", "key"],
            ("bdd", Content::Class) => &["bdd", "attribute"],
            ("yolo", _) => &["yolo", "rows"],
            (_, Content::Class | Content::Classes | Content::Values) if is_form => &[form, "attribute"],
            _ => &[form],
        };
        for key in map.keys() {
            if !known.contains(&key.as_str()) {
                let boxes = if kind.content == Content::Boxes && form == "csv" { " of boxes" } else { "" };
                let message = format!(
                    "task `{name}`: `from: {{{form}: …}}`{boxes} has no key `{key}`{}",
                    did_you_mean(key, known.iter().copied())
                );
                return Err(self.error(&at, message));
            }
        }
        let fits = |content: Content| match form {
            "csv" => true,
            "bdd" => matches!(content, Content::Boxes | Content::Class),
            _ if Form::called(form).is_some_and(|form| form.has_tags) => true,
            _ => content == Content::Boxes,
        };
        if !fits(kind.content) {
            let others = fitting(|kind| fits(kind.content));
            let message = format!("task `{name}`: `from: {{{form}: …}}` fits {others}, not `type: {}`", kind.yaml_word);
            return Err(self.error(&at, message));
        }
        if form == "yolo" || form == "voc" {
            let written = self.text_of(&map[form], &["tasks", name, "from", form])?;
            let dir = self.existing(name, form, &written, root)?;
            return Ok(match form {
                "yolo" => LabelsFrom::Yolo { dir: Some(dir), rows: self.rows(name, map, top)? },
                _ => LabelsFrom::Voc { dir },
            });
        }
        let files = self.label_files(name, form, &map[form], root)?;
        if let Some(form) = Form::called(form) {
            let attributes = match (map.get("attribute"), kind.content) {
                (Some(value), _) => self.texts(value, &at)?,
                (None, Content::Values) => vec![name.to_string()],
                (None, Content::Boxes | Content::Class | Content::Classes) => Vec::new(),
            };
            if attributes.len() > 1 && kind.content != Content::Values {
                let fits = fitting(|kind| kind.content == Content::Values);
                let message = format!("task `{name}`: several attributes fit {fits}; name one");
                return Err(self.error(&at, message));
            }
            return Ok(LabelsFrom::Form { form, files, attributes });
        }
        match (form, kind.content) {
            ("coco", _) => Ok(LabelsFrom::Coco { files }),
            ("bdd", Content::Boxes) => Ok(LabelsFrom::Bdd { files, attribute: None }),
            ("bdd", _) => {
                let attribute = map.get("attribute").map_or(Ok(name.to_string()), |value| self.text_of(value, &at))?;
                Ok(LabelsFrom::Bdd { files, attribute: Some(attribute) })
            }
            (_, Content::Boxes) => Ok(LabelsFrom::BoxRows { files }),
            _ => {
                let columns = match map.get("column") {
                    Some(value) => self.texts(value, &["tasks", name, "from", "column"])?,
                    None => vec![name.to_string()],
                };
                if columns.len() != 1 && !kind.content.takes_columns() {
                    return Err(self.error(&at, several_columns(name)));
                }
                let key = map.get("key").map(|key| self.text_of(key, &at)).transpose()?;
                Ok(LabelsFrom::Csv { files, columns, key })
            }
        }
    }

    /// The meaning of longer YOLO rows: that of `rows:`, otherwise keypoints if the file has `kpt_shape:`.
    fn rows(&self, name: &str, map: &Mapping, top: &Mapping) -> Result<YoloRows> {
        let Some(value) = map.get("rows").filter(|value| !value.is_null()) else {
            return Ok(yolo_rows(top));
        };
        let at = ["tasks", name, "from", "rows"];
        let written = self.text_of(value, &at)?;
        let words = YoloRows::WRITTEN.map(|rows| rows.word().unwrap_or_default());
        YoloRows::WRITTEN.into_iter().find(|rows| rows.word() == Some(&written)).ok_or_else(|| {
            let hint = did_you_mean(&written, words);
            self.error(&at, format!("task `{name}`: `rows: {written}` is none of {}{hint}", words.join(", ")))
        })
    }

    /// One file, several files, or one per split.
    fn label_files(&self, name: &str, form: &str, value: &Value, root: &Path) -> Result<Vec<LabelFile>> {
        let at = ["tasks", name, "from", form];
        let file = |written: &str, split| Ok(LabelFile { path: self.existing(name, form, written, root)?, split });
        let Value::Object(map) = value else {
            return self.texts(value, &at)?.iter().map(|written| file(written, None)).collect();
        };
        let mut files = Vec::new();
        for (key, value) in map {
            let Some(split) = Split::called(key) else {
                let message =
                    format!("task `{name}`: `{form}: {{{key}: …}}` names no split: the keys are train, val and test");
                return Err(self.error(&at, message));
            };
            for written in self.texts(value, &at)? {
                files.push(file(&written, Some(split))?);
            }
        }
        Ok(files)
    }

    /// A label file or folder, relative to the data set or, failing that, to this file.
    fn existing(&self, name: &str, form: &str, written: &str, root: &Path) -> Result<PathBuf> {
        let beside = self.file.parent().unwrap_or(root);
        let of_one_image = Form::called(form).is_some_and(|form| form.files == Files::OfOneImage);
        let is_folder = form == "yolo" || form == "voc" || of_one_image;
        let fits = |path: &PathBuf| if is_folder { archives::is_dir(path) } else { archives::is_file(path) };
        let looked = root.join(written);
        let found = [looked.clone(), beside.join(written)].into_iter().find(fits);
        // Without the `.` of `./labels`, which would be shown.
        let found = found.map(|path| path.components().collect());
        found.or_else(|| (!self.is_asked(name)).then(|| looked.clone())).ok_or_else(|| {
            let what = if is_folder { "folder" } else { "file" };
            let message = match files::endless(&looked) {
                Some(other) => format!("task `{name}`: `{written}` is {other}, not a {what}: correct `{form}:`"),
                None => format!(
                    "task `{name}`: the {what} `{written}` is not there (looked for {}): correct `{form}:`",
                    shown(&looked)
                ),
            };
            self.error(&["tasks", name, "from", form], message)
        })
    }
}
