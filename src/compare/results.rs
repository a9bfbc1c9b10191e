//! Reads a run's folder: its choices, and all metrics of the epoch whose weights are `best`. Refuses runs that are not
//! comparable.

use super::setting::Setting;
use crate::config::{Choices, TrainConfig};
use crate::error::{Error, Result, shown};
use crate::evaluate::mean_figure;
use crate::reading::{count_of, list_some, shell_word, yaml};
use crate::tasks::{KINDS, Kind};
use crate::train;
use std::path::{Path, PathBuf};

/// A finished run.
#[derive(Clone, Debug)]
pub struct RunResult {
    /// Its folder.
    pub folder: PathBuf,
    /// The setting it tried.
    pub setting: Setting,
    /// Its choices.
    pub config: TrainConfig,
    /// One entry per task, in the data set's order.
    pub tasks: Vec<TaskFigures>,
    /// The epoch whose weights are `best`, counted from 1.
    pub best_epoch: usize,
    /// Number of trained epochs.
    pub epochs: usize,
    /// Training seconds over all sessions.
    pub seconds: f64,
    /// Per pair of tasks, the mean cosine of their gradients over the epochs, if results.csv has it.
    pub cosines: Vec<([String; 2], f64)>,
}

/// A run's results for one task.
#[derive(Clone, Debug)]
pub struct TaskFigures {
    /// The task's name.
    pub task: String,
    /// Its kind, recognised by the names of its metrics.
    pub kind: &'static Kind,
    /// The kind's main metric after each epoch.
    pub fitness: Vec<Option<f64>>,
    /// All metrics of the best epoch, under their names in the table.
    pub figures: Vec<(String, Option<f64>)>,
}

impl RunResult {
    /// Reads the folder of a finished run.
    ///
    /// # Errors
    /// The folder is not a run's, the run is not finished, or it has no validation metrics.
    pub fn read(folder: &Path) -> Result<RunResult> {
        let config = read_config(folder)?;
        let table = Table::read(folder)?;
        if table.rows.is_empty() || (table.rows.len() < config.epochs as usize && !train::is_finished(folder)) {
            return Err(Error::Usage(format!(
                "{}: the run is not finished, {} of {} done: continue with polyhead train --resume {}",
                shown(folder),
                table.rows.len(),
                count_of(config.epochs as usize, "epoch"),
                shell_word(folder.as_os_str())
            )));
        }
        table.check(folder)?;
        let names: Vec<&str> =
            table.header.iter().filter_map(|name| name.strip_prefix("train/")?.strip_suffix("/loss")).collect();
        let columns =
            names.iter().map(|name| TaskColumns::of(&table, name, &names, folder)).collect::<Result<Vec<_>>>()?;
        let fitness: Vec<Vec<Option<f64>>> = columns.iter().map(|columns| columns.fitness(&table)).collect();
        let best = table.best_epoch().unwrap_or_else(|| best_epoch(&fitness, table.rows.len()));
        let tasks = columns.into_iter().zip(fitness).zip(&names).map(|((columns, fitness), name)| TaskFigures {
            task: (*name).to_owned(),
            kind: columns.kind,
            figures: columns.all.iter().map(|(name, column)| (name.clone(), table.cell(best - 1, *column))).collect(),
            fitness,
        });
        let tasks: Vec<TaskFigures> = tasks.collect();
        Ok(RunResult {
            folder: folder.to_path_buf(),
            setting: Setting::of(&config, &names)?,
            best_epoch: best,
            epochs: table.rows.len(),
            seconds: table.column("time").and_then(|time| table.cell(table.rows.len() - 1, time)).unwrap_or(f64::NAN),
            cosines: table.cosines(&names),
            config,
            tasks,
        })
    }

    /// The figures of a task, if the run has it.
    pub fn task(&self, name: &str) -> Option<&TaskFigures> {
        self.tasks.iter().find(|figures| figures.task == name)
    }

    /// The fitness of a task in the epoch whose weights are `best`.
    pub fn fitness(&self, task: &str) -> Option<f64> {
        self.task(task)?.fitness[self.best_epoch - 1]
    }
}

/// The choices in a run's args.yaml; choices that it does not name have their defaults.
pub fn read_config(folder: &Path) -> Result<TrainConfig> {
    let file = folder.join("args.yaml");
    let text = std::fs::read_to_string(&file)
        .map_err(|_| Error::Usage(format!("{}: no args.yaml there; expected the folder of a run", shown(folder))))?;
    yaml::read(&text).map_err(|e| Error::data(&file, e.line, format!("not a run's configuration: {e}")))
}

/// The last epoch with the highest mean over the tasks, counted from 1, for tables that do not say which epoch is `best`.
fn best_epoch(fitness: &[Vec<Option<f64>>], epochs: usize) -> usize {
    let mut best = (f64::NEG_INFINITY, epochs);
    for epoch in 0..epochs {
        let overall = mean_figure(fitness.iter().map(|task| task[epoch])).unwrap_or(f64::NAN);
        if overall >= best.0 {
            best = (overall, epoch + 1);
        }
    }
    best.1
}

/// `results.csv`.
struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn read(folder: &Path) -> Result<Table> {
        let path = folder.join("results.csv");
        let text = std::fs::read(&path)
            .map_err(|_| Error::Usage(format!("{}: no results.csv there; the run has not begun", shown(folder))))?;
        let broken = |e: csv::Error| Error::data(&path, None, format!("expected a table of epochs: {e}"));
        let mut reader = csv::Reader::from_reader(text.as_slice());
        let header = reader.headers().map_err(broken)?.iter().map(str::to_owned).collect();
        let rows = reader.records().map(|row| Ok(row.map_err(broken)?.iter().map(str::to_owned).collect()));
        Ok(Table { header, rows: rows.collect::<Result<_>>()? })
    }

    fn column(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|column| column == name)
    }

    fn cell(&self, row: usize, column: usize) -> Option<f64> {
        self.rows[row][column].parse().ok().filter(|value: &f64| value.is_finite())
    }

    /// # Errors
    /// Rows are missing, or the table and the log name another best epoch.
    fn check(&self, folder: &Path) -> Result<()> {
        let refuse = |what: String| {
            Err(Error::Usage(format!(
                "{}: {what}: the run cannot be compared; train it again",
                shown(&folder.join("results.csv"))
            )))
        };
        let epoch = |row: usize| self.column("epoch").and_then(|column| self.cell(row, column));
        if let Some(row) = (0..self.rows.len()).find(|&row| epoch(row) != Some((row + 1) as f64)) {
            return refuse(format!("the row of epoch {} is missing", row + 1));
        }
        let (kept, logged) = (self.best_epoch(), train::best_in_log(folder));
        match (self.column("best"), kept, logged) {
            (Some(_), None, _) => refuse("no row is the best".to_owned()),
            (Some(_), Some(kept), Some(logged)) if kept != logged => {
                refuse(format!("epoch {kept} is the best, and {logged} by the log"))
            }
            _ => Ok(()),
        }
    }

    /// The epoch whose weights are `best`, counted from 1: the last one that was the best so far. Tables of older versions do not
    /// say so.
    fn best_epoch(&self) -> Option<usize> {
        let column = self.column("best")?;
        self.rows.iter().rposition(|row| row[column] == "1").map(|row| row + 1)
    }

    /// The means of the columns `cosine/<a>/<b>` over the epochs.
    fn cosines(&self, tasks: &[&str]) -> Vec<([String; 2], f64)> {
        let mut found = Vec::new();
        for a in tasks {
            for b in tasks {
                let Some(column) = self.column(&format!("cosine/{a}/{b}")).filter(|_| a != b) else { continue };
                let known: Vec<f64> = (0..self.rows.len()).filter_map(|row| self.cell(row, column)).collect();
                let mean = super::statistics::mean(&known);
                found.extend(mean.map(|mean| ([(*a).to_owned(), (*b).to_owned()], mean)));
            }
        }
        found
    }
}

/// The validation columns of a task.
struct TaskColumns {
    kind: &'static Kind,
    /// Names and column indices, in the table's order.
    all: Vec<(String, usize)>,
}

impl TaskColumns {
    fn of(table: &Table, task: &str, tasks: &[&str], folder: &Path) -> Result<TaskColumns> {
        let own = |name: &str| Some(name.strip_prefix(&format!("val/{task}/"))?.to_owned());
        // The columns of a task `a/b` also start with the prefix of a task `a`.
        let longer = |name: &&String| {
            tasks.iter().any(|other| other.len() > task.len() && name.starts_with(&format!("val/{other}/")))
        };
        // The loss is no metric: a lower one is better.
        let loss = format!("val/{task}/loss");
        let columns = table.header.iter().enumerate().filter(|(_, name)| !longer(name) && **name != loss);
        let all: Vec<(String, usize)> = columns.filter_map(|(place, name)| Some((own(name)?, place))).collect();
        let kind = KINDS.iter().copied().find(|kind| all.iter().any(|(name, _)| is_fitness(name, kind)));
        match kind {
            Some(kind) => Ok(TaskColumns { kind, all }),
            None => Err(Error::Usage(format!(
                "{}: results.csv has no validation metric of `{task}`: a comparison needs runs with validation images",
                shown(folder)
            ))),
        }
    }

    /// The kind's main metric after each epoch. For several columns, it is the mean of the known values.
    fn fitness(&self, table: &Table) -> Vec<Option<f64>> {
        let places: Vec<usize> =
            self.all.iter().filter(|(name, _)| is_fitness(name, self.kind)).map(|column| column.1).collect();
        let of_row = |row| {
            let known: Vec<f64> = places.iter().filter_map(|&place| table.cell(row, place)).collect();
            super::statistics::mean(&known)
        };
        (0..table.rows.len()).map(of_row).collect()
    }
}

/// Whether a metric is the kind's fitness, for the whole task or one of its columns.
fn is_fitness(name: &str, kind: &Kind) -> bool {
    name == kind.fitness_metric || name.strip_suffix(kind.fitness_metric).is_some_and(|column| column.ends_with('/'))
}

/// Choices that determine the meaning of a metric. Runs that differ in one of them are not compared.
const DECIDING: [&str; 11] =
    ["data", "epochs", "time", "imgsz", "backbone", "head", "weights", "fraction", "val_fraction", "fold", "overfit"];

/// Notes about choices that differ between runs although their settings do not require it, one sentence each.
///
/// # Errors
/// The runs differ in data, epochs, sizes or the like, or two have the same setting and seed.
pub fn check_comparable(runs: &[RunResult]) -> Result<Vec<String>> {
    let Some((first, others)) = runs.split_first() else { return Ok(Vec::new()) };
    let mut notes: Vec<String> = Vec::new();
    for run in others {
        for (key, [own, other]) in differing(&first.config, &run.config, may_differ)? {
            let sentence =
                format!("{} has {key} {own} and {} has {key} {other}", shown(&first.folder), shown(&run.folder));
            if DECIDING.contains(&key.as_str()) {
                return Err(Error::Usage(format!("{sentence}: runs that are compared must have the same {key}")));
            }
            let begins = format!("{} has {key} ", shown(&first.folder));
            if !notes.iter().any(|note| note.starts_with(&begins)) {
                notes.push(sentence);
            }
        }
    }
    for (index, run) in runs.iter().enumerate() {
        let same = |other: &&RunResult| other.setting == run.setting && other.config.seed == run.config.seed;
        if let Some(other) = runs[..index].iter().find(same) {
            return Err(Error::Usage(format!(
                "{} and {} are both runs of {} with seed {}: leave one of them out",
                shown(&other.folder),
                shown(&run.folder),
                run.setting.label,
                run.config.seed
            )));
        }
    }
    Ok(notes)
}

/// Differences between settings are taken seed by seed, so each two need a seed that both were trained with.
///
/// # Errors
/// Two settings have none.
pub fn check_seeds_pair(runs: &[RunResult]) -> Result<()> {
    let mut settings: Vec<(&Setting, Vec<u64>)> = Vec::new();
    for run in runs {
        match settings.iter_mut().find(|(setting, _)| **setting == run.setting) {
            Some((_, seeds)) => seeds.push(run.config.seed),
            None => settings.push((&run.setting, vec![run.config.seed])),
        }
    }
    let words = |(setting, seeds): &(&Setting, Vec<u64>)| {
        let mut sorted = seeds.clone();
        sorted.sort_unstable();
        let noun = if sorted.len() == 1 { "seed" } else { "seeds" };
        let sorted: Vec<String> = sorted.iter().map(u64::to_string).collect();
        format!("{} has the {noun} {}", setting.label, list_some(&sorted, 8))
    };
    for (index, one) in settings.iter().enumerate() {
        let shares_none = |other: &&(&Setting, Vec<u64>)| other.1.iter().all(|seed| !one.1.contains(seed));
        if let Some(other) = settings[..index].iter().find(shares_none) {
            return Err(Error::Usage(format!(
                "{} and {}: differences are taken seed by seed, so give runs of both with the same seeds",
                words(other),
                words(one)
            )));
        }
    }
    Ok(())
}

/// The choices in which two runs differ, except those that are `free` to: the key and both texts.
///
/// # Errors
/// The choices cannot be written.
pub fn differing(a: &TrainConfig, b: &TrainConfig, free: impl Fn(&str) -> bool) -> Result<Vec<(String, [String; 2])>> {
    let [own, other] = [Choices::of(a)?, Choices::of(b)?];
    let mut keys: Vec<&str> = own.keys().chain(other.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let differ = keys.into_iter().filter_map(|key| {
        let texts = [&own, &other].map(|choices| choices.text(key));
        let said = |text: Option<String>| text.unwrap_or_else(|| "unset".to_owned());
        (texts[0] != texts[1] && !free(key)).then(|| (key.to_owned(), texts.map(said)))
    });
    Ok(differ.collect())
}

/// Whether a choice has no influence on the metrics: the place of the run, and how it is carried out. Limits of time and
/// patience do have one, because they decide when the run ends.
pub fn changes_no_figure(key: &str) -> bool {
    let of_place = ["project", "name", "exist_ok", "cache", "cache_gib"].contains(&key);
    of_place || (Choices::is_of_execution(key) && key != "time" && key != "patience")
}

/// Whether compared runs may differ in a choice: it belongs to the setting or to the seed, or has no influence on the
/// metrics.
fn may_differ(key: &str) -> bool {
    ["seed", "task", "lr_heads", "loss_scale"].contains(&key) || Choices::is_of_balancing(key) || changes_no_figure(key)
}
