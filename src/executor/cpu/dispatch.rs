//! From a node to its kernel: one arm per op kind, inputs and outputs in the order the op's contract names.

use super::Memory;
use crate::device::cpu::Cpu;
use crate::executor::StepScalars;
use crate::graph::ir::{ConvEpilogue, DgradEpilogue, Graph, Level, Node, Op, TermForm, ValueId};
use crate::ops::batch_norm::{EPSILON, MOMENTUM, cpu as batch_norm};
use crate::ops::conv2d::{self, cpu as conv};
use crate::ops::{box_loss, class_loss, combine, concat, group_norm, linear, multi_label_loss, pool, preprocess};
use crate::ops::{upsample, value_loss};

pub(super) fn run_node(cpu: &Cpu, memory: &Memory, graph: &Graph, node: &Node, scalars: &StepScalars) {
    match &node.op {
        Op::Conv2d(_, epilogue) => fprop(cpu, memory, graph, node, *epilogue),
        Op::Conv2dDgrad(_, epilogue) => dgrad(cpu, memory, graph, node, *epilogue),
        Op::Conv2dWgrad(_) => {
            let problem = conv2d::problem(graph, node);
            let (dy, x) = (memory.input(node.inputs[0]), memory.input(node.inputs[1]));
            conv::wgrad(cpu, &problem, dy, x, memory.output(node.outputs[0]), memory.workspace(cpu, node));
        }
        _ => run_small(cpu, memory, graph, node, scalars),
    }
}

fn fprop(cpu: &Cpu, memory: &Memory, graph: &Graph, node: &Node, epilogue: ConvEpilogue) {
    let problem = conv2d::problem(graph, node);
    let extra = |i: usize| memory.input(node.inputs[i]);
    let epilogue = match epilogue {
        ConvEpilogue::Plain => conv::Epilogue::Plain,
        ConvEpilogue::Bias => conv::Epilogue::Bias(extra(2)),
        ConvEpilogue::Statistics => conv::Epilogue::Statistics(memory.output(node.outputs[1])),
        ConvEpilogue::Affine { residual, relu } => {
            conv::Epilogue::Affine { affine: extra(2), residual: residual.then(|| extra(3)), relu }
        }
    };
    let (x, y) = (memory.input(node.inputs[0]), memory.output(node.outputs[0]));
    let (weight, workspace) = (memory.weight(node), memory.workspace(cpu, node));
    conv::fprop(cpu, &problem, x, weight, epilogue, y, workspace);
}

fn dgrad(cpu: &Cpu, memory: &Memory, graph: &Graph, node: &Node, epilogue: DgradEpilogue) {
    let problem = conv2d::problem(graph, node);
    let mut rest = node.inputs[2..].iter().map(|&v| memory.input(v));
    let mut next = || rest.next().unwrap_or_else(|| unreachable!("fuse gives as many inputs as the epilogue names"));
    let epilogue = match epilogue {
        DgradEpilogue::Plain { addend: false } => conv::DgradEpilogue::Plain,
        DgradEpilogue::Plain { addend: true } => conv::DgradEpilogue::Add(next()),
        DgradEpilogue::Reduce { addend, relu } => conv::DgradEpilogue::Reduce {
            addend: addend.then(&mut next),
            mask: relu.then(&mut next),
            y: next(),
            moments: next(),
            partials: memory.output(node.outputs[1]),
        },
    };
    let (dy, dx) = (memory.input(node.inputs[0]), memory.output(node.outputs[0]));
    let (weight, workspace) = (memory.weight(node), memory.workspace(cpu, node));
    conv::dgrad(cpu, &problem, dy, weight, epilogue, dx, workspace);
}

/// Every op but the convolutions.
fn run_small(cpu: &Cpu, memory: &Memory, graph: &Graph, node: &Node, scalars: &StepScalars) {
    let (i, o) = (&node.inputs, &node.outputs);
    let read = |index: usize| -> &[f32] { memory.input(i[index]) };
    let workspace = || memory.workspace(cpu, node);
    let shape = |value: ValueId| graph.shape(value);
    let channels = |value: ValueId| shape(value).last().copied().unwrap_or(1);
    match &node.op {
        Op::Conv2d(..) | Op::Conv2dDgrad(..) | Op::Conv2dWgrad(_) => unreachable!("run_node took the convolutions"),
        Op::Preprocess => {
            let (mean, deviation) = (preprocess::MEAN, preprocess::DEVIATION);
            preprocess::cpu::normalise(cpu, memory.input(i[0]), mean, deviation, memory.output(o[0]));
        }
        Op::ChannelSum => conv::bias_gradient(cpu, read(0), memory.output(o[0]), workspace()),
        Op::BatchNormStatistics
        | Op::BatchNormFinish
        | Op::BatchNormFold
        | Op::BatchNormApply { .. }
        | Op::BatchNormReduce { .. }
        | Op::BatchNormBackwardFinish
        | Op::BatchNormBackwardApply
        | Op::BatchNormApplyBackward { .. } => run_batch_norm(cpu, memory, graph, node),
        Op::GroupNormRelu { groups } => {
            let shape = group_norm_shape(shape(i[0]), *groups);
            let parameters = norm_parameters(read(1), read(2), group_norm::EPSILON);
            let (y, moments) = (memory.output(o[0]), memory.output(o[1]));
            group_norm::cpu::forward(cpu, &shape, read(0), &parameters, y, moments, workspace());
        }
        Op::GroupNormReluBackward { groups } => {
            let shape = group_norm_shape(shape(i[0]), *groups);
            let inputs = group_norm::cpu::BackwardInputs {
                dy: read(0),
                x: read(1),
                y: read(2),
                moments: read(3),
                gamma: read(4),
            };
            let (dx, dgamma, dbeta) = (memory.output(o[0]), memory.output(o[1]), memory.output(o[2]));
            group_norm::cpu::backward(cpu, &shape, &inputs, dx, dgamma, dbeta, workspace());
        }
        Op::MaxPool => {
            let argmax = o.get(1).map(|&argmax| memory.output(argmax));
            pool::cpu::max_pool(cpu, &max_pool(shape(i[0])), read(0), memory.output(o[0]), argmax);
        }
        Op::MaxPoolBackward => {
            let problem = max_pool(shape(o[0]));
            pool::cpu::max_pool_backward(cpu, &problem, read(0), memory.input(i[1]), memory.output(o[0]));
        }
        Op::GlobalPool => {
            let s = shape(i[0]);
            pool::cpu::global_pool(cpu, s[1] * s[2], s[3], read(0), memory.output(o[0]));
        }
        Op::Dropout { probability, salt } => {
            let counter = scalars.dropout_counter ^ salt;
            pool::cpu::dropout(cpu, counter, *probability, read(0), memory.output(o[0]));
        }
        Op::Linear => linear::cpu::forward(cpu, channels(i[0]), read(0), read(1), read(2), memory.output(o[0])),
        Op::LinearBackward { input_gradient } => {
            let inputs = linear::cpu::BackwardInputs { dy: read(0), x: read(1), weight: read(2) };
            let dx = input_gradient.then(|| memory.output(o[2]));
            linear::cpu::backward(cpu, channels(i[1]), &inputs, dx, memory.output(o[0]), memory.output(o[1]));
        }
        Op::UpsampleAdd => {
            let problem = upsample_shape(shape(i[0]), shape(o[0]));
            upsample::cpu::add(cpu, &problem, read(0), read(1), memory.output(o[0]));
        }
        Op::UpsampleBackward => {
            let problem = upsample_shape(shape(o[0]), shape(i[0]));
            upsample::cpu::backward(cpu, &problem, read(0), memory.output(o[0]));
        }
        Op::ConcatLevels => {
            let s = shape(o[0]);
            concat::cpu::forward(cpu, s[0], s[2], &concat_levels(memory, graph, i), memory.output(o[0]));
        }
        Op::ConcatLevelsBackward => concat_backward(cpu, memory, graph, node),
        Op::ClassLoss { task, smoothing } => {
            let (weights, mixed) = class_loss::optional_inputs(i);
            let mixed = mixed
                .map(|[other, part]| class_loss::cpu::Mixed { other: memory.input(other), part: memory.input(part) });
            let weights = weights.map(|w| memory.input(w));
            let shares = class_loss::cpu::Shares { weights, smoothing: *smoothing, mixed };
            let (labels, denominator) = ((read(0), memory.input(i[1])), scalars.denominators[*task]);
            let (loss, dlogits) = (memory.output(o[0]), memory.output(o[1]));
            class_loss::cpu::class_loss(cpu, channels(i[0]), labels, shares, denominator, loss, dlogits);
        }
        Op::MultiLabelLoss { task } => {
            let (loss, dlogits) = (memory.output(o[0]), memory.output(o[1]));
            multi_label_loss::cpu::multi_label_loss(read(0), read(1), scalars.denominators[*task], loss, dlogits);
        }
        Op::ValueLoss { task, form } => {
            let (loss, dvalues) = (memory.output(o[0]), memory.output(o[1]));
            value_loss::cpu::value_loss(*form, [read(0), read(1)], scalars.denominators[*task], loss, dvalues);
        }
        Op::BoxLoss { task, levels } => {
            let (centres, strides) = cells(levels, workspace());
            let inputs = box_loss::cpu::Inputs {
                class_logits: read(0),
                box_logits: read(1),
                class: memory.input(i[2]),
                target: read(3),
                centres,
                strides,
                num_foreground: scalars.denominators[*task],
                share: scalars.share(),
                partial: box_loss::partial_inputs(i).map(|[regions, left_out]| box_loss::cpu::Partial {
                    regions: memory.input(regions),
                    left_out: memory.input(left_out),
                }),
            };
            let outputs = box_loss::cpu::Outputs {
                loss: memory.output(o[0]),
                dclass: memory.output(o[1]),
                dbox: memory.output(o[2]),
                parts: memory.output(o[3]),
            };
            box_loss::cpu::box_loss(cpu, &inputs, outputs);
        }
        Op::Combine { terms } => {
            let term = |(&value, &(task, form)): (&ValueId, &(usize, TermForm))| combine::cpu::Term {
                weight: scalars.task_weights[task],
                gradient: memory.input(value),
                form,
            };
            let terms: Vec<combine::cpu::Term> = i.iter().zip(terms).map(term).collect();
            let s = shape(o[0]);
            combine::cpu::combine(cpu, [s[0], s[1] * s[2], s[3]], &terms, memory.output(o[0]));
        }
        Op::Add => combine::cpu::add(cpu, read(0), read(1), memory.output(o[0])),
    }
}

fn run_batch_norm(cpu: &Cpu, memory: &Memory, graph: &Graph, node: &Node) {
    let (i, o) = (&node.inputs, &node.outputs);
    let read = |index: usize| -> &[f32] { memory.input(i[index]) };
    let channels = |value: ValueId| graph.shape(value).last().copied().unwrap_or(1);
    let rows = |value: ValueId| graph.value(value).len() / channels(value);
    match node.op {
        Op::BatchNormStatistics => batch_norm::statistics(cpu, channels(i[0]), read(0), memory.output(o[0])),
        Op::BatchNormFinish => {
            let parameters = norm_parameters(read(1), read(2), EPSILON);
            let running =
                batch_norm::Running { mean: memory.output(i[3]), variance: memory.output(i[4]), momentum: MOMENTUM };
            let (moments, affine) = (memory.output(o[0]), memory.output(o[1]));
            batch_norm::finish(rows(i[5]), read(0), &parameters, running, moments, affine);
        }
        Op::BatchNormFold => {
            let parameters = norm_parameters(read(0), read(1), EPSILON);
            batch_norm::fold(&parameters, read(2), read(3), memory.output(o[0]));
        }
        Op::BatchNormApply { residual, relu } => {
            let residual = residual.then(|| read(2));
            batch_norm::apply(cpu, channels(i[0]), read(0), read(1), residual, relu, memory.output(o[0]));
        }
        Op::BatchNormReduce { relu: true } => {
            let inputs = batch_norm::Reduce { g: read(0), z: Some(read(1)), y: read(2), moments: read(3) };
            let dz = Some(memory.output(o[0]));
            batch_norm::reduce(cpu, channels(i[0]), &inputs, dz, memory.output(o[1]));
        }
        Op::BatchNormReduce { relu: false } => {
            let inputs = batch_norm::Reduce { g: read(0), z: None, y: read(1), moments: read(2) };
            batch_norm::reduce(cpu, channels(i[0]), &inputs, None, memory.output(o[0]));
        }
        Op::BatchNormBackwardFinish => {
            let (coefficients, dgamma, dbeta) = (memory.output(o[0]), memory.output(o[1]), memory.output(o[2]));
            batch_norm::backward_finish(rows(i[3]), read(0), read(1), read(2), coefficients, dgamma, dbeta);
        }
        Op::BatchNormBackwardApply => {
            batch_norm::backward_apply(cpu, channels(i[0]), read(0), read(1), read(2), memory.output(o[0]));
        }
        Op::BatchNormApplyBackward { relu, .. } => {
            let (z, affine) = if relu { (Some(read(1)), read(2)) } else { (None, read(1)) };
            let dz = o.get(1).map(|&dz| memory.output(dz));
            batch_norm::apply_backward(cpu, channels(i[0]), read(0), z, affine, dz, memory.output(o[0]));
        }
        _ => unreachable!("run_small sends batch norm's ops only"),
    }
}

fn norm_parameters<'a>(gamma: &'a [f32], beta: &'a [f32], epsilon: f32) -> batch_norm::Parameters<'a> {
    batch_norm::Parameters { gamma, beta, epsilon }
}

fn max_pool(x: &[usize]) -> pool::cpu::MaxPool {
    let (kernel, stride, padding) = (pool::KERNEL, pool::STRIDE, pool::PADDING);
    pool::cpu::MaxPool { n: x[0], h: x[1], w: x[2], c: x[3], kernel, stride, padding }
}

pub(super) fn group_norm_shape(x: &[usize], groups: usize) -> group_norm::cpu::Shape {
    group_norm::cpu::Shape { n: x[0], hw: x[1] * x[2], c: x[3], groups }
}

fn upsample_shape(top: &[usize], out: &[usize]) -> upsample::cpu::Upsample {
    upsample::cpu::Upsample { n: out[0], c: out[3], from: [top[1], top[2]], to: [out[1], out[2]] }
}

/// The levels among `inputs` with their scales, if there are any.
fn concat_levels<'a>(memory: &Memory<'a>, graph: &Graph, inputs: &[ValueId]) -> Vec<concat::cpu::Level<'a>> {
    let (maps, scales): (Vec<ValueId>, Vec<ValueId>) = inputs.iter().partition(|&&v| graph.shape(v).len() == 4);
    let level = |(index, &map): (usize, &ValueId)| {
        let s = graph.shape(map);
        let scale = scales.get(index).map(|&v| memory.input::<f32>(v)[0]);
        concat::cpu::Level { x: memory.input(map), cells: s[1] * s[2], scale }
    };
    maps.iter().enumerate().map(level).collect()
}

fn concat_backward(cpu: &Cpu, memory: &Memory, graph: &Graph, node: &Node) {
    let levels = concat_levels(memory, graph, &node.inputs[1..]);
    let (dmaps, dscales) = node.outputs.split_at(levels.len());
    let gradient = |(index, &dmap): (usize, &ValueId)| concat::cpu::LevelGradient {
        dx: memory.output(dmap),
        dscale: dscales.get(index).map(|&v| &mut memory.output::<f32>(v)[0]),
    };
    let mut gradients: Vec<concat::cpu::LevelGradient> = dmaps.iter().enumerate().map(gradient).collect();
    let s = graph.shape(node.inputs[0]);
    concat::cpu::backward(cpu, s[0], s[2], memory.input(node.inputs[0]), &levels, &mut gradients);
}

/// Centres `[A, 2]` and strides `[A]` of the cells of `levels`, in pixels, written into `workspace`.
fn cells<'a>(levels: &[Level], workspace: &'a mut [f32]) -> (&'a [f32], &'a [f32]) {
    let total: usize = levels.iter().map(|l| l.h * l.w).sum();
    let (centres, rest) = workspace.split_at_mut(2 * total);
    let strides = &mut rest[..total];
    let mut cell = 0;
    for level in levels {
        for row in 0..level.h {
            for column in 0..level.w {
                let stride = level.stride as f32;
                centres[2 * cell] = (column as f32 + 0.5) * stride;
                centres[2 * cell + 1] = (row as f32 + 0.5) * stride;
                strides[cell] = stride;
                cell += 1;
            }
        }
    }
    (centres, strides)
}
