//! The gradient with respect to the weight by F(3×3, 4×4) or F(3×3, 3×3). Tiles of dy act as the kernel that filters the tiles of
//! x, and the sum over tiles is the reduction of 36 or 25 matrix products `[K, tiles] × [tiles, C]`. A task holds all products of
//! some columns of dw, so that they never leave its cache before they are reduced to 9.

use super::super::wgrad::aligned;
use super::tiles::{Corner, Planes, Tiling, batch_tiles};
use super::transform::{FromPlanes, ToPlanes, Transforms};
use super::{BATCH_LEN, BATCH_THREADS, KERNEL, Side, TASK_TILES, transform_source};
use crate::device::cpu::gemm::{A_AHEAD, Finish, Kernels, OuterTile};
use crate::device::cpu::{Cpu, SharedMut};
use crate::ops::conv2d::Problem;
use std::cell::RefCell;
use std::ops::Range;

/// Register tiles of rows of dw per task; values read from x are reused for all of them.
const TASK_ROW_TILES: usize = 3;

/// The sizes depend only on the shape, because they decide the order of sums.
struct Sizes {
    tiling: Tiling,
    batch: usize,
    x: Planes,
    dy: Planes,
}

impl Sizes {
    fn of(side: Side, problem: &Problem) -> Sizes {
        let Problem { n, h, w, c, k, .. } = *problem;
        let tiling = Tiling::of(side, [n, h, w]);
        let batch = batch_tiles(tiling.tiles(), side.planes() * (c + k), BATCH_LEN * BATCH_THREADS);
        Sizes { tiling, batch, x: Planes::of(side, batch, c), dy: Planes::of(side, batch, k) }
    }
}

pub(in super::super) fn wgrad_workspace(side: Side, problem: &Problem) -> usize {
    let sizes = Sizes::of(side, problem);
    sizes.x.len() + sizes.dy.len() + problem.c.max(problem.k)
}

/// See [`super::super::wgrad`].
pub(in super::super) fn wgrad(
    cpu: &Cpu,
    side: Side,
    problem: &Problem,
    dy: &[f32],
    x: &[f32],
    dw: &mut [f32],
    workspace: &mut [f32],
) {
    let sizes = Sizes::of(side, problem);
    let (transformed_x, rest) = workspace.split_at_mut(sizes.x.len());
    let (transformed_dy, rest) = rest.split_at_mut(sizes.dy.len());
    let zeros = &mut rest[..problem.c.max(problem.k)];
    zeros.fill(0.0);
    let kernels = Kernels::of(cpu.isa());
    let task = Task {
        problem,
        kernels,
        transforms: Transforms::of(cpu.isa(), side),
        sizes: &sizes,
        x: SharedMut::new(transformed_x),
        dy: SharedMut::new(transformed_dy),
        dw: SharedMut::new(dw),
    };
    let row_tiles = kernels.tiles(problem.k);
    let panels = problem.c.div_ceil(kernels.columns);
    // With more threads the tasks are smaller; the sum of every element stays the same.
    let groups = row_tiles.div_ceil(TASK_ROW_TILES).max(cpu.threads().div_ceil(panels)).min(row_tiles);
    for start in (0..sizes.tiling.tiles()).step_by(sizes.batch) {
        let tiles = start..sizes.tiling.tiles().min(start + sizes.batch);
        transform_source(cpu, &sizes.tiling, x, &zeros[..problem.c], tiles.clone(), sizes.x, &task.x);
        task.transform_dy(cpu, dy, zeros, tiles.clone());
        cpu.parallel(
            groups * panels,
            #[inline(always)]
            |index| {
                let (group, panel) = (index / panels, index % panels);
                task.run(group * row_tiles / groups..(group + 1) * row_tiles / groups, panel, tiles.len());
            },
        );
    }
}

/// Tables and products of one task. Each thread keeps one and reuses it.
#[derive(Default)]
struct Scratch {
    dy: Vec<*const f32>,
    x: Vec<*const f32>,
    products: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

struct Task<'a> {
    problem: &'a Problem,
    kernels: &'static Kernels,
    transforms: &'static Transforms,
    sizes: &'a Sizes,
    x: SharedMut<'a, f32>,
    dy: SharedMut<'a, f32>,
    dw: SharedMut<'a, f32>,
}

impl Task<'_> {
    /// Computes G g Gᵀ of every tile's pixels of dy.
    fn transform_dy(&self, cpu: &Cpu, dy: &[f32], zeros: &[f32], tiles: Range<usize>) {
        let (tiling, k) = (&self.sizes.tiling, self.problem.k);
        let side = tiling.side.outputs();
        cpu.parallel(
            tiles.len().div_ceil(TASK_TILES),
            #[inline(always)]
            |task| {
                let first = tiles.start + task * TASK_TILES;
                let pixels = |tile: usize| {
                    let Corner { image, y, x } = tiling.corner(tile);
                    let place = [image as isize, y as isize, x as isize];
                    let at = |start: usize| dy[start..start + k].as_ptr();
                    tiling.pixels(place, side, k, zeros.as_ptr(), at)
                };
                let mut from = pixels(first);
                for tile in first..tiles.end.min(first + TASK_TILES) {
                    let next = pixels((tiles.end - 1).min(tile + 1));
                    let job = ToPlanes {
                        from: &from[..side * side],
                        next: &next[..side * side],
                        to: self.sizes.dy.row(&self.dy, tile - tiles.start),
                        plane: self.sizes.dy.plane,
                        len: k,
                    };
                    // SAFETY: the transforms are those of the CPU's instruction set; every pixel, and the zeros, hold all
                    // channels, and a tile's rows of the planes belong to this task.
                    unsafe { (self.transforms.gradient)(&job) };
                    from = next;
                }
            },
        );
    }

    /// Computes all products of some rows and one panel of columns of dw, and transforms them back.
    fn run(&self, row_tiles: Range<usize>, panel: usize, tiles: usize) {
        let (kernels, k, planes) = (self.kernels, self.problem.k, self.sizes.x.count);
        let width = kernels.columns;
        let columns = panel * width..self.problem.c.min((panel + 1) * width);
        let rows = kernels.tile(k, row_tiles.start).start..kernels.tile(k, row_tiles.end - 1).end;
        SCRATCH.with_borrow_mut(|Scratch { dy: a, x: b, products }| {
            let products = aligned(products, planes * rows.len() * width);
            products.fill(0.0);
            let products = SharedMut::new(products);
            for point in 0..planes {
                let row = |planes: &Planes, values: &SharedMut<f32>, tile: usize, len: usize| {
                    let start = point * planes.plane + tile * planes.pitch;
                    values.pointer(start..start + len).cast_const()
                };
                a.clear();
                a.extend((0..tiles).map(|tile| row(&self.sizes.dy, &self.dy, tile, k)));
                a.extend([std::ptr::null(); A_AHEAD]);
                b.clear();
                b.extend((0..tiles).map(|tile| row(&self.sizes.x, &self.x, tile, self.problem.c)));
                for index in row_tiles.clone() {
                    let channels = kernels.tile(k, index);
                    let start = (point * rows.len() + channels.start - rows.start) * width;
                    let tile = OuterTile {
                        a,
                        a_offset: channels.start,
                        b,
                        b_offset: columns.start,
                        b_next: columns.start + self.sizes.x.plane,
                        output: products.pointer(start..start + channels.len() * width),
                        output_stride: width,
                        columns: columns.len(),
                    };
                    // SAFETY: the kernels are those of the CPU's instruction set; rows of dy hold all its channels; rows of x
                    // are followed by a line or another row, so that a whole panel is readable; the products are this task's.
                    unsafe { kernels.outer(channels.len(), &tile) };
                }
            }
            self.write(rows.clone(), columns.clone(), &products);
        });
    }

    /// Adds Aᵀ m A of the products to dw.
    fn write(&self, rows: Range<usize>, columns: Range<usize>, products: &SharedMut<f32>) {
        let (width, c, planes) = (self.kernels.columns, self.problem.c, self.sizes.x.count);
        let origin = self.dw.pointer(0..0).cast_const();
        let finish = Finish { addend: origin, ..Finish::NOTHING };
        for k in rows.clone() {
            let plane = rows.len() * width;
            let start = (k - rows.start) * width;
            let from = products.pointer(start..start + (planes - 1) * plane + width).cast_const();
            let to: [*mut f32; KERNEL * KERNEL] = std::array::from_fn(|tap| {
                let start = (k * KERNEL * KERNEL + tap) * c;
                self.dw.pointer(start + columns.start..start + columns.end)
            });
            let next = from.wrapping_add(width);
            let job = FromPlanes { from, plane, next, to: &to, len: columns.len(), finish, origin };
            // SAFETY: the transforms are those of the CPU's instruction set; these rows and columns of dw are this task's.
            unsafe { (self.transforms.weight_gradient)(&job) };
        }
    }
}
