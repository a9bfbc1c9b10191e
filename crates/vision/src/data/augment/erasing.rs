//! Random erasing: a grey rectangle over a part of the picture (Zhong 2017; sizes as torchvision's `RandomErasing`).

use super::framing::{PADDING, rows_of};
use crate::boxes::Xyxy;
use crate::data::images::resize::Target;
use crate::data::random::Random;
use crate::tasks::Label;

/// The rectangle to erase: between 2 % and a third of the canvas, with an aspect ratio between 3/10 and 10/3.
pub fn place(size: usize, random: &mut Random) -> Option<Target> {
    let side = size as f32;
    for _ in 0..10 {
        let area = side * side * random.between(0.02, 0.33);
        let log_aspect = (10.0f32 / 3.0).ln();
        let aspect = random.between(-log_aspect, log_aspect).exp();
        let (width, height) = ((area * aspect).sqrt().round() as usize, (area / aspect).sqrt().round() as usize);
        if (1..size).contains(&width) && (1..size).contains(&height) {
            let (left, top) = (random.below(size - width + 1), random.below(size - height + 1));
            return Some(Target { left, top, width, height });
        }
    }
    None
}

/// Fills the rectangle with grey and updates the labels.
pub fn erase(canvas: &mut [u8], size: usize, target: Target, labels: &mut [Label]) {
    for row in rows_of(size, target) {
        canvas[row].fill(PADDING);
    }
    let hidden: Xyxy =
        [target.left, target.top, target.left + target.width, target.top + target.height].map(|v| v as f32);
    labels.iter_mut().for_each(|label| *label = label.hidden(&hidden));
}
