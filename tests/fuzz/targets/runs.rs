//! The files of runs, and the results of other detectors.

use super::folder::{folder, refused, write};
use polyhead::compare;
use polyhead::config::{Choices, TrainConfig};
use polyhead::evaluate::score_coco;

/// A run's args.yaml, or a file for `--config`.
pub fn args(bytes: &[u8]) {
    let file = write(&folder("args", |_| ()), "args.yaml", bytes);
    if let Err(error) = TrainConfig::read(&file) {
        refused(&error);
    }
    let mut config = TrainConfig::default();
    match Choices::read(&file).and_then(|choices| choices.apply(&mut config)) {
        Err(error) => refused(&error),
        Ok(()) => {
            config.check().map_or_else(|error| refused(&error), drop);
            // Choices that are written are read back.
            let mut again = TrainConfig::default();
            Choices::of(&config).and_then(|choices| choices.apply(&mut again)).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(again, config);
        }
    }
}

const ARGS: &str = "command: polyhead train\nversion: 0.1.0\ncommit: abc\nmachine:\n  cores: 2\nepochs: 2\n";
const RESULTS: &str = "epoch,time,train/a/loss,train/b/loss,val/a/balanced_accuracy,val/b/R2,lr,overall,best\n\
    1,1.0,0.5,0.5,0.5,0.15,0.01,0.5,0\n2,2.0,0.4,0.4,0.6,0.25,0.01,0.6,1\n";

/// The results.csv of a run that is compared with another one.
pub fn results(bytes: &[u8]) {
    let place = folder("results", |place| {
        for (run, seed) in [("whole", "seed: 1\n"), ("read", "seed: 2\n")] {
            write(place, &format!("{run}/args.yaml"), format!("{ARGS}{seed}"));
            write(place, &format!("{run}/results.csv"), RESULTS);
        }
    });
    write(&place, "read/results.csv", bytes);
    let runs = ["whole", "read"].map(|run| place.join(run));
    compare::read_runs(&runs).map_or_else(|error| refused(&error), drop);
}

const ANNOTATIONS: &str = r#"{"images": [{"id": 1, "file_name": "1.png", "width": 40, "height": 20}],
"annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 10, 5], "area": 50, "iscrowd": 0}],
"categories": [{"id": 3, "name": "cat"}]}"#;

/// Results in COCO's format. After a NUL the bytes are the annotations.
pub fn coco_results(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |&byte| byte == 0);
    let place = folder("coco_results", |_| ());
    let results = write(&place, "results.json", parts.next().unwrap_or_default());
    let annotations = write(&place, "annotations.json", parts.next().unwrap_or(ANNOTATIONS.as_bytes()));
    match score_coco(&annotations, &results) {
        Err(error) => refused(&error),
        Ok(report) => {
            let json = report.to_json();
            let is_share = |value: &serde_json::Value| value.as_f64().is_none_or(|share| (-1.0..=1.0).contains(&share));
            let metrics = json["metrics"].as_object().into_iter().flatten();
            assert!(metrics.clone().all(|(_, value)| is_share(value)), "{json}");
        }
    }
}
