//! Host memory for buffers: zeroed, aligned to a cache line, reused for a whole run. A buffer that may be large is allocated so
//! that a refusal by the system is an error, because an ordinary allocation would abort the process.

use crate::error::{Error, Result};
use std::alloc::{Layout, alloc_zeroed};

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
        Aligned::over(vec![0u128; Aligned::words(bytes)], bytes)
    }

    /// The same, if the system provides the memory.
    pub fn try_zeroed(bytes: usize) -> Option<Aligned> {
        Some(Aligned::over(zeroed_words(Aligned::words(bytes))?, bytes))
    }

    /// The number of words that hold a block of this many bytes, wherever it starts.
    fn words(bytes: usize) -> usize {
        bytes.saturating_add(ALIGNMENT).div_ceil(size_of::<u128>())
    }

    fn over(words: Vec<u128>, bytes: usize) -> Aligned {
        let offset = words.as_ptr().cast::<u8>().align_offset(ALIGNMENT);
        assert!(offset < ALIGNMENT, "a word is at most a line away from the next line");
        Aligned { words, offset, bytes }
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

/// Zeroed words from the system; `None` if it refuses them.
fn zeroed_words(len: usize) -> Option<Vec<u128>> {
    let layout = Layout::array::<u128>(len).ok().filter(|layout| layout.size() > 0)?;
    // SAFETY: the layout's size is not zero.
    let start = unsafe { alloc_zeroed(layout) }.cast::<u128>();
    // SAFETY: the global allocator returned this block for an array of `len` words, and zeros are words.
    (!start.is_null()).then(|| unsafe { Vec::from_raw_parts(start, len, len) })
}

/// Zeroed bytes. Bytes that are never written take no memory.
///
/// # Errors
/// `Memory` if the system refuses them; it names the purpose and the advice.
pub fn zeroed_bytes(len: usize, purpose: &str, advice: &'static str) -> Result<Vec<u8>> {
    let Some(layout) = Layout::array::<u8>(len).ok().filter(|layout| layout.size() > 0) else {
        return if len == 0 { Ok(Vec::new()) } else { Err(refused(len, purpose, advice)) };
    };
    // SAFETY: the layout's size is not zero.
    let start = unsafe { alloc_zeroed(layout) };
    if start.is_null() {
        return Err(refused(len, purpose, advice));
    }
    // SAFETY: the global allocator returned this block for an array of `len` bytes, all of which are zero.
    Ok(unsafe { Vec::from_raw_parts(start, len, len) })
}

/// Makes room for a buffer of `len` bytes, whose content stays.
///
/// # Errors
/// `Memory` if the system refuses it; it names the purpose and the advice.
pub fn reserve(buffer: &mut Vec<u8>, len: usize, purpose: &str, advice: &'static str) -> Result<()> {
    let more = len.saturating_sub(buffer.len());
    buffer.try_reserve_exact(more).map_err(|_| refused(len, purpose, advice))
}

/// Whether the system would provide this much memory now, for a buffer that other code allocates right after.
///
/// # Errors
/// `Memory` if not; it names the purpose and the advice.
pub fn check_available(bytes: usize, purpose: &str, advice: &'static str) -> Result<()> {
    reserve(&mut Vec::new(), bytes, purpose, advice)
}

fn refused(bytes: usize, purpose: &str, advice: &'static str) -> Error {
    Error::Memory { bytes, purpose: purpose.to_owned(), advice }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_no_machine_has_is_refused_and_named() {
        let most = isize::MAX as usize;
        assert!(Aligned::try_zeroed(most).is_none() && Aligned::try_zeroed(usize::MAX).is_none());
        for len in [most, usize::MAX] {
            let said = zeroed_bytes(len, "a batch", "lower --batch").unwrap_err().to_string();
            assert!(said.starts_with("the system refuses ") && said.ends_with(" for a batch: lower --batch"), "{said}");
            assert!(reserve(&mut vec![1], len, "a batch", "lower --batch").is_err());
            assert!(check_available(len, "a batch", "lower --batch").is_err());
        }
        assert_eq!(zeroed_bytes(1000, "", "").unwrap(), [0; 1000]);
        assert!(zeroed_bytes(0, "", "").unwrap().is_empty());
        let mut block = Aligned::try_zeroed(1000).unwrap();
        assert!(block.u8_mut().len() == 1000 && block.u8_mut().iter().all(|&byte| byte == 0));
    }

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
