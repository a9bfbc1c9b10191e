//! The sources of the images of a data set that consists of several, and how often the images of each are shown.

use super::parts::Part;
use super::{Dataset, Sample};
use crate::data::declaration::{Declaration, Split, Weight};
use crate::reading::count_of;
use std::collections::HashMap;
use std::sync::Arc;

/// The sources; none if the data set is not one of several.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    names: Arc<[String]>,
    weights: Arc<[Weight]>,
    /// The source of each image by its name.
    of: Arc<HashMap<String, u32>>,
}

impl Sources {
    pub(super) fn of(declared: &Declaration, parts: &[Part]) -> Sources {
        if declared.sources.is_empty() {
            return Sources::default();
        }
        let names = parts.iter().map(|part| part.name.clone()).collect();
        let weights = declared.sources.iter().map(|source| source.weight).collect();
        let mut of = HashMap::new();
        for (number, part) in parts.iter().enumerate() {
            let number = number as u32;
            of.extend(part.images.all.iter().map(|image| (super::parts::name_in(part, &image.name), number)));
        }
        Sources { names, weights, of: Arc::new(of) }
    }

    /// Their names, in the order of their declaration.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The number of an image's source.
    pub fn of_image(&self, sample: &Sample) -> Option<usize> {
        self.of.get(&sample.name).map(|number| *number as usize)
    }

    /// The share of each source in every batch, and the source of each of these images; `None` if every image is shown equally
    /// often.
    pub fn mixture(&self, samples: &[Sample]) -> Option<Mixture> {
        if self.weights.iter().all(|weight| *weight == Weight::Repeat(1.0)) {
            return None;
        }
        let source_of: Vec<u32> =
            samples.iter().map(|sample| self.of.get(&sample.name).copied().unwrap_or_default()).collect();
        let mut sizes = vec![0usize; self.names.len()];
        source_of.iter().for_each(|&source| sizes[source as usize] += 1);
        let there = || self.weights.iter().zip(&sizes).filter(|(_, size)| **size > 0);
        let fixed: f64 = there().map(|(weight, _)| if let Weight::Ratio(ratio) = weight { *ratio } else { 0.0 }).sum();
        let copies = |weight: &Weight, size: usize| match weight {
            Weight::Repeat(times) => times * size as f64,
            Weight::Ratio(_) => 0.0,
        };
        let rest: f64 = there().map(|(weight, size)| copies(weight, *size)).sum();
        // Sources without training images leave their ratio to the others.
        let all = if rest > 0.0 { 1.0 } else { fixed };
        let share = |(weight, &size): (&Weight, &usize)| match weight {
            _ if size == 0 => 0.0,
            Weight::Ratio(ratio) => ratio / all,
            Weight::Repeat(_) => (1.0 - fixed) * copies(weight, size) / rest,
        };
        Some(Mixture { shares: self.weights.iter().zip(&sizes).map(share).collect(), source_of })
    }
}

/// The shares of sources in every batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixture {
    /// The share of each source; the sum is 1.
    pub shares: Vec<f64>,
    /// The source of each image.
    pub source_of: Vec<u32>,
}

impl Dataset {
    /// A note for each source: its images, and its share of a batch if that is declared.
    pub(super) fn source_notes(&self) -> Vec<String> {
        let shares = self.sources.mixture(&self.train).map(|mixture| mixture.shares);
        let note = |(number, name): (usize, &String)| {
            let of_split = |split: Split| {
                let own = |sample: &&Sample| self.sources.of_image(sample) == Some(number);
                self.split(split).iter().filter(own).count()
            };
            let [train, val, test] = Split::ALL.map(of_split);
            let share = shares
                .as_ref()
                .map_or(String::new(), |shares| format!("; {:.1} % of every training batch", 100.0 * shares[number]));
            format!(
                "source {name}: {} for training, {val} for validation, {test} for test{share}",
                count_of(train, "image")
            )
        };
        self.sources.names.iter().enumerate().map(note).collect()
    }
}
