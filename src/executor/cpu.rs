//! The CPU executor: runs a plan's list node by node. The only place that turns a plan's offsets into slices.

use super::store::{PackedForm, ParameterSet, Rule, Store, Update};
use super::{Ceilings, NodeTime, StepScalars};
use crate::device::cpu::{Cpu, Isa, memory::Aligned};
use crate::graph::fuse::{Fusion, fuse};
use crate::graph::ir::{Graph, Node, Op, ParameterId, Place, Segment, ValueId};
use crate::graph::plan::{Plan, plan};
use crate::ops::conv2d::{self, cpu as conv};
use crate::ops::group_norm;
use crate::ops::optimizer::cpu as optimizer;
use std::collections::HashMap;
use std::time::Instant;

pub struct CpuExecutor {
    cpu: Cpu,
    pub store: Store,
    arena: Aligned,
    workspace: Aligned,
    plans: Vec<Prepared>,
}

struct Prepared {
    graph: Graph,
    plan: Plan,
    /// The plan trains: weights change every step, so each is packed where it is used, into the workspace. A plan that
    /// only answers keeps them packed.
    trains: bool,
    batch: HashMap<ValueId, Aligned>,
}

impl CpuExecutor {
    pub fn isa(&self) -> Isa {
        self.cpu.isa()
    }

    pub fn new(cpu: Cpu, store: Store) -> CpuExecutor {
        let (arena, workspace) = (Aligned::zeroed(0), Aligned::zeroed(0));
        CpuExecutor { cpu, store, arena, workspace, plans: Vec::new() }
    }

    pub fn prepare(&mut self, mut graph: Graph, fusion: Fusion) -> usize {
        fuse(&mut graph, fusion);
        let plan = plan(&graph);
        let trains = graph.nodes.iter().any(|node| node.segment != Segment::Forward);
        let scratch = |node: &Node| workspace_len(&self.cpu, &graph, node, trains);
        let workspace = graph.nodes.iter().map(|node| scratch(node) * 4).max().unwrap_or(0);
        if plan.arena_bytes > self.arena.bytes() {
            self.arena = Aligned::zeroed(plan.arena_bytes);
        }
        if workspace > self.workspace.bytes() {
            self.workspace = Aligned::zeroed(workspace);
        }
        let batch = graph.batch.iter().map(|&v| (v, Aligned::zeroed(graph.value(v).bytes()))).collect();
        self.plans.push(Prepared { graph, plan, trains, batch });
        self.plans.len() - 1
    }

    pub fn arena_bytes(&self) -> usize {
        self.arena.bytes()
    }

    pub fn write(&mut self, plan: usize, value: ValueId, data: &[u8]) {
        let prepared = &mut self.plans[plan];
        let name = &prepared.graph.value(value).name;
        let memory =
            prepared.batch.get_mut(&value).unwrap_or_else(|| unreachable!("{name} is not written by the host"));
        memory.u8_mut().copy_from_slice(data);
    }

    pub fn read(&self, plan: usize, value: ValueId) -> Vec<f32> {
        let prepared = &self.plans[plan];
        let len = prepared.graph.value(value).len();
        let start = prepared.plan.offsets[value.0].map_or(0, |o| o / 4);
        self.arena.f32()[start..start + len].to_vec()
    }

    pub fn run(&mut self, plan: usize, segment: Segment, set: ParameterSet, scalars: &StepScalars) {
        self.refresh_packed(plan, segment, set);
        let memory = memory(&mut self.store, &mut self.arena, &mut self.workspace, &self.plans[plan], set);
        let prepared = &self.plans[plan];
        for index in prepared.plan.nodes(segment) {
            run_node(&self.cpu, &memory, &prepared.graph, &prepared.graph.nodes[index], scalars);
        }
    }

    pub fn time_nodes(&mut self, plan: usize, scalars: &StepScalars, repeats: usize) -> Vec<NodeTime> {
        let mut times = NodeTime::list(&self.plans[plan].graph);
        for repeat in 0..=repeats {
            for segment in [Segment::Forward, Segment::HeadsBackward, Segment::TrunkBackward] {
                self.refresh_packed(plan, segment, ParameterSet::Current);
                let prepared = &self.plans[plan];
                let set = ParameterSet::Current;
                let memory = memory(&mut self.store, &mut self.arena, &mut self.workspace, prepared, set);
                for index in prepared.plan.nodes(segment) {
                    let start = Instant::now();
                    run_node(&self.cpu, &memory, &prepared.graph, &prepared.graph.nodes[index], scalars);
                    if repeat > 0 {
                        times[index].milliseconds.push(start.elapsed().as_secs_f64() * 1e3);
                    }
                }
            }
        }
        times
    }

    pub fn ceilings(&self) -> Ceilings {
        Ceilings { bytes_per_second: self.cpu.copy_ceiling(), flops_per_second: Some(self.cpu.multiply_ceiling()) }
    }

    pub fn time_update(&mut self, update: &Update, repeats: usize) -> NodeTime {
        let mut time = NodeTime::of_update(&self.store, &update.rule, 0);
        for _ in 0..repeats {
            let start = Instant::now();
            self.update(update);
            time.milliseconds.push(start.elapsed().as_secs_f64() * 1e3);
        }
        time
    }

    /// Rebuilds the packed weights the segment's convolutions read, where an update made them stale.
    fn refresh_packed(&mut self, plan: usize, segment: Segment, set: ParameterSet) {
        let prepared = &self.plans[plan];
        if prepared.trains {
            return;
        }
        for index in prepared.plan.nodes(segment) {
            let node = &prepared.graph.nodes[index];
            let Some((id, form)) = packed_weight(&prepared.graph, node) else { continue };
            let (cpu, problem) = (&self.cpu, conv2d::problem(&prepared.graph, node));
            let len = packed_len(cpu, form, &problem);
            self.store.refresh_packed(id, form, set, len, |weight, packed| pack(cpu, form, &problem, weight, packed));
        }
    }

    pub fn update(&mut self, update: &Update) -> f64 {
        let ranges = self.store.update_ranges();
        let store = &mut self.store;
        let norm = optimizer::gradient_norm(&self.cpu, &ranges, &update.groups, store.gradients.f32());
        if !norm.is_finite() {
            return norm;
        }
        let clip = match update.clip_norm {
            Some(largest) if norm > f64::from(largest) => (f64::from(largest) / norm) as f32,
            _ => 1.0,
        };
        let flat = optimizer::Update { ranges: &ranges, groups: &update.groups, clip };
        let (values, gradients) = (store.values.f32_mut(), store.gradients.f32_mut());
        let (first, second) = (store.first_moment.f32_mut(), store.second_moment.f32_mut());
        let decay = update.average_decay;
        let average = Some(optimizer::Average { decay, values: store.average.f32_mut() });
        match update.rule {
            Rule::Sgd(rule) => optimizer::sgd(&self.cpu, &flat, &rule, values, gradients, first, average),
            Rule::AdamW(rule) => optimizer::adamw(&self.cpu, &flat, &rule, values, gradients, [first, second], average),
        }
        optimizer::ema(&self.cpu, decay, store.running.f32(), store.running_average.f32_mut());
        store.touch();
        norm
    }
}

/// The weight a node reads in packed form.
fn packed_weight(graph: &Graph, node: &Node) -> Option<(ParameterId, PackedForm)> {
    let form = match node.op {
        Op::Conv2d(..) => PackedForm::Fprop,
        Op::Conv2dDgrad(..) => PackedForm::Dgrad,
        _ => return None,
    };
    let form = form(conv::Algorithm::of(&conv2d::problem(graph, node)));
    match graph.value(node.inputs[1]).place {
        Place::Parameter(id) => Some((id, form)),
        _ => unreachable!("a convolution's weight is a parameter"),
    }
}

fn packed_len(cpu: &Cpu, form: PackedForm, problem: &conv2d::Problem) -> usize {
    match form {
        PackedForm::Fprop(_) => conv::packed_fprop_len(cpu.isa(), problem),
        PackedForm::Dgrad(_) => conv::packed_dgrad_len(cpu.isa(), problem),
    }
}

fn pack(cpu: &Cpu, form: PackedForm, problem: &conv2d::Problem, weight: &[f32], packed: &mut [f32]) {
    match form {
        PackedForm::Fprop(_) => conv::pack_fprop(cpu, problem, weight, packed),
        PackedForm::Dgrad(_) => conv::pack_dgrad(cpu, problem, weight, packed),
    }
}

/// Scratch a node needs while it runs, in f32.
fn workspace_len(cpu: &Cpu, graph: &Graph, node: &Node, trains: bool) -> usize {
    match node.op {
        Op::Conv2d(..) => conv::fprop_workspace(cpu, &conv2d::problem(graph, node), trains),
        Op::Conv2dDgrad(..) => conv::dgrad_workspace(cpu, &conv2d::problem(graph, node), trains),
        Op::Conv2dWgrad(..) => conv::wgrad_workspace(cpu, &conv2d::problem(graph, node)),
        Op::ChannelSum => {
            let dy = graph.value(node.inputs[0]);
            conv::bias_workspace(dy.len(), dy.shape[dy.shape.len() - 1])
        }
        Op::BoxLoss { ref levels, .. } => 3 * levels.iter().map(|l| l.h * l.w).sum::<usize>(),
        Op::GroupNormRelu { groups } => {
            let shape = dispatch::group_norm_shape(graph.shape(node.inputs[0]), groups);
            group_norm::cpu::forward_workspace(&shape)
        }
        Op::GroupNormReluBackward { groups } => {
            let shape = dispatch::group_norm_shape(graph.shape(node.inputs[0]), groups);
            group_norm::cpu::backward_workspace(&shape)
        }
        _ => 0,
    }
}

/// Where every value of one plan lies.
struct Memory<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
    batch: &'a HashMap<ValueId, Aligned>,
    arena: *mut u8,
    workspace: *mut u8,
    workspace_len: usize,
    values: *mut u8,
    running: *mut u8,
    gradients: *mut u8,
    store: &'a Store,
    set: ParameterSet,
    trains: bool,
}

fn memory<'a>(
    store: &'a mut Store,
    arena: &mut Aligned,
    workspace: &mut Aligned,
    prepared: &'a Prepared,
    set: ParameterSet,
) -> Memory<'a> {
    let (values, running) = match set {
        ParameterSet::Current => (store.values.as_mut_ptr(), store.running.as_mut_ptr()),
        ParameterSet::Average => (store.average.as_mut_ptr(), store.running_average.as_mut_ptr()),
    };
    Memory {
        graph: &prepared.graph,
        plan: &prepared.plan,
        batch: &prepared.batch,
        arena: arena.as_mut_ptr(),
        workspace: workspace.as_mut_ptr(),
        workspace_len: workspace.bytes() / 4,
        values,
        running,
        gradients: store.gradients.as_mut_ptr(),
        store,
        set,
        trains: prepared.trains,
    }
}

impl<'a> Memory<'a> {
    fn address(&self, value: ValueId) -> *mut u8 {
        let float = |base: *mut u8, start: usize| base.wrapping_add(start * 4);
        match self.graph.value(value).place {
            Place::Batch => self.batch[&value].as_ptr().cast_mut(),
            Place::Parameter(id) => float(self.values, self.store.range(id).start),
            Place::Gradient(id) => float(self.gradients, self.store.range(id).start),
            Place::Buffer(id) => float(self.running, self.store.buffer_range(id).start),
            Place::Arena => {
                let offset = self.plan.offsets[value.0];
                let offset = offset.unwrap_or_else(|| unreachable!("every value a node touches is placed"));
                self.arena.wrapping_add(offset)
            }
        }
    }

    /// A value a node reads.
    fn input<T: Element>(&self, value: ValueId) -> &'a [T] {
        debug_assert_eq!(self.graph.value(value).dtype.bytes(), size_of::<T>());
        // SAFETY: the plan gives every value its own bytes while it lives, the Store's vectors do not overlap, and a node's
        // outputs are never its inputs; the block is as long as the value and aligned to 64.
        unsafe { std::slice::from_raw_parts(self.address(value).cast(), self.graph.value(value).len()) }
    }

    /// A value a node writes.
    fn output<T: Element>(&self, value: ValueId) -> &'a mut [T] {
        debug_assert_eq!(self.graph.value(value).dtype.bytes(), size_of::<T>());
        // SAFETY: as in `input`; each output of a node is asked for once.
        unsafe { std::slice::from_raw_parts_mut(self.address(value).cast(), self.graph.value(value).len()) }
    }

    /// What a node needs while it runs.
    fn workspace(&self, cpu: &Cpu, node: &Node) -> &'a mut [f32] {
        let len = workspace_len(cpu, self.graph, node, self.trains);
        assert!(len <= self.workspace_len, "prepare made room for the greediest node");
        // SAFETY: one node runs at a time, and each asks once.
        unsafe { std::slice::from_raw_parts_mut(self.workspace.cast(), len) }
    }

    /// A convolution's weight: a plan that trains reads each once a step.
    fn weight(&self, node: &Node) -> conv::Weight<'a> {
        if self.trains {
            return conv::Weight::Plain(self.input(node.inputs[1]));
        }
        let (id, form) =
            packed_weight(self.graph, node).unwrap_or_else(|| unreachable!("only convolutions have packed weights"));
        conv::Weight::Packed(self.store.packed(id, form, self.set))
    }
}

/// What a value may be made of.
trait Element {}
impl Element for f32 {}
impl Element for i32 {}
impl Element for u8 {}

mod dispatch;
mod inspect;
use dispatch::run_node;
