//! Runs plans. There is one executor per kind of device. All other code calls [`Executor`] and assumes no device.

pub mod compare;
mod cpu;
mod cuda;
pub mod store;

pub use crate::device::cuda::{Clocks, Gauge, LoadedLibrary};
pub use crate::ir::StepScalars;
pub use cpu::CpuExecutor;
pub use cuda::{CudaExecutor, Tiles};
pub use store::{ParameterSet, Store};

use crate::device::cpu::{Cpu, IsaName};
use crate::device::cuda::{Cuda, Driver, Filled, Precision, fill, loaded_libraries};
use crate::error::{Error, Result};
use crate::graph::fuse::Fusion;
use crate::ir::{Buffer, Graph, Node, Parameter, Segment, Value, ValueId};
use crate::ops::cost::Cost;
use crate::ops::{operation, optimizer};
use std::fmt;
use store::Rule;

/// Where a plan runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// This machine's processor.
    Cpu {
        /// Threads that compute; 0 means one per core.
        threads: usize,
    },
    /// A GPU by its number.
    Cuda {
        /// The GPU's number, from 0.
        ordinal: usize,
        /// The number type of maps.
        precision: Precision,
    },
    /// The GPU's kernels on this CPU, from a library built by `kernels/host/build.rs`. Only tests have it (feature `shim`).
    #[cfg(any(test, feature = "shim"))]
    CudaOnHost {
        /// The library's file.
        library: std::path::PathBuf,
        /// The number type of maps.
        precision: Precision,
    },
}

/// Limit of the threads that compute, more than any machine has cores.
const MOST_THREADS: usize = 1 << 10;

impl DeviceChoice {
    /// Reads `auto`, `cpu`, `cuda`, `cuda:N`, or `N` alone, which means the same. `auto` means the CPU until the GPU code has been
    /// measured.
    ///
    /// # Errors
    /// Any other word, or more threads than any machine can use.
    pub fn parse(word: &str, threads: usize) -> Result<DeviceChoice> {
        if threads > MOST_THREADS {
            return Err(Error::Usage(format!(
                "--threads {threads}: expected at most {MOST_THREADS}; 0 is one per core"
            )));
        }
        let cuda = |ordinal| DeviceChoice::Cuda { ordinal, precision: Precision::Bf16 };
        match word {
            "auto" | "cpu" => Ok(DeviceChoice::Cpu { threads }),
            "cuda" => Ok(cuda(0)),
            _ => word.strip_prefix("cuda:").unwrap_or(word).parse().map(cuda).map_err(|_| {
                Error::Usage(format!(
                    "--device {word}: expected auto, cpu, cuda, or the number of one GPU as cuda:N or N, as in --device cuda:0"
                ))
            }),
        }
    }

    /// The fusion settings that the device supports.
    pub fn fusions(&self) -> &'static [Fusion] {
        match self {
            // In f32 the convolutions are plain, because they serve as a reference.
            DeviceChoice::Cuda { precision: Precision::F32, .. } => &[Fusion::Off],
            #[cfg(any(test, feature = "shim"))]
            DeviceChoice::CudaOnHost { precision: Precision::F32, .. } => &[Fusion::Off],
            _ => &[Fusion::On, Fusion::Off],
        }
    }
}

/// The word that `--device` takes.
impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Cpu { .. } => f.write_str("cpu"),
            DeviceChoice::Cuda { ordinal, .. } => write!(f, "cuda:{ordinal}"),
            #[cfg(any(test, feature = "shim"))]
            DeviceChoice::CudaOnHost { .. } => f.write_str("the GPU's kernels on this CPU"),
        }
    }
}

impl DeviceChoice {
    /// Checks that the device is available, before anything is allocated for it.
    ///
    /// # Errors
    /// The device is not available; the message says what is missing.
    pub fn check(&self) -> Result<()> {
        match self {
            DeviceChoice::Cuda { ordinal, precision } => Driver::open(*ordinal, *precision).map(drop),
            _ => Ok(()),
        }
    }
}

/// A plan that an executor has prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlanId(usize);

/// One node of a plan and how long it took.
#[derive(Clone, Debug)]
pub struct NodeTime {
    /// The op's name, with the ops fused into it.
    pub name: String,
    /// The sizes that distinguish this node from others with the same name.
    pub sizes: String,
    /// The least work and memory traffic that the node can need.
    pub cost: Cost,
    /// One time per repeat.
    pub milliseconds: Vec<f64>,
    /// The times that cuDNN takes for a convolution without its epilogue; empty for other nodes and without cuDNN.
    pub plain_by_library: Vec<f64>,
}

impl NodeTime {
    fn list(graph: &Graph) -> Vec<NodeTime> {
        let time = |node: &Node| NodeTime {
            name: operation(&node.op).name(),
            sizes: operation(&node.op).sizes(graph, node),
            cost: operation(&node.op).cost(graph, node),
            milliseconds: Vec::new(),
            plain_by_library: Vec::new(),
        };
        graph.nodes.iter().map(time).collect()
    }

    /// The entry of segment 4, which has no nodes, before it is timed. `copies` is the size in bytes of the weight copies it
    /// writes.
    fn of_update(store: &Store, rule: &Rule, copies: usize) -> NodeTime {
        let parameters = store.update_ranges().iter().map(|range| range.len).sum();
        let moments = match rule {
            Rule::Sgd(_) => 1,
            Rule::AdamW(_) => 2,
        };
        NodeTime {
            name: "update".into(),
            sizes: format!("{parameters} parameters"),
            cost: optimizer::cost(parameters, moments, store.running.bytes() / 4, copies),
            milliseconds: Vec::new(),
            plain_by_library: Vec::new(),
        }
    }
}

/// The highest rates that a device reaches.
#[derive(Clone, Copy, Debug)]
pub struct Ceilings {
    /// The rate of a copy; bytes read and bytes written both count.
    pub bytes_per_second: f64,
    /// The rate of multiply-adds, each counted as two: on a CPU in registers, on a GPU in a large bf16 matrix product by cuBLAS.
    /// Absent on a GPU without cuBLAS.
    pub flops_per_second: Option<f64>,
}

/// The error for a value that the host cannot read.
fn not_in_the_arena(value: &Value) -> Error {
    Error::Other(format!("{} cannot be read: no node of the plan writes it, or fusion left it out", value.name))
}

/// Compiles the kernels for GPUs of one architecture, on any machine, and returns which libraries were used.
///
/// # Errors
/// No NVRTC, an architecture it does not know, or a cache that cannot be written.
pub fn compile_kernels(architecture: &str) -> Result<(Filled, Vec<LoadedLibrary>)> {
    let filled = fill(architecture)?;
    Ok((filled, loaded_libraries()))
}

/// An executor of either kind.
pub enum Executor {
    /// Runs on the CPU.
    Cpu(Box<CpuExecutor>),
    /// Runs on a GPU, or its kernels on the CPU.
    Cuda(Box<CudaExecutor>),
}

impl Executor {
    /// Makes the Store for these parameters on the chosen device, all zero.
    ///
    /// # Errors
    /// The device is not available, or the system refuses the memory.
    pub fn new(choice: &DeviceChoice, parameters: &[Parameter], buffers: &[Buffer]) -> Result<Executor> {
        let store = Store::new(parameters, buffers)?;
        let cuda = match choice {
            DeviceChoice::Cpu { threads } => {
                return Ok(Executor::Cpu(Box::new(CpuExecutor::new(Cpu::new(*threads)?, store))));
            }
            DeviceChoice::Cuda { ordinal, precision } => Cuda::Driver(Box::new(Driver::open(*ordinal, *precision)?)),
            #[cfg(any(test, feature = "shim"))]
            DeviceChoice::CudaOnHost { library, precision } => {
                Cuda::Host(crate::device::cuda::Host::open(library, *precision)?)
            }
        };
        Ok(Executor::Cuda(Box::new(CudaExecutor::new(cuda, store)?)))
    }

    /// Fuses and plans `graph` for this device and allocates the memory it needs.
    ///
    /// # Errors
    /// A graph whose parameters are not the first of the executor's, a node with inputs that its op does not support, too little
    /// memory, or a network that the device cannot run.
    pub fn prepare(&mut self, graph: Graph, fusion: Fusion) -> Result<PlanId> {
        match self {
            Executor::Cpu(e) => e.prepare(graph, fusion).map(PlanId),
            Executor::Cuda(e) => e.prepare(graph, fusion).map(PlanId),
        }
    }

    /// Frees the list of nodes and the batch of a plan. The arena keeps its size, because all plans
    /// share it. Running a released plan panics; releasing it again does nothing.
    ///
    /// # Errors
    /// A GPU that refuses a call.
    pub fn release(&mut self, plan: PlanId) -> Result<()> {
        match self {
            Executor::Cpu(e) => {
                e.release(plan.0);
                Ok(())
            }
            Executor::Cuda(e) => e.release(plan.0),
        }
    }

    /// Sets where a GPU's convolutions take their tiles from. Call it before the first plan. It does nothing on a CPU.
    pub fn set_tiles(&mut self, tiles: Tiles) {
        match self {
            Executor::Cpu(_) => {}
            Executor::Cuda(e) => e.set_tiles(tiles),
        }
    }

    /// The instruction set that the CPU's ops use; `None` on a GPU.
    pub fn isa(&self) -> Option<IsaName> {
        match self {
            Executor::Cpu(e) => Some(e.isa()),
            Executor::Cuda(_) => None,
        }
    }

    /// The hash of the tiles that were measured for the plans made so far. On one machine, runs with the same seed and the same
    /// hash compute the same numbers. `None` if nothing was measured: on a CPU, or in f32.
    pub fn tuning_hash(&self) -> Option<String> {
        match self {
            Executor::Cpu(_) => None,
            Executor::Cuda(e) => e.tuning_hash(),
        }
    }

    /// Bytes of the arena that all plans share.
    pub fn arena_bytes(&self) -> usize {
        match self {
            Executor::Cpu(e) => e.arena_bytes(),
            Executor::Cuda(e) => e.arena_bytes(),
        }
    }

    /// Writes a value of the batch. This method and the following ones return an error if a GPU refuses a call.
    pub fn write_u8(&mut self, plan: PlanId, value: ValueId, data: &[u8]) -> Result<()> {
        match self {
            Executor::Cpu(e) => {
                e.write(plan.0, value, data);
                Ok(())
            }
            Executor::Cuda(e) => e.write(plan.0, value, data),
        }
    }

    /// Writes a value of the batch as f32; `data` holds every element. See [`Executor::write_u8`].
    pub fn write_f32(&mut self, plan: PlanId, value: ValueId, data: &[f32]) -> Result<()> {
        self.write_u8(plan, value, store::bytes_of(data))
    }

    /// Writes a value of the batch as i32; `data` holds every element. See [`Executor::write_u8`].
    pub fn write_i32(&mut self, plan: PlanId, value: ValueId, data: &[i32]) -> Result<()> {
        self.write_u8(plan, value, store::bytes_of(data))
    }

    /// Runs one segment with the parameters of `set`.
    pub fn run(&mut self, plan: PlanId, segment: Segment, set: ParameterSet, scalars: &StepScalars) -> Result<()> {
        match self {
            Executor::Cpu(e) => e.run(plan.0, segment, set, scalars),
            Executor::Cuda(e) => e.run(plan.0, segment, set, scalars),
        }
    }

    /// The inner products `[K, K]`, row by row, of the `tasks` tasks' unweighted gradients, summed over all features or weights
    /// where the plan compares them. [`Segment::Probe`] computes them; they stay valid until it runs again.
    ///
    /// # Errors
    /// A plan that compares no gradients, or a GPU that refuses a call.
    pub fn gramian(&self, plan: PlanId, tasks: usize) -> Result<Vec<f64>> {
        let graph = match self {
            Executor::Cpu(e) => e.graph(plan.0),
            Executor::Cuda(e) => e.logical(plan.0),
        };
        let of_tasks = graph.nodes.iter().filter(|node| operation(&node.op).compares_tasks());
        let parts: Vec<ValueId> = of_tasks.map(|node| node.outputs[0]).collect();
        if parts.is_empty() {
            return Err(Error::Usage(
                "the plan was made without a probe: nothing in it compares the tasks' gradients".into(),
            ));
        }
        let mut gramian = vec![0.0; tasks * tasks];
        for part in parts {
            let products = self.read_f32(plan, part)?;
            debug_assert_eq!(products.len(), gramian.len());
            gramian.iter_mut().zip(products).for_each(|(sum, product)| *sum += f64::from(product));
        }
        Ok(gramian)
    }

    /// Reads a value that the host may read: an output of the graph.
    ///
    /// # Errors
    /// A value that no node of the plan writes, or a GPU that refuses a call.
    pub fn read_f32(&self, plan: PlanId, value: ValueId) -> Result<Vec<f32>> {
        match self {
            Executor::Cpu(e) => e.read(plan.0, value),
            Executor::Cuda(e) => e.read(plan.0, value),
        }
    }

    /// Times every node of a plan in `repeats` whole steps, after one warm-up step.
    ///
    /// # Errors
    /// A GPU that refuses a call.
    pub fn time_nodes(&mut self, plan: PlanId, scalars: &StepScalars, repeats: usize) -> Result<Vec<NodeTime>> {
        match self {
            Executor::Cpu(e) => e.time_nodes(plan.0, scalars, repeats),
            Executor::Cuda(e) => e.time_nodes(plan.0, scalars, repeats),
        }
    }

    /// Runs every node of a GPU's plan by itself and compares it with the same node of `cpu`'s plan; see [`compare::nodes`].
    ///
    /// # Errors
    /// Executors that are not one of a GPU and one of a CPU with the same plan, or a GPU that refuses a call.
    pub fn compare_nodes(
        &mut self,
        plan: PlanId,
        cpu: (&mut Executor, PlanId),
        scalars: &StepScalars,
    ) -> Result<Vec<compare::NodeComparison>> {
        match (self, cpu) {
            (Executor::Cuda(ours), (Executor::Cpu(cpu), theirs)) => {
                compare::nodes((ours, plan.0), (cpu, theirs.0), scalars)
            }
            _ => Err(Error::Usage("only a GPU's kernels can be compared with the CPU's ops".into())),
        }
    }

    /// Measures the highest rates that the device reaches.
    ///
    /// # Errors
    /// A GPU that refuses a call.
    pub fn ceilings(&mut self) -> Result<Ceilings> {
        match self {
            Executor::Cpu(e) => Ok(e.ceilings()),
            Executor::Cuda(e) => e.ceilings(),
        }
    }

    /// Reads a GPU's clocks, temperature and power; `None` on a CPU or without NVML.
    pub fn gauge(&self) -> Option<Gauge> {
        match self {
            Executor::Cpu(_) => None,
            Executor::Cuda(e) => e.gauge(),
        }
    }

    /// NVIDIA's libraries that a GPU has used so far; none on a CPU.
    pub fn libraries(&self) -> Vec<LoadedLibrary> {
        match self {
            Executor::Cpu(_) => Vec::new(),
            Executor::Cuda(e) => e.libraries(),
        }
    }

    /// Times segment 4 as a whole, `repeats` times in a row.
    ///
    /// # Errors
    /// A GPU that refuses a call.
    pub fn time_update(&mut self, update: &store::Update, repeats: usize) -> Result<NodeTime> {
        match self {
            Executor::Cpu(e) => Ok(e.time_update(update, repeats)),
            Executor::Cuda(e) => e.time_update(update, repeats),
        }
    }

    /// Runs segment 4. Returns the gradient norm over the active groups, each scaled by its factor. If the norm is not finite,
    /// nothing is updated.
    pub fn update(&mut self, update: &store::Update) -> Result<f64> {
        match self {
            Executor::Cpu(e) => Ok(e.update(update)),
            Executor::Cuda(e) => e.update(update),
        }
    }

    /// The Store, for checkpoints; on a GPU this copies it to the host.
    pub fn store(&mut self) -> Result<&Store> {
        match self {
            Executor::Cpu(e) => Ok(&e.store),
            Executor::Cuda(e) => e.store(),
        }
    }

    /// Changes the contents of the Store; packed weights are rebuilt before the next run.
    pub fn edit_store<T>(&mut self, edit: impl FnOnce(&mut Store) -> T) -> Result<T> {
        match self {
            Executor::Cpu(e) => {
                let result = edit(&mut e.store);
                e.store.touch();
                Ok(result)
            }
            Executor::Cuda(e) => e.edit_store(edit),
        }
    }
}
