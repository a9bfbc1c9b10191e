//! Mix-up: two pictures blended, and their labels with them (Zhang 2018).

use crate::data::random::Random;
use crate::tasks::Label;

/// The parameter of the Beta distribution that shares are drawn from, as in torchvision's reference training: most are near 0 or 1.
const ALPHA: f32 = 0.2;

/// The first picture's share: Beta(α, α) by Jöhnk's method, which suits an α below 1.
pub fn share(random: &mut Random) -> f32 {
    loop {
        let [x, y] = [(); 2].map(|()| random.unit().powf(1.0 / ALPHA));
        let sum = x + y;
        if sum > 0.0 && sum <= 1.0 {
            return x / sum;
        }
    }
}

/// `share` of the canvas, the rest `other`.
pub fn blend(canvas: &mut [u8], other: &[u8], share: f32) {
    for (byte, &o) in canvas.iter_mut().zip(other) {
        *byte = (share * f32::from(*byte) + (1.0 - share) * f32::from(o) + 0.5) as u8; // saturates
    }
}

/// `share` of each label, the rest `others`'. Both are of the same tasks, whose labels all mix.
pub fn mix(labels: &mut [Label], others: &[Label], share: f32) {
    for (label, other) in labels.iter_mut().zip(others) {
        *label = label.mixed(other, share);
    }
}
