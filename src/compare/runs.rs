//! Carries out the planned runs, several at a time, each in its own process. Finished runs are skipped and interrupted ones
//! resumed.

use super::plan::{PlannedRun, Stage, plan_file};
use crate::console::{self, Bar};
use crate::error::{Error, Result};
use crate::reading::count_of;
use crate::threads::Threads;
use crate::train::CTRL_C;
use crate::train::progress::in_words;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Division of the machine among the runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Runs at a time.
    pub jobs: usize,
    /// Computing threads per run.
    pub threads: usize,
    /// Decoding threads per run.
    pub workers: usize,
}

impl Shares {
    /// The default number of runs at once: a run keeps about four cores busy.
    pub fn default_jobs(cores: usize) -> usize {
        (cores / 4).max(1)
    }

    /// Divides computing threads evenly unless a number is given (not 0). A run has no more `workers` than its share of cores.
    pub fn of(cores: usize, jobs: usize, threads: usize, workers: usize, workers_typed: Option<usize>) -> Shares {
        let part = (cores / jobs.max(1)).max(1);
        let threads = if threads == 0 { part } else { threads };
        Shares { jobs: jobs.max(1), threads, workers: workers_typed.unwrap_or(workers.min(part)) }
    }
}

/// A run that did not finish.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The run's name.
    pub run: String,
    /// Its last lines of output.
    pub words: Vec<String>,
}

/// Printed at the first Ctrl-C.
const STOPPING: &str = "the runs finish their step and save; Ctrl-C again stops at once without saving";
/// Polling interval.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Without a terminal, print at most one line in this interval while no run ends.
const LINE_EVERY: Duration = Duration::from_secs(60);
/// A signal from a terminal reaches all processes of a group within this time.
const SIGNAL_ARRIVES_WITHIN: Duration = Duration::from_secs(1);
/// Lines of output that are kept per run, in case it fails.
const LINES_KEPT: usize = 20;

/// Trains all runs that are not finished, and returns those that failed.
///
/// # Errors
/// A process cannot be started, or Ctrl-C was pressed. After Ctrl-C every run has saved, and the same command
/// continues.
pub fn carry_out(runs: &[PlannedRun], out: &Path, shares: Shares) -> Result<Vec<Failure>> {
    let left: VecDeque<usize> = (0..runs.len()).filter(|&run| runs[run].stage() != Stage::Finished).collect();
    if left.is_empty() {
        console::say(&match runs.len() {
            1 => "the only run is finished".to_owned(),
            n => format!("all {n} runs are finished"),
        });
        return Ok(Vec::new());
    }
    let interrupted = console::interrupt_flag(STOPPING)?;
    let finished = runs.len() - left.len();
    if finished > 0 {
        console::say(&format!("{finished} of {count} are finished already", count = count_of(runs.len(), "run")));
    }
    let mut session =
        Session { runs, out, shares, left, active: Vec::new(), failures: Vec::new(), shown: Shown::new(runs) };
    let worked = session.work(&interrupted);
    session.shown.bar.clear();
    if worked.is_err() {
        session.end_all();
    }
    worked?;
    if interrupted.load(Ordering::Relaxed) {
        let done = runs.iter().filter(|run| run.stage() == Stage::Finished).count();
        console::say(&format!(
            "stopped with {done} of {} finished; run the same command again to continue",
            count_of(runs.len(), "run")
        ));
        return Err(Error::Interrupted);
    }
    Ok(session.failures)
}

/// State of the scheduler.
struct Session<'a> {
    runs: &'a [PlannedRun],
    out: &'a Path,
    shares: Shares,
    left: VecDeque<usize>,
    active: Vec<Active>,
    failures: Vec<Failure>,
    shown: Shown,
}

impl Session<'_> {
    fn work(&mut self, interrupted: &AtomicBool) -> Result<()> {
        let mut stopping: Option<Instant> = None;
        while !self.active.is_empty() || (!self.left.is_empty() && stopping.is_none()) {
            while stopping.is_none() && self.active.len() < self.shares.jobs && !self.left.is_empty() {
                self.start_next()?;
            }
            std::thread::sleep(POLL_INTERVAL);
            self.collect(stopping.is_some())?;
            if interrupted.load(Ordering::Relaxed) {
                let since = *stopping.get_or_insert_with(Instant::now);
                if since.elapsed() > SIGNAL_ARRIVES_WITHIN {
                    self.active.iter_mut().for_each(Active::pass_on);
                }
            }
            self.shown.refresh(self.runs, &self.active);
        }
        Ok(())
    }

    /// Lets the active runs save and end, after an error.
    fn end_all(&mut self) {
        for active in &mut self.active {
            active.pass_on();
            if !active.told.load(Ordering::Relaxed) {
                // The run can be resumed from its last checkpoint.
                let _ = active.process.kill();
            }
        }
        for active in &mut self.active {
            let _ = active.process.wait();
        }
    }

    fn start_next(&mut self) -> Result<()> {
        let Some(index) = self.left.pop_front() else { return Ok(()) };
        let run = &self.runs[index];
        let stage = run.stage();
        let resumed = if stage == Stage::Begun { ", resumed" } else { "" };
        self.shown.say(&format!("run {} of {}: {}{resumed}", index + 1, self.runs.len(), run.name));
        self.active.push(Active::start(index, run, stage, &plan_file(self.out, run), self.shares)?);
        Ok(())
    }

    /// Removes finished runs from the active list.
    fn collect(&mut self, stopping: bool) -> Result<()> {
        let mut index = 0;
        while let Some(active) = self.active.get_mut(index) {
            let run = &self.runs[active.run];
            let status = active.process.try_wait().map_err(Error::io("wait for", run.folder()))?;
            let Some(status) = status else {
                index += 1;
                continue;
            };
            let mut active = self.active.remove(index);
            let seconds = active.started.elapsed().as_secs_f64();
            let words = active.last_words(status);
            self.shown.epochs[active.run] = epochs_done(run);
            if run.stage() == Stage::Finished {
                self.shown.say(&format!("  {}: done in {}{}", run.name, in_words(seconds), self.shown.left()));
            } else if !stopping {
                self.shown.say(&format!("  {}: failed after {}:", run.name, in_words(seconds)));
                words.iter().for_each(|line| self.shown.say(&format!("    {line}")));
                self.failures.push(Failure { run: run.name.clone(), words });
            }
        }
        Ok(())
    }
}

/// A running process.
struct Active {
    run: usize,
    process: Child,
    started: Instant,
    /// Its last lines on standard error.
    lines: Arc<Mutex<VecDeque<String>>>,
    /// Whether it has reported that a signal reached it, or was sent one.
    told: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Active {
    fn start(run: usize, planned: &PlannedRun, stage: Stage, plan: &Path, shares: Shares) -> Result<Active> {
        let program = std::env::current_exe().map_err(Error::io("find", Path::new("this program")))?;
        let mut command = Command::new(&program);
        command.arg("train");
        match stage {
            // The place of a run is never taken from a file.
            Stage::New => {
                let PlannedRun { name, config, .. } = planned;
                command.arg("--config").arg(plan).arg("--exist-ok");
                command.arg("--project").arg(&config.project).arg("--name").arg(name)
            }
            Stage::Begun | Stage::Finished => command.arg("--resume").arg(planned.folder()),
        };
        for (flag, number) in [("--threads", shares.threads), ("--workers", shares.workers)] {
            command.arg(flag).arg(number.to_string());
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().map_err(Error::io("start", &program))?;
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let told = Arc::new(AtomicBool::new(false));
        let reader = process.stderr.take().map(|stderr| {
            let (lines, told) = (Arc::clone(&lines), Arc::clone(&told));
            let readers = Threads { count: shares.jobs, purpose: "to read the output of runs", lower: "--jobs" };
            readers.spawn(move || listen(stderr, &lines, &told))
        });
        match reader.transpose() {
            Ok(reader) => Ok(Active { run, process, started: Instant::now(), lines, told, reader }),
            Err(e) => {
                // The next attempt starts or resumes the run.
                let _ = process.kill().and_then(|()| process.wait());
                Err(e)
            }
        }
    }

    /// Sends the signal to a process that has not received it, for example if only this process was asked to end.
    fn pass_on(&mut self) {
        if !self.told.load(Ordering::Relaxed) {
            // The standard library can only send SIGKILL, which leaves no time to save. If the process limit is reached, `kill`
            // cannot be started, and the next round tries again.
            #[cfg(unix)]
            let sent = Command::new("kill").arg(self.process.id().to_string()).status().is_ok_and(|s| s.success());
            #[cfg(not(unix))]
            let sent = false;
            self.told.store(sent, Ordering::Relaxed);
        }
    }

    /// The error message it ended with, or its last lines of output.
    fn last_words(&mut self, status: ExitStatus) -> Vec<String> {
        // Wait until the pipe has been read to its end.
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let error = lines.iter().position(|line| line.starts_with("error: "));
        let from = error.unwrap_or(lines.len().saturating_sub(3));
        let mut words: Vec<String> = lines.iter().skip(from).cloned().collect();
        if words.is_empty() || error.is_none() {
            words.push(format!("ended with {status}"));
        }
        words
    }
}

fn listen(stderr: impl Read, lines: &Mutex<VecDeque<String>>, told: &AtomicBool) {
    let mut reader = BufReader::new(stderr);
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
        let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        if line == CTRL_C {
            told.store(true, Ordering::Relaxed);
        }
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push_back(line);
        if lines.len() > LINES_KEPT {
            lines.pop_front();
        }
        bytes.clear();
    }
}

/// Progress display.
struct Shown {
    bar: Bar,
    started: Instant,
    last_refresh: Instant,
    /// Finished epochs per run.
    epochs: Vec<u64>,
    /// Epochs of all runs together.
    total: u64,
    /// Epochs that were done before this session.
    before: u64,
}

impl Shown {
    fn new(runs: &[PlannedRun]) -> Shown {
        let total = runs.iter().map(|run| run.config.epochs).sum();
        let epochs: Vec<u64> = runs.iter().map(epochs_done).collect();
        let before = epochs.iter().sum();
        let bar = Bar::new("{bar:24} {pos}/{len} epochs {elapsed}<{eta} {msg}").at(before, total);
        let now = Instant::now();
        Shown { bar, started: now, last_refresh: now, epochs, total, before }
    }

    fn say(&self, line: &str) {
        self.bar.say(line);
    }

    fn refresh(&mut self, runs: &[PlannedRun], active: &[Active]) {
        let every = if self.bar.is_shown() { POLL_INTERVAL * 10 } else { LINE_EVERY };
        if self.last_refresh.elapsed() < every {
            return;
        }
        self.last_refresh = Instant::now();
        active.iter().for_each(|active| self.epochs[active.run] = epochs_done(&runs[active.run]));
        let of_run = |active: &Active| {
            let run = &runs[active.run];
            let epoch = (self.epochs[active.run] + 1).min(run.config.epochs);
            format!("run {} of {}, {}: epoch {epoch} of {}", active.run + 1, runs.len(), run.name, run.config.epochs)
        };
        let words = active.iter().map(of_run).collect::<Vec<_>>().join("; ");
        if self.bar.is_shown() {
            self.bar.set_position(self.epochs.iter().sum());
            self.bar.set_message(words);
        } else if !words.is_empty() {
            console::say(&format!("  {words}{}", self.left()));
        }
    }

    /// `; about 3 min 05 s left`, as soon as an epoch is done.
    fn left(&self) -> String {
        let done: u64 = self.epochs.iter().sum();
        let each = self.started.elapsed().as_secs_f64() / done.saturating_sub(self.before) as f64;
        match each.is_finite() && done < self.total {
            true => format!("; about {} left", in_words(each * self.total.saturating_sub(done) as f64)),
            false => String::new(),
        }
    }
}

/// The epochs in a run's table; all of them if the run has ended before its last one.
fn epochs_done(run: &PlannedRun) -> u64 {
    let table: PathBuf = run.folder().join("results.csv");
    let rows = std::fs::read_to_string(table).map_or(0, |text| text.lines().count().saturating_sub(1) as u64);
    match run.stage() {
        Stage::Finished => run.config.epochs,
        Stage::New | Stage::Begun => rows.min(run.config.epochs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_shared_out_among_the_runs() {
        let shares = |jobs, threads, workers| Shares { jobs, threads, workers };
        assert_eq!(Shares::of(16, 4, 0, 2, None), shares(4, 4, 2));
        assert_eq!(Shares::of(2, 4, 0, 2, None), shares(4, 1, 1));
        assert_eq!(Shares::of(2, 1, 0, 2, None), shares(1, 2, 2));
        // A typed number applies to each run.
        assert_eq!(Shares::of(2, 2, 3, 2, Some(5)), shares(2, 3, 5));
        assert_eq!([1, 2, 8, 16].map(Shares::default_jobs), [1, 1, 2, 4]);
    }

    #[test]
    fn the_last_lines_of_a_run_are_kept_and_a_signal_is_noticed() {
        let (lines, told) = (Mutex::new(VecDeque::new()), AtomicBool::new(false));
        let text: String = (0..30).map(|i| format!("line {i}\n")).collect();
        listen(text.as_bytes(), &lines, &told);
        assert_eq!((lines.lock().unwrap().len(), told.load(Ordering::Relaxed)), (LINES_KEPT, false));
        listen(format!("{CTRL_C}\n").as_bytes(), &lines, &told);
        assert!(told.load(Ordering::Relaxed));
        assert_eq!(lines.lock().unwrap().back().unwrap(), CTRL_C);
    }
}
