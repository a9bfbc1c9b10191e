//! Runs the ops' kernels in tests: on a GPU if there is one, and through the shim on this CPU, in both precisions.

use super::Expected;
use crate::device::cuda::{Address, Cuda, Driver, File, Host, Launch, Memory, Precision, work};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};

#[path = "../../../../../kernels/host/build.rs"]
mod shim;

/// bf16 keeps 8 bits: one rounding is 2⁻⁹ of the value, and twice that is allowed.
const BF16: f64 = 1.0 / 256.0;

/// One device with a test's blocks. Each block is allocated separately, so that an access outside it is detected.
pub(crate) struct Board {
    cuda: Cuda,
    blocks: Vec<Memory>,
}

impl Board {
    fn new(cuda: Cuda) -> Board {
        Board { cuda, blocks: Vec::new() }
    }

    pub fn precision(&self) -> Precision {
        self.cuda.precision()
    }

    fn add(&mut self, memory: Memory) -> Address {
        self.blocks.push(memory);
        Address { block: self.blocks.len() - 1, offset: 0 }
    }

    pub fn bytes(&mut self, data: &[u8]) -> Address {
        let memory = self.cuda.allocate(data.len()).unwrap();
        self.cuda.upload(memory, 0, data).unwrap();
        self.add(memory)
    }

    pub fn floats(&mut self, data: &[f32]) -> Address {
        self.bytes(&data.iter().flat_map(|v| v.to_ne_bytes()).collect::<Vec<u8>>())
    }

    pub fn integers(&mut self, data: &[i32]) -> Address {
        self.bytes(&data.iter().flat_map(|v| v.to_ne_bytes()).collect::<Vec<u8>>())
    }

    /// Stores `data` as the kernels' activations; the numbers should be exact in bf16.
    pub fn activations(&mut self, data: &[f32]) -> Address {
        match self.precision() {
            Precision::F32 => self.floats(data),
            Precision::Bf16 => {
                let halves: Vec<u8> = data.iter().flat_map(|v| ((v.to_bits() >> 16) as u16).to_ne_bytes()).collect();
                self.bytes(&halves)
            }
        }
    }

    /// A block of `bytes` filled with 0xff, which is NaN in every format.
    pub fn poisoned(&mut self, bytes: usize) -> Address {
        let memory = match &mut self.cuda {
            Cuda::Host(host) => host.allocate_poisoned(bytes).unwrap(),
            Cuda::Driver(driver) => driver.allocate(bytes).unwrap(),
        };
        self.cuda.upload(memory, 0, &vec![0xff; bytes]).unwrap();
        self.add(memory)
    }

    pub fn floats_out(&mut self, len: usize) -> Address {
        self.poisoned(4 * len)
    }

    pub fn activations_out(&mut self, len: usize) -> Address {
        self.poisoned(self.precision().bytes() * len)
    }

    pub fn run(&mut self, launches: &[Launch]) {
        self.cuda.launch(&work(launches.to_vec()), &self.blocks).unwrap();
    }

    pub fn read_bytes(&self, at: Address, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        self.cuda.download(self.blocks[at.block], at.offset, &mut data).unwrap();
        data
    }

    pub fn read_floats(&self, at: Address, len: usize) -> Vec<f32> {
        self.read_bytes(at, 4 * len).chunks_exact(4).map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]])).collect()
    }

    pub fn read_activations(&self, at: Address, len: usize) -> Vec<f32> {
        match self.precision() {
            Precision::F32 => self.read_floats(at, len),
            Precision::Bf16 => {
                let wide = |b: &[u8]| f32::from_bits(u32::from(u16::from_ne_bytes([b[0], b[1]])) << 16);
                self.read_bytes(at, 2 * len).chunks_exact(2).map(wide).collect()
            }
        }
    }
}

/// Runs the op's kernels in both precisions: twice on a GPU if there is one, and through the shim with three orders of threads.
/// The runs on one device must give the same bits, close to `expected`. Without a device nothing is tested; see [`library`].
pub(crate) fn check_kernels(case: &str, expected: &[Expected], run: impl Fn(&mut Board) -> Vec<Vec<f32>>) {
    for precision in [Precision::F32, Precision::Bf16] {
        let unit = if precision == Precision::Bf16 { BF16 } else { 0.0 };
        let compare = |what: &str, outputs: &[Vec<f32>]| {
            assert_eq!(outputs.len(), expected.len(), "{what}: number of outputs");
            expected.iter().zip(outputs).for_each(|(expected, got)| expected.compare(what, got, unit));
        };
        if gpu() {
            let once = || run(&mut Board::new(Cuda::Driver(Box::new(Driver::open(0, precision).unwrap()))));
            let (first, second) = (once(), once());
            compare(&format!("{case} on the GPU in {precision:?}"), &first);
            assert!(same(&first, &second), "{case} on the GPU in {precision:?}: two runs differ");
        }
        let Some(library) = library(precision) else { continue };
        let scheduled = |seed: u64| {
            let host = Host::open(&library, precision).unwrap();
            host.schedule(seed);
            run(&mut Board::new(Cuda::Host(host)))
        };
        let in_order = scheduled(0);
        compare(&format!("{case} in {precision:?}"), &in_order);
        for seed in [1, 2] {
            assert!(
                same(&in_order, &scheduled(seed)),
                "{case} in {precision:?}: the result depends on the order of threads"
            );
        }
    }
}

/// Whether a GPU is present. Its context is kept for the whole process, because each case opens the device anew. If
/// `POLYHEAD_REQUIRE_GPU` is set, a missing GPU is a failure.
fn gpu() -> bool {
    static CONTEXT: OnceLock<Option<Mutex<Driver>>> = OnceLock::new();
    let open = || Driver::is_present().then(|| Mutex::new(Driver::open(0, Precision::F32).unwrap()));
    let present = CONTEXT.get_or_init(open).is_some();
    assert!(present || std::env::var_os("POLYHEAD_REQUIRE_GPU").is_none(), "no GPU was found");
    present
}

fn same(a: &[Vec<f32>], b: &[Vec<f32>]) -> bool {
    a.iter().flatten().map(|v| v.to_bits()).eq(b.iter().flatten().map(|v| v.to_bits()))
}

/// The kernels compiled for this CPU, once per test process. If they cannot be compiled, a message says so and the check is
/// skipped, unless `POLYHEAD_REQUIRE_SHIM` is set.
fn library(precision: Precision) -> Option<PathBuf> {
    static BUILDING: Mutex<()> = Mutex::new(());
    let _alone = BUILDING.lock().unwrap_or_else(|e| e.into_inner());
    let target = std::env::current_exe().unwrap().parent().unwrap().to_path_buf();
    match shim::build(&File::ALL.map(|file| file.name), precision.bits(), &target) {
        Ok(library) => Some(library),
        Err(e) if std::env::var_os("POLYHEAD_REQUIRE_SHIM").is_some() => panic!("{e}"),
        Err(e) => {
            eprintln!("skipped: kernels on this CPU: {e}");
            None
        }
    }
}
