//! The CPU executor: runs a plan's list node by node.

mod inspect;
mod memory;

use super::store::{ParameterSet, Rule, Store, Update};
use super::{Ceilings, NodeTime, StepScalars, not_in_the_arena};
use crate::device::cpu::memory::{Aligned, check_available};
use crate::device::cpu::{Cpu, IsaName};
use crate::error::{Error, Result};
use crate::graph::fuse::{Fusion, fuse};
use crate::graph::plan::{Plan, plan};
use crate::ir::{Graph, Node, ParameterId, Place, Segment, ValueId};
use crate::ops;
use crate::ops::conv2d::{PackedForm, Packing};
use crate::ops::cpu::{CpuNode, Weights};
use crate::ops::optimizer::cpu as optimizer;
use memory::{Blocks, Memory};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

/// Runs plans on the CPU; its methods are those of [`super::Executor`].
pub struct CpuExecutor {
    cpu: Cpu,
    /// Parameters, their gradients and optimizer state, running statistics.
    pub store: Store,
    arena: Aligned,
    /// Scratch memory that the nodes use one after the other.
    scratch: Aligned,
    /// Plans by number; numbers are never reused.
    plans: BTreeMap<usize, Prepared>,
    next: usize,
    packed: PackedWeights,
}

struct Prepared {
    graph: Graph,
    plan: Plan,
    /// In a training plan weights change every step, so each is packed into the scratch memory where it is used. An evaluation
    /// plan keeps them packed.
    weights: Weights,
    batch: HashMap<ValueId, Aligned>,
}

impl Prepared {
    fn node<'a>(&'a self, cpu: &'a Cpu, node: &'a Node) -> CpuNode<'a> {
        CpuNode { cpu, graph: &self.graph, node, weights: self.weights }
    }
}

/// The packed forms of weights, each with the version of the Store that it was made from.
#[derive(Default)]
struct PackedWeights(HashMap<(ParameterId, PackedForm, ParameterSet), (u64, Aligned)>);

impl PackedWeights {
    /// Packs the weight of parameter `id` if it changed since it was last packed.
    ///
    /// # Errors
    /// The system refuses the memory.
    fn refresh(
        &mut self,
        cpu: &Cpu,
        store: &Store,
        id: ParameterId,
        packing: &Packing,
        set: ParameterSet,
    ) -> Result<()> {
        let (version, packed) = match self.0.entry((id, packing.form, set)) {
            Entry::Occupied(place) => place.into_mut(),
            Entry::Vacant(place) => place.insert((u64::MAX, for_a_step(packing.len(cpu) * 4)?)),
        };
        if *version != store.version() {
            let (values, _) = store.set(set);
            packing.pack(cpu, &values.f32()[store.range(id)], packed.f32_mut());
            *version = store.version();
        }
        Ok(())
    }

    /// The packed weight made by the last [`PackedWeights::refresh`].
    fn get(&self, id: ParameterId, packing: &Packing, set: ParameterSet) -> &[f32] {
        self.0[&(id, packing.form, set)].1.f32()
    }
}

/// What the user can do if the system refuses the memory of a step.
const ADVICE: &str = "lower --batch or --imgsz";

/// A block of memory that steps use.
///
/// # Errors
/// The system refuses it.
fn for_a_step(bytes: usize) -> Result<Aligned> {
    Aligned::try_zeroed(bytes).ok_or_else(|| Error::Memory { bytes, purpose: "a step".into(), advice: ADVICE })
}

/// The parameter that a node reads in packed form, and how it is packed.
fn packing(graph: &Graph, node: &Node) -> Option<(ParameterId, Packing)> {
    let packing = ops::operation(&node.op).packing(graph, node)?;
    match graph.value(node.inputs[Packing::WEIGHT]).place {
        Place::Parameter(id) => Some((id, packing)),
        _ => unreachable!("a convolution's weight is a parameter"),
    }
}

impl CpuExecutor {
    /// The instruction set that ops run with.
    pub fn isa(&self) -> IsaName {
        self.cpu.isa().name()
    }

    /// An executor without plans.
    pub fn new(cpu: Cpu, store: Store) -> CpuExecutor {
        let (arena, scratch) = (Aligned::zeroed(0), Aligned::zeroed(0));
        CpuExecutor { cpu, store, arena, scratch, plans: BTreeMap::new(), next: 0, packed: PackedWeights::default() }
    }

    /// See [`super::Executor::prepare`].
    pub fn prepare(&mut self, mut graph: Graph, fusion: Fusion) -> Result<usize> {
        self.store.check(&graph)?;
        ops::check_nodes(&graph)?;
        fuse(&mut graph, fusion);
        let plan = plan(&graph);
        let images: usize = graph.batch.iter().map(|&v| graph.value(v).bytes()).sum();
        // Checked as a whole first, so that the message names what a step needs and not only a part.
        check_available(images.saturating_add(plan.arena_bytes), "a step", ADVICE)?;
        let trains = graph.nodes.iter().any(|node| node.segment != Segment::Forward);
        let weights = if trains { Weights::Plain } else { Weights::Packed };
        let batch = graph.batch.iter().map(|&v| Ok((v, for_a_step(graph.value(v).bytes())?)));
        let batch = batch.collect::<Result<_>>()?;
        let prepared = Prepared { graph, plan, weights, batch };
        let nodes = prepared.graph.nodes.iter();
        let scratch = nodes.map(|node| 4 * memory::scratch_len(&prepared.node(&self.cpu, node))).max().unwrap_or(0);
        let arena_bytes = prepared.plan.arena_bytes;
        if arena_bytes > self.arena.bytes() {
            self.arena = for_a_step(arena_bytes)?;
        }
        if scratch > self.scratch.bytes() {
            self.scratch = for_a_step(scratch)?;
        }
        self.plans.insert(self.next, prepared);
        self.next += 1;
        Ok(self.next - 1)
    }

    /// See [`super::Executor::release`].
    pub fn release(&mut self, plan: usize) {
        self.plans.remove(&plan);
    }

    /// See [`super::Executor::arena_bytes`].
    pub fn arena_bytes(&self) -> usize {
        self.arena.bytes()
    }

    /// See [`super::Executor::write_u8`].
    pub fn write(&mut self, plan: usize, value: ValueId, data: &[u8]) {
        let prepared = self.plans.get_mut(&plan).unwrap_or_else(|| unreachable!("plan {plan} was released"));
        let name = &prepared.graph.value(value).name;
        let memory =
            prepared.batch.get_mut(&value).unwrap_or_else(|| unreachable!("{name} is not written by the host"));
        memory.u8_mut().copy_from_slice(data);
    }

    /// See [`super::Executor::read_f32`].
    pub fn read(&self, plan: usize, value: ValueId) -> Result<Vec<f32>> {
        let prepared = &self.plans[&plan];
        let described = prepared.graph.value(value);
        let start = prepared.plan.offsets[value.0].ok_or_else(|| not_in_the_arena(described))? / 4;
        Ok(self.arena.f32()[start..start + described.len()].to_vec())
    }

    /// See [`super::Executor::run`].
    pub fn run(&mut self, plan: usize, segment: Segment, set: ParameterSet, scalars: &StepScalars) -> Result<()> {
        self.refresh_packed(plan, segment, set)?;
        let nodes = self.plans[&plan].plan.nodes(segment);
        let (prepared, mut memory) = self.memory(plan, set);
        for node in &prepared.graph.nodes[nodes] {
            memory.run(node, scalars);
        }
        Ok(())
    }

    /// A plan, and the memory that its nodes use.
    fn memory(&mut self, plan: usize, set: ParameterSet) -> (&Prepared, Memory<'_>) {
        let CpuExecutor { cpu, store, arena, scratch, plans, packed, .. } = self;
        let prepared = &plans[&plan];
        (prepared, Memory::new(cpu, prepared, packed, set, Blocks { store, arena, scratch }))
    }

    /// See [`super::Executor::time_nodes`].
    pub fn time_nodes(&mut self, plan: usize, scalars: &StepScalars, repeats: usize) -> Result<Vec<NodeTime>> {
        let mut times = NodeTime::list(&self.plans[&plan].graph);
        for repeat in 0..=repeats {
            for segment in Segment::ALL {
                self.refresh_packed(plan, segment, ParameterSet::Current)?;
                let (prepared, mut memory) = self.memory(plan, ParameterSet::Current);
                for index in prepared.plan.nodes(segment) {
                    let start = Instant::now();
                    memory.run(&prepared.graph.nodes[index], scalars);
                    if repeat > 0 {
                        times[index].milliseconds.push(start.elapsed().as_secs_f64() * 1e3);
                    }
                }
            }
        }
        Ok(times)
    }

    /// See [`super::Executor::ceilings`].
    pub fn ceilings(&self) -> Ceilings {
        Ceilings { bytes_per_second: self.cpu.copy_ceiling(), flops_per_second: Some(self.cpu.multiply_ceiling()) }
    }

    /// See [`super::Executor::time_update`].
    pub fn time_update(&mut self, update: &Update, repeats: usize) -> NodeTime {
        let mut time = NodeTime::of_update(&self.store, &update.rule, 0);
        for _ in 0..repeats {
            let start = Instant::now();
            self.update(update);
            time.milliseconds.push(start.elapsed().as_secs_f64() * 1e3);
        }
        time
    }

    /// Packs the weights that the segment's convolutions read again, if an update changed them.
    fn refresh_packed(&mut self, plan: usize, segment: Segment, set: ParameterSet) -> Result<()> {
        let prepared = &self.plans[&plan];
        if prepared.weights == Weights::Plain {
            return Ok(());
        }
        for node in &prepared.graph.nodes[prepared.plan.nodes(segment)] {
            if let Some((id, packing)) = packing(&prepared.graph, node) {
                self.packed.refresh(&self.cpu, &self.store, id, &packing, set)?;
            }
        }
        Ok(())
    }

    /// See [`super::Executor::update`].
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
