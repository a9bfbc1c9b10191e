//! Comparison with weights from TorchJD, SciPy and PyTorch's autograd: tests/golden/balance.json.

use super::*;
use crate::balance::aligned::aligned;
use crate::balance::imtl_g::impartial;
use crate::balance::learned::{Learned, Objective};
use crate::balance::pcgrad::surgery;
use crate::balance::present::Present;
use crate::balance::solve::testing::of_gradients;
use crate::balance::solve::{Gramian, conflict_averse, fair, projected_mean, projections_mean, shortest};
use crate::balance::stch::smooth_maximum_gradient;
use crate::balance::{geometric, gradvac, log_loss, uw_so};
use serde_json::Value;

fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/balance.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn matrix(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().unwrap().iter().map(numbers).collect()
}

fn singles(value: &[f64]) -> Vec<f32> {
    value.iter().map(|x| *x as f32).collect()
}

/// Each entry is within `tolerance` of the largest entry, unless the largest is only rounding error.
#[track_caller]
fn assert_close(got: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    let largest = expected.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
    let close = got.len() == expected.len()
        && got.iter().zip(expected).all(|(got, expected)| (got - expected).abs() <= (tolerance * largest).max(1e-17));
    assert!(close, "{what}: {got:?}, {expected:?} expected");
}

struct Case {
    name: String,
    gramian: Gramian,
    answers: Value,
}

impl Case {
    fn answer(&self, of: &str) -> Option<Vec<f64>> {
        let value = &self.answers[of];
        (!value.is_null()).then(|| numbers(value))
    }
}

fn cases() -> Vec<Case> {
    let golden = golden();
    let cases = golden["gramians"].as_array().unwrap().iter().map(|case| Case {
        name: case["name"].as_str().unwrap().to_owned(),
        gramian: of_gradients(&matrix(&case["gradients"])).scaled(case["scale"].as_f64().unwrap()),
        answers: case.clone(),
    });
    let cases: Vec<Case> = cases.collect();
    assert_eq!(cases.len(), 39);
    cases
}

/// The script writes 12 digits.
const WRITTEN: f64 = 1e-11;

#[test]
fn mgda_is_what_scipy_finds() {
    for Case { name, gramian, answers } in cases() {
        let (got, expected) = (shortest(&gramian), numbers(&answers["mgda"]));
        // Both are squares of the same shortest length, up to rounding of the trace.
        let [a, b] = [&got, &expected].map(|w| gramian.squared_norm(w));
        assert!((a - b).abs() <= 1e-10 * gramian.trace(), "{name}: {a}, {b}");
        // The weights are unique for independent gradients. The Gramian determines them only to half of the digits, because it
        // holds squares.
        if name.starts_with("random") || name.starts_with("large") || name.starts_with("small") {
            assert_close(&got, &expected, 1e-9, &name);
        }
    }
}

#[test]
fn projections_on_the_dual_cone_are_what_scipy_and_quadprog_find() {
    for case in cases() {
        let Case { name, gramian, answers } = &case;
        for (method, got) in [("upgrad", projections_mean(gramian)), ("dualproj", projected_mean(gramian))] {
            let what = format!("{method} {name}");
            // The projection is unique even if its weights are not, so its products with the gradients are compared.
            let expected = numbers(&answers[format!("{method}_products")]);
            let off = gramian.times(&got).iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(off <= 1e-9 * gramian.trace(), "{what}: off by {off}");
            if let Some(expected) = case.answer(&format!("{method}_torchjd")) {
                let g = gramian.normalised().unwrap().0;
                let [ours, theirs] = [&got, &expected].map(|w| g.squared_norm(w));
                assert!((ours - theirs).abs() < 1e-9, "{what}: {ours}, {theirs}");
                // The error grows with the Gramian's condition number: 1e-6 for gradients whose lengths differ by a
                // factor of a hundred.
                assert_close(&got, &expected, 1e-6, &what);
            }
        }
    }
}

#[test]
fn cagrad_is_what_a_conic_solver_finds_and_no_worse_than_torchjd() {
    for case in cases() {
        let Some(expected) = case.answer("cagrad_torchjd") else { continue };
        let Case { name, gramian, .. } = &case;
        let (g, got) = (gramian.normalised().unwrap().0, conflict_averse(gramian, 0.4));
        let smallest = |w: &[f64]| g.times(w).into_iter().fold(f64::INFINITY, f64::min);
        let mean = vec![1.0 / g.size() as f64; g.size()];
        let off = |w: &[f64]| g.squared_norm(&w.iter().zip(&mean).map(|(w, m)| w - m).collect::<Vec<_>>()).sqrt();
        // d lies inside the ball, and the worst task gains as much as with TorchJD's solver, which stops at 1e-8.
        assert!(off(&got) <= 0.4 * g.squared_norm(&mean).sqrt() + 1e-9, "{name}");
        assert!(smallest(&got) >= smallest(&expected) - 1e-9, "{name}: {got:?}, {expected:?}");
        if let Some(exact) = case.answer("cagrad") {
            assert!((smallest(&got) - smallest(&exact)).abs() < 1e-9, "{name}");
            assert_close(&got, &exact, 1e-8, name);
        }
    }
}

#[test]
fn nash_and_fairgrad_solve_their_equations_better_than_torchjd() {
    for (name, alpha) in [("nash", 1.0), ("fairgrad", 2.0)] {
        let mut compared = 0;
        for case in cases() {
            // TorchJD's FairGrad needs the Gramian divided by its trace; this one accepts any.
            let g = if alpha == 1.0 { Some(case.gramian.clone()) } else { case.gramian.normalised().map(|g| g.0) };
            let (Some(g), what) = (g, format!("{name} {}", case.name)) else { continue };
            let got = fair(&g, alpha);
            let residual = |w: &[f64]| {
                g.times(w).iter().zip(w).map(|(gw, w)| (gw * w.powf(1.0 / alpha) - 1.0).abs()).fold(0.0, f64::max)
            };
            if let Some(expected) = case.answer(name) {
                // The root finder's residual is 1e-10; the condition of a conflicting Gramian multiplies it.
                let tolerance = if case.name.starts_with("conflicting") { 1e-5 } else { 1e-8 };
                assert_close(&got, &expected, tolerance, &what);
                compared += 1;
            }
            if let Some(theirs) = case.answer(&format!("{name}_torchjd")) {
                let (ours, theirs) = (residual(&got), residual(&theirs));
                assert!(ours <= theirs.max(1e-8), "{what}: {ours}, {theirs} by TorchJD");
            }
        }
        assert!(compared >= 18, "{name}: {compared}");
    }
}

#[test]
fn closed_formulas_match_torchjd() {
    for Case { name, gramian, answers } in cases() {
        let orders = |task: usize| (0..gramian.size()).filter(|other| *other != task).collect::<Vec<_>>();
        for (method, got, tolerance) in [
            // Inverses and roots of eigenvalues: 1e-16 times the condition of gradients whose lengths differ by a
            // factor of a hundred.
            ("imtl_g", impartial(&gramian), 1e-9),
            ("aligned", aligned(&gramian), 1e-9),
            ("pcgrad", surgery(&gramian, orders), 1e-9),
        ] {
            let expected = numbers(&answers[method]);
            let undecided =
                method == "pcgrad" && ["parallel", "opposite", "rank", "zero"].iter().any(|n| name.starts_with(n));
            if !undecided {
                assert_close(&got, &expected, tolerance, &format!("{method} {name}"));
            }
        }
    }
}

/// The steps of a sequence, each with the signals that a trainer would give.
fn steps(golden: &Value) -> Vec<Numbers> {
    let of = |name: &str| golden[name].as_array().unwrap().clone();
    let (gradients, others, losses, risks) = (of("gradients"), of("others"), of("losses"), of("excess_risks"));
    (0..gradients.len())
        .map(|step| {
            let (a, b) = (matrix(&gradients[step]), matrix(&others[step]));
            let products = |b: &[Vec<f64>]| {
                a.iter().flat_map(|x| b.iter().map(move |y| x.iter().zip(y).map(|(x, y)| x * y).sum())).collect()
            };
            Numbers {
                active: vec![true; 3],
                losses: singles(&numbers(&losses[step])),
                gramian: products(&a),
                cross: products(&b),
                excess: numbers(&risks[step]),
                after: singles(&numbers(&losses[step + 1])),
            }
        })
        .collect()
}

#[test]
fn stateful_methods_match_torchjd_step_by_step() {
    let golden = &golden()["sequences"];
    let none = Parameters::default;
    // Our weights are the paper's times `factor`.
    for (key, method, parameters, factor, tolerance) in [
        // Weights are f32.
        ("pcd", "pcd", Parameters { balance_tau: Some(0.3), balance_beta: Some(0.9), ..none() }, 1.0, 2e-7),
        ("smooth", "aligned", Parameters { balance_smooth: Some(0.9), ..none() }, 3.0, 2e-7),
        ("modo", "modo", Parameters { balance_lr: Some(0.1), ..none() }, 3.0, 2e-7),
        // TorchJD adds 1e-8 to a scale of order 1.
        ("sdmgrad", "sdmgrad", none(), 3.0, 1e-6),
        ("excess", "excess", none(), 3.0, 2e-7),
        ("gradnorm", "gradnorm", none(), 1.0, 2e-7),
        ("db", "db", Parameters { balance_beta: Some(0.0), ..none() }, 1.0, 2e-7),
        // TorchJD's DWA scales its weights to K, its FAMO to 1. The losses are f32 here.
        ("dwa", "dwa", none(), 1.0, 1e-6),
        ("famo", "famo", none(), 3.0, 1e-6),
    ] {
        let expected = matrix(&golden[key]);
        let mut balance = started(Method::named(method).unwrap(), &KINDS, &parameters);
        for (step, numbers) in steps(golden).iter().enumerate() {
            let before = numbers.step(balance.as_mut(), step % 2 == 1).seam;
            // Our products of a step determine the next step's weights; TorchJD's determine the same step's.
            let seam = match balance.needs() {
                Needs::Cross => balance.weights(&Signals::before(&numbers.active)).seam,
                _ => before,
            };
            let got: Vec<f64> = seam.iter().map(|w| f64::from(*w)).collect();
            let expected: Vec<f64> = expected[step].iter().map(|w| w * factor).collect();
            assert_close(&got, &expected, tolerance, &format!("{key}, step {step}"));
        }
    }
}

#[test]
fn gradvac_matches_torchjd_step_by_step() {
    let golden = &golden()["sequences"];
    let mut targets = vec![0.0; 9];
    let orders = |task: usize| (0..3).filter(|other| *other != task).collect::<Vec<_>>();
    for (step, numbers) in steps(golden).into_iter().enumerate() {
        let got = gradvac::vaccinate(&Gramian::new(3, numbers.gramian), &mut targets, 0.5, orders);
        assert_close(&got, &matrix(&golden["gradvac"])[step], WRITTEN, &format!("step {step}"));
    }
    assert!(targets.iter().any(|target| *target != 0.0));
}

#[test]
fn loss_weights_are_the_slopes_that_autograd_finds() {
    for case in golden()["losses"].as_array().unwrap() {
        let (losses, state) = (numbers(&case["losses"]), numbers(&case["state"]));
        let single = singles(&losses);
        let active = vec![true; losses.len()];
        let present = Present::new(&Signals::of_losses(&active, &single)).unwrap();
        let count = losses.len() as f64;
        let learned = |objective, sign: f64| {
            let mut rule = Learned::new(vec![objective; losses.len()], 0.025);
            rule.restore(&state.iter().flat_map(|s| [sign * s, 0.0, 0.0, 0.0]).collect::<Vec<_>>());
            rule.weights(&present).seam
        };
        let each = |rule: &dyn Rule, factor: f64| rule.weights(&present).seam.iter().map(|w| w / factor).collect();
        let space = |from: f64, to: f64| {
            (0..losses.len()).map(|i| from + (to - from) * i as f64 / (count - 1.0)).collect::<Vec<f64>>()
        };
        for (name, got) in [
            ("uncertainty", learned(Objective::Gaussian, 1.0)),
            ("imtl_l", learned(Objective::Impartial, 1.0)),
            ("geometric", each(&geometric::rule(), count)),
            ("log", each(&log_loss::rule(), 1.0)),
            ("uw_so", each(&uw_so::rule(2.0), count)),
            ("stch", smooth_maximum_gradient(&losses, &space(0.5, 1.0), &space(0.0, 0.1), 0.5)),
        ] {
            // Losses are f32, and UW-SO uses them in an exponent.
            assert_close(&got, &numbers(&case[name]), 1e-6, name);
        }
    }
}
