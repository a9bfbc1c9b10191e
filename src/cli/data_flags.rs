//! The flags of `polyhead data`.

use super::augment_flags::AugmentedArgs;
use super::evaluate_flags::SplitWord;
use super::{inputs, job};
use crate::console;
use crate::data::built_in::Planted;
use crate::data::check::{self, CheckOptions, Examined};
use crate::data::convert::{self, Target, Transfer};
use crate::data::ranges::number;
use crate::data::{Dataset, OpenOptions, describe, digits};
use crate::draw::{self, PictureFormat};
use crate::error::{Error, Result, sentence, shown};
use crate::files::write_synced;
use crate::preview;
use crate::reading::shell_word;
use crate::replacing;
use clap::{Args, Subcommand, ValueEnum};
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub enum DataCommand {
    /// Report what a data set contains and what is wrong with it, with file and line; exit code 1 if training would not
    /// start
    Check(CheckArgs),
    /// Draw a sample of the images with their labels onto one picture, or a batch as training sees it
    Preview(Box<PreviewArgs>),
    /// Write a data set in another layout
    Convert(ConvertArgs),
    /// Print the full declaration of a data set, detected or written, as a data.yaml
    Describe(DataArgs),
    /// Write the built-in digits as image files, labels and data.yaml
    Digits {
        /// The folder to write to
        dir: PathBuf,
        /// Seed for everything that is random
        #[arg(long, value_name = "NUMBER", default_value_t = 0)]
        seed: u64,
        /// Add more tasks whose relation to the three is known [default: none]
        #[arg(long, value_name = "FORM", value_enum)]
        conflict: Option<Planted>,
    },
}

#[derive(Args)]
pub struct DataArgs {
    /// A folder of images or a data.yaml
    data: PathBuf,
    /// Share held out for validation if the data set has no split of its own [default: data.yaml's, or 0.2]
    #[arg(long, value_name = "SHARE")]
    val_fraction: Option<f32>,
    /// Seed for choosing the held-out images
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Args)]
pub struct CheckArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Write a repaired copy to this new folder: data.yaml, labels, and the images (as hard links if possible)
    #[arg(long, value_name = "DIR")]
    fix: Option<PathBuf>,
    /// Write everything that was found to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Share of unreadable images above which training fails; one is always tolerated, unless this is 0
    #[arg(long, default_value_t = 0.01)]
    max_broken: f32,
}

#[derive(Args)]
pub struct PreviewArgs {
    #[command(flatten)]
    data: DataArgs,
    /// The picture to write; its name ends in .jpg, or in .png, which is several times as large for photographs
    #[arg(long, value_name = "PICTURE")]
    out: PathBuf,
    /// Number of images on it, at most 400, chosen by --seed
    #[arg(long, default_value_t = 16, value_parser = images_of_preview, conflicts_with = "augmented")]
    count: u16,
    /// The split to take the images from
    #[arg(long, value_enum, default_value = "train", conflicts_with = "augmented")]
    split: SplitWord,
    #[command(flatten)]
    augmented: AugmentedArgs,
}

fn images_of_preview(text: &str) -> std::result::Result<u16, String> {
    number(text, |n| (1..=400).contains(n), "a whole number from 1 to 400")
}

#[derive(Clone, Copy, ValueEnum)]
enum TargetWord {
    Coco,
    Yolo,
    Voc,
    Jsonl,
}

#[derive(Args)]
pub struct ConvertArgs {
    #[command(flatten)]
    data: DataArgs,
    /// jsonl is polyhead's own layout and holds every task; the others hold the boxes of one
    #[arg(long, value_enum)]
    to: TargetWord,
    /// A new folder
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The detection task to write, if there are several
    #[arg(long, value_name = "NAME")]
    task: Option<String>,
    /// Write even if the layout cannot hold everything
    #[arg(long)]
    force: bool,
    /// Hard links only; fail if that is impossible [default: links if the file system supports them, else copies]
    #[arg(long, conflicts_with = "copy")]
    link: bool,
    /// Copy the images
    #[arg(long)]
    copy: bool,
}

impl DataCommand {
    /// The data set that the command reads.
    fn data(&self) -> Option<&Path> {
        match self {
            DataCommand::Check(CheckArgs { data, .. })
            | DataCommand::Convert(ConvertArgs { data, .. })
            | DataCommand::Describe(data) => Some(&data.data),
            DataCommand::Preview(args) => Some(&args.data.data),
            DataCommand::Digits { .. } => None,
        }
    }
}

impl DataArgs {
    fn options(&self) -> OpenOptions {
        OpenOptions { val_fraction: self.val_fraction, seed: self.seed, ..OpenOptions::default() }
    }
}

/// Runs a `data` command.
///
/// # Errors
/// The reason why it stopped, as a sentence.
pub fn run(command: DataCommand) -> Result<()> {
    inputs::DATA.check(command.data())?;
    match command {
        DataCommand::Check(args) => args.check(),
        DataCommand::Preview(args) => args.preview(),
        DataCommand::Convert(args) => args.convert(),
        DataCommand::Describe(args) => {
            let text = job::shown(|progress| describe::data_yaml(&args.data, &args.options(), progress))?;
            console::print(&text)?;
            Ok(())
        }
        DataCommand::Digits { dir, seed, conflict } => {
            let options = digits::DigitsOptions { seed, ..digits::DigitsOptions::default() };
            job::writing(&dir, |progress| digits::write_planted(&dir, &options, conflict, progress))?;
            let [shown, word] = [shown(&dir), shell_word(dir.as_os_str())];
            console::print(&format!("wrote {shown}; train on it with: polyhead train {word}\n"))?;
            Ok(())
        }
    }
}

impl CheckArgs {
    fn check(&self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.max_broken) {
            return Err(Error::Usage(format!("--max-broken {}: expected a share from 0 to 1", self.max_broken)));
        }
        if let Some(out) = &self.fix {
            convert::check_out(&self.data.data, out)?;
        }
        let options = CheckOptions { open: self.data.options(), max_broken: self.max_broken };
        let examined = job::shown(|progress| check::check(&self.data.data, &options, progress))?;
        // Files are written first, because the reader of the report may stop reading.
        let fix = |out: &Path| job::writing(out, |progress| check::fix(&examined, out, Transfer::LinkOrCopy, progress));
        let fixed = self.fix.as_deref().map(fix).transpose();
        self.write_json(&examined)?;
        console::print(&format!("{}\n", examined.check))?;
        if let Some(fixed) = fixed? {
            console::print(&fixed.to_string())?;
        }
        examined.check.verdict()
    }

    fn write_json(&self, examined: &Examined) -> Result<()> {
        let Some(file) = &self.json else {
            return Ok(());
        };
        let text = serde_json::to_string_pretty(&examined.check).map_err(|e| Error::Other(e.to_string()))? + "\n";
        write_synced(file, text.as_bytes())
    }
}

impl PreviewArgs {
    fn preview(&self) -> Result<()> {
        let format = PictureFormat::of(&self.out).ok_or_else(|| {
            Error::Usage(format!("--out {}: expected a name that ends in .jpg or .png", shown(&self.out)))
        })?;
        // An image of the data set, for example.
        replacing::check_picture(&self.out)?;
        let sheet = if self.augmented.is_asked()? {
            let (batch, notes) = self.augmented.draw(&self.data.data, &self.data.options())?;
            notes.iter().for_each(|note| console::say(&format!("note: {}", sentence(note))));
            batch
        } else {
            let dataset = Dataset::open(&self.data.data, &self.data.options())?;
            let samples = dataset.split(self.split.into());
            let (sheet, broken) = preview::preview(&dataset.tasks, samples, self.count.into(), self.data.seed)?;
            broken.iter().for_each(|name| console::say(&format!("unreadable, left out: {}", sentence(name))));
            sheet
        };
        draw::write_picture(&self.out, &sheet, format)?;
        console::print(&format!("wrote {}\n", shown(&self.out)))?;
        Ok(())
    }
}

impl ConvertArgs {
    fn convert(self) -> Result<()> {
        let options = convert::Options {
            target: match self.to {
                TargetWord::Coco => Target::Coco,
                TargetWord::Yolo => Target::Yolo,
                TargetWord::Voc => Target::Voc,
                TargetWord::Jsonl => Target::Jsonl,
            },
            transfer: match (self.link, self.copy) {
                (true, _) => Transfer::Link,
                (_, true) => Transfer::Copy,
                _ => Transfer::LinkOrCopy,
            },
            force: self.force,
            task: self.task,
            open: self.data.options(),
        };
        let converted =
            job::writing(&self.out, |progress| convert::convert(&self.data.data, &self.out, &options, progress))?;
        console::print(&converted.to_string())?;
        Ok(())
    }
}
