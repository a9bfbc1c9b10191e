//! Launches the kernel that normalises images (`kernels/preprocess.cu`).

use super::{DEVIATION, MEAN, Preprocess};
use crate::device::cuda::{Address, Arguments, File, Launch, Work};
use crate::ops::cuda::{CudaNode, CudaOp, NO_SCRATCH};

const THREADS: usize = 128;
/// Pixels per thread.
const PIXELS: usize = 4;

/// Images u8 `[pixels, 3]` → x `[pixels, 8]` = (v/255 − mean)/deviation; channels 3 to 7 are zero.
pub fn normalise(pixels: usize, mean: [f32; 3], deviation: [f32; 3], images: Address, x: Address) -> Launch {
    let scale = deviation.map(|d| (1.0 / (255.0 * f64::from(d))) as f32);
    let shift: [f32; 3] = std::array::from_fn(|i| (-f64::from(mean[i]) / f64::from(deviation[i])) as f32);
    let arguments = Arguments::new().pointer(images).pointer(x).int(pixels);
    let arguments = scale.iter().chain(&shift).fold(arguments, |arguments, &v| arguments.float(v));
    let grid = [pixels.div_ceil(THREADS * PIXELS) as u32, 1, 1];
    Launch { file: File::PREPROCESS, kernel: "preprocess", grid, threads: THREADS as u32, shared_bytes: 0, arguments }
}

impl CudaOp for Preprocess {
    fn cuda_scratch(&self, _node: &CudaNode) -> usize {
        NO_SCRATCH
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        let [pixels, _] = node.input_rows(0);
        vec![normalise(pixels, MEAN, DEVIATION, node.input(0), node.output(0)).into()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::preprocess::{DEVIATION, MEAN};
    use crate::ops::testing::{Expected, Random, check_kernels};

    #[test]
    fn normalisation_matches_plain_loops() {
        for pixels in [1, 5, 256, 513, 3000] {
            let mut random = Random::new(pixels as u64);
            let images: Vec<u8> = match pixels {
                256 => (0..768).map(|i| (i / 3) as u8).collect(),
                _ => (0..pixels * 3).map(|_| random.bits() as u8).collect(),
            };
            let plain = |i: usize| match i % 8 {
                colour @ 0..3 => {
                    let v = f64::from(images[i / 8 * 3 + colour]) / 255.0;
                    (v - f64::from(MEAN[colour])) / f64::from(DEVIATION[colour])
                }
                _ => 0.0,
            };
            // Two rounded constants, a product and a sum of numbers below 4.5.
            let expected = [Expected::within("x", 4, 4.5, (0..pixels * 8).map(plain).collect()).stored()];
            check_kernels(&format!("preprocess {pixels} pixels"), &expected, |board| {
                let (images, x) = (board.bytes(&images), board.activations_out(pixels * 8));
                board.run(&[normalise(pixels, MEAN, DEVIATION, images, x)]);
                vec![board.read_activations(x, pixels * 8)]
            });
        }
    }
}
