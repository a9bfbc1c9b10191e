//! The flags of `polyhead data`.

use super::job;
use crate::data::{OpenOptions, describe, digits};
use crate::error::Result;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Subcommand)]
pub enum DataCommand {
    /// Print what a data set declares, found or written, as a whole data.yaml
    Describe(DataArgs),
    /// Write the built-in digits as image files, labels and data.yaml
    Digits {
        dir: PathBuf,
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
}

#[derive(Args)]
pub struct DataArgs {
    /// A folder of images or a data.yaml
    data: PathBuf,
    /// Share held out for validation where the data set has no split of its own
    #[arg(long)]
    val_fraction: Option<f32>,
    /// Decides which those are
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl DataArgs {
    fn options(&self) -> OpenOptions {
        OpenOptions { val_fraction: self.val_fraction, seed: self.seed }
    }
}

/// Does what was asked of a data set.
///
/// # Errors
/// Whatever stopped it, as a sentence.
pub fn run(command: DataCommand) -> Result<()> {
    match command {
        DataCommand::Describe(args) => {
            let text = job::shown(|progress| describe::data_yaml(&args.data, &args.options(), progress))?;
            print!("{text}");
            Ok(())
        }
        DataCommand::Digits { dir, seed } => {
            let options = digits::DigitsOptions { seed, ..digits::DigitsOptions::default() };
            digits::write_digits(&dir, &options)?;
            println!("wrote {}; train on it with: polyhead train {}", dir.display(), dir.display());
            Ok(())
        }
    }
}
