//! Class probabilities for prediction: a host function over `[N, K]`, not a graph op.

pub(crate) mod cpu;
#[cfg(test)]
mod tests;

/// Converts one row of logits to probabilities, in place.
pub fn softmax_row(row: &mut [f32]) {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for value in row.iter_mut() {
        *value = (*value - largest).exp();
        sum += *value;
    }
    for value in row {
        *value /= sum;
    }
}
