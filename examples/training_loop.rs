//! A hand-written training loop: data in arrays, two tasks, a custom balancing rule, the update, a saved model.
//!
//! ```sh
//! cargo run --release --example training_loop -- out      # writes model.safetensors and square.png to out/
//! ```
//!
//! Each image shows a square on a noisy background. The tasks are its colour (a class) and its side (a value in
//! pixels).

#![allow(clippy::print_stdout, clippy::print_stderr)]

use polyhead::balance::Weights;
use polyhead::data::random::Random;
use polyhead::draw::{Canvas, write_png};
use polyhead::error::{Error, Result};
use polyhead::executor::{DeviceChoice, Executor, ParameterSet, StepScalars};
use polyhead::graph::fuse::Fusion;
use polyhead::ir::Segment;
use polyhead::model::{Architecture, Backbone, Card, ModelFile, TrainingNetwork, init};
use polyhead::optim::schedule::{Decline, Schedule};
use polyhead::optim::{OptimizerConfig, OptimizerKind, OptimizerState};
use polyhead::tasks::classify::{Class, Classify};
use polyhead::tasks::regress::{Regress, Values};
use polyhead::tasks::{Encoder, Label, Target, Task, gather};
use std::{path::PathBuf, process::ExitCode};

const SIZE: usize = 64;
const BATCH: usize = 16;
const STEPS: u64 = 120;

/// The balancing rule: a task's weight is the inverse of the running mean of its loss, scaled so that the weights sum
/// to the number of tasks.
struct InverseLoss(Vec<f32>);

impl InverseLoss {
    fn weights(&self) -> Vec<f32> {
        let inverse: Vec<f32> = self.0.iter().map(|loss| 1.0 / loss.max(1e-6)).collect();
        let sum: f32 = inverse.iter().sum();
        inverse.iter().map(|w| w * inverse.len() as f32 / sum).collect()
    }

    fn observe(&mut self, losses: &[f32]) {
        self.0.iter_mut().zip(losses).for_each(|(mean, loss)| *mean = 0.9 * *mean + 0.1 * loss);
    }
}

/// One image `[SIZE, SIZE, 3]` and its label for each task.
fn scene(number: u64) -> (Vec<u8>, Vec<Label>) {
    let mut random = Random::new(&[7, number]);
    let mut pixels: Vec<u8> = (0..SIZE * SIZE * 3).map(|_| 60 + random.below(40) as u8).collect();
    let (colour, side) = (random.below(3), 12 + random.below(36));
    let (left, top) = (random.below(SIZE - side), random.below(SIZE - side));
    for (y, x) in (top..top + side).flat_map(|y| (left..left + side).map(move |x| (y, x))) {
        pixels[(y * SIZE + x) * 3 + colour] = 230;
    }
    (pixels, vec![Label::of(Class::One(colour)), Label::of(Values::from(&[side as f64][..]))])
}

fn run() -> Result<()> {
    let colours = ["red", "green", "blue"].map(String::from).to_vec();
    let side = Regress { units: ["px".into()].into(), ..Regress::new(vec!["side".into()]) };
    let tasks = vec![Task::new("colour", Classify::new(colours)), Task::new("side", side)];
    let mut card = Card::new(Architecture::new(Backbone::Tiny, tasks.clone(), SIZE, 0.0), SIZE);
    // Values are learned with mean 0 and deviation 1; the card stores both to convert predictions back to pixels.
    let labels: Vec<Vec<Label>> = (0..256).map(|number| scene(number).1).collect();
    card.standardisation = (0..2).map(|task| tasks[task].spec.fit(&mut labels.iter().map(|l| &l[task]))).collect();
    let levels = card.architecture.levels(SIZE, SIZE);
    let encoder = Encoder { tasks, levels, standardisation: card.standardisation.clone() };

    // The network with its losses and the backward pass as a list of nodes, and a plan that runs it on a device.
    let TrainingNetwork { network, losses, .. } = TrainingNetwork::new(&card.architecture, [BATCH, SIZE, SIZE])?;
    let device = DeviceChoice::Cpu { threads: 0 };
    let mut executor = Executor::new(&device, &network.graph.parameters, &network.graph.buffers)?;
    executor.edit_store(|store| init::initialise(store, 0))?;
    let (images, plan) = (network.images, executor.prepare(network.graph, Fusion::On)?);

    let schedule =
        Schedule { lr: 3e-3, decline: Decline::Cosine { final_share: 0.05 }, warmup_steps: 10, total_steps: STEPS };
    let (kind, clip_norm) = (OptimizerKind::AdamW, Some(10.0));
    let (rate_factors, momentum, weight_decay, average_decay) = (Vec::new(), 0.9, 0.01, 0.95);
    let config = OptimizerConfig { kind, schedule, rate_factors, momentum, weight_decay, clip_norm, average_decay };
    // One parameter group for the trunk and one for each head.
    let (mut optimizer, mut rule) = (OptimizerState::new(3), InverseLoss(vec![1.0; 2]));
    for step in 0..STEPS {
        let (mut pixels, mut targets) = (Vec::new(), Vec::new());
        for (image, labels) in (0..BATCH as u64).map(|i| scene(step * BATCH as u64 + i)) {
            pixels.extend(image); // [N, H, W, 3] after the loop
            targets.push(encoder.encode(&labels));
        }
        let targets: Vec<Target> = (0..2).map(|task| gather(targets.iter(), task)).collect();
        executor.write_u8(plan, images, &pixels)?;
        losses.iter().zip(&targets).try_for_each(|(loss, target)| loss.write(&mut executor, plan, target))?;

        let (weights, denominators) = (rule.weights(), targets.iter().map(|t| t.denominator).collect());
        let scalars =
            StepScalars { task_weights: weights.clone(), denominators, dropout_counter: step, micro_batches: 1 };
        for segment in [Segment::Forward, Segment::HeadsBackward, Segment::TrunkBackward] {
            executor.run(plan, segment, ParameterSet::Current, &scalars)?;
        }
        let values: Vec<f32> = losses.iter().map(|l| Ok(executor.read_f32(plan, l.loss)?[0])).collect::<Result<_>>()?;
        executor.update(&optimizer.advance(&config, step, &Weights::of_losses(weights.clone())))?;
        rule.observe(&values);
        if step % 20 == 0 || step + 1 == STEPS {
            println!("step {step:3}: losses {values:.4?}, weights {weights:.2?}");
        }
    }

    let Some(folder) = std::env::args().nth(1).map(PathBuf::from) else { return Ok(()) };
    std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    // The moving averages predict better than the last step's parameters.
    ModelFile::of_store(card, executor.store()?, ParameterSet::Average)?.save(&folder.join("model.safetensors"))?;
    write_png(&folder.join("square.png"), &Canvas::new(SIZE, SIZE, scene(u64::MAX).0)?)
}

fn main() -> ExitCode {
    let said = |error: Error| eprintln!("error: {error}");
    run().map_err(said).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}
