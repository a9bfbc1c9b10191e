//! A contact sheet of a data set's images with their labels drawn. It is the quickest way to find a misplaced box.

use crate::data::images::decode;
use crate::data::random::Random;
use crate::data::{Image, Sample};
use crate::draw::{Canvas, LabelledFrame, READABLE_SIDE, caption, frames, grid};
use crate::error::{Error, Result};
use crate::tasks::{Label, Task};
use rayon::prelude::*;

/// The longer side of one picture on the sheet, in pixels.
const CELL: usize = 640;

/// A contact sheet of `count` samples chosen at random with `seed`, and the names of the images that cannot be read.
///
/// Errors: `Usage` if there is nothing to draw.
pub fn preview(tasks: &[Task], samples: &[Sample], count: usize, seed: u64) -> Result<(Canvas, Vec<String>)> {
    if samples.is_empty() || count == 0 {
        return Err(Error::Usage("nothing to draw: the split has no images, or --count is 0".into()));
    }
    let mut order: Vec<usize> = (0..samples.len()).collect();
    Random::new(&[seed]).shuffle(&mut order);
    order.truncate(count);
    order.sort_unstable();
    let drawn = order.par_iter().map(|&index| {
        let sample = &samples[index];
        let image = decode::decode(&sample.image).map_err(|error| format!("{}: {}", sample.name, error.reason()))?;
        Ok(labelled(tasks, &sample.name, image, &sample.labels))
    });
    let drawn: Vec<Result<Canvas, String>> = drawn.collect();
    let (mut pictures, mut broken) = (Vec::new(), Vec::new());
    for picture in drawn {
        match picture {
            Ok(picture) => pictures.push(picture),
            Err(reason) => broken.push(reason),
        }
    }
    if pictures.is_empty() {
        return Err(Error::Other(format!("none of the images can be read: {}", broken[0])));
    }
    let columns = (pictures.len() as f32).sqrt().ceil() as usize;
    Ok((grid(&pictures, columns), broken))
}

/// One image with its boxes; below it are its name and the labels that are not boxes.
///
/// Units: boxes in pixels of `image`.
pub fn labelled(tasks: &[Task], name: &str, image: Image, labels: &[Label]) -> Canvas {
    let whole = Canvas { width: image.width, height: image.height, rgb: image.rgb };
    let (small, shrunk) = whole.shrunk(CELL);
    let (mut canvas, enlarged) = small.enlarged(READABLE_SIDE);
    let mut lines = vec![name.to_string()];
    for (task, label) in tasks.iter().zip(labels) {
        if !label.is_labelled() {
            lines.push(format!("{}: unlabelled", task.name));
            continue;
        }
        let depicted = task.spec.depict(label);
        let boxes = depicted.boxes.into_iter().map(|frame| frame.scaled(shrunk * enlarged));
        frames(&mut canvas, &boxes.collect::<Vec<LabelledFrame>>());
        lines.extend(depicted.caption.map(|words| format!("{}: {words}", task.name)));
    }
    caption(&mut canvas, &lines);
    canvas
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::{class_colour, write_png};
    use crate::tasks::classify::{Class, Classify};
    use crate::tasks::detect::Detect;
    use crate::tasks::multi_label::{Classes, MultiLabel};
    use crate::tasks::regress::{Regress, Values};
    use crate::tasks::{Boxes, LabelledBox, TaskSpec};

    #[test]
    fn boxes_stand_where_they_are_and_words_below() {
        let tasks = [
            Task::new("things", Detect::new(vec!["a".into(), "b".into()])),
            Task::new("kind", Classify::new(vec!["x".into(), "y".into()])),
        ];
        // The image is twice the cell's side: it is drawn at half size, then enlarged to a readable size.
        let image = || Image { width: 2 * CELL, height: CELL, rgb: vec![7; 2 * CELL * CELL * 3] };
        let b = LabelledBox { class: 1, xyxy: [100.0, 200.0, 900.0, 600.0], ignore: false };
        let canvas = labelled(&tasks, "n", image(), &[Label::of(Boxes::from(vec![b])), Label::UNLABELLED]);
        let scale = canvas.width as f32 / (2 * CELL) as f32;
        let at = |x: f32, y: f32| canvas.pixel((x * scale) as usize, (y * scale) as usize);
        for (x, y) in [(101.0, 400.0), (898.0, 400.0), (500.0, 597.0)] {
            assert_eq!(at(x, y), class_colour(1), "({x}, {y})");
        }
        assert_eq!((at(90.0, 400.0), at(500.0, 400.0)), ([7; 3], [7; 3]));
        let bare = labelled(&tasks, "n", image(), &[Label::of(Boxes::default()), Label::of(Class::One(1))]);
        // The caption has one more line: `things: nothing there`.
        assert!(bare.height > canvas.height && canvas.height as f32 > CELL as f32 * scale);
        assert!(bare.rgb[..bare.width * 300 * 3].iter().all(|v| *v == 7));
    }

    #[test]
    fn every_label_has_words() {
        let words = |task: &dyn TaskSpec, label: &Label| task.depict(label).caption.unwrap();
        let sky = MultiLabel::new(vec!["s".into(), "r".into(), "f".into()]);
        let said = |there: [Option<bool>; 3]| words(&sky, &Label::of(Classes::from(there.to_vec())));
        assert_eq!(said([Some(true), Some(false), None]), "s, f?");
        assert_eq!(said([Some(false); 3]), "none");
        let units = ["m".to_string(), String::new()].into();
        let at = Regress { units, ..Regress::new(vec!["x".into(), "y".into()]) };
        assert_eq!(words(&at, &Label::of(Values::from(&[1.5, -2.0][..]))), "x 1.5 m, y -2");
    }

    #[test]
    fn the_seed_chooses_and_what_cannot_be_read_is_named() {
        let folder = std::env::temp_dir().join(format!("polyhead-preview-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let samples: Vec<Sample> = (0..6u8)
            .map(|i| {
                let file = folder.join(format!("{i}.png"));
                write_png(&file, &Canvas::filled(8, 8, [i * 40; 3])).unwrap();
                Sample::unlabelled(&file, 0)
            })
            .collect();
        let sheet = |seed| preview(&[], &samples, 4, seed).unwrap();
        assert_eq!(sheet(1), sheet(1));
        assert!((2..20).any(|seed| sheet(seed).0 != sheet(1).0));
        std::fs::write(&samples[2].image, "nothing").unwrap();
        let (_, broken) = preview(&[], &samples, 6, 0).unwrap();
        assert!(broken.len() == 1 && broken[0].contains("2.png: cannot decode"), "{broken:?}");
        assert!(matches!(preview(&[], &[], 4, 0), Err(Error::Usage(_))));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
