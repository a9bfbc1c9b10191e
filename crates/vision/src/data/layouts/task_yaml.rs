//! Parses the `tasks:` block of data.yaml: each task's kind and the source of its labels.

use super::data_yaml::DataYaml;
use crate::data::declaration::{LabelsFrom, TaskDeclaration};
use crate::error::Result;
use crate::reading::yaml::{Mapping, Value};
use crate::reading::{BoxFormat, Missing, did_you_mean};
use crate::tasks::{Block, Content, KINDS, Kind};
use std::path::Path;

/// Keys that every task may have; a kind adds its own.
const TASK_KEYS: [&str; 9] =
    ["type", "from", "names", "missing", "crop_safe", "flip_safe", "flip_invariant", "scale_invariant", "per"];

/// All keys that tasks of any kind may have.
fn known_keys() -> Vec<&'static str> {
    let of_kinds = KINDS.iter().flat_map(|kind| kind.flag.iter().chain(kind.keys).copied());
    TASK_KEYS.into_iter().chain(of_kinds).collect()
}

/// The words allowed for `type:`, without repetition.
fn type_words() -> Vec<&'static str> {
    // With its flag set, the same word means another kind.
    KINDS.iter().filter(|kind| kind.flag.is_none()).map(|kind| kind.yaml_word).collect()
}

/// The data.yaml words for the kinds that fit, for use in a message.
pub fn fitting(fits: impl Fn(&Kind) -> bool) -> String {
    let fitting: Vec<&str> = KINDS.iter().filter(|kind| fits(kind)).map(|kind| kind.declared_as).collect();
    fitting.join(" or ")
}

impl DataYaml {
    pub fn tasks(
        &self,
        tasks: &Value,
        top: &Mapping,
        root: &Path,
        notes: &mut Vec<String>,
    ) -> Result<Vec<TaskDeclaration>> {
        let Some(tasks) = tasks.as_object().filter(|m| !m.is_empty()) else {
            let types = type_words().join("|");
            let message = format!("`tasks:` is a block of `name: {{type: {types}, from: …}}` lines");
            return Err(self.error(&["tasks"], message));
        };
        let top_names = self.top_names(top)?;
        let mut names_used = false;
        let mut declared = Vec::new();
        for (name, body) in tasks {
            let mut task = self.task(name, body, top, root)?;
            if task.names.is_none() && matches!(task.from, LabelsFrom::Yolo { .. }) {
                task.names = top_names.clone();
                names_used = true;
            }
            declared.push(task);
        }
        if top_names.is_some() && !names_used {
            notes.push(format!(
                "{}: the `names:` at the top belong to no task; a {} task `objects: {{type: {}, from: {{yolo: labels}}}}` would use them",
                self.shown(&["names"]),
                Content::Boxes.kind().title,
                Content::Boxes.kind().yaml_word
            ));
        }
        Ok(declared)
    }

    fn task(&self, name: &str, body: &Value, top: &Mapping, root: &Path) -> Result<TaskDeclaration> {
        let at = |key: &'static str| ["tasks", name, key].map(str::to_string);
        let Some(body) = body.as_object() else {
            let types = type_words().join("|");
            let message = format!("task `{name}` is declared as `{name}: {{type: {types}, from: …}}`");
            return Err(self.error(&["tasks", name], message));
        };
        let known = known_keys();
        for key in body.keys() {
            if !known.contains(&key.as_str()) {
                let message = format!(
                    "task `{name}` has no key `{key}` (known: {}){}",
                    known.join(", "),
                    did_you_mean(key, known)
                );
                return Err(self.error(&["tasks", name, key], message));
            }
        }
        self.refuse_later(name, body)?;
        let kind = self.kind(name, body)?;
        let block = Block { yaml: self, task: name, body };
        self.refuse_others(kind, &block)?;
        let from = self.labels_from(name, kind, body, top, root)?;
        let own = (kind.declare)(&block)?;
        let names = block.get("names").map(|names| self.names(names, &at("names"))).transpose()?;
        Ok(TaskDeclaration {
            kind,
            names,
            own,
            range: self.range(name, body)?,
            missing: self.missing_of(name, kind, body)?,
            crop_safe: self.flag(body.get("crop_safe"), &at("crop_safe"))?,
            flip_safe: self.flip_safe(body, &["tasks", name])?,
            scale_safe: self.flag(body.get("scale_invariant"), &at("scale_invariant"))?,
            box_format: self.box_format(name, body)?,
            place: self.place(&["tasks", name]),
            name: name.to_string(),
            from,
        })
    }

    /// Rejects documented keys that this version does not support yet.
    fn refuse_later(&self, name: &str, body: &Mapping) -> Result<()> {
        if body.get("per").is_some() {
            let message = "`per: objects` (a value per box) is not supported yet: remove this task";
            return Err(self.error(&["tasks", name, "per"], format!("task `{name}`: {message}")));
        }
        Ok(())
    }

    /// Rejects keys that only other kinds have.
    fn refuse_others(&self, kind: &Kind, block: &Block) -> Result<()> {
        let others = KINDS.iter().flat_map(|other| other.keys).filter(|key| !kind.keys.contains(key));
        match others.copied().find(|key| block.get(key).is_some()) {
            None => Ok(()),
            Some(key) => {
                let fits = fitting(|kind| kind.keys.contains(&key));
                Err(block.error(key, &format!("`{key}:` belongs to {fits}: remove it")))
            }
        }
    }

    fn kind(&self, name: &str, body: &Mapping) -> Result<&'static Kind> {
        let word = match body.get("type") {
            Some(value) => self.text_of(value, &["tasks", name, "type"])?,
            None => String::new(),
        };
        let words = type_words();
        if word.is_empty() {
            let [first, others @ ..] = &words[..] else { unreachable!("there are kinds") };
            let others: Vec<String> = others.iter().map(|word| format!("`{word}`")).collect();
            let message = format!("task `{name}` needs `type: {first}`, {}", others.join(" or "));
            return Err(self.error(&["tasks", name], message));
        }
        if !words.contains(&word.as_str()) {
            let hint = did_you_mean(&word, words.iter().copied());
            let message = format!("task `{name}`: `type: {word}` is none of {}{hint}", words.join(", "));
            return Err(self.error(&["tasks", name, "type"], message));
        }
        let mut flagged = None;
        for (kind, flag) in KINDS.iter().filter_map(|kind| Some((kind, kind.flag?))) {
            let at = ["tasks", name, flag];
            if self.flag(body.get(flag), &at)?.unwrap_or(false) {
                if kind.yaml_word != word {
                    let fits = kind.yaml_word;
                    let message = format!("task `{name}`: `{flag}: true` belongs to `type: {fits}`: remove it");
                    return Err(self.error(&at, message));
                }
                flagged = Some(*kind);
            }
        }
        let plain = || KINDS.iter().copied().find(|kind| kind.yaml_word == word && kind.flag.is_none());
        let kind = flagged.or_else(plain);
        Ok(kind.unwrap_or_else(|| unreachable!("every word has a kind without a flag")))
    }

    /// Only box labels may use `missing: background`.
    fn missing_of(&self, name: &str, kind: &Kind, body: &Mapping) -> Result<Option<Missing>> {
        let at = ["tasks", name, "missing"];
        let missing = self.missing(body.get("missing"), &at)?;
        if missing == Some(Missing::Background) && kind.content != Content::Boxes {
            let fits = fitting(|kind| kind.content == Content::Boxes);
            let message = format!("task `{name}`: `missing: background` belongs to {fits}: remove it");
            return Err(self.error(&at, message));
        }
        Ok(missing)
    }

    fn range(&self, name: &str, body: &Mapping) -> Result<Option<[f64; 2]>> {
        let Some(value) = body.get("range").filter(|v| !v.is_null()) else {
            return Ok(None);
        };
        let numbers: Option<Vec<f64>> = value.as_array().and_then(|list| list.iter().map(Value::as_f64).collect());
        match numbers.as_deref() {
            Some([low, high]) if low < high => Ok(Some([*low, *high])),
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
