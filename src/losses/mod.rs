//! What each task's loss is made of: its op at the end of the head, the targets the loader's threads make for it, and what
//! the sum is divided by.

pub mod assign;

use crate::error::Result;
use crate::executor::{Executor, PlanId};
use crate::graph::backward::{self, append_backward};
use crate::ir::{DType, Level, Mode, ValueId};
use crate::model::{Architecture, Freeze, HeadValues, Network, Standardisation};
use crate::ops::{box_loss, class_loss, multi_label_loss, value_loss};
use crate::task::{Label, MixedClass, Task, TaskKind};
use assign::Partial;

/// The host's side of one task's loss.
pub struct TaskLoss {
    /// `[1]`, the task's mean loss.
    pub loss: ValueId,
    pub targets: TargetValues,
}

impl TaskLoss {
    /// Writes a batch's targets where the loss reads them.
    ///
    /// # Errors
    /// A GPU that refuses a call.
    pub fn write(&self, executor: &mut Executor, plan: PlanId, target: &BatchTarget) -> Result<()> {
        match (&self.targets, &target.data) {
            (TargetValues::Class { class: value, weights, mixed }, TargetData::Class { class, other, part }) => {
                if let Some((value, weights)) = weights {
                    executor.write_f32(plan, *value, weights)?;
                }
                if let Some([others, parts]) = mixed {
                    executor.write_i32(plan, *others, other)?;
                    executor.write_f32(plan, *parts, part)?;
                }
                executor.write_i32(plan, *value, class)
            }
            (TargetValues::Values(value), TargetData::Values(values)) => executor.write_f32(plan, *value, values),
            (TargetValues::Cells { class, target, partial }, TargetData::Cells { class: c, target: t, partial: p }) => {
                if let Some(values) = partial {
                    for (value, bits) in values.iter().zip(p) {
                        executor.write_i32(plan, *value, bits)?;
                    }
                }
                executor.write_i32(plan, *class, c)?;
                executor.write_f32(plan, *target, t)
            }
            _ => unreachable!("the encoder was made from the same tasks"),
        }
    }
}

pub enum TargetValues {
    /// i32 `[N]`, −1 unlabelled; f32 `[K]` with what is written there, where classes are weighted; i32 `[N]`, the other class or
    /// −1, and f32 `[N]`, the first one's part, where labels may be mixed.
    Class { class: ValueId, weights: Option<(ValueId, Vec<f32>)>, mixed: Option<[ValueId; 2]> },
    /// f32 `[N, R]`, standardised, or `[N, K]`, 1 there and 0 absent; NaN unlabelled.
    Values(ValueId),
    /// i32 `[N, A]`: class, −1 background, −2 ignored or unlabelled; f32 `[N, A, 4]` xyxy in network pixels; i32 `[N, A]`, a cell's
    /// regions, and `[N, C]`, those that leave a class out, where images may be annotated for some classes only.
    Cells { class: ValueId, target: ValueId, partial: Option<[ValueId; 2]> },
}

/// What labels may be beside the plain ones; only then is there room for it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LabelKinds {
    pub classes: ClassLabels,
    pub boxes: BoxLabels,
}

/// Whether an image may be of two classes at once, as mix-up makes them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum ClassLabels {
    #[default]
    Single,
    Mixed,
}

/// Whether an image may be annotated for some classes only.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum BoxLabels {
    #[default]
    Whole,
    Partial,
}

/// A network with losses and its backward pass: segments 1 to 3.
pub struct TrainingNetwork {
    pub network: Network,
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
        TrainingNetwork::for_labels(architecture, shape, freeze, LabelKinds::default())
    }

    /// As [`TrainingNetwork::partly_frozen`], for labels of these kinds.
    ///
    /// # Errors
    /// As [`Architecture::network`].
    pub fn for_labels(
        architecture: &Architecture,
        shape: [usize; 3],
        freeze: &Freeze,
        labels: LabelKinds,
    ) -> Result<TrainingNetwork> {
        let mut network = architecture.partly_frozen(shape, Mode::Train, freeze)?;
        let mut losses = Vec::new();
        for (index, task) in architecture.tasks.iter().enumerate() {
            let first = network.graph.nodes.len();
            let loss = append_loss(&mut network, task, index, shape[0], labels)?;
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

fn append_loss(network: &mut Network, task: &Task, index: usize, n: usize, labels: LabelKinds) -> Result<TaskLoss> {
    let graph = &mut network.graph;
    let name = |what: &str| format!("{}.{what}", task.name);
    Ok(match &network.heads[index].values {
        HeadValues::Classify { logits } if matches!(task.kind, TaskKind::MultiLabel { .. }) => {
            let shape = graph.shape(*logits).to_vec();
            let target = graph.input(&name("target"), &shape, DType::F32);
            let loss = multi_label_loss::multi_label_loss(graph, *logits, target, index)?;
            TaskLoss { loss, targets: TargetValues::Values(target) }
        }
        HeadValues::Classify { logits } => {
            let class = graph.input(&name("class"), &[n], DType::I32);
            let weights = task.loss.class_weights.as_ref().map(|weights| {
                let value = graph.input(&name("class_weights"), &[weights.len()], DType::F32);
                (value, weights.clone())
            });
            let (weighted, smoothing) = (weights.as_ref().map(|w| w.0), task.loss.label_smoothing);
            let mixed = (labels.classes == ClassLabels::Mixed).then(|| {
                [graph.input(&name("other_class"), &[n], DType::I32), graph.input(&name("part"), &[n], DType::F32)]
            });
            let loss = class_loss::class_loss(graph, *logits, class, weighted, mixed, smoothing, index)?;
            TaskLoss { loss, targets: TargetValues::Class { class, weights, mixed } }
        }
        HeadValues::Regress { values } => {
            let shape = graph.shape(*values).to_vec();
            let target = graph.input(&name("target"), &shape, DType::F32);
            let loss = value_loss::value_loss(graph, *values, target, task.loss.values, index)?;
            TaskLoss { loss, targets: TargetValues::Values(target) }
        }
        HeadValues::Detect { class_logits, box_logits, levels } => {
            let [cells, classes] = [1, 2].map(|axis| graph.shape(*class_logits)[axis]);
            let class = graph.input(&name("class"), &[n, cells], DType::I32);
            let target = graph.input(&name("target"), &[n, cells, 4], DType::F32);
            let partial = (labels.boxes == BoxLabels::Partial).then(|| {
                let mut input = |what, width| graph.input(&name(what), &[n, width], DType::I32);
                [input("regions", cells), input("left_out", classes)]
            });
            let logits = [*class_logits, *box_logits];
            let loss = box_loss::box_loss(graph, logits, [class, target], partial, levels, index)?;
            TaskLoss { loss: loss.loss, targets: TargetValues::Cells { class, target, partial } }
        }
    })
}

/// One image's target for one task, made by a loader thread.
#[derive(Clone, Debug, PartialEq)]
pub enum Encoded {
    /// −1 unlabelled. Of a mixed label also the other class (else −1) and the first one's part.
    Class {
        class: i32,
        weight: f32,
        other: i32,
        part: f32,
    },
    Values(Vec<f32>),
    Cells {
        class: Vec<i32>,
        target: Vec<[f32; 4]>,
        foreground: usize,
        labelled: bool,
        /// Of the task.
        classes: usize,
        /// Of an image annotated for some classes only.
        partial: Option<Partial>,
    },
}

/// Turns labels in network pixels into targets.
#[derive(Clone, Debug)]
pub struct Encoder {
    pub tasks: Vec<Task>,
    pub levels: Vec<Level>,
    /// One per task, `None` where it is no regression.
    pub standardisation: Vec<Option<Standardisation>>,
}

impl Encoder {
    pub fn encode(&self, labels: &[Label]) -> Vec<Encoded> {
        (0..self.tasks.len()).map(|i| self.encode_one(i, &labels[i])).collect()
    }

    fn weight(&self, index: usize, class: usize) -> f32 {
        self.tasks[index].loss.class_weights.as_ref().map_or(1.0, |w| w[class])
    }

    fn encode_one(&self, index: usize, label: &Label) -> Encoded {
        match (&self.tasks[index].kind, label) {
            (TaskKind::Classify { .. }, Label::Class(class)) => {
                Encoded::Class { class: *class as i32, weight: self.weight(index, *class), other: -1, part: 1.0 }
            }
            (TaskKind::Classify { .. }, Label::Mixed(MixedClass { classes: [class, other], share })) => {
                let weight = share * self.weight(index, *class) + (1.0 - share) * self.weight(index, *other);
                Encoded::Class { class: *class as i32, weight, other: *other as i32, part: *share }
            }
            (TaskKind::Classify { .. }, _) => Encoded::Class { class: -1, weight: 0.0, other: -1, part: 1.0 },
            (TaskKind::MultiLabel { .. }, Label::Classes(classes)) => {
                let target = |there: &Option<bool>| there.map_or(f32::NAN, |there| f32::from(u8::from(there)));
                Encoded::Values(classes.iter().map(target).collect())
            }
            (TaskKind::MultiLabel { classes }, _) => Encoded::Values(vec![f32::NAN; classes.len()]),
            (TaskKind::Regress { columns, .. }, label) => {
                let values = match label {
                    Label::Values(values) => values.clone(),
                    _ => vec![f32::NAN; columns.len()],
                };
                let fitted = &self.standardisation[index];
                let standardised = values.iter().enumerate().map(|(column, &v)| match fitted {
                    Some(fitted) => fitted.apply(v, column),
                    None => v,
                });
                Encoded::Values(standardised.collect())
            }
            (TaskKind::Detect { classes }, Label::Boxes(boxes)) => {
                let assigned = assign::assign(&self.levels, boxes);
                Encoded::Cells {
                    class: assigned.class,
                    target: assigned.target,
                    foreground: assigned.num_foreground,
                    labelled: true,
                    classes: classes.len(),
                    partial: assign::partial(&self.levels, &boxes.partial, classes.len()),
                }
            }
            (TaskKind::Detect { classes }, _) => {
                let cells = self.levels.iter().map(|l| l.h * l.w).sum();
                let (class, target) = (vec![-2; cells], vec![[0.0; 4]; cells]);
                Encoded::Cells { class, target, foreground: 0, labelled: false, classes: classes.len(), partial: None }
            }
        }
    }
}

/// A batch's targets for one task, side by side, with what its loss is divided by.
pub struct BatchTarget {
    pub data: TargetData,
    /// Labelled images (their classes' weights added up), labelled values or classes, or foreground cells.
    pub denominator: f32,
    /// Whether any image of the batch is labelled: a task without labels takes no part in the step.
    pub active: bool,
}

pub enum TargetData {
    Class {
        class: Vec<i32>,
        other: Vec<i32>,
        part: Vec<f32>,
    },
    Values(Vec<f32>),
    /// `partial`: of every image its cells' regions and the classes they leave out.
    Cells {
        class: Vec<i32>,
        target: Vec<f32>,
        partial: [Vec<i32>; 2],
    },
}

/// Gathers task `index` of a batch's images.
pub fn gather<'a>(images: impl Iterator<Item = &'a Vec<Encoded>>, index: usize) -> BatchTarget {
    let (mut classes, mut values, mut targets) = (Vec::new(), Vec::new(), Vec::new());
    let (mut others, mut parts, mut bits) = (Vec::new(), Vec::new(), [Vec::new(), Vec::new()]);
    let (mut denominator, mut active) = (0.0, false);
    let mut kind = None;
    for image in images {
        match &image[index] {
            Encoded::Class { class, weight, other, part } => {
                classes.push(*class);
                others.push(*other);
                parts.push(*part);
                denominator += weight;
                active |= *class >= 0;
            }
            Encoded::Values(v) => {
                let labelled = v.iter().filter(|v| !v.is_nan()).count();
                values.extend_from_slice(v);
                denominator += labelled as f32;
                active |= labelled > 0;
            }
            Encoded::Cells { class, target, foreground, labelled, classes: num_classes, partial } => {
                classes.extend_from_slice(class);
                targets.extend(target.iter().flatten());
                denominator += *foreground as f32;
                active |= labelled;
                let [regions, left_out] = &mut bits;
                match partial {
                    Some(partial) => {
                        regions.extend_from_slice(&partial.regions);
                        left_out.extend_from_slice(&partial.left_out);
                    }
                    None => {
                        regions.resize(classes.len(), 0);
                        left_out.resize(left_out.len() + num_classes, 0);
                    }
                }
            }
        }
        kind.get_or_insert(&image[index]);
    }
    let data = match kind {
        Some(Encoded::Values(_)) => TargetData::Values(values),
        Some(Encoded::Cells { .. }) => TargetData::Cells { class: classes, target: targets, partial: bits },
        _ => TargetData::Class { class: classes, other: others, part: parts },
    };
    BatchTarget { data, denominator, active }
}
