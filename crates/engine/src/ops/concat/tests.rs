//! The concatenation of levels against plain f64 loops.

use super::cpu::*;
use crate::ops::testing::{Expected, Random, check, poisoned};

const SCALES: [f32; 3] = [1.25, -0.5, 0.75];

#[test]
fn gathering_matches_plain_loops() {
    for (n, d, cells) in [
        (1, 1, vec![1]),
        (2, 5, vec![9, 4, 1]),
        (3, 68, vec![49, 16, 4]),
        (2, 80, vec![400, 100, 25]),
        (1, 7, vec![3, 0, 2]),
        (0, 7, vec![3, 2]),
    ] {
        for scaled in [false, true] {
            check_gathering(n, d, &cells, scaled);
        }
    }
}

fn check_gathering(n: usize, d: usize, cells: &[usize], scaled: bool) {
    let mut random = Random::new((n * d) as u64);
    let xs: Vec<Vec<f32>> = cells.iter().map(|a| random.vector(n * a * d, -1.0, 1.0)).collect();
    let total: usize = cells.iter().sum();
    let dout = random.vector(n * total * d, -1.0, 1.0);
    let scale = |level: usize| if scaled { SCALES[level] } else { 1.0 };
    let mut out = vec![0.0; n * total * d];
    let mut expected = Vec::new();
    let (mut dscale, mut magnitudes) = (vec![], vec![]);
    let mut first = 0;
    for (level, (x, a)) in xs.iter().zip(cells).enumerate() {
        let mut dx = vec![0.0; x.len()];
        // The old value is 1.
        let (mut slope, mut magnitude) = (1.0, 1.0);
        for (i, &x) in x.iter().enumerate() {
            let at = (i / (a * d) * total + first) * d + i % (a * d);
            out[at] = f64::from(scale(level)) * f64::from(x);
            dx[i] = f64::from(scale(level)) * f64::from(dout[at]);
            slope += f64::from(dout[at]) * f64::from(x);
            magnitude += (f64::from(dout[at]) * f64::from(x)).abs();
        }
        first += a;
        dscale.push(if scaled { slope } else { 1.0 });
        magnitudes.push(magnitude);
        expected.push(Expected::near("dx", 1, dx));
    }
    expected.insert(0, Expected::near("out", 1, out));
    // At most 64 products per f32 sum.
    expected.push(Expected::new("dscale", 64 + 4, (dscale, magnitudes)));
    check(&format!("concat [{n}, {cells:?}, {d}] scaled {scaled}"), &expected, |cpu| {
        let levels: Vec<Level> = (xs.iter().zip(cells).enumerate())
            .map(|(i, (x, &cells))| Level { x, cells, scale: scaled.then_some(SCALES[i]) })
            .collect();
        let mut out = poisoned(n * total * d);
        forward(cpu, n, d, &levels, &mut out);
        let mut dxs: Vec<Vec<f32>> = xs.iter().map(|x| poisoned(x.len())).collect();
        let mut dscale = vec![1.0; cells.len()];
        let mut gradients: Vec<LevelGradient> = (dxs.iter_mut().zip(&mut dscale))
            .map(|(dx, dscale)| LevelGradient { dx, dscale: scaled.then_some(dscale) })
            .collect();
        backward(cpu, n, d, &dout, &levels, &mut gradients);
        [vec![out], dxs, vec![dscale]].concat()
    });
}
