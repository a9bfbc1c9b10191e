//! Prepares a run before its first step: images, model card, trainer, loader and initial weights.

use super::step::{Trainer, probe_for};
use super::telemetry::{GRAMIAN_INTERVAL, pairs};
use super::trials::Trials;
use crate::balance::{Balance, Method, Setup};
use crate::config::{BatchNormMode, CacheChoice, GramianPlace, STRIDE, TrainConfig, number_of};
use crate::data::augment::remarks;
use crate::data::images::cache::Cache;
use crate::data::random::hash_text;
use crate::data::{
    Augment, Dataset, Framing, LoaderOptions, Mixture, OpenOptions, Sample, Sampling, TrainLoader, Variety, digits,
};
use crate::error::{Error, Result, shown};
use crate::executor::DeviceChoice;
use crate::graph::fuse::Fusion;
use crate::model::start::{self, SHOWN};
use crate::model::{Architecture, Card, Probe, Stage, TrainingNetwork, weights};
use crate::optim::OptimizerConfig;
use crate::optim::schedule::{Decline, Schedule, ScheduleKind};
use crate::reading::{count_of, list_some};
use crate::tasks::Invariances;
use crate::tasks::{Encoders, Label, LabelFeatures, LabelValue, Likelihood, Mixing, Regions, Task};
use std::path::Path;
use std::sync::Arc;

/// The images that a run trains and validates on, with the tasks that label them.
pub(crate) struct Data {
    pub name: String,
    pub tasks: Vec<Task>,
    pub crop_safe: bool,
    pub flip_safe: bool,
    pub scale_safe: bool,
    pub invariances: Vec<Invariances>,
    /// The shares of several sources in every batch.
    pub mixture: Option<Arc<Mixture>>,
    pub train: Arc<[Sample]>,
    pub val: Arc<[Sample]>,
    pub cache: Option<Arc<Cache>>,
    /// The number of epochs that --close-mosaic counts back from, if --time was first given when the run was resumed.
    pub mosaic_epochs: Option<u64>,
    pub notes: Vec<String>,
}

impl Data {
    pub fn open(config: &TrainConfig) -> Result<Data> {
        let path = match &config.data {
            Some(path) => path.clone(),
            None => digits::digits_dataset(&config.shared_folder().join("datasets"))?,
        };
        let options = OpenOptions {
            val_fraction: config.val_fraction,
            fold: config.fold,
            seed: config.seed,
            tasks: config.task.clone(),
            ..OpenOptions::default()
        };
        let mut dataset = Dataset::open(&path, &options)?;
        if dataset.train.is_empty() {
            return Err(Error::data(&path, None, "the training split has no images"));
        }
        check_names("--task-weight", config.task_weights.iter().map(|(task, _)| task), &dataset.tasks)?;
        let weight = |task: &Task| number_of(&task.name, &config.task_weights);
        if dataset.tasks.iter().all(|task| weight(task) == Some(0.0)) {
            return Err(Error::Usage(
                "--task-weight: every task has the weight 0, so nothing would be trained: give one a weight above 0"
                    .into(),
            ));
        }
        check_names("--primary-task", config.primary_task.iter(), &dataset.tasks)?;
        check_names("--lr-head", config.lr_heads.iter().map(|(task, _)| task), &dataset.tasks)?;
        dataset.keep_fraction(config.fraction, config.seed);
        if config.overfit > 0 {
            overfit(&mut dataset, config.overfit);
        }
        if config.multi_scale > 0.0 && config.overfit == 0 && !dataset.scale_safe {
            return Err(Error::Usage(format!(
                "--multi-scale {}: the data set says scale_invariant: false, so its images must not be shown at several sizes: leave the flag out (a run that was started with it needs the declaration it was started with)",
                config.multi_scale
            )));
        }
        let mixture = dataset.sources.mixture(&dataset.train).filter(|_| config.overfit == 0);
        if mixture.is_some() && (config.sampling != Sampling::Uniform || config.repeat_factor > 0.0) {
            return Err(Error::Usage(format!(
                "{}: `ratio:` and `repeat:` of its sources decide how often images are shown: leave out --sampling and --repeat-factor",
                shown(&path)
            )));
        }
        let cache = cache(config)?;
        let notes = notes(config, &dataset, cache.as_deref());
        Ok(Data {
            name: shown(&path),
            tasks: dataset.tasks,
            crop_safe: dataset.crop_safe,
            flip_safe: dataset.flip_safe,
            scale_safe: dataset.scale_safe,
            invariances: dataset.invariances,
            mixture: mixture.map(Arc::new),
            train: dataset.train.into(),
            val: dataset.val.into(),
            cache,
            mosaic_epochs: None,
            notes,
        })
    }

    fn augment(&self, config: &TrainConfig) -> Augment {
        if config.overfit > 0 {
            return Augment::NONE;
        }
        let mut augment = Augment::training(self.crop_safe && self.scale_safe, self.flip_safe);
        if self.flip_safe {
            augment.flip = config.fliplr;
        }
        if let Framing::Scatter { least_scale } = &mut augment.framing {
            *least_scale = if self.scale_safe { config.scale } else { 1.0 };
        }
        augment.brightness = config.jitter;
        augment.contrast = config.jitter;
        augment.saturation = config.jitter;
        augment
    }

    fn variety(&self, config: &TrainConfig) -> Variety {
        if config.overfit > 0 {
            return Variety::default();
        }
        let batches = self.steps_per_epoch(config) * config.accumulate as u64;
        let mosaics = epochs_with_mosaics(config, self.mosaic_epochs);
        Variety {
            transforms: config.transforms,
            invariances: self.invariances.clone(),
            mosaic_batches: mosaics.map_or(u64::MAX, |epochs| epochs * batches),
            sampling: config.sampling,
            mixture: self.mixture.clone(),
            repeat_factor: config.repeat_factor,
            sides: config.sides(),
        }
    }

    /// The options of a loader that makes no targets; [`loader`] adds the encoders for them.
    pub fn loader_options(&self, config: &TrainConfig) -> LoaderOptions {
        LoaderOptions {
            batch: config.batch,
            imgsz: config.imgsz,
            workers: config.workers,
            seed: config.seed,
            augment: self.augment(config),
            variety: self.variety(config),
            max_broken: config.max_broken,
            prefetch: 2 + config.accumulate,
            cache: self.cache.clone(),
            encoders: None,
        }
    }

    /// A hash of the images' names in order. A resumed run must have the same ones.
    pub fn fingerprint(&self) -> u64 {
        let names =
            self.train.iter().map(|s| s.name.as_str()).chain(["|"]).chain(self.val.iter().map(|s| s.name.as_str()));
        names.fold(0, hash_text)
    }

    pub fn steps_per_epoch(&self, config: &TrainConfig) -> u64 {
        self.train.len().div_ceil(config.batch * config.accumulate) as u64
    }
}

/// The number of epochs that may have mosaics; `None` if all may. `kept` is the number that --close-mosaic counts back from,
/// if it is not that of `config`.
fn epochs_with_mosaics(config: &TrainConfig, kept: Option<u64>) -> Option<u64> {
    // With --time the number of epochs is not known beforehand.
    let epochs = kept.or(config.time.is_none().then_some(config.epochs))?;
    Some(epochs.saturating_sub(config.transforms.close_mosaic))
}

/// Keeps only the first `images` training images, and validates on them too.
fn overfit(dataset: &mut Dataset, images: usize) {
    dataset.train.truncate(images);
    dataset.val.clone_from(&dataset.train);
}

/// The notes on the run's data that are logged before it starts.
fn notes(config: &TrainConfig, dataset: &Dataset, cache: Option<&Cache>) -> Vec<String> {
    let mut notes = vec![dataset.layout.clone()];
    if config.overfit > 0 {
        let images = count_of(dataset.train.len(), "training image");
        notes.push(format!("overfitting {images}: validated on the same ones, without augmentation"));
    }
    if config.batch < 8 && config.batch_norm == BatchNormMode::Train && config.freeze.len() < Stage::ALL.len() {
        let images = count_of(config.batch, "image");
        notes.push(format!(
            "batch norm over {images} is noisy: with weights to start from, --batch-norm frozen is steadier"
        ));
    }
    notes.extend(dataset.notes.iter().cloned());
    notes.extend(dataset.problems.iter().cloned());
    if dataset.tasks.len() == 1 && config.balance != TrainConfig::default().balance {
        notes.push(format!("--balance {}: there is one task, so its weight stays the same", config.balance));
    }
    for (index, task) in dataset.tasks.iter().enumerate() {
        if !dataset.train.iter().any(|s| s.labels[index].is_labelled()) {
            notes.push(format!("{}: no training image has labels for it: this task is not trained", task.name));
        }
    }
    if !dataset.flip_safe && config.fliplr > 0.0 {
        notes.push("mirror images are off: the data set says flip_safe: false".into());
    }
    if !dataset.scale_safe {
        notes.push("images are not scaled (--scale, crops): the data set says scale_invariant: false".into());
    }
    if config.overfit == 0 {
        notes.extend(notes_on_augmentation(config, dataset));
    }
    notes.extend(gramian_place(config, &dataset.tasks, &dataset.train).1);
    notes.extend(cache.map(ToString::to_string));
    if dataset.val.is_empty() {
        notes.push("no validation images: there are no metrics, and `best` is the last epoch".into());
    }
    notes
}

fn notes_on_augmentation(config: &TrainConfig, dataset: &Dataset) -> Vec<String> {
    let mut notes = Vec::new();
    if config.multi_scale > 0.0 {
        notes.extend(multi_scale(config, &dataset.tasks, &dataset.invariances));
    }
    notes.extend(remarks(&config.transforms, &dataset.tasks, &dataset.invariances, &dataset.train));
    let (mosaic, close, epochs) = (config.transforms.mosaic, config.transforms.close_mosaic, config.epochs);
    if mosaic > 0.0 && close >= epochs {
        let epochs = count_of(epochs as usize, "epoch");
        notes.push(format!("no mosaics: --close-mosaic {close} keeps them out of the whole run of {epochs}"));
    }
    notes
}

/// The notes on --multi-scale that are logged before the run starts.
fn multi_scale(config: &TrainConfig, tasks: &[Task], invariances: &[Invariances]) -> Vec<String> {
    let (sides, imgsz) = (config.sides(), config.imgsz);
    let [first, .., last] = sides[..] else {
        let share = config.multi_scale;
        return vec![format!(
            "--multi-scale {share}: no other multiple of {STRIDE} lies within that share of {imgsz} px, so every batch has {imgsz} px"
        )];
    };
    let count = sides.len();
    let pixels = sides.iter().map(|side| (side * side) as f64).sum::<f64>() / (count * imgsz * imgsz) as f64;
    let mut notes = vec![format!(
        "multi-scale: batches of {count} sides from {first} to {last} px, on average of {pixels:.2} times the pixels of {imgsz} px, the side for validation"
    )];
    let sized =
        tasks.iter().zip(invariances).filter(|(_, invariances)| !invariances.scale).map(|(task, _)| task.name.as_str());
    let sized: Vec<&str> = sized.collect();
    if !sized.is_empty() {
        notes.push(format!(
            "{}: --multi-scale shows images at several sizes while their values stay; `scale_invariant: false` in data.yaml forbids that, `true` silences this note",
            sized.join(", ")
        ));
    }
    notes
}

/// The cache of decoded images, if the run has one.
fn cache(config: &TrainConfig) -> Result<Option<Arc<Cache>>> {
    let limit = (config.cache_gib * (1u64 << 30) as f64) as u64;
    let cache = match config.cache {
        CacheChoice::None => return Ok(None),
        CacheChoice::Ram => Cache::in_memory(limit),
        CacheChoice::Disk => {
            let folder = config.shared_folder().join("cache");
            let cache = Cache::in_folder(&folder, limit)?;
            crate::data::mark(&folder, crate::data::Own::Cache)?;
            cache
        }
    };
    Ok(Some(Arc::new(cache)))
}

/// Checks that each of `names`, given with `flag`, is the name of a task.
fn check_names<'a>(flag: &str, mut names: impl Iterator<Item = &'a String>, tasks: &[Task]) -> Result<()> {
    match names.find(|name| !tasks.iter().any(|t| t.name == **name)) {
        None => Ok(()),
        Some(name) => {
            let known: Vec<&str> = tasks.iter().map(|t| t.name.as_str()).collect();
            let once = if name.contains('=') { format!("; give {flag} once for each task") } else { String::new() };
            Err(Error::Usage(format!("{flag} {name}: the tasks are {}{once}", known.join(", "))))
        }
    }
}

pub(crate) fn card(config: &TrainConfig, data: &Data) -> Card {
    let mut architecture = Architecture::new(config.backbone, data.tasks.clone(), config.imgsz, config.dropout);
    architecture.detection = config.head.on(config.backbone);
    let mut card = Card::new(architecture, config.imgsz);
    for (index, task) in data.tasks.iter().enumerate() {
        card.standardisation[index] = task.spec.fit(&mut data.train.iter().map(|sample| &sample.labels[index]));
    }
    card
}

/// Two tasks count as labelling different images if fewer than this share of the images that either labels have labels of both.
const COVERED: f64 = 0.9;

/// The place where a run's steps compare the tasks' gradients, and a note on the reason. If tasks label different images, their
/// gradients lie in different places of the features whether or not the tasks conflict. They are then compared at a weight, whose
/// gradient sums over the images of a batch.
pub(super) fn gramian_place(config: &TrainConfig, tasks: &[Task], samples: &[Sample]) -> (Probe, Option<String>) {
    let frozen = |stage: Stage| config.freeze.contains(&stage);
    if tasks.len() < 2 || Stage::ALL.into_iter().all(frozen) && config.gramian == GramianPlace::Auto {
        return (Probe::None, None);
    }
    let layer = "the tasks' gradients are compared at the weight of the last shared convolution";
    match config.gramian {
        GramianPlace::Features => (Probe::Features, None),
        GramianPlace::Layer => (Probe::Layer, None),
        GramianPlace::Auto if frozen(Stage::Layer4) => (Probe::Features, None),
        GramianPlace::Auto => {
            let count = |a: usize, b: usize| {
                let labelled = samples.iter().map(|s| [a, b].map(|task| s.labels[task].is_labelled()));
                labelled
                    .fold([0usize; 2], |[both, one], [a, b]| [both + usize::from(a && b), one + usize::from(a || b)])
            };
            let apart = pairs(tasks.len()).find_map(|(a, b)| {
                let [both, one] = count(a, b);
                ((both as f64) < COVERED * one as f64).then(|| {
                    let share = 100.0 * both as f64 / one as f64;
                    let (a, b) = (&tasks[a].name, &tasks[b].name);
                    format!("{layer}: only {share:.0} % of the images that `{a}` or `{b}` labels are labelled by both (--gramian features compares them there)")
                })
            });
            match apart {
                Some(why) => (Probe::Layer, Some(why)),
                None => (Probe::Features, None),
            }
        }
    }
}

/// The trainer of a run with the balancing `method`, its parameters not yet initialised. It can switch to any other method
/// that the run may try.
///
/// # Errors
/// Choices exclude each other, the network cannot be built, or the device is not available.
pub(crate) fn trainer(
    config: &TrainConfig,
    method: &'static Method,
    device: &DeviceChoice,
    data: &Data,
    card: &Card,
) -> Result<Trainer> {
    let balance = balance(config, method, data)?;
    let probe = probe(config, data)?;
    let labels = label_features(config, data);
    let network = |side: usize| {
        let shape = [config.batch, side, side];
        TrainingNetwork::for_labels(&card.architecture, shape, &config.frozen(), labels, probe)
    };
    // The largest side comes first: if it does not fit the device, this fails early. Its arena is large enough
    // for the others.
    let sides = config.sides();
    let (&largest, others) = sides.split_last().unwrap_or_else(|| unreachable!("imgsz itself is one of the sides"));
    let tasks = &card.architecture.tasks;
    let optimizer = optimizer(config, data);
    let mut trainer = Trainer::of(network(largest)?, tasks, device, optimizer, balance, Fusion::On)?;
    others.iter().rev().try_for_each(|&side| trainer.add(network(side)?, Fusion::On))?;
    trainer.loss_factors = config.loss_scale.factors(card)?;
    if probe != Probe::None {
        // At least once per epoch.
        trainer.gramian_interval = GRAMIAN_INTERVAL.min(data.steps_per_epoch(config)).max(1);
    }
    Ok(trainer)
}

/// A new state of the balancing method.
///
/// # Errors
/// The method does not work with the run's other choices.
pub(super) fn balance(config: &TrainConfig, method: &'static Method, data: &Data) -> Result<Box<dyn Balance>> {
    let task_weights: Vec<f32> =
        data.tasks.iter().map(|t| number_of(&t.name, &config.task_weights).unwrap_or(1.0)).collect();
    let likelihoods: Vec<Likelihood> = data.tasks.iter().map(|task| task.spec.likelihood()).collect();
    method.start(Setup {
        likelihoods: &likelihoods,
        task_weights: &task_weights,
        seed: config.seed,
        primary: config.primary_task.as_ref().and_then(|name| data.tasks.iter().position(|task| task.name == *name)),
        parameters: &config.balance_parameters.of_a_candidate(),
    })
}

/// The place where the run's steps compare the tasks' gradients: the one that its method needs, otherwise the one for telemetry.
fn probe(config: &TrainConfig, data: &Data) -> Result<Probe> {
    let methods = Trials::candidates(config, data.tasks.len());
    let methods = methods.into_iter().map(|method| balance(config, method, data));
    let methods = methods.collect::<Result<Vec<_>>>()?;
    let needed =
        methods.iter().max_by_key(|method| method.needs()).map_or(Probe::None, |most| probe_for(most.as_ref()));
    Ok(match (gramian_place(config, &data.tasks, &data.train).0, needed) {
        (_, Probe::LayerGradients) => Probe::LayerGradients,
        (Probe::None, needed) => needed,
        (place, _) => place,
    })
}

/// The label features that the run needs beyond plain labels: mixed images and partial labels.
fn label_features(config: &TrainConfig, data: &Data) -> LabelFeatures {
    let mixed = config.transforms.mixup > 0.0 && config.overfit == 0;
    LabelFeatures { mixing: if mixed { Mixing::Possible } else { Mixing::Never }, regions: regions(&data.train) }
}

/// Whether some of the labels name only some classes of a region.
pub(super) fn regions(samples: &[Sample]) -> Regions {
    let is_partial = |label: &Label| label.value().is_some_and(LabelValue::is_partial);
    let partial = samples.iter().any(|sample| sample.labels.iter().any(is_partial));
    if partial { Regions::Partial } else { Regions::Whole }
}

fn optimizer(config: &TrainConfig, data: &Data) -> OptimizerConfig {
    OptimizerConfig {
        kind: config.optimizer,
        schedule: schedule(config, data),
        rate_factors: std::iter::once(config.lr_trunk)
            .chain(data.tasks.iter().map(|t| number_of(&t.name, &config.lr_heads).unwrap_or(1.0)))
            .collect(),
        momentum: config.momentum,
        weight_decay: config.weight_decay,
        clip_norm: (config.clip_norm > 0.0).then_some(config.clip_norm),
        average_decay: config.ema,
    }
}

/// The learning rate over the run's steps.
pub(super) fn schedule(config: &TrainConfig, data: &Data) -> Schedule {
    let per_epoch = data.steps_per_epoch(config);
    let total_steps = config.epochs * per_epoch;
    Schedule {
        lr: config.lr0,
        decline: decline(config, per_epoch),
        warmup_steps: ((config.warmup_epochs * per_epoch as f32) as u64).min(total_steps / 2),
        total_steps,
    }
}

fn decline(config: &TrainConfig, steps_per_epoch: u64) -> Decline {
    match config.schedule {
        ScheduleKind::Cosine => Decline::Cosine { final_share: config.lrf },
        ScheduleKind::Step => {
            let default = || [0.6, 0.85].map(|share| share * config.epochs as f64).to_vec();
            let given: Vec<f64> = config.milestones.iter().map(|&m| f64::from(m)).collect();
            let epochs = if given.is_empty() { default() } else { given };
            let steps = epochs.iter().map(|epoch| (epoch * steps_per_epoch as f64).round() as u64);
            Decline::Step { milestones: steps.collect(), gamma: config.gamma }
        }
        ScheduleKind::Constant => Decline::Constant,
    }
}

/// The endless stream of training batches from number `start` on, with targets made in its threads.
pub(crate) fn loader(config: &TrainConfig, data: &Data, card: &Card, start: u64) -> Result<TrainLoader> {
    let encoders = Some(Arc::new(encoders(config, card)));
    TrainLoader::new(Arc::clone(&data.train), LoaderOptions { encoders, ..data.loader_options(config) }, start)
}

/// One encoder for each side that batches of the run may have.
pub(crate) fn encoders(config: &TrainConfig, card: &Card) -> Encoders {
    Encoders::new(config.sides().into_iter().map(|side| (side, card.encoder(side))))
}

/// Loads initial weights from `path`. Returns notes on how they were read, on tensors that the file lacks, and on those that are not
/// used.
pub(crate) fn start_from(trainer: &mut Trainer, architecture: &Architecture, path: &Path) -> Result<Vec<String>> {
    let file = weights::read(path)?;
    let started = trainer.executor.edit_store(|store| start::start_from(store, architecture, file, path))??;
    let mut notes = started.notes;
    let (missing, unexpected, file) = (&started.missing, &started.unexpected, shown(path));
    if !missing.is_empty() {
        notes.push(format!("{} tensors start at random, not in {file}: {}", missing.len(), list_some(missing, SHOWN)));
    }
    if !unexpected.is_empty() {
        notes.push(format!("{} tensors of {file} are not used: {}", unexpected.len(), list_some(unexpected, SHOWN)));
    }
    Ok(notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mosaics_end_where_the_run_was_to_end_when_it_started() {
        let mut config = TrainConfig { epochs: 30, ..TrainConfig::default() };
        config.transforms.close_mosaic = 10;
        assert_eq!(epochs_with_mosaics(&config, None), Some(20));
        config.time = Some(0.5);
        assert_eq!(epochs_with_mosaics(&config, None), None);
        // The run was given --time on resume, which changed its epochs.
        assert_eq!(epochs_with_mosaics(&config, Some(50)), Some(40));
        assert_eq!(epochs_with_mosaics(&config, Some(5)), Some(0));
    }
}
