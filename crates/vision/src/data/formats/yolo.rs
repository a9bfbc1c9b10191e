//! YOLO label files: which file belongs to an image, and what its rows are together. `yolo_rows` reads a single row.

use super::listed::Listed;
use super::yolo_rows::{Evidence, Meaning, TOLERANCE, row, undeclared};
use super::{Raw, RawBox, RawClass, Reading, Remark, Word};
use crate::boxes::{self, Xyxy};
use crate::data::declaration::{TaskDeclaration, YoloRows};
use crate::data::images::decode;
use crate::data::walk::relative_name;
use crate::error::{Error, Result};
use crate::reading::{Missing, Place, Spot, text};
use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

pub struct YoloReader {
    dir: Option<PathBuf>,
    meaning: Meaning,
    /// The facts that the longer rows of all files have in common, while their meaning is open.
    evidence: Evidence,
    root: PathBuf,
    /// The name of the task, for notes.
    task: String,
}

impl YoloReader {
    pub fn new(task: &str, dir: Option<PathBuf>, rows: YoloRows, root: &Path) -> Self {
        let meaning = match rows {
            YoloRows::BoxesOrPolygons => Meaning::Open,
            YoloRows::Polygons => Meaning::Polygons,
            YoloRows::Keypoints => Meaning::Keypoints,
            YoloRows::Predictions => Meaning::Predictions,
        };
        YoloReader { dir, meaning, evidence: Evidence::default(), root: root.to_path_buf(), task: task.to_owned() }
    }

    /// Settles the meaning of longer rows once all files are read; whether they must be read again.
    pub fn reconsiders(&mut self) -> bool {
        let before = self.meaning;
        self.meaning = self.evidence.meaning(before);
        self.meaning != before && self.meaning != Meaning::Polygons
    }

    /// A sentence about the reading of longer rows, if it was decided by the rows themselves.
    pub fn note(&self) -> Option<String> {
        self.evidence.note(self.meaning).map(|note| format!("{}: {note}", self.task))
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
            let (class, whole) = match row(task, self.meaning, &self.evidence, line, &place) {
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
            // Boxes that were left out do not make the picture background.
            match reading.remarks.is_empty() {
                true => reading.raw = Raw::Boxes(Vec::new()),
                false => reading.remarks.push((Remark::NoBoxLeft, reading.place.clone())),
            }
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
