//! The output files of predictions: which exist, how each begins and ends, and the piece that an image adds. Writing
//! them is elsewhere.

mod coco;
mod tables;
pub mod yolo;

pub use coco::{Annotations, Numbers};

use super::answer::{self, Answered};
use crate::error::{Error, Result};
use crate::evaluate::file_name;
use crate::reading::json_line;
use crate::tasks::{Content, Task};
use coco::{Images, Results};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

/// A format that `--format` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One line of JSON for each image, in predictions.jsonl.
    Jsonl,
    /// Boxes in COCO's results files, one per detection task, and images.json if no annotations give the ids.
    Coco,
    /// Boxes in YOLO's text files, one per image and detection task; a single such task uses labels/.
    Yolo,
    /// Tables: predictions.csv for values and classes, and one file of boxes per detection task.
    Csv,
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(word: &str) -> Result<Format> {
        match word {
            "jsonl" => Ok(Format::Jsonl),
            "coco" => Ok(Format::Coco),
            "yolo" => Ok(Format::Yolo),
            "csv" => Ok(Format::Csv),
            _ => {
                Err(Error::Usage(format!("--format {word}: expected jsonl, coco, yolo or csv, or several with commas")))
            }
        }
    }
}

/// An output file to which every image may add a piece, in the order of the images.
pub struct Sheet {
    /// File name in the output folder.
    pub file: String,
    kind: Kind,
}

enum Kind {
    Lines,
    Results(Results),
    Images(Images),
    Table { tasks: Vec<Task> },
    Boxes { task: usize },
}

/// The files for `formats`, except YOLO's, which are one per image.
///
/// # Errors
/// A format of boxes for a model without a detection task, or annotations without its classes.
pub fn sheets(formats: &[Format], tasks: &[Task], annotations: Option<&Arc<Annotations>>) -> Result<Vec<Sheet>> {
    let detects: Vec<usize> = (0..tasks.len()).filter(|&t| tasks[t].spec.finds_boxes()).collect();
    let mut sheets = Vec::new();
    for format in [Format::Jsonl, Format::Coco, Format::Yolo, Format::Csv] {
        if !formats.contains(&format) {
            continue;
        }
        if detects.is_empty() && matches!(format, Format::Coco | Format::Yolo) {
            let names: Vec<String> = tasks.iter().map(Task::described).collect();
            return Err(Error::Usage(format!(
                "--format {}: it holds boxes, and the model has no {} task, only {}; use jsonl or csv",
                if format == Format::Coco { "coco" } else { "yolo" },
                Content::Boxes.kind().title,
                names.join(", ")
            )));
        }
        match format {
            Format::Jsonl => sheets.push(Sheet { file: "predictions.jsonl".into(), kind: Kind::Lines }),
            Format::Coco => sheets.extend(coco_sheets(tasks, &detects, annotations)?),
            // One file per image.
            Format::Yolo => {}
            Format::Csv => {
                if detects.len() < tasks.len() {
                    let kind = Kind::Table { tasks: tasks.to_vec() };
                    sheets.push(Sheet { file: "predictions.csv".into(), kind });
                }
                let boxes = |&task: &usize| Sheet {
                    file: format!("{}.csv", of_task("boxes", tasks, &detects, task)),
                    kind: Kind::Boxes { task },
                };
                sheets.extend(detects.iter().map(boxes));
            }
        }
    }
    Ok(sheets)
}

fn coco_sheets(tasks: &[Task], detects: &[usize], annotations: Option<&Arc<Annotations>>) -> Result<Vec<Sheet>> {
    let mut sheets = Vec::new();
    let categories = coco::categories(tasks, detects, annotations.map(Arc::as_ref))?;
    for (&task, categories) in detects.iter().zip(&categories) {
        // A task without categories in the annotations cannot be scored.
        let Some(categories) = categories.clone() else { continue };
        let file = format!("{}.json", of_task("detections", tasks, detects, task));
        sheets.push(Sheet { file, kind: Kind::Results(Results { task, categories, ids: annotations.cloned() }) });
    }
    if annotations.is_none() {
        let images = Images::new(tasks, detects, &categories);
        sheets.push(Sheet { file: "images.json".into(), kind: Kind::Images(images) });
    }
    Ok(sheets)
}

/// `stem`, with the task's name if several tasks have boxes.
fn of_task(stem: &str, tasks: &[Task], detects: &[usize], task: usize) -> String {
    match detects.len() {
        1 => stem.to_owned(),
        _ => format!("{stem}_{}", file_name(&tasks[task].name)),
    }
}

impl Sheet {
    /// The start of the file.
    pub fn opening(&self) -> Result<String> {
        match &self.kind {
            Kind::Lines => Ok(String::new()),
            Kind::Results(_) => Ok("[".into()),
            Kind::Images(images) => Ok(images.opening()),
            Kind::Table { tasks } => tables::header(tasks),
            Kind::Boxes { .. } => tables::boxes_header(),
        }
    }

    /// Whether polyhead wrote a file of this kind that begins with `start`.
    pub fn has_written(&self, start: &str) -> bool {
        match &self.kind {
            Kind::Lines => start.starts_with("{\"file\":"),
            Kind::Results(_) => ["[\n]", "[\n{\"image_id\":"].iter().any(|own| start.starts_with(own)),
            Kind::Images(_) => start.starts_with(coco::IMAGES_START),
            Kind::Table { .. } => {
                start.lines().next().is_some_and(|header| header.starts_with("file,") && header.ends_with(",error"))
            }
            Kind::Boxes { .. } => tables::boxes_header().is_ok_and(|header| start.starts_with(&header)),
        }
    }

    /// The separators before each later piece and before the first. If they are empty, a piece ends its own lines.
    pub fn separators(&self) -> [&'static str; 2] {
        match &self.kind {
            Kind::Results(_) | Kind::Images(_) => [",\n", "\n"],
            Kind::Lines | Kind::Table { .. } | Kind::Boxes { .. } => ["", ""],
        }
    }

    /// The end of the file.
    pub fn closing(&self) -> &'static str {
        match &self.kind {
            Kind::Results(_) => "\n]\n",
            Kind::Images(_) => "\n]}\n",
            Kind::Lines | Kind::Table { .. } | Kind::Boxes { .. } => "",
        }
    }

    /// The piece of an image; empty if it adds nothing.
    pub fn piece(&self, image: &Answered) -> Result<String> {
        match &self.kind {
            Kind::Lines => Ok(json_line(&answer::describe(image)) + "\n"),
            Kind::Results(results) => Ok(results.piece(image)),
            Kind::Images(_) => Ok(Images::piece(image)),
            Kind::Table { .. } => tables::row(image),
            Kind::Boxes { task } => tables::boxes(*task, image),
        }
    }

    /// The piece of an unreadable image: it gets a line in formats with one line per image.
    pub fn broken(&self, file: &Path, reason: &str) -> Result<String> {
        match &self.kind {
            Kind::Lines => Ok(json_line(&answer::describe_broken(file, reason)) + "\n"),
            Kind::Table { tasks } => tables::broken(tasks, file, reason),
            Kind::Results(_) | Kind::Images(_) | Kind::Boxes { .. } => Ok(String::new()),
        }
    }
}
