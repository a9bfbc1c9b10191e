//! What a label file states about one image, before it is matched with a picture.

use crate::reading::Spot;
use serde_json::Value;

/// What a file states about one image.
#[derive(Debug)]
pub struct Written {
    /// As the file has it; empty for a file of one image, which has the image's name.
    pub name: String,
    /// Other names under which the image may be known.
    pub other_names: Vec<String>,
    /// The image's place in the file.
    pub spot: Spot,
    /// Width and height as the file states them, or zeros.
    pub size: [f64; 2],
    /// Whether the corners of its shapes are fractions of the picture in place of pixels.
    pub fractions: bool,
    /// The objects; `None` if the file does not say whether there are any.
    pub shapes: Option<Vec<Shape>>,
    /// The values of the image as a whole, each with the name of its attribute. A name without a value says that the
    /// attribute was asked for: of several classes, those that are not there are absent.
    pub tags: Vec<(String, Option<Value>)>,
    /// Entries that are wrong, each with the sentence that says why.
    pub faults: Vec<(Part, Spot, String)>,
    /// The kinds of shapes that are no boxes, once for each shape.
    pub left_out: Vec<String>,
    /// What is odd about this image in the file, as the end of `3 images …`.
    pub remarks: Vec<&'static str>,
}

/// An object.
#[derive(Debug)]
pub struct Shape {
    /// The class; `None` for a region that no class is trained or judged on.
    pub class: Option<String>,
    /// Left, top, right, bottom.
    pub xyxy: [f64; 4],
    /// Whether the loss and the metrics leave the region out.
    pub ignore: bool,
    /// Its place in the file.
    pub spot: Spot,
}

/// What a wrong entry makes unusable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part {
    /// The boxes of the image.
    Boxes,
    /// The values of the image as a whole.
    Tags,
    /// All of it.
    Everything,
}

/// A file that is not of its form.
#[derive(Debug)]
pub struct Unreadable {
    /// Counted from 1, if it is known.
    pub line: Option<usize>,
    /// The sentence that says why.
    pub message: String,
}

impl Unreadable {
    /// A file that is wrong as a whole.
    pub fn new(message: impl Into<String>) -> Unreadable {
        Unreadable { line: None, message: message.into() }
    }
}

/// An object as a form finds it.
pub enum Found {
    /// A box.
    Object {
        /// The class; `None` for a region that no class is trained or judged on.
        class: Option<String>,
        /// Left, top, right, bottom.
        xyxy: [f64; 4],
        /// Whether the loss and the metrics leave the region out.
        ignore: bool,
    },
    /// Something that is no box, and the word for it.
    NoBox(String),
}

impl Written {
    /// An image of which nothing is known.
    pub fn new(name: impl Into<String>, spot: Spot) -> Written {
        Written {
            name: name.into(),
            other_names: Vec::new(),
            spot,
            size: [0.0; 2],
            fractions: false,
            shapes: None,
            tags: Vec::new(),
            faults: Vec::new(),
            left_out: Vec::new(),
            remarks: Vec::new(),
        }
    }

    /// Adds an object, or the fault of a wrong one. `entry` names it within its place, as in `annotations[2]: `.
    pub fn add(&mut self, spot: Spot, entry: &str, found: Result<Found, String>) {
        let shapes = self.shapes.get_or_insert_default();
        match found {
            Ok(Found::Object { class, xyxy, ignore }) => match corners(xyxy) {
                Ok(xyxy) => shapes.push(Shape { class, xyxy, ignore, spot }),
                Err(message) => self.faults.push((Part::Boxes, spot, format!("{entry}{message}"))),
            },
            Ok(Found::NoBox(kind)) => self.left_out.push(kind),
            Err(message) => self.faults.push((Part::Boxes, spot, format!("{entry}{message}"))),
        }
    }

    /// Adds a fault that makes everything about the image unusable.
    pub fn is_wrong(&mut self, message: impl Into<String>) {
        self.faults.push((Part::Everything, self.spot, message.into()));
    }
}

/// Checks that corners are numbers of pixels in their order. Boxes without a size pass.
fn corners(xyxy: [f64; 4]) -> Result<[f64; 4], String> {
    // Single precision has to hold them.
    if let Some(number) = xyxy.into_iter().find(|v| !(*v as f32).is_finite()) {
        return Err(format!("an edge at {number:e}: expected a number of pixels"));
    }
    let [x1, y1, x2, y2] = xyxy;
    if x2 < x1 {
        return Err(format!("the right edge {x2} is left of the left edge {x1}: swap them"));
    }
    if y2 < y1 {
        return Err(format!("the lower edge {y2} is above the upper edge {y1}: swap them"));
    }
    Ok(xyxy)
}

/// The smallest box around points.
///
/// # Errors
/// There is none.
pub fn bounds(points: &[[f64; 2]]) -> Result<[f64; 4], String> {
    let mut found = [f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY];
    for [x, y] in points {
        found = [found[0].min(*x), found[1].min(*y), found[2].max(*x), found[3].max(*y)];
    }
    if points.is_empty() { Err("no points: remove it, or draw it again".into()) } else { Ok(found) }
}

/// The smallest box around a box that is turned by `degrees` about `about`.
pub fn turned([x1, y1, x2, y2]: [f64; 4], degrees: f64, about: [f64; 2]) -> [f64; 4] {
    if degrees == 0.0 {
        return [x1, y1, x2, y2];
    }
    let (sin, cos) = degrees.to_radians().sin_cos();
    let corners = [[x1, y1], [x2, y1], [x2, y2], [x1, y2]].map(|[x, y]| {
        let (x, y) = (x - about[0], y - about[1]);
        [about[0] + x * cos - y * sin, about[1] + x * sin + y * cos]
    });
    bounds(&corners).unwrap_or([x1, y1, x2, y2])
}
