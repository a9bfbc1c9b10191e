//! Means, deviations and intervals over seeds. Differences between two settings are taken per seed, and a confidence interval
//! of their mean comes from Student's t.

/// The mean; `None` if there is no value.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The sample standard deviation (with n − 1), `None` for fewer than two values.
pub fn deviation(values: &[f64]) -> Option<f64> {
    let (n, mean) = (values.len(), mean(values)?);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (n > 1).then(|| (squares / (n - 1) as f64).sqrt())
}

/// The middle value, or the mean of the two middle ones; `None` if there is no value.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    (n > 0).then(|| (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0)
}

/// Paired differences, one per seed, with their mean and interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// One per seed that both settings have.
    pub each: Vec<f64>,
    /// Their mean.
    pub mean: f64,
    /// The 95 % confidence interval of the mean by Student's t; `None` for fewer than two seeds.
    pub interval: Option<[f64; 2]>,
}

/// Conclusion from a paired difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The whole interval is above zero.
    Helped,
    /// The whole interval is below zero.
    Hurt,
    /// Zero lies in the interval.
    WithinNoise,
    /// With one seed there is no interval.
    Untested,
}

impl Difference {
    /// Summarises differences taken per seed; `None` if there are none.
    pub fn of(each: Vec<f64>) -> Option<Difference> {
        let mean = mean(&each)?;
        let reach = deviation(&each).map(|deviation| {
            let n = each.len();
            t_quantile(n - 1) * deviation / (n as f64).sqrt()
        });
        Some(Difference { mean, interval: reach.map(|reach| [mean - reach, mean + reach]), each })
    }

    /// Whether the interval excludes zero, and on which side.
    pub fn verdict(&self) -> Verdict {
        match self.interval {
            None => Verdict::Untested,
            Some([low, _]) if low > 0.0 => Verdict::Helped,
            Some([_, high]) if high < 0.0 => Verdict::Hurt,
            Some(_) => Verdict::WithinNoise,
        }
    }
}

/// Δm of one seed in percent: the mean over the tasks of the joint model's gain relative to the single model's metric. Higher is
/// better, because every metric here grows with quality. `None` if a single model's metric is not above zero, because then the
/// ratio has no meaning.
///
/// Source: Maninis et al. 2019 (arXiv:1904.08918), eq. 4, with the sign turned so that an improvement is positive.
pub fn delta_m(joint: &[f64], single: &[f64]) -> Option<f64> {
    debug_assert_eq!(joint.len(), single.len());
    let shares: Option<Vec<f64>> =
        joint.iter().zip(single).map(|(joint, single)| (*single > 0.0).then(|| (joint - single) / single)).collect();
    mean(&shares?).map(|mean| 100.0 * mean)
}

/// The 0.975 quantiles of Student's t for 1 to 30 degrees of freedom.
const QUANTILES: [f64; 30] = [
    12.706204736,
    4.302652730,
    3.182446305,
    2.776445105,
    2.570581836,
    2.446911851,
    2.364624252,
    2.306004135,
    2.262157163,
    2.228138852,
    2.200985160,
    2.178812830,
    2.160368656,
    2.144786688,
    2.131449546,
    2.119905299,
    2.109815578,
    2.100922040,
    2.093024054,
    2.085963447,
    2.079613845,
    2.073873068,
    2.068657610,
    2.063898562,
    2.059538553,
    2.055529439,
    2.051830516,
    2.048407142,
    2.045229642,
    2.042272456,
];

/// The limit for many degrees of freedom: the quantile of the normal distribution.
const NORMAL: f64 = 1.959963984540054;

/// The 0.975 quantile of Student's t, the factor of the standard error in a 95 % interval. Above 30 degrees of freedom it
/// uses Fisher's expansion around the normal distribution (Abramowitz & Stegun 26.7.5), accurate to six digits there.
fn t_quantile(freedom: usize) -> f64 {
    debug_assert!(freedom > 0);
    if let Some(known) = QUANTILES.get(freedom.wrapping_sub(1)) {
        return *known;
    }
    let (n, z) = (freedom as f64, NORMAL);
    let first = (z.powi(3) + z) / 4.0;
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    let third = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0;
    z + first / n + second / n.powi(2) + third / n.powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn golden() -> Value {
        serde_json::from_str(include_str!("../../tests/golden/student_t.json")).unwrap()
    }

    fn numbers(value: &Value) -> Vec<f64> {
        value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    }

    #[test]
    fn quantiles_match_scipy() {
        let golden = golden();
        let quantiles = golden["quantiles"].as_object().unwrap();
        assert!(quantiles.len() > 30);
        for (freedom, expected) in quantiles {
            let (ours, expected) = (t_quantile(freedom.parse().unwrap()), expected.as_f64().unwrap());
            assert!((ours - expected).abs() < 1e-6 * expected, "{freedom}: {ours}, {expected}");
        }
    }

    #[test]
    fn paired_intervals_match_scipy() {
        for case in golden()["paired"].as_array().unwrap() {
            let (a, b) = (numbers(&case["a"]), numbers(&case["b"]));
            let difference = Difference::of(a.iter().zip(&b).map(|(a, b)| a - b).collect()).unwrap();
            let expected = numbers(&case["interval"]);
            for (ours, scipy) in difference.interval.unwrap().iter().zip(expected) {
                assert!((ours - scipy).abs() < 1e-8 * (1.0 + scipy.abs()), "{ours}, {scipy}");
            }
            let significant = case["p"].as_f64().unwrap() < 0.05;
            assert_eq!(difference.verdict() != Verdict::WithinNoise, significant, "{case}");
        }
    }

    #[test]
    fn one_seed_has_no_interval_and_none_no_difference() {
        assert_eq!(Difference::of(Vec::new()), None);
        let one = Difference::of(vec![0.25]).unwrap();
        assert_eq!((one.mean, one.interval, one.verdict()), (0.25, None, Verdict::Untested));
        assert_eq!((mean(&[]), deviation(&[1.0]), median(&[])), (None, None, None));
    }

    #[test]
    fn equal_differences_are_no_noise() {
        let verdict = |each: &[f64]| Difference::of(each.to_vec()).unwrap().verdict();
        assert_eq!(verdict(&[0.5, 0.5]), Verdict::Helped);
        assert_eq!(verdict(&[-0.5, -0.5]), Verdict::Hurt);
        assert_eq!(verdict(&[0.0, 0.0]), Verdict::WithinNoise);
        // t = 1, far below 4.303.
        assert_eq!(verdict(&[0.0, 1.0, 0.5, 0.5]), Verdict::WithinNoise);
    }

    /// By hand: (0.6 − 0.5) / 0.5 = 0.2 and (0.72 − 0.8) / 0.8 = −0.1; their mean is 0.05.
    #[test]
    fn delta_m_is_the_mean_of_relative_gains_in_percent() {
        let found = delta_m(&[0.6, 0.72], &[0.5, 0.8]).unwrap();
        assert!((found - 5.0).abs() < 1e-12, "{found}");
        assert!((delta_m(&[0.5, 0.8], &[0.5, 0.8]).unwrap()).abs() < 1e-12);
        assert_eq!(delta_m(&[0.1], &[-0.2]), None);
        assert_eq!(delta_m(&[0.1], &[0.0]), None);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        // The sample's: 2 and 4 are 1 away from 3, and 2 / (2 − 1) is 2.
        assert_eq!(deviation(&[2.0, 4.0]), Some(2f64.sqrt()));
    }
}
