//! Initial parameters. Each parameter has its own random stream, keyed by the seed and its name, so that the trunk does
//! not depend on the heads.

use crate::executor::Store;
use crate::ir::{BufferId, Init, Parameter, ParameterId};
use crate::random::{draw, fnv};

/// Uniform in (0, 1).
fn uniform(key: u64, index: u64) -> f64 {
    ((draw(key ^ draw(index)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// Fills the Store with initial values and sets the average to the same values.
pub fn initialise(store: &mut Store, seed: u64) {
    for i in 0..store.parameters.len() {
        let range = store.range(ParameterId(i));
        let parameter = store.parameters[i].clone();
        fill(&parameter, seed, &mut store.values.f32_mut()[range]);
    }
    for i in 0..store.buffers.len() {
        let (range, start) = (store.buffer_range(BufferId(i)), store.buffers[i].start);
        store.running.f32_mut()[range].fill(start);
    }
    store.start_average();
}

fn fill(parameter: &Parameter, seed: u64, out: &mut [f32]) {
    let key = fnv(&parameter.name) ^ draw(seed);
    let shape = &parameter.shape;
    let fan_in: usize = shape[1..].iter().product();
    // [K, R, S, C]: every output channel is reached from R·S positions.
    let fan_out = shape[0] * if shape.len() == 4 { shape[1] * shape[2] } else { 1 };
    match parameter.init {
        Init::Constant(value) => out.fill(value),
        Init::Normal(deviation) => normal(key, deviation, out),
        Init::KaimingFanOut => normal(key, (2.0 / fan_out as f32).sqrt(), out),
        Init::UniformFanIn => {
            let bound = 1.0 / (fan_in as f64).sqrt();
            for (i, v) in out.iter_mut().enumerate() {
                *v = ((2.0 * uniform(key, i as u64) - 1.0) * bound) as f32;
            }
        }
    }
}

/// The Box–Muller transform on pairs of uniform numbers.
fn normal(key: u64, deviation: f32, out: &mut [f32]) {
    for (pair, values) in out.chunks_mut(2).enumerate() {
        let (u, v) = (uniform(key, 2 * pair as u64), uniform(key, 2 * pair as u64 + 1));
        let radius = (-2.0 * u.ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * v).sin_cos();
        for (value, part) in values.iter_mut().zip([cos, sin]) {
            *value = (radius * part) as f32 * deviation;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Group;

    #[test]
    fn initial_values_match_every_earlier_version() {
        assert_eq!(uniform(fnv("conv1.weight") ^ draw(5), 2), 0.7851021287417399);
    }

    #[test]
    fn normal_weights_have_the_given_deviation_and_differ_by_name_and_seed() {
        let parameter = |name: &str| Parameter {
            name: name.into(),
            shape: vec![64, 3, 3, 32],
            init: Init::KaimingFanOut,
            group: Group::Trunk,
            decay: true,
        };
        let values = |name, seed| {
            let mut out = vec![0.0; 64 * 9 * 32];
            fill(&parameter(name), seed, &mut out);
            out
        };
        let a = values("a.weight", 0);
        let n = a.len() as f64;
        let mean = a.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let deviation = (a.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n).sqrt();
        let wanted = (2.0f64 / (64.0 * 9.0)).sqrt();
        assert!(mean.abs() < 4.0 * wanted / n.sqrt());
        assert!((deviation / wanted - 1.0).abs() < 0.03);
        assert_ne!(a, values("b.weight", 0));
        assert_ne!(a, values("a.weight", 1));
        assert_eq!(a, values("a.weight", 0));
    }
}
