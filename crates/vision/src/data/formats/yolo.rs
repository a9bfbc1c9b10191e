//! YOLO label files: one row per box, `class cx cy w h` as fractions of the image, or a polygon `class x1 y1 x2 y2 …`.

use super::listed::Listed;
use super::{Raw, RawBox, RawClass, Reading, Remark, Word};
use crate::boxes::{self, Xyxy};
use crate::data::declaration::{TaskDeclaration, YoloRows};
use crate::data::images::decode;
use crate::data::walk::relative_name;
use crate::error::{Error, Result};
use crate::reading::{MOST_CLASSES, Missing, Place, Spot, text};
use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A coordinate may lie outside the image by this much before the row counts as wrong. It allows for rounding, but not
/// for pixels in place of fractions.
const TOLERANCE: f32 = 0.01;

pub struct YoloReader {
    dir: Option<PathBuf>,
    rows: YoloRows,
    root: PathBuf,
}

impl YoloReader {
    pub fn new(dir: Option<PathBuf>, rows: YoloRows, root: &Path) -> Self {
        let root = root.to_path_buf();
        YoloReader { dir, rows, root }
    }

    pub fn read(&self, task: &TaskDeclaration, image: &Listed) -> Result<Reading> {
        let candidates = self.label_files(image);
        for file in &candidates {
            match text::read(file) {
                Ok(text) => return self.read_rows(task, image, file, &text),
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) if e.kind() == ErrorKind::NotADirectory => {}
                Err(e) => return Err(Error::io("read", file)(e)),
            }
        }
        let raw = match task.missing {
            Some(Missing::Background) => Raw::Boxes(Vec::new()),
            _ => Raw::Unlabelled,
        };
        let mut reading = Reading::of(raw, &candidates[0], None);
        reading.remarks.push((Remark::NoLabelFile, reading.place.clone()));
        Ok(reading)
    }

    /// Possible paths of the label file, most likely first; never empty.
    fn label_files(&self, image: &Listed) -> Vec<PathBuf> {
        let Some(dir) = &self.dir else {
            return beside_images(&image.image);
        };
        let within = relative_name(&image.image, &self.root);
        let below = relative_name(&image.image, &image.folder);
        let mut files = vec![dir.join(&within)];
        if let Some(inner) =
            within.split_once('/').filter(|(first, _)| first.eq_ignore_ascii_case("images")).map(|(_, rest)| rest)
        {
            files.push(dir.join(inner));
        }
        files.push(dir.join(&below));
        if let Some(bare) = image.image.file_name() {
            files.push(dir.join(bare));
        }
        for file in &mut files {
            file.set_extension("txt");
        }
        files.dedup();
        files
    }

    fn read_rows(&self, task: &TaskDeclaration, image: &Listed, file: &Path, text: &str) -> Result<Reading> {
        let mut reading = Reading::of(Raw::Unlabelled, file, None);
        let mut rows: Vec<(usize, usize, Xyxy)> = Vec::new();
        let mut seen = HashSet::new();
        for (i, line) in text.lines().enumerate() {
            let place = Place::new(file, Some(i + 1));
            if line.trim().is_empty() {
                continue;
            }
            let (class, whole) = match self.row(task, line, &place) {
                Ok(row) => row,
                Err(fault) => {
                    reading.faults.push(fault);
                    continue;
                }
            };
            let part = boxes::clip(&whole, 1.0, 1.0);
            if part[2] <= part[0] || part[3] <= part[1] {
                reading.remarks.push((Remark::DegenerateBox, place));
            } else if let Some(fault) = undeclared(task, class, line, &place) {
                // Not for a box that is left out: without `names:` it does not count as a class either.
                reading.faults.push(fault);
            } else if !seen.insert((class, part.map(|edge| (edge + 0.0).to_bits()))) {
                // Adding 0 has made −0 the same as 0.
                reading.remarks.push((Remark::DuplicateBox, place));
            } else {
                // A box given by centre and size may extend beyond the image although each number is within 0 to 1.
                if whole.iter().zip(&part).any(|(a, b)| (a - b).abs() > TOLERANCE) {
                    reading.remarks.push((Remark::BeyondImage, place));
                }
                rows.push((i + 1, class, part));
            }
        }
        if rows.is_empty() {
            reading.raw = Raw::Boxes(Vec::new());
            return Ok(reading);
        }
        let Ok([width, height]) = decode::dimensions(&image.image) else {
            reading.remarks.push((Remark::UnreadableImage, Place::new(&image.image, None)));
            return Ok(reading);
        };
        let (width, height) = (width as f32, height as f32);
        let to_pixels = |(line, class, [x1, y1, x2, y2]): (usize, usize, Xyxy)| RawBox {
            class: RawClass { word: Word::Index(class), spot: Spot::line(line) },
            xyxy: [x1 * width, y1 * height, x2 * width, y2 * height],
            ignore: false,
        };
        reading.raw = Raw::Boxes(rows.into_iter().map(to_pixels).collect());
        Ok(reading)
    }

    /// Parses one row: its class, and its box in fractions of the image as written.
    fn row(&self, task: &TaskDeclaration, line: &str, place: &Place) -> Result<(usize, Xyxy)> {
        let numbers: Option<Vec<f32>> = line.split_whitespace().map(|word| word.parse().ok()).collect();
        let Some(numbers) = numbers.filter(|n| n.iter().all(|v| v.is_finite())) else {
            return Err(place.error(format!("`{}` is not a row of numbers: expected `class cx cy w h`", line.trim())));
        };
        let (class, written) = (numbers[0], line.split_whitespace().next().unwrap_or_default());
        if class < 0.0 || class.fract() != 0.0 {
            return Err(place.error(format!(
                "class `{written}` is not a whole number of at least 0: the first number of a row is the class"
            )));
        }
        if class >= MOST_CLASSES as f32 && task.names.is_none() {
            return Err(place.error(format!("class {written}: expected a number below {MOST_CLASSES}")));
        }
        let coordinates = &numbers[1..];
        let part = match (self.rows, coordinates.len()) {
            (YoloRows::BoxesOrPolygons, 4) => boxes::from_cxcywh(array(coordinates)),
            (YoloRows::Keypoints, 4..) => boxes::from_cxcywh(array(coordinates)),
            (YoloRows::BoxesOrPolygons, n) if n >= 6 && n % 2 == 0 => bounds(coordinates),
            (YoloRows::BoxesOrPolygons, 5) => {
                return Err(place.error("6 numbers: a confidence after the box makes this a prediction, not a label; expected `class cx cy w h`"));
            }
            (_, n) => {
                return Err(place.error(format!(
                    "{} numbers: expected `class cx cy w h` or a polygon `class x1 y1 x2 y2 x3 y3 …`",
                    n + 1
                )));
            }
        };
        let checked =
            if coordinates.len() == 4 || self.rows == YoloRows::Keypoints { &coordinates[..4] } else { coordinates };
        if let Some(value) = checked.iter().find(|v| !(-TOLERANCE..=1.0 + TOLERANCE).contains(*v)) {
            let message = format!(
                "{value} is outside 0 to 1: YOLO coordinates are fractions of the image's width and height, not pixels"
            );
            return Err(place.error(message));
        }
        Ok((class as usize, part))
    }
}

/// The error of a class that `names:` does not have.
fn undeclared(task: &TaskDeclaration, class: usize, line: &str, place: &Place) -> Option<Error> {
    let count = task.names.as_ref().map(Vec::len).filter(|count| class >= *count)?;
    let written = line.split_whitespace().next().unwrap_or_default();
    Some(place.error(format!(
        "class {written}, but {count} classes are declared (0 to {}): correct the row or add the class to `names:`",
        count - 1
    )))
}

fn array(numbers: &[f32]) -> [f32; 4] {
    [numbers[0], numbers[1], numbers[2], numbers[3]]
}

fn bounds(points: &[f32]) -> Xyxy {
    let mut bounds = [f32::MAX, f32::MAX, f32::MIN, f32::MIN];
    for point in points.chunks_exact(2) {
        bounds[0] = bounds[0].min(point[0]);
        bounds[1] = bounds[1].min(point[1]);
        bounds[2] = bounds[2].max(point[0]);
        bounds[3] = bounds[3].max(point[1]);
    }
    bounds
}

/// The image's path with its last `images` folder replaced by `labels`, ending in `.txt`; first in the case of the letters of
/// `images`, then in others.
fn beside_images(image: &Path) -> Vec<PathBuf> {
    let mut parts: Vec<_> = image.iter().map(|part| part.to_os_string()).collect();
    let folders = parts.len().saturating_sub(1);
    let Some(last) = parts[..folders].iter().rposition(|part| part.eq_ignore_ascii_case("images")) else {
        return vec![image.with_extension("txt")];
    };
    let mut names = ["labels", "Labels", "LABELS"];
    if let Some(same) = ["images", "Images", "IMAGES"].iter().position(|name| parts[last] == *name) {
        names.swap(0, same);
    }
    let mut path = |name: &str| {
        parts[last] = name.into();
        parts.iter().collect::<PathBuf>().with_extension("txt")
    };
    names.iter().map(|name| path(name)).collect()
}
