//! How the tasks' gradients at a shared feature lie to each other, for methods that balance by it. It runs on the host, between
//! the heads' backward and the trunk's.

use crate::ir::TermForm;

/// One task's gradient at a shared feature, unweighted.
pub struct SeamGradient {
    pub task: usize,
    /// `[N, HW, C]`, or `[N, C]` of the mean over HW.
    pub gradient: Vec<f32>,
    pub form: TermForm,
}

/// Adds to `gramian` `[K, K]` the inner products of the gradients at one feature map `[N, HW, C]`. Sums are f64 and in an order
/// that follows from the shape: first over the channels, then over pixels, then over images.
pub fn add_inner_products([n, hw, c]: [usize; 3], gradients: &[SeamGradient], gramian: &mut [f64], tasks: usize) {
    for (index, a) in gradients.iter().enumerate() {
        for b in &gradients[index..] {
            let product: f64 = (0..n).map(|image| of_image([image, hw, c], a, b)).sum();
            gramian[a.task * tasks + b.task] += product;
            if !std::ptr::eq(a, b) {
                gramian[b.task * tasks + a.task] += product;
            }
        }
    }
}

/// The inner product over one image. A gradient of the mean is the same at every pixel: its HWth part.
fn of_image([image, hw, c]: [usize; 3], a: &SeamGradient, b: &SeamGradient) -> f64 {
    let pixel = |of: &SeamGradient, pixel: usize| {
        let row = match of.form {
            TermForm::Dense => image * hw + pixel,
            TermForm::Pooled => image,
        };
        row * c..(row + 1) * c
    };
    let at = |index: usize| dot(&a.gradient[pixel(a, index)], &b.gradient[pixel(b, index)]);
    let all = || (0..hw).map(at).sum::<f64>();
    match (a.form, b.form) {
        (TermForm::Dense, TermForm::Dense) => all(),
        (TermForm::Dense, TermForm::Pooled) | (TermForm::Pooled, TermForm::Dense) => all() / hw as f64,
        (TermForm::Pooled, TermForm::Pooled) => at(0) / hw as f64,
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}
