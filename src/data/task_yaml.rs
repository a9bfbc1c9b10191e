//! The `tasks:` block of data.yaml: what each task is and where its labels are.

use super::data_yaml::yolo_rows;
use super::declaration::{BoxFormat, Kind, LabelsFrom, TaskDeclaration};
use super::did_you_mean;
use super::yaml::Yaml;
use crate::error::Result;
use serde_yaml_ng::{Mapping, Value};
use std::path::{Path, PathBuf};

const TASK_KEYS: [&str; 17] = [
    "type",
    "from",
    "names",
    "unit",
    "units",
    "range",
    "missing",
    "crop_safe",
    "flip_safe",
    "flip_invariant",
    "scale_invariant",
    "bbox_format",
    "multi_label",
    "per",
    "loss",
    "class_weights",
    "label_smoothing",
];

fn several_columns(name: &str) -> String {
    format!(
        "task `{name}`: several columns fit `type: regress`, and `multi_label: true` with labels of 0 and 1; name one"
    )
}

impl Yaml {
    pub fn tasks(
        &self,
        tasks: &Value,
        top: &Mapping,
        root: &Path,
        notes: &mut Vec<String>,
    ) -> Result<Vec<TaskDeclaration>> {
        let Some(tasks) = tasks.as_mapping().filter(|m| !m.is_empty()) else {
            let message = "`tasks:` is a block of `name: {type: classify|detect|regress, from: …}` lines";
            return Err(self.error(&["tasks"], message));
        };
        let top_names = self.top_names(top)?;
        let mut names_used = false;
        let mut declared = Vec::new();
        for (name, body) in tasks {
            let name = self.text_of(name, &["tasks"])?;
            let mut task = self.task(&name, body, top, root)?;
            if task.names.is_none() && matches!(task.from, LabelsFrom::Yolo { .. }) {
                task.names = top_names.clone();
                names_used = true;
            }
            declared.push(task);
        }
        if top_names.is_some() && !names_used {
            notes.push(format!(
                "{}: the `names:` at the top belong to no task; a detection task `objects: {{type: detect, from: {{yolo: labels}}}}` would use them",
                self.shown(&["names"])
            ));
        }
        Ok(declared)
    }

    fn task(&self, name: &str, body: &Value, top: &Mapping, root: &Path) -> Result<TaskDeclaration> {
        let at = |key: &'static str| ["tasks", name, key].map(str::to_string);
        let Some(body) = body.as_mapping() else {
            let message = format!("task `{name}` is declared as `{name}: {{type: classify|detect|regress, from: …}}`");
            return Err(self.error(&["tasks", name], message));
        };
        for key in body.keys() {
            let key = self.text_of(key, &["tasks", name])?;
            if !TASK_KEYS.contains(&key.as_str()) {
                let message = format!(
                    "task `{name}` has no key `{key}` (known: {}){}",
                    TASK_KEYS.join(", "),
                    did_you_mean(&key, TASK_KEYS)
                );
                return Err(self.error(&["tasks", name, &key], message));
            }
        }
        self.refuse_later(name, body)?;
        let kind = self.kind(name, body)?;
        let from = self.labels_from(name, kind, body, top, root)?;
        let names = match body.get("names").filter(|v| !v.is_null()) {
            Some(_) if kind == Kind::Regress => {
                let message =
                    format!("task `{name}` is a regression and has no classes: remove `names:`, or use `unit:`");
                return Err(self.error(&at("names"), message));
            }
            Some(value) => Some(self.names(value, &at("names"))?),
            None => None,
        };
        Ok(TaskDeclaration {
            kind,
            names,
            units: self.units(name, kind, body)?,
            range: self.range(name, body)?,
            missing: self.missing(body.get("missing"), &at("missing"))?,
            crop_safe: self.flag(body.get("crop_safe"), &at("crop_safe"))?,
            flip_safe: self.flip_safe(body, &["tasks", name])?,
            scale_safe: self.flag(body.get("scale_invariant"), &at("scale_invariant"))?,
            box_format: self.box_format(name, body)?,
            loss: self.loss(name, kind, body)?,
            place: self.place(&["tasks", name]),
            name: name.to_string(),
            from,
        })
    }

    /// Keys the documented layout has and this version does not follow.
    fn refuse_later(&self, name: &str, body: &Mapping) -> Result<()> {
        if body.get("per").is_some() {
            let message = "`per: objects` (a value per box) comes with a later version: leave this task out";
            return Err(self.error(&["tasks", name, "per"], format!("task `{name}`: {message}")));
        }
        Ok(())
    }

    fn kind(&self, name: &str, body: &Mapping) -> Result<Kind> {
        const WORDS: [&str; 3] = ["classify", "detect", "regress"];
        let word = match body.get("type") {
            Some(value) => self.text_of(value, &["tasks", name, "type"])?,
            None => String::new(),
        };
        let at = ["tasks", name, "multi_label"];
        let several = self.flag(body.get("multi_label"), &at)?.unwrap_or(false);
        match word.as_str() {
            "classify" if several => Ok(Kind::MultiLabel),
            "detect" | "regress" if several => {
                let message = format!("task `{name}`: `multi_label: true` belongs to `type: classify`: remove it");
                Err(self.error(&at, message))
            }
            "classify" => Ok(Kind::Classify),
            "detect" => Ok(Kind::Detect),
            "regress" => Ok(Kind::Regress),
            "" => {
                Err(self
                    .error(&["tasks", name], format!("task `{name}` needs `type: classify`, `detect` or `regress`")))
            }
            other => {
                let message = format!(
                    "task `{name}`: `type: {other}` is none of classify, detect, regress{}",
                    did_you_mean(other, WORDS)
                );
                Err(self.error(&["tasks", name, "type"], message))
            }
        }
    }

    fn labels_from(&self, name: &str, kind: Kind, body: &Mapping, top: &Mapping, root: &Path) -> Result<LabelsFrom> {
        let at = ["tasks", name, "from"];
        let wrong = |form: &str, fits: &str| {
            self.error(&at, format!("task `{name}`: `from: {form}` fits {fits}, not `type: {}`", kind.word()))
        };
        match body.get("from").filter(|v| !v.is_null()) {
            None if kind == Kind::Detect && top.contains_key("names") => {
                Ok(LabelsFrom::Yolo { dir: None, rows: yolo_rows(top) })
            }
            None => Ok(LabelsFrom::Columns(vec![name.to_string()])),
            Some(Value::String(word)) if word == "folders" => match kind {
                Kind::Classify => Ok(LabelsFrom::Folders),
                Kind::MultiLabel => {
                    let message = format!(
                        "task `{name}`: `from: folders` gives an image one class: remove `multi_label`, or name the columns of 0 and 1"
                    );
                    Err(self.error(&at, message))
                }
                _ => Err(wrong("folders", "`type: classify`")),
            },
            Some(Value::Mapping(map)) => self.labels_from_files(name, kind, map, top, root),
            Some(value) => {
                let columns = self.texts(value, &at)?;
                if columns.len() != 1 && !kind.takes_columns() {
                    return Err(self.error(&at, several_columns(name)));
                }
                Ok(LabelsFrom::Columns(columns))
            }
        }
    }

    fn labels_from_files(
        &self,
        name: &str,
        kind: Kind,
        map: &Mapping,
        top: &Mapping,
        root: &Path,
    ) -> Result<LabelsFrom> {
        const FORMS: [&str; 4] = ["csv", "yolo", "voc", "coco"];
        let at = ["tasks", name, "from"];
        let form = FORMS.iter().find(|form| map.contains_key(**form)).copied();
        let Some(form) = form else {
            let written = map.keys().next().and_then(Value::as_str).unwrap_or("").to_string();
            let message = format!(
                "task `{name}`: `from:` is a column, `folders`, {{csv: FILE, column: NAME}}, {{yolo: DIR}} or {{voc: DIR}}, not `{written}`{}",
                did_you_mean(&written, FORMS)
            );
            return Err(self.error(&at, message));
        };
        let known: &[&str] = if form == "csv" { &["csv", "column", "key"] } else { &[form] };
        for key in map.keys() {
            let key = self.text_of(key, &at)?;
            if !known.contains(&key.as_str()) {
                let message = format!(
                    "task `{name}`: `from: {{{form}: …}}` has no key `{key}`{}",
                    did_you_mean(&key, known.iter().copied())
                );
                return Err(self.error(&at, message));
            }
        }
        let fits = if form == "csv" { kind != Kind::Detect } else { kind == Kind::Detect };
        if !fits {
            let others = if form == "csv" { "`type: classify` and `regress`" } else { "`type: detect`" };
            let message = format!("task `{name}`: `from: {{{form}: …}}` fits {others}, not `type: {}`", kind.word());
            return Err(self.error(&at, message));
        }
        if form == "coco" {
            let message = format!(
                "task `{name}`: COCO files come with a later version: use {{yolo: DIR}}, {{voc: DIR}} or a metadata table"
            );
            return Err(self.error(&at, message));
        }
        let written = self.text_of(&map[form], &["tasks", name, "from", form])?;
        let path = self.existing(name, form, &written, root)?;
        match form {
            "yolo" => Ok(LabelsFrom::Yolo { dir: Some(path), rows: yolo_rows(top) }),
            "voc" => Ok(LabelsFrom::Voc { dir: path }),
            _ => {
                let columns = match map.get("column") {
                    Some(value) => self.texts(value, &at)?,
                    None => vec![name.to_string()],
                };
                if columns.len() != 1 && !kind.takes_columns() {
                    return Err(self.error(&at, several_columns(name)));
                }
                let key = map.get("key").map(|key| self.text_of(key, &at)).transpose()?;
                Ok(LabelsFrom::Csv { file: path, columns, key })
            }
        }
    }

    /// A file or folder of labels, relative to the data set, else to this file.
    fn existing(&self, name: &str, form: &str, written: &str, root: &Path) -> Result<PathBuf> {
        let beside = self.file.parent().unwrap_or(root);
        let fits = |path: &PathBuf| {
            if form == "csv" { path.is_file() } else { path.is_dir() }
        };
        let looked = root.join(written);
        [looked.clone(), beside.join(written)].into_iter().find(fits).ok_or_else(|| {
            let what = if form == "csv" { "file" } else { "folder" };
            let message = format!(
                "task `{name}`: the {what} `{written}` is not there (looked for {}): correct `{form}:`",
                looked.display()
            );
            self.error(&["tasks", name, "from", form], message)
        })
    }

    fn units(&self, name: &str, kind: Kind, body: &Mapping) -> Result<Vec<String>> {
        let Some((key, value)) = ["unit", "units"].into_iter().find_map(|key| Some((key, body.get(key)?))) else {
            return Ok(Vec::new());
        };
        if kind != Kind::Regress {
            let message = format!("task `{name}`: `{key}:` belongs to `type: regress`: remove it");
            return Err(self.error(&["tasks", name, key], message));
        }
        self.texts(value, &["tasks", name, key])
    }

    fn range(&self, name: &str, body: &Mapping) -> Result<Option<[f32; 2]>> {
        let Some(value) = body.get("range").filter(|v| !v.is_null()) else {
            return Ok(None);
        };
        let numbers: Option<Vec<f64>> = value.as_sequence().and_then(|list| list.iter().map(Value::as_f64).collect());
        match numbers.as_deref() {
            Some([low, high]) if low < high => Ok(Some([*low as f32, *high as f32])),
            _ => Err(self
                .error(&["tasks", name, "range"], "`range:` is the least and the greatest value, such as `[0, 130]`")),
        }
    }

    fn box_format(&self, name: &str, body: &Mapping) -> Result<BoxFormat> {
        let Some(value) = body.get("bbox_format") else {
            return Ok(BoxFormat::XywhAbsolute);
        };
        let at = ["tasks", name, "bbox_format"];
        match self.text_of(value, &at)?.as_str() {
            "xywh_abs" => Ok(BoxFormat::XywhAbsolute),
            "xyxy_abs" => Ok(BoxFormat::XyxyAbsolute),
            "cxcywh_norm" => Ok(BoxFormat::CxcywhNormalised),
            other => Err(self.error(&at, format!("`bbox_format: {other}` is none of xywh_abs, xyxy_abs, cxcywh_norm"))),
        }
    }
}
