//! Compares boxes with their pictures: boxes outside, in the wrong scale, or drawn before the picture was rotated by
//! EXIF.

use super::pixels::{Seen, is_turned};
use super::{Problem, ProblemKind};
use crate::boxes::Xyxy;
use crate::data::dataset::Sample;
use crate::data::dataset::faults::Findings;
use crate::data::declaration::{Declaration, LabelsFrom, Split, TaskDeclaration};
use crate::reading::{BoxFormat, Place, Remark, Spot, count_of};
use crate::tasks::LabelledBox;
use std::collections::HashSet;
use std::path::Path;

/// A box may lie outside by this much: rounding, or counting pixels from 0 or from 1, can cause it.
const TOLERANCE: f32 = 1.0;

/// Images whose boxes for a task are probably wrong: `(task, image)`.
pub type Suspects = HashSet<(usize, usize)>;

/// Adds problems with boxes to `problems`.
pub fn examine(
    declared: &Declaration,
    samples: &[(Split, &Sample)],
    seen: &[Result<Seen, String>],
    found: &Findings,
    problems: &mut Vec<Problem>,
) -> Suspects {
    let reported = found.remarks.iter().filter(|(remark, _)| *remark == Remark::BeyondImage);
    let reported: HashSet<(&Path, Spot)> = reported.map(|(_, place)| (&*place.file, place.spot)).collect();
    let mut suspects = Suspects::new();
    for (task, places) in found.boxes.iter().enumerate() {
        for (index, ((_, sample), (seen, places))) in samples.iter().zip(seen.iter().zip(places)).enumerate() {
            let (Some(boxes), Ok(seen), Some(places)) = (sample.labels[task].boxes(), seen, places) else {
                continue;
            };
            let size = [seen.width as f32, seen.height as f32];
            let spot = |at: usize| places.spots.get(at).copied().unwrap_or(Spot::File);
            let problem = |kind, at, message: String| Problem::at(kind, &Place::at(&places.file, spot(at)), &message);
            if let Some(message) = wrong_scale(boxes, size, &declared.tasks[task]) {
                problems.push(problem(ProblemKind::Scale, 0, format!("{}: {message}", sample.name)));
                suspects.insert((task, index));
                continue;
            }
            let outside: Vec<usize> = (0..boxes.len()).filter(|i| leaves(&boxes[*i].xyxy, size)).collect();
            let Some(&first) = outside.first() else {
                continue;
            };
            let stored = [size[1], size[0]];
            if outside.iter().all(|i| !leaves(&boxes[*i].xyxy, stored)) && is_turned(&sample.image) {
                let message = format!(
                    "{}: {} of {} fit the picture as stored ({} × {}) and not as its EXIF orientation turns it: draw them again, or remove the orientation",
                    sample.name,
                    count_of(outside.len(), "box"),
                    boxes.len(),
                    stored[0],
                    stored[1]
                );
                problems.push(problem(ProblemKind::Exif, first, message));
                suspects.insert((task, index));
                continue;
            }
            for at in outside {
                if !reported.contains(&(&*places.file, spot(at))) {
                    let message = describe(&boxes[at].xyxy, size, &sample.name);
                    problems.push(problem(ProblemKind::BoxOutside, at, message));
                }
            }
        }
    }
    suspects
}

fn leaves(&[x1, y1, x2, y2]: &Xyxy, [width, height]: [f32; 2]) -> bool {
    x1 < -TOLERANCE || y1 < -TOLERANCE || x2 > width + TOLERANCE || y2 > height + TOLERANCE
}

fn describe(xyxy: &Xyxy, [width, height]: [f32; 2], name: &str) -> String {
    let [x1, y1, x2, y2] = xyxy.map(|v| (v * 10.0).round() / 10.0);
    let whole = x1 >= width || y1 >= height || x2 <= 0.0 || y2 <= 0.0;
    let how = if whole { "lies outside" } else { "reaches beyond" };
    format!("the box [{x1}, {y1}, {x2}, {y2}] {how} {name}, which is {width} × {height}")
}

/// Detects boxes in the wrong scale: all within the first pixel where pixels are declared, or all far outside the
/// picture where fractions are declared.
fn wrong_scale(boxes: &[LabelledBox], [width, height]: [f32; 2], task: &TaskDeclaration) -> Option<String> {
    if boxes.is_empty() || width < 8.0 || height < 8.0 {
        return None;
    }
    let tiny = |b: &LabelledBox| b.xyxy.iter().all(|v| (-0.01..=2.01).contains(v)) && b.xyxy[2] - b.xyxy[0] <= 1.0;
    let far = |b: &LabelledBox| b.xyxy[2] > 2.0 * width && b.xyxy[3] > 2.0 * height;
    let is_table = matches!(task.from, LabelsFrom::Columns(_) | LabelsFrom::Csv { .. });
    let wants_fractions = match task.from {
        // The YOLO reader already refuses rows that leave the picture.
        LabelsFrom::Yolo { .. } => return None,
        // Only Open Images' rows are fractions of the picture; pixels there would lie far outside.
        LabelsFrom::BoxRows { .. } => boxes.iter().all(far),
        _ => task.box_format == BoxFormat::CxcywhNormalised,
    };
    let (odd, what, hint) = match wants_fractions {
        true => (
            boxes.iter().all(far),
            "the boxes are in pixels, but fractions of the image from 0 to 1 are declared",
            "`bbox_format: xywh_abs` or `xyxy_abs`?",
        ),
        false => (
            boxes.iter().all(tiny),
            "the boxes are fractions of the image from 0 to 1, but pixels are declared",
            "`bbox_format: cxcywh_norm`?",
        ),
    };
    let hint = match (is_table, wants_fractions) {
        (true, _) => hint,
        (false, true) => "divide them by its width and height",
        (false, false) => "multiply them by its width and height",
    };
    odd.then(|| format!("{what}: {hint}"))
}
