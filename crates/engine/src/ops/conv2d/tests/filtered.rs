//! The magnitudes to which rounding errors of minimal filtering are proportional, from the definition: interpolation at points.
//!
//! For each pair of channels, the product of a tile and a kernel is Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A, and each step is rounded. The error
//! is therefore at most the number of roundings on a path, times u, times the same expression with every matrix and value
//! replaced by its magnitude.

use super::{Data, Problem, triples};
use crate::ops::conv2d::cpu::Side;

/// Roundings on a path besides the sum over channels: four transforms of at most four operations along each of two axes,
/// minus those of the kernel's constants.
pub const TRANSFORM_TERMS: usize = 30;

/// The finite points of a filter with `n` points including ∞.
fn points(n: usize) -> &'static [f64] {
    match n {
        5 => &[0.375, -0.375, 1.25, -1.25],
        6 => &[0.0, 0.75, -0.75, 1.5, -1.5],
        _ => unreachable!("tiles of 3 or 4 outputs"),
    }
}

/// |Aᵀ| `[outputs][N]`, |G| `[N][taps]`, |Bᵀ| `[N][N]` of F(outputs, taps), with outputs + taps = N + 1.
struct Magnitudes<const N: usize> {
    a: Vec<[f64; N]>,
    g: Vec<Vec<f64>>,
    b: [[f64; N]; N],
}

impl<const N: usize> Magnitudes<N> {
    fn new(outputs: usize, taps: usize) -> Magnitudes<N> {
        assert_eq!(outputs + taps, N + 1);
        let points = points(N);
        let others = |i: usize| points.iter().enumerate().filter(move |(j, _)| *j != i).map(|(_, p)| *p);
        let power = |p: f64, i: usize| p.powi(i as i32);
        let last = |i: usize, len: usize| if i + 1 == len { 1.0 } else { 0.0 };
        let a = (0..outputs)
            .map(|i| std::array::from_fn(|j| points.get(j).map_or(last(i, outputs), |&p| power(p, i)).abs()))
            .collect();
        let g = (0..N)
            .map(|i| {
                let row = |k| match points.get(i) {
                    Some(&p) => power(p, k) / others(i).map(|q| p - q).product::<f64>(),
                    None => last(k, taps),
                };
                (0..taps).map(|k| row(k).abs()).collect()
            })
            .collect();
        let b = std::array::from_fn(|i| {
            // The polynomial with a root at every other point.
            let mut polynomial = [0.0; N];
            polynomial[0] = 1.0;
            for root in others(i) {
                let mut next = [0.0; N];
                for k in 0..N {
                    next[k] = -root * polynomial[k] + if k > 0 { polynomial[k - 1] } else { 0.0 };
                }
                polynomial = next;
            }
            polynomial.map(f64::abs)
        });
        Magnitudes { a, g, b }
    }

    fn source(&self, d: [[f64; N]; N]) -> [[f64; N]; N] {
        let entry =
            |i: usize, j: usize| (0..N * N).map(|t| self.b[i][t / N] * d[t / N][t % N] * self.b[j][t % N]).sum();
        std::array::from_fn(|i| std::array::from_fn(|j| entry(i, j)))
    }

    fn kernel(&self, g: &[Vec<f64>]) -> [[f64; N]; N] {
        let taps = g.len();
        let entry = |i: usize, j: usize| {
            (0..taps * taps).map(|t| self.g[i][t / taps] * g[t / taps][t % taps] * self.g[j][t % taps]).sum()
        };
        std::array::from_fn(|i| std::array::from_fn(|j| entry(i, j)))
    }

    fn output(&self, m: &[[f64; N]; N], i: usize, j: usize) -> f64 {
        (0..N * N).map(|t| self.a[i][t / N] * m[t / N][t % N] * self.a[j][t % N]).sum()
    }
}

/// The sums of magnitudes of y, dx and dw.
pub fn magnitudes(side: Side, problem: &Problem, data: &Data) -> [Vec<f64>; 3] {
    match side {
        Side::Three => magnitudes_at::<5>(problem, data),
        Side::Four => magnitudes_at::<6>(problem, data),
    }
}

fn magnitudes_at<const N: usize>(problem: &Problem, data: &Data) -> [Vec<f64>; 3] {
    let Problem { n, h, w, c, k, .. } = *problem;
    let weight =
        |ko: usize, ci: usize, r: usize, s: usize| f64::from(data.weight[((ko * 3 + r) * 3 + s) * c + ci].abs());
    let taps =
        |at: &dyn Fn(usize, usize) -> f64| (0..3).map(|r| (0..3).map(|s| at(r, s)).collect()).collect::<Vec<_>>();
    let y = product::<N>([n, h, w], [c, k], &data.x, |ci, ko| taps(&|r, s| weight(ko, ci, r, s)));
    let dx = product::<N>([n, h, w], [k, c], &data.dy, |ko, ci| taps(&|r, s| weight(ko, ci, 2 - r, 2 - s)));
    [y, dx, weight_gradient::<N>(problem, data)]
}

fn patch<const N: usize>(
    values: &[f32],
    [n, h, w]: [usize; 3],
    columns: usize,
    image: usize,
    corner: [usize; 2],
    channel: usize,
) -> [[f64; N]; N] {
    debug_assert!(image < n);
    std::array::from_fn(|i| {
        std::array::from_fn(|j| {
            let (y, x) = ((corner[0] + i).wrapping_sub(1), (corner[1] + j).wrapping_sub(1));
            let inside = y < h && x < w;
            if inside { f64::from(values[((image * h + y) * w + x) * columns + channel].abs()) } else { 0.0 }
        })
    })
}

fn tiles([n, h, w]: [usize; 3], side: usize) -> impl Iterator<Item = (usize, [usize; 2])> {
    triples(n, h.div_ceil(side), w.div_ceil(side))
        .map(move |(image, down, across)| (image, [side * down, side * across]))
}

fn product<const N: usize>(
    images: [usize; 3],
    [channels, columns]: [usize; 2],
    source: &[f32],
    kernel: impl Fn(usize, usize) -> Vec<Vec<f64>>,
) -> Vec<f64> {
    let side = N - 2;
    let filter = Magnitudes::<N>::new(side, 3);
    let kernels: Vec<[[f64; N]; N]> =
        (0..channels * columns).map(|i| filter.kernel(&kernel(i / columns, i % columns))).collect();
    let [n, h, w] = images;
    let mut magnitude = vec![0.0; n * h * w * columns];
    for (image, corner) in tiles(images, side) {
        let sources: Vec<[[f64; N]; N]> =
            (0..channels).map(|c| filter.source(patch(source, images, channels, image, corner, c))).collect();
        for column in 0..columns {
            let mut sum = [[0.0; N]; N];
            for (channel, source) in sources.iter().enumerate() {
                let kernel = &kernels[channel * columns + column];
                for t in 0..N * N {
                    sum[t / N][t % N] += source[t / N][t % N] * kernel[t / N][t % N];
                }
            }
            for t in 0..side * side {
                let (y, x) = (corner[0] + t / side, corner[1] + t % side);
                if y < h && x < w {
                    magnitude[((image * h + y) * w + x) * columns + column] = filter.output(&sum, t / side, t % side);
                }
            }
        }
    }
    magnitude
}

fn weight_gradient<const N: usize>(problem: &Problem, data: &Data) -> Vec<f64> {
    let Problem { n, h, w, c, k, .. } = *problem;
    let side = N - 2;
    let filter = Magnitudes::<N>::new(3, side);
    let mut sums = vec![[[0.0; N]; N]; k * c];
    for (image, corner) in tiles([n, h, w], side) {
        let x: Vec<[[f64; N]; N]> =
            (0..c).map(|ci| filter.source(patch(&data.x, [n, h, w], c, image, corner, ci))).collect();
        for ko in 0..k {
            let dy = |i: usize, j: usize| {
                let (y, x) = (corner[0] + i, corner[1] + j);
                let inside = y < h && x < w;
                if inside { f64::from(data.dy[((image * h + y) * w + x) * k + ko].abs()) } else { 0.0 }
            };
            let dy = filter.kernel(&(0..side).map(|i| (0..side).map(|j| dy(i, j)).collect()).collect::<Vec<_>>());
            for (ci, x) in x.iter().enumerate() {
                for t in 0..N * N {
                    sums[ko * c + ci][t / N][t % N] += x[t / N][t % N] * dy[t / N][t % N];
                }
            }
        }
    }
    let entry = |i: usize| {
        let (ko, tap, ci) = (i / c / 9, i / c % 9, i % c);
        filter.output(&sums[ko * c + ci], tap / 3, tap % 3)
    };
    (0..problem.weight_len()).map(entry).collect()
}
