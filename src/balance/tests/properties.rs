//! Properties that hold for every method.

use super::*;

/// Methods whose random order depends on a task's index.
const DRAWN: [&str; 3] = ["random", "pcgrad", "gradvac"];

#[test]
fn names_are_found_and_unknown_ones_listed() {
    for method in METHODS {
        for word in method.aliases.iter().chain([&method.name]) {
            assert_eq!(Method::named(word).unwrap(), method);
        }
    }
    assert_eq!(Method::named("uncertainty").unwrap().name, "uncertainty-closed-form");
    assert!(Method::named("adam").unwrap_err().to_string().contains("mgda"));
    let mut names: Vec<&str> = METHODS.iter().flat_map(|m| m.aliases.iter().copied().chain([m.name])).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
}

#[test]
fn a_parameter_that_is_not_read_or_out_of_range_is_refused() {
    for method in METHODS {
        for parameter in Parameter::ALL {
            let start = |value| {
                let mut parameters = Parameters::default();
                parameters.set(parameter, value)?;
                method.start(setup(method, &KINDS, &parameters))
            };
            let reads = parameter == Parameter::Smooth || method.default(parameter).is_some();
            // 1 is valid for every parameter except the shares below 1; for those 0.5 is.
            let value =
                if matches!(parameter, Parameter::Beta | Parameter::Momentum | Parameter::Smooth | Parameter::Trial) {
                    0.5
                } else {
                    1.0
                };
            match start(value) {
                Ok(_) => assert!(reads, "{method:?} {parameter:?}"),
                Err(error) => {
                    let text = error.to_string();
                    assert!(!reads && text.contains(&parameter.flag()) && text.contains(method.name), "{text}");
                }
            }
            if reads {
                assert!(start(f64::NAN).is_err(), "{method:?} {parameter:?}");
                // Weights may grow with the loss.
                assert!(start(-1.0).is_err() || parameter == Parameter::Exponent, "{method:?} {parameter:?}");
            }
        }
    }
    // Fields that were set without a range check.
    let parameters = Parameters { balance_c: Some(f64::NAN), ..Parameters::default() };
    let cagrad = Method::named("cagrad").unwrap();
    assert!(cagrad.start(setup(cagrad, &KINDS, &parameters)).is_err());
}

#[test]
fn the_primary_task_is_asked_for_and_only_by_the_method_that_has_one() {
    let parameters = Parameters::default();
    for method in METHODS {
        for primary in [None, Some(1)] {
            let started = method.start(Setup { primary, ..setup(method, &KINDS, &parameters) });
            assert_eq!(started.is_ok(), primary.is_some() == (method.name == "pcd"), "{method} {primary:?}");
        }
    }
}

#[test]
fn parameters_change_what_they_name() {
    for method in METHODS {
        for &(parameter, default) in method.reads {
            let mut other = Parameters::default();
            let value = match parameter {
                Parameter::Temperature | Parameter::C | Parameter::Mu => default * 2.0,
                Parameter::Rescale => 2.0,
                Parameter::Alpha => 0.1,
                Parameter::Beta => default / 2.0,
                Parameter::Lr => default / 20.0,
                Parameter::Decay | Parameter::Exponent | Parameter::GradientExponent => default + 1.0,
                Parameter::Cap => 1.1,
                Parameter::Warmup => default + 100.0,
                Parameter::Tau | Parameter::Smooth => default + 0.5,
                Parameter::Rho => default + 50.0,
                Parameter::Lambda => default + 5.0,
                Parameter::Momentum => 0.0,
                Parameter::Iterations => 1.0,
                Parameter::Trial => unreachable!("no method reads it"),
            };
            other.set(parameter, value).unwrap();
            let run = |parameters: &Parameters| {
                let mut balance = started(method, &KINDS, parameters);
                (0..12).map(|i| Numbers::random(3, i).step(balance.as_mut(), i % 4 == 3).seam).collect::<Vec<_>>()
            };
            assert_ne!(run(&Parameters::default()), run(&other), "{method:?} {parameter:?}");
        }
    }
}

#[test]
fn an_absent_task_is_a_task_that_is_not_there() {
    for (method, parameters) in every_method() {
        for absent in 0..3 {
            if method.name == "pcd" && absent == 0 {
                continue; // The primary task, without which the method has no formula.
            }
            let present: Vec<usize> = (0..3).filter(|task| *task != absent).collect();
            let kinds: Vec<Likelihood> = present.iter().map(|&task| KINDS[task]).collect();
            let mut masked = started(method, &KINDS, &parameters);
            let mut two = started(method, &kinds, &parameters);
            for step in 0..60 {
                let numbers = Numbers::random(3, step);
                let what = format!("{method:?} {:?} without {absent}, step {step}", parameters.balance_smooth);
                let got = numbers.clone().without(absent).step(masked.as_mut(), step % 10 == 9);
                let expected = numbers.of(&present).step(two.as_mut(), step % 10 == 9);
                assert_eq!((got.seam[absent], got.heads[absent]), (0.0, 0.0), "{what}");
                for (place, &task) in present.iter().enumerate() {
                    assert_eq!(got.seam[task].to_bits(), expected.seam[place].to_bits(), "{what}");
                    assert_eq!(got.heads[task].to_bits(), expected.heads[place].to_bits(), "{what}");
                }
            }
        }
    }
}

/// The state of one of three tasks. Numbers that belong to no task come last; they are the whole state of a method for zero
/// tasks.
fn state_of(method: &'static Method, state: &[f64], task: usize) -> Vec<u64> {
    let shared = started(method, &[], &Parameters::default()).state().len();
    let each = (state.len() - shared) / 3;
    let mut own = bits(&state[each * task..][..each]);
    if method.name == "gradvac" {
        own.extend((0..3).map(|row| state[3 * row + task].to_bits()));
    }
    own
}

#[test]
fn an_absent_task_keeps_its_state_and_a_step_without_labels_moves_nothing() {
    for method in METHODS {
        for absent in 0..3 {
            let mut balance = started(method, &KINDS, &Parameters::default());
            // Earlier steps with the task, so that there is a state to keep. Not at an epoch's end, which changes every
            // task's state.
            for step in 0..14 {
                Numbers::random(3, step).step(balance.as_mut(), step % 4 == 3);
            }
            let before = balance.state();
            for step in 14..40 {
                Numbers::random(3, step).without(absent).step(balance.as_mut(), false);
            }
            let after = balance.state();
            assert_eq!(state_of(method, &before, absent), state_of(method, &after, absent), "{method:?} {absent}");
            let moves =
                (0..3).filter(|t| *t != absent).any(|t| state_of(method, &before, t) != state_of(method, &after, t));
            // The first two only count steps, and the third's inner descent may stay at a corner.
            let still = ["random", "pcgrad", "sdmgrad"].contains(&method.name);
            assert!(moves || before.is_empty() || still, "{method:?}");

            let nobody = (0..3).fold(Numbers::random(3, 99), Numbers::without);
            let weights = nobody.step(balance.as_mut(), false);
            assert_eq!((weights.seam, weights.heads), (vec![0.0; 3], vec![0.0; 3]), "{method:?}");
            assert_eq!(bits(&balance.state()), bits(&after), "{method:?}");
        }
    }
}

#[test]
fn weights_depend_only_on_the_state_and_the_needed_signals() {
    for (method, parameters) in every_method() {
        let mut balance = started(method, &KINDS, &parameters);
        for step in 0..6 {
            let numbers = Numbers::random(3, step);
            let all = numbers.signals();
            let needed = match balance.needs() {
                Needs::State | Needs::Cross => Signals::before(&numbers.active),
                Needs::Losses => Signals::of_losses(&numbers.active, &numbers.losses),
                Needs::Gramian => Signals { cross: None, excess: None, ..all },
                Needs::Excess => Signals { gramian: None, cross: None, ..all },
            };
            let before = bits(&balance.state());
            assert_eq!(balance.weights(&needed), balance.weights(&all), "{method:?}");
            assert_eq!(bits(&balance.state()), before, "{method:?}");
            numbers.step(balance.as_mut(), step % 2 == 1);
        }
    }
}

#[test]
fn a_restored_state_continues_bit_for_bit() {
    for (method, parameters) in every_method() {
        for cut in [0, 1, 7, 23] {
            let mut balance = started(method, &KINDS, &parameters);
            let numbers = |step: u64| match step % 3 {
                0 => Numbers::random(3, step).without((step % 2) as usize),
                _ => Numbers::random(3, step),
            };
            for step in 0..cut {
                numbers(step).step(balance.as_mut(), step % 5 == 4);
            }
            // Through the checkpoint's text form.
            let text = serde_json::to_string(&balance.state()).unwrap();
            let mut restored = started(method, &KINDS, &parameters);
            restored.restore(&serde_json::from_str::<Vec<f64>>(&text).unwrap()).unwrap();
            for step in cut..cut + 30 {
                let [a, b] = [&mut balance, &mut restored].map(|b| numbers(step).step(b.as_mut(), step % 5 == 4));
                assert_eq!(a, b, "{method:?} {:?} from {cut}, step {step}", parameters.balance_smooth);
                assert_eq!(bits(&balance.state()), bits(&restored.state()), "{method:?}");
            }
            let fresh = started(method, &KINDS, &parameters).state();
            assert!(
                cut < 23 || fresh.is_empty() || bits(&fresh) != bits(&balance.state()),
                "{method:?} learns nothing"
            );
        }
    }
}

#[test]
fn a_state_of_another_method_or_other_tasks_is_refused() {
    for (method, parameters) in every_method() {
        let mut balance = started(method, &KINDS, &parameters);
        assert!(balance.restore(&[1.0]).is_err(), "{method:?}");
        let two = started(method, &KINDS[..2], &parameters).state();
        let three = balance.state().len();
        assert_eq!(balance.restore(&two).is_err(), two.len() != three, "{method:?}");
    }
}

#[test]
fn permuting_tasks_permutes_weights() {
    let order = [2, 0, 1];
    let kinds = order.map(|task| KINDS[task]);
    for (method, parameters) in every_method().filter(|(method, _)| !DRAWN.contains(&method.name)) {
        let mut a = started(method, &KINDS, &parameters);
        // The primary task is the first; in the permuted order its index is 1.
        let primary = (method.name == "pcd").then_some(1);
        let mut b = method.start(Setup { primary, ..setup(method, &kinds, &parameters) }).unwrap();
        for step in 0..40 {
            let numbers = Numbers::random(3, step);
            let x = numbers.step(a.as_mut(), step % 10 == 9);
            let y = numbers.of(&order).step(b.as_mut(), step % 10 == 9);
            for (place, &task) in order.iter().enumerate() {
                // Sums are rounded in another order; MoDo and GradNorm carry the difference along.
                let close = |x: f32, y: f32| (x - y).abs() <= 2e-5 * x.abs().max(1.0);
                assert!(close(x.seam[task], y.seam[place]), "{method:?}, step {step}: {x:?}, {y:?}");
                assert!(close(x.heads[task], y.heads[place]), "{method:?}, step {step}: {x:?}, {y:?}");
            }
        }
    }
}

/// Degenerate Gramians, for which many formulas divide by zero.
fn degenerate(tasks: usize) -> Vec<(&'static str, Vec<f64>)> {
    let of =
        |f: &dyn Fn(usize, usize) -> f64| (0..tasks * tasks).map(|i| f(i / tasks, i % tasks)).collect::<Vec<f64>>();
    let sign = |i: usize| if i.is_multiple_of(2) { 1.0 } else { -1.0 };
    let scaled = |by: f64| Numbers::random(tasks, 5).gramian.iter().map(|g| g * by).collect();
    let noise = |i: usize| 1e-7 * uniform(3, i as u64);
    vec![
        ("zero", of(&|_, _| 0.0)),
        ("one zero gradient", of(&|i, j| if i == j && i > 0 { 1.0 } else { 0.0 })),
        ("parallel", of(&|i, j| ((i + 1) * (j + 1)) as f64)),
        ("opposite", of(&|i, j| sign(i) * sign(j))),
        ("opposite and uneven", of(&|i, j| sign(i) * sign(j) * ((i + 1) * (j + 1)) as f64)),
        // The rounding that f32 sums leave in a rank-one Gramian; it may have negative eigenvalues.
        ("opposite with noise", of(&|i, j| sign(i) * sign(j) + noise(i.min(j) * tasks + i.max(j)))),
        ("uneven", of(&|i, j| if i == j { 1e12f64.powf(1.0 - i as f64) } else { 0.0 })),
        ("large", scaled(1e12)),
        ("small", scaled(1e-12)),
        ("tiny", scaled(1e-60)),
        ("vanishing", scaled(1e-300)),
    ]
}

#[test]
fn weights_are_finite_whatever_the_gradients_and_losses() {
    for (method, parameters) in every_method() {
        for tasks in [1, 2, 3, 16] {
            let likelihoods = vec![Likelihood::Softmax; tasks];
            for (name, gramian) in degenerate(tasks) {
                for loss in [0.0, 1e-30, 1.0, 1e30] {
                    let mut balance = started(method, &likelihoods, &parameters);
                    for step in 0..8 {
                        let mut numbers = Numbers::random(tasks, step);
                        numbers.excess = (0..tasks).map(|i| gramian[i * tasks + i].max(0.0).sqrt()).collect();
                        (numbers.gramian, numbers.cross) = (gramian.clone(), gramian.clone());
                        (numbers.losses[0], numbers.after[tasks - 1]) = (loss, loss);
                        let Weights { seam, heads } = numbers.step(balance.as_mut(), step % 2 == 1);
                        let finite = seam.iter().chain(&heads).all(|w| w.is_finite());
                        assert!(finite, "{method:?} K = {tasks}, {name}, loss {loss}: {seam:?} {heads:?}");
                        assert!(balance.state().iter().all(|s| s.is_finite()), "{method:?} {name} {loss}");
                    }
                }
            }
        }
    }
}

#[test]
fn entries_that_are_not_numbers_do_not_hang() {
    for method in METHODS {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut numbers = Numbers::random(3, 1);
            (numbers.gramian[1], numbers.cross[1], numbers.excess[1], numbers.losses[1]) = (bad, bad, bad, bad as f32);
            numbers.step(started(method, &KINDS, &Parameters::default()).as_mut(), true);
            numbers.gramian.fill(bad);
            numbers.step(started(method, &KINDS, &Parameters::default()).as_mut(), true);
        }
    }
}
