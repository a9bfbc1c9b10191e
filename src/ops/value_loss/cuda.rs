//! Huber's kernel (`kernels/value_loss.cu`): how it is started.

use crate::device::cuda::{Address, Arguments, File, Launch};

const THREADS: u32 = 256;
const WARP: u32 = 32;

/// Values and target `[N, R]`, `len` entries in all (NaN target: unlabelled) → loss `[1]`, dvalues `[N, R]`; `denominator`
/// `[1]` is read on the device, and where it is 0 so are all.
pub fn value_loss(len: usize, [values, target, denominator]: [Address; 3], [loss, dvalues]: [Address; 2]) -> Launch {
    let arguments =
        Arguments::new().pointer(values).pointer(target).pointer(denominator).pointer(loss).pointer(dvalues);
    let (grid, shared_bytes) = ([1, 1, 1], 8 * THREADS / WARP);
    let arguments = arguments.int(len);
    Launch { file: File::VALUE_LOSS, kernel: "value_loss", grid, threads: THREADS, shared_bytes, arguments }
}
