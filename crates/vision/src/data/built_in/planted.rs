//! Additional tasks for the built-in set with a known relation to each other and to the set's own tasks.

use super::scene::{PAPERS, Scene};
use crate::data::random::Random;
use crate::tasks::Content;
use clap::ValueEnum;

/// The planted tasks by the content of their labels. A planted task is labelled where the task it derives from is
/// labelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Planted {
    /// A regression of minus `sum`: the same task, because a head can flip its sign
    Negated,
    /// A regression of the `sum` of another image of the split: there is nothing to learn
    Shuffled,
    /// A regression of twice `sum` plus five: the same task
    Kin,
    /// Two classifications of `paper` that never agree: per image, a random one has the paper, the other the next kind
    Rivals,
    /// Two classifications of `paper` that always agree: both have the paper or, on one image in four, the next kind
    Twins,
}

impl Planted {
    /// The names of the tasks and of their columns.
    pub fn tasks(self) -> &'static [&'static str] {
        match self {
            Planted::Negated => &["negated"],
            Planted::Shuffled => &["shuffled"],
            Planted::Kin => &["kin"],
            Planted::Rivals => &["rival_a", "rival_b"],
            Planted::Twins => &["twin_a", "twin_b"],
        }
    }

    /// Whether the labels derive from `paper`; otherwise they derive from `sum`.
    pub(super) fn follows_paper(self) -> bool {
        matches!(self, Planted::Rivals | Planted::Twins)
    }

    /// One cell per task for the scene with this `key`; for [`Planted::Shuffled`] before shuffling.
    pub(super) fn cells(self, scene: &Scene, key: &[u64]) -> Vec<String> {
        let sum = scene.sum() as i64;
        match self {
            Planted::Negated => vec![(-sum).to_string()],
            Planted::Shuffled => vec![sum.to_string()],
            Planted::Kin => vec![(2 * sum + 5).to_string()],
            Planted::Rivals | Planted::Twins => {
                let mut draw = Random::new(&[key, &[RIVAL_CHOICE]].concat());
                let further = match self == Planted::Rivals {
                    true => {
                        let coin = draw.below(2);
                        [coin, 1 - coin]
                    }
                    false => [usize::from(draw.below(4) == 0); 2],
                };
                further.map(|further| PAPERS[(scene.paper + further) % PAPERS.len()].to_owned()).into()
            }
        }
    }

    /// Shuffles the cells of one split if the task requires it; unlabelled images stay unlabelled.
    pub(super) fn arrange(self, seed: u64, split: usize, cells: &mut [Option<Vec<String>>]) {
        if self == Planted::Shuffled {
            let mut known: Vec<Vec<String>> = cells.iter().flatten().cloned().collect();
            Random::new(&[seed, split as u64, SHUFFLE]).shuffle(&mut known);
            cells.iter_mut().flatten().zip(known).for_each(|(cell, other)| *cell = other);
        }
    }

    /// The lines that declare the tasks in data.yaml.
    pub(super) fn declared(self) -> String {
        let kind = match self {
            Planted::Negated | Planted::Shuffled | Planted::Kin => format!("{}, ", Content::Values.kind().yaml_word),
            Planted::Rivals | Planted::Twins => {
                let names = PAPERS.join(", ");
                format!("{}, names: [{names}], crop_safe: true, ", Content::Class.kind().yaml_word)
            }
        };
        let line = |name: &&str| format!("  {name}: {{type: {kind}from: {{csv: labels.csv, column: {name}}}}}\n");
        self.tasks().iter().map(line).collect()
    }
}

// Separate the random streams of these tasks from those that draw the scenes.
const SHUFFLE: u64 = 0x5348_5546;
const RIVAL_CHOICE: u64 = 0x5249_5641;
