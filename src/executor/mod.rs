//! Runs plans. One executor per device kind; everything above speaks to [`Executor`] and assumes no device.

mod cpu;
pub mod store;

pub use cpu::CpuExecutor;
pub use store::{ParameterSet, Store};

use crate::device::cpu::Cpu;
use crate::error::{Error, Result};
use crate::graph::fuse::Fusion;
use crate::graph::ir::{Buffer, Graph, Parameter, Segment, ValueId};

/// Where a plan runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    Cpu { threads: usize },
}

impl DeviceChoice {
    /// Reads `auto` or `cpu`.
    ///
    /// # Errors
    /// Any other word.
    pub fn parse(word: &str, threads: usize) -> Result<DeviceChoice> {
        match word {
            "auto" | "cpu" => Ok(DeviceChoice::Cpu { threads }),
            _ => Err(Error::Usage(format!("--device {word}: this build knows `auto` and `cpu`"))),
        }
    }
}

/// What changes between steps, read by the ops and the update: data, never baked into a plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepScalars {
    /// Per task: weight at the seam; exactly 0 for a task without labels in this step.
    pub task_weights: Vec<f32>,
    /// Per task: what its summed loss is divided by; 0 gives loss 0.
    pub denominators: Vec<f32>,
    /// Position in dropout's random stream.
    pub dropout_counter: u64,
}

/// A plan made ready on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlanId(usize);

/// The devices there are.
pub enum Executor {
    Cpu(CpuExecutor),
}

impl Executor {
    /// Makes the Store for these parameters on the chosen device, all zero.
    ///
    /// # Errors
    /// The device cannot be had.
    pub fn new(choice: DeviceChoice, parameters: &[Parameter], buffers: &[Buffer]) -> Result<Executor> {
        match choice {
            DeviceChoice::Cpu { threads } => {
                let store = Store::new(parameters, buffers);
                Ok(Executor::Cpu(CpuExecutor::new(Cpu::new(threads)?, store)))
            }
        }
    }

    /// Fuses and plans `graph` for this device and makes room for it.
    pub fn prepare(&mut self, graph: Graph, fusion: Fusion) -> PlanId {
        match self {
            Executor::Cpu(e) => PlanId(e.prepare(graph, fusion)),
        }
    }

    /// Bytes of the arena that all plans share.
    pub fn arena_bytes(&self) -> usize {
        match self {
            Executor::Cpu(e) => e.arena_bytes(),
        }
    }

    pub fn write_u8(&mut self, plan: PlanId, value: ValueId, data: &[u8]) {
        match self {
            Executor::Cpu(e) => e.write(plan.0, value, data),
        }
    }

    pub fn write_f32(&mut self, plan: PlanId, value: ValueId, data: &[f32]) {
        match self {
            Executor::Cpu(e) => e.write(plan.0, value, store::bytes_of(data)),
        }
    }

    pub fn write_i32(&mut self, plan: PlanId, value: ValueId, data: &[i32]) {
        match self {
            Executor::Cpu(e) => e.write(plan.0, value, store::bytes_of(data)),
        }
    }

    /// Runs one segment with the parameters of `set`.
    pub fn run(&mut self, plan: PlanId, segment: Segment, set: ParameterSet, scalars: &StepScalars) {
        match self {
            Executor::Cpu(e) => e.run(plan.0, segment, set, scalars),
        }
    }

    /// Reads a value that the host may read: an output of the graph.
    pub fn read_f32(&self, plan: PlanId, value: ValueId) -> Vec<f32> {
        match self {
            Executor::Cpu(e) => e.read(plan.0, value),
        }
    }

    /// Segment 4. Returns the gradient norm over the active groups, each counted with its factor; where that is not finite,
    /// nothing was updated.
    pub fn update(&mut self, update: &store::Update) -> f64 {
        match self {
            Executor::Cpu(e) => e.update(update),
        }
    }

    /// The Store, for checkpoints; on a device this copies.
    pub fn store(&self) -> &Store {
        match self {
            Executor::Cpu(e) => &e.store,
        }
    }

    /// Replaces what the Store holds; derived forms are rebuilt before the next run.
    pub fn edit_store(&mut self, edit: impl FnOnce(&mut Store)) {
        match self {
            Executor::Cpu(e) => {
                edit(&mut e.store);
                e.store.touch();
            }
        }
    }
}
