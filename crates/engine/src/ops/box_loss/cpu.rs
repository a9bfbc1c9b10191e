//! The detection loss and its gradients in one pass on the CPU. Background cells, which are nearly all of them, go through a
//! vectorised loop; the few foreground cells are computed one by one in f64 (`foreground`).

use super::{BINS, partial_inputs};
use crate::device::cpu::{Cpu, SharedMut};
use crate::ir::{BoxLoss, Level};
use crate::ops::cpu::{CpuNode, CpuOp, Operands};
use crate::ops::softmax::cpu::exp_nonpositive;

mod foreground;

/// The number of parts that the cells are split into, whatever the number of threads.
const PARTS: usize = 64;
/// The number of class logits whose losses are stored before they are summed.
const TILE: usize = 256;
const LANES: usize = 16;
/// The number of box logits of a cell: left, top, right, bottom.
const SIDES: usize = 4 * BINS;

const GIOU_GAIN: f64 = 2.0;
const DISTRIBUTION_GAIN: f64 = 0.25;

/// The inputs of the loss, for N images of A cells and C classes.
pub struct Inputs<'a> {
    /// `[N, A, C]`.
    pub class_logits: &'a [f32],
    /// `[N, A, 4·BINS]`.
    pub box_logits: &'a [f32],
    /// `[N, A]`: ≥ 0 foreground, −1 background, −2 ignored.
    pub class: &'a [i32],
    /// `[N, A, 4]` xyxy in pixels; read only for foreground cells.
    pub target: &'a [f32],
    /// `[A, 2]` x, y in pixels.
    pub centres: &'a [f32],
    /// `[A]` in pixels.
    pub strides: &'a [f32],
    /// The number of foreground cells of the whole step; the divisor is at least 1.
    pub num_foreground: f32,
    /// The share of the step that these images are: 1/M for one of M micro-batches, because Σ w covers only these images.
    pub share: f32,
    /// The regions of images that are annotated for some classes only.
    pub partial: Option<Partial<'a>>,
}

/// The regions in which some classes were not annotated.
#[derive(Clone, Copy)]
pub struct Partial<'a> {
    /// `[N, A]`: a bit for each region that the cell lies in.
    pub regions: &'a [i32],
    /// `[N, C]`: the bits of the regions in which the class was not annotated.
    pub left_out: &'a [i32],
}

/// [`Partial`] for a run of cells of one image in the same regions.
#[derive(Clone, Copy)]
struct LeftOut<'a> {
    regions: i32,
    /// `[C]`.
    of_class: &'a [i32],
}

impl LeftOut<'_> {
    /// The same for some of the classes.
    fn of(self, classes: std::ops::Range<usize>) -> Self {
        LeftOut { of_class: &self.of_class[classes], ..self }
    }

    fn has(&self, class: usize) -> bool {
        self.of_class[class] & self.regions != 0
    }
}

/// The outputs of the loss: loss `[1]`, the gradients of both logits, and parts `[3]`: quality focal, GIoU, distribution
/// focal, with their gains. The parts sum to the loss.
pub struct Outputs<'a> {
    pub loss: &'a mut [f32],
    pub dclass: &'a mut [f32],
    pub dbox: &'a mut [f32],
    pub parts: &'a mut [f32],
}

/// Sums over some cells.
#[derive(Clone, Copy, Default)]
struct Sums {
    quality: f64,
    giou: f64,
    distribution: f64,
    /// Σ w, where w is the best class score of a foreground cell.
    score: f64,
}

/// Quality focal loss ÷ foreground cells + (2·(1 − GIoU) + ¼·distribution focal)·w ÷ Σ w · share, both denominators at least 1.
///
/// Source: Li et al. 2020, "Generalized Focal Loss", eqs. 4 and 6; Rezatofighi et al. 2019 for GIoU.
pub fn box_loss(cpu: &Cpu, inputs: &Inputs, outputs: Outputs) {
    let cells = inputs.class.len();
    let c = inputs.class_logits.len() / cells.max(1);
    let part = cells.div_ceil(PARTS);
    let mut sums = [Sums::default(); PARTS];
    let dclass = SharedMut::new(outputs.dclass);
    let dbox = SharedMut::new(&mut *outputs.dbox);
    cpu.parallel_chunks(
        &mut sums,
        1,
        #[inline(always)]
        |index, sums| {
            let range = (index * part).min(cells)..((index + 1) * part).min(cells);
            // SAFETY: parts do not overlap, and each is visited once.
            let (dclass, dbox) = unsafe {
                (dclass.range(range.start * c..range.end * c), dbox.range(range.start * SIDES..range.end * SIDES))
            };
            sums[0] = losses_of(inputs, c, range, dclass, dbox);
        },
    );
    let total = sums.iter().fold(Sums::default(), |a, b| Sums {
        quality: a.quality + b.quality,
        giou: a.giou + b.giou,
        distribution: a.distribution + b.distribution,
        score: a.score + b.score,
    });
    let scale = f64::from(inputs.share) / total.score.max(1.0);
    scale_foreground(cpu, inputs.class, scale as f32, outputs.dbox);
    let parts = [total.quality / denominator(inputs), total.giou * scale, total.distribution * scale];
    outputs.loss[0] = parts.iter().sum::<f64>() as f32;
    for (out, part) in outputs.parts.iter_mut().zip(parts) {
        *out = part as f32;
    }
}

fn denominator(inputs: &Inputs) -> f64 {
    f64::from(inputs.num_foreground).max(1.0)
}

/// The losses of the cells of `range`. Writes dclass completely; dbox is not yet divided by Σ w.
#[inline(always)]
fn losses_of(inputs: &Inputs, c: usize, range: std::ops::Range<usize>, dclass: &mut [f32], dbox: &mut [f32]) -> Sums {
    let scale = 1.0 / denominator(inputs);
    let mut sums = Sums::default();
    dbox.fill(0.0);
    let mut cell = range.start;
    while cell < range.end {
        // Neighbouring cells that are all background, or all ignored, form one run.
        let kind = inputs.class[cell];
        let alike = inputs.class[cell..range.end].iter().take_while(|&&other| other == kind && kind < 0).count();
        let (left_out, alike) = left_out(inputs, c, cell, alike.max(1));
        let run = cell..cell + alike;
        let local = run.start - range.start..run.end - range.start;
        let logits = &inputs.class_logits[run.start * c..run.end * c];
        let dclass = &mut dclass[local.start * c..local.end * c];
        match usize::try_from(kind) {
            Ok(class) => {
                for other in [0..class, class + 1..c] {
                    let left_out = left_out.map(|left_out| left_out.of(other.clone()));
                    sums.quality += background_of(&logits[other.clone()], left_out, scale as f32, &mut dclass[other]);
                }
                let counted = |k: &usize| *k == class || left_out.is_none_or(|left_out| !left_out.has(*k));
                let score = foreground::best_score((0..c).filter(counted).map(|k| logits[k]));
                let found = foreground::losses(inputs, cell, score, &mut dbox[local.start * SIDES..][..SIDES]);
                let (quality, slope) = foreground::quality_focal(f64::from(logits[class]), found.iou);
                dclass[class] = (slope * scale) as f32;
                sums.quality += quality;
                sums.giou += found.giou;
                sums.distribution += found.distribution;
                sums.score += found.score;
            }
            Err(_) if kind == -1 => sums.quality += background_of(logits, left_out, scale as f32, dclass),
            Err(_) => dclass.fill(0.0),
        }
        cell = run.end;
    }
    sums
}

/// The classes left out in `cell`, if any, and how many of the `alike` cells from it on lie in the same regions of the same
/// image.
#[inline(always)]
fn left_out<'a>(inputs: &Inputs<'a>, c: usize, cell: usize, alike: usize) -> (Option<LeftOut<'a>>, usize) {
    let Some(Partial { regions, left_out }) = inputs.partial else {
        return (None, alike);
    };
    let anchors = inputs.strides.len();
    let (own, image) = (regions[cell], cell / anchors);
    // Regions belong to one image.
    let most = if own == 0 { alike } else { alike.min((image + 1) * anchors - cell) };
    let alike = regions[cell..cell + most].iter().take_while(|&&other| other == own).count();
    ((own != 0).then(|| LeftOut { regions: own, of_class: &left_out[image * c..(image + 1) * c] }), alike)
}

/// Does what [`background`] does for the logits of some cells, except that classes left out have no loss and gradient 0.
#[inline(always)]
fn background_of(logits: &[f32], left_out: Option<LeftOut>, scale: f32, dlogits: &mut [f32]) -> f64 {
    let Some(LeftOut { regions, of_class }) = left_out else {
        return background(logits, scale, dlogits);
    };
    let c = of_class.len().max(1);
    let mut total = 0.0;
    for (logits, dlogits) in logits.chunks(c).zip(dlogits.chunks_mut(c)) {
        let tiles = logits.chunks(TILE).zip(dlogits.chunks_mut(TILE)).zip(of_class.chunks(TILE));
        for ((logits, dlogits), of_class) in tiles {
            let mut losses = [0.0f32; TILE];
            for (((x, d), of_class), loss) in logits.iter().zip(dlogits).zip(of_class).zip(&mut losses) {
                let counts = of_class & regions == 0;
                let (value, slope) = background_term(*x, scale);
                (*loss, *d) = if counts { (value, slope) } else { (0.0, 0.0) };
            }
            total += sum(&losses);
        }
    }
    total
}

/// Σ of −ln(1 − σ)·σ² over the logits; writes its derivative times `scale`.
#[inline(always)]
fn background(logits: &[f32], scale: f32, dlogits: &mut [f32]) -> f64 {
    let mut total = 0.0;
    for (logits, dlogits) in logits.chunks(TILE).zip(dlogits.chunks_mut(TILE)) {
        let mut losses = [0.0f32; TILE];
        for ((x, d), loss) in logits.iter().zip(dlogits).zip(&mut losses) {
            (*loss, *d) = background_term(*x, scale);
        }
        total += sum(&losses);
    }
    total
}

#[inline(always)]
fn background_term(x: f32, scale: f32) -> (f32, f32) {
    // softplus(x) = max(x, 0) + ln(1 + t), t = exp(−|x|), and ln(1 + t) = 2·artanh(t/(2 + t)).
    let t = exp_nonpositive(-x.abs());
    let inverse = 1.0 / (1.0 + t);
    // σ and 1 − σ, both to full precision.
    let (score, rest) = if x < 0.0 { (t * inverse, inverse) } else { (inverse, t * inverse) };
    let softplus = if x < 0.0 { 0.0 } else { x } + ln_1p(t);
    let square = score * score;
    (softplus * square, scale * square * (score + 2.0 * softplus * rest))
}

/// Sums the losses. At most `TILE ÷ LANES` losses are added in one f32; the rest is added in f64.
#[inline(always)]
fn sum(losses: &[f32; TILE]) -> f64 {
    let mut sums = [0.0f32; LANES];
    for losses in losses.as_chunks::<LANES>().0 {
        for lane in 0..LANES {
            sums[lane] += losses[lane];
        }
    }
    sums.iter().map(|&sum| f64::from(sum)).sum()
}

/// ln(1 + t) for t in 0–1, accurate to a few units in the last place even if t is tiny.
#[inline(always)]
fn ln_1p(t: f32) -> f32 {
    let s = t / (2.0 + t);
    let q = s * s;
    // The series of artanh; the first omitted term is below 2⁻²⁹ of the first term at s = 1/3.
    let series = 1.0 / 15.0;
    let series = series * q + 1.0 / 13.0;
    let series = series * q + 1.0 / 11.0;
    let series = series * q + 1.0 / 9.0;
    let series = series * q + 1.0 / 7.0;
    let series = series * q + 1.0 / 5.0;
    let series = series * q + 1.0 / 3.0;
    2.0 * (s + s * q * series)
}

fn scale_foreground(cpu: &Cpu, class: &[i32], scale: f32, dbox: &mut [f32]) {
    let cells = class.len().div_ceil(PARTS).max(1);
    cpu.parallel_chunks(
        dbox,
        cells * SIDES,
        #[inline(always)]
        |part, dbox| {
            for (class, dbox) in class[part * cells..].iter().zip(dbox.chunks_exact_mut(SIDES)) {
                if *class >= 0 {
                    dbox.iter_mut().for_each(|d| *d *= scale);
                }
            }
        },
    );
}

impl CpuOp for BoxLoss {
    /// Centres and strides of the cells.
    fn cpu_scratch(&self, _node: &CpuNode) -> usize {
        3 * self.levels.iter().map(|l| l.h * l.w).sum::<usize>()
    }

    fn run(&self, node: &mut Operands) {
        let (centres, strides) = cells(&self.levels, node.scratch());
        let inputs = Inputs {
            class_logits: node.input(0),
            box_logits: node.input(1),
            class: node.input(2),
            target: node.input(3),
            centres,
            strides,
            num_foreground: node.scalars.denominators[self.task],
            share: node.scalars.share(),
            partial: partial_inputs(node.input_count())
                .map(|[regions, left_out]| Partial { regions: node.input(regions), left_out: node.input(left_out) }),
        };
        let outputs =
            Outputs { loss: node.output(0), dclass: node.output(1), dbox: node.output(2), parts: node.output(3) };
        box_loss(node.cpu, &inputs, outputs);
    }
}

/// Centres `[A, 2]` and strides `[A]` of the cells of `levels`, in pixels, written into `scratch`.
fn cells<'a>(levels: &[Level], scratch: &'a mut [f32]) -> (&'a [f32], &'a [f32]) {
    let total: usize = levels.iter().map(|l| l.h * l.w).sum();
    let (centres, rest) = scratch.split_at_mut(2 * total);
    let strides = &mut rest[..total];
    let mut cell = 0;
    for level in levels {
        for row in 0..level.h {
            for column in 0..level.w {
                let stride = level.stride as f32;
                centres[2 * cell] = (column as f32 + 0.5) * stride;
                centres[2 * cell + 1] = (row as f32 + 0.5) * stride;
                strides[cell] = stride;
                cell += 1;
            }
        }
    }
    (centres, strides)
}
