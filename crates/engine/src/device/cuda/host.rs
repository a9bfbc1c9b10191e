//! Runs kernels on the CPU, through a library that `kernels/host/build.rs` builds from them. Tests without a GPU use it.

use super::{Address, Convolution, Direction, Launch, Memory, Precision, Work};
use crate::error::{Error, Result};
use libloading::Library;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ops::Range;
use std::path::Path;

/// The kernels as a shared library for this machine's CPU.
pub struct Host {
    library: Library,
    precision: Precision,
    allocated: Vec<Memory>,
}

#[repr(C)]
struct Dims {
    grid: [u32; 3],
    threads: u32,
    shared_bytes: u32,
    block_count: u32,
    blocks: *const [u32; 3],
}

/// The initial content of a reserved buffer, numbered as in the shim. Kernels may write only to `Poison` and `Sums`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// 0xff in every byte.
    Poison = 0,
    /// −1, 0 or 1, stored as bf16.
    TernaryBf16 = 1,
    /// −1, 0 or 1, stored as f32.
    TernaryF32 = 2,
    /// 1, 2 or 3, stored as f32.
    Floats = 3,
    /// 1, 2 or 3, stored as f32, for kernels that add to it.
    Sums = 4,
}

impl Host {
    /// Opens the library that `kernels/host/build.rs` made.
    ///
    /// # Errors
    /// The library cannot be loaded.
    pub fn open(library: &Path, precision: Precision) -> Result<Host> {
        // SAFETY: the library has no initialisers but the C++ runtime's.
        let library = unsafe { Library::new(library) }
            .map_err(|e| Error::Other(format!("cannot load {}: {e}", library.display())))?;
        Ok(Host { library, precision, allocated: Vec::new() })
    }

    pub(super) fn precision(&self) -> Precision {
        self.precision
    }

    /// Sets the order in which the threads of a block run, for launches from this thread: 0 is in order, any other number is a
    /// seed.
    pub fn schedule(&self, seed: u64) {
        let schedule = self.function::<unsafe extern "C" fn(u64)>("ph_host_schedule");
        // SAFETY: the signature is the shim's.
        unsafe { schedule(seed) }
    }

    /// A block on its own pages, filled with 0xff; an access behind its end is a fault.
    pub fn allocate_poisoned(&mut self, bytes: usize) -> Result<Memory> {
        let allocate = self.function::<unsafe extern "C" fn(u64) -> *mut c_void>("ph_host_allocate");
        // SAFETY: the signature is the shim's.
        let start = unsafe { allocate(bytes as u64) };
        self.keep(start, bytes)
    }

    /// A block that uses memory only where it is touched, so that it may be larger than the machine's memory. Each number
    /// depends on its index and on `seed`. An access behind the end is a fault.
    ///
    /// # Errors
    /// Too little address space is free.
    pub fn reserve(&mut self, bytes: usize, contents: Contents, seed: u64) -> Result<Memory> {
        let reserve = self.function::<unsafe extern "C" fn(u64, u32, u64) -> *mut c_void>("ph_host_reserve");
        // SAFETY: the signature is the shim's.
        let start = unsafe { reserve(bytes as u64, contents as u32, seed) };
        self.keep(start, bytes)
    }

    /// The byte ranges of a reserved block that were touched, in ascending order and in whole chunks.
    pub fn touched(&self, memory: Memory) -> Vec<Range<usize>> {
        let next = self.function::<unsafe extern "C" fn(*mut c_void, u64, *mut [u64; 2]) -> c_int>("ph_host_touched");
        let (mut found, mut range) = (Vec::new(), [0, 0]);
        // SAFETY: the signature is the shim's.
        while unsafe { next(memory.address as *mut c_void, range[1], &mut range) } != 0 {
            found.push(range[0] as usize..range[1] as usize);
        }
        found
    }

    fn keep(&mut self, start: *mut c_void, bytes: usize) -> Result<Memory> {
        if start.is_null() {
            return Err(Error::Other(format!("cannot allocate {bytes} bytes of memory")));
        }
        let memory = Memory { address: start as u64, bytes };
        self.allocated.push(memory);
        Ok(memory)
    }

    pub(super) fn allocate(&mut self, bytes: usize) -> Result<Memory> {
        let memory = self.allocate_poisoned(bytes)?;
        self.upload(memory.address, &vec![0; bytes])?;
        Ok(memory)
    }

    pub(super) fn free(&mut self, memory: Memory) -> Result<()> {
        self.allocated.retain(|m| *m != memory);
        self.release(memory);
        Ok(())
    }

    fn release(&self, memory: Memory) {
        let free = self.function::<unsafe extern "C" fn(*mut c_void)>("ph_host_free");
        // SAFETY: made by the shim, and freed once.
        unsafe { free(memory.address as *mut c_void) }
    }

    pub(super) fn upload(&mut self, address: u64, data: &[u8]) -> Result<()> {
        // SAFETY: the caller checked that the bytes lie in one of our blocks.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), address as *mut u8, data.len()) }
        Ok(())
    }

    pub(super) fn download(&self, address: u64, data: &mut [u8]) -> Result<()> {
        // SAFETY: as in `upload`.
        unsafe { std::ptr::copy_nonoverlapping(address as *const u8, data.as_mut_ptr(), data.len()) }
        Ok(())
    }

    pub(super) fn launch(&mut self, work: &[Work], blocks: &[Memory]) -> Result<()> {
        work.iter().try_for_each(|work| match work {
            Work::Kernel(launch) => self.start(launch, blocks, &[]),
            Work::Convolution(convolution) => {
                self.convolve(convolution, blocks);
                Ok(())
            }
        })
    }

    /// Runs only the listed blocks of a launch's grid.
    ///
    /// # Errors
    /// The kernel did something undefined; the message gives the place in its source.
    pub fn launch_blocks(&mut self, launch: &Launch, memory: &[Memory], blocks: &[[u32; 3]]) -> Result<()> {
        let inside = |block: &[u32; 3]| block.iter().zip(&launch.grid).all(|(at, size)| at < size);
        assert!(!blocks.is_empty() && blocks.iter().all(inside), "the grid has every listed block");
        self.start(launch, memory, blocks)
    }

    /// Runs the listed blocks, or all blocks if none are listed.
    fn start(&self, launch: &Launch, memory: &[Memory], blocks: &[[u32; 3]]) -> Result<()> {
        let kernel = self.function::<unsafe extern "C" fn(*const c_void, *const Dims) -> c_int>(launch.kernel);
        let words = launch.arguments.resolve(memory);
        let Launch { grid, threads, shared_bytes, .. } = *launch;
        let dims = Dims { grid, threads, shared_bytes, block_count: blocks.len() as u32, blocks: blocks.as_ptr() };
        // SAFETY: the signature is the shim's; the words are the kernel's parameter struct, and the list outlives the call.
        let problem = match unsafe { kernel(words.as_ptr().cast(), &dims) } {
            0 => return Ok(()),
            1 => "its threads are in a deadlock",
            2 => "it accessed memory outside its buffers",
            4 => {
                "it accessed an address that is not a multiple of the access size, or did something else that is undefined"
            }
            _ => "its block or its shared memory is larger than a device supports",
        };
        let fault = self.fault();
        let place = if fault.is_empty() { String::new() } else { format!(": {fault}") };
        Err(Error::Other(format!("kernel {} ({}): {problem}{place}", launch.kernel, launch.file.name)))
    }

    /// A description of the last launch's fault and its place; empty if the shim does not know them.
    fn fault(&self) -> String {
        let fault = self.function::<unsafe extern "C" fn() -> *const c_char>("ph_host_fault");
        // SAFETY: the signature is the shim's; its string ends with a zero and stays valid until the next launch.
        unsafe { CStr::from_ptr(fault()) }.to_string_lossy().into_owned()
    }

    /// Computes the convolution that cuDNN would compute, as plain loops over bf16 numbers.
    fn convolve(&self, convolution: &Convolution, blocks: &[Memory]) {
        let Convolution { direction, sizes, x, weight, y, .. } = convolution;
        let ([n, h, w, c], [k, r, s, _], [_, p, q, _]) = (sizes.x, sizes.weight, sizes.y);
        let at = |a: &Address| blocks[a.block].address + a.offset as u64;
        let lens = [n * h * w * c, k * r * s * c, n * p * q * k];
        let output = match direction {
            Direction::Dgrad => 0,
            Direction::Wgrad => 1,
            Direction::Fprop => 2,
        };
        let mut values: Vec<Vec<f32>> = [x, weight, y]
            .iter()
            .zip(lens)
            .enumerate()
            .map(|(i, (a, len))| {
                let mut bytes = vec![0; 2 * len];
                // SAFETY: the operand lies in one of our blocks; the tests check this against the op's contract.
                let operand = unsafe { std::slice::from_raw_parts(at(a) as *const u8, 2 * len) };
                bytes.copy_from_slice(operand);
                let wide = |b: &[u8]| f32::from_bits(u32::from(u16::from_ne_bytes([b[0], b[1]])) << 16);
                if i == output { vec![0.0; len] } else { bytes.chunks_exact(2).map(wide).collect() }
            })
            .collect();
        let pixel = |o: usize, tap: usize, size: usize| {
            (o * sizes.stride + tap).checked_sub(sizes.padding).filter(|&i| i < size)
        };
        for (row, tap) in (0..n * p * q).flat_map(|row| (0..r * s).map(move |tap| (row, tap))) {
            let (image, i, j) = (row / (p * q), row / q % p, row % q);
            let (Some(i), Some(j)) = (pixel(i, tap / s, h), pixel(j, tap % s, w)) else { continue };
            let source = (image * h + i) * w + j;
            for (ki, ci) in (0..k).flat_map(|ki| (0..c).map(move |ci| (ki, ci))) {
                let [x, weight, y] = [source * c + ci, (ki * r * s + tap) * c + ci, row * k + ki];
                match direction {
                    Direction::Fprop => values[2][y] += values[0][x] * values[1][weight],
                    Direction::Dgrad => values[0][x] += values[2][y] * values[1][weight],
                    Direction::Wgrad => values[1][weight] += values[2][y] * values[0][x],
                }
            }
        }
        let narrow = |v: &f32| {
            let bits = v.to_bits();
            // Rounds to nearest, ties to even.
            ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
        };
        let bytes: Vec<u8> = values[output].iter().flat_map(|v| narrow(v).to_ne_bytes()).collect();
        let address = at([x, weight, y][output]);
        // SAFETY: as above.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), address as *mut u8, bytes.len()) }
    }

    fn function<T: Copy>(&self, name: &str) -> T {
        let name = CString::new(name).unwrap_or_else(|_| unreachable!("no name holds a zero byte"));
        // SAFETY: every caller passes the type that the shim declares.
        let symbol = unsafe { self.library.get::<T>(name.as_bytes_with_nul()) };
        *symbol.unwrap_or_else(|e| unreachable!("every kernel named in Rust is in kernels/: {e}"))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for memory in std::mem::take(&mut self.allocated) {
            self.release(memory);
        }
    }
}
