//! Shared by the ops' tests: the CPUs they run on, input numbers, and the comparison with f64 references.
//!
//! The bound: n operations in f32, in any order, are off by at most n · u · (the sum of the magnitudes of the terms), with
//! u = 2⁻²⁴ (Higham, Accuracy and Stability of Numerical Algorithms, §3.1).

use crate::device::cpu::{Cpu, Isa};

const UNIT: f64 = 1.0 / (1 << 24) as f64;

mod kernels;
pub(crate) use kernels::{Board, check_kernels};

/// The expected values of one output in f64, and how far f32 may be off.
pub(crate) struct Expected {
    name: &'static str,
    values: Vec<f64>,
    /// For each value, the sum of the magnitudes of its terms.
    magnitudes: Vec<f64>,
    operations: f64,
    /// Whether kernels store it as activations. bf16 then rounds it once, by 2⁻⁹; twice that is allowed.
    activations: bool,
}

impl Expected {
    pub fn new(name: &'static str, operations: usize, (values, magnitudes): (Vec<f64>, Vec<f64>)) -> Expected {
        Expected { name, values, magnitudes, operations: operations as f64, activations: false }
    }

    /// Allows for `operations` roundings of numbers no larger than the result.
    pub fn near(name: &'static str, operations: usize, values: Vec<f64>) -> Expected {
        let magnitudes = values.iter().map(|v| v.abs()).collect();
        Expected::new(name, operations, (values, magnitudes))
    }

    /// Allows for `operations` roundings of numbers up to `magnitude`.
    pub fn within(name: &'static str, operations: usize, magnitude: f64, values: Vec<f64>) -> Expected {
        let magnitudes = vec![magnitude; values.len()];
        Expected::new(name, operations, (values, magnitudes))
    }

    pub fn exact(name: &'static str, values: Vec<f64>) -> Expected {
        Expected::near(name, 0, values)
    }

    /// Marks the output as stored as activations.
    pub fn stored(mut self) -> Expected {
        self.activations = true;
        self
    }

    fn compare(&self, what: &str, got: &[f32], unit: f64) {
        assert_eq!(got.len(), self.values.len(), "{what}: length of {}", self.name);
        for (i, &got) in got.iter().enumerate() {
            let (expected, magnitude) = (self.values[i], self.magnitudes[i]);
            // Results below the smallest normal number have fewer digits.
            let stored = if self.activations { unit * expected.abs() } else { 0.0 };
            let bound = self.operations * UNIT * magnitude + stored + f64::from(f32::MIN_POSITIVE);
            let off = (f64::from(got) - expected).abs();
            let alike = off <= bound || (got.is_nan() && expected.is_nan()) || f64::from(got) == expected;
            assert!(alike, "{what}: {}[{i}] is {got}, not {expected}: {off:e} off, {bound:e} allowed", self.name);
        }
    }
}

/// Runs the op on every instruction set with 1 and 3 threads. Both must give the same bits, and results close to `expected`.
pub(crate) fn check(case: &str, expected: &[Expected], run: impl Fn(&Cpu) -> Vec<Vec<f32>>) {
    for isa in Isa::available() {
        let [one, three] = [1, 3].map(|threads| run(&Cpu::with_isa(threads, isa).unwrap()));
        let what = format!("{case} on {isa:?}");
        assert_eq!(one.len(), expected.len(), "{what}: number of outputs");
        for ((expected, one), three) in expected.iter().zip(&one).zip(&three) {
            expected.compare(&what, one, 0.0);
            let same = one.iter().map(|v| v.to_bits()).eq(three.iter().map(|v| v.to_bits()));
            assert!(same, "{what}: {} differs between 1 and 3 threads", expected.name);
        }
    }
}

/// A small generator of reproducible numbers (SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.bits() % bound as u64) as usize
    }

    /// Uniform in `from..to`.
    pub fn uniform(&mut self, from: f32, to: f32) -> f32 {
        from + (to - from) * (self.bits() >> 40) as f32 / (1 << 24) as f32
    }

    /// Uniform numbers that are exact in bf16, so that one reference serves both precisions.
    pub fn activations(&mut self, len: usize, from: f32, to: f32) -> Vec<f32> {
        (0..len).map(|_| f32::from_bits(self.uniform(from, to).to_bits() & 0xffff_0000)).collect()
    }

    pub fn vector(&mut self, len: usize, from: f32, to: f32) -> Vec<f32> {
        (0..len).map(|_| self.uniform(from, to)).collect()
    }
}

/// An output before an op writes it. It is NaN, because its old contents must not matter.
pub(crate) fn poisoned(len: usize) -> Vec<f32> {
    vec![f32::NAN; len]
}

pub(crate) fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// PyTorch's values and gradients of one loss in f64, from tests/golden/losses.py.
pub(crate) fn golden(loss: &str) -> serde_json::Value {
    let file = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/losses.json"));
    serde_json::from_str::<serde_json::Value>(file).unwrap()[loss].take()
}

/// The numbers of nested lists, in order; null is NaN.
pub(crate) fn numbers(value: &serde_json::Value) -> Vec<f64> {
    match value {
        serde_json::Value::Array(values) => values.iter().flat_map(numbers).collect(),
        value => vec![value.as_f64().unwrap_or(f64::NAN)],
    }
}

pub(crate) fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}
