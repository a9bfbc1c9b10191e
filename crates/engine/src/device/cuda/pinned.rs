//! Pinned host memory that the device copies from while the host continues. A copy out of ordinary memory may still read it after
//! the call has returned: the driver's manual only says that the data might be staged first. Therefore the data is kept here
//! until the copy's event has passed.

use super::driver::failed;
use super::events::Event;
use crate::error::Result;
use cudarc::driver::{result, sys};

/// The largest upload that does not block the host. A step's scalars are far smaller.
const SLOT_BYTES: usize = 64 << 10;
/// The number of uploads that may be in flight at once. A step has two to four.
const SLOTS: usize = 4;

/// One block of pinned memory.
struct Block {
    start: *mut u8,
    bytes: usize,
    /// The last copy from this block.
    copied: Event,
}

impl Block {
    fn new(bytes: usize) -> Result<Block> {
        let copied = Event::untimed()?;
        // SAFETY: freed by `drop`, after the last copy from it.
        let start = unsafe { result::malloc_host(bytes.max(1), 0) }.map_err(failed("cuMemHostAlloc"))?;
        Ok(Block { start: start.cast(), bytes, copied })
    }

    /// Waits for the last copy, then writes `data` at `offset`. The returned bytes stay unchanged until the next copy is over.
    fn write(&self, offset: usize, data: &[u8]) -> Result<&[u8]> {
        assert!(offset + data.len() <= self.bytes, "a copy stays within its pinned block");
        self.copied.wait()?;
        // SAFETY: the range was checked, only this value uses the memory, and the device no longer reads it.
        unsafe {
            std::ptr::copy_nonoverlapping(data.as_ptr(), self.start.add(offset), data.len());
            Ok(std::slice::from_raw_parts(self.start.add(offset), data.len()))
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let _ = self.copied.wait();
        // SAFETY: made by `new` and freed once, after the last copy from it.
        let _ = unsafe { result::free_host(self.start.cast()) };
    }
}

// SAFETY: it is only used through the Driver that made it, which prevents concurrent calls.
unsafe impl Send for Block {}

/// Pinned memory from which uploads are copied. Small ones use slots in turn. It is allocated at the first upload.
#[derive(Default)]
pub(super) struct Uploads {
    slots: Vec<Block>,
    next: usize,
}

impl Uploads {
    /// Copies `data` to the device in the order of `stream`; `data` may be changed or freed afterwards.
    ///
    /// # Safety
    /// `address` points to at least `data.len()` bytes of device memory.
    pub unsafe fn copy(&mut self, address: u64, data: &[u8], stream: sys::CUstream) -> Result<()> {
        if data.len() > SLOT_BYTES {
            // Only parameters and tables are this large. Their uploads are rare and outside steps.
            // SAFETY: the caller promises the address, and `data` is borrowed until the copy is over.
            unsafe { result::memcpy_htod_async(address, data, stream) }.map_err(failed("cuMemcpyHtoDAsync"))?;
            // SAFETY: the caller's stream is valid.
            return unsafe { result::stream::synchronize(stream) }.map_err(failed("cuStreamSynchronize"));
        }
        if self.slots.len() < SLOTS {
            self.slots.push(Block::new(SLOT_BYTES)?);
        }
        let slot = &self.slots[self.next % SLOTS];
        self.next += 1;
        let kept = slot.write(0, data)?;
        // SAFETY: the caller promises the address, and the slot is not written before its event has passed.
        unsafe { result::memcpy_htod_async(address, kept, stream) }.map_err(failed("cuMemcpyHtoDAsync"))?;
        slot.copied.record(stream)
    }

    /// Frees the slots, which needs the context that they were made in.
    pub fn clear(&mut self) {
        self.slots.clear();
        self.next = 0;
    }
}

/// Pinned memory from which one batch is copied, and the events that mark when the device has finished with the batch before.
pub struct Pinned {
    block: Block,
    /// Passes after the last launch that reads the batch.
    used: Event,
    /// The stream that copies the batch.
    copies: sys::CUstream,
}

impl Pinned {
    /// Nothing is in flight yet; work already on `stream` comes before the first copy.
    pub(super) fn new(bytes: usize, copies: sys::CUstream, stream: sys::CUstream) -> Result<Pinned> {
        let pinned = Pinned { block: Block::new(bytes)?, used: Event::untimed()?, copies };
        pinned.used.record(stream)?;
        Ok(pinned)
    }

    /// Copies `data` to `address` once no launch reads the old contents any more.
    ///
    /// # Safety
    /// `address` points to at least `data.len()` bytes of device memory.
    pub(super) unsafe fn copy(&self, address: u64, offset: usize, data: &[u8]) -> Result<()> {
        let kept = self.block.write(offset, data)?;
        self.used.block(self.copies)?;
        // SAFETY: the caller promises the address, and the block is not written before its event has passed.
        unsafe { result::memcpy_htod_async(address, kept, self.copies) }.map_err(failed("cuMemcpyHtoDAsync"))
    }

    /// Waits until everything written of the batch so far has been copied.
    pub(super) fn settle(&self) -> Result<()> {
        self.block.copied.record(self.copies)?;
        self.block.copied.wait()
    }

    /// Makes `stream` wait until everything written of the batch so far has been copied.
    pub(super) fn hand_over(&self, stream: sys::CUstream) -> Result<()> {
        self.block.copied.record(self.copies)?;
        self.block.copied.block(stream)
    }

    /// Marks the work on `stream` so far as the last that reads the batch.
    pub(super) fn used(&self, stream: sys::CUstream) -> Result<()> {
        self.used.record(stream)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // A batch may have been written that no run has used.
        let _ = self.settle();
    }
}

// SAFETY: it is only used through the Driver that made it, which prevents concurrent calls.
unsafe impl Send for Pinned {}
