//! Chooses the images of an epoch and their order: uniformly, with rare classes repeated, with every class equally
//! often, or with every task in every batch. An epoch has as many images as the data set and depends only on the seed
//! and its number.

use super::mixing::Mixing;
use crate::data::dataset::{Mixture, Sample};
use crate::data::random::Random;
use crate::tasks::{Label, LabelValue};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The choice of images for an epoch, and how often each occurs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Sampling {
    /// Every image once per epoch
    #[default]
    Uniform,
    /// Every class of a task equally often
    ClassBalanced,
    /// Every task is labelled in every batch that has at least as many images as there are tasks
    TaskBalanced,
}

/// A class that an image shows; `None` for an image labelled as showing no class.
type Class = Option<usize>;

/// Generates the epochs.
pub struct Sampler {
    kind: Kind,
    images: usize,
}

enum Kind {
    Uniform,
    /// The frequency of each image, relative to an image that is not repeated; at least 1.
    Repeated(Vec<f32>),
    /// The images of each class for each task, and the images that show no class of any task.
    Classes {
        tasks: Vec<Vec<Vec<u32>>>,
        others: Vec<u32>,
    },
    /// For each image, which tasks it is labelled for, among the tasks that any image is labelled for.
    Tasks(Vec<Vec<bool>>),
    /// Sources in given shares.
    Mixed(Mixing),
}

impl Sampler {
    /// `threshold` is LVIS's: classes in fewer than this share of a task's images are repeated; 0 repeats none.
    pub fn new(samples: &[Sample], sampling: Sampling, threshold: f32) -> Sampler {
        let kind = match sampling {
            Sampling::Uniform if threshold > 0.0 => Kind::Repeated(repeats(samples, threshold)),
            Sampling::Uniform => Kind::Uniform,
            Sampling::ClassBalanced => by_class(samples),
            Sampling::TaskBalanced => by_task(samples),
        };
        Sampler { kind, images: samples.len() }
    }

    /// The images of several sources, whose shares every batch has.
    pub fn mixed(mixture: &Mixture) -> Sampler {
        Sampler { images: mixture.source_of.len(), kind: Kind::Mixed(Mixing::new(mixture)) }
    }

    /// Whether an image may occur more than once in an epoch.
    pub fn repeats(&self) -> bool {
        !matches!(self.kind, Kind::Uniform)
    }

    /// The images of an epoch, in order.
    pub fn epoch(&self, seed: u64, epoch: u64) -> Arc<[u32]> {
        let mut random = Random::new(&[seed, epoch]);
        let all = || (0..self.images as u32).collect::<Vec<u32>>();
        let mut order = match &self.kind {
            Kind::Uniform => all(),
            Kind::Repeated(factors) => {
                let times = |(index, factor): (u32, &f32)| {
                    let once_more = random.unit() < factor.fract();
                    vec![index; *factor as usize + usize::from(once_more)]
                };
                (0..).zip(factors).flat_map(times).collect()
            }
            Kind::Classes { tasks, others } => self.balanced_classes(tasks, others, &mut random),
            Kind::Tasks(labelled) => {
                let mut order = all();
                random.shuffle(&mut order);
                return self.balanced_tasks(labelled, &order, epoch, &mut random).into();
            }
            Kind::Mixed(mixing) => return mixing.epoch(seed, epoch).into(),
        };
        random.shuffle(&mut order);
        // Cut to the epoch's length; repeated images displace others, and each keeps its share over many epochs.
        order.truncate(self.images);
        order.into()
    }

    /// The images without any class once each. The rest of the epoch is divided equally between tasks, then between
    /// each task's classes, then between each class's images.
    fn balanced_classes(&self, tasks: &[Vec<Vec<u32>>], others: &[u32], random: &mut Random) -> Vec<u32> {
        let mut order = others.to_vec();
        let cycle = |images: &Vec<u32>| Cycle::new(images.clone());
        let mut tasks: Vec<Vec<Cycle>> = tasks.iter().map(|classes| classes.iter().map(cycle).collect()).collect();
        // Random starting points, so that the remainder goes to other classes in each epoch.
        let mut turns: Vec<usize> = tasks.iter().map(|classes| random.below(classes.len())).collect();
        let mut task = random.below(tasks.len().max(1));
        while order.len() < self.images {
            task = (task + 1) % tasks.len();
            let class = turns[task] % tasks[task].len();
            turns[task] += 1;
            order.push(tasks[task][class].next(random));
        }
        order
    }

    /// Tasks take turns over the positions of the whole stream. Each takes the next image of `order` that is labelled
    /// for it and has not been used in the epoch; if there is none, it repeats one of its labelled images.
    fn balanced_tasks(&self, labelled: &[Vec<bool>], order: &[u32], epoch: u64, random: &mut Random) -> Vec<u32> {
        let tasks = labelled.first().map_or(0, Vec::len);
        if tasks == 0 {
            return order.to_vec();
        }
        let of_task = |task: usize| order.iter().copied().filter(|&i| labelled[i as usize][task]).collect::<Vec<u32>>();
        let mut fresh: Vec<std::vec::IntoIter<u32>> = (0..tasks).map(|task| of_task(task).into_iter()).collect();
        let mut again: Vec<Cycle> = (0..tasks).map(|task| Cycle::new(of_task(task))).collect();
        let mut came = vec![false; self.images];
        let start = (epoch % tasks as u64) as usize * (self.images % tasks);
        (0..self.images)
            .map(|slot| {
                let task = (start + slot) % tasks;
                let next = fresh[task].find(|&i| !came[i as usize]);
                let image = next.unwrap_or_else(|| again[task].next(random));
                came[image as usize] = true;
                image
            })
            .collect()
    }
}

/// An endless stream of images that is shuffled at the start of each round.
struct Cycle {
    images: Vec<u32>,
    at: usize,
}

impl Cycle {
    fn new(images: Vec<u32>) -> Cycle {
        Cycle { at: images.len(), images }
    }

    fn next(&mut self, random: &mut Random) -> u32 {
        if self.at == self.images.len() {
            random.shuffle(&mut self.images);
            self.at = 0;
        }
        self.at += 1;
        self.images[self.at - 1]
    }
}

/// The classes that an image shows, for a task with classes. "Labelled as showing none" counts as a class of its own.
fn classes(label: &Label) -> Vec<Class> {
    match label.value().and_then(LabelValue::classes) {
        None => Vec::new(),
        Some(classes) if classes.is_empty() => vec![None],
        Some(classes) => classes.into_iter().map(Some).collect(),
    }
}

/// The images of each class that occurs, per task.
fn images_by_class(samples: &[Sample]) -> Vec<BTreeMap<Class, Vec<u32>>> {
    let tasks = samples.first().map_or(0, |s| s.labels.len());
    let mut by_class = vec![BTreeMap::<Class, Vec<u32>>::new(); tasks];
    for (index, sample) in samples.iter().enumerate() {
        for (label, of_task) in sample.labels.iter().zip(&mut by_class) {
            for class in classes(label) {
                of_task.entry(class).or_default().push(index as u32);
            }
        }
    }
    by_class
}

/// LVIS's repeat factors. A class in a share f of the images labelled for its task has the factor √(threshold / f), at
/// least 1; an image has the factor of its rarest class (Gupta 2019, section 6). Images without a class occur once.
fn repeats(samples: &[Sample], threshold: f32) -> Vec<f32> {
    let mut factors = vec![1f32; samples.len()];
    for (task, by_class) in images_by_class(samples).iter().enumerate() {
        let labelled = samples.iter().filter(|s| s.labels[task].is_labelled()).count() as f32;
        for images in by_class.iter().filter(|(class, _)| class.is_some()).map(|(_, images)| images) {
            let factor = (threshold * labelled / images.len() as f32).sqrt();
            for &image in images {
                factors[image as usize] = factors[image as usize].max(factor);
            }
        }
    }
    factors
}

fn by_class(samples: &[Sample]) -> Kind {
    let tasks: Vec<Vec<Vec<u32>>> = images_by_class(samples)
        .into_iter()
        .filter(|by_class| !by_class.is_empty())
        .map(|by_class| by_class.into_values().collect())
        .collect();
    let shows_none = |s: &Sample| s.labels.iter().all(|label| classes(label).is_empty());
    let others = (0..).zip(samples).filter(|(_, s)| shows_none(s)).map(|(index, _)| index).collect();
    Kind::Classes { tasks, others }
}

fn by_task(samples: &[Sample]) -> Kind {
    let tasks = samples.first().map_or(0, |s| s.labels.len());
    let known: Vec<usize> = (0..tasks).filter(|&t| samples.iter().any(|s| s.labels[t].is_labelled())).collect();
    Kind::Tasks(samples.iter().map(|s| known.iter().map(|&t| s.labels[t].is_labelled()).collect()).collect())
}
