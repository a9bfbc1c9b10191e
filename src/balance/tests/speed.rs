//! Time of the solvers for three tasks.

use super::*;
use crate::balance::aligned::aligned;
use crate::balance::imtl_g::impartial;
use crate::balance::solve::{Gramian, conflict_averse, fair, prioritised, projected_mean, projections_mean, shortest};
use std::time::{Duration, Instant};

/// A name, and a function from a seed to a Gramian.
type Kind = (&'static str, fn(u64) -> Gramian);
/// A name, and a function that solves a Gramian.
type Solver = (&'static str, fn(&Gramian) -> Vec<f64>);

const SOLVERS: [Solver; 9] = [
    ("shortest (mgda)", shortest),
    ("conflict_averse (cagrad)", |g| conflict_averse(g, 0.4)),
    ("impartial (imtl-g)", impartial),
    ("fair 1 (nash)", |g| fair(g, 1.0)),
    ("fair 2 (fairgrad)", |g| fair(g, 2.0)),
    ("aligned", aligned),
    ("projections_mean (upgrad)", projections_mean),
    ("projected_mean (dualproj)", projected_mean),
    ("prioritised (pcd)", |g| prioritised(g, 0, 0.02)),
];

/// Gramians of three tasks: independent, dependent, opposite, parallel, and one-dimensional.
fn kinds() -> [Kind; 5] {
    [
        ("independent", |seed| gramian(3, 5, seed)),
        ("dependent", |seed| gramian(3, 2, seed)),
        ("opposite", |_| Gramian::new(3, vec![1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0])),
        ("parallel", |_| Gramian::new(3, vec![1.0, 2.0, 3.0, 2.0, 4.0, 6.0, 3.0, 6.0, 9.0])),
        ("rank one", |seed| gramian(3, 1, seed)),
    ]
}

/// The median time of a solver over Gramians of one kind.
fn median(solver: fn(&Gramian) -> Vec<f64>, kind: fn(u64) -> Gramian) -> Duration {
    let time = |seed| {
        let gramian = kind(seed);
        let start = Instant::now();
        std::hint::black_box(solver(std::hint::black_box(&gramian)));
        start.elapsed()
    };
    let mut times: Vec<Duration> = (0..49).map(time).collect();
    times.sort_unstable();
    times[times.len() / 2]
}

/// A step takes milliseconds; the bound allows for weakly optimised builds and busy machines.
#[test]
fn three_tasks_take_under_fifty_microseconds() {
    for (name, solver) in SOLVERS {
        for (kind, gramian) in kinds() {
            // The best of five, because other load on the machine is not the solver's fault.
            let best = (0..5).map(|_| median(solver, gramian)).min().unwrap();
            assert!(best < Duration::from_micros(50), "{name}, {kind}: {best:?}");
        }
    }
}
