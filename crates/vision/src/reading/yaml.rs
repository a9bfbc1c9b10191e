//! A YAML file with its text kept beside its parsed form: scalars as words, and errors that say the line.

use super::{Missing, Place};
use crate::error::{Error, Result};
use serde_yaml_ng::Value;
use std::path::PathBuf;

/// For an error about the file as a whole.
pub const NO_KEY: [&str; 0] = [];

/// The text beside its parsed form: the parser forgets lines, the person needs them.
pub struct Yaml {
    pub file: PathBuf,
    pub text: String,
}

impl Yaml {
    pub fn names(&self, value: &Value, at: &[impl AsRef<str>]) -> Result<Vec<String>> {
        let names: Vec<String> = match value {
            Value::Sequence(list) => list.iter().map(|v| self.text_of(v, at)).collect::<Result<_>>()?,
            Value::Mapping(map) => {
                let mut pairs = Vec::new();
                for (key, value) in map {
                    let index = self.text_of(key, at)?.parse::<usize>();
                    let index =
                        index.map_err(|_| self.error(at, "`names:` maps class numbers to names, such as `0: cat`"))?;
                    pairs.push((index, self.text_of(value, at)?));
                }
                pairs.sort();
                if let Some(gap) = pairs.iter().enumerate().position(|(i, (index, _))| i != *index) {
                    return Err(self.error(
                        at,
                        format!("`names:` has no class {gap}: number the classes 0, 1, 2, … without a gap"),
                    ));
                }
                pairs.into_iter().map(|(_, name)| name).collect()
            }
            _ => {
                return Err(self.error(at, "`names:` is a list such as `[cat, dog]` or a block such as `0: cat`"));
            }
        };
        if let Some(i) = (1..names.len()).find(|&i| names[..i].contains(&names[i])) {
            return Err(self.error(at, format!("`names:` lists `{}` twice: every class once", names[i])));
        }
        if names.is_empty() {
            return Err(self.error(at, "`names:` lists no class: name them, or leave it out"));
        }
        Ok(names)
    }

    pub fn missing(&self, value: Option<&Value>, at: &[impl AsRef<str>]) -> Result<Option<Missing>> {
        match value.map(|v| self.text_of(v, at)).transpose()?.as_deref() {
            None => Ok(None),
            Some("background") => Ok(Some(Missing::Background)),
            Some("unlabelled" | "unlabeled") => Ok(Some(Missing::Unlabelled)),
            Some(other) => Err(self.error(at, format!("`missing: {other}` is neither `background` nor `unlabelled`"))),
        }
    }

    pub fn flag(&self, value: Option<&Value>, at: &[impl AsRef<str>]) -> Result<Option<bool>> {
        match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => {
                let key = at.last().map_or("", |key| key.as_ref());
                Err(self.error(at, format!("`{key}:` is `true` or `false`")))
            }
        }
    }

    /// A scalar as text: people write `names: [0, 1, yes]` and mean the words.
    pub fn text_of(&self, value: &Value, at: &[impl AsRef<str>]) -> Result<String> {
        match value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            Value::Bool(flag) => Ok(flag.to_string()),
            _ => {
                let key = at.last().map_or("a key", |key| key.as_ref());
                Err(self.error(at, format!("`{key}` holds a list or block where a word was expected")))
            }
        }
    }

    pub fn texts(&self, value: &Value, at: &[impl AsRef<str>]) -> Result<Vec<String>> {
        match value {
            Value::Sequence(list) if !list.is_empty() => list.iter().map(|v| self.text_of(v, at)).collect(),
            other => Ok(vec![self.text_of(other, at)?]),
        }
    }

    pub fn error(&self, at: &[impl AsRef<str>], message: impl Into<String>) -> Error {
        self.place(at).error(message)
    }

    pub fn place(&self, at: &[impl AsRef<str>]) -> Place {
        Place::new(&self.file, self.line(at))
    }

    pub fn shown(&self, at: &[&str]) -> String {
        match self.line(at) {
            Some(line) => format!("{}:{line}", self.file.display()),
            None => self.file.display().to_string(),
        }
    }

    /// The line of the key at the end of the path `at`: each key is looked for from where its parent stands. Comments
    /// do not count; a key may follow others on one line (`a: {type: detect, from: x}`).
    pub fn line(&self, at: &[impl AsRef<str>]) -> Option<usize> {
        let lines: Vec<&str> = self.text.lines().collect();
        let mut found = None;
        for key in at {
            let start = found.unwrap_or(0);
            let holds = |line: &&str| holds_key(line, key.as_ref());
            match lines[start..].iter().position(holds) {
                Some(below) => found = Some(start + below),
                None => break,
            }
        }
        found.map(|line| line + 1)
    }
}

fn holds_key(line: &str, key: &str) -> bool {
    let line = line.split(" #").next().unwrap_or(line);
    !line.trim_start().starts_with('#')
        && line.match_indices(key).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + key.len()..].trim_start_matches(['"', '\'']).trim_start();
            before.is_none_or(|c| " {,\"'\t".contains(c)) && after.starts_with(':')
        })
}

/// Words as a YAML list.
pub fn list(words: &[impl AsRef<str>]) -> String {
    let words: Vec<String> = words.iter().map(|word| scalar(word.as_ref())).collect();
    format!("[{}]", words.join(", "))
}

/// A word as YAML reads it back: plain where nothing in it means something else, else as JSON writes it.
pub fn scalar(word: &str) -> String {
    let is_plain = word.starts_with(|c: char| c.is_alphabetic() || "/_".contains(c))
        && word.chars().all(|c| c.is_alphanumeric() || "/._-+".contains(c))
        && word.parse::<f64>().is_err()
        && !["true", "false", "yes", "no", "on", "off", "y", "n", "null"].contains(&word.to_lowercase().as_str());
    if is_plain || word == "." {
        return word.to_string();
    }
    serde_json::Value::from(word).to_string()
}
