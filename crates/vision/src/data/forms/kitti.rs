//! KITTI: a text file per image with a row of 15 numbers and words per object; the box is in pixels. A `DontCare` row is
//! a region in which nobody looked for objects.

use super::written::{Found, Unreadable, Written};
use super::{Files, Form, Sink};
use crate::reading::{Spot, cut};

pub static FORM: Form = Form {
    word: "kitti",
    title: "KITTI",
    files: Files::OfOneImage,
    ending: "txt",
    folders: &["label_2", "labels", "label", "annotations"],
    has_tags: false,
    begins,
    read,
};

/// The number of words in a row; predictions have one more.
const WORDS: usize = 15;

fn begins(start: &str) -> bool {
    let first = start.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let mut words = first.split_whitespace();
    let is_class = words.next().is_some_and(|class| class.parse::<f64>().is_err());
    let numbers = words.clone().count();
    is_class && (numbers + 1 == WORDS || numbers == WORDS) && words.all(|word| word.parse::<f64>().is_ok())
}

fn read(text: &str, each: Sink) -> Result<Vec<String>, Unreadable> {
    let mut image = Written::new("", Spot::File);
    image.shapes = Some(Vec::new());
    let mut has_scores = false;
    for (i, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().take(WORDS + 2).collect();
        if words.is_empty() {
            continue;
        }
        has_scores |= words.len() == WORDS + 1;
        image.add(Spot::line(i + 1), "", found(&words));
    }
    if has_scores {
        image.remarks.push("with a score in its rows, as predictions have: it is not used");
    }
    each(image);
    Ok(Vec::new())
}

fn found(words: &[&str]) -> Result<Found, String> {
    if words.len() != WORDS && words.len() != WORDS + 1 {
        let more = if words.len() > WORDS { "more than 16" } else { &words.len().to_string() };
        return Err(format!(
            "{more} words in this row: expected the {WORDS} of KITTI (class, truncated, occluded, alpha, left, top, right, bottom, …)"
        ));
    }
    let mut xyxy = [0.0; 4];
    for (edge, word) in xyxy.iter_mut().zip(&words[4..8]) {
        let number = word.parse::<f64>().ok().filter(|v| v.is_finite());
        *edge = number.ok_or_else(|| format!("the box holds `{}`: expected a number of pixels", cut(word)))?;
    }
    let is_region = words[0].eq_ignore_ascii_case("dontcare");
    Ok(Found::Object { class: (!is_region).then(|| words[0].to_string()), xyxy, ignore: is_region })
}
