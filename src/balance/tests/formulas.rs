//! Properties of single methods: results that the papers prove, and simple cases of their formulas.

use super::*;
use crate::balance::solve::{Gramian, conflict_averse, dot, fair, projected_mean, projections_mean, shortest};

#[test]
fn one_task_alone_has_the_weight_of_its_formula() {
    for method in METHODS {
        let mut numbers = Numbers::random(1, 3);
        numbers.losses = vec![0.5];
        let expected = match method.name {
            "fixed" => 0.7,
            "uncertainty-learned" | "uncertainty-bounded" => 0.5,
            "log" | "stch" | "db" => 2.0,
            // The far edge of the ball.
            "cagrad" => 1.4,
            _ => 1.0,
        };
        let got = numbers.step(started(method, &KINDS[..1], &Parameters::default()).as_mut(), false).seam[0];
        assert!((got - expected).abs() < 1e-6, "{method:?}: {got}, {expected} expected");
    }
}

#[test]
fn weights_average_one_where_they_are_normalised() {
    let not_normalised =
        ["uncertainty-learned", "uncertainty-kind", "uncertainty-bounded", "fixed", "imtl-l", "geometric"];
    // The sums of these depend on conflicts or losses, by their formulas.
    let by_formula = ["log", "stch", "cagrad", "aligned", "upgrad", "dualproj", "pcgrad", "gradvac", "db", "pcd"];
    for method in METHODS.iter().filter(|m| !not_normalised.contains(&m.name) && !by_formula.contains(&m.name)) {
        let mut balance = started(method, &KINDS, &Parameters::default());
        for step in 0..20 {
            let sum: f32 = Numbers::random(3, step).step(balance.as_mut(), step % 5 == 4).seam.iter().sum();
            assert!((sum - 3.0).abs() < 1e-4, "{method:?}: {sum}");
            let two = Numbers::random(3, step).without(1).step(balance.as_mut(), false).seam;
            assert!((two.iter().sum::<f32>() - 2.0).abs() < 1e-4, "{method:?}: {two:?}");
        }
    }
    // Orthogonal gradients of equal length: all methods that use gradients alone give the plain sum, except PCD, which follows
    // one task, and CAGrad, which goes further.
    for name in ["mgda", "imtl-g", "nash", "fairgrad", "aligned", "upgrad", "dualproj", "pcgrad", "gradvac"] {
        let numbers = Numbers { gramian: vec![2.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 2.0], ..Numbers::random(3, 0) };
        let seam = numbers.step(start(name, &KINDS).as_mut(), false).seam;
        assert!(seam.iter().all(|w| (w - 1.0).abs() < 1e-6), "{name}: {seam:?}");
    }
}

fn cases() -> impl Iterator<Item = (Gramian, String)> {
    let sizes = [2usize, 3, 8, 16].into_iter();
    sizes.flat_map(|size| {
        (0..40).map(move |seed| (gramian(size, size + seed as usize % 4, seed), format!("{size} tasks, seed {seed}")))
    })
}

/// Jg ≥ 0, up to rounding of sums as large as the trace.
#[test]
fn mgda_upgrad_and_dualproj_never_conflict() {
    for (g, what) in cases() {
        for w in [shortest(&g), projections_mean(&g), projected_mean(&g)] {
            assert!(g.times(&w).iter().all(|product| *product > -1e-9 * g.trace()), "{what}");
        }
        // They are not trivial either: the plain mean conflicts in some cases.
    }
    let conflicts = |(g, _): (Gramian, String)| {
        let mean = vec![1.0 / g.size() as f64; g.size()];
        g.times(&mean).iter().any(|product| *product < 0.0)
    };
    assert!(cases().filter(|(g, what)| conflicts((g.clone(), what.clone()))).count() > 20);
}

/// αᵀGα equals the product of every task that has weight, and no product is smaller.
#[test]
fn mgda_meets_its_conditions() {
    for (g, what) in cases() {
        let alpha = shortest(&g);
        let value = g.squared_norm(&alpha);
        for (alpha, product) in alpha.iter().zip(g.times(&alpha)) {
            assert!(product > value - 1e-9 * g.trace(), "{what}: {product}, {value}");
            assert!(*alpha < 1e-12 || product < value + 1e-9 * g.trace(), "{what}: {product}, {value}");
        }
    }
}

/// Scaling one task's gradient by c scales UPGrad's result accordingly: A(diag(c)·J) is linear in c.
#[test]
fn upgrad_is_linear_under_scaling() {
    for (g, what) in cases() {
        let size = g.size();
        let factors = |seed: u64| (0..size).map(|i| 1.5 + uniform(seed, i as u64)).collect::<Vec<f64>>();
        let (c, d) = (factors(90), factors(91));
        // Inner products with the unscaled gradients determine the combination completely.
        let combined = |factors: &[f64]| {
            let w = projections_mean(&g.rows_scaled(factors));
            g.times(&w.iter().zip(factors).map(|(w, f)| w * f).collect::<Vec<_>>())
        };
        let both: Vec<f64> = c.iter().zip(&d).map(|(c, d)| 2.0 * c + 3.0 * d).collect();
        for ((c, d), both) in combined(&c).iter().zip(combined(&d)).zip(combined(&both)) {
            assert!((2.0 * c + 3.0 * d - both).abs() < 1e-8 * g.trace(), "{what}: {c}, {d}, {both}");
        }
    }
}

/// Scaling all gradients together does not change the meaning of a weight; weights change as their formula says.
#[test]
fn a_common_scale_changes_weights_as_the_papers_say() {
    for (g, what) in cases() {
        for scale in [1e-12, 1e12] {
            let scaled = g.scaled(scale);
            let pairs = [
                (shortest(&g), shortest(&scaled), 1.0),
                (projections_mean(&g), projections_mean(&scaled), 1.0),
                (conflict_averse(&g, 0.4), conflict_averse(&scaled, 0.4), 1.0),
                (fair(&g, 1.0), fair(&scaled, 1.0), scale.powf(-0.5)),
                (fair(&g, 2.0), fair(&scaled, 2.0), scale.powf(-2.0 / 3.0)),
            ];
            for (i, (plain, scaled, factor)) in pairs.iter().enumerate() {
                for (plain, scaled) in plain.iter().zip(scaled) {
                    assert!((plain * factor - scaled).abs() < 1e-6 * factor * plain.abs().max(1.0), "{what}, {i}");
                }
            }
        }
    }
}

#[test]
fn imtl_g_has_equal_projections_and_aligned_equal_components() {
    for (g, what) in cases().filter(|(g, _)| g.size() <= 8) {
        let alpha = crate::balance::imtl_g::impartial(&g);
        let projections: Vec<f64> = g.times(&alpha).iter().enumerate().map(|(i, p)| p / g.norm(i)).collect();
        for projection in &projections {
            assert!((projection - projections[0]).abs() < 1e-5 * g.trace().sqrt(), "{what}: {projections:?}");
        }
        // B·G·B = λ_min·I if all eigenvalues count, so the image of b has length √λ_min·‖b‖.
        let eigen = crate::balance::solve::eigen(&g);
        if eigen.significant().count() == g.size() {
            let w = crate::balance::aligned::aligned(&g);
            let smallest = eigen.values.iter().copied().fold(f64::INFINITY, f64::min);
            let expected = smallest / g.size() as f64;
            assert!((g.squared_norm(&w) / expected - 1.0).abs() < 1e-4, "{what}");
        }
    }
}

#[test]
fn famo_favours_the_task_that_falls_slower() {
    let mut balance = start("famo", &KINDS[..2]);
    let (active, losses, after) = ([true; 2], [2.0f32, 2.0], [1.0f32, 1.9]);
    for _ in 0..20 {
        balance.observe(&Signals::of_losses(&active, &losses));
        balance.after_update(&Signals::of_losses(&active, &losses), &after);
    }
    let seam = balance.weights(&Signals::of_losses(&active, &losses)).seam;
    assert!(seam[1] > seam[0] + 0.2, "{seam:?}");
}

/// A weight that grows in each of its task's steps would shrink the weight of tasks that rarely have labels.
#[test]
fn excess_does_not_penalise_absent_tasks() {
    let mut balance = start("excess", &KINDS);
    for step in 0..200 {
        let numbers = Numbers { excess: vec![1.0; 3], ..Numbers::random(3, step) };
        let numbers = if step > 0 && step % 4 != 0 { numbers.without(2) } else { numbers };
        numbers.step(balance.as_mut(), false);
    }
    let even = Numbers { excess: vec![1.0; 3], ..Numbers::random(3, 0) };
    let seam = even.step(balance.as_mut(), false).seam;
    assert!(seam.iter().all(|w| (w - 1.0).abs() < 1e-5), "{seam:?}");
}

/// For methods with shared weights: the weights of a step's tasks change only among themselves, so that absent tasks
/// keep their share.
#[test]
fn learned_shares_keep_their_sum_when_a_task_is_absent() {
    // The weight is the first of this many numbers per task.
    for (name, each) in [("modo", 1), ("sdmgrad", 1), ("gradnorm", 5)] {
        let mut balance = start(name, &KINDS);
        for step in 0..50 {
            let absent = Numbers::random(3, step).without((step % 3) as usize);
            absent.step(balance.as_mut(), false);
            let sum: f64 = balance.state().chunks(each).map(|task| task[0]).sum();
            assert!((sum - 3.0).abs() < 1e-9, "{name}, step {step}: {sum}");
        }
    }
}

#[test]
fn cagrad_is_rescaled_as_its_code_does() {
    let seam = |rescale| {
        let parameters = Parameters { balance_c: Some(0.5), balance_rescale: Some(rescale), ..Parameters::default() };
        Numbers::random(3, 4).step(started(Method::named("cagrad").unwrap(), &KINDS, &parameters).as_mut(), false).seam
    };
    for (rescale, divisor) in [(1.0, 1.25), (2.0, 1.5)] {
        assert!(seam(0.0).iter().zip(seam(rescale)).all(|(a, b)| (a / b - divisor).abs() < 1e-5), "{rescale}");
    }
}

#[test]
fn dwa_is_even_for_two_epochs_and_then_favours_what_falls_slowly() {
    let mut balance = start("dwa", &KINDS[..2]);
    for losses in [[4.0f32, 4.0], [2.0, 3.6]] {
        assert_eq!(weights(balance.as_ref(), &[true; 2]), [1.0; 2]);
        (0..3).for_each(|_| balance.observe(&Signals::of_losses(&[true; 2], &losses)));
        balance.epoch_ended();
    }
    let w = weights(balance.as_ref(), &[true; 2]);
    let share = (0.45f32).exp() / ((0.45f32).exp() + (0.25f32).exp());
    assert!((w[1] - 2.0 * share).abs() < 1e-5, "{w:?}");
}

#[test]
fn pcd_follows_its_primary_task_and_weighs_the_others_alike_without_it() {
    let (pcd, parameters) = (Method::named("pcd").unwrap(), Parameters::default());
    let mut balance = pcd.start(Setup { primary: Some(1), ..setup(pcd, &KINDS, &parameters) }).unwrap();
    let helpful = Numbers { gramian: vec![1.0, 0.5, 0.5, 0.5, 4.0, 0.5, 0.5, 0.5, 1.0], ..Numbers::random(3, 0) };
    assert_eq!(helpful.step(balance.as_mut(), false).seam, [0.0, 1.0, 0.0]);
    assert_eq!(helpful.without(1).step(balance.as_mut(), false).seam, [1.0, 0.0, 1.0]);
    // With a conflict, both tasks make some progress, and the direction is as long as the primary gradient.
    let g = [1.0, -0.5, -0.5, 1.0];
    let opposed = Numbers { gramian: g.to_vec(), ..Numbers::random(2, 0) };
    let seam = opposed.step(start("pcd", &KINDS[..2]).as_mut(), false).seam;
    let w: Vec<f64> = seam.iter().map(|w| f64::from(*w)).collect();
    assert!(dot(&g[2..], &w) > 0.0 && (Gramian::new(2, g.to_vec()).squared_norm(&w) - 1.0).abs() < 1e-6, "{w:?}");
}

#[test]
fn smoothing_keeps_a_share_of_the_last_weights() {
    let parameters = Parameters { balance_smooth: Some(0.75), ..Parameters::default() };
    let method = Method::named("mgda").unwrap();
    let (mut smooth, mut plain) = (started(method, &KINDS, &parameters), start("mgda", &KINDS));
    let mut last: Option<Vec<f32>> = None;
    for step in 0..10 {
        let numbers = Numbers::random(3, step);
        let (got, raw) = (numbers.step(smooth.as_mut(), false).seam, numbers.step(plain.as_mut(), false).seam);
        let expected =
            last.map_or(raw.clone(), |last| last.iter().zip(&raw).map(|(l, r)| 0.75 * l + 0.25 * r).collect());
        assert!(got.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?}, {expected:?}");
        last = Some(got);
    }
}

/// By hand: losses 4 and 1 and gradients of length 1 and 16 give 4^−½ · 1 and 1 · 16^−½, a ratio of 2.
#[test]
fn tempered_weights_follow_roots_of_losses_and_gradients_within_the_cap() {
    let step = |gramian: Option<&[f64]>, balance: &mut dyn Balance| {
        let (active, losses) = ([true; 2], [4.0, 1.0]);
        balance.observe(&Signals { gramian, ..Signals::of_losses(&active, &losses) });
        balance.weights(&Signals::before(&active))
    };
    let gramian = [1.0, 3.0, 3.0, 256.0];
    for (cap, expected) in [(16.0, [4.0 / 3.0, 2.0 / 3.0]), (1.5, [1.2, 0.8])] {
        let parameters = Parameters {
            balance_exponent: Some(0.5),
            balance_gradient_exponent: Some(0.5),
            balance_cap: Some(cap),
            ..Parameters::default()
        };
        let mut balance = started(Method::named("uncertainty-tempered").unwrap(), &KINDS[..2], &parameters);
        // The gradients have not been measured yet.
        assert_eq!(step(None, balance.as_mut()).seam, [1.0, 1.0]);
        let Weights { seam, heads } = step(Some(&gramian), balance.as_mut());
        seam.iter().zip(expected).for_each(|(w, e)| assert!((f64::from(*w) - e).abs() < 1e-6, "{seam:?}"));
        assert_eq!(heads, [1.0, 1.0]);
        // A step without a measurement keeps the last one.
        assert_eq!(step(None, balance.as_mut()).seam, seam);
    }
}

#[test]
fn tempered_weights_without_exponents_are_equal_and_with_one_the_closed_forms() {
    let none =
        Parameters { balance_gradient_exponent: Some(0.0), balance_exponent: Some(0.0), ..Parameters::default() };
    let mut equal = started(Method::named("uncertainty-tempered").unwrap(), &KINDS, &none);
    let one = Parameters { balance_exponent: Some(1.0), balance_cap: Some(100.0), ..none };
    let mut tempered = started(Method::named("uncertainty-tempered").unwrap(), &KINDS, &one);
    let mut closed = start("uncertainty-closed-form", &KINDS);
    // With constant losses the geometric and the arithmetic average are equal.
    let numbers = Numbers::random(3, 4);
    for _ in 0..5 {
        assert_eq!(numbers.step(equal.as_mut(), false).seam, [1.0; 3]);
        let [a, b] = [&mut tempered, &mut closed].map(|balance| numbers.step(balance.as_mut(), false).seam);
        a.iter().zip(&b).for_each(|(a, b)| assert!((a - b).abs() < 1e-5, "{a}, {b}"));
    }
}
