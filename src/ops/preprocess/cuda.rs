//! The kernel of the images' normalisation (`kernels/preprocess.cu`): how it is started.

use crate::device::cuda::{Address, Arguments, File, Launch};

const THREADS: usize = 128;
/// Pixels of a thread.
const PIXELS: usize = 4;

/// Images u8 `[pixels, 3]` → x `[pixels, 8]` = (v/255 − mean)/deviation, channels 3 … 8 zero.
pub fn normalise(pixels: usize, mean: [f32; 3], deviation: [f32; 3], images: Address, x: Address) -> Launch {
    let scale = deviation.map(|d| (1.0 / (255.0 * f64::from(d))) as f32);
    let shift: [f32; 3] = std::array::from_fn(|i| (-f64::from(mean[i]) / f64::from(deviation[i])) as f32);
    let arguments = Arguments::new().pointer(images).pointer(x).int(pixels);
    let arguments = scale.iter().chain(&shift).fold(arguments, |arguments, &v| arguments.float(v));
    let grid = [pixels.div_ceil(THREADS * PIXELS) as u32, 1, 1];
    Launch { file: File::PREPROCESS, kernel: "preprocess", grid, threads: THREADS as u32, shared_bytes: 0, arguments }
}
