//! A contact sheet of a data set's images with their labels drawn. It is the quickest way to find a misplaced box.

use crate::data::images::decode;
use crate::data::random::Random;
use crate::data::{Image, Sample};
use crate::draw::{Canvas, GRID_GAP, LabelledFrame, caption_sized, frames, grid};
use crate::error::{Error, Result};
use crate::tasks::{Label, Task};
use rayon::prelude::*;

/// The widest sheet in pixels.
const SHEET: usize = 2400;
/// The longer side of one picture on the sheet in pixels: at most, and at least however many there are.
const CELL: usize = 640;
const NARROWEST: usize = 380;
/// The size of captions, in the font's steps: capitals 14 pixels high.
const CAPTION: usize = 2;
/// The ground beside pictures that do not fill their cells.
const GROUND: [u8; 3] = [64; 3];

/// The division of a sheet into equal cells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layout {
    /// Cells per row.
    pub columns: usize,
    /// The width of a cell in pixels, and the longer side of its picture.
    pub cell: usize,
}

impl Layout {
    /// The layout for so many pictures: about as many rows as columns, as long as captions stay legible.
    pub fn of(count: usize) -> Layout {
        let square = (count as f64).sqrt().ceil() as usize;
        let columns = square.clamp(1, (SHEET - GRID_GAP) / (NARROWEST + GRID_GAP));
        Layout { columns, cell: ((SHEET - GRID_GAP) / columns - GRID_GAP).min(CELL) }
    }
}

/// A picture with its boxes, and the lines below it.
pub struct Cell {
    picture: Canvas,
    lines: Vec<String>,
}

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
    let layout = Layout::of(order.len());
    let drawn = order.par_iter().map(|&index| {
        let sample = &samples[index];
        let image = decode::decode(&sample.image).map_err(|error| format!("{}: {}", sample.name, error.reason()))?;
        Ok(labelled(&layout, tasks, &sample.name, image, &sample.labels))
    });
    let drawn: Vec<Result<Cell, String>> = drawn.collect();
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
    Ok((sheet(&layout, pictures), broken))
}

/// The sheet: every picture in the middle of a cell of the same size, its lines below it.
pub fn sheet(layout: &Layout, cells: Vec<Cell>) -> Canvas {
    let height = cells.iter().map(|cell| cell.picture.height).max().unwrap_or(0);
    let placed = cells.into_iter().map(|Cell { picture, lines }| {
        let mut canvas = Canvas::filled(layout.cell, height, GROUND);
        canvas.paste(&picture, (layout.cell - picture.width) / 2, (height - picture.height) / 2);
        caption_sized(&mut canvas, &lines, CAPTION);
        canvas
    });
    let mut placed: Vec<Canvas> = placed.collect();
    // Pictures of a row stand side by side, whatever the number of lines below each.
    for row in placed.chunks_mut(layout.columns) {
        let height = row.iter().map(|cell| cell.height).max().unwrap_or(0);
        for cell in row {
            let mut whole = Canvas::filled(layout.cell, height, GROUND);
            whole.paste(cell, 0, 0);
            *cell = whole;
        }
    }
    grid(&placed, layout.columns)
}

/// One image with its boxes, scaled to its cell; below it come its name and the labels that are not boxes.
///
/// Units: boxes in pixels of `image`.
pub fn labelled(layout: &Layout, tasks: &[Task], name: &str, image: Image, labels: &[Label]) -> Cell {
    let whole = Canvas { width: image.width, height: image.height, rgb: image.rgb };
    let (mut picture, scale) = whole.fitted(layout.cell);
    let mut lines = vec![name.to_string()];
    for (task, label) in tasks.iter().zip(labels) {
        if !label.is_labelled() {
            lines.push(format!("{}: unlabelled", task.name));
            continue;
        }
        let depicted = task.spec.depict(label);
        let boxes = depicted.boxes.into_iter().map(|frame| frame.scaled(scale));
        frames(&mut picture, &boxes.collect::<Vec<LabelledFrame>>());
        lines.extend(depicted.caption.map(|words| format!("{}: {words}", task.name)));
    }
    Cell { picture, lines }
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
        // The image is twice the cell's side, so it is drawn at half its size.
        let layout = Layout::of(1);
        assert_eq!(layout, Layout { columns: 1, cell: CELL });
        let image = || Image { width: 2 * CELL, height: CELL, rgb: vec![7; 2 * CELL * CELL * 3] };
        let b = LabelledBox { class: 1, xyxy: [100.0, 200.0, 900.0, 600.0], ignore: false };
        let labels = [Label::of(Boxes::from(vec![b])), Label::UNLABELLED];
        let Cell { picture, lines } = labelled(&layout, &tasks, "n", image(), &labels);
        assert_eq!((picture.width, picture.height, lines.len()), (CELL, CELL / 2, 2));
        let at = |x: f32, y: f32| picture.pixel((x / 2.0) as usize, (y / 2.0) as usize);
        for (x, y) in [(101.0, 400.0), (898.0, 400.0), (500.0, 597.0)] {
            assert_eq!(at(x, y), class_colour(1), "({x}, {y})");
        }
        assert_eq!((at(90.0, 400.0), at(500.0, 400.0)), ([7; 3], [7; 3]));
        let bare = [Label::of(Boxes::default()), Label::of(Class::One(1))];
        let Cell { picture, lines } = labelled(&layout, &tasks, "n", image(), &bare);
        // One more line: `things: nothing there`.
        assert!(lines.len() == 3 && picture.rgb.iter().all(|v| *v == 7), "{lines:?}");
    }

    #[test]
    fn every_sheet_is_narrow_enough_and_its_cells_are_equal() {
        for count in [1, 2, 5, 16, 36, 37, 100, 255] {
            let Layout { columns, cell } = Layout::of(count);
            assert!(
                columns * (cell + GRID_GAP) + GRID_GAP <= SHEET && cell >= NARROWEST && columns <= count,
                "{count}"
            );
        }
        // A tiny picture, a wide one and a high one fill the same cell.
        let layout = Layout::of(3);
        let of = |width: usize, height: usize| {
            let image = Image { width, height, rgb: vec![200; width * height * 3] };
            labelled(&layout, &[], "name", image, &[])
        };
        let mut cells: Vec<Cell> = [(8, 8), (3000, 20), (30, 900)].map(|(width, height)| of(width, height)).into();
        // More lines below one do not move the other.
        cells[1].lines.extend(["a".to_owned(), "b".to_owned()]);
        let sizes: Vec<usize> = cells.iter().map(|cell| cell.picture.width.max(cell.picture.height)).collect();
        assert_eq!(sizes, [layout.cell; 3]);
        let whole = sheet(&layout, cells);
        assert_eq!(whole.width, 2 * (layout.cell + GRID_GAP) + GRID_GAP);
        let middle = |column: usize| GRID_GAP + column * (layout.cell + GRID_GAP) + layout.cell / 2;
        assert_eq!(whole.pixel(middle(0), middle(0)), [200; 3]);
        assert_eq!(whole.pixel(middle(1), middle(0)), [200; 3]);
        assert_eq!(whole.pixel(middle(1), GRID_GAP + 9), GROUND);
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
