//! Runs the convolution kernels at their real sizes through the shim: every distinct convolution of ResNet-50 at batch 256 and
//! 224², and batches as large as a plan allows. Every tile runs, but only the corners and the middle of each grid.
//!
//! Buffers are address space that is filled when touched. Inputs are −1, 0 and 1, so that every sum is exact in f32 and is
//! compared bit for bit with its definition (`shapes/definition.rs`); nothing else may be written.

#[path = "shapes/board.rs"]
mod board;
#[path = "shapes/definition.rs"]
mod definition;

use board::{Board, Buffer};
use definition::{dgrad_sums, fprop_sums, wgrad_sums};
use polyhead::device::cuda::{Contents, Direction, Precision};
use polyhead::ir::{DType, Graph, Mode, Op};
use polyhead::layers::Builder;
use polyhead::model::{Backbone, Freeze, resnet};
use polyhead::ops::conv2d::cuda::{
    Choice, DgradEpilogue, FpropEpilogue, Tile, Tunable, WgradPlan, WgradTile, dgrad, dgrad_partials, fprop,
};
use polyhead::ops::conv2d::{Problem, STATISTICS_ROWS};
use polyhead::ops::cuda::{MAX_VECTORS, VECTOR};
use std::collections::HashSet;
use std::ops::Range;

const BATCH: usize = 256;
/// The number of an H200, which determines the splits of weight gradients.
const PROCESSORS: usize = 132;
/// Reduction elements per stage; a split is a multiple of it.
const CHUNK: usize = 32;
const DIRECT_THREADS: usize = 256;

/// v rounded to bf16: to the nearest value, ties to even.
fn bf16(v: f32) -> f32 {
    let bits = v.to_bits();
    f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) >> 16 << 16)
}

/// The first, the middle and the last of `count`.
fn corners(count: usize) -> Vec<usize> {
    let mut corners = vec![0, count / 2, count - 1];
    corners.dedup();
    corners
}

/// The first and the last tile of `len`, with their columns.
fn ends(len: usize, tile: usize) -> Vec<(usize, Range<usize>)> {
    let last = len.div_ceil(tile) - 1;
    let mut ends = vec![0, last];
    ends.dedup();
    ends.into_iter().map(|i| (i, i * tile..len.min((i + 1) * tile))).collect()
}

/// The distinct convolutions of ResNet-50, channels padded as in a GPU's memory.
fn resnet50() -> Vec<Problem> {
    let mut graph = Graph::new(Mode::Train);
    let x = graph.input("images", &[BATCH, 224, 224, 3], DType::F32);
    resnet::resnet(&mut Builder::new(&mut graph), x, Backbone::Resnet50, &Freeze::default()).unwrap();
    let mut seen = HashSet::new();
    let problems = graph.nodes.iter().filter_map(|node| match &node.op {
        Op::Conv2d(op) => Some(Tunable::of_fprop(op, &graph, node).problem),
        _ => None,
    });
    let problems: Vec<Problem> = problems.filter(|problem| seen.insert(*problem)).collect();
    assert_eq!(problems.len(), 23);
    problems
}

/// A convolution of `side`² maps with the largest batch that kernels can index: offsets beyond 2³² bytes and 2³¹ elements, with
/// partial tiles at the end.
fn vast(side: usize, [c, k]: [usize; 2], [kernel, stride]: [usize; 2]) -> Problem {
    let one = Problem { n: 1, h: side, w: side, c, k, r: kernel, s: kernel, stride, padding: kernel / 2 };
    let limit = MAX_VECTORS * VECTOR;
    let batch = limit / one.input_len().max(one.output_len());
    let problem = Problem { n: batch, ..one };
    assert!(problem.input_len().max(problem.output_len()) > 1 << 33);
    problem
}

fn vast_problems() -> [Problem; 5] {
    [
        vast(57, [64, 64], [3, 1]),
        vast(113, [128, 128], [3, 2]),
        vast(57, [64, 256], [1, 1]),
        vast(225, [8, 64], [7, 2]),
        vast(57, [8, 8], [3, 1]),
    ]
}

fn check_fprop(p: &Problem) {
    let Some(mut board) = Board::new(Precision::Bf16) else { return };
    let row_tiles = p.rows().div_ceil(STATISTICS_ROWS);
    let (x, weight) = (board.ternary(p.input_len()), board.ternary(p.weight_len()));
    let (residual, affine) = (board.ternary(p.output_len()), board.floats(2 * p.k));
    let (y, partials) = (board.activations_out(p.output_len()), board.floats_out(row_tiles * 2 * p.k));
    let rows = |tile: usize| (tile * STATISTICS_ROWS..p.rows().min((tile + 1) * STATISTICS_ROWS)).collect::<Vec<_>>();
    for tile in Tile::ALL {
        let across = p.k.div_ceil(tile.columns());
        let (scale, shift) = (board.read(affine, 0, p.k), board.read(affine, p.k, p.k));
        let plain = FpropEpilogue::Statistics { partials: partials.at };
        let normed = FpropEpilogue::Affine { affine: affine.at, residual: Some(residual.at), relu: true };
        let [statistics, normed] = [plain, normed].map(|epilogue| {
            let launches = fprop(Precision::Bf16, p, tile, [x.at, weight.at], epilogue, y.at);
            assert_eq!((launches.len(), launches[0].grid), (1, [(row_tiles * across) as u32, 1, 1]));
            launches[0].clone()
        });
        for (row_tile, (column, columns)) in
            corners(row_tiles).into_iter().flat_map(|row| ends(p.k, tile.columns()).into_iter().map(move |c| (row, c)))
        {
            let what = format!("fprop {p:?} {tile}, tile of rows {row_tile}, of columns {column}");
            let block = [[(row_tile * across + column) as u32, 0, 0]];
            let rows = rows(row_tile);
            let sums = fprop_sums(&board, p, [x, weight], &rows, columns.clone());
            let width = columns.len();

            board.launch(&what, &statistics, &block);
            let stored: Vec<f32> = sums.iter().map(|&sum| bf16(sum as f32)).collect();
            let n = rows.len() as f32;
            let column_of = |i: usize| stored.iter().skip(i).step_by(width);
            let means: Vec<f32> = (0..width).map(|i| column_of(i).sum::<f32>() / n).collect();
            let squares = |i: usize| column_of(i).map(|v| (f64::from(*v) - f64::from(means[i])).powi(2)).sum::<f64>();
            let squares: Vec<f32> = (0..width).map(|i| squares(i) as f32).collect();
            for (row, stored) in rows.iter().zip(stored.chunks(width)) {
                board.take(&what, y, row * p.k + columns.start, stored, 0.0);
            }
            let at = row_tile * 2 * p.k + columns.start;
            board.take(&what, partials, at, &means, 0.0);
            // A difference, a product and n additions of positive numbers are rounded; the reference is rounded once.
            board.take(&what, partials, at + p.k, &squares, (n + 4.0) / (1 << 24) as f32);

            board.launch(&what, &normed, &block);
            for (row, sums) in rows.iter().zip(sums.chunks(width)) {
                let at = row * p.k + columns.start;
                let beside = board.read(residual, at, width);
                let z = |i: usize| sums[i] as f32 * scale[columns.start + i] + shift[columns.start + i] + beside[i];
                let z: Vec<f32> = (0..width).map(|i| bf16(z(i).max(0.0))).collect();
                board.take(&what, y, at, &z, 0.0);
            }
        }
    }
    for buffer in [y, partials] {
        board.is_untouched(&format!("fprop {p:?}"), buffer);
    }
}

/// The pixels of phase `phase` along an axis of `len`: the first, and their number.
fn phase(p: &Problem, len: usize, phase: usize) -> (usize, usize) {
    let first = (0..p.stride).find(|at| (at + p.padding) % p.stride == phase).unwrap();
    (first, len.saturating_sub(first).div_ceil(p.stride))
}

/// The row tiles to check, each with its pixels `[n, h, w]`: the first, the middle and the last of every phase.
fn dgrad_tiles(p: &Problem) -> Vec<(usize, Vec<[usize; 3]>)> {
    let (mut tiles, mut before) = (Vec::new(), 0);
    for (down, across) in (0..p.stride).flat_map(|i| (0..p.stride).map(move |j| (i, j))) {
        let ((first_h, count_h), (first_w, count_w)) = (phase(p, p.h, down), phase(p, p.w, across));
        let rows = p.n * count_h * count_w;
        let own = rows.div_ceil(STATISTICS_ROWS);
        for tile in if own > 0 { corners(own) } else { Vec::new() } {
            let rows = tile * STATISTICS_ROWS..rows.min((tile + 1) * STATISTICS_ROWS);
            let pixel = |row: usize| {
                let (h, w) = (row / count_w % count_h, row % count_w);
                [row / count_w / count_h, first_h + h * p.stride, first_w + w * p.stride]
            };
            tiles.push((before + tile, rows.map(pixel).collect()));
        }
        before += own;
    }
    assert_eq!(before, dgrad_partials(p));
    tiles
}

fn check_dgrad(p: &Problem) {
    let Some(mut board) = Board::new(Precision::Bf16) else { return };
    let (dy, weight) = (board.ternary(p.output_len()), board.ternary(p.weight_len()));
    let [addend, mask, y] = [(); 3].map(|()| board.ternary(p.input_len()));
    let moments = board.floats(2 * p.c);
    let (dx, partials) = (board.activations_out(p.input_len()), board.floats_out(dgrad_partials(p) * 2 * p.c));
    let (mean, rstd) = (board.read(moments, 0, p.c), board.read(moments, p.c, p.c));
    let epilogue = DgradEpilogue::Reduce {
        addend: Some(addend.at),
        mask: Some(mask.at),
        y: y.at,
        moments: moments.at,
        partials: partials.at,
    };
    for tile in Tile::ALL {
        let across = p.c.div_ceil(tile.columns());
        let launches = dgrad(Precision::Bf16, p, tile, [dy.at, weight.at], epilogue, dx.at);
        assert_eq!((launches.len(), launches[0].grid), (1, [(dgrad_partials(p) * across) as u32, 1, 1]));
        for (row_tile, pixels) in dgrad_tiles(p) {
            for (column, columns) in ends(p.c, tile.columns()) {
                let what = format!("dgrad {p:?} {tile}, tile of rows {row_tile}, of columns {column}");
                board.launch(&what, &launches[0], &[[(row_tile * across + column) as u32, 0, 0]]);
                let sums = dgrad_sums(&board, p, [dy, weight], &pixels, columns.clone());
                let width = columns.len();
                let (mut totals, mut products) = (vec![0.0; width], vec![0.0; width]);
                for (&[n, h, w], sums) in pixels.iter().zip(sums.chunks(width)) {
                    let at = ((n * p.h + h) * p.w + w) * p.c + columns.start;
                    let [addend, mask, y] = [addend, mask, y].map(|buffer| board.read(buffer, at, width));
                    let dz = |i: usize| if mask[i] > 0.0 { bf16(sums[i] as f32 + addend[i]) } else { 0.0 };
                    let dz: Vec<f32> = (0..width).map(dz).collect();
                    for i in 0..width {
                        totals[i] += dz[i];
                        products[i] += dz[i] * (y[i] - mean[columns.start + i]);
                    }
                    board.take(&what, dx, at, &dz, 0.0);
                }
                let products: Vec<f32> = products.iter().zip(&rstd[columns.clone()]).map(|(p, r)| p * r).collect();
                let at = row_tile * 2 * p.c + columns.start;
                board.take(&what, partials, at, &totals, 0.0);
                board.take(&what, partials, at + p.c, &products, 0.0);
            }
        }
    }
    for buffer in [dx, partials] {
        board.is_untouched(&format!("dgrad {p:?}"), buffer);
    }
}

/// Blocks of a grid to check: along each axis the first, the middle and the last.
fn blocks([x, y]: [usize; 2]) -> Vec<[usize; 2]> {
    let mut blocks = vec![[0, 0], [x / 2, y / 2], [x - 1, y - 1]];
    blocks.dedup();
    blocks
}

/// Splits a flat range of a matrix of `width` columns into rows with their columns.
fn rows_of(flat: Range<usize>, width: usize) -> Vec<(usize, Range<usize>)> {
    let row = |row: usize| (row, flat.start.saturating_sub(row * width)..width.min(flat.end - row * width));
    (flat.start / width..flat.end.div_ceil(width)).map(row).collect()
}

fn check_wgrad(p: &Problem, precision: Precision, plan: WgradPlan) {
    let Some(mut board) = Board::new(precision) else { return };
    let chunks = p.rows().div_ceil(CHUNK);
    let split_rows = CHUNK * chunks.div_ceil(plan.splits);
    let splits = p.rows().div_ceil(split_rows);
    // The stem's padding is not in the gradient.
    let logical_c = if p.r == 7 { 3 } else { p.c };
    let elements = p.k * p.taps() * logical_c;
    let (dy, x) = (board.ternary(p.output_len()), board.ternary(p.input_len()));
    let (workspace, parts) = (board.floats_out(splits * p.weight_len()), board.floats(splits * p.weight_len()));
    let (gradient, before) =
        (board.reserve(elements, 4, Contents::Sums, 1000), board.reserve(elements, 4, Contents::Sums, 1000));
    let launches =
        |workspace: Buffer| plan.launches(precision, p, [p.k, logical_c], [dy.at, x.at], workspace.at, gradient.at);
    let partial = launches(workspace)[0].clone();
    let (width, [tile_k, tile_columns]) = (p.taps() * p.c, plan.tile.size());
    let down = p.k.div_ceil(tile_k);
    let grid = match precision {
        Precision::Bf16 => down * width.div_ceil(tile_columns),
        Precision::F32 => p.weight_len().div_ceil(DIRECT_THREADS),
    };
    assert_eq!(partial.grid, [grid as u32, splits as u32, 1]);
    for [at, split] in blocks([grid, splits]) {
        let what = format!("wgrad {p:?} {plan:?} in {precision:?}, block {at}, {split}");
        board.launch(&what, &partial, &[[at as u32, split as u32, 0]]);
        let parts = match precision {
            Precision::Bf16 => {
                let (k, column) = (at % down * tile_k, at / down * tile_columns);
                vec![(k..p.k.min(k + tile_k), column..width.min(column + tile_columns))]
            }
            Precision::F32 => {
                let flat = at * DIRECT_THREADS..p.weight_len().min((at + 1) * DIRECT_THREADS);
                rows_of(flat, width).into_iter().map(|(k, columns)| (k..k + 1, columns)).collect()
            }
        };
        let rows = split * split_rows..p.rows().min((split + 1) * split_rows);
        for (ks, columns) in parts {
            let sums = wgrad_sums(&board, p, [dy, x], rows.clone(), ks.clone(), columns.clone());
            for (k, sums) in ks.zip(sums.chunks(columns.len())) {
                let sums: Vec<f32> = sums.iter().map(|&sum| sum as f32).collect();
                board.take(&what, workspace, (split * p.k + k) * width + columns.start, &sums, 0.0);
            }
        }
    }
    board.is_untouched(&format!("wgrad {p:?} {plan:?}"), workspace);

    let reduce = launches(parts)[1].clone();
    let own = elements.div_ceil(reduce.grid[0] as usize).next_power_of_two();
    for [at, _] in blocks([reduce.grid[0] as usize, 1]) {
        let what = format!("sum over the splits of {p:?} {plan:?}, block {at}");
        board.launch(&what, &reduce, &[[at as u32, 0, 0]]);
        let flat = at * own..elements.min((at + 1) * own);
        for (row, columns) in rows_of(flat.clone(), logical_c) {
            let first = row * logical_c + columns.start;
            let mut expected = board.read(before, first, columns.len());
            for split in 0..splits {
                let part = board.read(parts, split * p.weight_len() + row * p.c + columns.start, columns.len());
                expected.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
            }
            assert_eq!(board.read(gradient, first, columns.len()), expected, "{what}");
            let old: Vec<u8> = board.read(before, first, columns.len()).iter().flat_map(|v| v.to_ne_bytes()).collect();
            board.write(gradient, first, &old);
        }
    }
    for range in board.touched(gradient) {
        let (first, len) = (range.start / 4, range.len() / 4);
        assert!(board.read(gradient, first, len) == board.read(before, first, len), "{p:?} {plan:?}: other gradients");
    }
}

fn check_direct(p: &Problem) {
    let Some(mut board) = Board::new(Precision::F32) else { return };
    let [x, weight, dy] = [p.input_len(), p.weight_len(), p.output_len()].map(|len| board.ternary(len));
    let (y, dx) = (board.activations_out(p.output_len()), board.activations_out(p.input_len()));
    let forward = fprop(Precision::F32, p, Tile::Wide, [x.at, weight.at], FpropEpilogue::Plain, y.at);
    let plain = DgradEpilogue::Plain { addend: None };
    let backward = dgrad(Precision::F32, p, Tile::Wide, [dy.at, weight.at], plain, dx.at);
    for (launch, out, channels) in [(&forward[0], y, p.k), (&backward[0], dx, p.c)] {
        for at in corners(launch.grid[0] as usize) {
            let what = format!("{} {p:?}, block {at}", launch.kernel);
            board.launch(&what, launch, &[[at as u32, 0, 0]]);
            let flat = at * DIRECT_THREADS..out.len.min((at + 1) * DIRECT_THREADS);
            for (row, columns) in rows_of(flat, channels) {
                let sums = if channels == p.k && out.at == y.at {
                    fprop_sums(&board, p, [x, weight], &[row], columns.clone())
                } else {
                    let pixel = [row / p.w / p.h, row / p.w % p.h, row % p.w];
                    dgrad_sums(&board, p, [dy, weight], &[pixel], columns.clone())
                };
                let sums: Vec<f32> = sums.iter().map(|&sum| sum as f32).collect();
                board.take(&what, out, row * channels + columns.start, &sums, 0.0);
            }
        }
        board.is_untouched(launch.kernel, out);
    }
}

/// The plan with the shortest splits among the candidates for a tile.
fn wgrad_plan(p: &Problem, precision: Precision, tile: WgradTile) -> Option<WgradPlan> {
    let plans = WgradPlan::candidates(precision, p, PROCESSORS).into_iter();
    plans.filter(|plan| plan.tile == tile).max_by_key(|plan| plan.splits)
}

#[test]
fn fprop_is_exact_at_resnet_50s_shapes() {
    resnet50().iter().for_each(check_fprop);
}

#[test]
fn dgrad_is_exact_at_resnet_50s_shapes() {
    resnet50().iter().for_each(check_dgrad);
}

#[test]
fn wgrad_is_exact_at_resnet_50s_shapes() {
    for p in resnet50() {
        let plans: Vec<WgradPlan> =
            WgradTile::ALL.into_iter().filter_map(|tile| wgrad_plan(&p, Precision::Bf16, tile)).collect();
        assert_eq!(plans.len(), WgradTile::ALL.len());
        plans.into_iter().for_each(|plan| check_wgrad(&p, Precision::Bf16, plan));
    }
}

#[test]
fn the_kernels_in_f32_are_exact_at_resnet_50s_shapes() {
    for p in resnet50() {
        check_direct(&p);
        let plans = WgradTile::ALL.into_iter().filter_map(|tile| wgrad_plan(&p, Precision::F32, tile));
        plans.for_each(|plan| check_wgrad(&p, Precision::F32, plan));
    }
}

#[test]
fn fprop_and_dgrad_are_exact_at_the_largest_batches() {
    for p in vast_problems() {
        check_fprop(&p);
        check_dgrad(&p);
        check_direct(&p);
    }
}

/// Uses more splits than any plan has, so that each is short.
#[test]
fn wgrad_is_exact_at_the_largest_batches() {
    for (problem, splits) in
        [(vast(57, [8192, 64], [1, 1]), 2048), (vast(113, [64, 8192], [1, 2]), 2048), (vast(57, [8, 8], [3, 1]), 65535)]
    {
        for tile in WgradTile::ALL {
            check_wgrad(&problem, Precision::Bf16, WgradPlan { tile, splits });
        }
        check_wgrad(&problem, Precision::F32, WgradPlan { tile: WgradTile::Wide, splits });
    }
}

/// Every tile that tuning may choose is run above.
#[test]
fn every_tile_that_may_be_chosen_is_tested() {
    let problem = resnet50()[1];
    for direction in [Direction::Fprop, Direction::Dgrad] {
        let tunable = Tunable { direction, problem, suits_cudnn: false };
        for choice in tunable.candidates(Precision::Bf16, PROCESSORS) {
            assert!(matches!(choice, Choice::Tile(tile) if Tile::ALL.contains(&tile)), "{choice}");
        }
    }
}
