//! Compares shared and single models: trains every task alone and all tasks together over the same seeds, each run in its own
//! process and folder, and tabulates the metrics. This module plans, watches and compares the runs; `train` carries them out.

mod costs;
mod json;
mod picture;
mod plan;
mod report;
mod results;
mod runs;
mod setting;
mod statistics;
mod tables;
#[cfg(test)]
mod tests;

pub use plan::Request;
pub use setting::{EQUAL_WEIGHTS, METHOD};

use crate::config::TrainConfig;
use crate::console;
use crate::draw;
use crate::error::{Error, Result, shown};
use crate::executor::DeviceChoice;
use crate::reading::count_of;
use crate::train::setup::Data;
use crate::train::{self, RunLock, check_trials};
use plan::{PlannedRun, Stage};
use results::RunResult;
use runs::{Failure, Shares};
use std::path::{Path, PathBuf};

/// Number of parallel runs and of threads per run; defaults depend on the machine.
pub struct Jobs {
    /// Runs at a time.
    pub jobs: Option<usize>,
    /// Decoding threads per run.
    pub workers: Option<usize>,
}

/// Trains all runs that are not finished, and writes the tables of the finished ones.
///
/// # Errors
/// The request cannot be planned, another comparison writes into the folder, Ctrl-C, or some runs failed. Before a failure is
/// reported, the tables of the finished runs are written if every setting has one.
pub fn compare(mut request: Request, jobs: &Jobs) -> Result<()> {
    check_out(&request.out)?;
    request.out = std::path::absolute(&request.out).map_err(Error::io("find", &request.out))?;
    for path in [&mut request.base.data, &mut request.base.weights].into_iter().flatten() {
        *path = std::path::absolute(&*path).map_err(Error::io("find", &*path))?;
    }
    request.base.project = request.out.join("train");
    let device = DeviceChoice::parse(&request.base.device, request.base.threads)?;
    device.check()?;
    // Wrong methods or seeds are refused before a data set is made or read.
    plan::check(&request)?;
    let data = Data::open(&request.base)?;
    if data.val.is_empty() {
        return Err(Error::Usage(format!(
            "{}: there are no validation images, so nothing can be compared: add a validation split or give --val-fraction",
            data.name
        )));
    }
    let tasks: Vec<String> = data.tasks.iter().map(|task| task.name.clone()).collect();
    let planned = plan::plan(&request, &tasks)?;
    planned.iter().filter(|run| run.config.task.is_empty()).try_for_each(|run| check_trials(&run.config, &data))?;
    drop(data);
    if request.dry_run {
        return list(&planned);
    }
    let out = request.out;
    let _lock = lock(&out)?;
    plan::write_plans(&out, &planned)?;
    let failures = runs::carry_out(&planned, &out, shares(&request.base, jobs, &device))?;
    let finished: Vec<&PlannedRun> = planned.iter().filter(|run| run.stage() == Stage::Finished).collect();
    let missing = planned.iter().find(|run| !finished.iter().any(|done| done.setting == run.setting));
    match missing {
        Some(run) => console::say(&format!("no table: no run of {} is finished", run.setting)),
        None => {
            let results = finished.iter().map(|run| RunResult::read(&run.folder())).collect::<Result<Vec<_>>>()?;
            write(&results, &out, &device, &failures)?;
        }
    }
    match failures.as_slice() {
        [] => Ok(()),
        some => {
            let names: Vec<&str> = some.iter().map(|failure| failure.run.as_str()).collect();
            let count = names.len();
            Err(Error::Other(format!(
                "{count} of {} failed: {}; correct the cause and start the same command again",
                count_of(planned.len(), "run"),
                names.join(", ")
            )))
        }
    }
}

/// Prints the runs, each with its progress. Nothing is written.
fn list(runs: &[PlannedRun]) -> Result<()> {
    let line = |run: &PlannedRun| {
        let word = match run.stage() {
            Stage::New => "to train",
            Stage::Begun => "to continue",
            Stage::Finished => "finished",
        };
        format!("{}: {word}\n", run.name)
    };
    console::print(&runs.iter().map(line).collect::<String>())?;
    let left = runs.iter().filter(|run| run.stage() != Stage::Finished).count();
    console::say(&format!("dry run: {left} of {} would be trained", count_of(runs.len(), "run")));
    Ok(())
}

/// Writes the tables of existing runs.
///
/// # Errors
/// A folder is not that of a finished run, the runs are not comparable, or another comparison writes into `out`.
pub fn tabulate(folders: &[PathBuf], out: &Path, device: &DeviceChoice) -> Result<()> {
    check_out(out)?;
    device.check()?;
    let results = folders.iter().map(|folder| RunResult::read(folder)).collect::<Result<Vec<_>>>()?;
    results::check_seeds_pair(&results)?;
    let _lock = lock(out)?;
    write(&results, out, device, &[])
}

/// The files of a comparison: for programs, for people, and a picture.
const FILES: [&str; 3] = ["compare.json", "compare.md", "compare.png"];

/// Reads and compares existing runs as [`tabulate`] does, and returns its tables without the cost of the networks. It is public for
/// the fuzz targets alone, which need no files written.
///
/// # Errors
/// A folder is not that of a finished run, or the runs are not comparable.
#[doc(hidden)]
pub fn read_runs(folders: &[PathBuf]) -> Result<String> {
    let results = folders.iter().map(|folder| RunResult::read(folder)).collect::<Result<Vec<_>>>()?;
    results::check_seeds_pair(&results)?;
    let comparison = tables::compare(&results)?;
    Ok(format!("{}{:#}", report::markdown(&comparison, None), json::json(&comparison, None, &[])))
}

/// Creates the folder and makes this process the only comparison that writes into it.
fn lock(out: &Path) -> Result<RunLock> {
    std::fs::create_dir_all(out).map_err(Error::io("create", out))?;
    let mut lock = RunLock::take_for_comparison(out)?;
    train::remove_half_written(out, &FILES.map(PathBuf::from))?;
    if let Some(warning) = lock.warning.take() {
        console::say(&warning);
    }
    Ok(lock)
}

fn check_out(out: &Path) -> Result<()> {
    match out.is_dir() || out.symlink_metadata().is_err() {
        true => Ok(()),
        false => Err(Error::Usage(format!("--out {}: not a folder; expected a folder or an unused name", shown(out)))),
    }
}

fn shares(base: &TrainConfig, jobs: &Jobs, device: &DeviceChoice) -> Shares {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let on_cpu = matches!(device, DeviceChoice::Cpu { .. });
    let default = if on_cpu { Shares::default_jobs(cores) } else { 1 };
    Shares::of(cores, jobs.jobs.unwrap_or(default), base.threads, base.workers, jobs.workers)
}

/// Files are written first, because the reader of standard output may stop reading.
fn write(results: &[RunResult], out: &Path, device: &DeviceChoice, failures: &[Failure]) -> Result<()> {
    let mut comparison = tables::compare(results)?;
    comparison.notes.extend(failures.iter().map(|failure| format!("{} failed and is left out", failure.run)));
    let tasks: Vec<String> = comparison.tasks.iter().map(|task| task.task.clone()).collect();
    let costs = costs::measure(results, &tasks, device)?;
    let text = report::markdown(&comparison, costs.as_ref());
    let json = format!("{:#}\n", json::json(&comparison, costs.as_ref(), failures));
    let [json_file, text_file, picture_file] = FILES.map(|file| out.join(file));
    crate::files::write_synced(&json_file, json.as_bytes())?;
    crate::files::write_synced(&text_file, text.as_bytes())?;
    draw::write_png(&picture_file, &picture::picture(&comparison))?;
    console::print(&text)?;
    console::say(&format!("wrote compare.md, compare.json and compare.png in {}", shown(out)));
    Ok(())
}
