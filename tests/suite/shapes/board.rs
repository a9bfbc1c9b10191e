//! Runs kernels at sizes larger than the machine's memory: reserved buffers on the shim, which are read and compared in
//! parts.

use polyhead::device::cuda::{Address, Contents, Cuda, File, Host, Launch, Memory, Precision};
use std::ops::Range;

/// A buffer of numbers on the board.
#[derive(Clone, Copy)]
pub struct Buffer {
    pub at: Address,
    /// Bytes per number.
    pub width: usize,
    pub len: usize,
}

pub struct Board {
    cuda: Cuda,
    memory: Vec<Memory>,
}

impl Board {
    pub fn new(precision: Precision) -> Option<Board> {
        let files = [File::CONV2D, File::CONV2D_WGRAD, File::CONV2D_DIRECT].map(|file| file.name);
        let library = crate::kernels::library(&files, precision)?;
        Some(Board { cuda: Cuda::Host(Host::open(&library, precision).unwrap()), memory: Vec::new() })
    }

    fn host(&mut self) -> &mut Host {
        match &mut self.cuda {
            Cuda::Host(host) => host,
            Cuda::Driver(_) => unreachable!("only the shim is opened"),
        }
    }

    pub fn reserve(&mut self, len: usize, width: usize, contents: Contents, seed: usize) -> Buffer {
        let memory = self.host().reserve(len * width, contents, seed as u64).unwrap();
        self.memory.push(memory);
        Buffer { at: Address { block: self.memory.len() - 1, offset: 0 }, width, len }
    }

    fn seeded(&mut self, len: usize, width: usize, contents: Contents) -> Buffer {
        let seed = self.memory.len() + 1;
        self.reserve(len, width, contents, seed)
    }

    /// Activations or weights with values −1, 0 or 1.
    pub fn ternary(&mut self, len: usize) -> Buffer {
        match self.cuda.precision() {
            Precision::Bf16 => self.seeded(len, 2, Contents::TernaryBf16),
            Precision::F32 => self.seeded(len, 4, Contents::TernaryF32),
        }
    }

    /// Values 1, 2 or 3.
    pub fn floats(&mut self, len: usize) -> Buffer {
        self.seeded(len, 4, Contents::Floats)
    }

    pub fn activations_out(&mut self, len: usize) -> Buffer {
        let width = self.cuda.precision().bytes();
        self.seeded(len, width, Contents::Poison)
    }

    pub fn floats_out(&mut self, len: usize) -> Buffer {
        self.seeded(len, 4, Contents::Poison)
    }

    pub fn launch(&mut self, what: &str, launch: &Launch, blocks: &[[u32; 3]]) {
        let memory = self.memory.clone();
        self.host().launch_blocks(launch, &memory, blocks).unwrap_or_else(|e| panic!("{what}: {e}"));
    }

    pub fn read(&self, from: Buffer, first: usize, len: usize) -> Vec<f32> {
        assert!(first + len <= from.len, "a row lies in its buffer");
        let mut bytes = vec![0; len * from.width];
        self.cuda.download(self.memory[from.at.block], first * from.width, &mut bytes).unwrap();
        let wide = |b: &[u8]| match *b {
            [low, high] => f32::from_bits(u32::from(u16::from_ne_bytes([low, high])) << 16),
            [a, b, c, d] => f32::from_ne_bytes([a, b, c, d]),
            _ => unreachable!("numbers are of two or four bytes"),
        };
        bytes.chunks_exact(from.width).map(wide).collect()
    }

    /// Compares the output with `expected`, up to a relative error of `bound`, and poisons it again.
    pub fn take(&mut self, what: &str, from: Buffer, first: usize, expected: &[f32], bound: f32) {
        let got = self.read(from, first, expected.len());
        for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
            let near = (got - expected).abs() <= bound * expected.abs();
            assert!(near, "{what}: {got} for {expected}, element {} of {}", first + i, from.len);
        }
        self.write(from, first, &vec![0xff; expected.len() * from.width]);
    }

    pub fn write(&mut self, to: Buffer, first: usize, bytes: &[u8]) {
        self.cuda.upload(self.memory[to.at.block], first * to.width, bytes).unwrap();
    }

    /// The ranges of bytes that were touched.
    pub fn touched(&mut self, buffer: Buffer) -> Vec<Range<usize>> {
        let memory = self.memory[buffer.at.block];
        self.host().touched(memory)
    }

    /// Checks that a buffer contains only poison after all expected outputs were taken.
    pub fn is_untouched(&mut self, what: &str, buffer: Buffer) {
        let memory = self.memory[buffer.at.block];
        for range in self.touched(buffer) {
            let mut bytes = vec![0; range.len()];
            self.cuda.download(memory, range.start, &mut bytes).unwrap();
            let written = bytes.chunks(64).position(|chunk| *chunk != [0xff; 64][..chunk.len()]);
            let place = |chunk: usize| (range.start + 64 * chunk) / buffer.width;
            assert!(written.is_none(), "{what} wrote near element {} of {}", written.map_or(0, place), buffer.len);
        }
    }
}
