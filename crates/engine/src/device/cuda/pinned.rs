//! Host memory that the device copies from while the host goes on. A copy out of ordinary memory may read it after the call
//! has returned: the driver's manual only says that it might be staged first. So what is to be copied is kept here until
//! the copy's event is past.

use super::driver::failed;
use super::events::Event;
use crate::error::Result;
use cudarc::driver::{result, sys};

/// The largest upload that does not hold up the host. A step's scalars are far smaller.
const SLOT_BYTES: usize = 64 << 10;
/// Uploads that may be under way at once. A step has two to four.
const SLOTS: usize = 4;

/// One block of pinned memory.
struct Block {
    start: *mut u8,
    bytes: usize,
    /// The last copy out of it.
    copied: Event,
}

impl Block {
    fn new(bytes: usize) -> Result<Block> {
        let copied = Event::untimed()?;
        // SAFETY: given back by `drop`, after the last copy out of it.
        let start = unsafe { result::malloc_host(bytes.max(1), 0) }.map_err(failed("cuMemHostAlloc"))?;
        Ok(Block { start: start.cast(), bytes, copied })
    }

    /// Writes `data` at `offset` once the last copy is over; what is returned stays as it is until the next one is.
    fn write(&self, offset: usize, data: &[u8]) -> Result<&[u8]> {
        assert!(offset + data.len() <= self.bytes, "a copy stays within its pinned block");
        self.copied.wait()?;
        // SAFETY: the range was checked, the block is this one's alone, and the device reads it no more.
        unsafe {
            std::ptr::copy_nonoverlapping(data.as_ptr(), self.start.add(offset), data.len());
            Ok(std::slice::from_raw_parts(self.start.add(offset), data.len()))
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let _ = self.copied.wait();
        // SAFETY: made by `new` and freed once, after the last copy out of it.
        let _ = unsafe { result::free_host(self.start.cast()) };
    }
}

// SAFETY: touched through the Driver that made it only, which keeps calls apart.
unsafe impl Send for Block {}

/// Pinned memory from which uploads are copied: small ones from slots that are taken in turn. It is made at the first upload.
#[derive(Default)]
pub(super) struct Uploads {
    slots: Vec<Block>,
    next: usize,
}

impl Uploads {
    /// Copies `data` to the device in the order of `stream`; `data` may be changed or freed afterwards.
    ///
    /// # Safety
    /// `address` is the start of as many bytes of device memory.
    pub unsafe fn copy(&mut self, address: u64, data: &[u8], stream: sys::CUstream) -> Result<()> {
        if data.len() > SLOT_BYTES {
            // Parameters and tables: rare, and outside steps.
            // SAFETY: the caller knows the address, and `data` is borrowed until the copy is over.
            unsafe { result::memcpy_htod_async(address, data, stream) }.map_err(failed("cuMemcpyHtoDAsync"))?;
            // SAFETY: the stream is the caller's.
            return unsafe { result::stream::synchronize(stream) }.map_err(failed("cuStreamSynchronize"));
        }
        if self.slots.len() < SLOTS {
            self.slots.push(Block::new(SLOT_BYTES)?);
        }
        let slot = &self.slots[self.next % SLOTS];
        self.next += 1;
        let kept = slot.write(0, data)?;
        // SAFETY: the caller knows the address, and nobody writes to the slot before its event is past.
        unsafe { result::memcpy_htod_async(address, kept, stream) }.map_err(failed("cuMemcpyHtoDAsync"))?;
        slot.copied.record(stream)
    }

    /// Gives the slots back, which takes the context they were made in.
    pub fn clear(&mut self) {
        self.slots.clear();
        self.next = 0;
    }
}

/// Pinned memory from which one batch is copied, and the events that tell when the device has finished with the batch before.
pub struct Pinned {
    block: Block,
    /// The last launch that reads the batch.
    used: Event,
    /// The stream it travels on.
    copies: sys::CUstream,
}

impl Pinned {
    /// Nothing is under way; what `stream` was given so far comes before the first copy.
    pub(super) fn new(bytes: usize, copies: sys::CUstream, stream: sys::CUstream) -> Result<Pinned> {
        let pinned = Pinned { block: Block::new(bytes)?, used: Event::untimed()?, copies };
        pinned.used.record(stream)?;
        Ok(pinned)
    }

    /// Copies `data` to `address` once nobody reads what it replaces.
    ///
    /// # Safety
    /// `address` is the start of as many bytes of device memory.
    pub(super) unsafe fn copy(&self, address: u64, offset: usize, data: &[u8]) -> Result<()> {
        let kept = self.block.write(offset, data)?;
        self.used.holds(self.copies)?;
        // SAFETY: the caller knows the address, and nobody writes to the block before its event is past.
        unsafe { result::memcpy_htod_async(address, kept, self.copies) }.map_err(failed("cuMemcpyHtoDAsync"))
    }

    /// Waits until the batch has travelled as far as it was written.
    pub(super) fn settle(&self) -> Result<()> {
        self.block.copied.record(self.copies)?;
        self.block.copied.wait()
    }

    /// Lets `stream` wait for the batch as far as it was written.
    pub(super) fn hand_over(&self, stream: sys::CUstream) -> Result<()> {
        self.block.copied.record(self.copies)?;
        self.block.copied.holds(stream)
    }

    /// Says that what `stream` was given so far is the last to read the batch.
    pub(super) fn used(&self, stream: sys::CUstream) -> Result<()> {
        self.used.record(stream)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // A batch may have been written that nobody asked for.
        let _ = self.settle();
    }
}

// SAFETY: touched through the Driver that made it only, which keeps calls apart.
unsafe impl Send for Pinned {}
