//! One foreground cell of the detection loss, in f64: its decoded box against its target, with gradients.

use super::{BINS, DISTRIBUTION_GAIN, GIOU_GAIN, Inputs, SIDES};

/// The losses of a foreground cell, with gains and score applied, but not yet divided by Σ w.
pub(super) struct CellLosses {
    /// IoU of the decoded box and the target: the quality that the class score should predict.
    pub iou: f64,
    pub giou: f64,
    pub distribution: f64,
    /// The cell's weight.
    pub score: f64,
}

/// The weight of a cell: the largest score of the logits that count.
pub(super) fn best_score(class_logits: impl Iterator<Item = f32>) -> f64 {
    class_logits.map(|x| sigmoid(f64::from(x))).fold(0.0, f64::max)
}

/// The losses of `cell` with weight `score`, and their gradient with respect to its box logits `[4·BINS]`.
pub(super) fn losses(inputs: &Inputs, cell: usize, score: f64, dbox: &mut [f32]) -> CellLosses {
    let anchor = cell % inputs.strides.len();
    let stride = f64::from(inputs.strides[anchor]);
    let centre = [0, 1].map(|i| f64::from(inputs.centres[anchor * 2 + i]));
    let target: [f64; 4] = std::array::from_fn(|i| f64::from(inputs.target[cell * 4 + i]));

    let logits = &inputs.box_logits[cell * SIDES..(cell + 1) * SIDES];
    let sides: [Distribution; 4] = std::array::from_fn(|side| Distribution::new(&logits[side * BINS..][..BINS]));
    // Left and top lie before the centre, right and bottom after it.
    let decoded: [f64; 4] = std::array::from_fn(|i| centre[i % 2] + sign(i) * sides[i].mean * stride);
    let overlap = Overlap::new(&decoded, &target);

    let mut distribution = 0.0;
    for (i, (side, dbox)) in sides.iter().zip(dbox.chunks_exact_mut(BINS)).enumerate() {
        let distance = (sign(i) * (target[i] - centre[i % 2]) / stride).clamp(0.0, (BINS - 1) as f64 - 1e-3);
        let (below, above) = (distance.floor(), distance - distance.floor());
        let wanted = |bin: usize| match bin as f64 - below {
            0.0 => 1.0 - above,
            1.0 => above,
            _ => 0.0,
        };
        let bin = below as usize;
        distribution -= (1.0 - above) * side.log(bin) + above * side.log(bin + 1);
        let slope = -GIOU_GAIN * overlap.slope[i] * sign(i) * stride;
        for (bin, (d, p)) in dbox.iter_mut().zip(&side.p).enumerate() {
            let of_giou = slope * p * (bin as f64 - side.mean);
            let of_distribution = DISTRIBUTION_GAIN / 4.0 * (p - wanted(bin));
            *d = (score * (of_giou + of_distribution)) as f32;
        }
    }
    CellLosses {
        iou: overlap.iou,
        giou: score * GIOU_GAIN * (1.0 - overlap.giou),
        distribution: score * DISTRIBUTION_GAIN * distribution / 4.0,
        score,
    }
}

/// Quality focal loss of one logit for the target `quality`, β = 2, and its derivative. The loss is cross-entropy times
/// |quality − σ|²; both factors are differentiated.
pub(super) fn quality_focal(x: f64, quality: f64) -> (f64, f64) {
    let score = sigmoid(x);
    let entropy = x.max(0.0) + (-x.abs()).exp().ln_1p() - x * quality;
    let apart = score - quality;
    let slope = apart * apart * apart + 2.0 * entropy * apart * score * sigmoid(-x);
    (entropy * apart * apart, slope)
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// −1 for left and top, 1 for right and bottom.
fn sign(side: usize) -> f64 {
    if side < 2 { -1.0 } else { 1.0 }
}

/// One side's softmax over the bins.
struct Distribution {
    logits: [f64; BINS],
    p: [f64; BINS],
    /// ln Σ exp(logits).
    log_sum: f64,
    /// The expected bin.
    mean: f64,
}

impl Distribution {
    fn new(logits: &[f32]) -> Distribution {
        let logits: [f64; BINS] = std::array::from_fn(|bin| f64::from(logits[bin]));
        let maximum = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let powers = logits.map(|x| (x - maximum).exp());
        let sum: f64 = powers.iter().sum();
        let p = powers.map(|power| power / sum);
        let mean = p.iter().enumerate().map(|(bin, p)| bin as f64 * p).sum();
        Distribution { logits, p, log_sum: maximum + sum.ln(), mean }
    }

    fn log(&self, bin: usize) -> f64 {
        self.logits[bin] - self.log_sum
    }
}

/// IoU and GIoU of two boxes, and the gradient of GIoU with respect to the first box's x1, y1, x2, y2.
struct Overlap {
    iou: f64,
    giou: f64,
    slope: [f64; 4],
}

impl Overlap {
    fn new(a: &[f64; 4], b: &[f64; 4]) -> Overlap {
        /// Keeps the ratios of empty boxes finite.
        const SMALLEST: f64 = 1e-9;
        let size = |b: &[f64; 4]| [b[2] - b[0], b[3] - b[1]];
        let inner = size(&[a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])]).map(|side| side.max(0.0));
        let outer = size(&[a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])]);
        let own = size(a);
        let area = |[w, h]: [f64; 2]| w * h;
        let intersection = area(inner);
        let union = (area(own) + area(size(b)) - intersection).max(SMALLEST);
        let hull = area(outer).max(SMALLEST);
        let slope = std::array::from_fn(|i| {
            // The derivative of each area by this coordinate: its sign times the length of the other axis.
            let across = 1 - i % 2;
            // 1 if a's coordinate is larger than b's, 0 if smaller, ½ if they are equal.
            let larger = 0.5 * (1.0 + (a[i] - b[i]).partial_cmp(&0.0).map_or(f64::NAN, |order| order as i8 as f64));
            let (bounds_inner, bounds_outer) = if i < 2 { (larger, 1.0 - larger) } else { (1.0 - larger, larger) };
            let overlaps = if inner[i % 2] > 0.0 { bounds_inner } else { 0.0 };
            let d_inner = sign(i) * overlaps * inner[across];
            let d_union = sign(i) * own[across] - d_inner;
            let d_hull = sign(i) * bounds_outer * outer[across];
            d_inner / union + d_union * (1.0 / hull - intersection / (union * union)) - d_hull * union / (hull * hull)
        });
        let iou = intersection / union;
        Overlap { iou, giou: iou - (hull - union) / hull, slope }
    }
}
