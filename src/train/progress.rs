//! Progress output of training: a bar on a terminal, plain lines otherwise. Every line except the ones about steps also
//! goes into the run's log.

use super::checkpoint::EpochMeans;
use super::run::RunFolder;
use crate::console::{self, Bar};
use crate::error::Result;
use crate::reading::count_of;
use std::time::{Duration, Instant};

/// The display of one session of a run, with an estimate of the time left.
pub struct Progress {
    bar: Bar,
    started: Instant,
    steps_total: u64,
    steps_at_start: u64,
    last_line: Instant,
}

/// The values in a line about a step.
pub struct StepLine<'a> {
    /// Number of the current epoch, counted from 1.
    pub epoch: u64,
    /// Epochs of the whole run.
    pub epochs: u64,
    /// Number of optimizer steps done, over all sessions of the run.
    pub step: u64,
    /// Training speed, averaged over this session's part of the epoch.
    pub images_per_second: f64,
    /// Names of the tasks, in the order of `losses` and `weights`.
    pub tasks: &'a [String],
    /// This step's loss of each task; NaN without labelled images.
    pub losses: &'a [f32],
    /// The weight of each task's loss in this step.
    pub weights: &'a [f32],
}

/// Without a terminal, print at most one line in this interval.
const LINE_EVERY: Duration = Duration::from_secs(20);

impl Progress {
    /// Starts the clock and the bar; `steps_done` is above 0 in a resumed run.
    pub fn new(steps_done: u64, steps_total: u64) -> Progress {
        let bar = Bar::new("{bar:24} {pos}/{len} {elapsed}<{eta} {msg}").at(steps_done, steps_total);
        let now = Instant::now();
        Progress { bar, started: now, steps_total, steps_at_start: steps_done, last_line: now }
    }

    /// Prints a line and writes it to the log.
    ///
    /// # Errors
    /// The log cannot be written.
    pub fn say(&self, folder: &mut RunFolder, line: &str) -> Result<()> {
        // Log first, so that the log has every line even if printing fails.
        let logged = folder.log(line);
        self.bar.say(line);
        logged
    }

    /// Shows a step: on the bar at once, or without a terminal as a line at most every 20 seconds.
    pub fn step(&mut self, line: &StepLine) {
        if self.bar.is_shown() {
            self.bar.set_position(line.step);
            self.bar.set_message(describe(line));
        } else if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            let (total, left) = (self.steps_total, self.time_left(line.step));
            console::say(&format!("  step {}/{total}  {}  {left} left", line.step, describe(line)));
        }
    }

    /// Changes the number of steps of the run.
    pub fn set_total(&mut self, steps: u64) {
        self.steps_total = steps;
        self.bar.set_length(steps);
    }

    /// Measures the pace anew from this step on, after the run has gone back to it.
    pub fn restart(&mut self, step: u64) {
        (self.steps_at_start, self.started) = (step, Instant::now());
    }

    /// The number of steps of the run after `step`.
    pub fn left(&self, step: u64) -> u64 {
        self.steps_total.saturating_sub(step)
    }

    fn time_left(&self, step: u64) -> String {
        let done = step.saturating_sub(self.steps_at_start).max(1) as f64;
        let each = self.started.elapsed().as_secs_f64() / done;
        in_words(each * self.left(step) as f64)
    }

    /// Removes the bar from the screen.
    pub fn finish(&self) {
        self.bar.clear();
    }
}

/// Number of tasks in a line about a step; the epoch's lines and the table have all tasks.
const TASKS_OF_A_STEP: usize = 6;
/// Number of tasks on one line about an epoch. If there are more, each has its own line.
const TASKS_OF_A_LINE: usize = 4;

/// Each task's loss and weight. There is no total, because with uncertainty weighting it may be negative and measures
/// nothing.
fn describe(line: &StepLine) -> String {
    let tasks = line.tasks.iter().zip(line.losses).zip(line.weights);
    let mut tasks: Vec<String> = tasks
        .take(TASKS_OF_A_STEP)
        .map(|((name, loss), weight)| match loss.is_nan() {
            true => format!("{name} –"),
            false => format!("{name} {loss:.3}×{weight:.2}"),
        })
        .collect();
    if let Some(more @ 1..) = line.tasks.len().checked_sub(TASKS_OF_A_STEP) {
        tasks.push(format!("and {more} more"));
    }
    format!("epoch {}/{}  {:.1} images/s  {}", line.epoch, line.epochs, line.images_per_second, tasks.join("  "))
}

/// An epoch's training as lines: the number of the epoch, how many of its steps were done if the time ended it, each task's mean loss, weight and weighted loss, and its log-variance
/// if the method has one. The seconds are the epoch's own and the whole run's.
pub fn epoch_lines(
    epoch: (u64, u64),
    cut: Option<[u64; 2]>,
    tasks: &[&str],
    means: &EpochMeans,
    log_vars: &[f32],
    [own_s, whole_s]: [f64; 2],
) -> Vec<String> {
    let figure = |value: Option<f64>, places: usize| value.map_or("–".to_owned(), |v| format!("{v:.places$}"));
    let of_task = |(i, name): (usize, &&str)| {
        let figures = [means.loss(i), means.weight(i), means.weighted(i)];
        let [loss, weight, weighted] = [(0, 3), (1, 2), (2, 3)].map(|(which, places)| figure(figures[which], places));
        let log_var = log_vars.get(i).filter(|s| s.is_finite()).map_or(String::new(), |s| format!(" log_var {s:.2}"));
        format!("{name} loss {loss} weight {weight} weighted {weighted}{log_var}")
    };
    let figures: Vec<String> = tasks.iter().enumerate().map(of_task).collect();
    let cut = cut.map_or(String::new(), |[done, all]| format!(", {done} of its {}", count_of(all as usize, "step")));
    let (number, took) = (format!("epoch {}/{}{cut}", epoch.0, epoch.1), in_words(own_s));
    let took = if epoch.0 == 1 { took } else { format!("{took}, {} in all", in_words(whole_s)) };
    if tasks.len() <= TASKS_OF_A_LINE {
        return vec![format!("{number}  {}  ({took})", figures.join("  "))];
    }
    std::iter::once(format!("{number}  ({took})")).chain(figures.into_iter().map(|f| format!("  {f}"))).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::step::StepReport;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|i| format!("task{i}")).collect()
    }

    fn line(losses: &[f32], weights: &[f32]) -> String {
        let tasks = names(losses.len());
        describe(&StepLine { epoch: 2, epochs: 5, step: 9, images_per_second: 8.0, tasks: &tasks, losses, weights })
    }

    fn epoch(losses: &[f32], weights: &[f32]) -> Vec<String> {
        let mut means = EpochMeans::new(losses.len());
        let report = |losses: &[f32], weights: &[f32]| StepReport {
            losses: losses.to_vec(),
            weights: weights.to_vec(),
            gradient_norm: 1.0,
            learning_rate: 0.1,
            gramian: None,
        };
        means.add(&report(losses, weights));
        // A step in which no task had labels.
        means.add(&report(&vec![f32::NAN; losses.len()], weights));
        let tasks = names(losses.len());
        let tasks: Vec<&str> = tasks.iter().map(String::as_str).collect();
        assert_eq!(means.weighted(0), Some(f64::from(losses[0]) * f64::from(weights[0])));
        epoch_lines((2, 5), None, &tasks, &means, &[-3.912, f32::NAN], [61.0, 130.0])
    }

    #[test]
    fn an_epoch_that_the_time_ended_says_how_many_of_its_steps_were_done() {
        let lines = epoch_lines((2, 5), Some([3, 12]), &["a"], &EpochMeans::new(1), &[], [61.0, 130.0]);
        assert!(lines[0].starts_with("epoch 2/5, 3 of its 12 steps  a loss –"), "{lines:?}");
    }

    /// Gaussian weighting at its fixed point: the total of these is −2.8, and it must not be shown.
    #[test]
    fn mode_1_output_has_losses_and_weights_but_no_total() {
        let (losses, weights) = ([0.01, 0.1], [50.0, 5.0]);
        assert_eq!(line(&losses, &weights), "epoch 2/5  8.0 images/s  task0 0.010×50.00  task1 0.100×5.00");
        assert_eq!(
            epoch(&losses, &weights),
            [
                "epoch 2/5  task0 loss 0.010 weight 50.00 weighted 0.500 log_var -3.91  task1 loss 0.100 weight 5.00 weighted 0.500  (1 min 01 s, 2 min 10 s in all)"
            ]
        );
    }

    #[test]
    fn many_tasks_stay_readable() {
        let (losses, weights) = ([0.5; 40], [1.0; 40]);
        let step = line(&losses, &weights);
        assert!(step.ends_with("task5 0.500×1.00  and 34 more") && step.chars().count() < 160, "{step}");
        assert!(line(&losses[..6], &weights[..6]).ends_with("task5 0.500×1.00"));
        let lines = epoch(&losses, &weights);
        assert_eq!((lines.len(), lines[0].as_str()), (41, "epoch 2/5  (1 min 01 s, 2 min 10 s in all)"));
        assert_eq!(lines[40], "  task39 loss 0.500 weight 1.00 weighted 0.500");
    }

    #[test]
    fn means_from_before_weighted_losses_were_kept_go_on() {
        let old = r#"{"losses":[[1.5,3]],"weights":[3.0],"steps":3}"#;
        let mut means: EpochMeans = serde_json::from_str(old).unwrap();
        assert_eq!((means.loss(0), means.weighted(0)), (Some(0.5), None));
        means.add(&StepReport {
            losses: vec![0.5],
            weights: vec![2.0],
            gradient_norm: 1.0,
            learning_rate: 0.1,
            gramian: None,
        });
        assert_eq!((means.loss(0), means.weight(0), means.weighted(0)), (Some(0.5), Some(1.25), Some(1.0)));
    }
}
