//! Tests that the help covers every flag, and that README.md and docs/ name only flags that exist.

use super::Cli;
use clap::{Arg, Command, CommandFactory};

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

#[test]
fn readme_names_only_flags_that_exist() {
    let command = Cli::command();
    let flags = all(&command).into_iter().flat_map(|command| command.get_arguments().filter_map(Arg::get_long));
    let flags: Vec<&str> = flags.chain(["release", "help", "example"]).collect();
    let readme = [
        include_str!("../../README.md"),
        include_str!("../../docs/data.md"),
        include_str!("../../docs/training.md"),
        include_str!("../../docs/augmentation.md"),
        include_str!("../../docs/balancing.md"),
        include_str!("../../docs/comparing.md"),
        include_str!("../../docs/evaluating.md"),
        include_str!("../../docs/predicting.md"),
        include_str!("../../docs/performance.md"),
        include_str!("../../docs/gpu.md"),
        include_str!("../../docs/library.md"),
        include_str!("../../docs/faq.md"),
    ]
    .concat();
    let words = readme.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    let named: Vec<&str> = words.filter_map(|word| word.strip_prefix("--").filter(|flag| !flag.is_empty())).collect();
    assert!(named.len() > 50);
    let unknown: Vec<&&str> = named.iter().filter(|flag| !flags.contains(flag) && !flag.starts_with('-')).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
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
