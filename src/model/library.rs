//! A trained network on a device, for programs that build on polyhead. This file handles arrays; the `predict` module adds
//! image files and typed predictions to the same type.

use super::card::Card;
use super::file::ModelFile;
use super::forward::ForwardPlan;
use super::weights;
use crate::error::{Error, Result};
use crate::executor::{DeviceChoice, Executor, NodeTime, ParameterSet};
use crate::tasks::HeadOutput;
use candle_core::Tensor;
use std::path::Path;

/// A network on a device: its card, its weights, and the plans for recently used batch sizes.
///
/// A plan is made for the first batch of a size and kept. Only the [`Model::PLANS`] most recently used plans are kept, so that
/// memory stays bounded whatever sizes a program uses. All plans share one arena, as large as the largest of them needs.
///
/// Every method that computes takes `&mut self`: one model computes one batch at a time, on all its threads.
pub struct Model {
    card: Card,
    executor: Executor,
    /// Sorted by use, the most recent last.
    plans: Vec<Kept>,
}

/// The outputs that a plan computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PlanKind {
    Answers,
    Features,
}

struct Kept {
    kind: PlanKind,
    /// `[N, H, W]`
    shape: [usize; 3],
    plan: ForwardPlan,
}

impl Model {
    /// The number of plans that a model keeps: features and predictions, each for full batches and for a smaller last
    /// one.
    pub const PLANS: usize = 4;

    /// Loads a weights file, or the best weights of a run's folder, onto a device. A plain ResNet file becomes a classifier
    /// with numbered classes; use [`ModelFile::read`] to name them.
    ///
    /// # Errors
    /// The file is missing, damaged or of an unknown network, or the device is not available.
    pub fn load(path: impl AsRef<Path>, device: &DeviceChoice) -> Result<Model> {
        ModelFile::read(&ModelFile::locate(path.as_ref())?, None)?.start(device)
    }

    pub(super) fn new(card: Card, executor: Executor) -> Model {
        Model { card, executor, plans: Vec::new() }
    }

    /// The card: tasks with their classes and units, training image size, and framing of images.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// The device that the model runs on.
    pub fn executor(&self) -> &Executor {
        &self.executor
    }

    /// The shared features of images.
    ///
    /// Shapes: images u8 `[N, H, W, 3]`, RGB, at the network's input size; c3, c4, c5 f32 `[N, ⌈H/8⌉, ⌈W/8⌉, C]`, and so
    /// on with 16 and 32, channels last. Only the first call for a shape makes a plan.
    ///
    /// # Errors
    /// The images have another type or rank, the batch is empty, or a GPU call fails.
    pub fn features(&mut self, images: &Tensor) -> Result<[Tensor; 3]> {
        let (shape, bytes) = rgb_bytes(images)?;
        let output = self.plan(PlanKind::Features, shape)?.run_current(&bytes)?.swap_remove(0);
        let [n, h, w] = shape;
        let mut maps = output.values.into_iter().zip([8, 16, 32]).map(|(values, stride)| {
            let [p, q] = [h, w].map(|side| side.div_ceil(stride));
            let channels = values.len() / (n * p * q);
            Tensor::from_vec(values, [n, p, q, channels].as_slice(), &candle_core::Device::Cpu)
                .map_err(weights::of_candle)
        });
        let mut next = || maps.next().unwrap_or_else(|| unreachable!("the trunk has three features"));
        Ok([next()?, next()?, next()?])
    }

    /// The raw outputs of the heads for a batch; see `Model::predict` for typed predictions.
    ///
    /// Shapes: `shape` is `[N, H, W]` of the images, u8 `[N, H, W, 3]`; one output per task.
    ///
    /// # Errors
    /// The network does not support this shape, the images have another length, or a GPU call fails.
    pub fn forward(&mut self, shape: [usize; 3], images: &[u8]) -> Result<Vec<HeadOutput>> {
        check_length(shape, images)?;
        self.plan(PlanKind::Answers, shape)?.run_current(images)
    }

    /// Copies the next batch to the device. The batch that was started may still be computing.
    ///
    /// `load_batch`, `start_batch` and `batch_outputs` with the same shape form a pipeline. Any other call in between may
    /// overwrite its batch and its outputs.
    ///
    /// # Errors
    /// See [`Model::forward`].
    pub fn load_batch(&mut self, shape: [usize; 3], images: &[u8]) -> Result<()> {
        check_length(shape, images)?;
        let Ready { plan, executor } = self.plan(PlanKind::Answers, shape)?;
        plan.load(executor, images)
    }

    /// Starts computing the batch of this shape that was loaded last.
    ///
    /// # Errors
    /// No batch of this shape was loaded, its plan was dropped for other shapes, or a GPU call fails.
    pub fn start_batch(&mut self, shape: [usize; 3]) -> Result<()> {
        let Ready { plan, executor } = self.loaded(shape)?;
        plan.start(executor, ParameterSet::Current)
    }

    /// Waits for the batch that was started last and returns the raw outputs of the heads.
    ///
    /// # Errors
    /// See [`Model::start_batch`].
    pub fn batch_outputs(&mut self, shape: [usize; 3]) -> Result<Vec<HeadOutput>> {
        let Ready { plan, executor } = self.loaded(shape)?;
        plan.answers(executor)
    }

    /// Times every node of a batch's pass; see [`Executor::time_nodes`].
    ///
    /// # Errors
    /// See [`Model::forward`].
    pub fn time_nodes(&mut self, shape: [usize; 3], images: &[u8], repeats: usize) -> Result<Vec<NodeTime>> {
        self.load_batch(shape, images)?;
        let Ready { plan, executor } = self.plan(PlanKind::Answers, shape)?;
        plan.time_nodes(executor, repeats)
    }

    /// The kept plan with the loaded batch of this shape. A new plan would have no batch, so none is made.
    fn loaded(&mut self, shape: [usize; 3]) -> Result<Ready<'_>> {
        let kept = |kept: &&Kept| kept.kind == PlanKind::Answers && kept.shape == shape;
        match self.plans.iter().find(kept) {
            Some(kept) => Ok(Ready { plan: &kept.plan, executor: &mut self.executor }),
            None => Err(Error::Usage(format!("no batch of {shape:?} was loaded"))),
        }
    }

    /// The plan for batches of this shape: a kept one, or a new one that replaces the least recently used.
    fn plan(&mut self, kind: PlanKind, shape: [usize; 3]) -> Result<Ready<'_>> {
        match self.plans.iter().position(|kept| kept.kind == kind && kept.shape == shape) {
            Some(place) => self.plans[place..].rotate_left(1),
            None => {
                let architecture = &self.card.architecture;
                let plan = match kind {
                    PlanKind::Answers => ForwardPlan::prepare(&mut self.executor, architecture, shape)?,
                    PlanKind::Features => ForwardPlan::features(&mut self.executor, architecture, shape)?,
                };
                self.plans.push(Kept { kind, shape, plan });
                if self.plans.len() > Model::PLANS {
                    self.plans.remove(0).plan.release(&mut self.executor)?;
                }
            }
        }
        let last = self.plans.last().unwrap_or_else(|| unreachable!("a plan was kept just now"));
        Ok(Ready { plan: &last.plan, executor: &mut self.executor })
    }
}

/// A plan and the executor that it was made for.
struct Ready<'a> {
    plan: &'a ForwardPlan,
    executor: &'a mut Executor,
}

impl Ready<'_> {
    fn run_current(self, images: &[u8]) -> Result<Vec<HeadOutput>> {
        self.plan.run(self.executor, ParameterSet::Current, images)
    }
}

/// # Errors
/// The images are not u8 `[N, H, W, 3]` of this shape.
fn check_length(shape: [usize; 3], images: &[u8]) -> Result<()> {
    let expected = shape.iter().product::<usize>() * 3;
    match images.len() == expected {
        true => Ok(()),
        false => Err(Error::Usage(format!("images of {} bytes: expected {expected} for {shape:?}", images.len()))),
    }
}

/// `[N, H, W]` and the bytes of images u8 `[N, H, W, 3]`.
///
/// # Errors
/// The tensor has another type or rank, or no pixels.
pub(crate) fn rgb_bytes(images: &Tensor) -> Result<([usize; 3], Vec<u8>)> {
    let dims = images.dims();
    let &[n, h, w, 3] = dims else {
        return Err(Error::Usage(format!("images of shape {dims:?}: expected [N, H, W, 3], 8-bit RGB")));
    };
    if n * h * w == 0 {
        return Err(Error::Usage(format!("images of shape {dims:?}: expected at least one pixel")));
    }
    let bytes = images.flatten_all().and_then(|t| t.to_vec1::<u8>()).map_err(weights::of_candle)?;
    Ok(([n, h, w], bytes))
}
