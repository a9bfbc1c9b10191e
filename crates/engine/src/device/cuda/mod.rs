//! CUDA devices: kernels compiled at first use and cached on disk, memory, launches, recorded graphs. Ops are defined elsewhere.
//!
//! The same kernels run in two ways: on a GPU (`driver`), and for tests on a CPU through the shim in `kernels/host` (`host`).

mod cache;
mod ceilings;
mod clocks;
pub mod compiler;
mod cudnn;
mod cudnn_calls;
mod driver;
mod events;
mod host;
mod launch;
mod libraries;
mod pace;
mod pinned;
mod sources;

pub use cache::{Filled, fill};
pub(crate) use cache::{fingerprint, keep};
pub use clocks::{Clocks, Gauge};
pub use cudnn::Direction;
pub(crate) use cudnn::{Convolution, Sizes};
pub use driver::Driver;
pub(crate) use driver::{Graph, Limits};
pub use host::{Contents, Host};
pub(crate) use launch::work;
pub use launch::{Address, Arguments, Launch, Work};
pub use libraries::LoadedLibrary;
pub(crate) use libraries::loaded_libraries;
pub(crate) use pace::Pace;
pub(crate) use pinned::Pinned;
pub use sources::File;

use crate::error::Result;
use std::path::PathBuf;

/// The number type of stored activations; sums are f32 or f64 in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// bf16, the upper half of an f32. All runs use it.
    Bf16,
    /// f32, for comparisons with the CPU: convolutions are plain and nothing is fused.
    F32,
}

impl Precision {
    /// Bytes of one stored activation.
    pub fn bytes(self) -> usize {
        match self {
            Precision::Bf16 => 2,
            Precision::F32 => 4,
        }
    }

    /// The value of the kernels' macro `PH_ACTIVATION_BITS`.
    pub fn bits(self) -> usize {
        8 * self.bytes()
    }
}

/// A device that runs kernels.
pub enum Cuda {
    /// A GPU.
    Driver(Box<Driver>),
    /// The kernels compiled for this CPU, in tests.
    Host(Host),
}

/// One block of device memory from [`Cuda::allocate`]; freed with the device at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub(self) address: u64,
    /// Bytes of the block.
    pub bytes: usize,
}

/// A block that a batch is uploaded to while the device computes on another.
pub struct Staging {
    /// The block on the device.
    pub memory: Memory,
    /// Absent on the shim, where an upload is a plain copy.
    pinned: Option<Pinned>,
}

impl Memory {
    /// No block.
    pub const NONE: Memory = Memory { address: 0, bytes: 0 };
}

impl Cuda {
    /// The number of multiprocessors; the shim behaves as if it had two, so that long sums are split.
    pub fn processors(&self) -> usize {
        match self {
            Cuda::Driver(d) => d.limits().processors,
            Cuda::Host(_) => 2,
        }
    }

    /// The number type of stored activations.
    pub fn precision(&self) -> Precision {
        match self {
            Cuda::Driver(d) => d.precision(),
            Cuda::Host(h) => h.precision(),
        }
    }

    /// The file for measurements of `files` on this kind of GPU; `None` on the shim, whose times mean nothing.
    pub fn measurements(&self, files: &[File]) -> Option<PathBuf> {
        match self {
            Cuda::Driver(d) => d.measurements(files).ok(),
            Cuda::Host(_) => None,
        }
    }

    /// A block of zeros, aligned to 256 bytes.
    ///
    /// # Errors
    /// Too little memory is free.
    pub fn allocate(&mut self, bytes: usize) -> Result<Memory> {
        match self {
            Cuda::Driver(d) => d.allocate(bytes),
            Cuda::Host(h) => h.allocate(bytes),
        }
    }

    /// Frees a block at once; no launch may still use it.
    ///
    /// # Errors
    /// The device refuses the call.
    pub fn free(&mut self, memory: Memory) -> Result<()> {
        match self {
            Cuda::Driver(d) => d.free(memory),
            Cuda::Host(h) => h.free(memory),
        }
    }

    /// Copies from host to device, in the order of launches; `data` may be changed or freed afterwards.
    pub fn upload(&mut self, memory: Memory, offset: usize, data: &[u8]) -> Result<()> {
        assert!(offset + data.len() <= memory.bytes, "an upload stays within its block");
        match self {
            Cuda::Driver(d) => d.upload(memory.address + offset as u64, data),
            Cuda::Host(h) => h.upload(memory.address + offset as u64, data),
        }
    }

    /// A block for batches.
    ///
    /// # Errors
    /// Too little memory is free, on the device or pinned on the host.
    pub fn staging(&mut self, bytes: usize) -> Result<Staging> {
        match self {
            Cuda::Driver(d) => d.staging(bytes),
            Cuda::Host(h) => Ok(Staging { memory: h.allocate(bytes)?, pinned: None }),
        }
    }

    /// Copies from the host to a batch's block while launches use another; see [`Cuda::staged`].
    pub fn stage(&mut self, staging: &Staging, offset: usize, data: &[u8]) -> Result<()> {
        assert!(offset + data.len() <= staging.memory.bytes, "a batch stays within its block");
        match (self, &staging.pinned) {
            (Cuda::Driver(d), Some(pinned)) => d.stage(staging.memory, pinned, offset, data),
            (cuda, _) => cuda.upload(staging.memory, offset, data),
        }
    }

    /// Waits until a staged batch has been uploaded, so that the block may be staged again.
    pub fn settle(&mut self, staging: &Staging) -> Result<()> {
        match (self, &staging.pinned) {
            (Cuda::Driver(d), Some(pinned)) => d.settle(pinned),
            _ => Ok(()),
        }
    }

    /// Waits for all work started so far.
    ///
    /// # Errors
    /// A launch that failed.
    pub fn settle_all(&mut self) -> Result<()> {
        match self {
            Cuda::Driver(d) => d.synchronize(),
            Cuda::Host(_) => Ok(()),
        }
    }

    /// Marks a batch as complete: launches from here on read it.
    pub fn staged(&mut self, staging: &Staging) -> Result<()> {
        match (self, &staging.pinned) {
            (Cuda::Driver(d), Some(pinned)) => d.staged(pinned),
            _ => Ok(()),
        }
    }

    /// Marks the launches started so far as the last that read the batch.
    pub fn used(&mut self, staging: &Staging) -> Result<()> {
        match (self, &staging.pinned) {
            (Cuda::Driver(d), Some(pinned)) => d.used(pinned),
            _ => Ok(()),
        }
    }

    /// Copies from device to host, after all earlier launches.
    pub fn download(&self, memory: Memory, offset: usize, data: &mut [u8]) -> Result<()> {
        assert!(offset + data.len() <= memory.bytes, "a download stays within its block");
        match self {
            Cuda::Driver(d) => d.download(memory.address + offset as u64, data),
            Cuda::Host(h) => h.download(memory.address + offset as u64, data),
        }
    }

    /// The workspace that cuDNN needs for one direction of a convolution; `None` without cuDNN or if it has no deterministic
    /// algorithm. The shim's replacement for cuDNN needs none.
    ///
    /// # Errors
    /// cuDNN fails for a reason other than not supporting the convolution.
    pub fn cudnn_workspace(&mut self, direction: Direction, sizes: &Sizes) -> Result<Option<usize>> {
        match self {
            Cuda::Driver(d) => match d.cudnn()? {
                Some(cudnn) => cudnn.workspace_bytes(direction, sizes),
                None => Ok(None),
            },
            Cuda::Host(_) => Ok(Some(0)),
        }
    }

    /// Runs groups of work one after another and returns the milliseconds that each group took.
    ///
    /// # Errors
    /// The errors of [`Cuda::launch`].
    pub fn time(&mut self, groups: &[Vec<Work>], blocks: &[Memory]) -> Result<Vec<f64>> {
        match self {
            Cuda::Driver(d) => d.time(groups, blocks),
            Cuda::Host(h) => groups
                .iter()
                .map(|work| {
                    let start = std::time::Instant::now();
                    h.launch(work, blocks)?;
                    Ok(start.elapsed().as_secs_f64() * 1e3)
                })
                .collect(),
        }
    }

    /// Bytes per second of a copy within the device's memory, counting both reads and writes. Infinite on the shim, which
    /// measures nothing.
    ///
    /// # Errors
    /// Too little memory is free.
    pub fn copy_ceiling(&mut self) -> Result<f64> {
        match self {
            Cuda::Driver(d) => d.copy_ceiling(),
            Cuda::Host(_) => Ok(f64::INFINITY),
        }
    }

    /// Operations per second of a large bf16 matrix product by cuBLAS; `None` without cuBLAS, and on the shim.
    ///
    /// # Errors
    /// Too little memory is free.
    pub fn multiply_ceiling(&mut self) -> Result<Option<f64>> {
        match self {
            Cuda::Driver(d) => d.multiply_ceiling(),
            Cuda::Host(_) => Ok(None),
        }
    }

    /// Reads the device's clocks; `None` without NVML, and on the shim.
    pub fn gauge(&self) -> Option<Gauge> {
        match self {
            Cuda::Driver(d) => Gauge::of(d),
            Cuda::Host(_) => None,
        }
    }

    /// Starts `work` in its order; `blocks` is the table that its addresses refer to.
    ///
    /// # Errors
    /// A kernel that does not compile, or a device that refuses a launch.
    pub fn launch(&mut self, work: &[Work], blocks: &[Memory]) -> Result<()> {
        match self {
            Cuda::Driver(d) => d.launch(work, blocks),
            Cuda::Host(h) => h.launch(work, blocks),
        }
    }

    /// Runs `work` and waits for it, so that a failure can be attributed to it; `false` if cuDNN does not support it.
    ///
    /// # Errors
    /// The errors of [`Cuda::launch`], and a kernel that fails.
    pub fn attempt(&mut self, work: &[Work], blocks: &[Memory]) -> Result<bool> {
        match self {
            Cuda::Driver(d) => d.attempt(work, blocks),
            Cuda::Host(h) => h.launch(work, blocks).map(|()| true),
        }
    }
}
