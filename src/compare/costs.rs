//! Costs of one model for all tasks compared with one model per task: parameters, memory, and seconds of inference, measured here
//! on synthetic images. Training times come from the runs.

use super::results::RunResult;
use super::setting::Setting;
use super::statistics::median;
use crate::error::Result;
use crate::executor::DeviceChoice;
use crate::model::{Model, ModelFile};
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, Instant};

/// One model for all tasks compared with one model per task.
#[derive(Clone, Debug, Serialize)]
pub struct Costs {
    /// Trainable parameters of the joint model.
    pub joint_parameters: usize,
    /// Trainable parameters of all single models; `None` if there are none.
    pub single_parameters: Option<usize>,
    /// Bytes of the joint model's parameters and of its arena.
    pub joint_bytes: usize,
    /// The same for all single models, loaded at the same time.
    pub single_bytes: Option<usize>,
    /// The device that inference ran on.
    pub device: String,
    /// Side of the images in pixels.
    pub imgsz: usize,
    /// Timed passes of each model.
    pub repeats: usize,
    /// One entry per batch size.
    pub inference: Vec<Inference>,
}

/// Median seconds per image at one batch size.
#[derive(Clone, Debug, Serialize)]
pub struct Inference {
    /// Images per batch.
    pub batch: usize,
    /// The joint model.
    pub joint_seconds: f64,
    /// All single models, one after another.
    pub single_seconds: Option<f64>,
}

/// Warm-up passes.
const WARMUP: usize = 2;
/// Minimum and maximum number of timed passes. Timing ends early after `LONG_ENOUGH`.
const REPEATS: std::ops::RangeInclusive<usize> = 5..=30;
const LONG_ENOUGH: Duration = Duration::from_secs(3);

/// Loads the models of one seed and times them alternately; `None` if the runs keep no weights.
///
/// # Errors
/// The weights are damaged, or the device is not available.
pub fn measure(runs: &[RunResult], tasks: &[String], device: &DeviceChoice) -> Result<Option<Costs>> {
    let has_weights = |run: &&RunResult| ModelFile::locate(&run.folder).is_ok();
    let Some(joint) = runs.iter().filter(|run| run.setting.single.is_none()).find(has_weights) else { return Ok(None) };
    let of_task = |task: &String| {
        let single = Setting::single(task);
        runs.iter().filter(|run| run.setting == single).find(has_weights).map(|run| run.folder.as_path())
    };
    let singles: Option<Vec<&Path>> = tasks.iter().map(of_task).collect();
    let mut joint_model = Model::load(&joint.folder, device)?;
    let mut single_models =
        singles.iter().flatten().map(|folder| Model::load(folder, device)).collect::<Result<Vec<_>>>()?;
    let (imgsz, mut batches) = (joint.config.imgsz, vec![1, joint.config.batch]);
    batches.dedup();
    let mut repeats = 0;
    let mut inference = Vec::new();
    for batch in batches {
        let (joint, single) = time(&mut joint_model, &mut single_models, [batch, imgsz, imgsz])?;
        repeats = joint.len();
        let per_image = |seconds: &[f64]| median(seconds).unwrap_or(f64::NAN) / batch as f64;
        let single_seconds = (!single_models.is_empty()).then(|| per_image(&single));
        inference.push(Inference { batch, joint_seconds: per_image(&joint), single_seconds });
    }
    let parameters = |model: &Model| model.card().architecture.parameter_count(imgsz);
    let counts = single_models.iter().map(parameters).collect::<Result<Vec<usize>>>()?;
    let bytes = |model: &Model, count: usize| count * size_of::<f32>() + model.executor().arena_bytes();
    let joint_parameters = parameters(&joint_model)?;
    let of_singles = |total: usize| (!single_models.is_empty()).then_some(total);
    Ok(Some(Costs {
        joint_parameters,
        single_parameters: of_singles(counts.iter().sum()),
        joint_bytes: bytes(&joint_model, joint_parameters),
        single_bytes: of_singles(single_models.iter().zip(&counts).map(|(model, count)| bytes(model, *count)).sum()),
        device: device.to_string(),
        imgsz,
        repeats,
        inference,
    }))
}

/// Seconds per pass of one batch, measured alternately: the joint model, and all single models together.
fn time(joint: &mut Model, singles: &mut [Model], shape: [usize; 3]) -> Result<(Vec<f64>, Vec<f64>)> {
    let images: Vec<u8> = (0..shape.iter().product::<usize>() * 3).map(|i| (i * 31 % 251) as u8).collect();
    let (mut of_joint, mut of_singles) = (Vec::new(), Vec::new());
    let began = Instant::now();
    for round in 0..WARMUP + REPEATS.end() {
        let start = Instant::now();
        joint.forward(shape, &images)?;
        let middle = Instant::now();
        singles.iter_mut().try_for_each(|model| model.forward(shape, &images).map(drop))?;
        if round >= WARMUP {
            of_joint.push((middle - start).as_secs_f64());
            of_singles.push(middle.elapsed().as_secs_f64());
        }
        if of_joint.len() >= *REPEATS.start() && began.elapsed() > LONG_ENOUGH {
            break;
        }
    }
    Ok((of_joint, of_singles))
}
