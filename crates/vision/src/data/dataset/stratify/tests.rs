//! Shares of classes in divided sets: within one image of the exact share wherever that is possible.

use super::*;
use crate::data::random::Random;

/// A set of images with their lists of properties.
struct Set {
    lists: Vec<Vec<u32>>,
    list_of: Vec<u32>,
    hashes: Vec<u64>,
    properties: usize,
}

impl Set {
    fn of(images: &[Vec<u32>], random: &mut Random) -> Set {
        let mut lists = images.to_vec();
        lists.sort();
        lists.dedup();
        let list_of = images.iter().map(|list| lists.binary_search(list).unwrap() as u32).collect();
        let properties = images.iter().flatten().max().map_or(0, |most| *most as usize + 1);
        Set { lists, list_of, hashes: images.iter().map(|_| random.next_u64()).collect(), properties }
    }

    fn images(&self) -> Images<'_> {
        let Set { lists, list_of, hashes, properties } = self;
        Images { list_of, lists, properties: *properties, hashes }
    }

    /// The greatest distance of a property's images in a part from its share.
    fn furthest(&self, part_of: &[usize], shares: &[f64]) -> f64 {
        let mut balance = Balance::new(&self.images().counts(), shares);
        part_of.iter().zip(&self.list_of).for_each(|(&part, &list)| balance.add(part, &self.lists[list as usize], 1.0));
        balance.excess.iter().fold(0.0, |most, excess| excess.abs().max(most))
    }
}

fn sizes_of(part_of: &[usize], parts: usize) -> Vec<usize> {
    (0..parts).map(|part| part_of.iter().filter(|of| **of == part).count()).collect()
}

fn held(images: usize, share: f64) -> [usize; 2] {
    let held = (share * images as f64).round() as usize;
    [held, images - held]
}

#[test]
fn single_classes_have_their_exact_share() {
    let mut random = Random::new(&[1]);
    for round in 0..300 {
        let classes = 1 + random.below(12);
        let images: Vec<Vec<u32>> =
            (0..2 + random.below(90)).map(|_| vec![random.below(classes).min(random.below(classes)) as u32]).collect();
        let set = Set::of(&images, &mut random);
        let share = f64::from(random.between(0.02, 0.98));
        let sizes = held(images.len(), share);
        let part_of = set.images().divide(&sizes, &[share, 1.0 - share]);
        assert_eq!(sizes_of(&part_of, 2), sizes, "{round}");
        assert!(set.furthest(&part_of, &[share, 1.0 - share]) < 1.0, "{round}: {images:?} {share}");
        let folds = 2 + random.below(6);
        let sizes: Vec<usize> =
            (0..folds).map(|f| images.len() / folds + usize::from(f < images.len() % folds)).collect();
        let shares = vec![1.0 / folds as f64; folds];
        let part_of = set.images().divide(&sizes, &shares);
        assert_eq!(sizes_of(&part_of, folds), sizes, "{round}");
        assert!(set.furthest(&part_of, &shares) < 1.0 + 1e-9, "{round}: {images:?} in {folds}");
    }
}

/// Images of several tasks: a class, a set of objects, and a task of which some are unlabelled.
fn several(images: usize, random: &mut Random) -> Vec<Vec<u32>> {
    let image = |_| {
        let mut list = vec![random.below(3) as u32];
        let objects: Vec<u32> =
            (0..6).filter(|class| random.below(2 + 2 * *class as usize) == 0).map(|c| 5 + c).collect();
        list.extend(if objects.is_empty() { vec![4] } else { objects });
        list.push(11 + random.below(2) as u32);
        list
    };
    (0..images).map(image).collect()
}

#[test]
fn several_tasks_are_within_one_image_of_their_shares() {
    let mut random = Random::new(&[2]);
    for images in [40, 100, 333, 2000] {
        for share in [0.1, 0.2, 1.0 / 3.0] {
            let images = several(images, &mut random);
            let set = Set::of(&images, &mut random);
            let sizes = held(images.len(), share);
            let part_of = set.images().divide(&sizes, &[share, 1.0 - share]);
            assert_eq!(sizes_of(&part_of, 2), sizes);
            let furthest = set.furthest(&part_of, &[share, 1.0 - share]);
            assert!(furthest <= 1.0 + 1e-9, "{} images at {share}: {furthest}", images.len());
            if images.len().is_multiple_of(5) {
                let part_of = set.images().divide(&[images.len() / 5; 5], &[0.2; 5]);
                assert!(set.furthest(&part_of, &[0.2; 5]) <= 1.0 + 1e-9);
            }
        }
    }
}

#[test]
fn small_sets_are_divided_as_well_as_any_division_could() {
    let mut random = Random::new(&[3]);
    let (mut possible, mut reached) = (0, 0);
    for _ in 0..200 {
        let images = several(5 + random.below(8), &mut random);
        let set = Set::of(&images, &mut random);
        let share = f64::from(random.between(0.15, 0.5));
        let shares = [share, 1.0 - share];
        let sizes = held(images.len(), share);
        let best = (0..1usize << images.len())
            .filter(|choice| choice.count_ones() as usize == sizes[1])
            .map(|choice| set.furthest(&(0..images.len()).map(|i| choice >> i & 1).collect::<Vec<_>>(), &shares))
            .fold(f64::INFINITY, f64::min);
        let ours = set.furthest(&set.images().divide(&sizes, &shares), &shares);
        possible += usize::from(best <= 1.0 + 1e-9);
        reached += usize::from(ours <= 1.0 + 1e-9);
    }
    assert!(possible > 150 && reached == possible, "{reached} of {possible}");
}

#[test]
fn groups_stay_whole_and_come_near_to_the_shares() {
    let mut random = Random::new(&[4]);
    for groups in [2, 3, 9, 14, 15, 40, 150] {
        let group_of: Vec<usize> = (0..groups).flat_map(|group| vec![group; 1 + (group * 7 + 3) % 11]).collect();
        let classes: Vec<usize> = (0..groups).map(|_| random.below(3)).collect();
        let images: Vec<Vec<u32>> = group_of.iter().map(|&group| vec![classes[group] as u32]).collect();
        let set = Set::of(&images, &mut random);
        for shares in [vec![0.2, 0.8], vec![1.0 / 3.0; 3]] {
            if groups < shares.len() {
                continue;
            }
            let parts = set.images().divide_groups(&group_of, groups, &shares);
            let sizes = sizes_of(&group_of.iter().map(|&group| parts[group]).collect::<Vec<_>>(), shares.len());
            assert!(sizes.iter().all(|size| *size > 0), "{groups}: {sizes:?}");
            let off = |part: usize| (sizes[part] as f64 - shares[part] * images.len() as f64).abs();
            // Groups have up to 11 images; with many of them, small ones make up for the rest.
            let most = if groups >= 14 { 2.0 } else { 6.0 };
            assert!((0..shares.len()).all(|part| off(part) <= most), "{groups}: {sizes:?}");
        }
    }
}

#[test]
fn few_groups_of_one_class_come_as_near_as_possible() {
    let mut random = Random::new(&[5]);
    for _ in 0..50 {
        let sizes: Vec<usize> = (0..2 + random.below(9)).map(|_| 1 + random.below(20)).collect();
        let group_of: Vec<usize> = sizes.iter().enumerate().flat_map(|(group, size)| vec![group; *size]).collect();
        let set = Set::of(&vec![vec![0]; group_of.len()], &mut random);
        let share = 0.3 * group_of.len() as f64;
        let off = |held: &dyn Fn(usize) -> bool| {
            let held: usize = (0..sizes.len()).filter(|g| held(*g)).map(|g| sizes[g]).sum();
            (held as f64 - share).abs()
        };
        let parts = set.images().divide_groups(&group_of, sizes.len(), &[0.3, 0.7]);
        let all = 1..(1usize << sizes.len()) - 1;
        let best = all.map(|choice| off(&|g| choice >> g & 1 == 1)).fold(f64::INFINITY, f64::min);
        assert!((off(&|g| parts[g] == 0) - best).abs() < 1e-9, "{sizes:?}");
    }
}

#[test]
fn the_order_of_the_images_decides_nothing() {
    let mut random = Random::new(&[6]);
    let images = several(150, &mut random);
    let set = Set::of(&images, &mut random);
    let first = set.images().divide(&[30, 120], &[0.2, 0.8]);
    let mut order: Vec<usize> = (0..images.len()).collect();
    random.shuffle(&mut order);
    let turned: Vec<Vec<u32>> = order.iter().map(|&i| images[i].clone()).collect();
    let mut again = Set::of(&turned, &mut random);
    again.hashes = order.iter().map(|&i| set.hashes[i]).collect();
    let second = again.images().divide(&[30, 120], &[0.2, 0.8]);
    assert!(order.iter().zip(second).all(|(&i, part)| first[i] == part));
}
