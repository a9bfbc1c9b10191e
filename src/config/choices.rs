//! A run's choices as text under the names of their fields. They come from typed flags, a file or a configuration, and are
//! applied to a configuration in the same way, so that a flag and a key of args.yaml have the same meaning and range.

use super::{BALANCING, EXECUTION, TrainConfig, paths};
use crate::error::{Error, Result, path_text, shown};
use crate::reading::did_you_mean;
use crate::reading::yaml::{self, Mapping, Tree, Value, word};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use std::error::Error as _;
use std::ffi::OsString;
use std::fmt::Display;
use std::num::{ParseFloatError, ParseIntError};
use std::path::Path;

/// The keys of args.yaml that are not choices.
pub const PROVENANCE: [&str; 8] = ["command", "version", "commit", "machine", "id", "isa", "tuning", "tasks"];
/// The choices that may change on resume, beside those of execution.
const ON_RESUME: [&str; 2] = ["data", "epochs"];
/// The first words about a changed path of the data set in [`Resumed::changed`].
pub const DATA_SET: &str = "the data set is now";
/// Must be typed: from a file, it would let a repeated run overwrite the original.
const NEVER_FROM_A_FILE: &str = "exist_ok";
/// The place of a run. A run that repeats another one has its own.
pub const PLACE: [&str; 2] = ["project", "name"];

/// Some of a run's choices; fields without one keep their value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choices(Vec<Choice>);

/// The result of the flags that were typed when a run was resumed.
#[derive(Clone, Debug, PartialEq)]
pub struct Resumed {
    /// Flags that a resumed run does not accept.
    pub ignored: Vec<String>,
    /// Flags with a new value, as in `--workers 7 (before: 2)`.
    pub changed: Vec<String>,
}

impl Resumed {
    /// One line per flag for the run's log.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        let ignored = |flag| format!("note: {flag} is ignored: a resumed run keeps the value it was started with");
        self.changed.iter().map(|change| format!("note: {change}")).chain(self.ignored.iter().map(ignored))
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Choice {
    /// The field of `TrainConfig`.
    key: String,
    values: Vec<OsString>,
}

impl Choices {
    /// The choices among `keys` that were typed.
    pub fn typed<'a>(matches: &ArgMatches, keys: impl Iterator<Item = &'a str>) -> Choices {
        let typed = keys.filter(|key| matches.value_source(key) == Some(ValueSource::CommandLine));
        let command = options();
        let choice = |key: &str| {
            let values = matches.get_raw(key).into_iter().flatten();
            Choice {
                key: key.to_owned(),
                values: values.map(|value| in_our_spelling(&command, key, value.into())).collect(),
            }
        };
        Choices(typed.map(choice).collect())
    }

    /// Every field of a configuration that is set, as text in the form of args.yaml.
    ///
    /// # Errors
    /// A value that cannot be written.
    pub fn of(config: &TrainConfig) -> Result<Choices> {
        let failed = |e: &dyn Display| Error::Usage(format!("the run's choices cannot be written: {e}"));
        let text = yaml::write(config).map_err(|e| failed(&e))?;
        let map: Tree = yaml::read(&text).map_err(|e| failed(&e))?;
        let (choices, command) = (block(map.value).unwrap_or_default(), options());
        let choices = choices.iter().filter_map(|(key, value)| Choice::from_yaml(&command, key, value)?.ok());
        Ok(Choices(choices.collect()))
    }

    /// Reads the choices of an args.yaml, or of the one in a run's folder. Skips the keys about the machine and the program, and the
    /// place of the run that wrote the file.
    ///
    /// # Errors
    /// The file cannot be read; a key is unknown or a value is not allowed (with its line).
    pub fn read(path: &Path) -> Result<Choices> {
        let file = if path.is_dir() { path.join("args.yaml") } else { path.to_path_buf() };
        let text = std::fs::read_to_string(&file).map_err(Error::io("read", &file))?;
        let at = |line: Option<usize>, message: String| match line {
            Some(line) => Error::Usage(format!("{}:{line}: {message}", shown(&file))),
            None => Error::Usage(format!("{}: {message}", shown(&file))),
        };
        let expected = "expected lines of `key: value`, as in a run's args.yaml";
        let tree: Tree = yaml::read(&text).map_err(|e| at(e.line, format!("{expected}: {e}")))?;
        let map = block(tree.value).ok_or_else(|| at(None, expected.to_owned()))?;
        let command = options();
        let known = || command.get_arguments().map(|arg| arg.get_id().as_str());
        let mut choices = Choices::default();
        for (key, value) in &map {
            let key = key.as_str();
            let is_of_its_run = PLACE.contains(&key) && map.contains_key("command");
            if PROVENANCE.contains(&key) || key == NEVER_FROM_A_FILE || is_of_its_run {
                continue;
            }
            let refused = |message| at(tree.lines.of(&[key]), message);
            if !known().any(|id| id == key) {
                return Err(refused(format!("the key `{key}` is not a choice of a run{}", did_you_mean(key, known()))));
            }
            let Some(choice) = Choice::from_yaml(&command, key, value) else { continue };
            // One at a time, so that an error names this line.
            let one = Choices(vec![choice.map_err(refused)?]);
            one.parse(&command).map_err(|e| refused(format!("{key}: {}", reason(&e))))?;
            choices.0.extend(one.0);
        }
        Ok(choices)
    }

    /// Adds the choices of `others` that are not set here.
    pub fn over(mut self, others: Choices) -> Choices {
        let missing: Vec<Choice> = others.0.into_iter().filter(|other| !self.has(&other.key)).collect();
        self.0.extend(missing);
        self
    }

    /// A single choice, as if typed: the key of a field and its text.
    pub fn one(key: &str, text: &str) -> Choices {
        Choices(vec![Choice { key: key.to_owned(), values: vec![text.into()] }])
    }

    /// A single choice of a path.
    pub fn path(key: &str, path: &Path) -> Choices {
        Choices(vec![Choice { key: key.to_owned(), values: vec![path.into()] }])
    }

    /// The keys of all choices.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|choice| choice.key.as_str())
    }

    /// Splits into single choices.
    pub fn each(&self) -> impl Iterator<Item = Choices> {
        self.0.iter().map(|choice| Choices(vec![choice.clone()]))
    }

    /// Whether the field of this name belongs to the balancing of tasks.
    pub fn is_of_balancing(key: &str) -> bool {
        heading_of(key).as_deref() == Some(BALANCING)
    }

    /// Whether the field of this name affects only how a run is carried out, so that it may change on resume.
    pub fn is_of_execution(key: &str) -> bool {
        heading_of(key).as_deref() == Some(EXECUTION)
    }

    /// Whether there is a choice for the field `key`.
    pub fn has(&self, key: &str) -> bool {
        self.0.iter().any(|choice| choice.key == key)
    }

    /// Removes the choice for the field `key`, if there is one.
    pub fn remove(&mut self, key: &str) {
        self.0.retain(|choice| choice.key != key);
    }

    /// The text of a choice as it would be typed, if there is one.
    pub fn text(&self, key: &str) -> Option<String> {
        let choice = self.0.iter().find(|choice| choice.key == key)?;
        Some(choice.values.iter().map(|value| path_text(Path::new(value))).collect::<Vec<_>>().join(","))
    }

    /// The flags that set these choices.
    pub fn flags(&self) -> Vec<String> {
        let command = options();
        self.0.iter().map(|choice| flag(&command, &choice.key)).collect()
    }

    /// Applies the choices.
    ///
    /// # Errors
    /// A value outside its range.
    pub fn apply(&self, config: &mut TrainConfig) -> Result<()> {
        let refused = |e: clap::Error| Error::Usage(refusal(&e).unwrap_or_else(|| e.to_string()));
        let matches = self.parse(&options()).map_err(refused)?;
        config.update_from_arg_matches(&matches).map_err(refused)
    }

    /// Applies the choices that may change on resume; ignores the others.
    ///
    /// # Errors
    /// A value outside its range.
    pub fn apply_on_resume(&self, config: &mut TrainConfig) -> Result<Resumed> {
        let command = options();
        let fixed = command.get_arguments().filter(|arg| arg.get_help_heading() != Some(EXECUTION));
        let fixed = fixed.map(|arg| arg.get_id().as_str()).filter(|key| !ON_RESUME.contains(key));
        let fixed: Vec<&str> = fixed.collect();
        let (ignored, applied) = self.0.iter().cloned().partition(|choice| fixed.contains(&choice.key.as_str()));
        let (before, applied) = (Choices::of(config)?, Choices(applied));
        applied.apply(config)?;
        let after = Choices::of(config)?;
        let change = |key: &str| {
            let (old, new) = (before.text(key), after.text(key));
            let text = |text: Option<String>| {
                let text = text.unwrap_or_else(|| "none".to_owned());
                text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
            };
            // The data set is given by its place, not by a flag.
            let name = if key == "data" { DATA_SET.to_owned() } else { flag(&command, key) };
            (old != new).then(|| format!("{name} {} (before: {})", text(new), text(old)))
        };
        Ok(Resumed { ignored: Choices(ignored).flags(), changed: applied.keys().filter_map(change).collect() })
    }

    fn parse(&self, command: &Command) -> Result<ArgMatches, clap::Error> {
        let arguments = self.0.iter().flat_map(|choice| {
            let flag = flag(command, &choice.key);
            choice.values.iter().map(move |value| {
                let mut argument = OsString::from(format!("{flag}="));
                argument.push(value);
                argument
            })
        });
        command.clone().try_get_matches_from(arguments)
    }
}

impl Choice {
    /// `None` for an empty value: null, an empty list or an empty mapping.
    fn from_yaml(command: &Command, key: &str, value: &Value) -> Option<Result<Choice, String>> {
        let values: Option<Vec<String>> = match value {
            Value::Null => return None,
            Value::Array(list) => {
                list.iter().map(word).collect::<Option<Vec<_>>>().map(|words| listed(command, key, words))
            }
            Value::Object(map) => map.iter().map(|(key, value)| Some(format!("{key}={}", word(value)?))).collect(),
            scalar => word(scalar).map(|word| vec![word]),
        };
        let nothing = matches!(value, Value::Array(list) if list.is_empty());
        match values {
            Some(values) if values.is_empty() || nothing => None,
            Some(values) => {
                let raw = |text: String| match paths::KEYS.contains(&key) {
                    true => paths::path(&text).ok_or(format!("{key}: `{text}` is not a path")),
                    false => Ok(in_our_spelling(command, key, text.into())),
                };
                let values = values.into_iter().map(raw).collect::<Result<_, _>>();
                Some(values.map(|values| Choice { key: key.to_owned(), values }))
            }
            None => Some(Err(format!("{key}: expected a word, a number, a list or a block of them"))),
        }
    }
}

/// A list in the form that its flag accepts: one value per item if the flag can be repeated, else one value with
/// commas.
fn listed(command: &Command, key: &str, words: Vec<String>) -> Vec<String> {
    let flag = command.get_arguments().find(|arg| arg.get_id() == key);
    let is_repeated = |arg: &Arg| matches!(arg.get_action(), ArgAction::Append) && arg.get_value_delimiter().is_none();
    if flag.is_some_and(is_repeated) { words } else { vec![words.join(",")] }
}

/// The value as the flag's list of words spells it, if it is one of them in other capitals.
fn in_our_spelling(command: &Command, key: &str, value: OsString) -> OsString {
    let words = command.get_arguments().find(|arg| arg.get_id() == key).map(Arg::get_possible_values);
    let Some(text) = value.to_str() else { return value };
    let ours = words.iter().flatten().find(|word| word.matches(text, true) && !word.matches(text, false));
    ours.map_or_else(|| value.clone(), |word| word.get_name().into())
}

/// The keys of a file; an empty file has none.
fn block(value: Value) -> Option<Mapping> {
    match value {
        Value::Object(map) => Some(map),
        Value::Null => Some(Mapping::new()),
        _ => None,
    }
}

fn heading_of(key: &str) -> Option<String> {
    let command = options();
    let flag = command.get_arguments().find(|arg| arg.get_id() == key)?;
    flag.get_help_heading().map(str::to_owned)
}

/// Every choice as an option without a default, so that flags that are not given change nothing.
fn options() -> Command {
    let command = TrainConfig::augment_args(Command::new("choices").no_binary_name(true).disable_help_flag(true));
    let as_option = |arg: Arg| in_any_case(arg).default_values([""; 0]);
    command.mut_arg("data", |data| data.long("data")).mut_args(as_option)
}

/// The argument, accepting its words in any case.
pub fn in_any_case(arg: Arg) -> Arg {
    let has_words = !arg.get_possible_values().is_empty();
    arg.ignore_case(has_words)
}

/// `--clip-norm` of `clip_norm`.
fn flag(command: &Command, key: &str) -> String {
    let arg = command.get_arguments().find(|arg| arg.get_id() == key);
    format!("--{}", arg.and_then(Arg::get_long).unwrap_or(key))
}

/// A sentence about a refused value, such as `--clip-norm -1: expected a number of at least 0`. `None` if the error is about
/// something else, or if the value is missing.
pub fn refusal(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(arg)) = error.get(ContextKind::InvalidArg) else { return None };
    // `--clip-norm <NORM>`, `--exist-ok[=<BOOL>]`.
    let flag = arg.split([' ', '[', '=']).next()?;
    matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue).then_some(())?;
    let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue) else { return None };
    let is_missing = value.is_empty() && error.kind() == ErrorKind::InvalidValue;
    (!is_missing).then(|| format!("{flag} {}", reason(error)))
}

/// `-1: expected a number of at least 0`.
fn reason(error: &clap::Error) -> String {
    let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue) else { return error.to_string() };
    let shown = if value.is_empty() { "''" } else { value };
    match (error.get(ContextKind::ValidValue), error.source()) {
        (Some(ContextValue::Strings(words)), _) => {
            let hint = did_you_mean(value, words.iter().map(String::as_str));
            format!("{shown}: expected {}{hint}", either(words).unwrap_or_default())
        }
        // Flags without a range of their own.
        (_, Some(source)) if source.is::<ParseIntError>() => format!("{shown}: expected a whole number of at least 0"),
        (_, Some(source)) if source.is::<ParseFloatError>() => format!("{shown}: expected a number"),
        (_, Some(expected)) => format!("{shown}: {expected}"),
        _ => error.to_string(),
    }
}

/// `a, b or c`; `None` for no words.
pub fn either(words: &[String]) -> Option<String> {
    match words {
        [] => None,
        [only] => Some(only.clone()),
        [others @ .., last] => Some(format!("{} or {last}", others.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;
    use std::path::PathBuf;

    /// Writes this text to a file, reads it and removes it.
    fn read(name: &str, text: &str) -> Result<Choices> {
        let file = std::env::temp_dir().join(format!("polyhead-choices-{}-{name}.yaml", std::process::id()));
        std::fs::write(&file, text).unwrap();
        let choices = Choices::read(&file);
        std::fs::remove_file(file).unwrap();
        choices
    }

    /// For every choice, a configuration in which only that choice differs from its default.
    fn one_of_each() -> Vec<(String, TrainConfig)> {
        let texts = ["true", "64", "2", "0.25", "0.0005", "2.5", "stem,layer1", "x=0.5", "cuda:1", "2/5"];
        let options = options();
        let one = |arg: &Arg| {
            let key = arg.get_id().to_string();
            let words = arg.get_possible_values().iter().map(|word| word.get_name().to_owned()).collect::<Vec<_>>();
            let changed = words.into_iter().chain(texts.map(str::to_owned)).find_map(|text| {
                let mut config = TrainConfig::default();
                let choice = Choice { key: key.clone(), values: vec![text.into()] };
                let taken = Choices(vec![choice]).apply(&mut config).is_ok();
                (taken && config != TrainConfig::default()).then_some(config)
            });
            (key.clone(), changed.unwrap_or_else(|| panic!("no text of the list changes {key}")))
        };
        options.get_arguments().map(one).collect()
    }

    #[test]
    fn every_field_is_a_flag_and_every_flag_a_field() {
        let fields = serde_json::to_value(TrainConfig::default()).unwrap();
        let mut fields: Vec<&str> = fields.as_object().unwrap().keys().map(String::as_str).collect();
        let options = options();
        let mut flags: Vec<&str> = options.get_arguments().map(|arg| arg.get_id().as_str()).collect();
        fields.sort_unstable();
        flags.sort_unstable();
        assert_eq!(fields, flags);
        let command = TrainConfig::augment_args(Command::new("train"));
        let positional: Vec<&str> = command.get_positionals().map(|arg| arg.get_id().as_str()).collect();
        assert_eq!(positional, ["data"], "all others have a flag");
    }

    #[test]
    fn what_is_written_is_read_back_whatever_was_the_default() {
        for (key, config) in one_of_each() {
            let text = yaml::write(&config).unwrap();
            assert_eq!(yaml::read::<TrainConfig>(&text).unwrap(), config, "{key}");
            let mut again = Recipe::QuickStart.config();
            read(&key, &text).unwrap().apply(&mut again).unwrap();
            let expected = if key == NEVER_FROM_A_FILE { TrainConfig::default() } else { config };
            assert_eq!(again, expected, "{key}");
        }
    }

    #[test]
    fn a_list_of_names_keeps_commas_and_a_typed_one_replaces_it() {
        let several = TrainConfig { task: vec!["a,b".into(), "c".into()], ..Recipe::QuickStart.config() };
        let mut again = Recipe::QuickStart.config();
        let file = read("tasks", &yaml::write(&several).unwrap()).unwrap();
        file.apply(&mut again).unwrap();
        assert_eq!(again, several);
        Choices::one("task", "d").over(file).apply(&mut again).unwrap();
        assert_eq!(again.task, ["d"]);
    }

    #[test]
    fn a_file_may_name_some_choices_and_flags_replace_them() {
        let file =
            read("some", "# mine\nepochs: 7\nlr0: 1e-2\nmilestones: [2, 4.5]\nlr_heads: {a: 2}\nweights:\n").unwrap();
        let flags = Choices(vec![Choice { key: "epochs".into(), values: vec!["9".into()] }]);
        assert_eq!(flags.flags(), ["--epochs"]);
        let mut config = Recipe::QuickStart.config();
        flags.over(file).apply(&mut config).unwrap();
        let expected = TrainConfig {
            epochs: 9,
            lr0: 0.01,
            milestones: vec![2.0, 4.5],
            lr_heads: vec![("a".into(), 2.0)],
            ..Recipe::QuickStart.config()
        };
        assert_eq!(config, expected);
        assert_eq!(read("empty", "").unwrap(), Choices::default());
    }

    #[test]
    fn a_file_with_an_error_is_refused_with_the_line() {
        for (text, words) in [
            ("epochs: 3\nclipnorm: 5\n", "2: the key `clipnorm` is not a choice of a run; did you mean `clip_norm`?"),
            ("command: x\nlr0: -1\n", "2: lr0: -1: expected a number above 0"),
            ("lr0: .nan\n", "1: lr0: .nan: expected a number above 0"),
            ("optimizer: adam\n", "1: optimizer: adam: expected sgd or adamw; did you mean `adamw`?"),
            ("epochs: {a: {b: 1}}\n", "1: epochs: expected a word, a number, a list or a block of them"),
            ("epochs: [1, 2]\n", "1: epochs: 1,2: expected a whole number above 0"),
            ("freeze: [stem, head]\n", "`head` is not a stage"),
            ("- a\n", "expected lines of `key: value`"),
            (
                "epochs: 1\n\nepochs: 2\n",
                "3: expected lines of `key: value`, as in a run's args.yaml: the key `epochs` is there twice, in lines 1 and 3",
            ),
            ("a: &a [1]\nb: *c\n", "2: expected lines of `key: value`, as in a run's args.yaml: "),
        ] {
            let error = read("wrong", text).unwrap_err();
            assert!(error.to_string().contains(words) && error.exit_code() == 2, "{text}: {error}");
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn some_choices_change_on_resume_and_the_others_are_named() {
        let saved = Recipe::QuickStart.config();
        let typed = [("workers", "7"), ("exist_ok", "true"), ("epochs", "9"), ("clip_norm", "1"), ("lr_heads", "a=1")];
        let choice = |(key, value): (&str, &str)| Choice { key: key.into(), values: vec![value.into()] };
        let mut config = saved.clone();
        let resumed = Choices(typed.map(choice).to_vec()).apply_on_resume(&mut config).unwrap();
        assert_eq!(resumed.ignored, ["--exist-ok", "--clip-norm", "--lr-head"]);
        assert_eq!(resumed.changed, ["--workers 7 (before: 2)", "--epochs 9 (before: 5)"]);
        assert_eq!(resumed.notes().count(), 5);
        assert_eq!(config, TrainConfig { workers: 7, epochs: 9, ..saved });
        let moved = Choices::one("data", "new").apply_on_resume(&mut config).unwrap();
        assert_eq!(moved.changed, ["the data set is now new (before: none)"]);
        // Setting the value it already has is not a change.
        assert_eq!(Choices::one("workers", "7").apply_on_resume(&mut config).unwrap().changed, [""; 0]);
    }

    #[test]
    fn a_configuration_is_checked_by_the_ranges_of_its_flags() {
        let wrong = |config: TrainConfig| config.check().unwrap_err().to_string();
        assert_eq!(wrong(TrainConfig { batch: 0, ..Default::default() }), "--batch 0: expected a whole number above 0");
        let weights = vec![("a".to_owned(), f32::NAN)];
        let config = TrainConfig { task_weights: weights, ..Default::default() };
        assert_eq!(wrong(config), "--task-weight a=.nan: expected a number of at least 0");
        let lr_heads = ["a", "b", "a"].map(|task| (task.to_owned(), 2.0)).to_vec();
        let twice = "--lr-head is given twice for `a`: expected one number for each task";
        assert_eq!(wrong(TrainConfig { lr_heads, ..Default::default() }), twice);
        for recipe in Recipe::ALL {
            recipe.config().check().unwrap();
        }
        let spaced = TrainConfig { data: Some(PathBuf::from("-a, b=c: d")), ..Default::default() };
        spaced.check().unwrap();
    }
}
