//! Host memory for buffers: zeroed, aligned to a cache line, reused for a whole run.

/// One cache line, the unit of allocation.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// A zeroed block of bytes whose start is a multiple of 64.
pub struct Aligned {
    lines: Vec<Line>,
    bytes: usize,
}

impl Aligned {
    pub fn zeroed(bytes: usize) -> Aligned {
        Aligned { lines: vec![Line([0; 64]); bytes.div_ceil(64)], bytes }
    }

    pub fn of_f32(values: &[f32]) -> Aligned {
        let mut memory = Aligned::zeroed(values.len() * 4);
        memory.f32_mut().copy_from_slice(values);
        memory
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn as_ptr(&self) -> *const u8 {
        self.lines.as_ptr().cast()
    }

    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.lines.as_mut_ptr().cast()
    }

    pub fn f32(&self) -> &[f32] {
        // SAFETY: the block holds `bytes` initialised bytes, aligned to 64, and any bit pattern is an f32.
        unsafe { std::slice::from_raw_parts(self.as_ptr().cast(), self.bytes / 4) }
    }

    pub fn f32_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `f32`, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr().cast(), self.bytes / 4) }
    }

    pub fn u8_mut(&mut self) -> &mut [u8] {
        // SAFETY: the block holds `bytes` initialised bytes, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr(), self.bytes) }
    }
}
