//! The command line: parses the flags and turns them into the options of the other modules.

mod augment_flags;
mod bench_flags;
mod card_flags;
mod compare_flags;
mod data_flags;
mod evaluate_flags;
mod inputs;
mod job;
mod predict_flags;
mod refusal;
mod run_flags;
#[cfg(test)]
mod tests;
mod words;

use crate::config::{Choices, PLACE, TrainConfig, in_any_case};
use crate::console;
use crate::device::cpu::Isa;
use crate::draw;
use crate::error::{Error, Result, shown};
use crate::evaluate::Selection;
use crate::optim::schedule::ScheduleKind;
use crate::recipe::Recipe;
use crate::tasks::DecodeOptions;
use crate::train;
use bench_flags::BenchCommand;
use card_flags::CardArgs;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use compare_flags::CompareArgs;
use data_flags::DataCommand;
use evaluate_flags::EvaluateArgs;
use predict_flags::PredictArgs;
use run_flags::{All, Typed};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Trains one network for many tasks on a folder of images; evaluates it; predicts with it.
#[derive(Parser)]
#[command(name = "polyhead", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train on a folder of images or a data.yaml; without one, on the built-in digits
    Train(Box<TrainArgs>),
    /// Train every task alone and all tasks together, with several seeds, and report whether sharing helped
    Compare(Box<CompareArgs>),
    /// Evaluate a run or a weights file on a data set, or a COCO results file
    Evaluate(EvaluateArgs),
    /// Predict on images: write predictions and annotated pictures
    Predict(Box<PredictArgs>),
    /// Describe a model, or write it to a folder that can be given to others
    Card(CardArgs),
    /// Check, preview, describe or convert a data set, or write the built-in one
    #[command(subcommand)]
    Data(DataCommand),
    /// Measure the speed of training and inference on this machine
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Print the licence of the built-in font
    Licence,
}

#[derive(Args)]
struct TrainArgs {
    /// Continue the run in this folder; DATA (if it was moved) and --epochs may be given with it
    #[arg(long, value_name = "RUN", conflicts_with_all = ["config", "from", "weights", "name"])]
    resume: Option<PathBuf>,
    /// Start a new run with the choices and the best weights of this run; flags override the choices
    #[arg(long, value_name = "RUN", conflicts_with_all = ["config", "weights"])]
    from: Option<PathBuf>,
    /// Start with the choices of an args.yaml (or of the run in this folder); flags override them
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Run one step of everything, then stop; nothing is kept
    #[arg(long, conflicts_with = "resume")]
    dry_run: bool,
    #[command(flatten)]
    run: Typed<All>,
}

impl TrainArgs {
    fn train(self) -> Result<()> {
        let typed = &self.run.choices;
        check_length(typed)?;
        match &self.resume {
            Some(run) => {
                inputs::RESUME.check(Some(run))?;
                train::resume(run, typed).map(|_| ())
            }
            None if self.dry_run => train::dry_run(self.config()?),
            None => train::train(self.config()?).map(|_| ()),
        }
    }

    fn config(&self) -> Result<TrainConfig> {
        if let Some(run) = &self.from {
            return self.config_from(run);
        }
        inputs::CONFIG.check(self.config.as_deref())?;
        let file = self.config.as_deref().map(Choices::read).transpose()?;
        resolve(&self.run.choices, file.unwrap_or_default(), &[], "--config")
    }

    /// The choices of `--from`: those of the run, and its folder as the place of the weights.
    fn config_from(&self, run: &Path) -> Result<TrainConfig> {
        inputs::FROM.check(Some(run))?;
        if !run.is_dir() {
            return Err(Error::Usage(format!(
                "--from {}: expected a run's folder; --weights starts from a weights file",
                shown(run)
            )));
        }
        let mut file = Choices::read(run)?;
        file.remove("weights");
        resolve(&self.run.choices, Choices::path("weights", run).over(file), &[], "--from")
    }
}

fn check_length(typed: &Choices) -> Result<()> {
    match typed.has("time") && typed.has("epochs") {
        true => Err(Error::Usage("--time replaces --epochs: leave one of them out".into())),
        false => Ok(()),
    }
}

/// The recipe's defaults, overridden by the choices of the file that was given with `flag`, overridden by the typed ones. A note names
/// the choices of the file that are not taken, with those that the caller has `removed` already.
fn resolve(typed: &Choices, mut file: Choices, removed: &[Choices], flag: &str) -> Result<TrainConfig> {
    if typed.has("epochs") {
        file.remove("time");
    }
    let mut left_out = leave_out_replaced(typed, &mut file)?;
    left_out.extend(removed.iter().flat_map(Choices::flags));
    for key in PLACE {
        if file.has(key) && !typed.has(key) {
            left_out.extend(Choices::one(key, "").flags());
        }
        file.remove(key);
    }
    if !left_out.is_empty() {
        console::say(&format!("note: not taken from {flag}: {}", left_out.join(", ")));
    }
    let choices = typed.clone().over(file);
    let mut config = TrainConfig::default();
    choices.apply(&mut config)?;
    config = Recipe::choose(config.data.as_deref(), config.weights.is_some()).config();
    choices.apply(&mut config)?;
    config.check()?;
    for (key, schedule, word) in [("gamma", ScheduleKind::Step, "step"), ("lrf", ScheduleKind::Cosine, "cosine")] {
        if typed.has(key) && config.schedule != schedule {
            let message = format!("--{key} only works with --schedule {word}: leave it out, or add --schedule {word}");
            return Err(Error::Usage(message));
        }
    }
    if let Some(data) = config.data.as_ref().filter(|data| !typed.has("data") && !data.exists()) {
        return Err(Error::Usage(format!(
            "{}: the data set named in {flag} is not there; if it was moved, add its new place, as in polyhead train NEW-PATH {flag} …",
            shown(data)
        )));
    }
    inputs::DATA.check(config.data.as_deref())?;
    inputs::WEIGHTS.check(config.weights.as_deref())?;
    Ok(config)
}

/// Removes the choices of `file` that belong to a balancing method or a schedule that a typed one replaces. Returns the flags of
/// those that were not at their default.
fn leave_out_replaced(typed: &Choices, file: &mut Choices) -> Result<Vec<String>> {
    let replaces = |key: &str| typed.has(key) && typed.text(key) != file.text(key);
    let (balance, schedule) = (replaces("balance"), replaces("schedule"));
    let belongs = |key: &str| {
        let to_method = balance && key != "gramian" && Choices::is_of_balancing(key);
        to_method || (schedule && ["schedule", "milestones", "gamma", "lrf"].contains(&key))
    };
    let keys: Vec<String> = file.keys().filter(|key| belongs(key) && !typed.has(key)).map(str::to_owned).collect();
    let defaults = Choices::of(&TrainConfig::default())?;
    let mut flags = Vec::new();
    for key in keys {
        if file.text(&key) != defaults.text(&key) {
            flags.extend(Choices::one(&key, "").flags());
        }
        file.remove(&key);
    }
    Ok(flags)
}

#[derive(Args)]
struct BoxArgs {
    /// Overlap above which the lower-scored of two boxes of the same class is dropped
    #[arg(long, default_value_t = DecodeOptions::default().iou_threshold)]
    iou: f64,
    /// Maximum number of boxes per image
    #[arg(long, default_value_t = DecodeOptions::default().max_detections)]
    max_det: usize,
}

/// The flags that select a part of a model's predictions.
#[derive(Args)]
struct SelectionArgs {
    /// Only these tasks, with commas; may be repeated [default: all]
    #[arg(long, value_name = "NAMES")]
    tasks: Vec<String>,
    /// Only boxes of these classes, by name or, where no class has that name, by number from 0, with commas; may be repeated. Other
    /// kinds of task keep all classes [default: all]
    #[arg(long, value_name = "NAMES")]
    only_classes: Vec<String>,
}

impl From<SelectionArgs> for Selection {
    fn from(args: SelectionArgs) -> Selection {
        Selection { tasks: args.tasks, classes: args.only_classes }
    }
}

impl BoxArgs {
    fn options(&self, conf: f32) -> DecodeOptions {
        DecodeOptions {
            score_threshold: conf,
            iou_threshold: self.iou,
            max_detections: self.max_det,
            ..DecodeOptions::default()
        }
    }
}

/// The command line as clap parses it. A negative number is a value of any flag, so that the error names the flag's range. Words
/// such as the names of optimizers are accepted in any case.
fn command() -> clap::Command {
    fn with_negative_numbers(command: clap::Command) -> clap::Command {
        let of_flag = |arg: clap::Arg| match arg.get_action().takes_values() && !arg.is_positional() {
            true => in_any_case(arg).allow_negative_numbers(true),
            false => arg,
        };
        command.mut_args(of_flag).mut_subcommands(with_negative_numbers)
    }
    // A single command that is changed alone would become the last of the list.
    with_negative_numbers(Cli::command()).mut_subcommands(|command| match command.get_name() {
        "evaluate" => evaluate_flags::with_conflicts(command),
        _ => command,
    })
}

/// Parses the flags; `None` if help or the version was requested and printed.
///
/// # Errors
/// The command line is wrong (the error is a sentence about it), or the help cannot be printed.
pub fn parse() -> Result<Option<Cli>> {
    let args: Vec<OsString> = std::env::args_os().collect();
    let mut command = command();
    match command.try_get_matches_from_mut(&args).and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => Ok(Some(cli)),
        Err(words) if words.exit_code() == 0 => console::printed(words.print()).map(|_| None),
        Err(words) if words.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // The text is the help. If nobody reads it, the exit code still tells.
            let _ = words.print();
            std::process::exit(words.exit_code())
        }
        Err(words) => Err(Error::Usage(refusal::sentence(&words, &command, &args))),
    }
}

/// Runs a command.
///
/// # Errors
/// The reason why it stopped, as a sentence.
pub fn run(cli: Cli) -> Result<()> {
    // Checked before anything is made or written, even if only a GPU would compute.
    Isa::chosen()?;
    match cli.command {
        Command::Train(args) => args.train(),
        Command::Compare(args) => args.compare(),
        Command::Evaluate(args) => args.evaluate(),
        Command::Predict(args) => predict_flags::command(*args),
        Command::Card(args) => args.card(),
        Command::Data(command) => data_flags::run(command),
        Command::Licence => console::print(draw::FONT_LICENCE).map(drop),
        Command::Bench(command) => bench_flags::run(command),
    }
}
