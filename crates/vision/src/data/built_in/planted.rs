//! A fourth task for the built-in set, planted beside `sum` so that it is known how the two lie to each other.

use super::scene::Scene;
use crate::data::random::Random;
use clap::ValueEnum;

/// What the labels of the planted task say. Each is a number, written for the images whose `sum` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Planted {
    /// Minus `sum`: the same question, since a head may turn its own signs
    Negated,
    /// The `sum` of another image of the split: nothing to learn
    Shuffled,
    /// Twice `sum` and five more: the same question
    Kin,
    /// The sum of 9 minus each digit: both sums grow with the number of digits, and what raises one digit's part lowers it here
    Opposed,
}

impl Planted {
    /// The name of the task, which is also that of its column.
    pub fn name(self) -> &'static str {
        match self {
            Planted::Negated => "negated",
            Planted::Shuffled => "shuffled",
            Planted::Kin => "kin",
            Planted::Opposed => "opposed",
        }
    }

    /// What is true of a scene; for [`Planted::Shuffled`] before the shuffle.
    pub(super) fn label(self, scene: &Scene) -> i64 {
        let [sum, count] = [scene.sum(), scene.digits.len()].map(|number| number as i64);
        match self {
            Planted::Negated => -sum,
            Planted::Shuffled => sum,
            Planted::Kin => 2 * sum + 5,
            Planted::Opposed => 9 * count - sum,
        }
    }

    /// Puts the labels of one split in the order in which they are written; unlabelled images stay so.
    pub(super) fn arrange(self, seed: u64, split: usize, labels: &mut [Option<i64>]) {
        if self == Planted::Shuffled {
            let mut known: Vec<i64> = labels.iter().flatten().copied().collect();
            Random::new(&[seed, split as u64, SHUFFLE]).shuffle(&mut known);
            labels.iter_mut().flatten().zip(known).for_each(|(label, other)| *label = other);
        }
    }
}

/// Sets this stream of random numbers apart from those that draw the scenes.
const SHUFFLE: u64 = 0x5348_5546;
