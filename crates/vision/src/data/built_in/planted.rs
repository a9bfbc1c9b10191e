//! More tasks for the built-in set, planted so that it is known how they lie to each other and to the set's own.

use super::scene::{PAPERS, Scene};
use crate::data::random::Random;
use crate::tasks::Content;
use clap::ValueEnum;

/// The planted tasks, by what their labels say. A planted task has a label where the task that it follows from has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Planted {
    /// A regression of minus `sum`: the same question, since a head may turn its own signs
    Negated,
    /// A regression of the `sum` of another image of the split: nothing to learn
    Shuffled,
    /// A regression of twice `sum` and five more: the same question
    Kin,
    /// Two classifications of `paper` that never agree: one of them, drawn image by image, says the paper, the other the next kind
    Rivals,
    /// Two classifications of `paper` that always agree: both say the paper, or on one image of four both the next kind
    Twins,
}

impl Planted {
    /// The names of the tasks, which are also those of their columns.
    pub fn tasks(self) -> &'static [&'static str] {
        match self {
            Planted::Negated => &["negated"],
            Planted::Shuffled => &["shuffled"],
            Planted::Kin => &["kin"],
            Planted::Rivals => &["rival_a", "rival_b"],
            Planted::Twins => &["twin_a", "twin_b"],
        }
    }

    /// Whether the labels follow from `paper`; otherwise from `sum`.
    pub(super) fn follows_paper(self) -> bool {
        matches!(self, Planted::Rivals | Planted::Twins)
    }

    /// One cell per task for a scene that `key` names; for [`Planted::Shuffled`] before the shuffle.
    pub(super) fn cells(self, scene: &Scene, key: &[u64]) -> Vec<String> {
        let sum = scene.sum() as i64;
        match self {
            Planted::Negated => vec![(-sum).to_string()],
            Planted::Shuffled => vec![sum.to_string()],
            Planted::Kin => vec![(2 * sum + 5).to_string()],
            Planted::Rivals | Planted::Twins => {
                let mut draw = Random::new(&[key, &[WHO_IS_RIGHT]].concat());
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

    /// Puts the cells of one split in the order in which they are written; unlabelled images stay so.
    pub(super) fn arrange(self, seed: u64, split: usize, cells: &mut [Option<Vec<String>>]) {
        if self == Planted::Shuffled {
            let mut known: Vec<Vec<String>> = cells.iter().flatten().cloned().collect();
            Random::new(&[seed, split as u64, SHUFFLE]).shuffle(&mut known);
            cells.iter_mut().flatten().zip(known).for_each(|(cell, other)| *cell = other);
        }
    }

    /// The lines of data.yaml that declare the tasks.
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

// These streams of random numbers differ from those that draw the scenes.
const SHUFFLE: u64 = 0x5348_5546;
const WHO_IS_RIGHT: u64 = 0x5249_5641;
