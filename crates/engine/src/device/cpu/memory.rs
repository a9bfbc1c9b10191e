//! Host memory for buffers: zeroed, aligned to a cache line, reused for a whole run.

/// One cache line.
const ALIGNMENT: usize = 64;

/// A zeroed block of bytes whose start is a multiple of 64.
pub struct Aligned {
    /// Owns the memory; the block starts `offset` bytes into it.
    words: Vec<u128>,
    offset: usize,
    bytes: usize,
}

impl Aligned {
    /// Uses zeroed memory from the system, so that a block that is never written (a Store's gradients in prediction) takes no
    /// memory. The words are only 16-byte aligned because a larger alignment would be zeroed by writing.
    pub fn zeroed(bytes: usize) -> Aligned {
        let words = vec![0u128; (bytes + ALIGNMENT).div_ceil(size_of::<u128>())];
        let offset = words.as_ptr().cast::<u8>().align_offset(ALIGNMENT);
        assert!(offset < ALIGNMENT, "a word is at most a line away from the next line");
        Aligned { words, offset, bytes }
    }

    /// Whether the system would provide this much memory now. It may still run out when the memory is used.
    pub fn is_available(bytes: usize) -> bool {
        Vec::<u8>::new().try_reserve_exact(bytes.saturating_add(ALIGNMENT)).is_ok()
    }

    /// A block that holds these numbers.
    pub fn of_f32(values: &[f32]) -> Aligned {
        let mut memory = Aligned::zeroed(values.len() * 4);
        memory.f32_mut().copy_from_slice(values);
        memory
    }

    /// Bytes of the block.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The start of the block.
    pub fn as_ptr(&self) -> *const u8 {
        // It lies within `words` by the assertion in `zeroed`.
        self.words.as_ptr().cast::<u8>().wrapping_add(self.offset)
    }

    /// The start of the block.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.words.as_mut_ptr().cast::<u8>().wrapping_add(self.offset)
    }

    /// The block as f32, as many as fit.
    pub fn f32(&self) -> &[f32] {
        // SAFETY: the block holds `bytes` initialised bytes, aligned to 64, and any bit pattern is an f32.
        unsafe { std::slice::from_raw_parts(self.as_ptr().cast(), self.bytes / 4) }
    }

    /// The block as f32, as many as fit.
    pub fn f32_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `f32`, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr().cast(), self.bytes / 4) }
    }

    /// All bytes of the block.
    pub fn u8_mut(&mut self) -> &mut [u8] {
        // SAFETY: the block holds `bytes` initialised bytes, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr(), self.bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_aligned_zero_and_whole() {
        for bytes in [0, 4, 64, 1000, 1 << 20] {
            let mut block = Aligned::zeroed(bytes);
            assert_eq!((block.as_ptr() as usize % 64, block.bytes(), block.u8_mut().len()), (0, bytes, bytes));
            assert!(block.u8_mut().iter().all(|&b| b == 0));
            block.u8_mut().fill(7);
            // The address of the block does not change when it is moved.
            let mut moved = Box::new(block);
            assert!((moved.as_ptr() as usize).is_multiple_of(64) && moved.u8_mut().iter().all(|&b| b == 7));
        }
    }
}
