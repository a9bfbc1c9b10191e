//! A GPU through the CUDA driver: one context, one stream, modules loaded at first use, launches recorded as graphs.

use super::cudnn::{Cudnn, Refusal};
use super::events::Event;
use super::pace::Pace;
use super::pinned::{Pinned, Uploads};
use super::{File, Launch, Memory, Precision, Staging, Work, cache};
use crate::error::{Error, Result};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::path::PathBuf;

/// The dynamic shared memory that every kernel may use without a special attribute.
const DEFAULT_SHARED_BYTES: u32 = 48 << 10;

/// From this much dynamic shared memory on, the driver is asked to prefer shared memory over cache for a kernel.
const LARGE_SHARED_BYTES: u32 = 16 << 10;

/// A device's properties and limits, as the driver reports them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub name: String,
    /// Compute capability, 9.0 for Hopper.
    pub capability: (i32, i32),
    pub processors: usize,
    pub shared_bytes_per_block: usize,
    pub l2_bytes: usize,
    pub memory_bytes: usize,
}

/// A GPU through its driver: one stream of work, and the kernels loaded so far.
pub struct Driver {
    precision: Precision,
    pace: Pace,
    limits: Limits,
    architecture: String,
    pub(super) device: sys::CUdevice,
    context: sys::CUcontext,
    pub(super) stream: sys::CUstream,
    /// The stream that copies batches while `stream` computes.
    copies: sys::CUstream,
    uploads: Uploads,
    modules: HashMap<&'static str, sys::CUmodule>,
    allocated: Vec<sys::CUdeviceptr>,
    /// Each kernel's function with the dynamic shared memory that it may use.
    functions: HashMap<&'static str, (sys::CUfunction, u32)>,
    /// `None` until it is first needed; `Some(None)` if it is not available.
    cudnn: Option<Option<Cudnn>>,
}

/// Launches that were recorded once and are replayed by one call.
pub struct Graph {
    graph: sys::CUgraph,
    executable: sys::CUgraphExec,
}

// SAFETY: every call first binds the context to the calling thread, and `&mut self` prevents concurrent calls.
unsafe impl Send for Driver {}
// SAFETY: it is only replayed through the Driver that made it.
unsafe impl Send for Graph {}

impl Driver {
    /// Opens device `ordinal`.
    ///
    /// # Errors
    /// No driver, no such device, or one with a compute capability below 8.0. The message says where it looked and what to do.
    pub fn open(ordinal: usize, precision: Precision) -> Result<Driver> {
        let pace = Pace::of(std::env::var("POLYHEAD_CUDA_SYNC").ok().as_deref())?;
        // SAFETY: the call only looks for the library.
        if !unsafe { sys::is_culib_present() } {
            return Err(Error::Usage(
                "--device cuda: the NVIDIA driver's libcuda.so.1 was not found in LD_LIBRARY_PATH or the system's library \
                 folders; install the driver, or use --device cpu"
                    .into(),
            ));
        }
        result::init().map_err(|e| {
            Error::Usage(format!(
                "--device cuda: the NVIDIA driver did not start ({}); see what nvidia-smi says",
                words(&e)
            ))
        })?;
        let count = result::device::get_count().map_err(failed("cuDeviceGetCount"))?;
        let wanted = i32::try_from(ordinal).ok().filter(|o| *o < count).ok_or_else(|| {
            Error::Usage(format!("--device cuda:{ordinal}: the driver sees {count} device(s), numbered from 0"))
        })?;
        let device = result::device::get(wanted).map_err(failed("cuDeviceGet"))?;
        let limits = limits(device)?;
        if limits.capability < (8, 0) {
            return Err(Error::Usage(format!(
                "--device cuda:{ordinal}: {} has compute capability {}.{}; the kernels compute in bf16, which needs 8.0 or newer",
                limits.name, limits.capability.0, limits.capability.1
            )));
        }
        super::compiler::version()?;
        // SAFETY: the device exists; the context is released in `drop`.
        let context = unsafe { result::primary_ctx::retain(device) }.map_err(failed("cuDevicePrimaryCtxRetain"))?;
        // SAFETY: the context was just retained.
        unsafe { result::ctx::set_current(context) }.map_err(failed("cuCtxSetCurrent"))?;
        let stream =
            || result::stream::create(result::stream::StreamKind::NonBlocking).map_err(failed("cuStreamCreate"));
        let (stream, copies) = (stream()?, stream()?);
        let architecture = format!("sm_{}{}", limits.capability.0, limits.capability.1);
        let (modules, functions, allocated) = (HashMap::new(), HashMap::new(), Vec::new());
        Ok(Driver {
            precision,
            pace,
            limits,
            architecture,
            device,
            context,
            stream,
            copies,
            uploads: Uploads::default(),
            modules,
            allocated,
            functions,
            cudnn: None,
        })
    }

    /// Whether a driver is present and sees a device.
    pub fn is_present() -> bool {
        // SAFETY: the call only looks for the library.
        let library = unsafe { sys::is_culib_present() };
        library && result::init().is_ok() && result::device::get_count().is_ok_and(|count| count > 0)
    }

    pub(super) fn precision(&self) -> Precision {
        self.precision
    }

    pub(crate) fn pace(&self) -> Pace {
        self.pace
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// See [`super::Cuda::measurements`].
    pub(super) fn measurements(&self, files: &[File]) -> Result<PathBuf> {
        cache::measurements(&self.limits, files, &self.architecture, self.precision)
    }

    /// cuDNN, if it is available.
    pub(super) fn cudnn(&mut self) -> Result<Option<&mut Cudnn>> {
        self.bind()?;
        Ok(self.cudnn.get_or_insert_with(|| Cudnn::open(self.stream)).as_mut())
    }

    pub(super) fn bind(&self) -> Result<()> {
        // SAFETY: the context lives as long as `self`.
        unsafe { result::ctx::set_current(self.context) }.map_err(failed("cuCtxSetCurrent"))
    }

    pub(crate) fn allocate(&mut self, bytes: usize) -> Result<Memory> {
        self.bind()?;
        // SAFETY: the block is freed by `free` or with the context, and is filled here before it is read.
        let address = unsafe { result::malloc_sync(bytes.max(1)) }.map_err(|e| {
            let free = result::mem_get_info().map_or(0, |(free, _)| free);
            Error::Other(format!(
                "{} cannot allocate {} MiB ({} MiB are free, {}); lower --batch or --imgsz",
                self.limits.name,
                bytes >> 20,
                free >> 20,
                words(&e)
            ))
        })?;
        self.allocated.push(address);
        // SAFETY: the block was just made with this size.
        unsafe { result::memset_d8_async(address, 0, bytes.max(1), self.stream) }.map_err(failed("cuMemsetD8Async"))?;
        Ok(Memory { address, bytes })
    }

    pub(super) fn free(&mut self, memory: Memory) -> Result<()> {
        self.synchronize()?;
        self.allocated.retain(|&address| address != memory.address);
        // SAFETY: made by `allocate`, and nothing on the stream uses it any more.
        unsafe { result::free_sync(memory.address) }.map_err(failed("cuMemFree"))
    }

    pub(super) fn upload(&mut self, address: u64, data: &[u8]) -> Result<()> {
        self.bind()?;
        // SAFETY: the caller checked the range.
        unsafe { self.uploads.copy(address, data, self.stream) }
    }

    pub(super) fn download(&self, address: u64, data: &mut [u8]) -> Result<()> {
        self.bind()?;
        // SAFETY: the caller checked the range, and `data` lives until the stream has been waited for.
        unsafe { result::memcpy_dtoh_async(data, address, self.stream) }.map_err(failed("cuMemcpyDtoHAsync"))?;
        self.synchronize()
    }

    pub(super) fn staging(&mut self, bytes: usize) -> Result<Staging> {
        let memory = self.allocate(bytes)?;
        let pinned = Some(Pinned::new(bytes, self.copies, self.stream)?);
        Ok(Staging { memory, pinned })
    }

    /// Uploads while the device computes: `data` is copied to pinned memory at once, and to the device when its old contents are
    /// unused.
    pub(super) fn stage(&mut self, memory: Memory, pinned: &Pinned, offset: usize, data: &[u8]) -> Result<()> {
        self.bind()?;
        // SAFETY: the caller checked the range.
        unsafe { pinned.copy(memory.address + offset as u64, offset, data) }
    }

    pub(super) fn settle(&mut self, pinned: &Pinned) -> Result<()> {
        self.bind()?;
        pinned.settle()
    }

    /// Marks a batch as complete; the work that is started next waits for its upload.
    pub(super) fn staged(&mut self, pinned: &Pinned) -> Result<()> {
        self.bind()?;
        pinned.hand_over(self.stream)
    }

    /// Marks the work started so far as the last that reads a batch.
    pub(super) fn used(&mut self, pinned: &Pinned) -> Result<()> {
        self.bind()?;
        pinned.used(self.stream)
    }

    /// Waits for all work started so far.
    pub(super) fn synchronize(&self) -> Result<()> {
        self.bind()?;
        self.wait().map_err(failed("cuStreamSynchronize"))
    }

    fn wait(&self) -> Result<(), DriverError> {
        // SAFETY: the stream lives as long as `self`.
        unsafe { result::stream::synchronize(self.stream) }
    }

    pub(super) fn launch(&mut self, work: &[Work], blocks: &[Memory]) -> Result<()> {
        Ok(self.start_all(work, blocks)?)
    }

    /// See [`super::Cuda::attempt`].
    pub(super) fn attempt(&mut self, work: &[Work], blocks: &[Memory]) -> Result<bool> {
        match self.start_all(work, blocks) {
            Ok(()) => self.synchronize().map(|()| true),
            Err(Refusal::NotSupported(_)) => Ok(false),
            Err(Refusal::Failed(error)) => Err(error),
        }
    }

    fn start_all(&mut self, work: &[Work], blocks: &[Memory]) -> Result<(), Refusal> {
        self.bind()?;
        for work in work {
            match work {
                Work::Kernel(launch) => self.start(launch, blocks)?,
                Work::Convolution(convolution) => match self.cudnn()? {
                    Some(cudnn) => cudnn.run(convolution, blocks)?,
                    None => {
                        let gone = "cuDNN, which is to compute a layer, is no longer available";
                        return Err(Error::Other(gone.into()).into());
                    }
                },
            }
            if self.pace == Pace::OneByOne {
                self.wait().map_err(|e| Error::Other(format!("{work} failed: {}", words(&e))))?;
            }
        }
        Ok(())
    }

    fn start(&mut self, launch: &Launch, blocks: &[Memory]) -> Result<()> {
        let function = self.function(launch)?;
        let words = launch.arguments.resolve(blocks);
        let mut parameters = [words.as_ptr().cast_mut().cast::<c_void>()];
        let [x, y, z] = launch.grid;
        // SAFETY: the parameter is the kernel's struct, which the driver copies before the call returns; the tests check its
        // addresses against the op's contract.
        unsafe {
            result::launch_kernel(
                function,
                (x, y, z),
                (launch.threads, 1, 1),
                launch.shared_bytes,
                self.stream,
                &mut parameters,
            )
        }
        .map_err(failed(launch.kernel))
    }

    /// Loads the kernels of `work`, because loading is not allowed inside a recording.
    fn load(&mut self, work: &[Work]) -> Result<()> {
        work.iter().try_for_each(|work| match work {
            Work::Kernel(launch) => self.function(launch).map(drop),
            // It was loaded when it ran once as the plan was made.
            Work::Convolution(_) => Ok(()),
        })
    }

    /// Records `work` instead of starting it.
    pub(crate) fn record(&mut self, work: &[Work], blocks: &[Memory]) -> Result<Graph> {
        self.load(work)?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives as long as `self`; the recording is closed below in every case.
        unsafe { result::stream::begin_capture(self.stream, mode) }.map_err(failed("cuStreamBeginCapture"))?;
        let recorded = self.launch(work, blocks);
        // SAFETY: the stream is recording.
        let graph = unsafe { result::stream::end_capture(self.stream) }.map_err(failed("cuStreamEndCapture"));
        recorded?;
        let graph = graph?;
        // SAFETY: the graph was just recorded.
        let executable = unsafe { result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0)) }
            .map_err(failed("cuGraphInstantiate"))?;
        Ok(Graph { graph, executable })
    }

    pub(crate) fn replay(&mut self, graph: &Graph) -> Result<()> {
        self.bind()?;
        // SAFETY: made by `record` of this device.
        unsafe { result::graph::launch(graph.executable, self.stream) }.map_err(failed("cuGraphLaunch"))
    }

    /// See [`super::Cuda::time`]; measured with events on the stream.
    pub(super) fn time(&mut self, groups: &[Vec<Work>], blocks: &[Memory]) -> Result<Vec<f64>> {
        groups.iter().try_for_each(|work| self.load(work))?;
        let events: Vec<Event> = (0..=groups.len()).map(|_| Event::new()).collect::<Result<_>>()?;
        events[0].record(self.stream)?;
        for (work, event) in groups.iter().zip(&events[1..]) {
            self.launch(work, blocks)?;
            event.record(self.stream)?;
        }
        self.synchronize()?;
        events.windows(2).map(|pair| pair[0].until(&pair[1])).collect()
    }

    /// The kernel of a launch, loaded and with its shared memory allowed.
    fn function(&mut self, launch: &Launch) -> Result<sys::CUfunction> {
        self.bind()?;
        let (function, asked) = match self.functions.get(launch.kernel) {
            Some(&known) => known,
            None => {
                let module = self.module(launch.file)?;
                let name = c_string(launch.kernel);
                // SAFETY: the module is loaded and stays loaded.
                let function = unsafe { result::module::get_function(module, name) }.map_err(failed(launch.kernel))?;
                (function, 0)
            }
        };
        if launch.shared_bytes > asked.max(DEFAULT_SHARED_BYTES) {
            let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            set_attribute(function, attribute, launch.shared_bytes as i32)?;
        }
        // Without this the driver guesses how to divide a multiprocessor's memory between cache and shared memory. Four blocks of
        // the 128×64 tile, 49 KB each, fit on a Hopper multiprocessor only if nearly all of it is shared memory.
        if asked < LARGE_SHARED_BYTES && launch.shared_bytes >= LARGE_SHARED_BYTES {
            let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT;
            set_attribute(function, attribute, sys::CUshared_carveout::CU_SHAREDMEM_CARVEOUT_MAX_SHARED as i32)?;
        }
        self.functions.insert(launch.kernel, (function, asked.max(launch.shared_bytes)));
        Ok(function)
    }

    fn module(&mut self, file: File) -> Result<sys::CUmodule> {
        if let Some(&module) = self.modules.get(file.name) {
            return Ok(module);
        }
        let cubin = cache::cubin(file, &self.architecture, self.precision)?;
        // SAFETY: the driver reads the size from the image's own header; NVRTC made it for this device.
        let module = unsafe { result::module::load_data(cubin.as_ptr().cast()) }.map_err(failed("cuModuleLoadData"))?;
        self.modules.insert(file.name, module);
        Ok(module)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // SAFETY: all were made by `open` and are destroyed once. A failure here cannot be handled.
        unsafe {
            let _ = result::ctx::set_current(self.context);
            let _ = result::stream::synchronize(self.stream);
            let _ = result::stream::synchronize(self.copies);
            self.cudnn = None;
            self.uploads.clear();
            for &address in &self.allocated {
                let _ = result::free_sync(address);
            }
            for &module in self.modules.values() {
                let _ = result::module::unload(module);
            }
            let _ = result::stream::destroy(self.stream);
            let _ = result::stream::destroy(self.copies);
            let _ = result::primary_ctx::release(self.device);
        }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: both were made by `record` and are destroyed once.
        unsafe {
            let _ = result::graph::exec_destroy(self.executable);
            let _ = result::graph::destroy(self.graph);
        }
    }
}

fn limits(device: sys::CUdevice) -> Result<Limits> {
    use sys::CUdevice_attribute as A;
    let attribute = |a: A| -> Result<i32> {
        // SAFETY: the device came from the driver.
        unsafe { result::device::get_attribute(device, a) }.map_err(failed("cuDeviceGetAttribute"))
    };
    let size = |a: A| attribute(a).map(|v| v as usize);
    Ok(Limits {
        name: result::device::get_name(device).map_err(failed("cuDeviceGetName"))?,
        capability: (
            attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        processors: size(A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        shared_bytes_per_block: size(A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        l2_bytes: size(A::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)?,
        // SAFETY: as above.
        memory_bytes: unsafe { result::device::total_mem(device) }.map_err(failed("cuDeviceTotalMem"))?,
    })
}

fn c_string(name: &str) -> CString {
    CString::new(name).unwrap_or_else(|_| unreachable!("no kernel's name holds a zero byte"))
}

fn set_attribute(function: sys::CUfunction, attribute: sys::CUfunction_attribute, value: i32) -> Result<()> {
    // SAFETY: the caller has the function from a module that stays loaded.
    unsafe { result::function::set_function_attribute(function, attribute, value) }
        .map_err(failed("cuFuncSetAttribute"))
}

fn words(error: &DriverError) -> String {
    let text = |r: std::result::Result<&std::ffi::CStr, DriverError>| r.map(|s| s.to_string_lossy().into_owned());
    match (text(error.error_name()), text(error.error_string())) {
        (Ok(name), Ok(said)) => format!("{name}: {said}"),
        _ => format!("{error:?}"),
    }
}

pub(super) fn failed(call: &'static str) -> impl FnOnce(DriverError) -> Error {
    move |e| {
        let hint = if is_from_earlier_kernel(&e) {
            "; a kernel started before this call failed: set POLYHEAD_CUDA_SYNC=1 to wait for each kernel and see which one"
        } else {
            ""
        };
        Error::Other(format!("the GPU refused {call}: {}{hint}", words(&e)))
    }
}

/// Whether an error comes from a kernel that was launched earlier; the driver reports it at whatever call comes next.
fn is_from_earlier_kernel(error: &DriverError) -> bool {
    use sys::CUresult as R;
    matches!(
        error.0,
        R::CUDA_ERROR_ILLEGAL_ADDRESS
            | R::CUDA_ERROR_MISALIGNED_ADDRESS
            | R::CUDA_ERROR_INVALID_ADDRESS_SPACE
            | R::CUDA_ERROR_ILLEGAL_INSTRUCTION
            | R::CUDA_ERROR_INVALID_PC
            | R::CUDA_ERROR_HARDWARE_STACK_ERROR
            | R::CUDA_ERROR_LAUNCH_TIMEOUT
            | R::CUDA_ERROR_LAUNCH_FAILED
    )
}
