//! Dynamic weight average, DWA: gives more weight to tasks whose loss falls slowly.

use super::present::one_on_average;
use super::solve::softmax;
use super::{Decision, Needs, Present, Rule, SMALLEST_LOSS};

/// Weights K·softmax(r/T) over the K tasks with labels, where r is the mean loss of the last epoch divided by that of the epoch
/// before. They are 1 for the first two epochs. For each task, only epochs that have labels of it count.
///
/// Source: Liu, Johns & Davison 2019, arXiv 1803.10704.
pub struct Dwa {
    temperature: f64,
    tasks: Vec<History>,
}

#[derive(Clone, Copy, Default)]
struct History {
    /// Sum of the current epoch's losses so far.
    sum: f64,
    steps: f64,
    /// Mean losses of the two previous epochs, the latest first; 0 if there is none.
    means: [f64; 2],
}

impl History {
    const STATE: usize = 4;

    /// The ratio r of the task; 1 for a task without a history.
    fn rate(self) -> f64 {
        let [last, before] = self.means;
        if before > 0.0 { last / before } else { 1.0 }
    }
}

impl Dwa {
    /// The state for this many tasks before the first step.
    pub fn new(tasks: usize, temperature: f64) -> Dwa {
        Dwa { temperature, tasks: vec![History::default(); tasks] }
    }
}

impl Rule for Dwa {
    fn needs(&self) -> Needs {
        Needs::State
    }

    fn weights(&self, step: &Present) -> Decision {
        let rates: Vec<f64> = step.tasks.iter().map(|&task| self.tasks[task].rate() / self.temperature).collect();
        Decision::of_losses(one_on_average(softmax(&rates)))
    }

    fn observe(&mut self, step: &Present) {
        for (&task, &loss) in step.tasks.iter().zip(step.losses()) {
            self.tasks[task].sum += loss;
            self.tasks[task].steps += 1.0;
        }
    }

    fn epoch_ended(&mut self) {
        for task in self.tasks.iter_mut().filter(|task| task.steps > 0.0) {
            let mean = (task.sum / task.steps).max(SMALLEST_LOSS);
            *task = History { means: [mean, task.means[0]], ..History::default() };
        }
    }

    fn state(&self) -> Vec<f64> {
        self.tasks.iter().flat_map(|task| [task.sum, task.steps, task.means[0], task.means[1]]).collect()
    }

    fn restore(&mut self, state: &[f64]) {
        let history = |s: &[f64]| History { sum: s[0], steps: s[1], means: [s[2], s[3]] };
        self.tasks = state.chunks(History::STATE).map(history).collect();
    }
}
