//! The update's kernels against the CPU's update over several steps, including copies, averages, and values that must not change.

use super::super::cpu;
use super::super::tests::groups;
use super::*;
use crate::device::cpu::Cpu;
use crate::ops::testing::{Board, Expected, Random, check_kernels, wide};

const LEN: usize = 14_896;
const RUNNING_LEN: usize = 1_037;
const STEPS: i32 = 3;
const CLIP_NORM: f32 = 30.0;
const DECAY: f32 = 0.99;
/// The number of activations of all copies: 375 rows of 24, 50 of 8, 64 of 16.
const PACKED: usize = 9_000 + 400 + 1_024;

/// Parameters with one element, with a length that is not a multiple of four, with several pieces and a copy, with channels that
/// are fewer than the copy's, and in groups that are skipped.
fn parameters() -> Vec<Packing> {
    let copy = |start, channels| Some(PackedCopy { start, channels });
    [
        (0, 1, 0, true, None),
        (16, 63, 1, false, None),
        (80, 9_000, 0, true, copy(0, 24)),
        (9_088, 150, 2, true, copy(9_000, 3)),
        (9_248, 640, 1, true, copy(9_400, 10)),
        (9_888, 5_000, 2, true, None),
    ]
    .map(|(start, len, group, decay, copy)| Packing { range: ParameterRange { start, len, group, decay }, copy })
    .to_vec()
}

/// Random numbers in the parameters' ranges, 0 between them.
fn numbers(seed: u64) -> Vec<f32> {
    let mut values = vec![0.0; LEN];
    let mut random = Random::new(seed);
    for ParameterRange { start, len, .. } in parameters().iter().map(|of| of.range) {
        values[start..start + len].copy_from_slice(&random.vector(len, -1.0, 1.0));
    }
    values
}

fn gradients(step: i32) -> Vec<f32> {
    numbers(100 + step as u64)
}

#[derive(Clone, Copy, Debug)]
enum Rule {
    Sgd(Sgd),
    AdamW(AdamW),
}

impl Rule {
    fn scalars(&self, step: &Step) -> Vec<f32> {
        match self {
            Rule::Sgd(rule) => sgd_scalars(rule, step),
            Rule::AdamW(rule) => adamw_scalars(rule, step),
        }
    }

    fn launch(&self, table: &Table, buffers: &Buffers, scalars: Address, outcome: Address) -> Launch {
        match self {
            Rule::Sgd(_) => update_sgd(table, buffers, scalars, outcome),
            Rule::AdamW(_) => update_adamw(table, buffers, scalars, outcome),
        }
    }
}

fn step_of(groups: &[GroupScalars]) -> Step<'_> {
    Step { groups, clip_norm: Some(CLIP_NORM), average_decay: DECAY }
}

/// A Store in a board's device memory.
struct Device {
    table: Table,
    buffers: Buffers,
    running: [Address; 2],
    outcome: Address,
}

impl Device {
    fn new(board: &mut Board) -> Device {
        let pieces = pieces(&parameters());
        let table = Table { pieces: board.bytes(&piece_bytes(&pieces)), len: pieces.len() };
        let buffers = Buffers {
            values: board.floats(&numbers(1)),
            gradients: board.floats(&[0.0; LEN]),
            first_moment: board.floats(&[0.0; LEN]),
            second_moment: board.floats(&[0.0; LEN]),
            average: board.floats(&numbers(2)),
            packed: board.activations(&[0.0; PACKED]),
        };
        let running = [3, 4].map(|seed| board.floats(&Random::new(seed).vector(RUNNING_LEN, -1.0, 1.0)));
        Device { table, buffers, running, outcome: board.poisoned(Outcome::BYTES) }
    }

    /// Runs one step with `gradients`; returns the norm and the clip factor.
    fn step(&mut self, board: &mut Board, rule: &Rule, gradients: &[f32], groups: &[GroupScalars]) -> Outcome {
        self.buffers.gradients = board.floats(gradients);
        let scalars = board.floats(&rule.scalars(&step_of(groups)));
        let workspace = board.poisoned(gradient_norm_workspace(&self.table));
        let [running, average] = self.running;
        let mut launches = gradient_norm(&self.table, scalars, self.buffers.gradients, self.outcome, workspace);
        launches.push(rule.launch(&self.table, &self.buffers, scalars, self.outcome));
        launches.push(ema_running(RUNNING_LEN, running, average, scalars, self.outcome));
        board.run(&launches);
        let bytes = board.read_bytes(self.outcome, Outcome::BYTES);
        Outcome::from_bytes(&bytes.try_into().unwrap())
    }

    /// Values, first and second moments, averages, copies, running averages.
    fn read(&self, board: &Board) -> Vec<Vec<f32>> {
        let Buffers { values, first_moment, second_moment, average, packed, .. } = self.buffers;
        let mut all: Vec<Vec<f32>> =
            [values, first_moment, second_moment, average].map(|buffer| board.read_floats(buffer, LEN)).to_vec();
        all.push(board.read_activations(packed, PACKED));
        all.push(board.read_floats(self.running[1], RUNNING_LEN));
        all
    }
}

/// The copies of `values`, with zeros after the channels of each row.
fn packed(values: &[f32]) -> Vec<f64> {
    let mut packed = vec![0.0; PACKED];
    for Packing { range, copy } in parameters() {
        let Some(PackedCopy { start, channels }) = copy else { continue };
        for i in 0..range.len {
            let at = start + i / channels * channels.next_multiple_of(8) + i % channels;
            packed[at] = f64::from(values[range.start + i]);
        }
    }
    packed
}

/// The same steps on the CPU: the norms, and the buffers that [`Device::read`] returns.
fn on_the_cpu(rule: &Rule) -> (Vec<f32>, Vec<Vec<f32>>) {
    let cpu = Cpu::new(1).unwrap();
    let ranges: Vec<ParameterRange> = parameters().iter().map(|of| of.range).collect();
    let (mut values, mut average) = (numbers(1), numbers(2));
    let (mut first, mut second) = (vec![0.0; LEN], vec![0.0; LEN]);
    let [running, mut running_average] = [3, 4].map(|seed| Random::new(seed).vector(RUNNING_LEN, -1.0, 1.0));
    let mut norms = vec![];
    for step in 1..=STEPS {
        let (groups, mut gradients) = (groups(step), gradients(step));
        let norm = cpu::gradient_norm(&cpu, &ranges, &groups, &gradients);
        let clip = (f64::from(CLIP_NORM) / norm).min(1.0) as f32;
        norms.extend([norm as f32, clip]);
        let update = cpu::Update { ranges: &ranges, groups: &groups, clip };
        let average = Some(cpu::Average { decay: DECAY, values: &mut average });
        match rule {
            Rule::Sgd(rule) => cpu::sgd(&cpu, &update, rule, &mut values, &mut gradients, &mut first, average),
            Rule::AdamW(rule) => {
                cpu::adamw(&cpu, &update, rule, &mut values, &mut gradients, [&mut first, &mut second], average);
            }
        }
        cpu::ema(&cpu, DECAY, &running, &mut running_average);
    }
    (norms, vec![values, first, second, average, running_average])
}

#[test]
fn steps_match_the_cpu() {
    let sgd = |momentum, weight_decay| Rule::Sgd(Sgd { momentum, weight_decay });
    for rule in [
        sgd(0.0, 0.0),
        sgd(0.9, 0.01),
        Rule::AdamW(AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.05 }),
    ] {
        let (norms, state) = on_the_cpu(&rule);
        let [values, first, second, average, running] = &state[..] else { panic!("five buffers") };
        assert!(norms[1] < 0.9, "the gradient is clipped");
        // Each side has a dozen roundings per step, of numbers below 6, and those of its norm: at most 66 and 18.
        let norm = 84;
        let operations = (24 + norm) * STEPS as usize;
        let expected = [
            Expected::near("norms", norm, wide(&norms)),
            Expected::within("values", operations, 6.0, wide(values)),
            Expected::within("first moment", operations, 6.0, wide(first)),
            Expected::within("second moment", operations, 1e-2, wide(second)),
            Expected::within("average", operations, 1.0, wide(average)),
            Expected::new("packed", operations, (packed(values), vec![6.0; PACKED])).stored(),
            Expected::within("running average", 3 * STEPS as usize, 2.0, wide(running)),
        ];
        check_kernels(&format!("{rule:?}"), &expected, |board| {
            let mut device = Device::new(board);
            let mut norms = vec![];
            for step in 1..=STEPS {
                // The gradients of a skipped group are ignored, but set to zero all the same.
                let mut gradients = gradients(step);
                gradients[9_088] = f32::NAN;
                let outcome = device.step(board, &rule, &gradients, &groups(step));
                assert!(outcome.finite);
                norms.extend([outcome.norm as f32, outcome.clip]);
                assert!(board.read_floats(device.buffers.gradients, LEN).iter().all(|&g| g == 0.0));
            }
            let state = device.read(board);
            let start = numbers(1);
            assert_eq!(state[0][9_088..9_238], start[9_088..9_238], "a skipped group does not change");
            [vec![norms], state].concat()
        });
    }
}

#[test]
fn a_norm_that_is_not_finite_changes_nothing() {
    let rules = [
        Rule::Sgd(Sgd { momentum: 0.9, weight_decay: 0.1 }),
        Rule::AdamW(AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.05 }),
    ];
    for rule in rules {
        check_kernels(&format!("not finite: {rule:?}"), &[], |board| {
            let mut device = Device::new(board);
            let before = device.read(board);
            for (at, value) in [(0, f32::NAN), (9_079, f32::INFINITY)] {
                let mut gradients = gradients(1);
                gradients[at] = value;
                assert!(!device.step(board, &rule, &gradients, &groups(1)).finite);
                assert_eq!(device.read(board), before);
                let left = board.read_floats(device.buffers.gradients, LEN);
                assert!(left.iter().zip(&gradients).all(|(a, b)| a.to_bits() == b.to_bits()));
            }
            vec![]
        });
    }
}

#[test]
fn without_a_limit_nothing_is_clipped() {
    let sum: f64 = (gradients(1)[80..9_080].iter().chain(&gradients(1)[..1]).map(|&g| f64::from(g).powi(2))).sum();
    let scaled: f64 =
        gradients(1)[16..79].iter().chain(&gradients(1)[9_248..9_888]).map(|&g| f64::from(g).powi(2)).sum();
    let norm = (sum + scaled * f64::from(0.3f32).powi(2)).sqrt();
    // At most 16 squares per f32 sum, and the conversion of the result to f32.
    let expected = [Expected::near("norm", 18, vec![norm]), Expected::exact("clip", vec![1.0, 1.0])];
    check_kernels("no clip", &expected, |board| {
        let device = Device::new(board);
        let gradients = board.floats(&gradients(1));
        let (mut norms, mut clips) = (vec![], vec![]);
        for clip_norm in [None, Some(1e4)] {
            let groups = groups(1);
            let step = Step { groups: &groups, clip_norm, average_decay: DECAY };
            let rule = Sgd { momentum: 0.0, weight_decay: 0.0 };
            let scalars = sgd_scalars(&rule, &step);
            assert_eq!(scalars.len(), scalars_len(groups.len()));
            let (scalars, workspace) = (board.floats(&scalars), board.poisoned(gradient_norm_workspace(&device.table)));
            board.run(&gradient_norm(&device.table, scalars, gradients, device.outcome, workspace));
            let bytes = board.read_bytes(device.outcome, Outcome::BYTES);
            let outcome = Outcome::from_bytes(&bytes.try_into().unwrap());
            norms.push(outcome.norm as f32);
            clips.push(outcome.clip);
        }
        norms.dedup();
        vec![norms, clips]
    });
}

#[test]
fn copies_are_made_of_any_values() {
    let expected = [Expected::new("packed", 0, (packed(&numbers(2)), vec![0.0; PACKED])).stored()];
    check_kernels("pack", &expected, |board| {
        let device = Device::new(board);
        board.run(&[pack(&device.table, device.buffers.average, device.buffers.packed)]);
        vec![board.read_activations(device.buffers.packed, PACKED)]
    });
}

#[test]
fn pieces_cover_every_parameter_once() {
    let mut seen = vec![0; LEN];
    for piece in pieces(&parameters()) {
        let (start, len) = (piece.start as usize, piece.len as usize);
        assert!(len > 0 && start.is_multiple_of(16));
        seen[start..start + len].iter_mut().for_each(|times| *times += 1);
    }
    for ParameterRange { start, len, .. } in parameters().iter().map(|of| of.range) {
        seen[start..start + len].iter_mut().for_each(|times| *times -= 1);
    }
    assert!(seen.iter().all(|&times| times == 0));
}
