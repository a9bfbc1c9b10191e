//! Boxes on canvases of several sides: located by their colour, and compared between sides for the same picture.

use super::*;

/// A composer for a run whose batches have these sides.
fn composer_of(samples: &Arc<[Sample]>, sides: &[usize], augment: Augment, transforms: Transforms) -> Composer {
    let options = ComposerOptions { sides: sides.to_vec(), ..options(augment, transforms, &[DETECTS]) };
    Composer::new(Arc::clone(samples), options)
}

#[test]
fn boxes_follow_the_pixels_at_every_side() {
    let none = Transforms::NONE;
    let moves = Transforms { degrees: 20.0, translate: 0.1, shear: 5.0, perspective: 0.0005, ..none };
    let cases = [
        ("framing", none),
        ("movement", moves),
        ("mosaic", Transforms { mosaic: 1.0, ..none }),
        ("all", Transforms { mosaic: 0.5, ..moves }),
    ];
    let folder = Folder::new();
    let samples = samples(&folder, 12, &mut Random::new(&[5]));
    let sides = [64, 96, 128, 160];
    let crop = Augment { framing: Framing::Crop { least_area: 0.4 }, flip: 0.5, ..Augment::NONE };
    for (name, transforms) in cases {
        let mut exact = HashMap::from(sides.map(|side| (side, 0)));
        for augment in [Augment::NONE, scattered(), crop] {
            let composer = composer_of(&samples, &sides, augment, transforms);
            for batch in 0..12 {
                let side = composer.side(batch);
                for (index, sample) in samples.iter().enumerate() {
                    let image = decode::decode(&sample.image).unwrap();
                    let mut canvas = vec![7; side * side * 3];
                    let drawn =
                        composer.draw(index, &image, batch, &mut Random::new(&[batch, index as u64]), &mut canvas);
                    assert_eq!(drawn.geometry.size, side);
                    let case = format!("{name}, {:?}, image {index}, batch {batch} of {side}", augment.framing);
                    *exact.get_mut(&side).unwrap() += check_boxes(&case, &canvas, boxes_of(&drawn.labels[0]), 1.6);
                }
            }
        }
        assert!(exact.values().all(|&count| count > 10), "{name}: so few were held to all edges: {exact:?}");
    }
}

/// The same random draws at two sides show the same picture at two sizes.
#[test]
fn a_box_is_as_large_a_part_of_its_canvas_at_every_side() {
    let folder = Folder::new();
    let samples = samples(&folder, 12, &mut Random::new(&[5]));
    let transforms = Transforms { degrees: 20.0, translate: 0.1, perspective: 0.001, ..Transforms::NONE };
    let mut compared = 0;
    for index in 0..samples.len() {
        let image = decode::decode(&samples[index].image).unwrap();
        let parts = |side: usize| -> Vec<[f32; 4]> {
            let composer = composer_of(&samples, &[side], scattered(), transforms);
            let mut canvas = vec![0; side * side * 3];
            let drawn = composer.draw(index, &image, 0, &mut Random::new(&[index as u64]), &mut canvas);
            boxes_of(&drawn.labels[0]).iter().map(|b| b.xyxy.map(|v| v / side as f32)).collect()
        };
        let (small, large) = (parts(64), parts(192));
        // A picture's edges are rounded to whole pixels, so they may differ by up to one of 64 pixels on either side.
        for (a, b) in small.iter().flatten().zip(large.iter().flatten()) {
            assert!((a - b).abs() < 2.0 / 64.0, "image {index}: {small:?} {large:?}");
            compared += 1;
        }
    }
    assert!(compared > 60, "{compared}");
}
