//! Huber's loss and the squared error against plain f64, the gradient against finite differences in f64, and changes that must
//! not change the loss.

use super::cpu::value_loss;
use crate::ir::ValueLossForm;
use crate::ops::testing::{Expected, Random, check, golden, narrow, numbers, poisoned, wide};

pub(super) fn plain_loss(form: ValueLossForm, values: &[f64], target: &[f32], denominator: f64) -> f64 {
    let entry = |(value, &target): (&f64, &f32)| match (value - f64::from(target)).abs() {
        apart if apart.is_nan() => 0.0,
        apart if form == ValueLossForm::Mse => apart * apart,
        apart if apart < 1.0 => apart * apart / 2.0,
        apart => apart - 0.5,
    };
    values.iter().zip(target).map(entry).sum::<f64>() / denominator
}

fn run(values: &[f32], target: &[f32], denominator: f32) -> Vec<Vec<f32>> {
    run_as(ValueLossForm::Huber, values, target, denominator)
}

fn run_as(form: ValueLossForm, values: &[f32], target: &[f32], denominator: f32) -> Vec<Vec<f32>> {
    let (mut loss, mut dvalues) = (poisoned(1), poisoned(values.len()));
    value_loss(form, [values, target], denominator, &mut loss, &mut dvalues);
    vec![loss, dvalues]
}

#[test]
fn loss_and_gradient_match_f64() {
    let sizes = [(1, 0.5), (5, 2.0), (33, 4.0), (12, 200.0)];
    for (form, (len, spread)) in
        [ValueLossForm::Huber, ValueLossForm::Mse].into_iter().flat_map(|form| sizes.map(|size| (form, size)))
    {
        let mut random = Random::new(len as u64);
        let values = random.vector(len, -spread, spread);
        let target: Vec<f32> =
            (0..len).map(|i| if i % 4 == 2 { f32::NAN } else { random.uniform(-spread, spread) }).collect();
        let mut moving = wide(&values);
        let loss = plain_loss(form, &moving, &target, 7.0);
        let dvalues = (0..len).map(|i| {
            let (old, step) = (moving[i], 1e-6);
            moving[i] = old + step;
            let above = plain_loss(form, &moving, &target, 7.0);
            moving[i] = old - step;
            let below = plain_loss(form, &moving, &target, 7.0);
            moving[i] = old;
            (above - below) / (2.0 * step)
        });
        // One rounding each. Finite differences of a loss up to 200·12/7 are accurate to 1e-8, of squares up to 400²·12/7 to
        // 1e-4.
        let steepest = if form == ValueLossForm::Mse { f64::from(spread * spread).max(1.0) } else { 0.3 };
        let dvalues = Expected::within("dvalues", 2, steepest, dvalues.collect());
        let expected = [Expected::near("loss", 1, vec![loss]), dvalues];
        check(&format!("{form:?} loss {len} ±{spread}"), &expected, |_| run_as(form, &values, &target, 7.0));
    }
}

#[test]
fn nothing_labelled_is_loss_zero() {
    for (target, denominator) in [([f32::NAN; 2], 0.0), ([f32::NAN; 2], 2.0), ([1.0; 2], 0.0)] {
        assert!(run(&[3.0, -1.0], &target, denominator).iter().flatten().all(|&v| v == 0.0));
    }
    assert_eq!(run(&[], &[], 0.0)[0], [0.0]);
}

#[test]
fn unlabelled_entries_change_nothing_and_entries_may_change_places() {
    let target = [0.5, f32::NAN, -2.0];
    let outputs = run(&[1.0, 4.0, 0.25], &target, 2.0);
    assert_eq!(run(&[1.0, f32::NAN, 0.25], &target, 2.0), outputs);
    let turned = run(&[0.25, 4.0, 1.0], &[-2.0, f32::NAN, 0.5], 2.0);
    assert_eq!(turned[0], outputs[0]);
    assert_eq!(turned[1].iter().rev().copied().collect::<Vec<_>>(), outputs[1]);
}

#[test]
fn nan_reaches_the_loss() {
    assert!(run(&[f32::NAN], &[0.0], 1.0)[0][0].is_nan());
    assert!(run_as(ValueLossForm::Mse, &[f32::NAN], &[0.0], 1.0).iter().all(|v| v[0].is_nan()));
}

#[test]
fn loss_and_gradient_match_pytorch() {
    let cases = |name| golden(name).as_array().unwrap().clone();
    let huber = cases("value_loss").into_iter().map(|case| (ValueLossForm::Huber, case));
    for (form, case) in huber.chain(cases("squared_value_loss").into_iter().map(|case| (ValueLossForm::Mse, case))) {
        let (values, target) = (narrow(&numbers(&case["values"])), narrow(&numbers(&case["target"])));
        let denominator = case["denominator"].as_f64().unwrap();
        // Values of a few units with three decimals, which are rounded to f32.
        let expected = [
            Expected::within("loss", 4 * values.len(), 8.0 / denominator, numbers(&case["loss"])),
            Expected::within("gradient", 4, 8.0 / denominator, numbers(&case["gradient"])),
        ];
        check(&case["name"].to_string(), &expected, |_| run_as(form, &values, &target, denominator as f32));
    }
}
