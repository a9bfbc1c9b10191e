//! The update against plain f64 loops over several steps, with groups that are scaled, skipped or not decayed.

use super::cpu::*;
use crate::ops::testing::{Expected, Random, check, wide};

/// The length of a flat buffer for two parallel tasks, with gaps between ranges and ranges that cross the tasks' bounds.
const LEN: usize = 40_000;

fn ranges() -> Vec<ParameterRange> {
    [(0, 1, 0, true), (3, 64, 1, false), (70, 33_000, 0, true), (33_072, 16, 2, true), (33_100, 6_000, 1, true)]
        .map(|(start, len, group, decay)| ParameterRange { start, len, group, decay })
        .to_vec()
}

pub(super) fn groups(step: i32) -> Vec<GroupScalars> {
    [(1.0, true, 0.1), (0.3, true, 0.05), (2.0, false, 0.1)]
        .map(|(factor, active, learning_rate)| GroupScalars {
            factor,
            active,
            learning_rate,
            bias_correction1: 1.0 - 0.9f32.powi(step),
            bias_correction2: 1.0 - 0.999f32.powi(step),
        })
        .to_vec()
}

const CLIP: f32 = 0.7;
const STEPS: i32 = 3;

fn start() -> Vec<f32> {
    Random::new(1).vector(LEN, -1.0, 1.0)
}

fn gradients(step: i32) -> Vec<f32> {
    Random::new(100 + step as u64).vector(LEN, -1.0, 1.0)
}

/// Runs `f(gradient, parameter, first state, second state, range, group)` over all active elements and steps, in f64.
fn plain(f: impl Fn(f64, &mut [f64; 3], &ParameterRange, &GroupScalars)) -> [Vec<f64>; 3] {
    let mut state = [wide(&start()), vec![0.0; LEN], vec![0.0; LEN]];
    for step in 1..=STEPS {
        let (gradients, groups) = (gradients(step), groups(step));
        for range in ranges().iter().filter(|range| groups[range.group].active) {
            let group = &groups[range.group];
            for i in range.start..range.start + range.len {
                let mut element = [state[0][i], state[1][i], state[2][i]];
                let gradient = f64::from(gradients[i]) * f64::from(group.factor) * f64::from(CLIP);
                f(gradient, &mut element, range, group);
                for (state, element) in state.iter_mut().zip(element) {
                    state[i] = element;
                }
            }
        }
    }
    state
}

fn decay(range: &ParameterRange, weight_decay: f32) -> f64 {
    if range.decay { f64::from(weight_decay) } else { 0.0 }
}

#[test]
fn sgd_matches_plain_loops() {
    for (momentum, weight_decay) in [(0.0, 0.0), (0.9, 0.01)] {
        let hyper = Sgd { momentum, weight_decay };
        let [parameters, buffer, _] = plain(|g, [p, b, _], range, group| {
            let g = g + decay(range, weight_decay) * *p;
            *b = f64::from(momentum) * *b + g;
            *p -= f64::from(group.learning_rate) * *b;
        });
        // A dozen roundings per step of numbers below 6.
        let operations = 12 * STEPS as usize;
        let expected = [
            Expected::within("parameters", operations, 6.0, parameters),
            Expected::within("momentum", operations, 6.0, buffer),
        ];
        check(&format!("{hyper:?}"), &expected, |cpu| {
            let (mut parameters, mut buffer) = (start(), vec![0.0; LEN]);
            for step in 1..=STEPS {
                let (ranges, groups, mut gradients) = (ranges(), groups(step), gradients(step));
                let update = Update { ranges: &ranges, groups: &groups, clip: CLIP };
                sgd(cpu, &update, &hyper, &mut parameters, &mut gradients, &mut buffer, None);
                assert!(gradients.iter().all(|&g| g == 0.0));
            }
            vec![parameters, buffer]
        });
    }
}

#[test]
fn adamw_matches_plain_loops() {
    let hyper = AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.05 };
    let [parameters, first, second] = plain(|g, [p, m, v], range, group| {
        let (beta1, beta2, rate) = (f64::from(0.9f32), f64::from(0.999f32), f64::from(group.learning_rate));
        *p *= 1.0 - rate * decay(range, 0.05);
        *m = beta1 * *m + (1.0 - beta1) * g;
        *v = beta2 * *v + (1.0 - beta2) * g * g;
        let deviation = (*v / f64::from(group.bias_correction2)).sqrt() + 1e-8;
        *p -= rate * (*m / f64::from(group.bias_correction1)) / deviation;
    });
    // A dozen roundings per step of numbers below 2; a step changes a parameter by about the learning rate.
    let expected = [
        Expected::within("parameters", 12 * STEPS as usize, 2.0, parameters),
        Expected::within("m", 24, 1.0, first),
        Expected::within("v", 24, 1e-2, second),
    ];
    check(&format!("{hyper:?}"), &expected, |cpu| {
        let (mut parameters, mut first, mut second) = (start(), vec![0.0; LEN], vec![0.0; LEN]);
        for step in 1..=STEPS {
            let (ranges, groups, mut gradients) = (ranges(), groups(step), gradients(step));
            let update = Update { ranges: &ranges, groups: &groups, clip: CLIP };
            adamw(cpu, &update, &hyper, &mut parameters, &mut gradients, [&mut first, &mut second], None);
            assert!(gradients.iter().all(|&g| g == 0.0));
        }
        vec![parameters, first, second]
    });
}

/// The bits must stay the same, whatever the gradient holds.
#[test]
fn skipped_groups_do_not_change() {
    check("skipped", &[Expected::exact("changed", vec![0.0])], |cpu| {
        let (mut parameters, mut buffer) = (start(), vec![0.25; LEN]);
        let (ranges, groups, mut gradients) = (ranges(), groups(1), gradients(1));
        let skipped: Vec<usize> = [1, 2, 67, 69, 33_070].into_iter().chain(33_072..33_100).chain(39_100..LEN).collect();
        skipped.iter().for_each(|&i| gradients[i] = f32::NAN);
        let update = Update { ranges: &ranges, groups: &groups, clip: 1.0 };
        let hyper = Sgd { momentum: 0.9, weight_decay: 0.1 };
        sgd(cpu, &update, &hyper, &mut parameters, &mut gradients, &mut buffer, None);
        assert!(gradients.iter().all(|&g| g == 0.0));
        let before = start();
        vec![vec![skipped.iter().filter(|&&i| parameters[i] != before[i] || buffer[i] != 0.25).count() as f32]]
    });
}

#[test]
fn gradient_norm_counts_factors_and_skips_groups() {
    let (ranges, groups) = (ranges(), groups(1));
    let mut gradients = gradients(1);
    gradients[33_080] = f32::NAN;
    gradients[69] = f32::INFINITY;
    let mut sum = 0.0;
    for range in ranges.iter().filter(|range| groups[range.group].active) {
        let factor = f64::from(groups[range.group].factor);
        sum += gradients[range.start..range.start + range.len]
            .iter()
            .map(|&g| (f64::from(g) * factor).powi(2))
            .sum::<f64>();
    }
    // At most 64 squares per f32 sum.
    let expected = [Expected::near("norm", 66, vec![sum.sqrt()])];
    check("gradient norm", &expected, |cpu| vec![vec![gradient_norm(cpu, &ranges, &groups, &gradients) as f32]]);
    check("no parameters", &[Expected::exact("norm", vec![0.0])], |cpu| {
        vec![vec![gradient_norm(cpu, &[], &groups, &[]) as f32]]
    });
}

#[test]
fn ema_matches_plain_loops() {
    for len in [0, 1, 33, 40_001] {
        let mut random = Random::new(len as u64);
        let (values, before) = (random.vector(len, -1.0, 1.0), random.vector(len, -1.0, 1.0));
        let decay = f64::from(0.99f32);
        let after = values.iter().zip(&before).map(|(&v, &e)| decay * f64::from(e) + (1.0 - decay) * f64::from(v));
        check(&format!("ema {len}"), &[Expected::within("ema", 3, 1.0, after.collect())], |cpu| {
            let mut ema = before.clone();
            super::cpu::ema(cpu, 0.99, &values, &mut ema);
            vec![ema]
        });
    }
}

#[test]
fn the_cost_counts_each_pass_over_each_buffer() {
    // 10 parameters: their gradients are read for the norm; gradients, values, averages and one or two moments are read and
    // written. 4 running statistics: they and their averages are read, the averages written. 6 bytes of copies.
    let sgd = 4 * (10 + 2 * 10 * 4 + 3 * 4) + 6;
    let adamw = sgd + 4 * 2 * 10;
    assert_eq!([1, 2].map(|moments| super::cost(10, moments, 4, 6).bytes), [sgd, adamw]);
}

/// One pass or two give the same bits, for frozen parameters too.
#[test]
fn the_average_is_the_same_in_one_pass_and_two() {
    let sgd_rule = Sgd { momentum: 0.9, weight_decay: 0.1 };
    let adamw_rule = AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.05 };
    for adaptive in [false, true] {
        check("average", &[Expected::exact("changed", vec![0.0])], |cpu| {
            let run = |together: bool| {
                let (mut parameters, mut average) = (start(), Random::new(9).vector(LEN, -1.0, 1.0));
                let (mut first, mut second) = (vec![0.1; LEN], vec![0.1; LEN]);
                for step in 1..=STEPS {
                    let (ranges, groups, mut gradients) = (ranges(), groups(step), gradients(step));
                    let update = Update { ranges: &ranges, groups: &groups, clip: CLIP };
                    let follows = together.then_some(Average { decay: 0.9, values: &mut average });
                    let moments = [&mut first[..], &mut second];
                    match adaptive {
                        true => adamw(cpu, &update, &adamw_rule, &mut parameters, &mut gradients, moments, follows),
                        false => sgd(cpu, &update, &sgd_rule, &mut parameters, &mut gradients, &mut first, follows),
                    }
                    if !together {
                        super::cpu::ema(cpu, 0.9, &parameters, &mut average);
                    }
                }
                [parameters, average].concat()
            };
            let (one, two) = (run(true), run(false));
            vec![vec![one.iter().zip(&two).filter(|(a, b)| a.to_bits() != b.to_bits()).count() as f32]]
        });
    }
}
