//! Tests that the help covers every flag, and that README.md and docs/ name only flags that exist and show no command with a flag of
//! another one.

use super::Cli;
use clap::{Arg, Command, CommandFactory};
use std::path::Path;

/// The command and all its subcommands.
pub(super) fn all(command: &Command) -> Vec<&Command> {
    std::iter::once(command).chain(command.get_subcommands().flat_map(all)).collect()
}

fn train() -> Command {
    Cli::command().find_subcommand("train").unwrap().clone()
}

fn help_of(flag: &Arg) -> String {
    flag.get_help().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn clap_finds_no_fault_with_the_flags() {
    Cli::command().debug_assert();
}

#[test]
fn the_help_of_every_flag_of_a_run_shows_its_default_and_its_heading() {
    let own = ["resume", "from", "config", "dry_run"];
    let train = train();
    let run: Vec<&Arg> = train.get_arguments().filter(|flag| !own.contains(&flag.get_id().as_str())).collect();
    assert!(run.len() > 60, "{}", run.len());
    for flag in run {
        let (id, help) = (flag.get_id(), help_of(flag));
        assert_eq!(help.matches("[default: ").count(), 1, "{id}: {help}");
        assert!(help.len() > 20 && (flag.is_positional() || flag.get_help_heading().is_some()), "{id}: {help}");
    }
    let shown = |flag: &str| help_of(train.get_arguments().find(|arg| arg.get_long() == Some(flag)).unwrap());
    assert!(shown("epochs").ends_with("[default: 100; built-in set 5; with --weights 50]"), "{}", shown("epochs"));
    assert!(shown("lr0").ends_with("[default: 0.001; built-in set 0.002; with --weights 0.0003]"), "{}", shown("lr0"));
    assert!(shown("scale").ends_with("[default: 0.75; built-in set 1]"), "{}", shown("scale"));
    assert!(shown("clip-norm").ends_with("[default: 10]"), "{}", shown("clip-norm"));
}

#[test]
fn every_flag_and_argument_of_every_command_has_a_help() {
    let command = Cli::command();
    let commands = all(&command);
    assert!(commands.len() > 15, "{}", commands.len());
    let mut without = Vec::new();
    for command in commands {
        let silent = command.get_arguments().filter(|flag| help_of(flag).is_empty() && !flag.is_hide_set());
        without.extend(silent.map(|flag| format!("{} {}", command.get_name(), flag.get_id())));
    }
    assert!(without.is_empty(), "{without:?}");
}

#[test]
fn the_short_help_is_short() {
    let long = train().render_long_help().to_string();
    let short = train().render_help().to_string();
    for heading in ["Data:", "Model:", "Optimisation:", "Balancing:", "Augmentation:", "Run folder:", "Execution "] {
        assert!(long.contains(&format!("\n{heading}")), "{heading}");
    }
    assert!(short.lines().count() < 60 && long.lines().count() > 200, "{short}");
    assert!(short.contains("--epochs") && short.contains("see more with '--help'"), "{short}");
}

/// The pages of the documentation and README.md: their names and texts.
fn pages() -> Vec<(String, String)> {
    fn below(folder: &Path, found: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                below(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                found.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec![("README.md".to_owned(), std::fs::read_to_string(root.join("README.md")).unwrap())];
    below(&root.join("docs"), &mut found);
    assert!(found.len() > 12, "{}", found.len());
    found
}

#[test]
fn the_documentation_names_only_flags_that_exist() {
    let command = Cli::command();
    let flags = all(&command).into_iter().flat_map(|command| command.get_arguments().filter_map(Arg::get_long));
    let flags: Vec<&str> = flags.chain(["release", "help", "example"]).collect();
    // Pages about the inside name flags of other programs.
    let pages: Vec<_> = pages().into_iter().filter(|(name, _)| !name.contains("internals")).collect();
    let text: String = pages.iter().map(|(_, text)| text.as_str()).collect();
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    let named: Vec<&str> = words.filter_map(|word| word.strip_prefix("--").filter(|flag| !flag.is_empty())).collect();
    assert!(named.len() > 50);
    let unknown: Vec<&&str> = named.iter().filter(|flag| !flags.contains(flag) && !flag.starts_with('-')).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// The parts of a page that are code: lines between fences, and words between backticks.
fn code(page: &str) -> Vec<String> {
    let (mut parts, mut is_fenced) = (Vec::new(), false);
    for line in page.replace("\\\n", " ").lines() {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
        } else if is_fenced {
            parts.push(line.to_owned());
        } else {
            parts.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    parts
}

#[test]
fn commands_in_the_documentation_have_the_flags_that_they_are_shown_with() {
    let cli = Cli::command();
    let mut shown = 0;
    for (page, text) in pages() {
        for line in code(&text) {
            let parts = line.split(['|', ';', '#']).filter_map(|part| part.split_once("polyhead "));
            // After `-p` it is a package of cargo.
            for part in parts.filter(|part| !part.0.ends_with("-p ")) {
                let (mut command, mut words) = (&cli, part.1.split_whitespace().peekable());
                while let Some(next) = words.peek().and_then(|word| command.find_subcommand(word)) {
                    (command, _) = (next, words.next());
                }
                let flags = words.filter_map(|word| word.strip_prefix("--")).filter(|flag| !flag.is_empty());
                for flag in flags.map(|flag| flag.split(['=', ')', ',', '.', '…', ']']).next().unwrap_or_default()) {
                    let is_known = command.get_arguments().any(|arg| arg.get_long() == Some(flag)) || flag == "help";
                    assert!(is_known, "{page}: `polyhead {}` has no --{flag}: {line}", command.get_name());
                    shown += 1;
                }
            }
        }
    }
    assert!(shown > 100, "{shown}");
}

#[test]
fn a_comparison_takes_the_flags_of_a_run_except_those_set_per_run() {
    let compare = Cli::command().find_subcommand("compare").unwrap().clone();
    let shown = compare.clone().render_long_help().to_string();
    for flag in ["--methods", "--seeds", "--out", "--jobs", "--no-single", "--runs", "--epochs", "--lr0", "--mosaic"] {
        assert!(shown.contains(flag), "{flag}");
    }
    for flag in ["exist-ok", "project", "balance", "seed", "task", "name"] {
        assert!([" <", "[="].iter().all(|value| !shown.contains(&format!("--{flag}{value}"))), "{flag}");
        assert!(compare.get_arguments().any(|arg| arg.get_long() == Some(flag)), "{flag}");
    }
}
