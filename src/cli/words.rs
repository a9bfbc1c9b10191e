//! Words that users of other programs type, and their names here: flags, `key=value` words and commands. One table for each.

use crate::reading::shell_word;
use clap::{Arg, Command};

/// The name here of a flag of another program.
enum Here {
    /// A flag, and a remark about it, if it is not simply the same.
    Flag(&'static str, &'static str),
    /// An argument without a flag, by its id, and what it is.
    Argument(&'static str, &'static str),
}

use Here::{Argument, Flag};

/// Flags of other programs, with `-` for `_`, and their names here. A command uses only those that it has.
static FLAGS: [(&[&str], &[Here]); 33] = [
    (&["data", "dataset", "data-path", "data-dir", "yaml"], &[Argument("data", "the data set")]),
    (
        &["model"],
        &[
            Argument("model", "the model"),
            Flag("backbone", " for the trunk"),
            Flag("weights", " for weights to start from"),
        ],
    ),
    (&["arch", "architecture", "network", "encoder"], &[Flag("backbone", "")]),
    (&["pretrained", "checkpoint", "ckpt", "init"], &[Flag("weights", ""), Argument("model", "the model")]),
    (&["weights"], &[Argument("model", "the model")]),
    (&["source", "input", "inputs", "image", "images", "data"], &[Argument("images", "the images")]),
    (&["lr", "learning-rate", "base-lr", "max-lr"], &[Flag("lr0", "")]),
    (&["img", "img-size", "image-size", "input-size", "size", "resolution"], &[Flag("imgsz", "")]),
    (&["batch-size", "batchsize", "bs", "b"], &[Flag("batch", "")]),
    (&["num-epochs", "n-epochs", "max-epochs"], &[Flag("epochs", "")]),
    (&["flipud", "vflip", "vertical-flip"], &[Flag("degrees", ", which turns images; there is no vertical mirror")]),
    (&["hflip", "flip", "horizontal-flip"], &[Flag("fliplr", "")]),
    (&["rotate", "rotation"], &[Flag("degrees", "")]),
    (&["color-jitter", "colour-jitter"], &[Flag("jitter", "")]),
    (&["conf-thres", "conf-threshold", "confidence", "score", "threshold", "score-threshold"], &[Flag("conf", "")]),
    (&["iou-thres", "iou-threshold", "nms"], &[Flag("iou", "")]),
    (
        &["name", "project", "save-dir", "output", "output-dir", "outdir", "o"],
        &[
            Flag("out", " for the folder"),
            Flag("project", " for the folder of all runs"),
            Flag("name", " for the run's own"),
        ],
    ),
    (&["save-txt"], &[Flag("format", " yolo")]),
    (&["save-json"], &[Flag("json", ""), Flag("format", " coco")]),
    (&["nosave", "no-save"], &[Flag("no-images", "")]),
    (&["optim", "opt"], &[Flag("optimizer", "")]),
    (&["wd", "decay"], &[Flag("weight-decay", "")]),
    (&["warmup"], &[Flag("warmup-epochs", "")]),
    (&["cos-lr"], &[Flag("schedule", " cosine")]),
    (&["grad-clip", "clip", "max-norm"], &[Flag("clip-norm", "")]),
    (&["num-workers", "nw"], &[Flag("workers", "")]),
    (&["gpu", "gpus", "cuda"], &[Flag("device", "")]),
    (&["early-stopping"], &[Flag("patience", "")]),
    (&["save-period"], &[Flag("save-minutes", "")]),
    (&["cfg", "hyp"], &[Flag("config", "")]),
    (&["val-split", "validation-split"], &[Flag("val-fraction", "")]),
    (&["classes", "class", "filter-classes"], &[Flag("only-classes", "")]),
    (&["task"], &[Flag("tasks", "")]),
];

/// Keys of other programs that are flags here with another meaning, and the flags to use instead. In the form `key=value` they have
/// the other program's meaning.
const OTHER_MEANING: [(&str, &str); 1] = [("classes", "only-classes")];

/// Kinds of task, which other programs want as a word of their own or as `task=`.
const KINDS: [&str; 5] = ["detect", "classify", "segment", "pose", "obb"];

/// Flags of other programs for which no command has a flag, and what there is instead.
const OTHERWISE: [(&[&str], &str); 5] = [
    (&["amp", "half", "fp16", "bf16"], "there is no flag for the number format: CPUs compute in f32, and GPUs in bf16"),
    (
        &["label-smoothing", "class-weights"],
        "write it in the data.yaml, as an option of the task: `label_smoothing: 0.1`, `class_weights: balanced`",
    ),
    (
        &["box", "cls", "dfl"],
        "the parts of a detection loss have no weights; whole tasks have, with --balance fixed --task-weight TASK=NUMBER",
    ),
    (&["plots", "plot"], "pictures are always drawn, in the folder of the run or of --out"),
    (&["save-conf"], "predictions always have their scores"),
];

/// Commands of other programs, and what to type here.
const COMMANDS: [(&[&str], &str); 12] = [
    (
        &["detect", "classify", "regress"],
        "the data set decides which tasks a network learns: `polyhead train` trains them all, and `polyhead predict` predicts them",
    ),
    (
        &["segment", "pose", "obb", "track"],
        "polyhead cannot do this yet: `polyhead train` and `polyhead predict` are for classes, boxes and numbers",
    ),
    (&["export"], "polyhead cannot export models yet; a run's weights are in its folder, in weights/best.safetensors"),
    (&["val", "validate", "test", "eval"], "write `polyhead evaluate`"),
    (&["check"], "write `polyhead data check`"),
    (&["convert"], "write `polyhead data convert`"),
    (&["preview"], "write `polyhead data preview`"),
    (&["infer", "inference"], "write `polyhead predict`"),
    (&["fit", "finetune"], "write `polyhead train`"),
    (&["benchmark", "profile"], "write `polyhead bench`"),
    (
        &["balance", "balancing"],
        "choose a balancing method with `polyhead train` and --balance METHOD; `polyhead compare` tries several",
    ),
    (&["resume"], "write `polyhead train` with --resume RUN"),
];

/// The advice for a command of another program.
pub fn command(word: &str) -> Option<&'static str> {
    COMMANDS.iter().find(|(words, _)| words.contains(&word)).map(|(_, instead)| *instead)
}

/// The advice for `word`, a flag of another program (without dashes), in the command at `path`; `None` if the command has
/// nothing of the kind.
pub fn flag(word: &str, command: &Command, path: &str) -> Option<String> {
    let word = word.replace('_', "-");
    if has_flag(command, &word) {
        return Some(format!("write --{word}"));
    }
    let meanings = meanings(&word, command);
    let flags: Vec<String> = meanings
        .iter()
        .filter_map(|meaning| match meaning {
            Flag(name, remark) => Some(format!("--{name}{remark}")),
            Argument(..) => None,
        })
        .collect();
    let argument = meanings.iter().find_map(|meaning| match meaning {
        Argument(id, what) => {
            let verb = if what.ends_with('s') { "are arguments" } else { "is an argument" };
            Some(format!("{what} {verb} without a flag: polyhead {path}{}", arguments(command, id)))
        }
        Flag(..) => None,
    });
    let flags = (!flags.is_empty()).then(|| format!("write {}", flags.join(", or ")));
    let otherwise =
        || OTHERWISE.iter().find(|(words, _)| words.contains(&word.as_str())).map(|(_, text)| (*text).to_owned());
    argument.or(flags).or_else(otherwise)
}

/// The command's arguments up to `last`, as in ` MODEL IMAGES`.
fn arguments(command: &Command, last: &str) -> String {
    let mut text = String::new();
    for argument in command.get_positionals() {
        text += &format!(" {}", argument.get_id().as_str().to_uppercase());
        if argument.get_id() == last {
            break;
        }
    }
    text
}

fn has(command: &Command, meaning: &Here) -> bool {
    match meaning {
        Flag(name, _) => has_flag(command, name),
        Argument(id, _) => command.get_positionals().any(|arg| arg.get_id() == id),
    }
}

fn has_flag(command: &Command, name: &str) -> bool {
    command.get_arguments().any(|arg| arg.get_long() == Some(name) && !arg.is_hide_set())
}

/// The meanings of a word that the command has.
fn meanings(word: &str, command: &Command) -> Vec<&'static Here> {
    let of_word = FLAGS.iter().filter(|(words, _)| words.contains(&word));
    of_word.flat_map(|(_, meanings)| meanings.iter()).filter(|meaning| has(command, meaning)).collect()
}

/// The command line `args` (after the words of the command) with `key=value` words of another program written as here, and the advice for
/// those that have several meanings here; `None` if there are no such words.
pub fn rewritten(args: &[String], command: &Command, path: &str) -> Option<String> {
    let (mut arguments, mut flags, mut before) = (Vec::new(), Vec::new(), "");
    let place = |id: &str| command.get_positionals().position(|arg| arg.get_id() == id);
    let (mut is_changed, mut advice) = (false, String::new());
    for arg in args {
        let is_value = takes_value(before, command);
        before = arg;
        let pair = arg.split_once('=').filter(|(key, _)| !is_value && !key.starts_with('-'));
        if pair.is_some_and(|(key, value)| key == "task" && KINDS.contains(&value)) {
            is_changed = true;
            continue;
        }
        match pair.and_then(|(key, value)| spelled(&key.replace('_', "-"), value, command)) {
            Some((id, text)) => {
                is_changed = true;
                match id {
                    Some(id) => arguments.push((place(id), text)),
                    None => flags.push(text),
                }
            }
            None if let Some(instead) = pair.and_then(|(key, _)| flag(key, command, path)) => {
                is_changed = true;
                advice += &format!("; for {arg}, {instead}");
            }
            None if is_value || arg.starts_with('-') => flags.push(shell_word(arg.as_ref())),
            // In `yolo detect train`, the kind of task is a word of its own.
            None if KINDS.contains(&arg.as_str()) => {}
            None => arguments.push((Some(arguments.len()), arg.clone())),
        }
    }
    arguments.sort_by_key(|(place, _)| *place);
    let words = arguments.into_iter().map(|(_, text)| shell_word(text.as_ref()));
    let words: Vec<String> = words.chain(flags).collect();
    is_changed.then(|| format!("polyhead {path} {}{advice}", words.join(" ")))
}

/// Whether the word after `flag` is its value.
fn takes_value(flag: &str, command: &Command) -> bool {
    let own = |arg: &&Arg| arg.get_long().is_some_and(|long| flag.strip_prefix("--") == Some(long));
    let found = command.get_arguments().find(own);
    found.is_some_and(|arg| arg.get_action().takes_values() && !arg.is_require_equals_set())
}

/// `key=value` as typed here, with the id of the argument if it is one without a flag.
fn spelled(key: &str, value: &str, command: &Command) -> Option<(Option<&'static str>, String)> {
    let flag = |name: &str| {
        let arg = command.get_arguments().find(|arg| arg.get_long() == Some(name));
        let joint = if arg.is_some_and(Arg::is_require_equals_set) { "=" } else { " " };
        // Ultralytics writes lists in brackets.
        let list = value.strip_prefix('[').and_then(|list| list.strip_suffix(']'));
        let value = list.unwrap_or(value).replace(", ", ",");
        Some((None, format!("--{name}{joint}{}", shell_word(value.as_ref()))))
    };
    let other = OTHER_MEANING.iter().find(|(word, instead)| *word == key && has_flag(command, instead));
    if other.is_some() || has_flag(command, key) {
        return flag(other.map_or(key, |(_, instead)| instead));
    }
    match meanings(key, command).first()? {
        Argument(id, _) => Some((Some(*id), value.to_owned())),
        // A remark may be the flag's value, which another program expresses otherwise.
        Flag(name, "") => flag(name),
        Flag(..) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use crate::cli::tests::all;
    use clap::CommandFactory;

    /// Each meaning must exist in a command that does not have the word itself as a flag.
    #[test]
    fn every_name_in_the_tables_exists() {
        let cli = Cli::command();
        let commands = all(&cli);
        for (words, meanings) in &FLAGS {
            for meaning in *meanings {
                let is_used = |word: &&str| commands.iter().any(|c| has(c, meaning) && !has_flag(c, word));
                let (Flag(name, _) | Argument(name, _)) = meaning;
                assert!(words.iter().any(is_used), "{name} for {words:?}");
            }
        }
        for (words, instead) in &COMMANDS {
            for word in *words {
                assert!(cli.find_subcommand(word).is_none(), "{word} is a command");
            }
            for line in instead.split('`').skip(1).step_by(2).filter_map(|part| part.strip_prefix("polyhead ")) {
                let found = line.split(' ').try_fold(&cli, |command, word| command.find_subcommand(word));
                assert!(found.is_some(), "{line}");
            }
        }
    }

    #[test]
    fn words_of_other_programs_are_translated() {
        let cli = Cli::command();
        let of = |path: &str| path.split(' ').try_fold(&cli, |command, word| command.find_subcommand(word)).unwrap();
        for (path, word, expected) in [
            ("train", "data", Some("the data set is an argument without a flag: polyhead train DATA")),
            ("train", "model", Some("write --backbone for the trunk, or --weights for weights to start from")),
            ("predict", "model", Some("the model is an argument without a flag: polyhead predict MODEL")),
            ("predict", "source", Some("the images are arguments without a flag: polyhead predict MODEL IMAGES")),
            ("predict", "project", Some("write --out for the folder")),
            ("train", "close_mosaic", Some("write --close-mosaic")),
            ("predict", "lr", None),
            ("train", "nonsense", None),
            ("train", "early_stopping", Some("write --patience")),
            ("evaluate", "classes", Some("write --only-classes")),
            ("predict", "class", Some("write --only-classes")),
            ("predict", "task", Some("write --tasks")),
            ("train", "half", Some("there is no flag for the number format: CPUs compute in f32, and GPUs in bf16")),
        ] {
            assert_eq!(flag(word, of(path), path).as_deref(), expected, "{path} --{word}");
        }
        let line = |path: &str, args: &str| {
            let args: Vec<String> = args.split(' ').map(str::to_owned).collect();
            rewritten(&args, of(path), path)
        };
        assert_eq!(line("train", "lr=0.1 data=x.yaml --batch 4").unwrap(), "polyhead train x.yaml --lr0 0.1 --batch 4");
        assert_eq!(line("train", "detect data=x.yaml").unwrap(), "polyhead train x.yaml");
        assert_eq!(
            line("train", "data=x model=yolo.pt epochs=3").unwrap(),
            "polyhead train x --epochs 3; for model=yolo.pt, write --backbone for the trunk, or --weights for weights to start from"
        );
        assert_eq!(line("predict", "source=a model=m").unwrap(), "polyhead predict m a");
        assert_eq!(
            line("predict", "task=detect model=a source=b classes=0,2").unwrap(),
            "polyhead predict a b --only-classes 0,2"
        );
        assert_eq!(line("evaluate", "model=a classes=[0,2]").unwrap(), "polyhead evaluate a --only-classes 0,2");
        assert_eq!(line("train", "x --task-weight epochs=2 a=b"), None);
        let spaces = ["name=a run", "data=my data", "--project", "it's here"].map(str::to_owned);
        assert_eq!(
            rewritten(&spaces, of("train"), "train").unwrap(),
            "polyhead train 'my data' --name 'a run' --project 'it'\\''s here'"
        );
        assert_eq!(line("train", "--exist-ok data=x").unwrap(), "polyhead train x --exist-ok");
        assert_eq!(line("predict", "--no-images model=a source=b").unwrap(), "polyhead predict a b --no-images");
    }
}
