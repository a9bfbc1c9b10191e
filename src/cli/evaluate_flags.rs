//! The flags of `evaluate`.

use super::{BoxArgs, SelectionArgs, inputs};
use crate::config::TrainConfig;
use crate::console;
use crate::data::ranges::{batch, workers};
use crate::data::{OpenOptions, Split};
use crate::error::{Error, Result, sentence, shown};
use crate::evaluate::{self, Report};
use crate::executor::DeviceChoice;
use crate::reading::count_of;
use crate::train::{self, RunLock};
use clap::{Args, Command, Id, ValueEnum};
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum SplitWord {
    Train,
    Val,
    Test,
}

impl From<SplitWord> for Split {
    fn from(word: SplitWord) -> Split {
        match word {
            SplitWord::Train => Split::Train,
            SplitWord::Val => Split::Val,
            SplitWord::Test => Split::Test,
        }
    }
}

/// The arguments that a results file can be scored with.
const OF_RESULTS: [&str; 3] = ["coco", "detections", "json"];

/// Makes `--coco` exclude every argument of `evaluate` that does not apply to a results file.
pub(super) fn with_conflicts(evaluate: Command) -> Command {
    let ids = evaluate.get_arguments().map(|arg| arg.get_id().clone());
    let others: Vec<Id> = ids.filter(|id| !OF_RESULTS.contains(&id.as_str())).collect();
    evaluate.mut_arg("coco", |coco| coco.conflicts_with_all(others))
}

#[derive(Args)]
pub(super) struct EvaluateArgs {
    /// A run folder or a weights file
    #[arg(required_unless_present_any = ["coco", "detections"])]
    model: Option<PathBuf>,
    /// A folder of images or a data.yaml [default: what the run was trained on]
    data: Option<PathBuf>,
    /// The split to evaluate on [default: val; of another data set without it, test or all images]
    #[arg(long, value_enum)]
    split: Option<SplitWord>,
    #[command(flatten)]
    selection: SelectionArgs,
    /// Write the metrics to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Folder for report.json, confusion matrices and scatter plots
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Instead of a model, score --detections against these COCO annotations, as pycocotools does
    #[arg(long, value_name = "ANNOTATIONS")]
    coco: Option<PathBuf>,
    /// A COCO results file of any detector
    #[arg(long, value_name = "RESULTS")]
    detections: Option<PathBuf>,
    /// Images per batch
    #[arg(long, value_name = "IMAGES", value_parser = batch, default_value_t = 16)]
    batch: usize,
    /// Side in pixels [default: the training size]
    #[arg(long)]
    imgsz: Option<usize>,
    /// `auto`, `cpu`, `cuda`, or the GPU's number as `cuda:N` or `N`
    #[arg(long, default_value = "auto")]
    device: String,
    /// Threads that decode
    #[arg(long, value_name = "THREADS", value_parser = workers, default_value_t = 2)]
    workers: usize,
    /// Threads that compute; 0 is one per core
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Minimum score of a box
    #[arg(long, default_value_t = 0.05)]
    conf: f32,
    #[command(flatten)]
    boxes: BoxArgs,
    /// Share of unreadable images above which evaluate fails; one is always tolerated, unless this is 0
    #[arg(long, value_name = "SHARE", default_value_t = 0.01)]
    max_broken: f32,
    /// Share held out for validation if the data set has no split of its own [default: the run's, or data.yaml's, or 0.2]
    #[arg(long, value_name = "SHARE")]
    val_fraction: Option<f32>,
    /// Seed for choosing the held-out images [default: the run's]
    #[arg(long)]
    seed: Option<u64>,
}

impl EvaluateArgs {
    /// Evaluates a model or a results file.
    pub(super) fn evaluate(self) -> Result<()> {
        if let (Some(annotations), Some(detections)) = (&self.coco, &self.detections) {
            inputs::COCO.check(Some(annotations))?;
            inputs::DETECTIONS.check(Some(detections))?;
            return score_command(annotations, detections, self.json.as_deref());
        }
        for (given, flag, other) in
            [(&self.coco, "--coco", "--detections RESULTS"), (&self.detections, "--detections", "--coco ANNOTATIONS")]
        {
            if let Some(file) = given {
                return Err(Error::Usage(format!(
                    "{flag} {}: {other} is missing, which it needs: add it",
                    shown(file)
                )));
            }
        }
        let model = self.model.ok_or_else(|| Error::Usage("name a run folder or a weights file, or --coco".into()))?;
        inputs::MODEL.check(Some(&model))?;
        inputs::DATA.check(self.data.as_deref())?;
        let run = evaluate::run_config(&model)?;
        let on_own_data = self.data.is_none();
        let open = evaluate::open_options(run.as_ref(), self.data.as_deref());
        let data = match self.data {
            Some(data) => data,
            None => evaluate::data_of_run(&model, run.as_ref())?,
        };
        let is_own = on_own_data || run.as_ref().is_some_and(|run| evaluate::is_own(run, &data));
        let open = OpenOptions {
            val_fraction: self.val_fraction.or(open.val_fraction),
            fold: open.fold.filter(|_| self.val_fraction.is_none()),
            seed: self.seed.unwrap_or(open.seed),
            // Images of another data set are not divided unless that is asked for.
            undivided: !is_own
                && self.split.is_none_or(|split| matches!(split, SplitWord::Test))
                && self.val_fraction.is_none()
                && self.seed.is_none(),
            ..open
        };
        let options = evaluate::Options {
            device: DeviceChoice::parse(&self.device, self.threads)?,
            model,
            split: self.split.map(Split::from),
            json: self.json,
            out: self.out,
            batch: self.batch,
            imgsz: self.imgsz,
            workers: self.workers,
            boxes: self.boxes.options(self.conf),
            max_broken: self.max_broken,
            selection: self.selection.into(),
            open,
        };
        let own = run.filter(|_| on_own_data);
        // Training writes pictures with the same names there.
        let run = options.out.as_deref().filter(|out| train::is_run(out));
        let _lock = run.map(RunLock::take).transpose()?;
        let mut report = evaluate::command(&options, &data)?;
        report.notes.extend(own.and_then(|own| trained_on_a_part(&own, &report)));
        report.notes.extend(report.without_labels());
        report.notes.iter().for_each(|note| console::say(&format!("note: {}", sentence(note))));
        console::print(&format!("{report}\n"))?;
        Ok(())
    }
}

/// A note if the run has seen only some of the training images.
fn trained_on_a_part(run: &TrainConfig, report: &Report) -> Option<String> {
    let of_split = report.split.map_or(String::new(), |split| format!(" of the {} split", split.word()));
    let judged = format!("all {}{of_split}", count_of(report.images, "image"));
    if run.overfit > 0 {
        return Some(format!(
            "the run trained and validated on the first {} only (--overfit): this judges {judged}",
            count_of(run.overfit, "training image")
        ));
    }
    let share = run.fraction;
    (share < 1.0)
        .then(|| format!("the run trained on {share} of the training images (--fraction): this judges {judged}"))
}

fn score_command(annotations: &Path, detections: &Path, json: Option<&Path>) -> Result<()> {
    let report = evaluate::score_coco(annotations, detections)?;
    for note in &report.notes {
        console::say(&format!("note: {}", sentence(note)));
    }
    if let Some(json) = json {
        let text = format!("{:#}\n", report.to_json());
        crate::files::write_synced(json, text.as_bytes())?;
    }
    console::print(&format!("{report}\n"))?;
    Ok(())
}
