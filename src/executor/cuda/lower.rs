//! From a node to the launches that compute it: one arm per op kind, inputs and outputs in the order the op's contract names.

use super::cudnn;
use super::layout::Layout;
use super::memory::{Block, DeviceStore, ScalarsAt};
use super::tuning::{Choice, Tuning};
use crate::device::cuda::{Address, Launch, Precision, Work, work};
use crate::graph::ir::{ConvEpilogue, DgradEpilogue, Node, Op, Place, TermForm, ValueId};
use crate::ops::conv2d::cuda::{Tile, WgradPlan};
use crate::ops::{
    batch_norm, box_loss, class_loss, combine, concat, conv2d, group_norm, linear, multi_label_loss, pool, preprocess,
    upsample, value_loss,
};

/// What computes node `index`.
pub fn node(layout: &Layout, memory: &DeviceStore, tuning: &Tuning, precision: Precision, index: usize) -> Vec<Work> {
    let node = &layout.physical.nodes[index];
    let choice = tuning.choice(layout, precision, node);
    Lowering { layout, memory, precision, node, choice }.work()
}

/// What computes the convolution `index` by `choice`, to be timed: a weight gradient is added up behind its splits' sums,
/// not in the Store.
pub fn trial(layout: &Layout, memory: &DeviceStore, precision: Precision, index: usize, choice: Choice) -> Vec<Work> {
    let node = &layout.physical.nodes[index];
    let lowering = Lowering { layout, memory, precision, node, choice: Some(choice) };
    match choice {
        Choice::Tile(_) | Choice::Cudnn { .. } => lowering.work(),
        Choice::Wgrad(plan) => work(lowering.wgrad(Block::Workspace.at(plan.workspace(&layout.problem(node))))),
    }
}

/// Node `index` by cuDNN without its epilogue, where cuDNN knows it: a measuring stick, which leaves other numbers behind.
pub fn plain_by_cudnn(layout: &Layout, memory: &DeviceStore, precision: Precision, index: usize) -> Option<Work> {
    let node = &layout.physical.nodes[index];
    let (direction, sizes) = cudnn::question(layout, precision, node)?;
    let lowering = Lowering { layout, memory, precision, node, choice: None };
    Some(Work::Convolution(lowering.plain_by_cudnn(direction, sizes)))
}

/// Bytes of workspace a [`trial`] needs.
pub fn trial_bytes(layout: &Layout, node: &Node, choice: Choice) -> usize {
    match choice {
        Choice::Tile(_) => 0,
        Choice::Cudnn { workspace_bytes } => workspace_bytes,
        // The gradient is as large as one split's sums.
        Choice::Wgrad(plan) => WgradPlan { splits: plan.splits + 1, ..plan }.workspace(&layout.problem(node)),
    }
}

/// Where a value lies.
pub fn address(layout: &Layout, memory: &DeviceStore, value: ValueId) -> Address {
    match layout.physical.value(value).place {
        Place::Batch => Block::Batch.at(layout.batch[&value]),
        Place::Parameter(id) => memory.parameter(id),
        Place::Gradient(id) => memory.gradient(id),
        Place::Buffer(id) => memory.buffer(id),
        Place::Arena => {
            let offset = layout.plan.offsets[value.0];
            Block::Arena.at(offset.unwrap_or_else(|| unreachable!("every value a node touches is placed")))
        }
    }
}

/// Scratch a plan's nodes need while they run.
pub fn workspace_bytes(layout: &Layout, tuning: &Tuning, precision: Precision) -> usize {
    let nodes = layout.physical.nodes.iter();
    nodes.map(|node| node_workspace_bytes(layout, tuning.choice(layout, precision, node), node)).max().unwrap_or(0)
}

fn node_workspace_bytes(layout: &Layout, choice: Option<Choice>, node: &Node) -> usize {
    let shape = |value: ValueId| layout.physical.shape(value);
    match choice {
        Some(Choice::Wgrad(plan)) => return plan.workspace(&layout.problem(node)),
        Some(Choice::Cudnn { workspace_bytes }) => return workspace_bytes,
        _ => {}
    }
    match &node.op {
        Op::ChannelSum => linear::cuda::channel_sum_workspace(rows(shape(node.inputs[0]))),
        Op::GroupNormRelu { groups } => {
            group_norm::cuda::forward_workspace(&group_norm_shape(shape(node.inputs[0]), *groups))
        }
        Op::GroupNormReluBackward { groups } => {
            group_norm::cuda::backward_workspace(&group_norm_shape(shape(node.inputs[0]), *groups))
        }
        Op::ConcatLevelsBackward => {
            let dout = shape(node.inputs[0]);
            let cells = node.inputs[1..].iter().map(|&v| shape(v)).filter(|s| s.len() == 4).map(|s| s[1] * s[2]);
            // Only the levels' sizes count here.
            let level = |cells| concat::cuda::Level { x: Block::Arena.at(0), cells, scale: None };
            concat::cuda::backward_workspace(dout[0], dout[2], &cells.map(level).collect::<Vec<_>>())
        }
        Op::ClassLoss { .. } => class_loss::cuda::class_loss_workspace(shape(node.inputs[0])[0]),
        Op::MultiLabelLoss { .. } => {
            let logits = shape(node.inputs[0]);
            multi_label_loss::cuda::multi_label_loss_workspace(logits[0] * logits[1])
        }
        Op::BoxLoss { levels, .. } => {
            let logits = shape(node.inputs[0]);
            box_loss::cuda::box_loss_workspace([logits[0], logits[2]], levels)
        }
        _ => 0,
    }
}

/// A shape as a matrix `[rows, C]`.
fn rows(shape: &[usize]) -> [usize; 2] {
    let c = shape[shape.len() - 1];
    [shape.iter().product::<usize>() / c, c]
}

fn group_norm_shape(x: &[usize], groups: usize) -> group_norm::cpu::Shape {
    group_norm::cpu::Shape { n: x[0], hw: x[1] * x[2], c: x[3], groups }
}

fn image(shape: &[usize]) -> [usize; 4] {
    [shape[0], shape[1], shape[2], shape[3]]
}

pub(super) struct Lowering<'a> {
    pub layout: &'a Layout,
    memory: &'a DeviceStore,
    pub precision: Precision,
    pub node: &'a Node,
    /// Of a convolution.
    choice: Option<Choice>,
}

impl Lowering<'_> {
    fn address(&self, value: ValueId) -> Address {
        address(self.layout, self.memory, value)
    }

    pub fn input(&self, index: usize) -> Address {
        self.address(self.node.inputs[index])
    }

    pub fn output(&self, index: usize) -> Address {
        self.address(self.node.outputs[index])
    }

    /// A shape as it lies in memory.
    fn shape(&self, value: ValueId) -> &[usize] {
        self.layout.physical.shape(value)
    }

    /// A shape without padding.
    fn logical(&self, value: ValueId) -> &[usize] {
        self.layout.logical.shape(value)
    }

    pub fn rows(&self, value: ValueId) -> [usize; 2] {
        rows(self.shape(value))
    }

    /// The weight a convolution reads, as it reads it.
    pub fn weight(&self) -> Address {
        match self.layout.physical.value(self.node.inputs[1]).place {
            Place::Parameter(id) => self.memory.packed(id),
            _ => unreachable!("a convolution's weight is a parameter"),
        }
    }

    fn tile(&self) -> Tile {
        match self.choice {
            Some(Choice::Tile(tile)) => tile,
            _ => unreachable!("a choice suits its node"),
        }
    }

    fn denominator(&self, task: usize) -> Address {
        Block::Scalars.at(ScalarsAt::DENOMINATORS + 4 * task)
    }

    fn fprop(&self, epilogue: ConvEpilogue) -> Vec<Launch> {
        let epilogue = match epilogue {
            ConvEpilogue::Plain => conv2d::cuda::FpropEpilogue::Plain,
            ConvEpilogue::Bias => conv2d::cuda::FpropEpilogue::Bias {
                bias: self.input(2),
                channels: self.logical(self.node.inputs[2])[0],
            },
            ConvEpilogue::Statistics => conv2d::cuda::FpropEpilogue::Statistics { partials: self.output(1) },
            ConvEpilogue::Affine { residual, relu } => conv2d::cuda::FpropEpilogue::Affine {
                affine: self.input(2),
                residual: residual.then(|| self.input(3)),
                relu,
            },
        };
        let problem = self.layout.problem(self.node);
        let operands = [self.input(0), self.weight()];
        conv2d::cuda::fprop(self.precision, &problem, self.tile(), operands, epilogue, self.output(0))
    }

    fn dgrad(&self, epilogue: DgradEpilogue) -> Vec<Launch> {
        let mut rest = 2..self.node.inputs.len();
        let mut next = || {
            let index = rest.next().unwrap_or_else(|| unreachable!("fuse gives as many inputs as the epilogue names"));
            self.input(index)
        };
        let epilogue = match epilogue {
            DgradEpilogue::Plain { addend } => conv2d::cuda::DgradEpilogue::Plain { addend: addend.then(&mut next) },
            DgradEpilogue::Reduce { addend, relu } => conv2d::cuda::DgradEpilogue::Reduce {
                addend: addend.then(&mut next),
                mask: relu.then(&mut next),
                y: next(),
                moments: next(),
                partials: self.output(1),
            },
        };
        let problem = self.layout.problem(self.node);
        let operands = [self.input(0), self.weight()];
        conv2d::cuda::dgrad(self.precision, &problem, self.tile(), operands, epilogue, self.output(0))
    }

    fn wgrad(&self, gradient: Address) -> Vec<Launch> {
        let Some(Choice::Wgrad(plan)) = self.choice else { unreachable!("a choice suits its node") };
        let problem = self.layout.problem(self.node);
        let shape = self.logical(self.node.outputs[0]);
        let (logical, operands) = ([shape[0], shape[3]], [self.input(0), self.input(1)]);
        plan.launches(self.precision, &problem, logical, operands, Block::Workspace.at(0), gradient)
    }

    fn work(&self) -> Vec<Work> {
        match self.choice {
            Some(Choice::Cudnn { .. }) => self.by_cudnn(),
            _ => work(self.launches()),
        }
    }

    fn launches(&self) -> Vec<Launch> {
        let (i, o) = (&self.node.inputs, &self.node.outputs);
        let (input, output) = (|index| self.input(index), |index| self.output(index));
        let workspace = Block::Workspace.at(0);
        match &self.node.op {
            Op::Conv2d(_, epilogue) => self.fprop(*epilogue),
            Op::Conv2dDgrad(_, epilogue) => self.dgrad(*epilogue),
            Op::Conv2dWgrad(_) => self.wgrad(output(0)),
            Op::ChannelSum => {
                let channels = self.logical(o[0])[0];
                linear::cuda::channel_sum(self.rows(i[0]), channels, input(0), output(0), workspace)
            }
            Op::BatchNormStatistics
            | Op::BatchNormFinish
            | Op::BatchNormFold
            | Op::BatchNormApply { .. }
            | Op::BatchNormReduce { .. }
            | Op::BatchNormBackwardFinish
            | Op::BatchNormBackwardApply
            | Op::BatchNormApplyBackward { .. } => vec![self.batch_norm()],
            Op::GroupNormRelu { .. } | Op::GroupNormReluBackward { .. } => self.group_norm(),
            Op::ClassLoss { .. } | Op::MultiLabelLoss { .. } | Op::ValueLoss { .. } | Op::BoxLoss { .. } => self.loss(),
            Op::ConcatLevels | Op::ConcatLevelsBackward => self.concat(),
            Op::Preprocess => {
                let (mean, deviation) = (preprocess::MEAN, preprocess::DEVIATION);
                let [pixels, _] = self.rows(i[0]);
                vec![preprocess::cuda::normalise(pixels, mean, deviation, input(0), output(0))]
            }
            Op::MaxPool => {
                vec![pool::cuda::max_pool(
                    image(self.shape(i[0])),
                    input(0),
                    output(0),
                    (o.len() > 1).then(|| output(1)),
                )]
            }
            Op::MaxPoolBackward => {
                vec![pool::cuda::max_pool_backward(image(self.shape(o[0])), input(0), input(1), output(0))]
            }
            Op::GlobalPool => {
                let [n, h, w, c] = image(self.shape(i[0]));
                vec![pool::cuda::global_pool([n, h * w, c], input(0), output(0))]
            }
            Op::Dropout { probability, salt } => {
                let (len, counter) = (self.layout.physical.value(i[0]).len(), Block::Scalars.at(ScalarsAt::DROPOUT));
                vec![pool::cuda::dropout(len, counter, *salt, *probability, input(0), output(0))]
            }
            Op::Linear => {
                let ([n, c], [_, k]) = (self.rows(i[0]), self.rows(o[0]));
                vec![linear::cuda::forward([n, c, k], input(0), input(1), input(2), output(0))]
            }
            Op::LinearBackward { input_gradient } => {
                let ([n, k], [_, c]) = (self.rows(i[0]), self.rows(i[1]));
                let dx = input_gradient.then(|| output(2));
                let inputs = [input(0), input(1), input(2)];
                linear::cuda::backward([n, c, k], inputs, dx, [output(0), output(1)])
            }
            Op::UpsampleAdd => {
                let shape = upsample_shape(self.shape(i[0]), self.shape(o[0]));
                vec![upsample::cuda::add(&shape, input(0), input(1), output(0))]
            }
            Op::UpsampleBackward => {
                let shape = upsample_shape(self.shape(o[0]), self.shape(i[0]));
                vec![upsample::cuda::backward(&shape, input(0), output(0))]
            }
            Op::Combine { terms } => {
                let term = |(index, &(task, form)): (usize, &(usize, TermForm))| combine::cuda::Term {
                    task,
                    form,
                    gradient: input(index),
                };
                let terms: Vec<combine::cuda::Term> = terms.iter().enumerate().map(term).collect();
                let [n, h, w, c] = image(self.shape(o[0]));
                let weights = Block::Scalars.at(ScalarsAt::TASK_WEIGHTS);
                vec![combine::cuda::combine([n, h * w, c], &terms, weights, output(0))]
            }
            Op::Add => {
                let value = self.layout.physical.value(o[0]);
                let add = if value.shape.len() == 4 { combine::cuda::add } else { combine::cuda::add_floats };
                vec![add(value.len(), input(0), input(1), output(0))]
            }
        }
    }

    fn batch_norm(&self) -> Launch {
        let i = &self.node.inputs;
        let (input, output) = (|index| self.input(index), |index| self.output(index));
        let parameters = |gamma, beta| batch_norm::cuda::Parameters { gamma, beta, epsilon: batch_norm::EPSILON };
        match self.node.op {
            Op::BatchNormStatistics => batch_norm::cuda::statistics(self.rows(i[0]), input(0), output(0)),
            Op::BatchNormFinish => {
                let (mean, variance, momentum) = (input(3), input(4), batch_norm::MOMENTUM);
                let running = batch_norm::cuda::Running { mean, variance, momentum };
                let parameters = parameters(input(1), input(2));
                batch_norm::cuda::finish(self.rows(i[5]), input(0), &parameters, &running, output(0), output(1))
            }
            Op::BatchNormFold => {
                let parameters = parameters(input(0), input(1));
                batch_norm::cuda::fold(self.shape(i[0])[0], &parameters, input(2), input(3), output(0))
            }
            Op::BatchNormApply { residual, relu } => {
                let residual = residual.then(|| input(2));
                batch_norm::cuda::apply(self.rows(i[0]), input(0), input(1), residual, relu, output(0))
            }
            Op::BatchNormReduce { relu: true } => {
                let inputs =
                    batch_norm::cuda::Reduce { g: input(0), z: Some(input(1)), y: input(2), moments: input(3) };
                batch_norm::cuda::reduce(self.rows(i[0]), &inputs, Some(output(0)), output(1))
            }
            Op::BatchNormReduce { relu: false } => {
                let inputs = batch_norm::cuda::Reduce { g: input(0), z: None, y: input(1), moments: input(2) };
                batch_norm::cuda::reduce(self.rows(i[0]), &inputs, None, output(0))
            }
            Op::BatchNormBackwardFinish => {
                let blocks = self.shape(i[0])[0];
                let (partials, moments, gamma) = (input(0), input(1), input(2));
                let (coefficients, dgamma, dbeta) = (output(0), output(1), output(2));
                let sizes = self.rows(i[3]);
                batch_norm::cuda::backward_finish(sizes, blocks, partials, moments, gamma, coefficients, dgamma, dbeta)
            }
            Op::BatchNormApplyBackward { relu, .. } => {
                let (z, affine) = if relu { (Some(input(1)), input(2)) } else { (None, input(1)) };
                let dz = (self.node.outputs.len() > 1).then(|| output(1));
                batch_norm::cuda::apply_backward(self.rows(i[0]), input(0), z, affine, dz, output(0))
            }
            Op::BatchNormBackwardApply => {
                batch_norm::cuda::backward_apply(self.rows(i[0]), input(0), input(1), input(2), output(0))
            }
            _ => unreachable!("launches sends batch norm's ops only"),
        }
    }

    fn group_norm(&self) -> Vec<Launch> {
        let (input, output) = (|index| self.input(index), |index| self.output(index));
        let shape = |groups| group_norm_shape(self.shape(self.node.inputs[0]), groups);
        let workspace = Block::Workspace.at(0);
        match self.node.op {
            Op::GroupNormRelu { groups } => {
                let parameters = [input(1), input(2)];
                group_norm::cuda::forward(&shape(groups), input(0), parameters, output(0), output(1), workspace)
            }
            Op::GroupNormReluBackward { groups } => {
                let inputs = group_norm::cuda::BackwardInputs {
                    dy: input(0),
                    x: input(1),
                    y: input(2),
                    moments: input(3),
                    gamma: input(4),
                };
                let gradients = [output(1), output(2)];
                group_norm::cuda::backward(&shape(groups), &inputs, output(0), gradients, workspace)
            }
            _ => unreachable!("launches sends group norm's ops only"),
        }
    }

    fn loss(&self) -> Vec<Launch> {
        let (input, output) = (|index| self.input(index), |index| self.output(index));
        let logits = self.shape(self.node.inputs[0]);
        let workspace = Block::Workspace.at(0);
        match &self.node.op {
            Op::ClassLoss { task, smoothing } => {
                let (inputs, outputs) = ([input(0), input(1), self.denominator(*task)], [output(0), output(1)]);
                let (weights, mixed) = class_loss::optional_inputs(&self.node.inputs);
                let shares = class_loss::cuda::Shares {
                    weights: weights.map(|w| self.address(w)),
                    smoothing: *smoothing,
                    mixed: mixed.map(|values| values.map(|v| self.address(v))),
                };
                class_loss::cuda::class_loss([logits[0], logits[1]], inputs, shares, outputs, workspace)
            }
            Op::MultiLabelLoss { task } => {
                let (inputs, outputs) = ([input(0), input(1), self.denominator(*task)], [output(0), output(1)]);
                multi_label_loss::cuda::multi_label_loss(logits[0] * logits[1], inputs, outputs, workspace)
            }
            Op::ValueLoss { task, form } => {
                let (inputs, outputs) = ([input(0), input(1), self.denominator(*task)], [output(0), output(1)]);
                vec![value_loss::cuda::value_loss(*form, logits[0] * logits[1], inputs, outputs)]
            }
            Op::BoxLoss { task, levels } => {
                let inputs = box_loss::cuda::Inputs {
                    class_logits: input(0),
                    box_logits: input(1),
                    class: input(2),
                    target: input(3),
                    num_foreground: self.denominator(*task),
                    share: Block::Scalars.at(ScalarsAt::SHARE),
                    partial: box_loss::partial_inputs(&self.node.inputs).map(|values| values.map(|v| self.address(v))),
                };
                let outputs =
                    box_loss::cuda::Outputs { loss: output(0), dclass: output(1), dbox: output(2), parts: output(3) };
                box_loss::cuda::box_loss([logits[0], logits[2]], levels, &inputs, &outputs, workspace)
            }
            _ => unreachable!("launches sends losses only"),
        }
    }

    fn concat(&self) -> Vec<Launch> {
        let (first, gathered) = match self.node.op {
            Op::ConcatLevels => (0, self.node.outputs[0]),
            _ => (1, self.node.inputs[0]),
        };
        let (maps, scales): (Vec<ValueId>, Vec<ValueId>) =
            self.node.inputs[first..].iter().partition(|&&v| self.shape(v).len() == 4);
        let level = |(index, &map): (usize, &ValueId)| {
            let shape = self.shape(map);
            let scale = scales.get(index).map(|&v| self.address(v));
            concat::cuda::Level { x: self.address(map), cells: shape[1] * shape[2], scale }
        };
        let levels: Vec<concat::cuda::Level> = maps.iter().enumerate().map(level).collect();
        let shape = self.shape(gathered);
        let (n, d, gathered) = (shape[0], shape[2], self.address(gathered));
        if self.node.op == Op::ConcatLevels {
            return vec![concat::cuda::forward(n, d, &levels, gathered)];
        }
        let (dmaps, dscales) = self.node.outputs.split_at(levels.len());
        let gradient = |(index, &dmap): (usize, &ValueId)| {
            let dscale = dscales.get(index).map(|&v| self.address(v));
            concat::cuda::LevelGradient { dx: self.address(dmap), dscale }
        };
        let gradients: Vec<concat::cuda::LevelGradient> = dmaps.iter().enumerate().map(gradient).collect();
        concat::cuda::backward(n, d, gathered, &levels, &gradients, Block::Workspace.at(0))
    }
}

fn upsample_shape(top: &[usize], out: &[usize]) -> upsample::cpu::Upsample {
    upsample::cpu::Upsample { n: out[0], c: out[3], from: [top[1], top[2]], to: [out[1], out[2]] }
}
