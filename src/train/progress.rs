//! What a person sees while training: a bar where there is a terminal, plain lines where there is none. Every line but
//! the steps' also goes into the run's log.

use super::run::RunFolder;
use crate::error::Result;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

pub struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
    steps_total: u64,
    steps_at_start: u64,
    last_line: Instant,
}

/// One step, in words.
pub struct StepLine<'a> {
    pub epoch: u64,
    pub epochs: u64,
    pub step: u64,
    pub images_per_second: f64,
    pub tasks: &'a [String],
    pub losses: &'a [f32],
    pub weights: &'a [f32],
}

/// Without a terminal, a line at most this often.
const LINE_EVERY: Duration = Duration::from_secs(20);

impl Progress {
    pub fn new(steps_done: u64, steps_total: u64) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(steps_total).with_position(steps_done);
            let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {elapsed}<{eta} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.with_style(style)
        });
        let now = Instant::now();
        Progress { bar, started: now, steps_total, steps_at_start: steps_done, last_line: now }
    }

    /// A line for people and for the log.
    ///
    /// # Errors
    /// The log cannot be written.
    pub fn say(&self, folder: &mut RunFolder, line: &str) -> Result<()> {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
        folder.log(line)
    }

    pub fn step(&mut self, line: &StepLine) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(line.step);
                bar.set_message(describe(line));
            }
            None if self.last_line.elapsed() >= LINE_EVERY => {
                self.last_line = Instant::now();
                eprintln!(
                    "  step {}/{}  {}  {} left",
                    line.step,
                    self.steps_total,
                    describe(line),
                    self.left(line.step)
                );
            }
            None => {}
        }
    }

    /// The run has become longer or shorter.
    pub fn set_total(&mut self, steps: u64) {
        self.steps_total = steps;
        if let Some(bar) = &self.bar {
            bar.set_length(steps);
        }
    }

    fn left(&self, step: u64) -> String {
        let done = step.saturating_sub(self.steps_at_start).max(1) as f64;
        let each = self.started.elapsed().as_secs_f64() / done;
        in_words(each * self.steps_total.saturating_sub(step) as f64)
    }

    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn describe(line: &StepLine) -> String {
    let tasks = line.tasks.iter().zip(line.losses).zip(line.weights);
    let tasks: Vec<String> = tasks
        .map(|((name, loss), weight)| match loss.is_nan() {
            true => format!("{name} –"),
            false => format!("{name} {loss:.3}×{weight:.2}"),
        })
        .collect();
    format!("epoch {}/{}  {:.1} images/s  {}", line.epoch, line.epochs, line.images_per_second, tasks.join("  "))
}

/// Seconds as `1 h 02 min`, `3 min 05 s` or `42 s`.
pub fn in_words(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {:02} s", s / 60, s % 60),
        _ => format!("{} h {:02} min", s / 3600, s / 60 % 60),
    }
}
