//! The flags of `polyhead train` that say how long a run lives, what of the network takes part, and what happens when
//! something goes wrong.

use crate::config::{BatchNormMode, OnNan, TrainConfig};
use crate::error::Result;
use crate::model::Stage;
use clap::Args;

#[derive(Args)]
pub struct LifeArgs {
    /// Batches whose gradients one update takes together
    #[arg(long)]
    accumulate: Option<usize>,
    /// Parts of the trunk that stay as they are: some of stem,layer1,layer2,layer3,layer4, or trunk
    #[arg(long, value_name = "STAGES")]
    freeze: Option<String>,
    /// `frozen` normalises by running statistics that stay, for small batches and a trunk with weights
    #[arg(long, value_enum)]
    batch_norm: Option<BatchNormMode>,
    /// End after so many epochs without a better one; 0 is never
    #[arg(long, value_name = "EPOCHS")]
    pub patience: Option<u64>,
    /// End after so many hours; takes the place of --epochs
    #[arg(long, value_name = "HOURS", conflicts_with = "epochs")]
    pub time: Option<f64>,
    /// Save the state at least this often, within an epoch too
    #[arg(long, value_name = "MINUTES")]
    pub save_minutes: Option<f32>,
    /// What to do when a loss is no number any more
    #[arg(long, value_enum)]
    on_nan: Option<OnNan>,
    /// Train and judge on the first N images without augmentation, to see whether they can be learnt by heart
    #[arg(long, value_name = "N")]
    overfit: Option<usize>,
    /// One step of everything, then stop; nothing is kept
    #[arg(long, conflicts_with = "resume")]
    pub dry_run: bool,
}

impl LifeArgs {
    pub fn apply(&self, config: &mut TrainConfig) -> Result<()> {
        if let Some(stages) = &self.freeze {
            config.freeze = Stage::parse_list(stages)?;
        }
        config.time = self.time;
        set(&mut config.accumulate, self.accumulate);
        set(&mut config.batch_norm, self.batch_norm);
        set(&mut config.patience, self.patience);
        set(&mut config.save_minutes, self.save_minutes);
        set(&mut config.on_nan, self.on_nan);
        set(&mut config.overfit, self.overfit);
        Ok(())
    }

    /// Those given that a resumed run does not heed.
    pub fn ignored(&self) -> impl Iterator<Item = &'static str> {
        let given = [
            (self.accumulate.is_some(), "--accumulate"),
            (self.freeze.is_some(), "--freeze"),
            (self.batch_norm.is_some(), "--batch-norm"),
            (self.on_nan.is_some(), "--on-nan"),
            (self.overfit.is_some(), "--overfit"),
        ];
        given.into_iter().filter(|g| g.0).map(|g| g.1)
    }
}

fn set<T: Copy>(field: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *field = value;
    }
}
