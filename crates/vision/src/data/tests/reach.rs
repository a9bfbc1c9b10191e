//! The part of a picture that is decoded covers everything that is drawn, for all transformations: none may read pixels
//! that were not decoded.

use super::{Folder, of_class, one_box};
use crate::data::augment::{Augment, Composer, Framing, Transforms};
use crate::data::dataset::Sample;
use crate::data::feed::{EvalLoader, LoaderOptions, Sampling, TrainLoader, Variety};
use crate::data::images::cache::Cache;
use crate::data::images::{Image, Part, decode};
use crate::data::random::Random;
use crate::tasks::Invariances;
use crate::tasks::Label;
use image::codecs::jpeg::JpegEncoder;
use std::fs;
use std::sync::Arc;

/// Labelled with boxes only, or with a class only: mosaic applies to the former, mix-up to the latter.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Labelled {
    Boxes,
    Class,
}

const NONE: Transforms = Transforms::NONE;

/// Each kind of transformation, the labels it applies to, and whether the picture may still be decoded in part. The
/// probabilities are such that some pictures are not transformed.
const KINDS: [(&str, Labelled, Transforms, bool); 15] = [
    ("none", Labelled::Boxes, NONE, true),
    ("mosaic", Labelled::Boxes, Transforms { mosaic: 0.5, ..NONE }, false),
    ("mosaic of classes", Labelled::Class, Transforms { mosaic: 0.5, ..NONE }, true),
    ("mix-up", Labelled::Class, Transforms { mixup: 0.5, ..NONE }, false),
    ("mix-up of boxes", Labelled::Boxes, Transforms { mixup: 0.5, ..NONE }, true),
    ("degrees", Labelled::Boxes, Transforms { degrees: 40.0, ..NONE }, false),
    ("translate", Labelled::Boxes, Transforms { translate: 0.3, ..NONE }, false),
    ("shear", Labelled::Boxes, Transforms { shear: 15.0, ..NONE }, false),
    ("perspective", Labelled::Boxes, Transforms { perspective: 0.001, ..NONE }, false),
    ("HSV", Labelled::Class, Transforms { hsv_h: 0.1, hsv_s: 0.5, hsv_v: 0.5, ..NONE }, true),
    ("erasing", Labelled::Boxes, Transforms { erasing: 0.5, ..NONE }, true),
    ("blur", Labelled::Class, Transforms { blur: 0.5, ..NONE }, true),
    ("JPEG", Labelled::Boxes, Transforms { jpeg: 0.5, ..NONE }, true),
    ("all of boxes", Labelled::Boxes, ALL, false),
    ("all of classes", Labelled::Class, ALL, false),
];

const ALL: Transforms = Transforms {
    mosaic: 0.5,
    close_mosaic: 0,
    mixup: 0.5,
    degrees: 10.0,
    translate: 0.1,
    shear: 5.0,
    perspective: 0.0005,
    hsv_h: 0.02,
    hsv_s: 0.5,
    hsv_v: 0.5,
    erasing: 0.5,
    blur: 0.5,
    jpeg: 0.5,
};

/// Noise, in which every pixel matters: baseline JPEGs larger than most of the parts drawn from them.
fn samples(folder: &Folder, labelled: Labelled) -> Arc<[Sample]> {
    let sample = |i: usize| {
        let (width, height) = [(150, 100), (90, 170), (120, 120), (200, 64)][i % 4];
        let mut random = Random::new(&[i as u64]);
        let rgb: Vec<u8> = (0..width * height * 3).map(|_| random.next_u64() as u8).collect();
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 60);
        encoder.encode(&rgb, width as u32, height as u32, image::ExtendedColorType::Rgb8).unwrap();
        let image = folder.path().join(format!("{i}.jpg"));
        fs::write(&image, bytes).unwrap();
        let label = match labelled {
            Labelled::Boxes => one_box(i, [20.0, 10.0, 60.0, 50.0]),
            Labelled::Class => of_class(i),
        };
        Sample { image, name: format!("{i}.jpg"), labels: vec![label] }
    };
    (0..8).map(sample).collect()
}

fn options(labelled: Labelled, transforms: Transforms) -> LoaderOptions {
    let boxes = labelled == Labelled::Boxes;
    let invariances = vec![Invariances { crop: true, scale: true, joining: boxes, mixing: !boxes }];
    LoaderOptions {
        batch: 5,
        imgsz: 48,
        workers: 2,
        seed: 4,
        augment: Augment { framing: Framing::Crop { least_area: 0.1 }, ..Augment::training(true, true) },
        variety: Variety { transforms, invariances, ..Variety::default() },
        max_broken: 0.0,
        prefetch: 1,
        cache: None,
        encoders: None,
    }
}

/// A cache with room for every image; cached images are decoded whole.
fn roomy() -> Option<Arc<Cache>> {
    Some(Arc::new(Cache::in_memory(1 << 20)))
}

type Content = (Vec<u8>, Vec<(usize, Vec<Label>)>);

/// The content of the next batches, as a training step sees it.
fn take(loader: &mut TrainLoader, count: usize) -> Vec<Content> {
    let content = |_| {
        let batch = loader.next().unwrap();
        (batch.images, batch.items.into_iter().map(|item| (item.index, item.labels)).collect())
    };
    (0..count).map(content).collect()
}

fn train(samples: &Arc<[Sample]>, options: LoaderOptions) -> TrainLoader {
    TrainLoader::new(samples.clone(), options, 0).unwrap()
}

#[test]
fn batches_are_the_same_bits_from_parts_and_from_whole_images() {
    let folder = Folder::new();
    for (name, labelled, transforms, _) in KINDS {
        let samples = samples(&folder, labelled);
        for (sampling, mosaic_batches) in [(Sampling::Uniform, u64::MAX), (Sampling::ClassBalanced, 3)] {
            let mut options = options(labelled, transforms);
            options.variety = Variety { sampling, mosaic_batches, ..options.variety };
            let whole = take(&mut train(&samples, LoaderOptions { cache: roomy(), ..options.clone() }), 8);
            let parts = take(&mut train(&samples, LoaderOptions { workers: 3, ..options.clone() }), 8);
            assert!(parts == whole, "{name}, {sampling:?}");
            // A full cache also decodes in part.
            let full = Some(Arc::new(Cache::in_memory(100_000)));
            assert!(take(&mut train(&samples, LoaderOptions { cache: full, ..options }), 8) == whole, "{name}, full");
        }
    }
    let samples = samples(&folder, Labelled::Class);
    for augment in [Augment::NONE, Augment::centre_crop(48)] {
        let options = LoaderOptions { augment, ..options(Labelled::Class, NONE) };
        let take = |cache| -> Vec<Vec<u8>> {
            let options = LoaderOptions { cache, ..options.clone() };
            let loader = EvalLoader::new(samples.clone(), options).unwrap();
            loader.map(|batch| batch.unwrap().images).collect()
        };
        assert!(take(None) == take(roomy()), "{augment:?}");
    }
}

/// Exact to the pixel, although the decoder rounds to blocks.
#[test]
fn nothing_beyond_its_reach_changes_a_picture() {
    let folder = Folder::new();
    for (name, labelled, transforms, in_part) in KINDS {
        let samples = samples(&folder, labelled);
        let mut options = options(labelled, transforms);
        options.variety.mosaic_batches = 1;
        let composer = Composer::new(samples.clone(), options.composing());
        let mut left_out = [0, 0];
        for (batch, draw) in [0, 1].into_iter().flat_map(|batch| (0..10).map(move |draw| (batch, draw))) {
            for (index, sample) in samples.iter().enumerate() {
                let key = Random::new(&[draw, index as u64]);
                let image = decode::decode(&sample.image).unwrap();
                let part = composer.reach(index, [image.width, image.height], batch, &key);
                let mut seen = image.clone();
                left_out[batch as usize] += invert_outside(&mut seen, part);
                let draw = |image: &Image| {
                    let mut canvas = vec![0; 48 * 48 * 3];
                    let drawn = composer.draw(index, image, batch, &mut key.clone(), &mut canvas);
                    (canvas, drawn.labels)
                };
                assert!(draw(&image) == draw(&seen), "{name} looks beyond {part:?} of {}", sample.name);
            }
        }
        assert_eq!(left_out[0] > 100_000, in_part, "{name}: {left_out:?}");
        // After the last mosaic batch, nothing more is decoded for mosaics.
        assert_eq!(left_out[1] > 100_000, in_part || name == "mosaic", "{name}: {left_out:?}");
    }
}

/// Inverts the bytes outside `part`; returns their number.
fn invert_outside(image: &mut Image, part: Part) -> usize {
    let mut left_out = 0;
    for (i, byte) in image.rgb.iter_mut().enumerate() {
        let (x, y) = (i / 3 % image.width, i / 3 / image.width);
        if !(part.left..part.right).contains(&x) || !(part.top..part.bottom).contains(&y) {
            *byte = !*byte;
            left_out += 1;
        }
    }
    left_out
}

/// The partners of mosaics and mix-ups come from the cache: after one epoch no file is read.
#[test]
fn kept_images_serve_those_that_are_joined_and_mixed() {
    for (name, labelled, transforms, _) in KINDS {
        let folder = Folder::new();
        let samples = samples(&folder, labelled);
        let options = options(labelled, transforms);
        let expected = take(&mut train(&samples, options.clone()), 10);
        let caches = [roomy(), Some(Arc::new(Cache::in_folder(&folder.path().join("kept"), 1 << 20).unwrap()))];
        for cache in &caches {
            let mut loader = train(&samples, LoaderOptions { cache: cache.clone(), ..options.clone() });
            assert!(take(&mut loader, 10) == expected, "{name}");
        }
        // The cache in memory identifies images by path alone.
        for sample in samples.iter() {
            fs::remove_file(&sample.image).unwrap();
        }
        let mut loader = train(&samples, LoaderOptions { cache: caches[0].clone(), ..options });
        assert!(take(&mut loader, 10) == expected, "{name}, without files");
    }
}
