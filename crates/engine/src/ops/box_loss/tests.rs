//! The detection loss against plain f64 and its gradients against finite differences in f64, with the values that carry no
//! gradient held fixed; and changes of the inputs that must not change the loss.

use super::BINS;
use super::cpu::*;
use crate::device::cpu::Cpu;
use crate::ops::testing::{Expected, Random, check, golden, narrow, numbers, poisoned, wide};

const SIDES: usize = 4 * BINS;

/// N images with a pyramid of two levels: a 3×3 map of stride 8 and one cell of stride 32.
#[derive(Clone)]
pub(super) struct Data {
    pub c: usize,
    pub class_logits: Vec<f32>,
    pub box_logits: Vec<f32>,
    pub class: Vec<i32>,
    pub target: Vec<f32>,
    pub centres: Vec<f32>,
    pub strides: Vec<f32>,
    pub num_foreground: f32,
    pub share: f32,
    /// The inputs `regions` and `left_out`.
    pub partial: Option<[Vec<i32>; 2]>,
}

const CELLS: usize = 10;

impl Data {
    pub fn new(n: usize, c: usize, spread: f32) -> Data {
        let mut random = Random::new((n * 100 + c) as u64);
        let mut centres: Vec<f32> =
            (0..9).flat_map(|i| [(i % 3) as f32 * 8.0 + 4.0, (i / 3) as f32 * 8.0 + 4.0]).collect();
        centres.extend([12.0, 12.0]);
        let mut class = || match random.below(8) {
            0 => -2,
            1..=4 => -1,
            _ => random.below(c) as i32,
        };
        let class: Vec<i32> = (0..n * CELLS).map(|_| class()).collect();
        let target = (0..n * CELLS).flat_map(|cell| {
            let side = |from: f32, random: &mut Random| random.uniform(from, from + 30.0);
            let (x, y) = (centres[cell % CELLS * 2], centres[cell % CELLS * 2 + 1]);
            let (left, top) = (x - side(0.5, &mut random), y - side(0.5, &mut random));
            [left, top, x + side(0.5, &mut random), y + side(0.5, &mut random)]
        });
        let target: Vec<f32> = target.enumerate().map(|(i, v)| if class[i / 4] < 0 { f32::NAN } else { v }).collect();
        let num_foreground = class.iter().filter(|&&class| class >= 0).count() as f32;
        Data {
            c,
            class_logits: random.vector(n * CELLS * c, -spread, spread),
            box_logits: random.vector(n * CELLS * SIDES, -spread, spread),
            class,
            target,
            centres,
            strides: [vec![8.0; 9], vec![32.0]].concat(),
            num_foreground,
            share: 1.0,
            partial: None,
        }
    }

    /// Like [`Data::new`], with two regions in every image but the second, and random classes that each region leaves out.
    pub fn partial(n: usize, c: usize, spread: f32) -> Data {
        let mut random = Random::new((n * 100 + c + 1) as u64);
        let regions = (0..n * CELLS).map(|cell| if cell / CELLS == 1 { 0 } else { random.below(4) as i32 });
        let regions = regions.collect();
        let left_out = (0..n * c).map(|_| random.below(4) as i32).collect();
        Data { partial: Some([regions, left_out]), ..Data::new(n, c, spread) }
    }

    /// Whether class `k` is left out of the loss in `cell`; the cell's own class never is.
    pub fn is_left_out(&self, cell: usize, k: usize) -> bool {
        let meet = |[regions, left_out]: &[Vec<i32>; 2]| regions[cell] & left_out[cell / CELLS * self.c + k] != 0;
        self.class[cell] != k as i32 && self.partial.as_ref().is_some_and(meet)
    }

    pub fn run(&self, cpu: &Cpu) -> Vec<Vec<f32>> {
        let inputs = Inputs {
            class_logits: &self.class_logits,
            box_logits: &self.box_logits,
            class: &self.class,
            target: &self.target,
            centres: &self.centres,
            strides: &self.strides,
            num_foreground: self.num_foreground,
            share: self.share,
            partial: self.partial.as_ref().map(|[regions, left_out]| Partial { regions, left_out }),
        };
        let (mut loss, mut parts) = (poisoned(1), poisoned(3));
        let (mut dclass, mut dbox) = (poisoned(self.class_logits.len()), poisoned(self.box_logits.len()));
        let outputs = Outputs { loss: &mut loss, dclass: &mut dclass, dbox: &mut dbox, parts: &mut parts };
        box_loss(cpu, &inputs, outputs);
        vec![loss, parts, dclass, dbox]
    }

    /// The same images in reverse order.
    fn reversed(&self) -> Data {
        let turn = |v: &[f32]| v.chunks_exact(v.len() / self.images()).rev().flatten().copied().collect();
        Data {
            class_logits: turn(&self.class_logits),
            box_logits: turn(&self.box_logits),
            target: turn(&self.target),
            class: self.class.chunks_exact(CELLS).rev().flatten().copied().collect(),
            partial: self.partial.as_ref().map(|partial| {
                let turn = |v: &Vec<i32>| v.chunks_exact(v.len() / self.images()).rev().flatten().copied().collect();
                partial.each_ref().map(turn)
            }),
            ..self.clone()
        }
    }

    pub fn images(&self) -> usize {
        self.class.len() / CELLS
    }

    /// Quality focal, GIoU and distribution focal, with gains, and the IoU and best score of each cell. If `held` is given, it
    /// replaces these two, because they carry no gradient.
    pub fn plain(
        &self,
        class_logits: &[f64],
        box_logits: &[f64],
        held: Option<&[[f64; 2]]>,
    ) -> ([f64; 3], Vec<[f64; 2]>) {
        let (mut parts, mut found, mut weights) = ([0.0; 3], vec![[0.0; 2]; self.class.len()], 0.0);
        for (cell, &class) in self.class.iter().enumerate().filter(|(_, class)| **class != -2) {
            let row = &class_logits[cell * self.c..(cell + 1) * self.c];
            if class >= 0 {
                let (iou, giou, distribution) = self.plain_box(cell, &box_logits[cell * SIDES..(cell + 1) * SIDES]);
                let counted = row.iter().enumerate().filter(|(k, _)| !self.is_left_out(cell, *k));
                let best = counted.map(|(_, x)| *x).fold(f64::NEG_INFINITY, f64::max);
                found[cell] = held.map_or([iou, 1.0 / (1.0 + (-best).exp())], |held| held[cell]);
                let weight = found[cell][1];
                weights += weight;
                parts[1] += 2.0 * weight * (1.0 - giou);
                parts[2] += 0.25 * weight * distribution;
            }
            for (k, x) in row.iter().enumerate().filter(|(k, _)| !self.is_left_out(cell, *k)) {
                let quality = if class == k as i32 { found[cell][0] } else { 0.0 };
                let entropy = x.max(0.0) + (-x.abs()).exp().ln_1p() - x * quality;
                parts[0] += entropy * (quality - 1.0 / (1.0 + (-x).exp())).powi(2);
            }
        }
        parts[0] /= f64::from(self.num_foreground).max(1.0);
        parts[1] *= f64::from(self.share) / weights.max(1.0);
        parts[2] *= f64::from(self.share) / weights.max(1.0);
        (parts, found)
    }

    /// IoU, GIoU, and the distribution focal loss averaged over the sides, of one cell.
    fn plain_box(&self, cell: usize, logits: &[f64]) -> (f64, f64, f64) {
        let (x, y) = (f64::from(self.centres[cell % CELLS * 2]), f64::from(self.centres[cell % CELLS * 2 + 1]));
        let stride = f64::from(self.strides[cell % CELLS]);
        let b = wide(&self.target[cell * 4..cell * 4 + 4]);
        let wanted = [x - b[0], y - b[1], b[2] - x, b[3] - y];
        let (mut distance, mut distribution) = ([0.0; 4], 0.0);
        for side in 0..4 {
            let logits = &logits[side * BINS..(side + 1) * BINS];
            let maximum = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = logits.iter().map(|x| (x - maximum).exp()).sum();
            distance[side] =
                stride * (0..BINS).map(|bin| bin as f64 * (logits[bin] - maximum).exp() / sum).sum::<f64>();
            let at = (wanted[side] / stride).clamp(0.0, 16.0 - 1e-3);
            for bin in [at.floor(), at.floor() + 1.0] {
                let share = 1.0 - (bin - at).abs();
                distribution -= share * (logits[bin as usize] - maximum - sum.ln()) / 4.0;
            }
        }
        let a = [x - distance[0], y - distance[1], x + distance[2], y + distance[3]];
        let area = |b: &[f64]| (b[2] - b[0]).max(0.0) * (b[3] - b[1]).max(0.0);
        let inner = area(&[a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])]);
        let hull = area(&[a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])]);
        let union = area(&a) + area(&b) - inner;
        (inner / union, inner / union - (hull - union) / hull, distribution)
    }

    /// The gradients of the loss with respect to the class and box logits, by central differences.
    pub fn plain_gradients(&self, held: &[[f64; 2]]) -> [Vec<f64>; 2] {
        let step = 1e-5;
        let mut logits = [wide(&self.class_logits), wide(&self.box_logits)];
        let mut slopes = [vec![], vec![]];
        for which in 0..2 {
            for i in 0..logits[which].len() {
                let old = logits[which][i];
                let value =
                    |logits: &[Vec<f64>; 2]| -> f64 { self.plain(&logits[0], &logits[1], Some(held)).0.iter().sum() };
                logits[which][i] = old + step;
                let above = value(&logits);
                logits[which][i] = old - step;
                let below = value(&logits);
                logits[which][i] = old;
                slopes[which].push((above - below) / (2.0 * step));
            }
        }
        slopes
    }
}

type Make = fn(usize, usize, f32) -> Data;

#[test]
fn loss_and_gradients_match_f64() {
    let sizes = [(1, 1, 1.0), (2, 3, 2.0), (3, 20, 5.0), (1, 33, 3.0), (2, 300, 4.0), (2, 2, 60.0)];
    for ((n, c, spread), make) in sizes.into_iter().flat_map(|size| [(size, Data::new as Make), (size, Data::partial)])
    {
        // The only batch of a step, or one of three.
        let share = if n == 3 { 1.0 / 3.0 } else { 1.0 };
        let data = Data { share, ..make(n, c, spread) };
        let (parts, held) = data.plain(&wide(&data.class_logits), &wide(&data.box_logits), None);
        let [dclass, dbox] = data.plain_gradients(&held);
        let largest = |v: &[f64]| v.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
        let (of_class, of_box) = (largest(&dclass), largest(&dbox));
        // Background terms are positive, each of about twenty operations; the exponential's argument is not rounded. The error of
        // the differences themselves is 1e-16 · loss ÷ step, far below the bound.
        let expected = [
            Expected::near("loss", 24, vec![parts.iter().sum()]),
            Expected::near("parts", 24, parts.to_vec()),
            Expected::within("dclass", 24, of_class, dclass),
            Expected::within("dbox", 24, of_box, dbox),
        ];
        let partial = if data.partial.is_some() { ", partly annotated" } else { "" };
        check(&format!("box loss {n} images, {c} classes, ±{spread}{partial}"), &expected, |cpu| data.run(cpu));
    }
}

#[test]
fn left_out_classes_change_nothing() {
    let cpu = Cpu::new(2).unwrap();
    for c in [3, 300] {
        let mut data = Data::partial(3, c, 2.0);
        let before = data.run(&cpu);
        let left_out: Vec<usize> = (0..data.class_logits.len()).filter(|i| data.is_left_out(i / c, i % c)).collect();
        assert!(!left_out.is_empty() && left_out.iter().all(|&i| before[2][i] == 0.0));
        left_out.iter().for_each(|&i| data.class_logits[i] = f32::NAN);
        assert_eq!(data.run(&cpu), before);
    }
}

/// Regions that leave no class out, and left-out classes in regions that no cell lies in.
#[test]
fn images_annotated_for_all_classes_keep_every_bit() {
    let cpu = Cpu::new(2).unwrap();
    let whole = Data::new(3, 5, 2.0);
    let of = |regions, left_out| Some([vec![regions; 3 * CELLS], vec![left_out; 3 * 5]]);
    for (partial, same) in [(of(0, 3), true), (of(2, 1), true), (of(1, 1), false)] {
        let outputs = Data { partial, ..whole.clone() }.run(&cpu);
        assert_eq!(outputs[2..] == whole.run(&cpu)[2..], same);
    }
}

#[test]
fn every_background_slope_keeps_its_digits() {
    let data = Data { class: vec![-1; CELLS], ..Data::new(1, 400, 40.0) };
    let slope = |x: &f32| {
        let x = f64::from(*x);
        let (score, softplus) = (1.0 / (1.0 + (-x).exp()), x.max(0.0) + (-x.abs()).exp().ln_1p());
        (score.powi(3) + 2.0 * softplus * score * score / (1.0 + x.exp())) / f64::from(data.num_foreground).max(1.0)
    };
    // Six factors of four roundings each, and those of the exponential.
    let dclass = Expected::near("dclass", 32, data.class_logits.iter().map(slope).collect());
    check("background", &[dclass], |cpu| vec![data.run(cpu).remove(2)]);
}

#[test]
fn large_logits_do_not_overflow() {
    for spread in [60.0f32, 200.0] {
        let mut data = Data::new(2, 4, 1.0);
        for (i, x) in data.class_logits.iter_mut().chain(&mut data.box_logits).enumerate() {
            *x = if i % 3 == 0 { spread } else { -spread };
        }
        let (parts, _) = data.plain(&wide(&data.class_logits), &wide(&data.box_logits), None);
        let outputs = data.run(&Cpu::new(1).unwrap());
        assert!(outputs.iter().flatten().all(|v| v.is_finite()));
        assert!((f64::from(outputs[0][0]) / parts.iter().sum::<f64>() - 1.0).abs() < 1e-5);
    }
}

#[test]
fn all_ignored_is_loss_zero() {
    let data = Data { class: vec![-2; 2 * CELLS], num_foreground: 0.0, ..Data::new(2, 3, 1.0) };
    assert!(data.run(&Cpu::new(2).unwrap()).iter().flatten().all(|&v| v == 0.0));
    let empty = Data::new(0, 3, 1.0);
    assert!(empty.run(&Cpu::new(2).unwrap()).iter().flatten().all(|&v| v == 0.0));
}

#[test]
fn ignored_cells_change_nothing() {
    let cpu = Cpu::new(2).unwrap();
    let mut data = Data::new(2, 3, 2.0);
    assert!(data.class.contains(&-2) && data.class.contains(&-1));
    let before = data.run(&cpu);
    for cell in 0..data.class.len() {
        if data.class[cell] == -2 {
            data.class_logits[cell * 3..(cell + 1) * 3].fill(f32::NAN);
        }
        if data.class[cell] < 0 {
            data.box_logits[cell * SIDES..(cell + 1) * SIDES].fill(f32::NAN);
        }
    }
    assert_eq!(data.run(&cpu), before);
}

#[test]
fn images_may_change_places() {
    let cpu = Cpu::new(2).unwrap();
    for data in [Data::new(3, 5, 2.0), Data::partial(3, 5, 2.0)] {
        let (straight, reversed) = (data.run(&cpu), data.reversed().run(&cpu));
        assert!((straight[0][0] / reversed[0][0] - 1.0).abs() < 1e-6);
        for output in [2, 3] {
            let per_image = straight[output].len() / 3;
            let returned = reversed[output].chunks_exact(per_image).rev().flatten();
            assert!(straight[output].iter().zip(returned).all(|(a, b)| (a - b).abs() <= 1e-6 * a.abs()));
        }
    }
}

#[test]
fn a_perfect_box_has_no_giou_loss() {
    // Every side is one stride away, with all its mass on bin 1, so the decoded box equals the target.
    let data = Data {
        c: 1,
        class_logits: vec![0.0],
        box_logits: (0..SIDES).map(|i| if i % BINS == 1 { 200.0 } else { 0.0 }).collect(),
        class: vec![0],
        target: vec![4.0, 4.0, 20.0, 20.0],
        centres: vec![12.0, 12.0],
        strides: vec![8.0],
        num_foreground: 1.0,
        share: 1.0,
        partial: None,
    };
    let outputs = data.run(&Cpu::new(1).unwrap());
    assert_eq!(outputs[1][1..], [0.0, 0.0]);
    // Quality 1 with a score of ½ gives ln 2 · ¼.
    assert!((f64::from(outputs[1][0]) - 2f64.ln() / 4.0).abs() < 1e-7);
}

#[test]
fn nan_reaches_the_loss() {
    let mut data = Data::new(1, 2, 1.0);
    data.class = vec![-1; CELLS];
    data.class_logits[3] = f32::NAN;
    assert!(data.run(&Cpu::new(1).unwrap())[0][0].is_nan());
}

#[test]
fn loss_and_gradients_match_pytorch() {
    let golden = golden("box_loss");
    let (mut centres, mut strides) = (vec![], vec![]);
    for level in golden["levels"].as_array().unwrap() {
        let [stride, h, w] = [0, 1, 2].map(|i| numbers(&level[i])[0] as usize);
        for cell in 0..h * w {
            centres.extend([cell % w, cell / w].map(|at| (at as f32 + 0.5) * stride as f32));
            strides.push(stride as f32);
        }
    }
    for case in golden["cases"].as_array().unwrap() {
        let of = |name: &str| numbers(&case[name]);
        let whole = |name: &str| -> Vec<i32> { of(name).iter().map(|&v| v as i32).collect() };
        let class = whole("class");
        let data = Data {
            c: of("class_logits").len() / class.len(),
            class_logits: narrow(&of("class_logits")),
            box_logits: narrow(&of("box_logits")),
            class,
            target: narrow(&of("target")),
            centres: centres.clone(),
            strides: strides.clone(),
            num_foreground: of("num_foreground")[0] as f32,
            share: 1.0,
            partial: case.get("regions").map(|_| [whole("regions"), whole("left_out")]),
        };
        // The file has the parts without their gains.
        let parts = of("parts").iter().zip(numbers(&golden["gains"])).map(|(part, gain)| part * gain).collect();
        let largest = |v: &[f64]| v.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
        // The bound above, plus the rounding of the logits' decimals to f32.
        let (dclass, dbox) = (of("class_gradient"), of("box_gradient"));
        let expected = [
            Expected::near("loss", 32, of("loss")),
            Expected::near("parts", 32, parts),
            Expected::within("dclass", 32, largest(&dclass), dclass),
            Expected::within("dbox", 32, largest(&dbox), dbox),
        ];
        check(&case["name"].to_string(), &expected, |cpu| data.run(cpu));
    }
}
