//! The flags of `polyhead bench`.

use crate::bench;
use crate::error::Result;
use crate::executor::DeviceChoice;
use crate::model::Backbone;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Subcommand)]
pub enum BenchCommand {
    /// Images per second of whole training steps
    Train(BenchArgs),
    /// Images per second of evaluation forward passes
    Infer(BenchArgs),
    /// Where a training step's time goes, by op and size, against the device's ceilings and the unfused list
    Ops {
        #[command(flatten)]
        bench: BenchArgs,
        /// First compare every kernel with the CPU's op on so many random images, at most the batch (8 unless given); where
        /// one is wrong nothing is timed. Takes as long as a few steps on the CPU and the memory of one
        #[arg(long, value_name = "IMAGES", num_args = 0..=1, require_equals = true, default_missing_value = "8")]
        check: Option<usize>,
    },
}

#[derive(Args)]
pub struct BenchArgs {
    #[arg(long, default_value_t = 224)]
    imgsz: usize,
    #[arg(long, default_value_t = 8)]
    batch: usize,
    #[arg(long, default_value_t = 0)]
    threads: usize,
    #[arg(long, default_value = "auto")]
    device: String,
    #[arg(long, default_value = "resnet50")]
    backbone: String,
    /// Which heads: `classify` (1000 classes), or `all` (classification, lite detection and regression)
    #[arg(long, value_enum, default_value = "classify")]
    heads: bench::Heads,
    /// Timed repeats
    #[arg(long, default_value_t = 10)]
    repeats: usize,
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl BenchArgs {
    pub fn options(self) -> Result<bench::Options> {
        Ok(bench::Options {
            imgsz: self.imgsz,
            batch: self.batch,
            device: DeviceChoice::parse(&self.device, self.threads)?,
            backbone: Backbone::parse(&self.backbone)?,
            heads: self.heads,
            repeats: self.repeats,
        })
    }
}
