//! Splits validation off training once all labels are known: an exact share, in which every class of every task has its share,
//! and whole groups of images.

use super::fold::Fold;
use super::groups::Groups;
use super::stratify;
use crate::data::formats;
use crate::data::random::hash_text;
use crate::error::Result;
use crate::reading::{Place, count_of, list_some};
use crate::tasks::{Label, LabelValue};
use std::collections::{HashMap, HashSet};

/// The way in which images are divided into training and validation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Division {
    /// As the data set itself declares.
    Declared,
    /// All images are for training.
    None,
    /// This share of the images validates.
    Fraction(f32),
    /// One of several folds validates.
    Fold(Fold),
}

impl Division {
    /// The number of leading images that are divided.
    pub fn pool(self, images: &formats::Images) -> usize {
        match self {
            Division::Declared | Division::None => 0,
            Division::Fraction(_) | Division::Fold(_) => images.ends[0],
        }
    }
}

/// The properties of the images that are divided: for each task whether an image is labelled, and the classes that it shows.
pub struct Properties {
    /// For each image, the number of its list. A million images have few different lists.
    list_of: Vec<u32>,
    lists: Vec<Vec<u32>>,
    /// One more than the greatest property.
    count: u32,
}

impl Properties {
    /// No properties of this number of images.
    pub fn new(images: usize) -> Properties {
        Properties { list_of: vec![0; images], lists: vec![Vec::new()], count: 0 }
    }

    /// Adds the labels of a task. Those of images that are not divided are ignored.
    pub fn add(&mut self, labels: &[Label]) {
        let [unlabelled, shows_none, first] = [self.count, self.count + 1, self.count + 2];
        self.count = first;
        let mut numbers: HashMap<(u32, Vec<u32>), u32> = HashMap::new();
        let mut lists = Vec::new();
        for (number, label) in self.list_of.iter_mut().zip(labels) {
            let own = match label.value().map(LabelValue::classes) {
                None => vec![unlabelled],
                Some(Some(mut classes)) if !classes.is_empty() => {
                    classes.sort_unstable();
                    classes.into_iter().map(|class| first + class as u32).collect()
                }
                Some(_) => vec![shows_none],
            };
            self.count = own.last().map_or(self.count, |last| self.count.max(last + 1));
            let before = *number;
            *number = *numbers.entry((before, own)).or_insert_with_key(|(_, own)| {
                lists.push([&self.lists[before as usize][..], own].concat());
                lists.len() as u32 - 1
            });
        }
        if !self.list_of.is_empty() {
            self.lists = lists;
        }
    }
}

impl Properties {
    /// Sorts the lists, so that the order of the images has no part in how they are divided.
    fn sort(&mut self) {
        let mut order: Vec<usize> = (0..self.lists.len()).collect();
        order.sort_unstable_by(|&a, &b| self.lists[a].cmp(&self.lists[b]));
        let mut place = vec![0; order.len()];
        order.iter().enumerate().for_each(|(at, &list)| place[list] = at as u32);
        self.list_of.iter_mut().for_each(|list| *list = place[*list as usize]);
        self.lists.sort_unstable();
    }
}

/// The images in the order of their splits.
pub struct HeldOut {
    /// The index of every image, those of training first.
    pub order: Vec<usize>,
    /// The end of training and of validation in `order`.
    pub ends: [usize; 2],
    pub notes: Vec<String>,
}

/// Divides the images of training.
///
/// # Errors
/// There are too few images or groups.
pub fn divide(
    division: Division,
    images: &formats::Images,
    mut properties: Properties,
    groups: Option<&Groups>,
    seed: u64,
    place: &Place,
) -> Result<HeldOut> {
    let all = images.all.len();
    let pool = division.pool(images);
    let (shares, sizes, chosen) = match division {
        Division::Declared | Division::None => {
            let notes = groups.and_then(|groups| shared_groups(groups, images)).into_iter().collect();
            return Ok(HeldOut { order: (0..all).collect(), ends: [images.ends[0], images.ends[1]], notes });
        }
        Division::Fraction(fraction) => {
            let share = decimal(fraction);
            let held = ((share * pool as f64).round() as usize).clamp(1, pool.saturating_sub(1).max(1));
            (vec![share, 1.0 - share], vec![held, pool.saturating_sub(held)], 0)
        }
        Division::Fold(fold) => {
            let size = |part: usize| pool / fold.count() + usize::from(part < pool % fold.count());
            (vec![1.0 / fold.count() as f64; fold.count()], (0..fold.count()).map(size).collect(), fold.index())
        }
    };
    check_enough(division, pool, groups, place)?;
    let hashes: Vec<u64> = images.all[..pool].iter().map(|image| hash_text(seed, &image.name)).collect();
    properties.sort();
    let Properties { list_of, lists, count } = &properties;
    let dividing = stratify::Images { list_of, lists, properties: *count as usize, hashes: &hashes };
    let part_of = match groups {
        None => dividing.divide(&sizes, &shares),
        Some(groups) => {
            let (group_of, count) = numbered(&groups.of[..pool]);
            let parts = dividing.divide_groups(&group_of, count, &shares);
            group_of.iter().map(|&group| parts[group]).collect()
        }
    };
    let (val, train): (Vec<usize>, Vec<usize>) = (0..pool).partition(|&image| part_of[image] == chosen);
    let mut whole = String::new();
    if let Some(groups) = groups {
        let distinct = |images: &[usize]| images.iter().map(|&image| groups.of[image]).collect::<HashSet<_>>().len();
        let [held, rest] = [distinct(&val), distinct(&train)];
        let share = val.len() as f64 / pool as f64;
        whole =
            format!(", in {held} of {} that stay whole, so the share is {share:.3}", count_of(held + rest, "group"));
    }
    let how = match division {
        Division::Fold(fold) => format!("fold {fold}"),
        Division::Fraction(fraction) => format!("val_fraction {fraction}"),
        Division::Declared | Division::None => unreachable!("nothing was divided"),
    };
    let note = format!(
        "no validation split: {} of {pool} held out, with the same share of every class{whole} ({how}, seed {seed})",
        count_of(val.len(), "image")
    );
    let ends = [train.len(), pool];
    let order = train.into_iter().chain(val).chain(pool..all).collect();
    Ok(HeldOut { order, ends, notes: vec![note] })
}

fn check_enough(division: Division, pool: usize, groups: Option<&Groups>, place: &Place) -> Result<()> {
    let parts = match division {
        Division::Fold(fold) => fold.count(),
        Division::Declared | Division::None | Division::Fraction(_) => 2,
    };
    let needs = match division {
        Division::Fold(fold) => format!("--fold {fold} needs at least {parts}"),
        Division::Declared | Division::None | Division::Fraction(_) => {
            "training and validation need at least one each".into()
        }
    };
    if pool < parts {
        return Err(place.error(format!("{} found: {needs}", count_of(pool, "image"))));
    }
    if let Some(groups) = groups {
        let (_, found) = numbered(&groups.of[..pool]);
        if found < parts {
            let found = count_of(found, "group");
            return Err(place
                .error(format!("`group:` puts {} into {found}, which stay whole: {needs}", count_of(pool, "image"))));
        }
    }
    Ok(())
}

/// The groups of some images, numbered without gaps in order of appearance, and their number.
fn numbered(groups: &[usize]) -> (Vec<usize>, usize) {
    let mut numbers = HashMap::new();
    let of = groups.iter().map(|group| {
        let next = numbers.len();
        *numbers.entry(*group).or_insert(next)
    });
    let of = of.collect();
    (of, numbers.len())
}

/// A note if groups are in training and in validation or test of a data set with its own splits.
fn shared_groups(groups: &Groups, images: &formats::Images) -> Option<String> {
    let training: HashSet<usize> = groups.of[..images.ends[0]].iter().copied().collect();
    let mut shared = Vec::new();
    let mut seen = HashSet::new();
    for (image, group) in images.all.iter().zip(&groups.of).skip(images.ends[0]) {
        if training.contains(group) && seen.insert(*group) {
            shared.push(image.name.as_str());
        }
    }
    (!shared.is_empty()).then(|| {
        format!(
            "group: {} in training and also in validation or test, with images such as {}: metrics will be too optimistic",
            count_of(shared.len(), "group"),
            list_some(&shared, 3)
        )
    })
}

/// The share as it was written: 0.7, not the nearest number in single precision.
fn decimal(share: f32) -> f64 {
    share.to_string().parse().unwrap_or(f64::from(share))
}
