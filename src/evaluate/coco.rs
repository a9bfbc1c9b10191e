//! Scores any detector's COCO results file against COCO annotations, with pycocotools' twelve metrics.

use crate::data::coco::{self, CocoAnnotations, CocoResult};
use crate::error::{Error, Result, shown};
use crate::tasks::metrics::boxes::{BoxMetric, BoxSummary, FoundBox, TrueBox};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// The scores of a results file.
pub struct CocoReport {
    /// The file with the COCO annotations.
    pub annotations: PathBuf,
    /// The results file that was scored.
    pub detections: PathBuf,
    /// Ids and names, in the order of `summary.per_class`.
    pub categories: Vec<(i64, String)>,
    /// The metrics over all categories and for each.
    pub summary: BoxSummary,
    /// Number of entries in the results file.
    pub num_detections: usize,
    /// Notes about the annotations for the user.
    pub notes: Vec<String>,
}

/// Scores results against annotations as pycocotools' `COCOeval` does with `iouType="bbox"`.
///
/// # Errors
/// A file is invalid, or the detections refer to images or categories that the annotations do not have.
pub fn score_coco(annotations: &Path, detections: &Path) -> Result<CocoReport> {
    let truth = coco::read_annotations(annotations)?;
    let results = coco::read_results(detections)?;
    coco::check_unique(annotations, "annotations", truth.annotations.iter().map(|a| a.id))?;
    // The order of the ids also decides between detections with equal scores.
    let mut images: Vec<i64> = truth.images.iter().map(|i| i.id).collect();
    images.sort_unstable();
    let mut categories: Vec<(i64, String)> = truth.categories.iter().map(|c| (c.id, c.name.clone())).collect();
    categories.sort_unstable_by_key(|c| c.0);
    let places = Places {
        images: images.iter().enumerate().map(|(place, id)| (*id, place)).collect(),
        classes: categories.iter().enumerate().map(|(place, (id, _))| (*id, place)).collect(),
    };

    let mut notes = Vec::new();
    let true_boxes = places.truth(&truth, &mut notes);
    let found_boxes = places.detections(&results, annotations, detections)?;
    let mut metric = BoxMetric::new(categories.len());
    for (found, truth) in found_boxes.iter().zip(&true_boxes) {
        metric.add_boxes(found, truth);
    }
    Ok(CocoReport {
        annotations: annotations.to_path_buf(),
        detections: detections.to_path_buf(),
        categories,
        summary: metric.compute(),
        num_detections: results.len(),
        notes,
    })
}

/// Maps image and category ids to indices.
struct Places {
    images: HashMap<i64, usize>,
    classes: HashMap<i64, usize>,
}

impl Places {
    /// The annotated boxes of every image. Annotations of unknown images or categories are left out, as in pycocotools.
    fn truth(&self, file: &CocoAnnotations, notes: &mut Vec<String>) -> Vec<Vec<TrueBox>> {
        let mut boxes = vec![Vec::new(); self.images.len()];
        let (mut unlisted, mut without_area) = (0, 0);
        for a in &file.annotations {
            let (Some(&image), Some(&class)) = (self.images.get(&a.image_id), self.classes.get(&a.category_id)) else {
                unlisted += 1;
                continue;
            };
            without_area += usize::from(a.area.is_none());
            let area = a.area.unwrap_or(a.bbox[2] * a.bbox[3]);
            boxes[image].push(TrueBox { class, xywh: a.bbox, ignore: a.iscrowd, area, numbered: a.id != 0 });
        }
        if unlisted > 0 {
            notes.push(format!("annotations of images or categories that are not listed, left out: {unlisted}"));
        }
        if without_area > 0 {
            notes.push(format!("annotations without `area`, whose box area is used: {without_area}"));
        }
        if file.annotations.iter().any(|a| a.id == 0) {
            let text = "annotation 0: pycocotools counts a detection matched with annotation 0 as false, and so does polyhead; \
                        number annotations from 1";
            notes.push(text.to_owned());
        }
        boxes
    }

    fn detections(&self, results: &[CocoResult], annotations: &Path, file: &Path) -> Result<Vec<Vec<FoundBox>>> {
        let mut boxes = vec![Vec::new(); self.images.len()];
        for (index, r) in results.iter().enumerate() {
            let unknown = |what: &str, id: i64, known: usize| {
                let message = format!(
                    "results[{index}]: {what} {id} is not among the {known} of {}: is this for another data set, or is it \
                     numbered otherwise?",
                    shown(annotations)
                );
                Error::data(file, None, message)
            };
            let image = self.images.get(&r.image_id).ok_or_else(|| unknown("image", r.image_id, self.images.len()))?;
            let class = self
                .classes
                .get(&r.category_id)
                .ok_or_else(|| unknown("category", r.category_id, self.classes.len()))?;
            boxes[*image].push(FoundBox { class: *class, xywh: r.bbox, score: r.score });
        }
        Ok(boxes)
    }
}

impl CocoReport {
    /// The content of `--json`: the twelve metrics, each category's metrics and the notes.
    pub fn to_json(&self) -> Value {
        let metrics: Map<String, Value> =
            self.summary.twelve().into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
        let per_category: Vec<Value> = self
            .categories
            .iter()
            .zip(&self.summary.per_class)
            .map(|((id, name), c)| json!({"id": id, "name": name, "AP": c.ap, "AP50": c.ap50, "count": c.count}))
            .collect();
        json!({
            "annotations": self.annotations.to_string_lossy(),
            "detections": self.detections.to_string_lossy(),
            "images": self.summary.images,
            "num_detections": self.num_detections,
            "metrics": metrics,
            "per_category": per_category,
            "notes": self.notes,
            "version": env!("CARGO_PKG_VERSION"),
            "commit": env!("POLYHEAD_COMMIT"),
        })
    }
}

/// IoU, area and number of detections per image for each of the twelve metrics, in order.
const CONDITIONS: [[&str; 3]; 12] = [
    ["0.50:0.95", "all", "100"],
    ["0.50", "all", "100"],
    ["0.75", "all", "100"],
    ["0.50:0.95", "small", "100"],
    ["0.50:0.95", "medium", "100"],
    ["0.50:0.95", "large", "100"],
    ["0.50:0.95", "all", "1"],
    ["0.50:0.95", "all", "10"],
    ["0.50:0.95", "all", "100"],
    ["0.50:0.95", "small", "100"],
    ["0.50:0.95", "medium", "100"],
    ["0.50:0.95", "large", "100"],
];

/// The lines that pycocotools prints, with −1 if there are no annotated boxes.
impl fmt::Display for CocoReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (line, ((_, value), [iou, area, most])) in self.summary.twelve().into_iter().zip(CONDITIONS).enumerate() {
            let name = if line < 6 { "Average Precision  (AP)" } else { "Average Recall     (AR)" };
            let value = value.unwrap_or(-1.0);
            let end = if line < 11 { "\n" } else { "" };
            write!(f, " {name} @[ IoU={iou:<9} | area={area:>6} | maxDets={most:>3} ] = {value:.3}{end}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
    }

    /// Writes both files into a folder named after the test.
    fn files(test: &str, annotations: &str, results: &str) -> [PathBuf; 2] {
        let folder = std::env::temp_dir().join(format!("polyhead-coco-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let paths = ["annotations.json", "results.json"].map(|name| folder.join(name));
        for (path, text) in paths.iter().zip([annotations, results]) {
            std::fs::write(path, text).unwrap();
        }
        paths
    }

    #[test]
    fn matches_pycocotools_line_by_line() {
        let expected: Value = serde_json::from_slice(&std::fs::read(golden("coco.json")).unwrap()).unwrap();
        for case in expected["cases"].as_array().unwrap() {
            let [annotations, results] = ["annotations", "results"].map(|key| golden(case[key].as_str().unwrap()));
            let report = score_coco(&annotations, &results).unwrap();
            for ((name, got), expected) in report.summary.twelve().into_iter().zip(case["stats"].as_array().unwrap()) {
                let (got, expected) = (got.unwrap_or(-1.0), expected.as_f64().unwrap());
                // The sums of up to a few thousand values between 0 and 1 are added in another order.
                assert!((got - expected).abs() < 1e-9, "{results:?} {name}: {got}, expected {expected}");
            }
            assert_eq!(report.to_string(), case["printed"].as_str().unwrap());
            let json = report.to_json();
            assert_eq!(json["metrics"]["AR10"].as_f64(), report.summary.ar10);
            assert_eq!(json["per_category"].as_array().unwrap().len(), report.categories.len());
        }
    }

    #[test]
    fn problems_of_annotations_are_noted() {
        let annotations = r#"{"images": [{"id": 7}], "categories": [{"id": 3, "name": "cat"}], "annotations": [
            {"id": 0, "image_id": 7, "category_id": 3, "bbox": [0, 0, 10, 10]},
            {"id": 1, "image_id": 7.0, "category_id": 3, "bbox": [50, 50, 10, 10], "area": 80, "iscrowd": false},
            {"id": 2, "image_id": 8, "category_id": 3, "bbox": [0, 0, 10, 10], "area": 80}]}"#;
        let results = r#"[{"image_id": 7, "category_id": 3, "bbox": [50, 50, 10, 10], "score": 1}]"#;
        let [annotations, results] = files("odd", annotations, results);
        let report = score_coco(&annotations, &results).unwrap();
        let notes = report.notes.join("\n");
        for words in ["not listed, left out: 1", "without `area`, whose box area is used: 1", "annotation 0:"] {
            assert!(notes.contains(words), "{words}: {notes}");
        }
        assert_eq!(report.summary.per_class[0].count, 2);
        std::fs::remove_dir_all(annotations.parent().unwrap()).unwrap();
    }

    #[test]
    fn an_invalid_file_gives_one_sentence_with_the_file_and_the_entry() {
        let good = r#"{"images": [{"id": 1}, {"id": 2}], "categories": [{"id": 1, "name": "cat"}], "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10], "area": 80, "iscrowd": 0}]}"#;
        let result = r#"{"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10], "score": 0.5}"#;
        let results = format!("[{result}, {result}]");
        let second = |from: &str, to: &str| format!("[{result}, {}]", result.replace(from, to));
        let cases: [(&str, String, String, &[&str]); 15] = [
            ("swapped", results.clone(), results.clone(), &["annotations.json: a list", "`annotations`"]),
            ("object", good.into(), good.into(), &["results.json", "map, expected a list of results"]),
            ("cut", good[..90].into(), results.clone(), &["annotations.json", "annotations"]),
            ("no-json", good.into(), "no".into(), &["results.json", "not a file of COCO results"]),
            ("more", good.into(), format!("{results} 1"), &["results.json", "trailing"]),
            ("lists", r#"{"images": []}"#.into(), results.clone(), &["annotations.json", "`annotations`"]),
            ("image", good.into(), second("\"image_id\": 1", "\"image_id\": 9"), &["results[1]: image 9", "the 2 of"]),
            ("category", good.into(), second("\"category_id\": 1", "\"category_id\": 0"), &["results[1]: category 0"]),
            ("score", good.into(), second("\"score\": 0.5", "\"score\": NaN"), &["results[1]:"]),
            ("absent", good.into(), second(", \"score\": 0.5", ""), &["results[1]: missing field `score`"]),
            ("corners", good.into(), second("10, 10", "10"), &["results[1]: invalid length 3"]),
            ("area", good.replace("80", "\"80\""), results.clone(), &["annotations.json", "annotations[0]:", "string"]),
            ("id", good.replace("{\"id\": 2}", "{\"id\": 1}"), results.clone(), &["images[0] and images[1]", "id 1"]),
            ("half", good.replace("{\"id\": 2}", "{\"id\": 2.5}"), results.clone(), &["images[1]:", "whole number"]),
            (
                "twice",
                good.replace("[\n", "[{\"id\": 1, \"image_id\": 1, \"category_id\": 1, \"bbox\": [0, 0, 1, 1]},"),
                results.clone(),
                &["annotations[0] and annotations[1]", "id 1"],
            ),
        ];
        for (name, annotations, results, words) in cases {
            let [annotations, results] = files(name, &annotations, &results);
            let error =
                score_coco(&annotations, &results).err().unwrap_or_else(|| panic!("{name} was taken")).to_string();
            for word in words {
                assert!(error.contains(word), "{name}: no `{word}` in: {error}");
            }
            assert!(!error.contains('\n') && error.matches("at line").count() <= 1, "{error}");
            std::fs::remove_dir_all(annotations.parent().unwrap()).unwrap();
        }
    }
}
