//! Tests that regions annotated for some classes only move with their pixels.

use super::{DETECTS, Folder, SIZE, composer, draw, samples};
use crate::boxes;
use crate::data::augment::{Augment, Transforms};
use crate::data::dataset::Sample;
use crate::data::random::Random;
use crate::data::tests::edit_boxes;
use crate::tasks::{Boxes, PartialRegion};
use std::sync::Arc;

/// Three pictures with two classes each. In the first two only one of the classes was looked for; the last was
/// annotated for all.
fn partly_annotated(folder: &Folder) -> Arc<[Sample]> {
    let whole = samples(folder, 3, &mut Random::new(&[7]));
    let mut list = whole.to_vec();
    for (i, sample) in list.iter_mut().enumerate().take(2) {
        let (width, height) = image::image_dimensions(&sample.image).unwrap();
        let xyxy = [0.0, 0.0, width as f32, height as f32];
        let region = PartialRegion { xyxy, looked_for: [i as u32].as_slice().into() };
        edit_boxes(&mut sample.labels[0], |boxes| boxes.partial = [region].into_iter().collect());
    }
    list.into()
}

#[test]
fn a_region_holds_all_of_its_picture_and_of_a_mosaic_nothing_else() {
    let folder = Folder::new();
    let samples = partly_annotated(&folder);
    let augment = Augment::training(true, true);
    let mosaic = Transforms { mosaic: 1.0, ..Transforms::default() };
    let moved = Transforms { degrees: 20.0, translate: 0.2, shear: 8.0, ..mosaic };
    let (mut joined, mut whole) = (0, 0);
    for (transforms, moves) in [(Transforms::default(), false), (mosaic, false), (moved, true)] {
        let composer = composer(&samples, augment, transforms, &[DETECTS]);
        for seed in 0..120 {
            let drawn = draw(&composer, &samples, seed as usize % 3, seed).1;
            let Some(Boxes { list, partial }) = drawn.labels[0].boxes() else { panic!("boxes") };
            for b in list {
                let holds = |region: &&PartialRegion| {
                    let [x1, y1, x2, y2] = region.xyxy;
                    b.xyxy[0] >= x1 - 1e-3 && b.xyxy[1] >= y1 - 1e-3 && b.xyxy[2] <= x2 + 1e-3 && b.xyxy[3] <= y2 + 1e-3
                };
                let own = partial.iter().filter(|region| region.has(b.class / 2)).any(|region| holds(&region));
                assert_eq!(own, b.class < 4, "class {} at {:?} in {partial:?}", b.class, b.xyxy);
                assert!(own || moves || !partial.iter().any(|r| holds(&r)), "what was looked for for all is so");
            }
            for (i, region) in partial.iter().enumerate() {
                assert!(region.xyxy.iter().all(|v| (0.0..=SIZE as f32).contains(v)), "{region:?}");
                let overlap = |other: &PartialRegion| boxes::intersection(&other.xyxy, &region.xyxy);
                assert!(moves || partial[..i].iter().all(|other| overlap(other) < 0.01), "{partial:?}");
            }
            joined += usize::from(partial.len() > 1);
            whole += usize::from(partial.is_empty());
        }
    }
    assert!(joined > 20 && whole > 20, "{joined} {whole}");
}
