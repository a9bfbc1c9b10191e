//! The frequency of each image under each sampling: a function of the seed and the epoch, balanced as documented.

use super::{Folder, of_boxes, of_class, of_values, one_box};
use crate::data::augment::Augment;
use crate::data::dataset::{Mixture, Sample};
use crate::data::feed::sampling::Sampler;
use crate::data::feed::{LoaderOptions, Sampling, TrainLoader, Variety};
use crate::tasks::Label;
use std::sync::Arc;

fn sample(labels: Vec<Label>) -> Sample {
    Sample { image: "x".into(), name: "x".into(), labels }
}

/// 90 images of class 0, 9 of class 1, 1 of class 2.
fn skewed() -> Vec<Sample> {
    let class = |i| usize::from(i >= 90) + usize::from(i >= 99);
    (0..100).map(|i| sample(vec![of_class(class(i))])).collect()
}

/// The number of times each image occurs in this many epochs.
fn counts(sampler: &Sampler, images: usize, epochs: u64) -> Vec<usize> {
    let mut counts = vec![0; images];
    for epoch in 0..epochs {
        let order = sampler.epoch(7, epoch);
        assert_eq!(order.len(), images);
        order.iter().for_each(|&i| counts[i as usize] += 1);
    }
    counts
}

#[test]
fn an_epoch_is_a_function_of_seed_and_number() {
    let samples = skewed();
    for (sampling, threshold) in [
        (Sampling::Uniform, 0.0),
        (Sampling::Uniform, 0.5),
        (Sampling::ClassBalanced, 0.0),
        (Sampling::TaskBalanced, 0.0),
    ] {
        let sampler = || Sampler::new(&samples, sampling, threshold);
        assert_eq!(sampler().epoch(1, 4), sampler().epoch(1, 4));
        assert_ne!(sampler().epoch(1, 4), sampler().epoch(1, 5));
        assert_ne!(sampler().epoch(1, 4), sampler().epoch(2, 4));
        assert_eq!(sampler().repeats(), (sampling, threshold) != (Sampling::Uniform, 0.0));
    }
}

#[test]
fn rare_classes_are_repeated_by_the_root_of_their_rarity() {
    let samples = skewed();
    let counts = counts(&Sampler::new(&samples, Sampling::Uniform, 0.36), 100, 4000);
    // Class 0 has a share of .9, above .36: once. Class 1 has .09: √4 = 2. Class 2 has .01: 6.
    let factors = [1.0, 2.0, 6.0];
    let epoch = 90.0 + 18.0 + 6.0;
    for (images, factor) in [(0..90, factors[0]), (90..99, factors[1]), (99..100, factors[2])] {
        let mean = counts[images.clone()].iter().sum::<usize>() as f64 / images.len() as f64 / 4000.0;
        let expected = factor * 100.0 / epoch;
        // The mean over 4,000 epochs of up to 6 draws is accurate to about 0.6 %.
        assert!((mean / expected - 1.0).abs() < 0.02, "{images:?}: {mean}, expected {expected}");
    }
}

#[test]
fn classes_come_equally_often_and_so_do_the_tasks_that_have_them() {
    let samples = skewed();
    let counts = counts(&Sampler::new(&samples, Sampling::ClassBalanced, 0.0), 100, 30);
    let of = |images: std::ops::Range<usize>| counts[images].iter().sum::<usize>();
    let per_class = [of(0..90), of(90..99), of(99..100)];
    // 3,000 draws in turn; each epoch's rounds leave one draw over.
    assert!(per_class.iter().all(|&n| n.abs_diff(1000) <= 30), "{per_class:?}");
    // Within a class, every image occurs equally often, up to one round per epoch.
    assert!(counts[90..99].iter().all(|&n| n.abs_diff(per_class[1] / 9) <= 30), "{counts:?}");
}

#[test]
fn background_is_a_class_and_images_without_classes_keep_their_share() {
    let boxes = |i: usize| if i < 4 { one_box(0, [0.0, 0.0, 9.0, 9.0]) } else { of_boxes(Vec::new()) };
    let samples: Vec<Sample> = (0..60)
        .map(|i| match i < 40 {
            true => sample(vec![boxes(i), Label::UNLABELLED]),
            false => sample(vec![Label::UNLABELLED, of_values(vec![1.0])]),
        })
        .collect();
    let counts = counts(&Sampler::new(&samples, Sampling::ClassBalanced, 0.0), 60, 10);
    assert!(counts[40..].iter().all(|&n| n == 10), "{counts:?}");
    let [object, background]: [usize; 2] = [counts[..4].iter().sum(), counts[4..40].iter().sum()];
    assert!(object.abs_diff(background) <= 10 && object + background == 400, "{object} {background}");
}

#[test]
fn every_task_is_labelled_in_every_batch_of_as_many_images_as_tasks() {
    // Three of the 47 images are labelled for the second task, two for the third, none for the fourth.
    let samples: Vec<Sample> = (0..47)
        .map(|i| {
            let if_in = |yes: bool, label: Label| if yes { label } else { Label::UNLABELLED };
            sample(vec![
                if_in(i % 2 == 0, of_class(0)),
                if_in(i % 20 == 3, of_values(vec![0.0])),
                if_in(i == 5 || i == 8, of_boxes(Vec::new())),
                Label::UNLABELLED,
            ])
        })
        .collect();
    let sampler = Sampler::new(&samples, Sampling::TaskBalanced, 0.0);
    // The windows include batches that span two epochs.
    let stream: Vec<u32> = (0..12).flat_map(|epoch| sampler.epoch(3, epoch).to_vec()).collect();
    for window in stream.windows(3) {
        for task in 0..3 {
            assert!(window.iter().any(|&i| samples[i as usize].labels[task].is_labelled()), "{window:?} lacks {task}");
        }
    }
}

#[test]
fn where_every_image_has_every_label_balanced_tasks_are_a_permutation() {
    let samples: Vec<Sample> = (0..31).map(|_| sample(vec![of_class(0), of_values(vec![1.0])])).collect();
    let counts = counts(&Sampler::new(&samples, Sampling::TaskBalanced, 0.0), 31, 5);
    assert!(counts.iter().all(|&n| n == 5), "{counts:?}");
}

#[test]
fn nothing_to_balance_is_uniform() {
    for labels in [Vec::new(), vec![Label::UNLABELLED]] {
        let samples = vec![sample(labels); 9];
        for sampling in [Sampling::ClassBalanced, Sampling::TaskBalanced] {
            assert!(counts(&Sampler::new(&samples, sampling, 0.0), 9, 3).iter().all(|&n| n == 3));
        }
    }
}

/// The output of a loader for a sampling: images, labels and pixels.
#[test]
fn threads_change_nothing_and_any_batch_can_be_the_first_under_every_sampling() {
    let folder = Folder::new();
    let names: Vec<String> = (0..10).map(|i| format!("{i}.png")).collect();
    folder.images(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let samples: Arc<[Sample]> = names
        .iter()
        .enumerate()
        .map(|(i, name)| Sample {
            image: folder.path().join(name),
            name: name.clone(),
            labels: vec![of_class(usize::from(i > 7)), if i == 3 { of_class(1) } else { Label::UNLABELLED }],
        })
        .collect();
    for (sampling, repeat_factor) in
        [(Sampling::Uniform, 0.9), (Sampling::ClassBalanced, 0.0), (Sampling::TaskBalanced, 0.0)]
    {
        let take = |workers, start, count| -> Vec<_> {
            let options = LoaderOptions {
                batch: 6,
                imgsz: 32,
                workers,
                seed: 3,
                augment: Augment::training(true, true),
                variety: Variety { sampling, repeat_factor, ..Variety::default() },
                max_broken: 0.0,
                prefetch: 2,
                cache: None,
                encoders: None,
            };
            let mut loader = TrainLoader::new(samples.clone(), options, start).unwrap();
            let mut content = || {
                let batch = loader.next().unwrap();
                (batch.images, batch.items.into_iter().map(|item| (item.index, item.labels)).collect::<Vec<_>>())
            };
            (0..count).map(|_| content()).collect()
        };
        let expected = take(1, 0, 8);
        assert_eq!(take(4, 0, 8), expected);
        assert_eq!(take(2, 5, 3), expected[5..]);
        // An image that occurs twice in an epoch looks different each time.
        let drawn: Vec<(usize, &[u8])> = expected
            .iter()
            .flat_map(|(images, items)| items.iter().zip(images.chunks(32 * 32 * 3)).map(|(item, p)| (item.0, p)))
            .collect();
        let rare = if sampling == Sampling::Uniform { 9 } else { 3 };
        let pictures: Vec<&[u8]> = drawn[..10].iter().filter(|d| d.0 == rare).map(|d| d.1).collect();
        assert!(pictures.len() > 1, "{sampling:?}: {} of image {rare}", pictures.len());
        assert!(pictures.iter().enumerate().all(|(i, p)| !pictures[..i].contains(p)), "{sampling:?}");
    }
}

#[test]
fn every_batch_has_the_shares_of_its_sources() {
    let source_of: Vec<u32> = (0..100).map(|i| u32::from(i >= 60) + u32::from(i >= 90)).collect();
    for (shares, batch) in [(vec![0.3, 0.5, 0.2], 10), (vec![0.25, 0.0, 0.75], 8), (vec![0.6, 0.3, 0.1], 16)] {
        let sampler = Sampler::mixed(&Mixture { shares: shares.clone(), source_of: source_of.clone() });
        assert!(sampler.repeats());
        let epochs: Vec<u32> = (0..30).flat_map(|epoch| sampler.epoch(7, epoch).to_vec()).collect();
        assert_eq!(epochs.len(), 3000);
        for images in epochs.chunks_exact(batch) {
            for (source, share) in shares.iter().enumerate() {
                let own = images.iter().filter(|image| source_of[**image as usize] == source as u32).count();
                // A batch that spans two epochs may be one image further off.
                assert!((own as f64 - share * batch as f64).abs() < 2.0, "{shares:?}: {own} of {batch}");
            }
        }
        for (source, share) in shares.iter().enumerate() {
            let mut times = [0usize; 100];
            epochs.iter().for_each(|image| times[*image as usize] += 1);
            let own: Vec<usize> = (0..100).filter(|i| source_of[*i] == source as u32).map(|i| times[i]).collect();
            let all: usize = own.iter().sum();
            assert!((all as f64 - share * 3000.0).abs() <= 30.0, "{shares:?}: {all}");
            // All images of a source are shown before one is shown again.
            assert!(own.iter().max().unwrap() - own.iter().min().unwrap() <= 1, "{own:?}");
        }
        assert_eq!(sampler.epoch(7, 3), sampler.epoch(7, 3));
        assert_ne!(sampler.epoch(7, 3), sampler.epoch(8, 3));
    }
}
