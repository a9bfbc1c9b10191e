//! Random numbers that depend only on a seed, a step and their index, so that a resumed run draws the same numbers.

use crate::random::{GAMMA, mix};
use std::f64::consts::TAU;

/// A method's random numbers: its seed and the number of steps taken.
#[derive(Clone, Copy, Debug)]
pub struct Draws {
    seed: u64,
    step: u64,
}

impl Draws {
    /// Length of [`Draws::state`].
    pub const STATE: usize = 2;

    /// The random numbers of the first step.
    pub fn new(seed: u64) -> Draws {
        Draws { seed, step: 0 }
    }

    /// Moves to the next step.
    pub fn advance(&mut self) {
        self.step = self.step.wrapping_add(1);
    }

    /// SplitMix64 (Steele, Lea & Flood 2014), keyed by one number after another.
    fn bits(self, stream: u64, index: u64) -> u64 {
        let keyed = |key: u64| mix(key.wrapping_add(GAMMA));
        [self.step, stream, index].into_iter().fold(keyed(self.seed), |hash, key| keyed(hash ^ key))
    }

    /// A draw from the standard normal distribution (Box & Muller 1958).
    pub fn normal(self, index: usize) -> f64 {
        // In (0, 1], so that the logarithm is finite.
        let [u, v] = [0, 1].map(|stream| ((self.bits(stream, index as u64) >> 11) + 1) as f64 / (1u64 << 53) as f64);
        (-2.0 * u.ln()).sqrt() * (TAU * v).cos()
    }

    /// The numbers below `len` except `stream`, in a random order for that stream (Fisher & Yates).
    pub fn others(self, stream: usize, len: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..len).filter(|i| *i != stream).collect();
        for last in (1..order.len()).rev() {
            // The modulo bias, for a divisor of at most a few dozen, is below 2⁻⁵⁸.
            let place = self.bits(2 + stream as u64, last as u64) % (last as u64 + 1);
            order.swap(last, place as usize);
        }
        order
    }

    /// The step as two halves of 32 bits, each exact as f64.
    pub fn state(self) -> [f64; Draws::STATE] {
        [self.step >> 32, self.step & 0xffff_ffff].map(|half| half as f64)
    }

    /// Restores the step from a saved [state](Draws::state).
    pub fn restore(&mut self, state: &[f64]) {
        self.step = (state[0] as u64) << 32 | state[1] as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_step_survives_the_state() {
        for step in [0, 1, (1 << 53) + 1, u64::MAX] {
            let mut other = Draws::new(7);
            other.restore(&Draws { seed: 7, step }.state());
            assert_eq!(other.step, step);
        }
    }

    #[test]
    fn draws_are_those_of_every_version_before() {
        assert_eq!(Draws { seed: 7, step: 3 }.bits(1, 2), 0x45d8_65e8_3dd2_285f);
    }

    #[test]
    fn draws_have_the_moments_of_a_normal_distribution_and_orders_are_even() {
        let (mut sum, mut squares, mut orders) = (0.0, 0.0, [0; 6]);
        let mut draws = Draws::new(3);
        for _ in 0..20_000 {
            let x = draws.normal(1);
            (sum, squares) = (sum + x, squares + x * x);
            let order = draws.others(1, 4);
            let rank = [[0, 2, 3], [0, 3, 2], [2, 0, 3], [2, 3, 0], [3, 0, 2], [3, 2, 0]];
            orders[rank.iter().position(|r| r == order.as_slice()).unwrap()] += 1;
            draws.advance();
        }
        // Five standard deviations of the mean, of the mean of squares, and of a count.
        assert!((sum / 2e4).abs() < 5.0 / 2e4f64.sqrt(), "{sum}");
        assert!((squares / 2e4 - 1.0).abs() < 5.0 * (2.0 / 2e4f64).sqrt(), "{squares}");
        assert!(
            orders.iter().all(|n| (f64::from(*n) - 2e4 / 6.0).abs() < 5.0 * (2e4f64 * 5.0 / 36.0).sqrt()),
            "{orders:?}"
        );
    }
}
