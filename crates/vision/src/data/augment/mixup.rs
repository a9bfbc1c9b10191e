//! Mix-up: two pictures blended, and their labels with them (Zhang 2018).

use crate::data::random::Random;
use crate::tasks::Label;

/// The parameter of the Beta distribution from which shares are drawn, as in torchvision's reference training; most
/// shares are near 0 or 1.
const ALPHA: f32 = 0.2;

/// The weight of the first picture, drawn from Beta(α, α) by Jöhnk's method, which suits α below 1.
pub fn share(random: &mut Random) -> f32 {
    loop {
        let [x, y] = [(); 2].map(|()| random.unit().powf(1.0 / ALPHA));
        let sum = x + y;
        if sum > 0.0 && sum <= 1.0 {
            return x / sum;
        }
    }
}

/// Blends `canvas` with weight `share` and `other` with the remaining weight.
pub fn blend(canvas: &mut [u8], other: &[u8], share: f32) {
    for (byte, &o) in canvas.iter_mut().zip(other) {
        *byte = (share * f32::from(*byte) + (1.0 - share) * f32::from(o) + 0.5) as u8; // saturates
    }
}

/// Mixes the labels with weight `share` for the first. Both lists have the same tasks, and their labels can be mixed.
pub fn mix(labels: &mut [Label], others: &[Label], share: f32) {
    for (label, other) in labels.iter_mut().zip(others) {
        *label = label.mixed(other, share);
    }
}
