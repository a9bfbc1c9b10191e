//! Tabulates the metrics of finished runs: per task and setting the main metric, its difference from single models and from
//! equal weights, and the agreement of the tasks' gradients.

use super::results::{RunResult, check_comparable};
use super::setting::Setting;
use super::statistics::{Difference, Verdict, delta_m, deviation, mean};
use crate::config::TrainConfig;
use crate::error::{Error, Result, shown};
use std::collections::BTreeSet;

/// The whole comparison.
pub struct Comparison {
    /// The choices of the first run; only those that all runs share are read here.
    pub config: TrainConfig,
    /// All seeds, ascending.
    pub seeds: Vec<u64>,
    /// One per task of the joint runs, in their order.
    pub tasks: Vec<TaskComparison>,
    /// One per joint setting.
    pub joint: Vec<JointSummary>,
    /// The seconds of all single runs of a seed together, for each seed that has a single run of every task.
    pub single_seconds: Vec<f64>,
    /// Results of single models in the time of a joint run; `None` without single runs.
    pub equal_compute: Option<EqualCompute>,
    /// One entry per joint setting and pair of tasks for which the runs have a gradient cosine.
    pub relations: Vec<Relation>,
    /// Notes, as sentences.
    pub notes: Vec<String>,
}

/// One task under every setting.
pub struct TaskComparison {
    /// Its name.
    pub task: String,
    /// Name of its main metric for display: `AP`.
    pub metric: &'static str,
    /// The single model first, if there is one.
    pub rows: Vec<Row>,
}

/// A task under one setting.
pub struct Row {
    /// Label of the setting.
    pub label: String,
    /// Whether the task was trained alone.
    pub is_single: bool,
    /// Seeds, and the main metric in the epoch whose weights are `best`.
    pub values: Vec<(u64, f64)>,
    /// All metrics of that epoch, as means over the seeds.
    pub figures: Vec<(String, f64)>,
    /// Difference from the single model, per seed.
    pub to_single: Option<Difference>,
    /// Difference from equal weights, per seed.
    pub to_equal: Option<Difference>,
}

impl Row {
    /// The metric's values without the seeds.
    pub fn numbers(&self) -> Vec<f64> {
        self.values.iter().map(|value| value.1).collect()
    }

    /// Their mean.
    pub fn mean(&self) -> Option<f64> {
        mean(&self.numbers())
    }

    /// Their standard deviation.
    pub fn deviation(&self) -> Option<f64> {
        deviation(&self.numbers())
    }
}

/// A joint setting, summarised over all its tasks.
pub struct JointSummary {
    /// Label of the setting.
    pub label: String,
    /// Δm in percent, per seed; `None` if a seed lacks a single model.
    pub delta_m: Option<Difference>,
    /// Tasks whose single model has a metric of at most zero for some seed, so that Δm has no meaning.
    pub meaningless: Vec<String>,
    /// Training seconds, one value per seed.
    pub seconds: Vec<f64>,
}

/// The single models at the point where they have used the time of a joint run.
pub struct EqualCompute {
    /// The joint setting whose time is used.
    pub label: String,
    /// Mean seconds of the joint run, and of all single runs of a seed together.
    pub seconds: [f64; 2],
    /// The epoch at which the single runs have used that time, at most their last.
    pub epoch: usize,
    /// Per task the single models' best metric up to that epoch, as a mean over the seeds, and the joint setting's.
    pub figures: Vec<(String, [f64; 2])>,
}

/// Agreement of the gradients of two tasks.
pub struct Relation {
    /// Label of the joint setting.
    pub label: String,
    /// The tasks.
    pub tasks: [String; 2],
    /// The mean cosine over the epochs, per seed.
    pub cosines: Vec<f64>,
}

impl Relation {
    /// The cosines summarised over the seeds; `None` if there are none.
    pub fn cosine(&self) -> Option<Difference> {
        Difference::of(self.cosines.clone())
    }

    /// `conflict` or `kinship` if the whole interval of the cosine lies on that side of zero.
    pub fn word(&self) -> &'static str {
        match self.cosine().map(|cosine| cosine.verdict()) {
            Some(Verdict::Hurt) => "conflict",
            Some(Verdict::Helped) => "kinship",
            Some(Verdict::WithinNoise) => "neither",
            Some(Verdict::Untested) | None => "one seed: no test",
        }
    }
}

/// Compares the runs.
///
/// # Errors
/// There is no joint run, joint runs have different tasks, a single run has another task, or the runs are not
/// comparable.
pub fn compare(runs: &[RunResult]) -> Result<Comparison> {
    let notes = check_comparable(runs)?;
    let joint: Vec<&RunResult> = runs.iter().filter(|run| run.setting.single.is_none()).collect();
    let Some(first) = joint.first() else {
        return Err(Error::Usage("none of the runs trains several tasks: there is nothing to compare".into()));
    };
    let tasks: Vec<String> = first.tasks.iter().map(|task| task.task.clone()).collect();
    check_tasks(first, runs)?;
    let seeds: BTreeSet<u64> = runs.iter().map(|run| run.config.seed).collect();
    let mut settings: Vec<&Setting> = Vec::new();
    for run in &joint {
        if !settings.contains(&&run.setting) {
            settings.push(&run.setting);
        }
    }
    let comparisons: Vec<TaskComparison> = tasks.iter().map(|task| of_task(runs, task, &settings)).collect();
    let summaries: Vec<JointSummary> = settings.iter().map(|setting| summary(setting, &comparisons, runs)).collect();
    let single_seconds = single_seconds(runs, &tasks, &seeds);
    Ok(Comparison {
        config: first.config.clone(),
        seeds: seeds.into_iter().collect(),
        equal_compute: equal_compute(runs, &comparisons, &summaries, &settings, &single_seconds),
        relations: relations(runs, &settings),
        tasks: comparisons,
        joint: summaries,
        single_seconds,
        notes,
    })
}

fn check_tasks(first: &RunResult, runs: &[RunResult]) -> Result<()> {
    let names = |run: &RunResult| run.tasks.iter().map(|task| task.task.clone()).collect::<Vec<_>>();
    let own = names(first);
    for run in runs {
        let fits = match &run.setting.single {
            Some(task) => own.contains(task),
            None => names(run) == own,
        };
        if !fits {
            return Err(Error::Usage(format!(
                "{} has the tasks {} and {} has {}: runs that are compared must have the same tasks, or one of them",
                shown(&first.folder),
                own.join(", "),
                shown(&run.folder),
                names(run).join(", ")
            )));
        }
    }
    Ok(())
}

fn of_task(runs: &[RunResult], task: &str, settings: &[&Setting]) -> TaskComparison {
    let single = Setting::single(task);
    let values = |setting: &Setting| -> Vec<(u64, f64)> {
        let own = runs.iter().filter(|run| run.setting == *setting);
        let mut values: Vec<(u64, f64)> = own.filter_map(|run| Some((run.config.seed, run.fitness(task)?))).collect();
        values.sort_unstable_by_key(|value| value.0);
        values
    };
    let equal = settings.iter().copied().find(|setting| setting.is_equal_weights());
    let paired = |own: &[(u64, f64)], other: &[(u64, f64)]| {
        let pair = |(seed, value): &(u64, f64)| Some(value - other.iter().find(|(s, _)| s == seed)?.1);
        Difference::of(own.iter().filter_map(pair).collect())
    };
    let (of_single, of_equal) = (values(&single), equal.map(values).unwrap_or_default());
    let row = |setting: &Setting| {
        let values = values(setting);
        Row {
            label: setting.label.clone(),
            is_single: setting.single.is_some(),
            figures: figures(runs, task, setting),
            to_single: paired(&values, &of_single).filter(|_| setting.single.is_none()),
            to_equal: paired(&values, &of_equal).filter(|_| setting.single.is_none() && !setting.is_equal_weights()),
            values,
        }
    };
    let mut rows = Vec::new();
    if !of_single.is_empty() {
        rows.push(row(&single));
    }
    rows.extend(settings.iter().map(|setting| row(setting)));
    let metric = runs.iter().find_map(|run| run.task(task)).map_or("", |figures| figures.kind.fitness);
    TaskComparison { task: task.to_owned(), metric, rows }
}

/// All metrics of a task's best epochs, as means over the seeds.
fn figures(runs: &[RunResult], task: &str, setting: &Setting) -> Vec<(String, f64)> {
    let own: Vec<&RunResult> = runs.iter().filter(|run| run.setting == *setting).collect();
    let names = own.first().and_then(|run| run.task(task)).map(|figures| &figures.figures);
    let of_name = |name: &String| {
        let known = own.iter().filter_map(|run| run.task(task)?.figures.iter().find(|figure| figure.0 == *name)?.1);
        Some((name.clone(), mean(&known.collect::<Vec<_>>())?))
    };
    names.into_iter().flatten().filter_map(|(name, _)| of_name(name)).collect()
}

fn summary(setting: &Setting, tasks: &[TaskComparison], runs: &[RunResult]) -> JointSummary {
    let own: Vec<&RunResult> = runs.iter().filter(|run| run.setting == *setting).collect();
    let mut meaningless = BTreeSet::new();
    let mut each = Vec::new();
    for run in &own {
        let of_task = |task: &TaskComparison| {
            let single = task.rows.iter().find(|row| row.is_single)?;
            Some([run.fitness(&task.task)?, single.values.iter().find(|(seed, _)| *seed == run.config.seed)?.1])
        };
        let Some(pairs) = tasks.iter().map(of_task).collect::<Option<Vec<_>>>() else { continue };
        let [joint, single]: [Vec<f64>; 2] = [0, 1].map(|side| pairs.iter().map(|pair| pair[side]).collect());
        let without = tasks.iter().zip(&single).filter(|(_, single)| **single <= 0.0);
        meaningless.extend(without.map(|(task, _)| task.task.clone()));
        each.extend(delta_m(&joint, &single));
    }
    JointSummary {
        label: setting.label.clone(),
        delta_m: Difference::of(each).filter(|_| meaningless.is_empty()),
        meaningless: meaningless.into_iter().collect(),
        seconds: own.iter().map(|run| run.seconds).collect(),
    }
}

fn single_seconds(runs: &[RunResult], tasks: &[String], seeds: &BTreeSet<u64>) -> Vec<f64> {
    let of = |task: &String, seed: u64| {
        let single = Setting::single(task);
        runs.iter().find(|run| run.setting == single && run.config.seed == seed).map(|run| run.seconds)
    };
    let of_seed = |seed: &u64| tasks.iter().map(|task| of(task, *seed)).sum::<Option<f64>>();
    seeds.iter().filter_map(of_seed).collect()
}

/// Uses the time of equal weights if that is among the settings, otherwise that of the first joint setting.
fn equal_compute(
    runs: &[RunResult],
    tasks: &[TaskComparison],
    joint: &[JointSummary],
    settings: &[&Setting],
    single_seconds: &[f64],
) -> Option<EqualCompute> {
    let place = settings.iter().position(|setting| setting.is_equal_weights()).unwrap_or(0);
    let chosen = &joint[place];
    let seconds = [mean(&chosen.seconds)?, mean(single_seconds)?];
    let epochs = runs.iter().filter(|run| run.setting.single.is_some()).map(|run| run.epochs).min()?;
    let epoch = ((epochs as f64 * seconds[0] / seconds[1]).floor() as usize).min(epochs);
    let until = |run: &RunResult, task: &str| {
        let known = run.task(task)?.fitness[..epoch].iter().flatten().copied();
        known.reduce(f64::max)
    };
    let of_task = |task: &TaskComparison| {
        let single = Setting::single(&task.task);
        let own = runs.iter().filter(|run| run.setting == single).filter_map(|run| until(run, &task.task));
        let joint = task.rows.iter().find(|row| row.label == chosen.label && !row.is_single)?.mean()?;
        Some((task.task.clone(), [mean(&own.collect::<Vec<_>>())?, joint]))
    };
    let figures = tasks.iter().filter_map(of_task).collect();
    Some(EqualCompute { label: chosen.label.clone(), seconds, epoch, figures })
}

fn relations(runs: &[RunResult], settings: &[&Setting]) -> Vec<Relation> {
    let mut relations: Vec<Relation> = Vec::new();
    for setting in settings {
        for run in runs.iter().filter(|run| run.setting == **setting) {
            for (tasks, cosine) in &run.cosines {
                let known = relations.iter_mut().find(|r| r.label == setting.label && r.tasks == *tasks);
                match known {
                    Some(relation) => relation.cosines.push(*cosine),
                    None => relations.push(Relation {
                        label: setting.label.clone(),
                        tasks: tasks.clone(),
                        cosines: vec![*cosine],
                    }),
                }
            }
        }
    }
    relations
}

impl Comparison {
    /// Whether single models are among the runs.
    pub fn has_single(&self) -> bool {
        self.tasks.iter().any(|task| task.rows.iter().any(|row| row.is_single))
    }
}
