//! A network for training: each head ends with its task's loss, and the backward pass follows.

use super::{Architecture, Freeze, Network};
use crate::error::{Error, Result};
use crate::graph::backward::{self, append_backward};
use crate::ir::{Mode, ValueId};
use crate::tasks::{LabelFeatures, LossSite, TaskLoss};

/// The place where a step can compare the tasks' gradients ([`crate::ir::Segment::Probe`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Probe {
    /// Nowhere.
    #[default]
    None,
    /// At the shared features c3, c4 and c5, where the gradients exist anyway. If the tasks label different images, their
    /// gradients are non-zero in different elements, so that no conflict is visible.
    Features,
    /// At the weight of the trunk's last convolution, which sums over the batch. This needs one weight gradient per task.
    Layer,
    /// The same as `Layer`, and the host can read each task's gradient there.
    LayerGradients,
}

/// A network with losses and its backward pass: segments 1 to 3.
pub struct TrainingNetwork {
    /// The graph and its important values.
    pub network: Network,
    /// One per task.
    pub losses: Vec<TaskLoss>,
    /// With [`Probe::LayerGradients`], the tasks that reach the trunk's last convolution, each with its gradient of that weight.
    pub layer_gradients: Vec<(usize, ValueId)>,
}

impl TrainingNetwork {
    /// Builds the whole step for a batch of `[N, H, W, 3]` images.
    ///
    /// # Errors
    /// The same as [`Architecture::network`].
    pub fn new(architecture: &Architecture, shape: [usize; 3]) -> Result<TrainingNetwork> {
        TrainingNetwork::partly_frozen(architecture, shape, &Freeze::default())
    }

    /// Builds the step like [`TrainingNetwork::new`], with frozen parts of the trunk.
    ///
    /// # Errors
    /// The same as [`Architecture::network`].
    pub fn partly_frozen(architecture: &Architecture, shape: [usize; 3], freeze: &Freeze) -> Result<TrainingNetwork> {
        TrainingNetwork::for_labels(architecture, shape, freeze, LabelFeatures::default(), Probe::None)
    }

    /// Builds the step like [`TrainingNetwork::partly_frozen`], with buffers for label features beyond plain labels, and with a
    /// probe.
    ///
    /// # Errors
    /// The same as [`Architecture::network`]; also a probe in a fully frozen trunk.
    pub fn for_labels(
        architecture: &Architecture,
        shape: [usize; 3],
        freeze: &Freeze,
        labels: LabelFeatures,
        probe: Probe,
    ) -> Result<TrainingNetwork> {
        let mut network = architecture.partly_frozen(shape, Mode::Train, freeze)?;
        let losses = append_losses(&mut network, architecture, shape[0], labels)?;
        let heads: Vec<backward::Head> = network
            .heads
            .iter()
            .enumerate()
            .map(|(task, head)| backward::Head { task, nodes: head.nodes.clone() })
            .collect();
        let place = match probe {
            Probe::None => backward::Probe::None,
            Probe::Features => at_features(&network)?,
            Probe::Layer | Probe::LayerGradients => {
                backward::Probe::Weight(last_shared_weight(architecture, &network)?)
            }
        };
        let trunk = 0..network.trunk_nodes;
        let mut layer_gradients = append_backward(&mut network.graph, trunk, &network.features, &heads, place);
        match probe {
            Probe::LayerGradients => network.graph.outputs.extend(layer_gradients.iter().map(|(_, gradient)| gradient)),
            Probe::None | Probe::Features | Probe::Layer => layer_gradients.clear(),
        }
        Ok(TrainingNetwork { network, losses, layer_gradients })
    }
}

/// Appends each task's loss after its head, for batches of `batch` images.
///
/// # Errors
/// Shapes that do not match.
pub(super) fn append_losses(
    network: &mut Network,
    architecture: &Architecture,
    batch: usize,
    labels: LabelFeatures,
) -> Result<Vec<TaskLoss>> {
    let mut losses = Vec::new();
    for (index, task) in architecture.tasks.iter().enumerate() {
        let first = network.graph.nodes.len();
        let (graph, head) = (&mut network.graph, &network.heads[index].values);
        let loss = task.spec.loss(LossSite { graph, name: &task.name, index, batch, head, labels })?;
        network.graph.outputs.push(loss.loss);
        network.heads[index].nodes.extend(first..network.graph.nodes.len());
        losses.push(loss);
    }
    Ok(losses)
}

/// # Errors
/// All layers of the trunk are frozen.
fn at_features(network: &Network) -> Result<backward::Probe> {
    let learned = network.graph.depends_on_what_learns();
    if network.features.iter().any(|feature| learned[feature.0]) {
        return Ok(backward::Probe::Features);
    }
    Err(Error::Usage(
        "the whole trunk is frozen, so the tasks share nothing that learns and their gradients are not comparable: choose a --balance method without gradients, or freeze less".into(),
    ))
}

/// The weight `[K, R, S, C]` of the trunk's last convolution.
///
/// # Errors
/// This convolution is frozen.
fn last_shared_weight(architecture: &Architecture, network: &Network) -> Result<ValueId> {
    let layer = architecture.backbone.last_convolution();
    let weight = network.graph.parameter_named(&format!("{layer}.weight"));
    let weight = weight.unwrap_or_else(|| unreachable!("every trunk has {layer}"));
    if network.graph.learns(weight) {
        return Ok(weight);
    }
    Err(Error::Usage(format!(
        "{layer}, the last convolution that the tasks share, is frozen, so it has no gradients to compare: freeze less, or choose a --balance method without gradients; a method that needs only their products works with --gramian features"
    )))
}
