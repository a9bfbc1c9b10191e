//! Tests with small hand-written run folders: which metrics are read, what is computed from them, and which runs are refused.

use super::json::json;
use super::report::markdown;
use super::results::RunResult;
use super::statistics::Verdict;
use super::tables::{Comparison, compare};
use crate::config::{Choices, TrainConfig};
use crate::error::{Error, Result};
use crate::reading::yaml;
use crate::recipe::Recipe;
use std::path::PathBuf;

struct Place {
    root: PathBuf,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// Per epoch: the AP of `box`, the R² of both columns of `size`, and the cosine between the two tasks.
type Epoch = [f64; 4];

impl Place {
    fn new(name: &str) -> Place {
        let root = std::env::temp_dir().join(format!("polyhead-compare-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir_all(&root).unwrap();
        Place { root }
    }

    fn folder(&self, name: &str, config: &TrainConfig, table: &str) -> PathBuf {
        let folder = self.root.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("args.yaml"), yaml::write(config).unwrap()).unwrap();
        std::fs::write(folder.join("results.csv"), table).unwrap();
        folder
    }

    fn config(&self, method: &str, seed: u64, epochs: usize) -> TrainConfig {
        let mut config = TrainConfig { seed, epochs: epochs as u64, ..Recipe::QuickStart.config() };
        Choices::one("balance", method).apply(&mut config).unwrap();
        config
    }

    fn joint(&self, method: &str, seed: u64, epochs: &[Epoch]) -> PathBuf {
        let mut table = "epoch,time,train/box/loss,train/size/loss,val/box/AP,val/box/AP50,val/size/w/MAE,val/size/w/R2,val/size/h/R2,cosine/box/size,lr\n".to_owned();
        for (i, [ap, w, h, cosine]) in epochs.iter().enumerate() {
            table.push_str(&format!("{},{},1,1,{ap},0.9,3,{w},{h},{cosine},0.1\n", i + 1, 10 * (i + 1)));
        }
        self.folder(&format!("{method}-{seed}"), &self.config(method, seed, epochs.len()), &table)
    }

    fn single(&self, task: &str, seed: u64, values: &[f64]) -> PathBuf {
        let columns = if task == "box" { "val/box/AP" } else { "val/size/w/R2,val/size/h/R2" };
        let mut table = format!("epoch,time,train/{task}/loss,{columns},lr\n");
        for (i, value) in values.iter().enumerate() {
            let cells = if task == "box" { format!("{value}") } else { format!("{value},{value}") };
            table.push_str(&format!("{},{},1,{cells},0.1\n", i + 1, 8 * (i + 1)));
        }
        let config = TrainConfig { task: vec![task.to_owned()], ..self.config("fixed", seed, values.len()) };
        self.folder(&format!("single-{task}-{seed}"), &config, &table)
    }
}

fn read(folders: &[PathBuf]) -> Result<Vec<RunResult>> {
    folders.iter().map(|folder| RunResult::read(folder)).collect()
}

fn compared(folders: &[PathBuf]) -> Comparison {
    compare(&read(folders).unwrap()).unwrap()
}

fn refused(outcome: Result<impl Sized>) -> String {
    let error: Error = outcome.err().expect("a refusal");
    assert_eq!((error.exit_code(), error.to_string().lines().count()), (2, 1), "{error}");
    error.to_string()
}

#[test]
fn the_best_epoch_is_the_last_one_with_the_highest_mean() {
    let place = Place::new("best");
    // Means .35, .5, .5, .45: the third. A negative R² counts as 0.
    let epochs = [[0.2, 0.5, 0.5, 0.1], [0.4, 0.6, 0.6, 0.2], [0.5, 0.4, 0.6, 0.3], [0.9, -3.0, -1.0, 0.4]];
    let run = RunResult::read(&place.joint("fixed", 0, &epochs)).unwrap();
    assert_eq!((run.best_epoch, run.epochs, run.seconds), (3, 4, 40.0));
    assert_eq!((run.fitness("box"), run.fitness("size")), (Some(0.5), Some(0.5)));
    assert_eq!(run.task("size").unwrap().kind.fitness, "R²");
    assert!(run.task("box").unwrap().figures.contains(&("AP50".to_owned(), Some(0.9))));
    assert!((run.cosines[0].1 - 0.25).abs() < 1e-12, "{:?}", run.cosines);

    // The column `best` decides, even if an earlier epoch was better: that epoch's weights were not kept.
    let table =
        "epoch,time,train/box/loss,val/box/AP,overall,best\n1,1,1,0.9,0.9,0\n2,2,1,0.5,0.5,1\n3,3,1,0.4,0.4,0\n";
    let run = RunResult::read(&place.folder("tried", &place.config("fixed", 1, 3), table)).unwrap();
    assert_eq!((run.best_epoch, run.fitness("box")), (2, Some(0.5)));
    let wrong = |name: &str, table: &str, log: &str| {
        let folder = place.folder(name, &place.config("fixed", 1, 2), table);
        std::fs::write(folder.join("log.txt"), log).unwrap();
        refused(RunResult::read(&folder))
    };
    let rows = "epoch,time,train/box/loss,val/box/AP,overall,best\n1,1,1,0.9,0.9,1\n";
    let gap = wrong("gap", &format!("{rows}3,3,1,0.4,0.4,0\n"), "done in 3 s");
    assert!(gap.contains("the row of epoch 2 is missing"), "{gap}");
    let cut = wrong("cut", rows, "done in 3 s; best overall 0.950, of epoch 2; predict with: polyhead");
    assert!(cut.contains("epoch 1 is the best, and 2 by the log"), "{cut}");
}

#[test]
fn settings_are_compared_with_single_models_and_equal_weights_per_seed() {
    let place = Place::new("tables");
    let mut folders = Vec::new();
    for seed in [0, 1, 2] {
        let noise = 0.001 * seed as f64;
        folders.push(place.single("box", seed, &[0.3, 0.5 + noise]));
        folders.push(place.single("size", seed, &[0.7, 0.8]));
        folders.push(place.joint("fixed", seed, &[[0.1, 0.2, 0.2, -0.1], [0.4 + noise, 0.9, 0.9 + noise, -0.3]]));
        folders.push(place.joint(
            "uncertainty-learned",
            seed,
            &[[0.1, 0.2, 0.2, 0.5], [0.5 + noise, 0.8, 0.8, -0.1 + 0.2 * noise]],
        ));
    }
    let comparison = compared(&folders);
    assert_eq!(comparison.seeds, [0, 1, 2]);
    let labels: Vec<&str> = comparison.tasks[0].rows.iter().map(|row| row.label.as_str()).collect();
    assert_eq!(labels, ["single", "fixed", "uncertainty-learned"]);
    let of_box = &comparison.tasks[0].rows;
    assert!((of_box[1].mean().unwrap() - 0.401).abs() < 1e-12 && of_box[0].to_single.is_none());
    let [fixed, learned] = [1, 2].map(|row: usize| of_box[row].to_single.as_ref().unwrap());
    assert!((fixed.mean + 0.1).abs() < 1e-9 && fixed.verdict() == Verdict::Hurt, "{fixed:?}");
    assert_eq!(learned.verdict(), Verdict::WithinNoise, "{learned:?}");
    assert!(of_box[1].to_equal.is_none());
    assert_eq!(of_box[2].to_equal.as_ref().unwrap().verdict(), Verdict::Helped);
    assert_eq!(comparison.tasks[1].rows[1].to_single.as_ref().unwrap().verdict(), Verdict::Helped);
    // By hand, seed 0: (0.4 − 0.5) / 0.5 = −0.2 and (0.9 − 0.8) / 0.8 = 0.125; their mean is −3.75 %.
    let delta = comparison.joint[0].delta_m.as_ref().unwrap();
    assert!((delta.each[0] + 3.75).abs() < 1e-9 && delta.each.len() == 3, "{delta:?}");
    // 16 s per single run and 20 s per joint run: after one of two epochs the single runs have used at most 20 s.
    let equal = comparison.equal_compute.as_ref().unwrap();
    assert_eq!((equal.seconds, equal.epoch), ([20.0, 32.0], 1));
    assert!((equal.figures[0].1[0] - 0.3).abs() < 1e-12);
    let words: Vec<&str> = comparison.relations.iter().map(|relation| relation.word()).collect();
    assert_eq!(words, ["conflict", "kinship"]);

    let text = markdown(&comparison, None);
    for part in [
        "| fixed | 0.401 ± 0.001 | −0.100 [",
        "Δm in % (higher is better)",
        "`box` under fixed: **hurt**, −0.100 AP against its single model, 95 % interval",
        "`box` under uncertainty-learned: **within noise**",
        "(paired t over 3 seeds)",
        "2 single runs took 32 s together, and a joint run (fixed) 20 s",
        "| box, size | fixed | −0.200 [−0.200, −0.200] | conflict |",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    let value = json(&comparison, None, &[]);
    assert_eq!(value["tasks"][0]["settings"][1]["less_single"]["verdict"], "hurt");
    assert_eq!(value["tasks"][0]["settings"][1]["metrics"]["AP50"], 0.9);
    assert_eq!(value["joint"][0]["delta_m_sign"], "higher is better");
}

#[test]
fn one_seed_or_no_single_models_give_no_test() {
    let place = Place::new("one");
    let runs = [
        place.joint("fixed", 4, &[[0.5, 0.5, 0.5, 0.0]]),
        place.joint("uncertainty-learned", 4, &[[0.6, 0.5, 0.5, 0.0]]),
    ];
    let text = markdown(&compared(&runs), None);
    assert!(text.contains("one seed, so there is no interval and no test") && !text.contains("Δm"), "{text}");
    assert!(text.contains("`box` under uncertainty-learned: +0.100 AP against equal weights"), "{text}");
    assert!(text.contains("+0.100 one seed: no interval"), "{text}");
    // With a single model that predicts worse than the mean, Δm has no meaning.
    let more = [place.single("box", 4, &[0.5]), place.single("size", 4, &[-0.1])];
    let text = markdown(&compared(&[&runs[..], &more].concat()), None);
    assert!(text.contains("not computed: the single model of size scores 0 or less"), "{text}");
}

#[test]
fn runs_that_cannot_be_compared_are_named() {
    let place = Place::new("refused");
    let epochs = [[0.5, 0.5, 0.5, 0.0]];
    let first = place.joint("fixed", 0, &epochs);
    let other = |change: &dyn Fn(&mut TrainConfig)| {
        let folder = place.joint("uncertainty-learned", 0, &epochs);
        let mut config = place.config("uncertainty-learned", 0, 1);
        change(&mut config);
        std::fs::write(folder.join("args.yaml"), yaml::write(&config).unwrap()).unwrap();
        read(&[first.clone(), folder]).and_then(|runs| compare(&runs))
    };
    let said = refused(other(&|config| config.imgsz = 64));
    assert!(said.contains("has imgsz 96 and") && said.contains("must have the same imgsz"), "{said}");
    assert!(refused(other(&|config| config.data = Some("/elsewhere".into()))).contains("must have the same data"));
    assert!(refused(other(&|config| config.epochs = 3)).contains("1 of 3 epochs done"));
    assert!(refused(other(&|config| config.backbone = crate::model::Backbone::Tiny)).contains("the same backbone"));
    let noted = other(&|config| (config.lr0, config.threads, config.name) = (0.5, 7, "x".into())).unwrap();
    assert_eq!(noted.notes.len(), 1);
    assert!(noted.notes[0].contains("lr0 0.002") && noted.notes[0].contains("lr0 0.5"), "{:?}", noted.notes);

    let twice = place.folder(
        "again",
        &place.config("fixed", 0, 1),
        &std::fs::read_to_string(first.join("results.csv")).unwrap(),
    );
    let said = refused(read(&[first.clone(), twice]).and_then(|runs| compare(&runs)));
    assert!(said.contains("both runs of fixed with seed 0"), "{said}");
    let single = place.single("box", 0, &[0.5]);
    assert!(refused(compare(&read(&[single]).unwrap())).contains("nothing to compare"));
    let without = place.folder("without", &place.config("fixed", 1, 1), "epoch,time,train/box/loss,lr\n1,2,0.5,0.1\n");
    assert!(refused(RunResult::read(&without)).contains("no validation metric of `box`"));
    assert!(refused(RunResult::read(&place.root)).contains("no args.yaml there"));
}

#[test]
fn settings_without_a_common_seed_are_refused() {
    let place = Place::new("seeds");
    let epochs = [[0.5, 0.5, 0.5, 0.0]];
    let of = |method: &str, seeds: &[u64]| -> Vec<PathBuf> {
        seeds.iter().map(|seed| place.joint(method, *seed, &epochs)).collect()
    };
    let apart = [of("fixed", &[0, 2, 1]), of("uncertainty-learned", &[3, 4])].concat();
    let said = refused(super::read_runs(&apart));
    assert_eq!(
        said,
        "fixed has the seeds 0, 1, 2 and uncertainty-learned has the seeds 3, 4: differences are taken seed by seed, so give runs of both with the same seeds"
    );
    // One common seed is enough.
    super::read_runs(&[of("fixed", &[0, 1]), of("uncertainty-learned", &[1, 2])].concat()).unwrap();
}

#[test]
fn custom_weights_are_another_setting() {
    let place = Place::new("weights");
    let epochs = [[0.5, 0.5, 0.5, 0.0]];
    let equal = place.joint("fixed", 0, &epochs);
    let table = std::fs::read_to_string(equal.join("results.csv")).unwrap();
    let config = TrainConfig { task_weights: vec![("box".into(), 2.0)], ..place.config("fixed", 0, 1) };
    let own = place.folder("own", &config, &table);
    let comparison = compared(&[equal, own]);
    let labels: Vec<&str> = comparison.joint.iter().map(|joint| joint.label.as_str()).collect();
    assert_eq!(labels, ["fixed", "fixed, task_weights box=2.0"]);
    assert!(comparison.tasks[0].rows[1].to_equal.is_some());
}

#[test]
fn a_comparison_removes_the_half_written_files_of_a_killed_one_and_no_others() {
    let place = Place::new("parts");
    let parts = ["compare.json.7-12.part", "compare.md.8.part", "compare.png.7-3.part"];
    let others = ["compare.json", "mine.7-1.part", "compare.json.part", "compare.txt.7-1.part"];
    std::fs::create_dir_all(&place.root).unwrap();
    parts.iter().chain(&others).for_each(|name| std::fs::write(place.root.join(name), "").unwrap());
    drop(super::lock(&place.root).unwrap());
    assert!(parts.iter().all(|name| !place.root.join(name).exists()));
    assert!(others.iter().all(|name| place.root.join(name).exists()));
}
