//! One row of a YOLO label file: `class cx cy w h` as fractions of the image, a polygon `class x1 y1 x2 y2 …`, a box with
//! keypoints, or a prediction. The meaning of longer rows follows from all rows of the data set together.

use crate::boxes::{self, Xyxy};
use crate::data::declaration::TaskDeclaration;
use crate::error::{Error, Result};
use crate::reading::{MOST_CLASSES, Place, count_of, text};
use std::io::{BufRead, Read};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A coordinate may lie outside the image by this much before the row counts as wrong. It allows for rounding, but not
/// for pixels in place of fractions.
pub const TOLERANCE: f32 = 0.01;

/// The meaning of rows with more than five numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Meaning {
    /// Not decided: read as polygons for now.
    Open,
    Polygons,
    Keypoints,
    /// The box of a prediction is wanted.
    Predictions,
    /// Predictions that nobody asked for: each row is a fault.
    RefusedPredictions,
}

/// Counts over the rows of more than five numbers. Rows are read by several threads.
#[derive(Default)]
pub struct Evidence {
    /// The length of the first such row, and whether another has a different one.
    length: AtomicUsize,
    others: AtomicUsize,
    rows: AtomicUsize,
    /// Rows whose first four numbers are a box around the points that follow, of two or of three numbers each.
    around_pairs: AtomicUsize,
    around_triples: AtomicUsize,
    /// Rows of four points that go around a convex shape.
    convex: AtomicUsize,
    /// Rows of a box, a confidence and a whole number.
    tracked: AtomicUsize,
}

impl Evidence {
    fn add(&self, numbers: &[f32]) {
        let count = |counter: &AtomicUsize, is: bool| {
            counter.fetch_add(usize::from(is), Ordering::Relaxed);
        };
        let first = self.length.compare_exchange(0, numbers.len(), Ordering::Relaxed, Ordering::Relaxed);
        count(&self.others, first.is_err_and(|length| length != numbers.len()));
        count(&self.rows, true);
        let values = &numbers[1..];
        count(&self.around_pairs, is_around(values, 2));
        count(&self.around_triples, is_around(values, 3));
        count(&self.convex, is_convex(values));
        count(&self.tracked, is_tracked(values));
    }

    /// The meaning of the longer rows, if it was open before.
    pub fn meaning(&self, before: Meaning) -> Meaning {
        let of = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        let rows = of(&self.rows);
        if before != Meaning::Open {
            return before;
        }
        if rows == 0 || of(&self.others) > 0 {
            return Meaning::Polygons;
        }
        // A keypoint may be drawn outside its box now and then.
        let nearly_all = |counter: &AtomicUsize| 20 * of(counter) >= 19 * rows;
        if of(&self.tracked) == rows {
            Meaning::RefusedPredictions
        } else if of(&self.convex) == rows {
            // Oriented boxes, whose four corners come one after another.
            Meaning::Polygons
        } else if nearly_all(&self.around_pairs) || nearly_all(&self.around_triples) {
            Meaning::Keypoints
        } else {
            Meaning::Polygons
        }
    }

    /// A sentence for the user about a meaning that the rows have decided.
    pub fn note(&self, meaning: Meaning) -> Option<String> {
        let of = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        let (rows, length) = (of(&self.rows), of(&self.length));
        let first = format!("{} of {length} numbers", count_of(rows, "row"));
        match meaning {
            Meaning::Keypoints if rows > 0 => {
                let points =
                    if 20 * of(&self.around_triples) >= 19 * rows { (length - 5) / 3 } else { (length - 5) / 2 };
                Some(format!(
                    "{first} read as a box and {}, because the first four after the class are a box around the others; the keypoints are not used; to read polygons, say `from: {{yolo: labels, rows: polygons}}`",
                    count_of(points, "keypoint")
                ))
            }
            Meaning::Polygons if rows > 0 && length == 9 && of(&self.others) == 0 && of(&self.convex) == rows => {
                let or_keypoints = match of(&self.around_pairs) == rows {
                    true => "; if they are a box and two keypoints, say `from: {yolo: labels, rows: keypoints}`",
                    false => "",
                };
                Some(format!(
                    "{first} read as the four corners of an oriented box or a polygon, of which the bounds are used{or_keypoints}"
                ))
            }
            _ => None,
        }
    }
}

/// Whether the first four numbers are a box, inside the image, around the visible points that follow, with room for points
/// that are drawn a little outside.
fn is_around(values: &[f32], numbers: usize) -> bool {
    let (written, points) = values.split_at(4.min(values.len()));
    if points.is_empty() || !points.len().is_multiple_of(numbers) {
        return false;
    }
    let [x1, y1, x2, y2] = boxes::from_cxcywh(array(written));
    let (width, height) = (x2 - x1, y2 - y1);
    let is_inside = [x1, y1, x2, y2].iter().all(|edge| (-TOLERANCE..=1.0 + TOLERANCE).contains(edge));
    if !is_inside || width <= 0.0 || height <= 0.0 {
        return false;
    }
    let room = [0.2 * width + TOLERANCE, 0.2 * height + TOLERANCE];
    points.chunks_exact(numbers).all(|point| {
        let (x, y) = (point[0], point[1]);
        let has_visibility = numbers == 3;
        let is_visibility = !has_visibility || [0.0, 1.0, 2.0].contains(&point[2]);
        let is_hidden = if has_visibility { point[2] == 0.0 } else { x == 0.0 && y == 0.0 };
        let is_near = (x1 - room[0]..=x2 + room[0]).contains(&x) && (y1 - room[1]..=y2 + room[1]).contains(&y);
        is_visibility && (is_hidden || is_near)
    })
}

/// Whether these are four points that go around a convex shape in one direction.
fn is_convex(values: &[f32]) -> bool {
    let Ok(values) = <[f32; 8]>::try_from(values) else {
        return false;
    };
    let point = |i: usize| [values[2 * (i % 4)], values[2 * (i % 4) + 1]];
    let turn = |i: usize| {
        let ([ax, ay], [bx, by], [cx, cy]) = (point(i), point(i + 1), point(i + 2));
        (bx - ax) * (cy - by) - (by - ay) * (cx - bx)
    };
    let turns = [0, 1, 2, 3].map(turn);
    turns.iter().all(|turn| *turn > 0.0) || turns.iter().all(|turn| *turn < 0.0)
}

/// Whether these are a box inside the image, a confidence, and the number of a track.
fn is_tracked(values: &[f32]) -> bool {
    let [written @ .., confidence, track] = values else { return false };
    let of_box = written.len() == 4
        && boxes::from_cxcywh(array(written)).iter().all(|edge| (-TOLERANCE..=1.0 + TOLERANCE).contains(edge));
    of_box && (0.0..=1.0).contains(confidence) && *track >= 0.0 && track.fract() == 0.0
}

/// Parses one row: its class, and its box in fractions of the image as written.
pub fn row(
    task: &TaskDeclaration,
    meaning: Meaning,
    evidence: &Evidence,
    line: &str,
    place: &Place,
) -> Result<(usize, Xyxy)> {
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
    if meaning == Meaning::Open && coordinates.len() > 5 {
        evidence.add(&numbers);
    }
    let is_box = match (meaning, coordinates.len()) {
        (_, 4) => true,
        (Meaning::Keypoints, 5..) => true,
        (Meaning::Predictions, 5 | 6) => true,
        (Meaning::RefusedPredictions, 6) => return Err(prediction(place, 7, "a confidence and the number of a track")),
        (_, 5) => return Err(prediction(place, 6, "a confidence")),
        (_, n) if n >= 6 && n % 2 == 0 => false,
        (_, n @ 7..) => return Err(prediction(place, n + 1, "a single number, such as a confidence,")),
        (_, n) => {
            return Err(place.error(format!(
                "{} numbers: expected `class cx cy w h` or a polygon `class x1 y1 x2 y2 x3 y3 …`",
                n + 1
            )));
        }
    };
    let checked = if is_box { &coordinates[..4] } else { coordinates };
    if let Some(value) = checked.iter().find(|v| !(-TOLERANCE..=1.0 + TOLERANCE).contains(*v)) {
        let message = format!(
            "{value} is outside 0 to 1: YOLO coordinates are fractions of the image's width and height, not pixels"
        );
        return Err(place.error(message));
    }
    let part = if is_box { boxes::from_cxcywh(array(coordinates)) } else { bounds(coordinates) };
    Ok((class as usize, part))
}

/// The error of a row that is a prediction.
fn prediction(place: &Place, numbers: usize, what: &str) -> Error {
    let after = if numbers > 7 { "a polygon" } else { "the box" };
    let ask = match numbers {
        6 | 7 => "; to train on predictions, declare `from: {yolo: labels, rows: predictions}` for the task",
        _ => "",
    };
    place.error(format!(
        "{numbers} numbers: {what} after {after} makes this a prediction, not a label; expected `class cx cy w h` or a polygon `class x1 y1 x2 y2 x3 y3 …`{ask}"
    ))
}

/// The error of a class that `names:` does not have.
pub fn undeclared(task: &TaskDeclaration, class: usize, line: &str, place: &Place) -> Option<Error> {
    let count = task.names.as_ref().map(Vec::len).filter(|count| class >= *count)?;
    let written = line.split_whitespace().next().unwrap_or_default();
    let known = match count {
        0 => "no class is declared".to_owned(),
        count => format!("{count} classes are declared (0 to {})", count - 1),
    };
    Some(place.error(format!("class {written}, but {known}: correct the row or add the class to `names:`")))
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

/// Whether the first row of a text file is a class and at least four numbers.
pub fn begins_with_row(path: &Path) -> bool {
    let mut line = String::new();
    let read = text::open(path).and_then(|file| file.take(1 << 12).read_line(&mut line));
    let words = || line.split_whitespace();
    read.is_ok() && words().count() >= 5 && words().all(|word| word.parse::<f32>().is_ok())
}
