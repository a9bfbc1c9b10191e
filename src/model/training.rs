//! A network as training runs it: with each task's loss at the end of its head, and the backward pass.

use super::{Architecture, Freeze, Network};
use crate::error::Result;
use crate::graph::backward::{self, append_backward};
use crate::ir::Mode;
use crate::tasks::{LabelFeatures, LossSite, TaskLoss};

/// A network with losses and its backward pass: segments 1 to 3.
pub struct TrainingNetwork {
    /// The graph, and where its parts are.
    pub network: Network,
    /// One per task.
    pub losses: Vec<TaskLoss>,
}

impl TrainingNetwork {
    /// Writes the whole step for a batch of `[N, H, W, 3]` images.
    ///
    /// # Errors
    /// As [`Architecture::network`].
    pub fn new(architecture: &Architecture, shape: [usize; 3]) -> Result<TrainingNetwork> {
        TrainingNetwork::partly_frozen(architecture, shape, &Freeze::default())
    }

    /// As [`TrainingNetwork::new`], of which something stays as it is.
    ///
    /// # Errors
    /// As [`Architecture::network`].
    pub fn partly_frozen(architecture: &Architecture, shape: [usize; 3], freeze: &Freeze) -> Result<TrainingNetwork> {
        TrainingNetwork::for_labels(architecture, shape, freeze, LabelFeatures::default())
    }

    /// As [`TrainingNetwork::partly_frozen`], with room for what labels may be beside the plain ones.
    ///
    /// # Errors
    /// As [`Architecture::network`].
    pub fn for_labels(
        architecture: &Architecture,
        shape: [usize; 3],
        freeze: &Freeze,
        labels: LabelFeatures,
    ) -> Result<TrainingNetwork> {
        let mut network = architecture.partly_frozen(shape, Mode::Train, freeze)?;
        let mut losses = Vec::new();
        for (index, task) in architecture.tasks.iter().enumerate() {
            let first = network.graph.nodes.len();
            let (graph, head) = (&mut network.graph, &network.heads[index].values);
            let site = LossSite { graph, name: &task.name, index, batch: shape[0], head, labels };
            let loss = task.spec.loss(site)?;
            network.graph.outputs.push(loss.loss);
            network.heads[index].nodes.extend(first..network.graph.nodes.len());
            losses.push(loss);
        }
        let heads: Vec<backward::Head> = network
            .heads
            .iter()
            .enumerate()
            .map(|(task, head)| backward::Head { task, nodes: head.nodes.clone() })
            .collect();
        let trunk = 0..network.trunk_nodes;
        append_backward(&mut network.graph, trunk, &network.features, &heads);
        Ok(TrainingNetwork { network, losses })
    }
}
