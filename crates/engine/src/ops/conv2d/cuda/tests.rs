//! The convolution kernels against plain f64 loops: every kernel, tile, epilogue and kind of shape, in both precisions.

use super::*;
use crate::ops::testing::{Board, Expected, Random, check_kernels, narrow, wide};

const UNIT: f64 = 1.0 / (1u64 << 24) as f64;

const fn problem([n, h, w]: [usize; 3], [c, k]: [usize; 2], [kernel, stride, padding]: [usize; 3]) -> Problem {
    Problem { n, h, w, c, k, r: kernel, s: kernel, stride, padding }
}

const CASES: [Problem; 15] = [
    // One pixel.
    problem([1, 1, 1], [8, 8], [1, 1, 0]),
    problem([1, 1, 1], [24, 8], [3, 1, 1]),
    // 1×1: two tiles of rows, columns beyond one tile, a reduction that ends within a chunk.
    problem([2, 9, 9], [24, 136], [1, 1, 0]),
    problem([1, 5, 5], [136, 64], [1, 1, 0]),
    // 3×3: chunks that hold several taps, one tap, or the end of one; many tiles of rows.
    problem([1, 7, 5], [64, 24], [3, 1, 1]),
    problem([3, 16, 15], [8, 8], [3, 1, 1]),
    problem([1, 8, 16], [24, 24], [3, 1, 1]),
    // 3×3 with stride 2: even and odd sizes, several tiles per phase, phases without pixels.
    problem([2, 8, 8], [136, 8], [3, 2, 1]),
    problem([1, 9, 7], [24, 64], [3, 2, 1]),
    problem([5, 16, 16], [8, 8], [3, 2, 1]),
    problem([1, 2, 1], [8, 8], [3, 2, 1]),
    // 1×1 with stride 2: phases without taps.
    problem([2, 6, 6], [64, 136], [1, 2, 0]),
    problem([1, 7, 7], [8, 24], [1, 2, 0]),
    // The stem, and a kernel that no network here has.
    problem([1, 15, 17], [8, 64], [7, 2, 3]),
    problem([1, 10, 11], [8, 16], [5, 3, 2]),
];

/// Visits every (output pixel, tap, input pixel) of the convolution, as indices of rows.
fn for_each_tap(p: &Problem, mut visit: impl FnMut(usize, usize, usize)) {
    for (n, y, x) in pixels([p.n, p.p(), p.q()]) {
        for r in 0..p.r {
            for s in 0..p.s {
                let (h, w) = ((y * p.stride + r).wrapping_sub(p.padding), (x * p.stride + s).wrapping_sub(p.padding));
                if h < p.h && w < p.w {
                    visit((n * p.p() + y) * p.q() + x, r * p.s + s, (n * p.h + h) * p.w + w);
                }
            }
        }
    }
}

fn pixels([n, h, w]: [usize; 3]) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..n * h * w).map(move |i| (i / w / h, i / w % h, i % w))
}

/// Values, and the sums of the magnitudes of their terms.
type Pair = (Vec<f64>, Vec<f64>);

fn add(pair: &mut Pair, at: usize, product: f64) {
    pair.0[at] += product;
    pair.1[at] += product.abs();
}

fn fprop_reference(p: &Problem, x: &[f32], weight: &[f32]) -> Pair {
    let mut y = (vec![0.0; p.output_len()], vec![0.0; p.output_len()]);
    for_each_tap(p, |row, tap, source| {
        for k in 0..p.k {
            for c in 0..p.c {
                let product = f64::from(x[source * p.c + c]) * f64::from(weight[(k * p.taps() + tap) * p.c + c]);
                add(&mut y, row * p.k + k, product);
            }
        }
    });
    y
}

fn dgrad_reference(p: &Problem, dy: &[f32], weight: &[f32]) -> Pair {
    let mut dx = (vec![0.0; p.input_len()], vec![0.0; p.input_len()]);
    for_each_tap(p, |row, tap, source| {
        for k in 0..p.k {
            for c in 0..p.c {
                let product = f64::from(dy[row * p.k + k]) * f64::from(weight[(k * p.taps() + tap) * p.c + c]);
                add(&mut dx, source * p.c + c, product);
            }
        }
    });
    dx
}

/// The roundings of a sum of `depth` products and an epilogue. Doubled, because tensor cores truncate where other units round to
/// nearest.
fn operations(depth: usize) -> usize {
    2 * (depth + 8)
}

/// v rounded once from f64 to bf16.
fn bf16(v: f64) -> f64 {
    if v == 0.0 {
        return 0.0;
    }
    let unit = 2f64.powi(((v.to_bits() >> 52) & 0x7ff) as i32 - 1023 - 7);
    (v / unit).round_ties_even() * unit
}

/// The values that the reference stores, and how far the device's may differ, since the device may round the other way. Rounding
/// is monotone, so the device's number lies between the rounded ends of its interval.
fn stored((values, magnitudes): &Pair, operations: usize) -> Pair {
    let off = |(&v, &m): (&f64, &f64)| {
        let error = operations as f64 * UNIT * m;
        (bf16(v + error) - bf16(v)).abs().max((bf16(v) - bf16(v - error)).abs())
    };
    (values.iter().map(|&v| bf16(v)).collect(), values.iter().zip(magnitudes).map(off).collect())
}

/// Numbers that each have their own bound.
fn bounded(name: &'static str, values: Vec<f64>, bounds: Vec<f64>) -> Expected {
    Expected::new(name, 1, (values, bounds.into_iter().map(|b| b / UNIT).collect()))
}

struct Forward {
    x: Vec<f32>,
    weight: Vec<f32>,
    y: Pair,
}

impl Forward {
    fn new(p: &Problem) -> Forward {
        let mut random = Random::new((p.h * p.c * p.k + p.r) as u64);
        let x = random.activations(p.input_len(), -1.0, 2.0);
        let weight = random.activations(p.weight_len(), -1.0, 1.0);
        let y = fprop_reference(p, &x, &weight);
        Forward { x, weight, y }
    }

    fn run(&self, board: &mut Board, p: &Problem, tile: Tile, epilogue: FpropEpilogue) -> Vec<f32> {
        let (x, weight) = (board.activations(&self.x), board.activations(&self.weight));
        let y = board.activations_out(p.output_len());
        let precision = board.precision();
        board.run(&fprop(precision, p, tile, [x, weight], epilogue, y));
        board.read_activations(y, p.output_len())
    }
}

#[test]
fn fprop_multiplies_every_shape() {
    for p in CASES {
        let case = Forward::new(&p);
        let expected = [Expected::new("y", operations(p.taps() * p.c), case.y.clone()).stored()];
        for tile in Tile::ALL {
            check_kernels(&format!("fprop {p:?} {tile:?}"), &expected, |board| {
                vec![case.run(board, &p, tile, FpropEpilogue::Plain)]
            });
        }
    }
}

#[test]
fn fprop_adds_the_bias_to_real_channels_only() {
    for (i, channels) in [(0, 3), (2, 131), (4, 24), (13, 64)] {
        let p = CASES[i];
        let case = Forward::new(&p);
        let bias = Random::new(7).vector(channels, -2.0, 2.0);
        let of = |i: usize| f64::from(bias.get(i % p.k).copied().unwrap_or(0.0));
        let values = case.y.0.iter().enumerate().map(|(i, y)| y + of(i)).collect();
        let magnitudes = case.y.1.iter().enumerate().map(|(i, m)| m + of(i).abs()).collect();
        let expected = [Expected::new("y", operations(p.taps() * p.c), (values, magnitudes)).stored()];
        for tile in Tile::ALL {
            check_kernels(&format!("fprop with a bias {p:?} {tile:?}"), &expected, |board| {
                let bias = board.floats(&bias);
                vec![case.run(board, &p, tile, FpropEpilogue::Bias { bias, channels })]
            });
        }
    }
}

#[test]
fn fprop_gives_the_statistics_of_what_it_stores() {
    for p in CASES {
        let case = Forward::new(&p);
        let operations = operations(p.taps() * p.c);
        let (y, off) = stored(&case.y, operations);
        let tiles = p.rows().div_ceil(STATISTICS_ROWS);
        let (mut values, mut bounds) = (vec![0.0; tiles * 2 * p.k], vec![0.0; tiles * 2 * p.k]);
        for tile in 0..tiles {
            let rows = || tile * STATISTICS_ROWS..p.rows().min((tile + 1) * STATISTICS_ROWS);
            let n = rows().len() as f64;
            for k in 0..p.k {
                let column = || rows().map(|row| y[row * p.k + k]);
                let off = || rows().map(|row| off[row * p.k + k]);
                let mean = column().sum::<f64>() / n;
                let squares = column().map(|v| (v - mean).powi(2)).sum::<f64>();
                // n additions and a division, of numbers that have errors themselves.
                let mean_off =
                    off().sum::<f64>() / n + (n + 1.0) * UNIT * column().map(f64::abs).sum::<f64>() / n + f64::EPSILON;
                // √squares is the length of the column minus its mean. It grows by at most the length of the values' errors. An
                // error m of the mean adds n·m². A difference, a product and n additions are rounded.
                let length = off().map(|o| o * o).sum::<f64>().sqrt();
                let moved = (squares.sqrt() + length).powi(2) + n * mean_off.powi(2);
                let squares_off = moved - squares + (n + 4.0) * UNIT * moved;
                let at = tile * 2 * p.k + k;
                (values[at], bounds[at]) = (mean, mean_off);
                (values[at + p.k], bounds[at + p.k]) = (squares, squares_off);
            }
        }
        let expected =
            [Expected::new("y", operations, case.y.clone()).stored(), bounded("partials", values.clone(), bounds)];
        for tile in Tile::ALL {
            check_kernels(&format!("fprop with statistics {p:?} {tile:?}"), &expected, |board| {
                if board.precision() == Precision::F32 {
                    return vec![narrow(&case.y.0), narrow(&values)];
                }
                let partials = board.floats_out(tiles * 2 * p.k);
                let y = case.run(board, &p, tile, FpropEpilogue::Statistics { partials });
                vec![y, board.read_floats(partials, tiles * 2 * p.k)]
            });
        }
    }
}

#[test]
fn fprop_applies_scale_shift_residual_and_relu() {
    for (i, with_residual, relu) in
        [(0, true, true), (2, true, true), (4, false, true), (8, true, false), (9, false, false)]
    {
        let p = CASES[i];
        let case = Forward::new(&p);
        let mut random = Random::new(i as u64);
        let affine = random.vector(2 * p.k, -1.5, 1.5);
        let residual = random.activations(p.output_len(), -4.0, 4.0);
        let (mut values, mut magnitudes) = case.y.clone();
        for i in 0..p.output_len() {
            let (scale, shift) = (f64::from(affine[i % p.k]), f64::from(affine[p.k + i % p.k]));
            let r = if with_residual { f64::from(residual[i]) } else { 0.0 };
            let z = values[i] * scale + shift + r;
            values[i] = if relu { z.max(0.0) } else { z };
            magnitudes[i] = magnitudes[i] * scale.abs() + shift.abs() + r.abs();
        }
        let expected = [Expected::new("z", operations(p.taps() * p.c), (values.clone(), magnitudes)).stored()];
        for tile in Tile::ALL {
            check_kernels(&format!("fprop with an affine map {p:?} {tile:?}"), &expected, |board| {
                if board.precision() == Precision::F32 {
                    return vec![narrow(&values)];
                }
                let affine = board.floats(&affine);
                let residual = with_residual.then(|| board.activations(&residual));
                vec![case.run(board, &p, tile, FpropEpilogue::Affine { affine, residual, relu })]
            });
        }
    }
}

struct Backward {
    dy: Vec<f32>,
    weight: Vec<f32>,
    addend: Vec<f32>,
    dx: Pair,
}

impl Backward {
    fn new(p: &Problem) -> Backward {
        let mut random = Random::new((p.w * p.c * p.k + p.r) as u64);
        let dy = random.activations(p.output_len(), -1.0, 1.0);
        let weight = random.activations(p.weight_len(), -1.0, 1.0);
        let addend = random.activations(p.input_len(), -4.0, 4.0);
        let dx = dgrad_reference(p, &dy, &weight);
        Backward { dy, weight, addend, dx }
    }

    fn with_addend(&self) -> Pair {
        let (mut values, mut magnitudes) = self.dx.clone();
        for ((v, m), &a) in values.iter_mut().zip(&mut magnitudes).zip(&self.addend) {
            *v += f64::from(a);
            *m += f64::from(a).abs();
        }
        (values, magnitudes)
    }

    fn run(&self, board: &mut Board, p: &Problem, tile: Tile, epilogue: DgradEpilogue) -> Vec<f32> {
        let (dy, weight) = (board.activations(&self.dy), board.activations(&self.weight));
        let dx = board.activations_out(p.input_len());
        let precision = board.precision();
        board.run(&dgrad(precision, p, tile, [dy, weight], epilogue, dx));
        board.read_activations(dx, p.input_len())
    }
}

#[test]
fn dgrad_multiplies_every_shape() {
    for p in CASES {
        let case = Backward::new(&p);
        let expected = [Expected::new("dx", operations(p.taps() * p.k), case.dx.clone()).stored()];
        for tile in Tile::ALL {
            check_kernels(&format!("dgrad {p:?} {tile:?}"), &expected, |board| {
                vec![case.run(board, &p, tile, DgradEpilogue::Plain { addend: None })]
            });
        }
    }
}

#[test]
fn dgrad_adds_another_gradient() {
    for i in [0, 3, 7, 10, 12] {
        let p = CASES[i];
        let case = Backward::new(&p);
        let sum = case.with_addend();
        let expected = [Expected::new("dx", operations(p.taps() * p.k), sum.clone()).stored()];
        for tile in Tile::ALL {
            check_kernels(&format!("dgrad with an addend {p:?} {tile:?}"), &expected, |board| {
                if board.precision() == Precision::F32 {
                    return vec![narrow(&sum.0)];
                }
                let addend = Some(board.activations(&case.addend));
                vec![case.run(board, &p, tile, DgradEpilogue::Plain { addend })]
            });
        }
    }
}

/// The pixels that share a row of partials: 128 at a time from one phase.
fn tiles_of_phases(p: &Problem) -> Vec<Vec<usize>> {
    let mut tiles = Vec::new();
    for phase in 0..p.stride * p.stride {
        let of = |h: usize, w: usize| (h + p.padding) % p.stride * p.stride + (w + p.padding) % p.stride;
        let all = pixels([p.n, p.h, p.w]).enumerate();
        let rows: Vec<usize> = all.filter(|&(_, (_, h, w))| of(h, w) == phase).map(|(row, _)| row).collect();
        tiles.extend(rows.chunks(STATISTICS_ROWS).map(<[usize]>::to_vec));
    }
    tiles
}

#[test]
fn dgrad_masks_and_reduces_what_it_stores() {
    for (i, p) in CASES.into_iter().enumerate() {
        let (with_addend, with_mask) = (i % 2 == 0, i % 3 != 0);
        let case = Backward::new(&p);
        let operations = operations(p.taps() * p.k);
        let mut random = Random::new(i as u64);
        // The mask also has zeros and −0, where the gradient must be 0.
        let mask: Vec<f32> =
            random.activations(p.input_len(), -1.0, 1.0).iter().map(|v| if *v < -0.5 { -0.0 } else { *v }).collect();
        let y = random.activations(p.input_len(), -3.0, 5.0);
        let moments = random.vector(2 * p.c, 0.5, 2.0);
        let (mut values, mut magnitudes) = if with_addend { case.with_addend() } else { case.dx.clone() };
        for at in (0..p.input_len()).filter(|&at| with_mask && mask[at] <= 0.0) {
            (values[at], magnitudes[at]) = (0.0, 0.0);
        }
        let dz = (values, magnitudes);
        let (exact, off) = stored(&dz, operations);
        let tiles = tiles_of_phases(&p);
        assert_eq!(tiles.len(), dgrad_partials(&p));
        let (mut sums, mut bounds) = (Vec::new(), Vec::new());
        for tile in &tiles {
            let n = tile.len() as f64;
            for moment in [false, true] {
                for c in 0..p.c {
                    // The factor that dz is multiplied by in each row.
                    let factor = |row: usize| match moment {
                        false => 1.0,
                        true => (f64::from(y[row * p.c + c]) - f64::from(moments[c])) * f64::from(moments[p.c + c]),
                    };
                    // y − mean is rounded relative to itself, because both are f32, and so is the difference.
                    let at = |row: usize| row * p.c + c;
                    sums.push(tile.iter().map(|&row| exact[at(row)] * factor(row)).sum::<f64>());
                    let rounded: f64 =
                        tile.iter().map(|&row| (exact[at(row)].abs() + off[at(row)]) * factor(row).abs()).sum();
                    let moved: f64 = tile.iter().map(|&row| off[at(row)] * factor(row).abs()).sum();
                    bounds.push(moved + (n + 4.0) * UNIT * rounded);
                }
            }
        }
        let expected =
            [Expected::new("dz", operations, dz.clone()).stored(), bounded("partials", sums.clone(), bounds)];
        for tile in Tile::ALL {
            check_kernels(&format!("dgrad with sums {p:?} {tile:?}"), &expected, |board| {
                if board.precision() == Precision::F32 {
                    return vec![narrow(&dz.0), narrow(&sums)];
                }
                let partials = board.floats_out(sums.len());
                let epilogue = DgradEpilogue::Reduce {
                    addend: with_addend.then(|| board.activations(&case.addend)),
                    mask: with_mask.then(|| board.activations(&mask)),
                    y: board.activations(&y),
                    moments: board.floats(&moments),
                    partials,
                };
                let dz = case.run(board, &p, tile, epilogue);
                vec![dz, board.read_floats(partials, sums.len())]
            });
        }
    }
}

#[test]
fn wgrad_adds_to_real_channels_only() {
    for (i, p) in CASES.into_iter().enumerate() {
        // In every other case some of the channels are padding.
        let logical = if i % 2 == 0 { [p.k - 5, p.c - 5] } else { [p.k, p.c] };
        let mut random = Random::new(i as u64);
        let dy = random.activations(p.output_len(), -1.0, 1.0);
        let x = random.activations(p.input_len(), -1.0, 2.0);
        let [k, c] = logical;
        let before = random.vector(k * p.taps() * c, -1.0, 1.0);
        let mut sums = (wide(&before), wide(&before).iter().map(|v| v.abs()).collect());
        for_each_tap(&p, |row, tap, source| {
            for k in 0..k {
                for c in 0..c {
                    let product = f64::from(dy[row * p.k + k]) * f64::from(x[source * p.c + c]);
                    add(&mut sums, (k * p.taps() + tap) * logical[1] + c, product);
                }
            }
        });
        let check = |what: String, plan: &dyn Fn(Precision) -> WgradPlan| {
            let splits = plan(Precision::Bf16).splits.max(plan(Precision::F32).splits);
            let expected = [Expected::new("dweight", operations(p.rows() + splits), sums.clone())];
            check_kernels(&format!("wgrad {p:?} {logical:?} {what}"), &expected, |board| {
                let plan = plan(board.precision());
                let (dy, x) = (board.activations(&dy), board.activations(&x));
                let gradient = board.floats(&before);
                let workspace = board.poisoned(plan.workspace(&p));
                board.run(&plan.launches(board.precision(), &p, logical, [dy, x], workspace, gradient));
                vec![board.read_floats(gradient, before.len())]
            });
        };
        for (j, tile) in WgradTile::ALL.into_iter().enumerate() {
            let splits = 1 + (i + j) % 3;
            check(format!("{tile:?} in {splits}"), &|_| WgradPlan { tile, splits });
        }
        check("as chosen".into(), &|precision| WgradPlan::choose(precision, &p, 4));
    }
}

#[test]
fn many_splits_are_added_by_several_threads() {
    let p = problem([8, 16, 17], [8, 8], [1, 1, 0]);
    let mut random = Random::new(1);
    let (dy, x) = (random.activations(p.output_len(), -1.0, 1.0), random.activations(p.input_len(), -1.0, 1.0));
    let mut sums = (vec![0.0; 64], vec![0.0; 64]);
    for row in 0..p.rows() {
        for i in 0..64 {
            add(&mut sums, i, f64::from(dy[row * 8 + i / 8]) * f64::from(x[row * 8 + i % 8]));
        }
    }
    for splits in [9, 20, 68] {
        let expected = [Expected::new("dweight", operations(p.rows() + splits), sums.clone())];
        check_kernels(&format!("wgrad in {splits}"), &expected, |board| {
            let plan = WgradPlan { tile: WgradTile::Small, splits };
            let (dy, x, gradient) = (board.activations(&dy), board.activations(&x), board.floats(&[0.0; 64]));
            let workspace = board.poisoned(plan.workspace(&p));
            board.run(&plan.launches(board.precision(), &p, [8, 8], [dy, x], workspace, gradient));
            vec![board.read_floats(gradient, 64)]
        });
    }
}

#[test]
fn plans_fit_the_device() {
    for (hw, c, k, kernel, stride) in
        [(112, 8, 64, 7, 2), (56, 64, 64, 3, 1), (56, 64, 256, 1, 1), (7, 512, 2048, 1, 1), (14, 512, 512, 3, 2)]
    {
        let p = problem([64, hw, hw], [c, k], [kernel, stride, kernel / 2]);
        for precision in [Precision::Bf16, Precision::F32] {
            let plan = WgradPlan::choose(precision, &p, 132);
            assert!(plan.splits >= 1 && plan.splits <= p.rows().div_ceil(CHUNK), "{p:?}: {plan:?}");
            assert!(plan.splits == 1 || plan.workspace(&p) <= 64 << 20, "{p:?}: {plan:?}");
            let candidates = WgradPlan::candidates(precision, &p, 132);
            assert_eq!(candidates[0], plan);
            for (i, candidate) in candidates.iter().enumerate() {
                assert!(candidate.fits(&p) && !candidates[..i].contains(candidate), "{p:?}: {candidate:?}");
                assert!(candidate.splits == 1 || candidate.workspace(&p) <= 64 << 20, "{p:?}: {candidate:?}");
            }
        }
    }
    for bytes in Tile::ALL.map(Tile::shared_bytes) {
        assert!(bytes <= 48 << 10, "two blocks fit on the smallest processor");
    }
}
