//! Upsampling against plain f64 loops, with exact doubling and with the odd sizes that stride 2 produces.

use super::Upsample;
use super::cpu::*;
use crate::ops::testing::{Expected, Random, check, poisoned};

/// The element of top that is copied to element `at` of out.
pub(super) fn source(&Upsample { c, from, to, .. }: &Upsample, at: usize) -> usize {
    let (channel, j, row) = (at % c, at / c % to[1], at / c / to[1]);
    let (i, image) = (row % to[0], row / to[0]);
    ((image * from[0] + i * from[0] / to[0]) * from[1] + j * from[1] / to[1]) * c + channel
}

#[test]
fn upsampling_matches_plain_loops() {
    for (n, c, from, to) in [
        (1, 1, [1, 1], [1, 1]),
        (2, 3, [1, 2], [2, 3]),
        (1, 16, [3, 4], [6, 8]),
        (2, 33, [4, 5], [7, 9]),
        (3, 20, [7, 3], [13, 6]),
        (1, 5, [4, 4], [4, 4]),
        (0, 8, [2, 2], [4, 4]),
    ] {
        let shape = Upsample { n, c, from, to };
        let (small, large) = (n * from[0] * from[1] * c, n * to[0] * to[1] * c);
        let mut random = Random::new(large as u64);
        let (top, lateral) = (random.vector(small, -1.0, 1.0), random.vector(large, -1.0, 1.0));
        let dout = random.vector(large, -1.0, 1.0);
        let source = |at: usize| source(&shape, at);
        let out = (0..large).map(|at| f64::from(lateral[at]) + f64::from(top[source(at)])).collect();
        let mut dtop = vec![0.0; small];
        (0..large).for_each(|at| dtop[source(at)] += f64::from(dout[at]));
        let expected = [Expected::within("out", 1, 2.0, out), Expected::within("dtop", 4, 4.0, dtop)];
        check(&format!("{shape:?}"), &expected, |cpu| {
            let (mut out, mut dtop) = (poisoned(large), poisoned(small));
            add(cpu, &shape, &top, &lateral, &mut out);
            backward(cpu, &shape, &dout, &mut dtop);
            vec![out, dtop]
        });
    }
}
