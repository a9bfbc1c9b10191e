//! Estimates a run's whole time from its first steps. On a CPU, names flags with which a long run would take less than an hour.

use super::progress::in_words;
use crate::config::TrainConfig;
use crate::model::Backbone;
use std::time::Duration;

/// The first steps take longer, because memory and threads are used for the first time.
const WARM_UP: u64 = 2;
/// Steps are measured for at least this long, and at least [`STEPS`] of them.
const LEAST: Duration = Duration::from_secs(10);
const STEPS: u64 = 3;
/// Runs shorter than this get no estimate.
const WORTH_A_LINE_S: f64 = 120.0;
/// Flags are named for runs on a CPU that take longer than this.
const LONG_S: f64 = 3600.0;

/// Measures the first steps of a session.
#[derive(Default)]
pub(super) struct Estimate {
    steps: u64,
    /// Steps measured, and the time they took.
    measured: u64,
    elapsed: Duration,
    is_done: bool,
}

impl Estimate {
    /// Counts a step, the run's number `step`, that took this long. Returns the estimate once, as soon as enough steps were measured; `left` is the
    /// number of steps left.
    pub fn step(&mut self, took: Duration, step: u64, left: u64, config: &TrainConfig, on_cpu: bool) -> Option<String> {
        if self.is_done {
            return None;
        }
        self.steps += 1;
        if self.steps > WARM_UP {
            self.measured += 1;
            self.elapsed += took;
        }
        if self.elapsed < LEAST || self.measured < STEPS {
            return None;
        }
        self.is_done = true;
        let seconds = self.elapsed.as_secs_f64() / self.measured as f64 * left as f64;
        // Other flags need a new run, so they are no advice for one that was resumed.
        let is_new = step == self.steps;
        // With --time, the run's length is known.
        if config.time.is_some() { None } else { line(seconds, config, on_cpu && is_new) }
    }
}

/// The line for this many seconds; `None` for a short run.
fn line(seconds: f64, config: &TrainConfig, names_flags: bool) -> Option<String> {
    if seconds < WORTH_A_LINE_S {
        return None;
    }
    let line = format!("about {} left for the run at this pace, without validation", in_words(seconds));
    if !names_flags || seconds <= LONG_S {
        return Some(line);
    }
    let (flags, shorter_s) = shorter(seconds, config);
    let flags = flags.join(" ");
    Some(format!("{line}; on this CPU a run with {flags} would take about {}", in_words(shorter_s)))
}

/// Flags that bring a run of this many seconds under an hour, and the seconds it would then take: first a smaller network, then
/// smaller images, then fewer epochs and images.
fn shorter(mut seconds: f64, config: &TrainConfig) -> (Vec<String>, f64) {
    let mut flags = Vec::new();
    let cost = |backbone| cost(backbone) / cost(Backbone::Resnet18);
    // Weights to start from fit one network only.
    if cost(config.backbone) > 1.0 && config.weights.is_none() {
        seconds /= cost(config.backbone);
        flags.push("--backbone resnet18".to_owned());
    }
    if seconds > LONG_S && config.imgsz > 160 {
        let at = |side: usize| seconds * (side as f64 / config.imgsz as f64).powi(2);
        let side = if config.imgsz > 224 && at(224) <= LONG_S { 224 } else { 160 };
        seconds = at(side);
        flags.push(format!("--imgsz {side}"));
    }
    if seconds > LONG_S && config.epochs > 5 {
        let epochs = ((config.epochs as f64 * LONG_S / seconds) as u64).max(5);
        seconds *= epochs as f64 / config.epochs as f64;
        flags.push(format!("--epochs {epochs}"));
    }
    if seconds > LONG_S {
        let share = f64::from(config.fraction) * LONG_S / seconds;
        let share = ((share * 1000.0).floor() / 1000.0).max(0.001);
        seconds *= share / f64::from(config.fraction);
        flags.push(format!("--fraction {share}"));
    }
    (flags, seconds)
}

/// Billions of multiply-adds for an image of 224 px, as torchvision publishes them. `Tiny` is smaller than all.
fn cost(backbone: Backbone) -> f64 {
    match backbone {
        Backbone::Tiny => 0.1,
        Backbone::Resnet18 => 1.81,
        Backbone::Resnet34 => 3.66,
        Backbone::Resnet50 => 4.09,
        Backbone::Resnet101 => 7.80,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(backbone: Backbone, imgsz: usize, epochs: u64) -> TrainConfig {
        TrainConfig { backbone, imgsz, epochs, ..TrainConfig::default() }
    }

    #[test]
    fn a_long_run_on_a_cpu_is_told_how_to_take_less_than_an_hour() {
        let default = config(Backbone::Resnet50, 320, 100);
        assert_eq!(line(100.0, &default, true), None);
        let short = line(3000.0, &default, true).unwrap();
        assert_eq!(short, "about 50 min 00 s left for the run at this pace, without validation");
        let elsewhere = line(30_000.0, &default, false).unwrap();
        assert!(!elsewhere.contains("--"), "{elsewhere}");
        for (seconds, flags) in [
            (5_000.0, "--backbone resnet18"),
            (12_000.0, "--backbone resnet18 --imgsz 224"),
            (30_000.0, "--backbone resnet18 --imgsz 160"),
            (100_000.0, "--backbone resnet18 --imgsz 160 --epochs 32"),
            (1_000_000.0, "--backbone resnet18 --imgsz 160 --epochs 5 --fraction 0.65"),
        ] {
            let said = line(seconds, &default, true).unwrap();
            assert!(said.contains(&format!("a run with {flags} would take about")), "{seconds}: {said}");
            let (_, left) = shorter(seconds, &default);
            assert!(left <= LONG_S, "{seconds}: {left}");
        }
        let started = TrainConfig { weights: Some("w".into()), ..config(Backbone::Resnet50, 160, 100) };
        assert_eq!(shorter(7200.0, &started).0, ["--epochs 50"]);
    }

    #[test]
    fn a_time_limit_needs_no_estimate_and_none_comes_before_enough_steps() {
        let mut estimate = Estimate::default();
        let config = TrainConfig::default();
        // Steps of 4 s; the first two do not count.
        let said: Vec<Option<String>> =
            (1..8).map(|step| estimate.step(Duration::from_secs(4), step, 1000, &config, false)).collect();
        let expected = "about 1 h 06 min left for the run at this pace, without validation".to_owned();
        assert_eq!(said, [None, None, None, None, Some(expected), None, None]);
        let timed = TrainConfig { time: Some(1.0), ..config };
        let mut estimate = Estimate::default();
        assert!((1..8).all(|step| estimate.step(Duration::from_secs(4), step, 1000, &timed, true).is_none()));
    }
}
