//! The `tasks:` block of data.yaml: what each task is and where its labels are.

use super::declaration::{BoxFormat, Kind, LabelsFrom, Missing, TaskDeclaration};
use super::did_you_mean;
use super::yaml::Yaml;
use crate::error::Result;
use serde_yaml_ng::{Mapping, Value};
use std::path::Path;

const TASK_KEYS: [&str; 18] = [
    "type",
    "from",
    "names",
    "unit",
    "units",
    "range",
    "missing",
    "labelled_categories",
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
            missing: self.missing_of(name, kind, body)?,
            labelled_categories: self.labelled_categories(name, kind, body)?,
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

    /// `missing: background` is said of boxes.
    fn missing_of(&self, name: &str, kind: Kind, body: &Mapping) -> Result<Option<Missing>> {
        let at = ["tasks", name, "missing"];
        let missing = self.missing(body.get("missing"), &at)?;
        if missing == Some(Missing::Background) && kind != Kind::Detect {
            let message = format!("task `{name}`: `missing: background` belongs to `type: detect`: remove it");
            return Err(self.error(&at, message));
        }
        Ok(missing)
    }

    fn labelled_categories(&self, name: &str, kind: Kind, body: &Mapping) -> Result<Option<Vec<String>>> {
        let at = ["tasks", name, "labelled_categories"];
        let Some(value) = body.get("labelled_categories").filter(|v| !v.is_null()) else {
            return Ok(None);
        };
        if kind != Kind::Detect {
            let message = format!("task `{name}`: `labelled_categories:` belongs to `type: detect`: remove it");
            return Err(self.error(&at, message));
        }
        self.texts(value, &at).map(Some)
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
