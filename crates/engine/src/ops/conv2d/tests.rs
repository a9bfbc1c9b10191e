//! Every convolution kernel on every instruction set of this machine against plain f64 loops. Results must also have the same
//! bits with other numbers of threads, and whether the weight is packed in advance or when it is used.
//!
//! The bound: a sum of n products in f32, in any order, is off by at most n · u · Σ|a·b| to first order, u = 2⁻²⁴ (Higham,
//! Accuracy and Stability of Numerical Algorithms, §3.1). The few operations of an epilogue are added to n. Minimal filtering
//! has its own bound, in `filtered`.

mod filtered;

use super::Problem;
use super::cpu::*;
use crate::device::cpu::{Cpu, Isa};

const UNIT: f64 = 1.0 / (1 << 24) as f64;
const THREADS: [usize; 4] = [1, 2, 3, 5];

fn problem(image: [usize; 4], k: usize, kernel: [usize; 2], stride: usize, padding: usize) -> Problem {
    let ([n, h, w, c], [r, s]) = (image, kernel);
    Problem { n, h, w, c, k, r, s, stride, padding }
}

#[test]
fn kernels_match_plain_loops() {
    let cpus = cpus();
    for problem in [
        // one pixel, one channel; one pixel whose 3×3 neighbours are all padding
        problem([1, 1, 1, 1], 1, [1, 1], 1, 0),
        problem([1, 1, 1, 5], 3, [3, 3], 1, 1),
        problem([2, 1, 1, 18], 33, [3, 3], 2, 1),
        // pointwise: whole tiles, columns that do not fill vectors, with a stride, in the padding
        problem([2, 8, 8, 64], 64, [1, 1], 1, 0),
        problem([1, 5, 7, 37], 45, [1, 1], 1, 0),
        problem([2, 7, 6, 32], 64, [1, 1], 2, 0),
        problem([1, 4, 4, 8], 8, [1, 1], 2, 1),
        // channels whose rows fall into the same set of the L1 cache
        problem([1, 3, 3, 1024], 1024, [1, 1], 2, 0),
        problem([1, 5, 7, 512], 36, [1, 1], 2, 0),
        // 3×3, strides 1 to 3, odd and even sides
        problem([2, 7, 5, 33], 35, [3, 3], 1, 1),
        problem([3, 8, 8, 16], 32, [3, 3], 1, 1),
        problem([1, 8, 7, 17], 20, [3, 3], 2, 1),
        problem([2, 9, 12, 64], 48, [3, 3], 2, 1),
        problem([1, 11, 10, 16], 19, [3, 3], 3, 0),
        problem([2, 6, 6, 20], 17, [3, 3], 1, 3),
        // images so small that most taps are padding
        problem([33, 2, 2, 16], 16, [3, 3], 1, 1),
        problem([9, 4, 4, 20], 33, [3, 3], 1, 1),
        problem([3, 7, 7, 32], 16, [3, 3], 1, 1),
        // other kernels: even, not square, larger than the image, stride larger than the kernel
        problem([1, 9, 8, 19], 5, [2, 2], 3, 0),
        problem([1, 6, 9, 24], 40, [1, 3], 1, 1),
        problem([2, 2, 2, 21], 23, [5, 5], 1, 2),
        problem([1, 10, 9, 5], 7, [5, 5], 1, 2),
        // the stem; few channels and columns; enough rows for several chunks of wgrad
        problem([1, 13, 14, 3], 40, [7, 7], 2, 3),
        problem([2, 4, 5, 1], 2, [3, 3], 2, 3),
        problem([2, 66, 64, 3], 9, [7, 7], 2, 3),
        problem([4, 33, 33, 16], 8, [1, 1], 1, 0),
        // a weight that wgrad splits over tasks; no image at all
        problem([1, 4, 4, 129], 130, [3, 3], 1, 1),
        problem([0, 4, 4, 16], 16, [3, 3], 1, 1),
    ] {
        check(&cpus, &problem);
    }
}

/// Every algorithm and epilogue in small shapes, for AddressSanitizer, which runs this test and not the long ones.
#[test]
fn small_kernels_match_plain_loops() {
    let cpus = cpus();
    for (problem, algorithm) in [
        (problem([1, 1, 1, 1], 1, [1, 1], 1, 0), Algorithm::Direct),
        (problem([1, 3, 4, 19], 21, [1, 1], 1, 0), Algorithm::Direct),
        (problem([2, 5, 4, 8], 9, [1, 1], 2, 0), Algorithm::Direct),
        (problem([1, 5, 3, 7], 18, [3, 3], 1, 1), Algorithm::Direct),
        (problem([2, 5, 4, 17], 5, [3, 3], 2, 1), Algorithm::Direct),
        (problem([1, 9, 8, 3], 17, [7, 7], 2, 3), Algorithm::Direct),
        (problem([1, 4, 3, 5], 3, [1, 3], 1, 1), Algorithm::Direct),
        // two blocks of rows, the second only partly filled
        (problem([3, 7, 7, 2], 3, [3, 3], 1, 1), Algorithm::Direct),
        // whole tiles, tiles that extend past the edge, and channels that end within a strip
        (problem([1, 9, 9, 32], 32, [3, 3], 1, 1), Algorithm::Winograd(Side::Three)),
        (problem([1, 12, 12, 47], 32, [3, 3], 1, 1), Algorithm::Winograd(Side::Three)),
        (problem([2, 8, 8, 32], 46, [3, 3], 1, 1), Algorithm::Winograd(Side::Four)),
        (problem([2, 7, 11, 32], 32, [3, 3], 1, 1), Algorithm::Winograd(Side::Four)),
        (problem([0, 4, 4, 16], 16, [3, 3], 1, 1), Algorithm::Direct),
    ] {
        assert_eq!(Algorithm::of(&problem), algorithm, "{problem:?}");
        check(&cpus, &problem);
    }
}

/// Minimal filtering: whole tiles and tiles past the edge, one panel and a partial one, one batch of tiles and several.
#[test]
fn filtered_kernels_match_plain_loops() {
    let cpus = cpus();
    for (side, images, k) in [
        (Side::Four, [2, 12, 12, 32], 32),
        (Side::Four, [4, 15, 11, 48], 64),
        (Side::Four, [5, 7, 8, 64], 48),
        (Side::Four, [33, 4, 4, 48], 80),
        (Side::Four, [1, 128, 130, 32], 32),
        (Side::Three, [5, 6, 6, 32], 48),
        (Side::Three, [33, 3, 3, 80], 32),
        (Side::Three, [3, 5, 9, 48], 64),
        (Side::Three, [340, 6, 6, 32], 32),
        // channels that end within a strip
        (Side::Four, [9, 12, 12, 61], 68),
        (Side::Three, [12, 6, 6, 68], 61),
        // a weight whose panels are transformed in groups
        (Side::Three, [24, 3, 3, 256], 352),
        // two rows of pixels
        (Side::Three, [20, 2, 60, 32], 32),
    ] {
        let problem = problem(images, k, [3, 3], 1, 1);
        assert_eq!(Algorithm::of(&problem), Algorithm::Winograd(side), "{problem:?}");
        check(&cpus, &problem);
    }
}

/// A convolution is linear, so a finite difference with step 1 equals its derivative.
#[test]
fn gradients_match_differences() {
    let cpu = Cpu::new(2).unwrap();
    let problem = problem([2, 9, 8, 18], 34, [3, 3], 2, 1);
    let data = Data::new(&problem);
    let loss = |x: &[f32], weight: &[f32]| -> f64 {
        let y = run_fprop(&cpu, &problem, x, weight, Epilogue::Plain, true);
        y.iter().zip(&data.dy).map(|(y, g)| f64::from(*y) * f64::from(*g)).sum()
    };
    let base = loss(&data.x, &data.weight);
    let dx = run_dgrad(&cpu, &problem, &data, DgradEpilogue::Plain, true);
    let dw = run_wgrad(&cpu, &problem, &data, &vec![0.0; data.weight.len()]);
    let mut moved = data.x.clone();
    for i in (0..moved.len()).step_by(97) {
        moved[i] += 1.0;
        let slope = loss(&moved, &data.weight) - base;
        assert!((slope - f64::from(dx[i])).abs() < 1e-3, "dx[{i}]: {slope} {}", dx[i]);
        moved[i] = data.x[i];
    }
    let mut moved = data.weight.clone();
    for i in (0..moved.len()).step_by(197) {
        moved[i] += 1.0;
        let slope = loss(&data.x, &moved) - base;
        assert!((slope - f64::from(dw[i])).abs() < 1e-3, "dw[{i}]: {slope} {}", dw[i]);
        moved[i] = data.weight[i];
    }
}

/// Deviations much smaller than the mean must keep their digits.
#[test]
fn statistics_survive_a_large_mean() {
    for isa in Isa::available() {
        let cpu = Cpu::with_isa(2, isa).unwrap();
        let problem = problem([1, 16, 16, 1], 16, [1, 1], 1, 0);
        let x: Vec<f32> = (0..256).map(|i| 1000.0 + (i % 2) as f32).collect();
        let mut partials = vec![f32::NAN; 2 * 2 * 16];
        run_fprop(&cpu, &problem, &x, &[1.0; 16], Epilogue::Statistics(&mut partials), true);
        for block in partials.chunks_exact(2 * 16) {
            assert_eq!(block[..16], [1000.5; 16]);
            assert_eq!(block[16..], [32.0; 16]);
        }
    }
}

fn cpus() -> Vec<Vec<Cpu>> {
    let with = |isa| THREADS.iter().map(move |&threads| Cpu::with_isa(threads, isa).unwrap());
    Isa::available().into_iter().map(|isa| with(isa).collect()).collect()
}

fn check(cpus: &[Vec<Cpu>], problem: &Problem) {
    let data = Data::new(problem);
    let reference = Reference::new(problem, &data);
    for same_isa in cpus {
        let plain = [true, false].into_iter().cycle();
        let results: Vec<Results> =
            same_isa.iter().zip(plain).map(|(cpu, plain)| Results::new(cpu, problem, &data, plain)).collect();
        let what = format!("{:?} {problem:?}", same_isa[0].isa());
        check_fprop(&what, problem, &data, &reference, &results[0]);
        check_dgrad(&what, problem, &data, &reference, &results[0]);
        check_wgrad(&what, problem, &data, &reference, &results[0]);
        for (result, threads) in results.iter().zip(THREADS) {
            let same = result.bits() == results[0].bits();
            assert!(same, "{what}: {threads} threads give other bits than 1 with a plain weight");
        }
    }
}

/// The inputs of a case.
struct Data {
    x: Vec<f32>,
    weight: Vec<f32>,
    dy: Vec<f32>,
    bias: Vec<f32>,
    affine: Vec<f32>,
    residual: Vec<f32>,
    addend: Vec<f32>,
    z: Vec<f32>,
    normalised: Vec<f32>,
    moments: Vec<f32>,
    dw: Vec<f32>,
}

impl Data {
    fn new(problem: &Problem) -> Data {
        Data {
            x: random(1, problem.input_len()),
            weight: random(2, problem.weight_len()),
            dy: random(3, problem.output_len()),
            bias: random(4, problem.k),
            affine: random(5, 2 * problem.k),
            residual: random(6, problem.output_len()),
            addend: random(7, problem.input_len()),
            z: random(8, problem.input_len()).iter().map(|z| z.max(0.0)).collect(),
            normalised: random(9, problem.input_len()),
            moments: random(10, 2 * problem.c),
            dw: random(11, problem.weight_len()),
        }
    }
}

/// Values in −1..1 from a counter (the finaliser of splitmix64).
fn random(stream: u64, len: usize) -> Vec<f32> {
    let value = |i: u64| {
        let mut z = (stream << 32 | i).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len as u64).map(value).collect()
}

/// A sum and the sum of its terms' magnitudes, to which its rounding errors are proportional.
#[derive(Clone, Copy, Default)]
struct Sum {
    value: f64,
    magnitude: f64,
}

impl Sum {
    fn add(&mut self, a: f32, b: f32) {
        let product = f64::from(a) * f64::from(b);
        self.value += product;
        self.magnitude += product.abs();
    }

    fn plus(self, term: f32) -> Sum {
        let mut sum = self;
        sum.add(term, 1.0);
        sum
    }

    fn assert(self, got: f32, terms: usize, what: &str, i: usize) {
        let bound = (terms + 8) as f64 * UNIT * self.magnitude;
        let error = (f64::from(got) - self.value).abs();
        assert!(error <= bound, "{what} [{i}]: got {got}, want {} ± {bound}", self.value);
    }
}

/// The three convolutions as loops.
struct Reference {
    y: Vec<Sum>,
    dx: Vec<Sum>,
    dw: Vec<Sum>,
}

impl Reference {
    fn new(problem: &Problem, data: &Data) -> Reference {
        let Problem { n, h, w, c, k, r, s, stride, padding } = *problem;
        let mut y = vec![Sum::default(); problem.output_len()];
        let mut dx = vec![Sum::default(); problem.input_len()];
        let mut dw = vec![Sum::default(); problem.weight_len()];
        for (image, p, q) in triples(n, problem.p(), problem.q()) {
            for (ko, ri, si) in triples(k, r, s) {
                let (hi, wi) = (p * stride + ri, q * stride + si);
                if hi < padding || wi < padding || hi - padding >= h || wi - padding >= w {
                    continue;
                }
                let out = ((image * problem.p() + p) * problem.q() + q) * k + ko;
                let pixel = ((image * h + hi - padding) * w + wi - padding) * c;
                let tap = ((ko * r + ri) * s + si) * c;
                for ci in 0..c {
                    let (x, weight, dy) = (data.x[pixel + ci], data.weight[tap + ci], data.dy[out]);
                    y[out].add(x, weight);
                    dx[pixel + ci].add(dy, weight);
                    dw[tap + ci].add(dy, x);
                }
            }
        }
        let mut reference = Reference { y, dx, dw };
        if let Algorithm::Winograd(side) = Algorithm::of(problem) {
            let sums = [&mut reference.y, &mut reference.dx, &mut reference.dw];
            for (sums, magnitudes) in sums.into_iter().zip(filtered::magnitudes(side, problem, data)) {
                for (sum, magnitude) in sums.iter_mut().zip(magnitudes) {
                    assert!(magnitude >= sum.magnitude * (1.0 - 1e-9), "{problem:?}: a bound below that of plain sums");
                    sum.magnitude = magnitude;
                }
            }
        }
        reference
    }
}

/// The number of roundings of a sum over `taps` and `depth`. Minimal filtering sums over the depth alone.
fn terms(problem: &Problem, taps: usize, depth: usize) -> usize {
    match Algorithm::of(problem) {
        Algorithm::Direct => taps * depth,
        Algorithm::Winograd(_) => depth + filtered::TRANSFORM_TERMS,
    }
}

fn triples(a: usize, b: usize, c: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..a * b * c).map(move |i| (i / c / b, i / c % b, i % c))
}

/// The results of all kernels for a case.
struct Results {
    plain: Vec<f32>,
    bias: Vec<f32>,
    statistics: [Vec<f32>; 2],
    affine: Vec<f32>,
    affine_relu: Vec<f32>,
    dx: Vec<f32>,
    dx_added: Vec<f32>,
    reduced: [Vec<f32>; 2],
    reduced_whole: [Vec<f32>; 2],
    dw: Vec<f32>,
}

impl Results {
    fn new(cpu: &Cpu, problem: &Problem, data: &Data, plain: bool) -> Results {
        let run_fprop = |epilogue: Epilogue| run_fprop(cpu, problem, &data.x, &data.weight, epilogue, plain);
        let run_dgrad = |epilogue: DgradEpilogue| run_dgrad(cpu, problem, data, epilogue, plain);
        let blocks = |rows: usize| rows.div_ceil(STATISTICS_ROWS);
        let affine = |residual, relu| Epilogue::Affine { affine: &data.affine, residual, relu };
        let reduce = |addend, mask| {
            let mut partials = vec![f32::NAN; blocks(problem.input_rows()) * 2 * problem.c];
            let (y, moments) = (&data.normalised[..], &data.moments[..]);
            let epilogue = DgradEpilogue::Reduce { addend, mask, y, moments, partials: &mut partials };
            let dx = run_dgrad(epilogue);
            [dx, partials]
        };
        let mut partials = vec![f32::NAN; blocks(problem.rows()) * 2 * problem.k];
        let statistics = Epilogue::Statistics(&mut partials);
        let y = run_fprop(statistics);
        Results {
            plain: run_fprop(Epilogue::Plain),
            bias: run_fprop(Epilogue::Bias(&data.bias)),
            statistics: [y, partials],
            affine: run_fprop(affine(None, false)),
            affine_relu: run_fprop(affine(Some(&data.residual), true)),
            dx: run_dgrad(DgradEpilogue::Plain),
            dx_added: run_dgrad(DgradEpilogue::Add(&data.addend)),
            reduced: reduce(None, None),
            reduced_whole: reduce(Some(&data.addend), Some(&data.z)),
            dw: run_wgrad(cpu, problem, data, &data.dw),
        }
    }

    fn bits(&self) -> Vec<u32> {
        let [statistics, reduced, whole] = [&self.statistics, &self.reduced, &self.reduced_whole];
        let single = [&self.plain, &self.bias, &self.affine, &self.affine_relu];
        let gradients = [&self.dx, &self.dx_added, &self.dw];
        let all = single.into_iter().chain(gradients).chain(statistics).chain(reduced).chain(whole);
        all.flatten().map(|value| value.to_bits()).collect()
    }
}

fn run_fprop(cpu: &Cpu, problem: &Problem, x: &[f32], weight: &[f32], epilogue: Epilogue, plain: bool) -> Vec<f32> {
    let mut packed = vec![f32::NAN; packed_fprop_len(cpu.isa(), problem)];
    pack_fprop(cpu, problem, weight, &mut packed);
    let weight = if plain { Weight::Plain(weight) } else { Weight::Packed(&packed) };
    let mut y = vec![f32::NAN; problem.output_len()];
    let mut workspace = vec![f32::NAN; fprop_workspace(cpu, problem, plain)];
    fprop(cpu, problem, x, weight, epilogue, &mut y, &mut workspace);
    y
}

fn run_dgrad(cpu: &Cpu, problem: &Problem, data: &Data, epilogue: DgradEpilogue, plain: bool) -> Vec<f32> {
    let mut packed = vec![f32::NAN; packed_dgrad_len(cpu.isa(), problem)];
    pack_dgrad(cpu, problem, &data.weight, &mut packed);
    let weight = if plain { Weight::Plain(&data.weight) } else { Weight::Packed(&packed) };
    let mut dx = vec![f32::NAN; problem.input_len()];
    let mut workspace = vec![f32::NAN; dgrad_workspace(cpu, problem, plain)];
    dgrad(cpu, problem, &data.dy, weight, epilogue, &mut dx, &mut workspace);
    dx
}

fn run_wgrad(cpu: &Cpu, problem: &Problem, data: &Data, before: &[f32]) -> Vec<f32> {
    let mut dw = before.to_vec();
    let mut workspace = vec![f32::NAN; wgrad_workspace(cpu, problem)];
    wgrad(cpu, problem, &data.dy, &data.x, &mut dw, &mut workspace);
    dw
}

fn check_fprop(what: &str, problem: &Problem, data: &Data, reference: &Reference, got: &Results) {
    let terms = terms(problem, problem.taps(), problem.c);
    for (i, y) in reference.y.iter().enumerate() {
        let k = i % problem.k;
        let (scale, shift) = (data.affine[k], data.affine[problem.k + k]);
        let scaled = Sum { value: y.value * f64::from(scale), magnitude: y.magnitude * f64::from(scale).abs() };
        y.assert(got.plain[i], terms, &format!("{what} fprop"), i);
        y.assert(got.statistics[0][i], terms, &format!("{what} fprop with statistics"), i);
        y.plus(data.bias[k]).assert(got.bias[i], terms, &format!("{what} fprop with bias"), i);
        let affine = scaled.plus(shift);
        affine.assert(got.affine[i], terms, &format!("{what} affine"), i);
        let added = affine.plus(data.residual[i]);
        let relu = Sum { value: added.value.max(0.0), ..added };
        relu.assert(got.affine_relu[i], terms, &format!("{what} residual and ReLU"), i);
    }
    let [y, partials] = &got.statistics;
    check_statistics(&format!("{what} statistics"), problem.k, y, partials);
}

/// Checks the partials against f64 sums over the y that the kernel wrote.
fn check_statistics(what: &str, width: usize, y: &[f32], partials: &[f32]) {
    for (block, rows) in y.chunks(STATISTICS_ROWS * width).enumerate() {
        let count = rows.len() / width;
        for k in 0..width {
            let column = || rows.iter().skip(k).step_by(width).map(|y| f64::from(*y));
            let mean = column().sum::<f64>() / count as f64;
            let m2: f64 = column().map(|y| (y - mean).powi(2)).sum();
            let spread: f64 = column().map(|y| (y - mean).abs()).sum();
            // An error e of the mean changes each deviation by e, and M2 by at most 2·e·Σ|d| + n·e².
            let e = (count + 2) as f64 * UNIT * column().map(f64::abs).sum::<f64>() / count as f64;
            let bound = (count + 4) as f64 * UNIT * m2 + 2.0 * e * spread + count as f64 * e * e;
            let got = [0, 1].map(|i| f64::from(partials[(block * 2 + i) * width + k]));
            assert!((got[0] - mean).abs() <= e, "{what} mean {k}: {} {mean}", got[0]);
            assert!((got[1] - m2).abs() <= bound, "{what} M2 {k}: {} {m2}", got[1]);
        }
    }
}

fn check_dgrad(what: &str, problem: &Problem, data: &Data, reference: &Reference, got: &Results) {
    let terms = terms(problem, problem.taps(), problem.k);
    for (i, dx) in reference.dx.iter().enumerate() {
        let added = dx.plus(data.addend[i]);
        let masked = if data.z[i] > 0.0 { added } else { Sum::default() };
        dx.assert(got.dx[i], terms, &format!("{what} dgrad"), i);
        added.assert(got.dx_added[i], terms, &format!("{what} dgrad with addend"), i);
        dx.assert(got.reduced[0][i], terms, &format!("{what} reducing dgrad"), i);
        masked.assert(got.reduced_whole[0][i], terms, &format!("{what} masked dgrad"), i);
    }
    for [dz, partials] in [&got.reduced, &got.reduced_whole] {
        check_sums(&format!("{what} sums"), problem.c, data, dz, partials);
    }
}

/// Checks the partials against f64 sums over the dz that the kernel wrote.
fn check_sums(what: &str, width: usize, data: &Data, dz: &[f32], partials: &[f32]) {
    for (block, rows) in dz.chunks(STATISTICS_ROWS * width).enumerate() {
        let normalised = &data.normalised[block * STATISTICS_ROWS * width..];
        for c in 0..width {
            let (mean, rstd) = (data.moments[c], data.moments[width + c]);
            let (mut sum, mut product) = (Sum::default(), Sum::default());
            for i in (c..rows.len()).step_by(width) {
                sum.add(rows[i], 1.0);
                let scale = f64::from(rows[i]) * f64::from(rstd);
                product.value += scale * (f64::from(normalised[i]) - f64::from(mean));
                product.magnitude += (scale * f64::from(normalised[i].abs() + mean.abs())).abs();
            }
            let at = block * 2 * width + c;
            sum.assert(partials[at], STATISTICS_ROWS, what, c);
            product.assert(partials[at + width], STATISTICS_ROWS, what, c);
        }
    }
}

fn check_wgrad(what: &str, problem: &Problem, data: &Data, reference: &Reference, got: &Results) {
    for (i, dw) in reference.dw.iter().enumerate() {
        dw.plus(data.dw[i]).assert(got.dw[i], terms(problem, 1, problem.rows()), &format!("{what} wgrad"), i);
    }
}
