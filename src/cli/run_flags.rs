//! The flags of a run: the fields of [`TrainConfig`], all or those of one heading, with every recipe's default in the help.
//! Typed values are kept apart from the defaults, because the defaults depend on other typed flags.

use crate::config::{AUGMENTATION, Choices, TrainConfig};
use crate::recipe::Recipe;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use std::marker::PhantomData;

/// Shown by `-h`; `--help` shows all flags.
const COMMON: [&str; 13] = [
    "data", "epochs", "batch", "imgsz", "lr0", "backbone", "weights", "balance", "device", "workers", "threads",
    "project", "name",
];

/// Which of a run's flags a command takes.
pub trait Selection {
    fn holds(flag: &Arg) -> bool;

    /// Whether the help omits the flag, because the command refuses it with an explanation.
    fn hides(_key: &str) -> bool {
        false
    }
}

#[derive(Clone)]
pub enum All {}

/// The choices that all runs of a comparison share.
#[derive(Clone)]
pub enum Shared {}

#[derive(Clone)]
pub enum Augmentation {}

impl Selection for All {
    fn holds(_: &Arg) -> bool {
        true
    }
}

impl Selection for Shared {
    fn holds(_: &Arg) -> bool {
        true
    }

    fn hides(key: &str) -> bool {
        SET_PER_RUN.iter().any(|(own, _)| *own == key)
    }
}

/// Flags that a comparison sets for each run, and what to use instead.
pub const SET_PER_RUN: [(&str, &str); 6] = [
    ("balance", "name the methods with --methods"),
    ("seed", "give the seeds with --seeds"),
    ("task", "every task is trained alone and together with all others"),
    ("project", "name the folder for runs and tables with --out"),
    ("name", "runs are named by their setting and seed"),
    ("exist_ok", "finished runs are kept; remove a run's folder to train it again"),
];

impl Selection for Augmentation {
    fn holds(flag: &Arg) -> bool {
        flag.get_help_heading() == Some(AUGMENTATION)
    }
}

/// The flags of a run that were typed.
#[derive(Clone)]
pub struct Typed<S> {
    pub choices: Choices,
    selection: PhantomData<S>,
}

impl<S: Selection> Args for Typed<S> {
    fn augment_args(command: Command) -> Command {
        let recipes = Recipe::ALL.map(|recipe| (recipe.label(), Choices::of(&recipe.config()).unwrap_or_default()));
        let hidden = |flag: Arg| {
            let is_hidden = S::hides(flag.get_id().as_str());
            flag.hide(is_hidden)
        };
        command.args(flags::<S>().map(|flag| hidden(with_defaults(flag, &recipes))))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<S: Selection> FromArgMatches for Typed<S> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Typed<S>, clap::Error> {
        let flags: Vec<Arg> = flags::<S>().collect();
        let choices = Choices::typed(matches, flags.iter().map(|flag| flag.get_id().as_str()));
        Ok(Typed { choices, selection: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Typed::from_arg_matches(matches)?;
        Ok(())
    }
}

fn flags<S: Selection>() -> impl Iterator<Item = Arg> {
    let all = TrainConfig::augment_args(Command::new("run"));
    all.get_arguments().filter(|flag| S::holds(flag)).cloned().collect::<Vec<_>>().into_iter()
}

/// The flag without a default, so that only typed values count, and with text like `[default: 100; built-in set 5]` in
/// its help.
fn with_defaults(flag: Arg, recipes: &[(&str, Choices)]) -> Arg {
    let key = flag.get_id().to_string();
    let mut help = flag.get_help().map(ToString::to_string).unwrap_or_default();
    if let ([default], [(_, own_data), others @ ..]) = (flag.get_default_values(), recipes) {
        let default = default.to_string_lossy();
        help.push_str(&format!(" [default: {default}"));
        for (label, recipe) in others.iter().filter(|(_, recipe)| recipe.text(&key) != own_data.text(&key)) {
            let text = recipe.text(&key).unwrap_or_default();
            help.push_str(&format!("; {label} {}", text.strip_suffix(".0").unwrap_or(&text)));
        }
        help.push(']');
    }
    flag.help(help).default_values([""; 0]).hide_short_help(!COMMON.contains(&key.as_str()))
}
