//! YAML: parses files into a tree that records the line of every key, and writes values as text. The parser is
//! `serde-saphyr` with the rules of YAML 1.2, where `yes` and `no` are words. The meaning of keys is decided elsewhere.

pub use super::tree::{Lines, Tree};
use super::{Missing, Place, json_line};
use crate::error::{Error, Result};
use serde::Serialize;
use serde::de::{self, DeserializeOwned};
pub use serde_json::Value;
use serde_saphyr::Options;
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};
use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;

/// A key path for errors about the file as a whole.
pub const NO_KEY: [&str; 0] = [];

/// A block of `key: value` lines in file order; keys are always text.
pub type Mapping = serde_json::Map<String, Value>;

/// A parsed file's name and the lines of its keys, for error messages.
pub struct Yaml {
    /// The path, as shown in messages.
    pub file: PathBuf,
    /// The line of every key.
    pub lines: Lines,
}

/// A parse error.
#[derive(Debug)]
pub struct Fault {
    /// The line, counted from 1, if the parser knows it.
    pub line: Option<usize>,
    /// The message, without the position.
    pub message: String,
}

/// Parses a text with one document.
///
/// # Errors
/// The text is not YAML, repeats a key, is nested too deeply or is too large (see `options`).
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
    serde_saphyr::from_str_with_options(text, options()).map_err(|e| Fault::of(&e))
}

/// Parses a text with one document as a tree.
///
/// # Errors
/// The errors of [`read`].
pub fn tree(text: &str) -> Result<Tree, Fault> {
    let mut tree: Tree = read(text)?;
    tree.lines.take_words(text);
    Ok(tree)
}

/// Writes a value as text, one key per line.
///
/// # Errors
/// A path is not valid Unicode.
pub fn write(value: &impl Serialize) -> Result<String, serde_saphyr::ser::Error> {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false, yaml_12: true, no_lang_directive: true };
    let text = serde_saphyr::to_string_with_options(value, options)?;
    Ok(text.split_inclusive('\n').map(with_single_quotes).collect())
}

/// Writes `"…"` as `'…'` if nothing needs to be escaped. Earlier versions did so, and files of old and new runs stay
/// comparable.
fn with_single_quotes(line: &str) -> String {
    let value = line.find('"').filter(|&at| {
        let before = line[..at].trim_start_matches([' ', '-']);
        before.is_empty() || before.strip_suffix(": ").is_some_and(|key| !key.contains(' '))
    });
    let word =
        value.and_then(|at| line[at + 1..].strip_suffix("\"\n")).filter(|word| !word.contains(['"', '\'', '\\']));
    match (value, word) {
        (Some(at), Some(word)) => format!("{}'{word}'\n", &line[..at]),
        _ => line.to_owned(),
    }
}

fn options() -> Options {
    serde_saphyr::options! {
        // At most a million words, lists and blocks, with each alias counted as the value it refers to, and at most 32
        // levels. The check on many aliases of one anchor is off, because tasks may share their classes.
        budget: serde_saphyr::budget! { enforce_alias_anchor_ratio: false, max_nodes: 1_000_000, max_events: 2_000_000, max_depth: 32 },
        // The tree's visitor rejects duplicate keys itself, with both line numbers.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::AsOrdinary,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        with_snippet: false,
    }
}

impl Fault {
    fn of(error: &serde_saphyr::Error) -> Self {
        use serde_saphyr::Error;
        let mut cause = error;
        while let Error::AliasError { error: inside, .. } = cause {
            cause = inside;
        }
        let at = cause.location().or(error.location()).filter(|at| at.line() > 0);
        let message = match cause {
            Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => "blocks lie too deep in each other".to_owned(),
            Error::Budget { .. } => TOO_LARGE.to_owned(),
            other => other.to_string(),
        };
        // Drop the position from the message: the caller adds the line.
        let said = at.and_then(|at| message.split_once(&format!(" at line {}", at.line())));
        let message = said.map_or(message.as_str(), |(sentence, _)| sentence);
        let found = message.strip_prefix(FOUND).and_then(|found| found.split_once(": "));
        match found.and_then(|(line, sentence)| Some((line.parse().ok()?, sentence))) {
            Some((line, sentence)) => Fault { line: Some(line), message: sentence.to_owned() },
            None => Fault { line: at.map(|at| at.line() as usize), message: message.to_owned() },
        }
    }

    /// serde errors carry only a message, so the line number is put in front of it.
    pub(super) fn found<E: de::Error>(line: usize, sentence: &str) -> E {
        E::custom(format!("{FOUND}{line}: {sentence}"))
    }
}

/// Prefix of the errors raised by the tree's visitor.
const FOUND: &str = "refused in line ";

const TOO_LARGE: &str = "the file is too large, with every alias (`*name`) counted as what it names";

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Yaml {
    /// Class names in index order, from a list or from a block of numbers and names. Here and below, `at` is the path
    /// of keys that leads to the value.
    /// Errors: another type, a missing number, a repeated name, or no name.
    pub fn names(&self, value: &Value, at: &[impl AsRef<str>]) -> Result<Vec<String>> {
        let names: Vec<String> = match value {
            Value::Array(list) => {
                list.iter().enumerate().map(|(i, v)| self.name_of(v, at, Some(i))).collect::<Result<_>>()?
            }
            Value::Object(map) => {
                let mut pairs = Vec::new();
                for (key, value) in map {
                    let index = key.parse::<usize>();
                    let index =
                        index.map_err(|_| self.error(at, "`names:` maps class numbers to names, such as `0: cat`"))?;
                    let below: Vec<&str> = at.iter().map(AsRef::as_ref).chain([key.as_str()]).collect();
                    pairs.push((index, self.name_of(value, &below, None)?));
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
        let mut seen = HashSet::with_capacity(names.len());
        if let Some(twice) = names.iter().find(|name| !seen.insert(name.as_str())) {
            return Err(self.error(at, format!("`names:` lists `{twice}` twice: every class once")));
        }
        if names.is_empty() {
            return Err(self.error(at, "`names:` lists no class: name them, or leave it out"));
        }
        Ok(names)
    }

    /// The value of `missing:`; `None` if the key is absent.
    /// Errors: an unknown word.
    pub fn missing(&self, value: Option<&Value>, at: &[impl AsRef<str>]) -> Result<Option<Missing>> {
        match value.map(|v| self.text_of(v, at)).transpose()?.as_deref() {
            None => Ok(None),
            Some("background") => Ok(Some(Missing::Background)),
            Some("unlabelled" | "unlabeled") => Ok(Some(Missing::Unlabelled)),
            Some(other) => Err(self.error(at, format!("`missing: {other}` is neither `background` nor `unlabelled`"))),
        }
    }

    /// A `true` or `false` value; `None` if it is absent or null.
    /// Errors: any other value.
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

    /// A scalar as the text in the file: in `names: [0, 1, yes, True]` users mean words.
    pub fn text_of(&self, value: &Value, at: &[impl AsRef<str>]) -> Result<String> {
        self.item_of(value, at, None)
    }

    /// One word, or a non-empty list of words.
    /// Errors: a block, an empty list, or a list of anything but words.
    pub fn texts(&self, value: &Value, at: &[impl AsRef<str>]) -> Result<Vec<String>> {
        match value {
            Value::Array(list) if !list.is_empty() => {
                list.iter().enumerate().map(|(i, v)| self.item_of(v, at, Some(i))).collect()
            }
            other => Ok(vec![self.text_of(other, at)?]),
        }
    }

    /// The text of the scalar at the end of the path, or of the item with this position in the list there.
    fn item_of(&self, value: &Value, at: &[impl AsRef<str>], item: Option<usize>) -> Result<String> {
        let written = || self.lines.word(at, item).map(str::to_owned);
        let text = match value {
            Value::Number(_) | Value::Bool(_) => written().or_else(|| word(value)),
            other => word(other),
        };
        text.ok_or_else(|| {
            let key = at.last().map_or("a key", |key| key.as_ref());
            self.error(at, format!("`{key}` holds a list or block where a word was expected"))
        })
    }

    /// The name of a class, which may be a word that means nothing elsewhere, such as `null`.
    fn name_of(&self, value: &Value, at: &[impl AsRef<str>], item: Option<usize>) -> Result<String> {
        let of_null = self.lines.word(at, item).filter(|word| value.is_null() && !word.is_empty());
        of_null.map_or_else(|| self.item_of(value, at, item), |word| Ok(word.to_owned()))
    }

    /// An error at the line of a key.
    pub fn error(&self, at: &[impl AsRef<str>], message: impl Into<String>) -> Error {
        self.place(at).error(message)
    }

    /// The position of a key, or of its deepest parent that exists.
    pub fn place(&self, at: &[impl AsRef<str>]) -> Place {
        Place::new(&self.file, self.lines.of(at))
    }

    /// `data.yaml:5` for the line of a key, for use inside a sentence.
    pub fn shown(&self, at: &[&str]) -> String {
        match self.lines.of(at) {
            Some(line) => format!("{}:{line}", self.file.display()),
            None => self.file.display().to_string(),
        }
    }
}

/// A scalar as text.
pub fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Words as a YAML list.
pub fn list(words: &[impl AsRef<str>]) -> String {
    let words: Vec<String> = words.iter().map(|word| scalar(word.as_ref())).collect();
    format!("[{}]", words.join(", "))
}

/// A word written so that YAML reads it back: plain if no part of it has a special meaning, otherwise as a JSON string.
pub fn scalar(word: &str) -> String {
    let is_plain = word.starts_with(|c: char| c.is_alphabetic() || "/_".contains(c))
        && word.chars().all(|c| c.is_alphanumeric() || "/._-+".contains(c))
        && word.parse::<f64>().is_err()
        && !["true", "false", "yes", "no", "on", "off", "y", "n", "null"].contains(&word.to_lowercase().as_str());
    if is_plain || word == "." {
        return word.to_string();
    }
    json_line(&Value::from(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Tree {
        read(text).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn every_key_has_the_line_it_stands_in() {
        let text = "# names: here\ntrain: 'names: x'\nnames: {0: a,\n  'a b': {from: x}}\ntasks:\n  k:\n    - {from: y}\n  from:\n    names: &n [1]\n    from: *n\n";
        let lines = tree(text).lines;
        let cases: [(&[&str], _); 9] = [
            (&["train"], Some(2)),
            (&["names"], Some(3)),
            (&["names", "0"], Some(3)),
            (&["names", "a b", "from"], Some(4)),
            (&["tasks", "k", "from"], Some(6)),
            (&["tasks", "from"], Some(8)),
            (&["tasks", "from", "from", "deeper"], Some(10)),
            (&["absent"], None),
            (&[], None),
        ];
        for (at, line) in cases {
            assert_eq!(lines.of(at), line, "{at:?}");
        }
    }

    #[test]
    fn scalars_are_what_yaml_1_2_says() {
        let text = "[yes, no, On, true, 1, -2, 0x10, 007, 1_000, 1.50, 1e-3, .nan, -.inf, ~, null, '1', 2020-01-01, 1:30, ~a, \"\\u00e9\"]";
        let expected = serde_json::json!([
            "yes",
            "no",
            "On",
            true,
            1,
            -2,
            16,
            "007",
            "1_000",
            1.5,
            0.001,
            ".nan",
            "-.inf",
            null,
            null,
            "1",
            "2020-01-01",
            "1:30",
            "~a",
            "é"
        ]);
        assert_eq!(tree(text).value, expected);
        assert_eq!(tree("").value, Value::Null);
        assert_eq!(tree("<<: {a: 1}").value, serde_json::json!({"<<": {"a": 1}}));
        assert_eq!(tree("a: &x [1, 2]\nb: *x").value, serde_json::json!({"a": [1, 2], "b": [1, 2]}));
    }

    #[test]
    fn numbers_flags_and_nulls_keep_their_words() {
        for start in ["", "# é\n", "\u{feff}"] {
            let text = format!(
                "{start}é: 'ü'\nlist: [True, 007, 1.50, ~, null, 'true', 1e3, 0x1F]\nblock:\n- -2.0\nkeys: {{0: FALSE, 1: +1, 2: a}}\n"
            );
            let lines = super::tree(&text).unwrap().lines;
            let of = |at: &[&str], item| lines.word(at, item).map(str::to_owned).unwrap_or_default();
            let list: Vec<String> = (0..8).map(|item| of(&["list"], Some(item))).collect();
            let expected = ["True", "", "1.50", "~", "null", "", "1e3", "0x1F"];
            assert!(
                list == expected || start == "\u{feff}" && list.iter().all(|word| expected.contains(&word.as_str())),
                "{list:?}"
            );
            assert!(start == "\u{feff}" || of(&["block"], Some(0)) == "-2.0");
            assert!(start == "\u{feff}" || of(&["keys", "0"], None) == "FALSE" && of(&["keys", "1"], None) == "+1");
            assert_eq!(of(&["keys", "2"], None), "");
        }
    }

    #[test]
    fn what_cannot_be_read_is_a_sentence_with_a_line() {
        let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for i in 1..12 {
            laughs += &format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(", "));
        }
        let deep: String = (0..300).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
        for (text, line, message) in [
            ("a: 1\nb: 2\n'a': 3\n", Some(3), "the key `a` is there twice, in lines 1 and 3"),
            ("x:\n  1: a\n  1: b\n", Some(3), "the key `1` is there twice, in lines 2 and 3"),
            ("a: b: c\n", Some(1), "mapping values are not allowed in this context"),
            ("a: 1\nb: *c\n", Some(2), "alias references unknown anchor"),
            ("a: 1\n? [b]\n: c\n", Some(2), "a key is a list or block where a word was expected"),
            ("a: 1\n~: c\n", Some(2), "a key is empty where a word was expected"),
            (&laughs, None, TOO_LARGE),
            (&deep, Some(33), "blocks lie too deep in each other"),
        ] {
            let fault = read::<Tree>(text).unwrap_err();
            assert_eq!(fault.message, message, "{fault:?}");
            assert!(line.is_none() || fault.line == line, "{fault:?}");
        }
        assert!(read::<Tree>(&"[".repeat(100_000)).is_err());
        assert!(read::<Tree>("a: 1\n---\nb: 2\n").is_err());
    }

    #[test]
    fn many_tasks_may_share_one_list() {
        let tasks: String = (0..500).map(|i| format!("t{i}: {{names: *n}}\n")).collect();
        assert_eq!(tree(&format!("names: &n [a, b]\n{tasks}")).value["t499"]["names"], serde_json::json!(["a", "b"]));
    }

    #[test]
    fn lines_may_end_as_on_windows_and_a_byte_order_mark_may_begin_them() {
        let windows = tree("# first\r\na: 1\r\nb:\r\n  - x\r\n");
        assert_eq!((windows.value, windows.lines.of(&["b"])), (serde_json::json!({"a": 1, "b": ["x"]}), Some(3)));
        assert_eq!(tree("\u{feff}a: 1\n").value, serde_json::json!({"a": 1}));
    }

    /// These texts were written by serde_yaml 0.9 for the same values.
    #[test]
    fn text_is_what_earlier_versions_wrote() {
        #[derive(Serialize)]
        struct Args<'a> {
            command: &'a str,
            tasks: [&'a str; 6],
            tuning: Option<&'a str>,
            lr0: f32,
            time: Option<f64>,
            epochs: u64,
            milestones: [f32; 2],
            freeze: [&'a str; 0],
            lr_heads: std::collections::BTreeMap<&'a str, f32>,
            cache: bool,
        }
        let args = Args {
            command: "polyhead train 'a b' --name \"x y\"",
            tasks: ["a task: 1", "2", "no", "true", "it's", "кошка"],
            tuning: Some("1234567890123456"),
            lr0: 0.01,
            time: None,
            epochs: 7,
            milestones: [1.0, 0.00005],
            freeze: [],
            lr_heads: [("a b", 0.5)].into(),
            cache: false,
        };
        let expected = "\
command: polyhead train 'a b' --name \"x y\"
tasks:
- 'a task: 1'
- '2'
- no
- 'true'
- it's
- кошка
tuning: '1234567890123456'
lr0: 0.01
time: null
epochs: 7
milestones:
- 1.0
- 0.00005
freeze: []
lr_heads:
  a b: 0.5
cache: false
";
        assert_eq!(write(&args).unwrap(), expected);
    }
}
