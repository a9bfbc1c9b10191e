//! A refused command line as one sentence: what was typed, where, what was expected, what to do.

use super::words;
use crate::config;
use crate::reading::did_you_mean;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};
use std::ffi::OsString;

/// The command that a command line names.
pub struct Place<'a> {
    pub command: &'a Command,
    /// Its words, as in `data check`; empty if none is named.
    path: String,
    /// The words behind it.
    rest: Vec<String>,
}

impl<'a> Place<'a> {
    /// Follows the words of `args`, which begin with the program's name.
    pub fn of(root: &'a Command, args: &[OsString]) -> Place<'a> {
        let mut rest: Vec<String> = args.iter().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
        let (mut command, mut path) = (root, Vec::new());
        while let Some(next) = rest.first().and_then(|word| command.find_subcommand(word)) {
            (command, path) = (next, [path, vec![rest.remove(0)]].concat());
        }
        Place { command, path: path.join(" "), rest }
    }

    /// The corrected command line, if inputs or flags were typed as `key=value`, which other programs accept.
    pub fn rewritten(&self) -> Option<String> {
        let line = words::rewritten(&self.rest, self.command, &self.path)?;
        Some(format!("flags are written as --flag value, and inputs without a name: {line}"))
    }

    /// The advice for `word` if it was typed after a flag whose value needs `=`.
    pub fn joined(&self, word: &str) -> Option<String> {
        let needs_equals =
            |flag: &String| !flag.contains('=') && self.find(flag).is_some_and(Arg::is_require_equals_set);
        let both = self.rest.windows(2).find(|both| both[1] == word && needs_equals(&both[0]));
        both.map(|both| format!("{0} {word}: its value is written after `=`, as in {0}={word}", both[0]))
    }

    fn name(&self) -> &str {
        if self.path.is_empty() { "polyhead" } else { &self.path }
    }

    fn help(&self) -> String {
        match self.path.as_str() {
            "" => "see polyhead --help".to_owned(),
            path => format!("see polyhead {path} --help"),
        }
    }

    fn find(&self, shown: &str) -> Option<&Arg> {
        let own = |arg: &&Arg| arg.get_long().is_some_and(|long| flag_of(shown) == format!("--{long}"));
        self.command.get_arguments().find(own)
    }
}

/// The sentence about an error that clap found in `args`.
pub fn sentence(error: &clap::Error, root: &Command, args: &[OsString]) -> String {
    let place = Place::of(root, args);
    let argument = one(error, ContextKind::InvalidArg).unwrap_or_default();
    let value_refused = config::refusal(error);
    match error.kind() {
        ErrorKind::InvalidValue | ErrorKind::ValueValidation if value_refused.is_some() => {
            value_refused.unwrap_or_default()
        }
        ErrorKind::InvalidValue => missing_value(&argument, &several(error, ContextKind::ValidValue)),
        ErrorKind::UnknownArgument => unknown(&argument, &place),
        ErrorKind::InvalidSubcommand => {
            unknown_command(&one(error, ContextKind::InvalidSubcommand).unwrap_or_default(), &place)
        }
        ErrorKind::MissingRequiredArgument => missing(&several(error, ContextKind::InvalidArg), &place),
        ErrorKind::ArgumentConflict => conflict(&argument, &several(error, ContextKind::PriorArg)),
        ErrorKind::NoEquals => {
            let flag = flag_of(&argument);
            format!("{flag}: expected its value after `=`, as in {}", argument.replace(['[', ']', '<', '>'], ""))
        }
        // With these flags, the only other error is text that is not Unicode. clap's first line says so.
        _ => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            format!("{}; {}", first.strip_prefix("error: ").unwrap_or(first), place.help())
        }
    }
}

fn missing_value(argument: &str, words: &[String]) -> String {
    let flag = flag_of(argument);
    match config::either(words) {
        Some(words) => format!("{flag}: its value is missing: expected {words}"),
        None => format!("{flag}: its value is missing: expected {}", argument.replace(['[', ']', '<', '>'], "")),
    }
}

fn unknown(word: &str, place: &Place) -> String {
    // A value that begins with a dash. clap names only the first letter of such a word.
    if word.starts_with('-') && !word.starts_with("--") {
        let takes_value = |flag: &String| place.find(flag).is_some_and(|flag| flag.get_action().takes_values());
        let both = place.rest.windows(2).find(|both| both[1].starts_with(word) && takes_value(&both[0]));
        if let Some([flag, value]) = both {
            return format!("{flag} {value}: expected a value that does not begin with a dash");
        }
    }
    if !word.starts_with('-') {
        if let Some(instead) = place.joined(word) {
            return instead;
        }
        let expected = match place.command.get_positionals().count() {
            0 => "takes flags only",
            _ => "takes fewer arguments",
        };
        return match place.rewritten() {
            Some(instead) => format!("{word}: {instead}"),
            None => format!("{word}: {} {expected}: leave this one out; {}", place.name(), place.help()),
        };
    }
    let instead = words::flag(word.trim_start_matches('-'), place.command, &place.path);
    let known = place.command.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(Arg::get_long);
    let known: Vec<String> = known.map(|long| format!("--{long}")).collect();
    let near = did_you_mean(word, known.iter().map(String::as_str));
    let advice = match instead {
        Some(instead) => format!("; {instead}"),
        None if near.is_empty() => format!("; {}", place.help()),
        None => near,
    };
    format!("{word}: {} has no such flag{advice}", place.name())
}

fn unknown_command(word: &str, place: &Place) -> String {
    let known: Vec<String> = place.command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let is_first = place.path.is_empty();
    if let Some(instead) = words::command(word).filter(|_| is_first) {
        return format!("{word}: there is no such command; {instead}");
    }
    let near = did_you_mean(word, known.iter().map(String::as_str));
    let expected = config::either(&known).unwrap_or_default();
    format!("{word}: {} has no such command: expected {expected}{near}", place.name())
}

fn missing(arguments: &[String], place: &Place) -> String {
    let shown: Vec<String> =
        arguments.iter().map(|argument| argument.replace(['<', '>'], "").replace("...", "")).collect();
    let (verb, them) = if shown.len() == 1 { ("is", "it") } else { ("are", "them") };
    let is_needed = |argument: &String| match place.find(argument) {
        Some(flag) => flag.is_required_set(),
        None => true,
    };
    // Otherwise it is only missing beside a flag that was given.
    let why = if arguments.iter().all(is_needed) { "" } else { ", which another argument needs" };
    format!("{}: {} {verb} missing{why}: add {them}; {}", place.name(), shown.join(" and "), place.help())
}

fn conflict(argument: &str, others: &[String]) -> String {
    let bare = |shown: &String| match shown.starts_with('-') {
        true => flag_of(shown).to_owned(),
        false => shown.replace(['<', '>', '[', ']', '.'], ""),
    };
    let (own, others) = (bare(&argument.to_owned()), others.iter().map(bare).collect::<Vec<_>>());
    match others.as_slice() {
        [] => format!("{own} is given twice: give it once"),
        [other] if *other == own => format!("{own} is given twice: give it once"),
        others => format!("{own} cannot be used with {}: leave one of them out", others.join(" and ")),
    }
}

/// `--clip-norm` of `--clip-norm <NORM>`, `--exist-ok[=<BOOL>]` or `--clip-norm=1`.
fn flag_of(shown: &str) -> &str {
    shown.split([' ', '[', '=']).next().unwrap_or(shown)
}

fn one(error: &clap::Error, kind: ContextKind) -> Option<String> {
    several(error, kind).into_iter().next()
}

fn several(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(word)) => vec![word.clone()],
        Some(ContextValue::Strings(words)) => words.clone(),
        _ => Vec::new(),
    }
}
