//! Runs every balancing method on the toy problem of CAGrad and on its uneven version from Nash-MTL and FAMO, and shows
//! where each ends from each published start.
//!
//! ```sh
//! cargo run --release --example balance_toy                     # all methods; under a minute
//! cargo run --release --example balance_toy -- toy mgda nash
//! ```
//!
//! The first argument is a folder for `even.png` and `uneven.png`, which show where the runs went, and for `trajectories.csv`, which
//! holds every hundredth step of each. The others are the methods.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use polyhead::balance::{METHODS, Method, Parameters, Setup, Signals};
use polyhead::draw::{self, Line};
use polyhead::error::{Error, Result};
use polyhead::tasks::Likelihood;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

/// A published experiment.
struct Experiment {
    name: &'static str,
    /// The factor of the first loss.
    scale: f64,
    steps: usize,
    starts: &'static [[f64; 2]],
    /// CAGrad's c.
    c: f64,
    /// The paper's result.
    statement: &'static str,
}

const EXPERIMENTS: [Experiment; 2] = [
    Experiment {
        name: "even",
        scale: 1.0,
        steps: 100_000,
        starts: &[[-8.5, 7.5], [-8.5, -5.0], [9.0, 9.0]],
        c: 0.5,
        statement: "Liu et al. 2021 (CAGrad): descent on the mean loss is stopped in the valley from some starts; MGDA and PCGrad end \
                    anywhere on the Pareto front; CAGrad ends at the minimum of the mean loss, x = 0.",
    },
    Experiment {
        name: "uneven",
        scale: 0.1,
        steps: 50_000,
        starts: &[[-8.5, 7.5], [0.0, 0.0], [9.0, 9.0], [-7.5, -0.5], [9.0, -1.0]],
        c: 0.4,
        statement: "Navon et al. 2022 (Nash-MTL): the sum, PCGrad and CAGrad are led by the second loss, which is larger; Nash-MTL is not. \
                    Liu et al. 2023 (FAMO): the mean misses the Pareto front from one of five starts; FAMO reaches it, evenly.",
    },
];

/// The papers draw the Pareto front as this line between x = −7 and x = 7; its ends are .08 lower.
const FRONT_Y: f64 = -8.3552;
const FRONT_X: f64 = 7.0;
/// No loss is below this. It is subtracted from the losses, because the methods expect losses of at least 0.
const LOWER_BOUND: f64 = -21.0;

/// The two losses at a point, and their gradients.
fn problem([x, y]: [f64; 2], scale: f64) -> ([f64; 2], [[f64; 2]; 2]) {
    let (tanh, half) = (y.tanh(), (0.5 * y).tanh());
    let (sech2, half_sech2) = (1.0 - tanh * tanh, 0.5 * (1.0 - half * half));
    // Above y = 0 the loss is the logarithm of a distance from a curve, below it a bowl; each fades out at y = 0.
    let (above, above_slope) = if y >= 0.0 { (half, half_sech2) } else { (0.0, 0.0) };
    let (below, below_slope) = if y <= 0.0 { (-half, -half_sech2) } else { (0.0, 0.0) };
    let loss = |distance: f64, distance_y: f64, center: f64, scale: f64| {
        let size = distance.abs().max(5e-6);
        let inverse = if distance.abs() >= 5e-6 { 1.0 / distance } else { 0.0 };
        let valley = size.ln() + 6.0;
        let bowl = ((x - center).powi(2) + 0.1 * (y + 8.0).powi(2)) / 10.0 - 20.0;
        let value = valley * above + bowl * below;
        let slope_x = -0.5 * inverse * above + 0.2 * (x - center) * below;
        let slope_y =
            inverse * distance_y * above + valley * above_slope + 0.02 * (y + 8.0) * below + bowl * below_slope;
        (scale * value, [scale * slope_x, scale * slope_y])
    };
    let (first, first_slope) = loss(-0.5 * x - 3.5 + tanh, sech2, 7.0, scale);
    let (second, second_slope) = loss(-0.5 * x + 3.5 - tanh, -sech2, -7.0, 1.0);
    ([first, second], [first_slope, second_slope])
}

/// Adam with the papers' learning rate of .001. It moves the point.
#[derive(Default)]
struct Adam {
    first: [f64; 2],
    second: [f64; 2],
    steps: i32,
}

impl Adam {
    fn step(&mut self, point: &mut [f64; 2], gradient: [f64; 2]) {
        self.steps += 1;
        let [first_bias, second_bias] = [0.9f64, 0.999].map(|beta| 1.0 - beta.powi(self.steps));
        for i in 0..2 {
            self.first[i] = 0.9 * self.first[i] + 0.1 * gradient[i];
            self.second[i] = 0.999 * self.second[i] + 0.001 * gradient[i] * gradient[i];
            point[i] -= 0.001 * self.first[i] / first_bias / ((self.second[i] / second_bias).sqrt() + 1e-8);
        }
    }
}

/// Runs one method from one start; returns every hundredth of the points it passes, and the last.
fn descend(
    method: &'static Method,
    experiment: &Experiment,
    start: [f64; 2],
    csv: &mut String,
) -> Result<Vec<(f64, f64)>> {
    let mut parameters = Parameters::default();
    if method.name == "cagrad" {
        parameters.balance_c = Some(experiment.c);
    }
    if method.name == "famo" {
        // The authors' setting for this problem, which does not change between steps as batches would.
        parameters.balance_decay = Some(0.0);
    }
    let likelihoods = [Likelihood::Gaussian; 2];
    let primary = (method.name == "pcd").then_some(0);
    let setup = Setup { likelihoods: &likelihoods, task_weights: &[1.0; 2], seed: 0, primary, parameters: &parameters };
    let mut balance = method.start(setup)?;
    let active = [true; 2];
    let losses_of = |losses: [f64; 2]| {
        [losses[0] - LOWER_BOUND * experiment.scale, losses[1] - LOWER_BOUND].map(|loss| loss.max(0.0) as f32)
    };
    let (mut point, mut adam, mut squares) = (start, Adam::default(), [[0.0f64; 2]; 2]);
    let mut path = vec![(start[0], start[1])];
    for step in 0..experiment.steps {
        let (values, g) = problem(point, experiment.scale);
        let losses = losses_of(values);
        let product = |a: [f64; 2], b: [f64; 2]| a[0] * b[0] + a[1] * b[1];
        let gramian = [product(g[0], g[0]), product(g[0], g[1]), product(g[1], g[0]), product(g[1], g[1])];
        let mut excess = [0.0; 2];
        for task in 0..2 {
            for i in 0..2 {
                squares[task][i] += g[task][i] * g[task][i];
                excess[task] += g[task][i] * g[task][i] / squares[task][i].sqrt().max(1e-30);
            }
        }
        // Nothing is random here, so two batches would be identical.
        let signals = Signals {
            active: &active,
            losses: Some(&losses),
            gramian: Some(&gramian),
            cross: Some(&gramian),
            excess: Some(&excess),
        };
        let seam = balance.weights(&signals).seam;
        let weights = [0, 1].map(|task: usize| f64::from(seam[task]));
        let gradient = [0, 1].map(|i| weights[0] * g[0][i] + weights[1] * g[1][i]);
        adam.step(&mut point, gradient);
        balance.observe(&signals);
        if balance.needs_losses_after_update() {
            balance.after_update(&signals, &losses_of(problem(point, experiment.scale).0));
        }
        if step % 1000 == 999 {
            balance.epoch_ended();
        }
        if step % 100 == 0 {
            let [x, y] = point;
            path.push((x, y));
            let [first, second] = values;
            // Writing to a string does not fail.
            let _ = writeln!(
                csv,
                "{},{},{},{},{step},{x:.5},{y:.5},{first:.5},{second:.5},{:.5},{:.5}",
                experiment.name, method.name, start[0], start[1], weights[0], weights[1]
            );
        }
    }
    path.push((point[0], point[1]));
    Ok(path)
}

/// One panel: the paths of a method from every start, and the Pareto front.
fn panel(method: &Method, paths: Vec<Vec<(f64, f64)>>) -> draw::Canvas {
    let from = |path: &[(f64, f64)]| path.first().map_or(String::new(), |(x, y)| format!("from {x}, {y}"));
    let mut lines: Vec<Line> = paths.into_iter().map(|points| Line { name: from(&points), points }).collect();
    lines.push(Line { name: "Pareto front".into(), points: vec![(-FRONT_X, FRONT_Y), (FRONT_X, FRONT_Y)] });
    draw::lines(method.name, ["x", "y"], &lines)
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, words) =
        arguments.split_first().map_or((None, [].as_slice()), |(folder, words)| (Some(folder), words));
    let folder = folder.map(Path::new);
    if let Some(folder) = folder {
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    }
    let named: Result<Vec<&'static Method>> = words.iter().map(|word| Method::named(word)).collect();
    let methods = if words.is_empty() { METHODS.iter().collect() } else { named? };
    let mut csv = "experiment,method,start_x,start_y,step,x,y,loss_1,loss_2,weight_1,weight_2\n".to_owned();
    for experiment in &EXPERIMENTS {
        println!("## {}: first loss times {}, {} steps", experiment.name, experiment.scale, experiment.steps);
        println!("{}\n", experiment.statement);
        println!("| method | start | end | losses | mean | from the Pareto front |");
        println!("|---|---|---|---|---|---|");
        let mut panels = Vec::new();
        for method in &methods {
            let mut paths = Vec::new();
            for &start in experiment.starts {
                let path = descend(method, experiment, start, &mut csv)?;
                let (x, y) = path[path.len() - 1];
                let [first, second] = problem([x, y], experiment.scale).0;
                paths.push(path);
                let off = (y - FRONT_Y).hypot((x.abs() - FRONT_X).max(0.0));
                let reached = if off < 0.1 { "on it".to_owned() } else { format!("{off:.2}") };
                println!(
                    "| {} | {}, {} | {x:.3}, {y:.3} | {first:.3}, {second:.3} | {:.3} | {reached} |",
                    method.name,
                    start[0],
                    start[1],
                    0.5 * (first + second)
                );
            }
            panels.push(panel(method, paths));
        }
        println!();
        if let Some(folder) = folder {
            let columns = panels.len().min(4);
            draw::write_png(&folder.join(experiment.name).with_extension("png"), &draw::grid(&panels, columns))?;
        }
    }
    if let Some(file) = folder.map(|folder| folder.join("trajectories.csv")) {
        std::fs::write(&file, csv).map_err(Error::io("write", &file))?;
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
