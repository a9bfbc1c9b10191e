//! The sizes of one convolution and quantities computed from them. No data, no device.

use crate::ir::Conv2d;

/// All sizes of one convolution: `x [N, H, W, C]`, `weight [K, R, S, C]`, `y [N, P, Q, K]`; dense, not dilated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    /// The number of images.
    pub n: usize,
    /// Input height.
    pub h: usize,
    /// Input width.
    pub w: usize,
    /// Input channels.
    pub c: usize,
    /// Output channels.
    pub k: usize,
    /// Kernel height.
    pub r: usize,
    /// Kernel width.
    pub s: usize,
    /// Input pixels from one output pixel to the next, along both axes.
    pub stride: usize,
    /// Rows and columns of zeros on each side of the input.
    pub padding: usize,
}

impl Problem {
    /// The problem for x `[N, H, W, C]` and `k` output channels.
    pub fn new(x: &[usize], k: usize, conv: Conv2d) -> Problem {
        let Conv2d { kernel, stride, padding } = conv;
        Problem { n: x[0], h: x[1], w: x[2], c: x[3], k, r: kernel, s: kernel, stride, padding }
    }

    /// Output height.
    pub fn p(&self) -> usize {
        (self.h + 2 * self.padding - self.r) / self.stride + 1
    }

    /// Output width.
    pub fn q(&self) -> usize {
        (self.w + 2 * self.padding - self.s) / self.stride + 1
    }

    /// The number of rows of the output as a matrix `[N·P·Q, K]`.
    pub fn rows(&self) -> usize {
        self.n * self.p() * self.q()
    }

    /// The number of rows of the input as a matrix `[N·H·W, C]`.
    pub fn input_rows(&self) -> usize {
        self.n * self.h * self.w
    }

    /// The number of kernel positions.
    pub fn taps(&self) -> usize {
        self.r * self.s
    }

    /// The number of elements of `x`.
    pub fn input_len(&self) -> usize {
        self.input_rows() * self.c
    }

    /// The number of elements of `y`.
    pub fn output_len(&self) -> usize {
        self.rows() * self.k
    }

    /// The number of elements of the weight.
    pub fn weight_len(&self) -> usize {
        self.k * self.taps() * self.c
    }

    /// Floating-point operations of the forward pass, including taps in the padding.
    pub fn flops(&self) -> u64 {
        2 * self.rows() as u64 * (self.taps() * self.c * self.k) as u64
    }
}
