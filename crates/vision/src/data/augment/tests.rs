//! Checks that boxes and pixels move together under every transformation: coloured rectangles are drawn, transformed,
//! and located again by their colour.

mod partial;
mod sides;

use crate::boxes::{self, Xyxy};
use crate::data::augment::framing::PADDING;
use crate::data::augment::perspective::{self, warp};
use crate::data::augment::{
    Augment, Composer, ComposerOptions, Drawn, Framing, Transforms, colour, erasing, mixup, mosaic,
};
use crate::data::dataset::Sample;
use crate::data::images::resize::Target;
use crate::data::images::{Image, decode};
use crate::data::random::Random;
use crate::data::tests::{Folder, edit_boxes, of_boxes, of_class, of_values, one_box};
use crate::geometry::Homography;
use crate::tasks::Invariances;
use crate::tasks::classify::Class;
use crate::tasks::detect::Detect;
use crate::tasks::regress::Regress;
use crate::tasks::{Boxes, Label, LabelledBox, Task};
use std::collections::HashMap;
use std::sync::Arc;

const SIZE: usize = 96;
const GROUND: f32 = 128.0;
const LOW: u8 = 20;
const HIGH: u8 = 230;
/// One colour per class: all mixtures of high and low except black and white.
const COLOURS: [[u8; 3]; 6] =
    [[HIGH, LOW, LOW], [LOW, HIGH, LOW], [LOW, LOW, HIGH], [HIGH, HIGH, LOW], [HIGH, LOW, HIGH], [LOW, HIGH, HIGH]];

const DETECTS: Invariances = Invariances { crop: true, scale: true, joining: true, mixing: false };
const CLASSIFIES: Invariances = Invariances { crop: true, scale: true, joining: false, mixing: true };
const REGRESSES: Invariances = Invariances { crop: false, scale: false, joining: false, mixing: false };

fn boxes_of(label: &Label) -> &[LabelledBox] {
    let Some(list) = label.boxes() else { panic!("boxes stay boxes: {label:?}") };
    list
}

/// A grey picture with one rectangle per class listed.
fn picture(width: usize, height: usize, rectangles: &[(usize, [usize; 4])]) -> Image {
    let mut rgb = vec![GROUND as u8; width * height * 3];
    for &(class, [x1, y1, x2, y2]) in rectangles {
        for y in y1..y2 {
            for x in x1..x2 {
                rgb[(y * width + x) * 3..][..3].copy_from_slice(&COLOURS[class]);
            }
        }
    }
    Image { width, height, rgb }
}

/// Writes pictures of many shapes as files, each with a random rectangle in either half.
fn samples(folder: &Folder, count: usize, random: &mut Random) -> Arc<[Sample]> {
    // The shapes range from smaller than the canvas to much larger, and to far from square.
    let shapes = [(40, 28), (24, 60), (200, 150), (96, 96), (310, 120), (130, 420)];
    let sample = |i: usize| {
        let (width, height) = shapes[i % shapes.len()];
        let half = width / 2;
        let rectangles: Vec<(usize, [usize; 4])> = [0, 1]
            .map(|side| {
                let (w, h) = (half / 3 + random.below(half / 3), height / 3 + random.below(height / 3));
                let (x, y) = (side * half + 1 + random.below(half - w - 2), 1 + random.below(height - h - 2));
                ((2 * i + side) % COLOURS.len(), [x, y, x + w, y + h])
            })
            .to_vec();
        let image = folder.path().join(format!("{i}.png"));
        let drawn = picture(width, height, &rectangles);
        image::RgbImage::from_raw(width as u32, height as u32, drawn.rgb).unwrap().save(&image).unwrap();
        let boxes = rectangles.iter().map(|(class, xyxy)| LabelledBox {
            class: *class,
            xyxy: xyxy.map(|v| v as f32),
            ignore: false,
        });
        Sample { image, name: format!("{i}.png"), labels: vec![Label::of(boxes.collect::<Boxes>())] }
    };
    (0..count).map(sample).collect()
}

fn side_of(canvas: &[u8]) -> usize {
    (canvas.len() / 3).isqrt()
}

/// The bounding box of the pixels closer to the class's colour than to the ground, and their number.
fn found(canvas: &[u8], class: usize) -> Option<(Xyxy, usize)> {
    let is_of = |i: &usize| {
        let pixel = &canvas[i * 3..i * 3 + 3];
        pixel.iter().zip(COLOURS[class]).all(|(&p, colour)| {
            let part = (f32::from(p) - GROUND) / (f32::from(colour) - GROUND);
            part > 0.5
        })
    };
    let size = side_of(canvas);
    let pixels: Vec<usize> = (0..size * size).filter(is_of).collect();
    let span = |of: fn(usize, usize) -> usize| {
        let values = || pixels.iter().map(|&i| of(i, size) as f32);
        (values().fold(f32::INFINITY, f32::min), values().fold(0.0, f32::max) + 1.0)
    };
    let ((x1, x2), (y1, y2)) = (span(|i, size| i % size), span(|i, size| i / size));
    (!pixels.is_empty()).then_some(([x1, y1, x2, y2], pixels.len()))
}

/// The smallest box around all boxes of a class.
fn hull(boxes: &[LabelledBox], class: usize) -> Option<Xyxy> {
    let of_class = boxes.iter().filter(|b| b.class == class).map(|b| b.xyxy);
    of_class.reduce(|a, b| [a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])])
}

fn options(augment: Augment, transforms: Transforms, invariances: &[Invariances]) -> ComposerOptions {
    let (invariances, sides) = (invariances.to_vec(), vec![SIZE]);
    ComposerOptions { augment, transforms, invariances, mosaic_batches: u64::MAX, sides, seed: 0, cache: None }
}

fn composer(
    samples: &Arc<[Sample]>,
    augment: Augment,
    transforms: Transforms,
    invariances: &[Invariances],
) -> Composer {
    Composer::new(Arc::clone(samples), options(augment, transforms, invariances))
}

fn draw(composer: &Composer, samples: &[Sample], index: usize, seed: u64) -> (Vec<u8>, Drawn) {
    // Start with other values, to check that the canvas is overwritten completely.
    let mut canvas = vec![7; SIZE * SIZE * 3];
    let image = decode::decode(&samples[index].image).unwrap();
    let drawn = composer.draw(index, &image, 0, &mut Random::new(&[seed, index as u64]), &mut canvas);
    (canvas, drawn)
}

/// Compares every class's boxes with its pixels; returns how many could be compared at all four edges.
fn check_boxes(case: &str, canvas: &[u8], boxes: &[LabelledBox], tolerance: f32) -> usize {
    let mut exact = 0;
    for class in 0..COLOURS.len() {
        let Some(expected) = hull(boxes, class) else {
            let seen = found(canvas, class).map_or(0, |f| f.1);
            assert!(seen <= 4, "{case}: {seen} pixels of class {class} without a box");
            continue;
        };
        let Some((pixels, _)) = found(canvas, class) else {
            assert!(boxes::area(&expected) < 80.0, "{case}: class {class} is lost of {expected:?}");
            continue;
        };
        let apart: [f32; 4] =
            [0, 1, 2, 3].map(|i| if i < 2 { expected[i] - pixels[i] } else { pixels[i] - expected[i] });
        assert!(apart.iter().all(|a| *a < tolerance), "{case}: class {class} {pixels:?} outside {expected:?}");
        // If the canvas cuts a rotated rectangle, its box is the clipped bounding box of the whole rectangle, larger
        // than the visible part.
        let side = side_of(canvas) as f32;
        let of_class = || boxes.iter().filter(|b| b.class == class);
        let whole = of_class().all(|b| b.xyxy.iter().all(|v| (0.5..side - 0.5).contains(v)));
        let large = of_class().all(|b| b.xyxy[2] - b.xyxy[0] > 6.0 && b.xyxy[3] - b.xyxy[1] > 6.0);
        if whole && large {
            exact += 1;
            assert!(apart.iter().all(|a| a.abs() < tolerance), "{case}: class {class} {pixels:?}, box {expected:?}");
        }
    }
    exact
}

fn scattered() -> Augment {
    Augment { framing: Framing::Scatter { least_scale: 0.6 }, flip: 0.5, ..Augment::NONE }
}

#[test]
fn boxes_follow_the_pixels_through_every_movement() {
    let none = Transforms::NONE;
    let cases = [
        ("degrees", Transforms { degrees: 40.0, ..none }, 1.6),
        ("translate", Transforms { translate: 0.2, ..none }, 1.6),
        ("shear", Transforms { shear: 15.0, ..none }, 1.6),
        ("perspective", Transforms { perspective: 0.001, ..none }, 1.6),
        ("mosaic", Transforms { mosaic: 1.0, ..none }, 1.6),
        (
            "all",
            Transforms { mosaic: 0.5, degrees: 20.0, translate: 0.1, shear: 5.0, perspective: 0.0005, ..none },
            1.6,
        ),
        // Colours change and edges become softer, but positions stay.
        ("colours", Transforms { hsv_h: 0.01, hsv_s: 0.1, hsv_v: 0.1, ..none }, 1.6),
        ("blur and JPEG", Transforms { blur: 1.0, jpeg: 1.0, degrees: 10.0, ..none }, 3.0),
    ];
    let folder = Folder::new();
    let samples = samples(&folder, 12, &mut Random::new(&[5]));
    for (name, transforms, tolerance) in cases {
        let crop = Augment { framing: Framing::Crop { least_area: 0.4 }, flip: 0.5, ..Augment::NONE };
        let mut exact = 0;
        for augment in [Augment::NONE, scattered(), crop] {
            let composer = composer(&samples, augment, transforms, &[DETECTS]);
            for seed in 0..6 {
                for index in 0..samples.len() {
                    let (canvas, drawn) = draw(&composer, &samples, index, seed);
                    let case = format!("{name}, {:?}, image {index}, seed {seed}", augment.framing);
                    exact += check_boxes(&case, &canvas, boxes_of(&drawn.labels[0]), tolerance);
                }
            }
        }
        assert!(exact > 60, "{name}: only {exact} boxes were held to all their edges");
    }
}

#[test]
fn without_transforms_every_bit_is_as_the_framing_left_it() {
    let folder = Folder::new();
    let samples = samples(&folder, 6, &mut Random::new(&[6]));
    let augment = Augment::training(true, true);
    let composer = composer(&samples, augment, Transforms::NONE, &[DETECTS]);
    for index in 0..samples.len() {
        let (canvas, drawn) = draw(&composer, &samples, index, 3);
        let mut plain = vec![0; canvas.len()];
        let image = decode::decode(&samples[index].image).unwrap();
        let geometry = augment.draw(&image, SIZE, &mut Random::new(&[3, index as u64]), &mut plain);
        let labels: Vec<Label> = samples[index].labels.iter().map(|label| label.moved(&geometry)).collect();
        assert_eq!((canvas, drawn.labels), (plain, labels));
        assert_eq!(drawn.geometry, geometry);
    }
}

#[test]
fn transformations_that_would_change_a_label_are_not_applied() {
    let folder = Folder::new();
    let mut list = samples(&folder, 4, &mut Random::new(&[7])).to_vec();
    for (index, sample) in list.iter_mut().enumerate() {
        // The first two images are labelled for the regression too.
        sample.labels.push(if index < 2 { of_values(vec![2.0]) } else { Label::UNLABELLED });
    }
    let samples: Arc<[Sample]> = list.into();
    let all = Transforms {
        mosaic: 1.0,
        mixup: 1.0,
        degrees: 40.0,
        translate: 0.3,
        shear: 10.0,
        perspective: 0.001,
        erasing: 1.0,
        ..Transforms::NONE
    };
    let with = composer(&samples, scattered(), all, &[DETECTS, REGRESSES]);
    let without = composer(&samples, scattered(), Transforms::NONE, &[DETECTS, REGRESSES]);
    for (index, changes) in [(0, false), (1, false), (2, true), (3, true)] {
        let (changed, plain) = (draw(&with, &samples, index, 1), draw(&without, &samples, index, 1));
        assert_eq!(changed.0 != plain.0, changes, "{index}");
        assert_eq!(changed.1.labels[1], samples[index].labels[1]);
    }
    // Mosaics only use images labelled for the same tasks, so none contains the first two images.
    let mosaics =
        composer(&samples, Augment::NONE, Transforms { mosaic: 1.0, ..Transforms::NONE }, &[DETECTS, REGRESSES]);
    for seed in 0..20 {
        let (_, drawn) = draw(&mosaics, &samples, 2, seed);
        let classes = boxes_of(&drawn.labels[0]).iter().map(|b| b.class);
        let own: Vec<usize> =
            samples[2..].iter().flat_map(|s| boxes_of(&s.labels[0]).iter().map(|b| b.class)).collect();
        assert!(classes.into_iter().all(|class| own.contains(&class)));
    }
    // A task that allows crops but no change of scale: images are rotated and shifted, but not sheared or joined.
    let sized = Invariances { scale: false, ..DETECTS };
    let shear = Transforms { mosaic: 1.0, shear: 10.0, perspective: 0.001, ..Transforms::NONE };
    let spared = composer(&samples, scattered(), shear, &[sized, REGRESSES]);
    let turn = Transforms { degrees: 30.0, ..shear };
    let turned = composer(&samples, scattered(), turn, &[sized, REGRESSES]);
    let plain = draw(&without, &samples, 3, 1).0;
    assert_eq!(draw(&spared, &samples, 3, 1).0, plain);
    assert_ne!(draw(&turned, &samples, 3, 1).0, plain);
}

#[test]
fn remarks_name_the_flag_the_count_and_the_task() {
    let classes = vec!["a".to_string(), "b".into()];
    let tasks = [Task::new("cells", Detect::new(classes)), Task::new("count", Regress::new(vec!["n".into()]))];
    let sample =
        |count: Label| Sample { image: "x".into(), name: "x".into(), labels: vec![of_boxes(Vec::new()), count] };
    let samples = [sample(of_values(vec![1.0])), sample(Label::UNLABELLED)];
    let invariances = [DETECTS, REGRESSES];
    let transforms = Transforms { degrees: 5.0, blur: 0.5, ..Transforms::NONE };
    let said = super::remarks(&transforms, &tasks, &invariances, &samples);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("--degrees skips 1 of 2 training images, labelled for count: "), "{said:?}");
    assert!(super::remarks(&transforms, &tasks, &invariances, &samples[1..]).is_empty());
}

#[test]
fn empty_lists_stay_empty_and_ignored_boxes_stay_ignored() {
    let folder = Folder::new();
    let mut list = samples(&folder, 6, &mut Random::new(&[8])).to_vec();
    list[0].labels[0] = of_boxes(Vec::new());
    for sample in &mut list[1..] {
        edit_boxes(&mut sample.labels[0], |boxes| boxes.iter_mut().for_each(|b| b.ignore = true));
    }
    let all = Transforms { degrees: 30.0, translate: 0.1, shear: 5.0, perspective: 0.0005, ..Transforms::NONE };
    let still: Arc<[Sample]> = list.clone().into();
    let moved = composer(&still, scattered(), all, &[DETECTS]);
    let mosaics = composer(&still, scattered(), Transforms { mosaic: 1.0, ..all }, &[DETECTS]);
    let empty: Arc<[Sample]> = list[..1].into();
    let of_nothing = composer(&empty, scattered(), Transforms { mosaic: 1.0, erasing: 1.0, ..all }, &[DETECTS]);
    for seed in 0..10 {
        assert_eq!(draw(&moved, &still, 0, seed).1.labels, [of_boxes(Vec::new())]);
        assert_eq!(draw(&of_nothing, &empty, 0, seed).1.labels, [of_boxes(Vec::new())]);
        for index in 1..still.len() {
            let (canvas, drawn) = draw(&moved, &still, index, seed);
            assert!(boxes_of(&drawn.labels[0]).iter().all(|b| b.ignore));
            check_boxes("ignored", &canvas, boxes_of(&drawn.labels[0]), 1.6);
            // The picture whose labels were removed may be in the mosaic too; its rectangles have no boxes.
            let (_, drawn) = draw(&mosaics, &still, index, seed);
            assert!(boxes_of(&drawn.labels[0]).iter().all(|b| b.ignore));
        }
    }
}

#[test]
fn a_picture_without_objects_is_reported_if_another_label_describes_them() {
    let folder = Folder::new();
    let mut list = samples(&folder, 1, &mut Random::new(&[9])).to_vec();
    // One object at the edge of a picture that is shifted by up to the whole canvas.
    list[0].labels = vec![one_box(0, [0.0, 0.0, 3.0, 3.0]), of_class(1)];
    let samples: Arc<[Sample]> = list.clone().into();
    list[0].labels[1] = Label::UNLABELLED;
    let alone: Arc<[Sample]> = list.into();
    let shift = Transforms { translate: 1.0, ..Transforms::NONE };
    let invariances = [DETECTS, CLASSIFIES];
    let (speaking, silent) =
        (composer(&samples, Augment::NONE, shift, &invariances), composer(&alone, Augment::NONE, shift, &invariances));
    let mut emptied = 0;
    for seed in 0..20 {
        let drawn = draw(&speaking, &samples, 0, seed).1;
        assert_eq!(drawn.emptied, boxes_of(&drawn.labels[0]).iter().all(|b| b.ignore));
        assert!(!draw(&silent, &alone, 0, seed).1.emptied);
        emptied += usize::from(drawn.emptied);
    }
    assert!((1..20).contains(&emptied), "{emptied}");
}

#[test]
fn identity_and_a_quarter_turn_are_exact() {
    let mut random = Random::new(&[1]);
    let before: Vec<u8> = (0..SIZE * SIZE * 3).map(|_| random.next_u64() as u8).collect();
    let mut after = vec![0; before.len()];
    warp(&perspective::random(0.0, 0.0, 0.0, 0.0, SIZE, &mut random), &before, SIZE, &mut after);
    assert_eq!(after, before);
    // (x, y) is mapped to (size − y, x): a clockwise quarter turn, because y points down.
    let side = SIZE as f64;
    let quarter = Homography([[0.0, -1.0, side], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]);
    warp(&quarter, &before, SIZE, &mut after);
    for y in 0..SIZE {
        for x in 0..SIZE {
            let (from, to) = ((y * SIZE + x) * 3, (x * SIZE + SIZE - 1 - y) * 3);
            assert_eq!(after[to..to + 3], before[from..from + 3], "{x} {y}");
        }
    }
    assert_eq!(quarter.bounds(&[10.0, 20.0, 30.0, 25.0]), [71.0, 10.0, 76.0, 30.0]);
}

#[test]
fn a_box_that_leaves_is_removed_and_one_that_nearly_leaves_is_ignored() {
    let right = |by: f64| Homography([[1.0, 0.0, by], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]);
    let moved = |by: f64| {
        let mut labels = [one_box(2, [50.0, 10.0, 70.0, 20.0])];
        perspective::move_labels(&right(by), 100, &mut labels);
        boxes_of(&labels[0]).to_vec()
    };
    assert_eq!(moved(10.0), [LabelledBox { class: 2, xyxy: [60.0, 10.0, 80.0, 20.0], ignore: false }]);
    assert_eq!(moved(40.0), [LabelledBox { class: 2, xyxy: [90.0, 10.0, 100.0, 20.0], ignore: false }]);
    assert_eq!(moved(49.0), [LabelledBox { class: 2, xyxy: [99.0, 10.0, 100.0, 20.0], ignore: true }]);
    assert!(moved(50.0).is_empty());
}

#[test]
fn a_mosaic_is_four_pictures_that_meet_in_one_point() {
    let images = [(200, 100), (30, 90), (96, 96), (7, 5)].map(|(w, h)| picture(w, h, &[]));
    for seed in 0..200 {
        for flip in [false, true] {
            let [a, b, c, d] = &images;
            let places = mosaic::places([a, b, c, d], SIZE, flip, &mut Random::new(&[seed]));
            let windows = places.map(|place| place.window());
            // Each window touches the point with one corner, and no two windows overlap.
            let point = if flip { [windows[0][0], windows[0][3]] } else { [windows[0][2], windows[0][3]] };
            let middle = SIZE as f32 / 4.0..=SIZE as f32 * 0.75;
            assert!(point.iter().all(|v| middle.contains(v)), "{point:?}");
            // The tolerance covers rounding to whole pixels.
            let near = |a: f32, b: f32| (a - b).abs() < 1e-4;
            for (i, window) in windows.iter().enumerate() {
                let [x, y] = [window[if (i % 2 == 0) != flip { 2 } else { 0 }], window[if i < 2 { 3 } else { 1 }]];
                assert!(near(x, point[0]) && near(y, point[1]), "{windows:?}");
                assert!(window.iter().all(|edge| near(edge.fract(), 0.0) || near(edge.fract(), 1.0)), "{window:?}");
                assert!(boxes::area(window) >= 1.0);
                assert!(windows[..i].iter().all(|other| boxes::intersection(window, other) < 1e-2));
            }
        }
    }
}

#[test]
fn mosaics_close_at_their_batch() {
    let folder = Folder::new();
    let samples = samples(&folder, 6, &mut Random::new(&[10]));
    let transforms = Transforms { mosaic: 1.0, ..Transforms::NONE };
    let options = ComposerOptions { mosaic_batches: 4, ..options(Augment::NONE, transforms, &[DETECTS]) };
    let composer = Composer::new(Arc::clone(&samples), options);
    let image = decode::decode(&samples[0].image).unwrap();
    let boxes = |batch: u64| {
        let mut canvas = vec![0; SIZE * SIZE * 3];
        let drawn = composer.draw(0, &image, batch, &mut Random::new(&[1]), &mut canvas);
        boxes_of(&drawn.labels[0]).len()
    };
    assert_eq!([boxes(3), boxes(4)].map(|n| n > 2), [true, false]);
}

#[test]
fn erasing_greys_a_rectangle_and_ignores_what_it_hides() {
    let (mut hidden, mut seen) = (0, 0);
    for seed in 0..300 {
        let Some(place) = erasing::place(SIZE, &mut Random::new(&[seed])) else { continue };
        let area = (place.width * place.height) as f32 / (SIZE * SIZE) as f32;
        assert!((0.015..0.35).contains(&area), "{place:?}");
        let xyxy = [40, 30, 60, 44];
        let mut canvas = picture(SIZE, SIZE, &[(1, xyxy)]).rgb;
        let mut labels = [one_box(1, xyxy.map(|v| v as f32)), Label::UNLABELLED];
        erasing::erase(&mut canvas, SIZE, place, &mut labels);
        let left = found(&canvas, 1).map_or(0, |f| f.1);
        let [labelled] = boxes_of(&labels[0]) else { panic!("a hidden box stays, ignored") };
        assert_eq!(labelled.xyxy, [40.0, 30.0, 60.0, 44.0]);
        assert_eq!(labelled.ignore, left < 28, "{left} of 280 pixels");
        let erased = canvas.chunks(3).filter(|p| *p == [PADDING; 3]).count();
        assert_eq!(erased, place.width * place.height);
        hidden += usize::from(labelled.ignore);
        seen += usize::from(!labelled.ignore);
    }
    assert!(hidden > 5 && seen > 100, "{hidden} {seen}");
}

#[test]
fn mixing_blends_pixels_and_classes_alike() {
    let mut labels = [of_class(2), Label::UNLABELLED];
    mixup::mix(&mut labels, &[of_class(0), Label::UNLABELLED], 0.25);
    let Some(Class::Mixed(mixed)) = labels[0].get() else { panic!("{labels:?}") };
    assert_eq!((mixed.classes, mixed.share), ([2, 0], 0.25));
    assert_eq!(labels[1], Label::UNLABELLED);
    let mut canvas = vec![200, 0, 255];
    mixup::blend(&mut canvas, &[100, 0, 255], 0.25);
    assert_eq!(canvas, [125, 0, 255]);
    // Beta(0.2, 0.2) has mean 1/2 and variance 1/(4·1.4); the means over 20,000 draws must be within 4 standard
    // deviations.
    let mut random = Random::new(&[3]);
    let shares: Vec<f64> = (0..20_000).map(|_| f64::from(mixup::share(&mut random))).collect();
    let mean = shares.iter().sum::<f64>() / 2e4;
    let variance = shares.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / 2e4;
    assert!((mean - 0.5).abs() < 0.012 && (variance - 1.0 / 5.6).abs() < 0.004, "{mean} {variance}");
}

#[test]
fn hue_turns_saturation_fades_and_value_dims() {
    let whole = Target { left: 0, top: 0, width: 2, height: 2 };
    let turned = |gains: [f32; 3]| {
        let mut canvas = vec![200, 50, 50, 50, 200, 50, 128, 128, 128, 10, 20, 30];
        colour::turn_hsv(&mut canvas, 2, whole, gains);
        canvas
    };
    assert_eq!(turned([0.0, 1.0, 1.0]), [200, 50, 50, 50, 200, 50, 128, 128, 128, 10, 20, 30]);
    // A third of the circle turns red to green and green to blue; grey has no hue.
    assert_eq!(turned([1.0 / 3.0, 1.0, 1.0]), [50, 200, 50, 50, 50, 200, 128, 128, 128, 30, 10, 20]);
    assert_eq!(turned([0.0, 0.0, 1.0])[..6], [200; 6]);
    assert_eq!(turned([0.0, 1.0, 0.5]), [100, 25, 25, 25, 100, 25, 64, 64, 64, 5, 10, 15]);
}

#[test]
fn blur_and_jpeg_stay_within_the_picture() {
    let target = Target { left: 20, top: 30, width: 50, height: 37 };
    let inside = |i: usize| (20..70).contains(&(i % SIZE)) && (30..67).contains(&(i / SIZE));
    let mut random = Random::new(&[2]);
    let before: Vec<u8> =
        (0..SIZE * SIZE).flat_map(|i| if inside(i) { [random.next_u64() as u8; 3] } else { [PADDING; 3] }).collect();
    type Change = fn(&mut [u8], usize, Target);
    let changes: [Change; 2] = [|c, s, t| colour::blur(c, s, t, 1.5), |c, s, t| colour::jpeg(c, s, t, 20)];
    for change in changes {
        let mut canvas = before.clone();
        change(&mut canvas, SIZE, target);
        let (mut changed, mut sums) = (0, [0u64; 2]);
        for i in 0..SIZE * SIZE {
            let (old, new) = (&before[i * 3..i * 3 + 3], &canvas[i * 3..i * 3 + 3]);
            assert!(inside(i) || old == new, "padding changed at {i}");
            changed += usize::from(old != new);
            sums[0] += u64::from(old[0]);
            sums[1] += u64::from(new[0]);
        }
        assert!(changed > 1500, "{changed}");
        // Noise is smoothed or rounded, but its mean stays.
        assert!((sums[0] as f64 / sums[1] as f64 - 1.0).abs() < 0.01, "{sums:?}");
    }
    // Blur does not change a uniform colour, and JPEG hardly does.
    let mut flat = picture(SIZE, SIZE, &[]).rgb;
    changes[0](&mut flat, SIZE, target);
    assert_eq!(flat, picture(SIZE, SIZE, &[]).rgb);
}
