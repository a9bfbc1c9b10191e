//! Work for a device as data: the kernel, the number of blocks, and its arguments with addresses that are resolved at launch.

use super::{Convolution, File, Memory};
use std::fmt;

/// A place in device memory: the index of a block in the table given at launch, and an offset in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Index into the table of blocks.
    pub block: usize,
    /// Bytes from the start of the block.
    pub offset: usize,
}

impl Address {
    /// The address `bytes` further on in the same block.
    pub fn plus(self, bytes: usize) -> Address {
        Address { offset: self.offset + bytes, ..self }
    }
}

/// One piece of work for a device.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Computed by one of our own kernels.
    Kernel(Launch),
    /// Computed by cuDNN.
    Convolution(Convolution),
}

impl From<Launch> for Work {
    fn from(launch: Launch) -> Work {
        Work::Kernel(launch)
    }
}

/// The name of the work, for messages.
impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Work::Kernel(launch) => write!(f, "kernel {} ({})", launch.kernel, launch.file.name),
            Work::Convolution(convolution) => convolution.fmt(f),
        }
    }
}

/// Turns a list of launches into a list of work.
pub fn work(launches: Vec<Launch>) -> Vec<Work> {
    launches.into_iter().map(Work::Kernel).collect()
}

/// A launch of one of our own kernels.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// The file that contains the kernel.
    pub file: File,
    /// The kernel's name in its file.
    pub kernel: &'static str,
    /// The number of blocks along x, y and z.
    pub grid: [u32; 3],
    /// The number of threads of a block.
    pub threads: u32,
    /// Dynamic shared memory of a block.
    pub shared_bytes: u32,
    /// The struct that the kernel takes as its only parameter.
    pub arguments: Arguments,
}

/// The bytes of a kernel's parameter struct, in C's layout.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arguments {
    bytes: Vec<u8>,
    addresses: Vec<(usize, Address)>,
}

impl Arguments {
    /// A struct without members; add them in the order in which the kernel declares them.
    pub fn new() -> Arguments {
        Arguments::default()
    }

    /// Adds a pointer, which is resolved when the launch runs.
    pub fn pointer(mut self, address: Address) -> Arguments {
        self.align(8);
        self.addresses.push((self.bytes.len(), address));
        self.bytes.extend([0; 8]);
        self
    }

    /// Adds a pointer, or a null pointer if there is no address.
    pub fn optional(mut self, address: Option<Address>) -> Arguments {
        match address {
            Some(address) => self.pointer(address),
            None => {
                self.align(8);
                self.bytes.extend([0; 8]);
                self
            }
        }
    }

    /// Adds an `int`.
    pub fn int(mut self, value: usize) -> Arguments {
        let value =
            i32::try_from(value).unwrap_or_else(|_| unreachable!("a size of 2³¹ is refused when a plan is made"));
        self.align(4);
        self.bytes.extend(value.to_ne_bytes());
        self
    }

    /// Adds a `float`.
    pub fn float(mut self, value: f32) -> Arguments {
        self.align(4);
        self.bytes.extend(value.to_ne_bytes());
        self
    }

    /// Adds a `u64`.
    pub fn long(mut self, value: u64) -> Arguments {
        self.align(8);
        self.bytes.extend(value.to_ne_bytes());
        self
    }

    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    /// The struct with every address filled in, in 8-byte words so that it is aligned.
    pub(super) fn resolve(&self, blocks: &[Memory]) -> Vec<u64> {
        let mut words = vec![0u64; self.bytes.len().div_ceil(8)];
        for (word, bytes) in words.iter_mut().zip(self.bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(whole);
        }
        for (at, address) in &self.addresses {
            words[at / 8] = blocks[address.block].address + address.offset as u64;
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_lie_as_c_lays_them_out() {
        let at = |block, offset| Address { block, offset };
        let arguments = Arguments::new().pointer(at(1, 16)).int(7).optional(None).float(1.5).int(3).long(9);
        let blocks = [Memory { address: 1000, bytes: 64 }, Memory { address: 2000, bytes: 64 }];
        let words = arguments.resolve(&blocks);
        assert_eq!(words, [2016, 7, 0, 3 << 32 | u64::from(1.5f32.to_bits()), 9]);
    }
}
