//! Feeds steps with batches from the loader, several per step if gradients are accumulated, and loads the next step's batches
//! ahead.

use super::step::{StepReport, StepTargets, Trainer};
use crate::data::{Broken, Sample, TrainLoader};
use crate::error::{Error, Result};
use crate::reading::count_of;
use crate::tasks::Target;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// The loader, and the step whose first batch is already on the device.
pub(super) struct Feed {
    loader: TrainLoader,
    samples: Arc<[Sample]>,
    /// Number of batches per step.
    accumulate: usize,
    /// Set by a signal, after which the feed waits for no more images.
    stop: Arc<AtomicBool>,
    waiting: Option<Waiting>,
    /// The error that loading the next step gave.
    failed: Option<Error>,
    /// Unreadable images found since they were last taken.
    broken: Vec<Broken>,
    /// Images of this epoch that lost every object although another task still has a label that refers to them.
    emptied: usize,
    pace: Pace,
}

struct Waiting {
    targets: StepTargets,
    /// The batches after the first.
    rest: Vec<Vec<u8>>,
    /// Indices of the images in the step.
    indices: Vec<usize>,
    /// The side of each batch.
    sides: Vec<usize>,
}

/// Speed of loader and steps.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Pace {
    pub images: usize,
    /// The smallest and the largest side of their batches.
    pub sides: Option<[usize; 2]>,
    /// Time spent waiting for the loader, and total time.
    pub waited: Duration,
    pub total: Duration,
}

/// A run that waits for images for more than this share of its time counts as starved.
const STARVED: f64 = 0.05;

impl Pace {
    pub fn images_per_second(&self) -> f64 {
        self.images as f64 / self.total.as_secs_f64()
    }

    /// The steps' own rate and the loader's, and whether the loader slows the steps down.
    pub fn describe(&self, loader: f64) -> String {
        if self.images == 0 {
            return "no step was done since the run was resumed".into();
        }
        let busy = self.total.saturating_sub(self.waited).as_secs_f64();
        let share = self.waited.as_secs_f64() / self.total.as_secs_f64();
        let rate = self.images as f64 / busy;
        // A loader that is faster than the steps made them wait only for the first images.
        let verdict = match share > STARVED && loader < rate {
            true => {
                format!("starved, {:.0} % of the time was spent waiting for images: raise --workers", 100.0 * share)
            }
            false => "fed".into(),
        };
        // If all batches have the same side, it is the run's image size and is not shown.
        let at = match self.sides {
            Some([least, most]) if least < most => format!(" at {least} to {most} px"),
            _ => String::new(),
        };
        format!("steps {:.1} images/s{at}, loader {loader:.1} images/s: {verdict}", rate)
    }

    fn add_side(&mut self, side: usize) {
        let [least, most] = self.sides.unwrap_or([side; 2]);
        self.sides = Some([least.min(side), most.max(side)]);
    }
}

impl Feed {
    pub fn new(loader: TrainLoader, samples: Arc<[Sample]>, accumulate: usize, stop: Arc<AtomicBool>) -> Feed {
        Feed {
            loader,
            samples,
            accumulate,
            stop,
            waiting: None,
            failed: None,
            broken: Vec::new(),
            emptied: 0,
            pace: Pace::default(),
        }
    }

    /// Runs one step. If `more`, another step follows, and its first batch is copied to the device meanwhile.
    ///
    /// # Errors
    /// A loss is NaN or infinite (the error names the images of the step), too many of its images are unreadable, or a signal
    /// arrives before they are read.
    pub fn step(&mut self, trainer: &mut Trainer, more: bool) -> Result<StepReport> {
        let started = Instant::now();
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        if self.waiting.is_none() {
            self.prepare(trainer)?;
        }
        let Some(Waiting { targets, rest, indices, sides }) = self.waiting.take() else {
            unreachable!("the step was just prepared")
        };
        trainer.begin(&targets);
        trainer.start()?;
        for (index, images) in rest.into_iter().enumerate() {
            trainer.load(&images, &targets, index + 1)?;
            self.loader.recycle(images);
            trainer.start()?;
        }
        // A method that runs the batch forward again after the update needs it to stay on the device.
        let waits = trainer.balance.needs_losses_after_update();
        // An error in the next step's images is kept, so that this step is not lost.
        if more && !waits {
            self.failed = self.prepare(trainer).err();
        }
        let report = trainer.finish().map_err(|e| self.with_images(e, &indices))?;
        if more && waits {
            self.failed = self.prepare(trainer).err();
        }
        self.pace.images += indices.len();
        sides.into_iter().for_each(|side| self.pace.add_side(side));
        self.pace.total += started.elapsed();
        Ok(report)
    }

    /// Takes a step's batches from the loader and copies the first to the device.
    fn prepare(&mut self, trainer: &mut Trainer) -> Result<()> {
        let (mut images, mut items, mut sides) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.accumulate {
            let asked = Instant::now();
            let batch = self.loader.next_unless(&self.stop)?;
            self.pace.waited += asked.elapsed();
            self.broken.extend(batch.broken);
            self.emptied += batch.items.iter().filter(|item| item.emptied).count();
            images.push(batch.images);
            items.push(batch.items);
            sides.push(batch.side);
        }
        let indices = items.iter().flatten().map(|item| item.index).collect();
        let encoded: Vec<Vec<Vec<Target>>> =
            items.into_iter().map(|batch| batch.into_iter().map(|item| item.targets).collect()).collect();
        let targets = StepTargets::new(&encoded.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let first = images.remove(0);
        trainer.load(&first, &targets, 0)?;
        self.loader.recycle(first);
        self.waiting = Some(Waiting { targets, rest: images, indices, sides });
        Ok(())
    }

    /// Unreadable images found since the last call.
    pub fn take_broken(&mut self) -> Vec<Broken> {
        std::mem::take(&mut self.broken)
    }

    /// A warning if images lost all their objects since the last call.
    pub fn take_warning(&mut self) -> Option<String> {
        let emptied = std::mem::take(&mut self.emptied);
        (emptied > 0).then(|| {
            format!(
                "warning: augmentation moved every object out of {} that another task also labels: `crop_safe: false` for that task in data.yaml prevents this",
                count_of(emptied as usize, "image")
            )
        })
    }

    /// The pace since the last call of [`Feed::end_epoch`].
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// The speed of the epoch as text; starts counting anew for the next epoch.
    pub fn end_epoch(&mut self) -> String {
        std::mem::take(&mut self.pace).describe(self.loader.images_per_second())
    }

    /// Adds the images of a step to the error about a loss that is NaN or infinite.
    fn with_images(&self, error: Error, indices: &[usize]) -> Error {
        let Error::NonFinite { report } = error else { return error };
        let names: Vec<&str> = indices.iter().map(|&i| self.samples[i].name.as_str()).collect();
        Error::NonFinite { report: format!("{report}. Images of the step: {}", names.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_images_is_reported() {
        let pace = |waited| Pace {
            images: 120,
            waited: Duration::from_secs(waited),
            total: Duration::from_secs(60),
            ..Pace::default()
        };
        assert_eq!(pace(0).images_per_second(), 2.0);
        assert_eq!(pace(3).describe(9.0), "steps 2.1 images/s, loader 9.0 images/s: fed");
        assert_eq!(pace(30).describe(9.0), "steps 4.0 images/s, loader 9.0 images/s: fed");
        let starved = pace(30).describe(2.5);
        assert!(starved.starts_with("steps 4.0 images/s, loader 2.5 images/s: starved, 50 % of"), "{starved}");
        let mut sized = pace(0);
        sized.add_side(64);
        assert_eq!(sized.describe(9.0), pace(0).describe(9.0));
        [96, 32, 64].into_iter().for_each(|side| sized.add_side(side));
        assert_eq!(sized.describe(9.0), "steps 2.0 images/s at 32 to 96 px, loader 9.0 images/s: fed");
    }
}
