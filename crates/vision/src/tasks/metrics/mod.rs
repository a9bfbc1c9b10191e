//! Parts shared by several metrics, and COCO's metric, which can also score results files without a task. Sums run over
//! the whole set, so that the batch size does not change the result. The caller skips unlabelled images. No tensors and
//! no files are used here.

pub mod boxes;

/// The mean of the values; `None` if there are none.
pub(super) fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0usize);
    for value in values {
        sum += value;
        count += 1;
    }
    (count > 0).then(|| sum / count as f64)
}

/// Expected values from pycocotools, scikit-learn and SciPy, stored in tests/golden/metrics.json.
#[cfg(test)]
pub(super) mod golden {
    use serde_json::Value;

    pub fn cases(kind: &str) -> Vec<Value> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/metrics.json");
        let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        all[kind].as_array().unwrap().clone()
    }

    /// Reads `null` as NaN.
    pub fn row(values: &[Value]) -> Vec<f32> {
        let number = |value: &Value| value.as_f64().map_or(f32::NAN, |v| v as f32);
        values.iter().map(number).collect()
    }

    pub fn rows(values: &Value) -> Vec<Vec<f32>> {
        let rows = values.as_array().unwrap().iter();
        rows.map(|r| row(r.as_array().unwrap())).collect()
    }

    /// Checks equality to 1e-6; undefined only equals undefined.
    pub fn close(case: &str, what: &str, got: Option<f64>, expected: &Value) {
        match (got, expected.as_f64()) {
            (None, None) => {}
            (Some(a), Some(b)) if (a - b).abs() <= 1e-6 * b.abs().max(1.0) => {}
            (got, expected) => panic!("{case}: {what} is {got:?}, expected {expected:?}"),
        }
    }
}
