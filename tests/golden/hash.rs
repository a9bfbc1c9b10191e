//! The counter hash of tests/golden/resnet.py in Rust. It derives weights, inputs and the indices of stored entries from
//! names.

/// FNV-1a, 64 bits.
pub fn fnv1a(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The output of SplitMix64 (Steele 2014) whose state was `counter` before the step.
pub fn splitmix64(counter: u64) -> u64 {
    let z = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

pub fn word(name: &str, offset: u64) -> u64 {
    splitmix64(fnv1a(name).wrapping_add(offset))
}

/// `length` numbers in [0, 1).
pub fn stream(name: &str, length: usize) -> impl Iterator<Item = f64> {
    let hash = fnv1a(name);
    (0..length as u64).map(move |i| (splitmix64(hash.wrapping_add(i)) >> 11) as f64 / (1u64 << 53) as f64)
}

/// A parameter or running statistic by its torchvision name, in torchvision's order (`[K, C, R, S]`, `[K, C]`, `[C]`).
/// `last_norm` is the last norm of the backbone's block: "bn2" for ResNet-18 and -34, else "bn3".
pub fn parameter(name: &str, shape: &[usize], last_norm: &str) -> Vec<f32> {
    let last = name.contains(&format!(".{last_norm}."));
    let downsample = name.contains(".downsample.1.");
    let fan_in: usize = shape[1..].iter().product();
    let value = |u: f64| {
        let v = 2.0 * u - 1.0;
        match shape.len() {
            4 => v * (3f64.sqrt() * (2.0 / fan_in as f64).sqrt()),
            2 => v * (3f64.sqrt() * (1.0 / fan_in as f64).sqrt()),
            _ if name.ends_with(".running_var") => 1.0 + 0.2 * v,
            _ if name.ends_with(".weight") => (1.0 + 0.1 * v) * if last || downsample { 0.3 } else { 1.0 },
            _ if name.ends_with(".running_mean") || name == "fc.bias" || downsample => 0.1 * v,
            _ if last => (if name.contains(".0.") { 0.75 } else { 0.3 }) + 0.1 * v,
            _ => (if v < 0.0 { -2.5 } else { 2.5 }) + 0.1 * v,
        }
    };
    stream(name, shape.iter().product()).map(|u| value(u) as f32).collect()
}

/// An input `[N, 3, H, W]` (the names are `inputs` of the case): within ±2.
pub fn input(name: &str, length: usize) -> Vec<f32> {
    stream(name, length).map(|u| ((2.0 * u - 1.0) * 2.0) as f32).collect()
}

/// The gradient of the logits `[N, classes]`: within ±1 ÷ N.
pub fn logits_gradient(n: usize, classes: usize) -> Vec<f32> {
    let value = |u: f64| ((2.0 * u - 1.0) / n as f64) as f32;
    stream("logits_gradient", n * classes).map(value).collect()
}

/// The indices of a tensor's entries that are stored.
pub fn sample_indices(name: &str, length: usize, count: usize) -> Vec<usize> {
    let index = |j: u64| (word(name, (1 << 32) + j) % length as u64) as usize;
    (0..count as u64).map(index).collect()
}

/// Σ ±values, with the signs of projection `p` (0–3).
pub fn projection(name: &str, values: &[f32], p: u64) -> f64 {
    let offset = (1u64 << 40) * (p + 1);
    let signed = |(i, &value): (usize, &f32)| {
        if word(name, offset + i as u64) & 1 == 1 { f64::from(value) } else { -f64::from(value) }
    };
    values.iter().enumerate().map(signed).sum()
}

#[test]
fn the_hash_is_the_same_in_both_languages() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/resnet.json");
    let all: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let first = &all["hash"];
    let name = first["name"].as_str().unwrap();
    let number = |value: &serde_json::Value| value.as_str().unwrap().parse::<u64>().unwrap();
    assert_eq!(fnv1a(name), number(&first["fnv1a"]));
    for (i, expected) in first["splitmix64"].as_array().unwrap().iter().enumerate() {
        assert_eq!(word(name, i as u64), number(expected));
    }
    let numbers = |key: &str| -> Vec<f64> { serde_json::from_value(first[key].clone()).unwrap() };
    let length = first["length"].as_u64().unwrap() as usize;
    // serde_json may misread the last bit of an f64.
    for (got, expected) in stream(name, 8).zip(numbers("stream")) {
        assert!((got - expected).abs() <= f64::EPSILON / 2.0);
    }
    let samples: Vec<f64> = sample_indices(name, length, 8).iter().map(|&i| i as f64).collect();
    assert_eq!(samples, numbers("sample_indices"));
    for parameter_of in first["parameters"].as_array().unwrap() {
        let name = parameter_of["name"].as_str().unwrap();
        let shape: Vec<usize> = serde_json::from_value(parameter_of["shape"].clone()).unwrap();
        let values = parameter(name, &shape, "bn3");
        let expected: Vec<f32> = serde_json::from_value(parameter_of["first"].clone()).unwrap();
        assert_eq!(values[..expected.len()], expected, "{name}");
        let projections: Vec<f64> = serde_json::from_value(parameter_of["projections"].clone()).unwrap();
        for (p, expected) in projections.iter().enumerate() {
            let got = projection(name, &values, p as u64);
            assert!((got - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{name}: {got}, {expected}");
        }
    }
    let close = |got: &[f32], key: &str| {
        let expected: Vec<f32> = serde_json::from_value(first[key].clone()).unwrap();
        assert_eq!(got, expected, "{key}");
    };
    close(&input("input", 4), "input");
    close(&logits_gradient(4, 1), "logits_gradient");
}
