//! The CUDA executor. It turns the same list of nodes into kernel launches when a plan is made, records them as one graph per
//! segment and replays that. Between steps only small blocks are copied: the batch, the step's scalars, and the losses back.

mod inspect;
mod layout;
mod lower;
mod memory;
mod tuning;

pub use tuning::Tiles;

use super::store::{ParameterSet, Rule, Store, Update, bytes_of};
use super::{Ceilings, NodeTime, StepScalars, not_in_the_arena};
use crate::device::cuda::{self, Cuda, Gauge, LoadedLibrary, Pace, Precision, Staging, Work};
use crate::error::{Error, Result};
use crate::graph::fuse::{Fusion, fuse};
use crate::ir::{Graph, Segment, ValueId};
use crate::ops;
use crate::ops::conv2d::cuda::gradient_bytes;
use crate::ops::optimizer::cuda as optimizer;
use layout::Layout;
use memory::{Block, DeviceStore, MAX_TASKS, ScalarsAt};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use tuning::Tuning;

/// Runs plans on a GPU; its methods are those of [`super::Executor`] and return an error if the GPU refuses a call.
pub struct CudaExecutor {
    /// The host's copy; `stale` says whether the device's is newer.
    store: Store,
    stale: bool,
    memory: DeviceStore,
    /// Plans by number; numbers are never reused.
    plans: BTreeMap<usize, Prepared>,
    next: usize,
    tuning: Tuning,
    recorded: HashMap<(usize, usize, Segment, ParameterSet), cuda::Graph>,
    /// The step's scalars as last uploaded.
    scalars: Vec<u8>,
    /// For each set, whether the packed weights match its parameters.
    packed: [bool; 2],
    /// The last field, because the fields above are freed through it.
    cuda: Cuda,
}

impl Drop for CudaExecutor {
    fn drop(&mut self) {
        // Graphs and pinned memory must be freed while the device's context is current on this thread. A failure here cannot be
        // handled.
        let _ = self.cuda.settle_all();
        self.recorded.clear();
        self.plans.clear();
    }
}

struct Prepared {
    layout: Layout,
    /// Two batches: one is written while the other is computed on.
    batches: [Staging; 2],
    /// The index of the batch that launches read, and the values of the other that were written since.
    current: usize,
    written: Vec<ValueId>,
    /// By [`Segment`].
    work: [Vec<Work>; Segment::ALL.len()],
}

impl CudaExecutor {
    /// # Errors
    /// Too little memory for parameters and their moments.
    pub fn new(mut cuda: Cuda, store: Store) -> Result<CudaExecutor> {
        let memory = DeviceStore::new(&mut cuda, &store)?;
        let tuning = Tuning::of(&cuda);
        let mut executor = CudaExecutor {
            store,
            stale: false,
            memory,
            plans: BTreeMap::new(),
            next: 0,
            tuning,
            recorded: HashMap::new(),
            scalars: Vec::new(),
            packed: [false; 2],
            cuda,
        };
        executor.memory.upload(&mut executor.cuda, &mut executor.store)?;
        Ok(executor)
    }

    /// Sets where the tiles of the plans that follow come from.
    pub fn set_tiles(&mut self, tiles: Tiles) {
        assert!(self.plans.is_empty(), "a plan keeps the tiles it was made with");
        self.tuning = Tuning::new(&self.cuda, tiles);
    }

    /// See [`super::Executor::tuning_hash`].
    pub fn tuning_hash(&self) -> Option<String> {
        self.tuning.hash(self.plans.values().map(|p| &p.layout))
    }

    /// See [`super::Executor::prepare`].
    pub fn prepare(&mut self, mut graph: Graph, fusion: Fusion) -> Result<usize> {
        let precision = self.cuda.precision();
        // In f32 the convolutions are plain, because they serve as a reference.
        let fusion = if precision == Precision::F32 { Fusion::Off } else { fusion };
        self.store.check(&graph)?;
        ops::check_nodes(&graph)?;
        fuse(&mut graph, fusion);
        let layout = Layout::new(graph, precision, self.memory.processors())?;
        // Reserving memory may change addresses that are recorded.
        self.recorded.clear();
        self.memory.reserve(&mut self.cuda, Block::Arena, layout.plan.arena_bytes)?;
        let bytes = layout.batch_bytes.max(64);
        let batches = [self.cuda.staging(bytes)?, self.cuda.staging(bytes)?];
        self.tuning.complete(&mut self.cuda, &mut self.memory, &layout, batches[0].memory)?;
        let workspace_bytes = lower::workspace_bytes(&layout, &self.memory, &self.tuning, precision);
        self.memory.reserve(&mut self.cuda, Block::Workspace, workspace_bytes)?;
        let work = Segment::ALL.map(|segment| {
            let nodes = layout.plan.nodes(segment);
            nodes.flat_map(|i| lower::node(&layout, &self.memory, &self.tuning, precision, i)).collect::<Vec<Work>>()
        });
        // cuDNN loads code at first use, which is not allowed in a recording. Between steps the arena is free for trial runs.
        let by_cudnn = work.iter().flatten().filter(|work| matches!(work, Work::Convolution(_)));
        let by_cudnn: Vec<Work> = by_cudnn.cloned().collect();
        self.cuda.launch(&by_cudnn, &self.memory.table(ParameterSet::Current, batches[0].memory))?;
        self.plans.insert(self.next, Prepared { layout, batches, current: 0, written: Vec::new(), work });
        self.next += 1;
        Ok(self.next - 1)
    }

    /// See [`super::Executor::release`].
    pub fn release(&mut self, plan: usize) -> Result<()> {
        self.cuda.settle_all()?;
        self.recorded.retain(|key, _| key.0 != plan);
        match self.plans.remove(&plan) {
            // A batch that was written but never run may still be in transfer, which `settle_all` does not wait for.
            Some(prepared) => prepared.batches.iter().try_for_each(|batch| {
                self.cuda.settle(batch)?;
                self.cuda.free(batch.memory)
            }),
            None => Ok(()),
        }
    }

    /// See [`super::Executor::arena_bytes`].
    pub fn arena_bytes(&self) -> usize {
        self.memory.block(Block::Arena).bytes
    }

    /// Writes into the batch that the next forward pass reads; a pass that is still running reads the other one.
    pub fn write(&mut self, plan: usize, value: ValueId, data: &[u8]) -> Result<()> {
        let prepared = self.plans.get_mut(&plan).unwrap_or_else(|| unreachable!("plan {plan} was released"));
        let name = &prepared.layout.logical.value(value).name;
        let offset =
            prepared.layout.batch.get(&value).unwrap_or_else(|| unreachable!("{name} is not written by the host"));
        assert_eq!(data.len(), prepared.layout.logical.value(value).bytes(), "{name}: bytes of the batch");
        let batch = &prepared.batches[1 - prepared.current];
        if prepared.written.contains(&value) {
            self.cuda.settle(batch)?;
        } else {
            prepared.written.push(value);
        }
        self.cuda.stage(batch, *offset, data)
    }

    /// See [`super::Executor::run`].
    pub fn run(&mut self, plan: usize, segment: Segment, set: ParameterSet, scalars: &StepScalars) -> Result<()> {
        self.upload_scalars(scalars)?;
        self.refresh_packed(set)?;
        self.take_batch(plan)?;
        let prepared = &self.plans[&plan];
        let work = &prepared.work[segment as usize];
        if work.is_empty() {
            return Ok(());
        }
        if segment == Segment::Forward && set == ParameterSet::Current {
            // This segment updates the running statistics.
            self.stale = true;
        }
        let batch = &prepared.batches[prepared.current];
        let blocks = self.memory.table(set, batch.memory);
        match &mut self.cuda {
            // A recording cannot wait between launches.
            Cuda::Driver(driver) if driver.pace() == Pace::Ahead => {
                let key = (plan, prepared.current, segment, set);
                let recorded = match self.recorded.entry(key) {
                    Entry::Occupied(recorded) => recorded.into_mut(),
                    Entry::Vacant(place) => place.insert(driver.record(work, &blocks)?),
                };
                driver.replay(recorded)?;
            }
            cuda => cuda.launch(work, &blocks)?,
        }
        self.cuda.used(batch)
    }

    /// Switches to the batch written last, if one was written since the last run.
    fn take_batch(&mut self, plan: usize) -> Result<()> {
        let prepared = self.plans.get_mut(&plan).unwrap_or_else(|| unreachable!("plan {plan} was released"));
        if !prepared.written.is_empty() {
            assert_eq!(prepared.written.len(), prepared.layout.batch.len(), "a batch is written completely");
            prepared.written.clear();
            prepared.current = 1 - prepared.current;
            self.cuda.staged(&prepared.batches[prepared.current])?;
        }
        Ok(())
    }

    /// See [`super::Executor::time_nodes`].
    pub fn time_nodes(&mut self, plan: usize, scalars: &StepScalars, repeats: usize) -> Result<Vec<NodeTime>> {
        let set = ParameterSet::Current;
        // The plain convolutions by cuDNN leave wrong values behind, also in sums. State that outlives a step is restored below.
        self.store()?;
        self.upload_scalars(scalars)?;
        self.refresh_packed(set)?;
        self.take_batch(plan)?;
        let by_cudnn = self.plain_by_cudnn(plan)?;
        let precision = self.cuda.precision();
        let Prepared { layout, batches, current, .. } = &self.plans[&plan];
        let mut times = NodeTime::list(&layout.physical);
        let work = |index| lower::node(layout, &self.memory, &self.tuning, precision, index);
        let nodes: Vec<Vec<Work>> = (0..times.len()).map(work).collect();
        // The same list with plain convolutions by cuDNN, so that each runs with the caches in the usual state.
        let replaced = |(own, by_cudnn): (&Vec<Work>, &Option<Work>)| by_cudnn.clone().map_or(own.clone(), |w| vec![w]);
        let others: Vec<Vec<Work>> = nodes.iter().zip(&by_cudnn).map(replaced).collect();
        let blocks = self.memory.table(set, batches[*current].memory);
        for repeat in 0..=repeats {
            let step = self.cuda.time(&nodes, &blocks)?;
            let other =
                if by_cudnn.iter().any(Option::is_some) { self.cuda.time(&others, &blocks)? } else { Vec::new() };
            if repeat > 0 {
                times.iter_mut().zip(step).for_each(|(node, ms)| node.milliseconds.push(ms));
                let measured = times.iter_mut().zip(other).zip(&by_cudnn).filter(|(_, by_cudnn)| by_cudnn.is_some());
                measured.for_each(|((node, ms), _)| node.plain_by_library.push(ms));
            }
        }
        self.memory.upload(&mut self.cuda, &mut self.store)?;
        Ok(times)
    }

    /// For each node, the plain convolution by cuDNN, if cuDNN is present and supports it. The shim has none: its times mean
    /// nothing.
    fn plain_by_cudnn(&mut self, plan: usize) -> Result<Vec<Option<Work>>> {
        let (cuda, layout) = (&mut self.cuda, &self.plans[&plan].layout);
        let (precision, on_gpu) = (cuda.precision(), matches!(cuda, Cuda::Driver(_)));
        let mut work = Vec::new();
        let mut bytes = 0;
        for (index, node) in layout.physical.nodes.iter().enumerate() {
            let tunable = layout.tunable(node).filter(|_| on_gpu);
            let asked = tunable.and_then(|tunable| tunable.question(precision));
            let needed = match asked {
                Some((direction, sizes)) => {
                    cuda.cudnn_workspace(direction, &sizes)?.map(|own| own + gradient_bytes(&sizes))
                }
                None => None,
            };
            bytes = bytes.max(needed.unwrap_or(0));
            work.push(needed.and_then(|_| lower::plain_by_cudnn(layout, &self.memory, precision, index)));
        }
        // Reserving memory may change the workspace's address.
        self.recorded.clear();
        self.memory.reserve(cuda, Block::Workspace, bytes)?;
        let prepared = &self.plans[&plan];
        let blocks = self.memory.table(ParameterSet::Current, prepared.batches[prepared.current].memory);
        for place in &mut work {
            if let Some(convolution) = place
                && !cuda.attempt(std::slice::from_ref(convolution), &blocks)?
            {
                *place = None;
            }
        }
        Ok(work)
    }

    /// See [`super::Executor::ceilings`].
    pub fn ceilings(&mut self) -> Result<Ceilings> {
        Ok(Ceilings { bytes_per_second: self.cuda.copy_ceiling()?, flops_per_second: self.cuda.multiply_ceiling()? })
    }

    /// See [`super::Executor::gauge`].
    pub fn gauge(&self) -> Option<Gauge> {
        self.cuda.gauge()
    }

    /// See [`super::Executor::libraries`].
    pub fn libraries(&self) -> Vec<LoadedLibrary> {
        match &self.cuda {
            Cuda::Driver(_) => cuda::loaded_libraries(),
            Cuda::Host(_) => Vec::new(),
        }
    }

    /// See [`super::Executor::time_update`].
    pub fn time_update(&mut self, update: &Update, repeats: usize) -> Result<NodeTime> {
        let groups = vec![self.update_launches(update)?; repeats];
        let table = self.memory.table(ParameterSet::Current, self.memory.block(Block::Scalars));
        let milliseconds = self.cuda.time(&groups, &table)?;
        self.mark_updated();
        let copies = self.memory.block(Block::Packed).bytes;
        Ok(NodeTime { milliseconds, ..NodeTime::of_update(&self.store, &update.rule, copies) })
    }

    fn upload_scalars(&mut self, scalars: &StepScalars) -> Result<()> {
        let tasks = scalars.task_weights.len().max(scalars.denominators.len());
        if tasks > MAX_TASKS {
            return Err(Error::Usage(format!("{tasks} tasks: a GPU supports at most {MAX_TASKS}")));
        }
        let mut bytes = vec![0; ScalarsAt::UPDATE];
        let floats = |at: usize, values: &[f32], bytes: &mut [u8]| {
            for (to, v) in bytes[at..].chunks_exact_mut(4).zip(values) {
                to.copy_from_slice(&v.to_ne_bytes());
            }
        };
        floats(ScalarsAt::TASK_WEIGHTS, &scalars.task_weights, &mut bytes);
        floats(ScalarsAt::DENOMINATORS, &scalars.denominators, &mut bytes);
        floats(ScalarsAt::SHARE, &[scalars.share()], &mut bytes);
        bytes[ScalarsAt::DROPOUT..ScalarsAt::DROPOUT + 8].copy_from_slice(&scalars.dropout_counter.to_ne_bytes());
        if bytes != self.scalars {
            self.cuda.upload(self.memory.block(Block::Scalars), 0, &bytes)?;
            self.scalars = bytes;
        }
        Ok(())
    }

    /// Rebuilds the packed weights that the convolutions read, if parameters or averages changed.
    fn refresh_packed(&mut self, set: ParameterSet) -> Result<()> {
        if !self.packed[set as usize] {
            let work = self.memory.pack();
            let table = self.memory.table(set, self.memory.block(Block::Scalars));
            self.cuda.launch(&work, &table)?;
            self.packed[set as usize] = true;
        }
        Ok(())
    }

    /// See [`super::Executor::read_f32`].
    pub fn read(&self, plan: usize, value: ValueId) -> Result<Vec<f32>> {
        let (layout, arena) = (&self.plans[&plan].layout, self.memory.block(Block::Arena));
        let described = layout.physical.value(value);
        let start = layout.plan.offsets[value.0].ok_or_else(|| not_in_the_arena(described))?;
        let mut bytes = vec![0; described.bytes()];
        self.cuda.download(arena, start, &mut bytes)?;
        Ok(layout.read(value, &bytes))
    }

    /// See [`super::Executor::update`].
    pub fn update(&mut self, update: &Update) -> Result<f64> {
        let launches = self.update_launches(update)?;
        let table = self.memory.table(ParameterSet::Current, self.memory.block(Block::Scalars));
        self.cuda.launch(&launches, &table)?;
        self.mark_updated();
        Ok(self.memory.outcome(&self.cuda)?.norm)
    }

    /// Uploads the update's settings and returns its launches.
    fn update_launches(&mut self, update: &Update) -> Result<Vec<Work>> {
        let Update { clip_norm, average_decay, .. } = *update;
        let step = optimizer::Step { groups: &update.groups, clip_norm, average_decay };
        let scalars = match &update.rule {
            Rule::Sgd(sgd) => optimizer::sgd_scalars(sgd, &step),
            Rule::AdamW(adamw) => optimizer::adamw_scalars(adamw, &step),
        };
        self.cuda.upload(self.memory.block(Block::Scalars), ScalarsAt::UPDATE, bytes_of(&scalars))?;
        Ok(self.memory.update(&update.rule))
    }

    /// Records that an update changed the device's parameters: the host's copy and the averages' packed weights are out of date.
    fn mark_updated(&mut self) {
        self.stale = true;
        self.packed[ParameterSet::Average as usize] = false;
    }

    /// See [`super::Executor::store`].
    pub fn store(&mut self) -> Result<&Store> {
        if self.stale {
            self.memory.download(&self.cuda, &mut self.store)?;
            self.stale = false;
        }
        Ok(&self.store)
    }

    /// See [`super::Executor::edit_store`].
    pub fn edit_store<T>(&mut self, edit: impl FnOnce(&mut Store) -> T) -> Result<T> {
        self.store()?;
        let result = edit(&mut self.store);
        self.memory.upload(&mut self.cuda, &mut self.store)?;
        self.packed = [false; 2];
        Ok(result)
    }
}
