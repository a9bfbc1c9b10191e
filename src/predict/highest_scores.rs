//! Notices whether a detection task found nothing in any image, and how close it came.

use crate::tasks::{Prediction, Task, significant};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The state of each task; workers update it for every image.
pub struct HighestScores {
    tasks: Vec<Highest>,
}

struct Highest {
    /// Whether there is nothing more to find out: the task finds no boxes, or found one.
    is_done: AtomicBool,
    /// The bits of the highest score so far. Scores are not negative, so their bits are ordered like the numbers.
    bits: AtomicU32,
}

impl HighestScores {
    pub fn new(tasks: &[Task]) -> HighestScores {
        let of = |task: &Task| Highest { is_done: AtomicBool::new(!task.spec.finds_boxes()), bits: AtomicU32::new(0) };
        HighestScores { tasks: tasks.iter().map(of).collect() }
    }

    /// Adds an image. `anyway` computes the predictions that a threshold of 0 gives, and is called only if it is needed.
    pub fn add(&self, found: &[Box<dyn Prediction>], anyway: impl FnOnce() -> Vec<Box<dyn Prediction>>) {
        let mut is_open = false;
        for (task, found) in self.tasks.iter().zip(found) {
            if found.best_score().is_some() {
                task.is_done.store(true, Ordering::Relaxed);
            }
            is_open |= !task.is_done.load(Ordering::Relaxed);
        }
        if !is_open {
            return;
        }
        for (task, all) in self.tasks.iter().zip(anyway()) {
            let score = all.best_score().unwrap_or(0.0);
            task.bits.fetch_max(score.to_bits(), Ordering::Relaxed);
        }
    }

    /// A sentence for each task without a box in any image.
    pub fn remarks(&self, tasks: &[Task], threshold: f32) -> Vec<String> {
        let open = self.tasks.iter().zip(tasks).filter(|(state, _)| !state.is_done.load(Ordering::Relaxed));
        let sentence = |(state, task): (&Highest, &Task)| {
            let highest = f32::from_bits(state.bits.load(Ordering::Relaxed));
            // A box above the threshold may be missing for another reason, which the flag would not change.
            (highest <= threshold).then(|| {
                format!(
                    "{}: no box has a score above --conf {threshold}; the highest score is {}: lower --conf to see boxes",
                    task.name,
                    significant(f64::from(highest))
                )
            })
        };
        open.filter_map(sentence).collect()
    }
}
