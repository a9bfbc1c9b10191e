use crate::ops::testing::{Expected, Random, check_kernels, wide};

#[test]
fn applies_scale_shift_residual_and_relu() {
    for (rows, c, residual, relu) in [(1, 8, false, false), (37, 24, true, true), (300, 64, true, false)] {
        let mut random = Random::new(rows as u64);
        let y = random.activations(rows * c, -2.0, 2.0);
        let r = random.activations(rows * c, -2.0, 2.0);
        let affine = random.vector(2 * c, -1.5, 1.5);
        let expected: Vec<f64> = (0..rows * c)
            .map(|i| {
                let (scale, shift) = (f64::from(affine[i % c]), f64::from(affine[c + i % c]));
                let v = f64::from(y[i]) * scale + shift + if residual { f64::from(r[i]) } else { 0.0 };
                if relu { v.max(0.0) } else { v }
            })
            .collect();
        let magnitudes = wide(&y).iter().map(|v| 2.0 * v.abs() + 4.0).collect();
        let expected = [Expected::new("z", 3, (expected, magnitudes)).stored()];
        check_kernels(&format!("apply {rows} × {c}"), &expected, |board| {
            let (y, affine) = (board.activations(&y), board.floats(&affine));
            let residual = residual.then(|| board.activations(&r));
            let z = board.activations_out(rows * c);
            board.run(&[super::apply([rows, c], y, affine, residual, relu, z)]);
            vec![board.read_activations(z, rows * c)]
        });
    }
}
