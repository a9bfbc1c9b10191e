//! Average precision and F1 per class of one multi-label task, and their means over the classes.

use super::is_present;
use crate::tasks::metrics::mean;
use std::sync::Arc;

/// Scores and truths of the labelled entries seen so far, per class.
#[derive(Clone, Debug)]
pub struct MultiLabelMetric {
    classes: Vec<Vec<(f32, bool)>>,
}

/// The figures, as fractions from 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct MultiLabelSummary {
    /// The class names, if given.
    pub classes: Arc<[String]>,
    /// Mean average precision over the classes whose labels contain both values.
    pub map: Option<f64>,
    /// Mean F1 over the classes that occur as truth or prediction.
    pub f1: Option<f64>,
    /// One for each class.
    pub per_class: Vec<LabelSummary>,
}

/// The figures of one class.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelSummary {
    /// Average precision as in scikit-learn's `average_precision_score`: Σ (R_n − R_{n−1})·P_n over the distinct
    /// scores, highest first. `None` unless the labels contain both values.
    pub ap: Option<f64>,
    /// F1 at a probability threshold of ½; `None` if the class occurs neither as truth nor as prediction.
    pub f1: Option<f64>,
    /// The number of images on which the class is labelled.
    pub labelled: usize,
    /// The number of images that have the class.
    pub count: usize,
}

impl MultiLabelMetric {
    /// An empty metric for this many classes.
    pub fn new(num_classes: usize) -> Self {
        MultiLabelMetric { classes: vec![Vec::new(); num_classes] }
    }

    /// Adds one image: its probabilities `[K]` and the presence of each class; `None` means unlabelled.
    pub fn add(&mut self, probabilities: &[f32], truth: &[Option<bool>]) {
        debug_assert_eq!((probabilities.len(), truth.len()), (self.classes.len(), self.classes.len()));
        for ((class, &probability), truth) in self.classes.iter_mut().zip(probabilities).zip(truth) {
            class.extend(truth.map(|there| (probability, there)));
        }
    }

    /// The figures of the images so far.
    pub fn compute(&self) -> MultiLabelSummary {
        let per_class: Vec<LabelSummary> = self.classes.iter().map(|entries| summary(entries)).collect();
        MultiLabelSummary {
            classes: Arc::default(),
            map: mean(per_class.iter().filter_map(|c| c.ap)),
            f1: mean(per_class.iter().filter_map(|c| c.f1)),
            per_class,
        }
    }
}

fn summary(entries: &[(f32, bool)]) -> LabelSummary {
    let count = entries.iter().filter(|e| e.1).count();
    let found = entries.iter().filter(|&&(p, there)| there && is_present(p)).count();
    let answered = entries.iter().filter(|e| is_present(e.0)).count();
    LabelSummary {
        ap: (0 < count && count < entries.len()).then(|| average_precision(entries, count)),
        f1: (count + answered > 0).then(|| 2.0 * found as f64 / (count + answered) as f64),
        labelled: entries.len(),
        count,
    }
}

/// Average precision. Entries of equal score are counted together, because their order is arbitrary.
fn average_precision(entries: &[(f32, bool)], count: usize) -> f64 {
    // NaN is ranked last.
    let score = |entry: &(f32, bool)| if entry.0.is_nan() { f32::NEG_INFINITY } else { entry.0 };
    let mut sorted: Vec<&(f32, bool)> = entries.iter().collect();
    sorted.sort_by(|a, b| score(b).total_cmp(&score(a)));
    let (mut seen, mut found, mut sum) = (0, 0, 0.0);
    for tied in sorted.chunk_by(|a, b| score(a) == score(b)) {
        let hits = tied.iter().filter(|e| e.1).count();
        (seen, found) = (seen + tied.len(), found + hits);
        sum += hits as f64 / count as f64 * (found as f64 / seen as f64);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::metrics::golden;
    use serde_json::Value;

    fn metric(scores: &[Vec<f32>], truth: &[Vec<Option<bool>>]) -> MultiLabelSummary {
        let mut metric = MultiLabelMetric::new(scores[0].len());
        scores.iter().zip(truth).for_each(|(scores, truth)| metric.add(scores, truth));
        metric.compute()
    }

    fn truths(rows: &Value) -> Vec<Vec<Option<bool>>> {
        let row = |row: &Value| row.as_array().unwrap().iter().map(|v| v.as_u64().map(|v| v == 1)).collect();
        rows.as_array().unwrap().iter().map(row).collect()
    }

    #[test]
    fn equals_scikit_learn() {
        for case in golden::cases("multi_label") {
            let name = case["name"].as_str().unwrap();
            let got = metric(&golden::rows(&case["scores"]), &truths(&case["truth"]));
            let expected = &case["expected"];
            golden::close(name, "mAP", got.map, &expected["map"]);
            golden::close(name, "F1", got.f1, &expected["f1"]);
            for (class, got) in got.per_class.iter().enumerate() {
                let expected = &expected["per_class"][class];
                golden::close(name, &format!("AP of class {class}"), got.ap, &expected["ap"]);
                golden::close(name, &format!("F1 of class {class}"), got.f1, &expected["f1"]);
                assert_eq!(
                    [got.labelled, got.count].map(Value::from),
                    [&expected["labelled"], &expected["count"]].map(Value::clone)
                );
            }
        }
    }

    #[test]
    fn classes_may_change_places_and_one_that_nobody_labelled_is_not_there() {
        let case = &golden::cases("multi_label")[0];
        let (scores, truth) = (golden::rows(&case["scores"]), truths(&case["truth"]));
        let whole = metric(&scores, &truth);
        let reversed = |rows: &[Vec<f32>]| rows.iter().map(|r| r.iter().rev().copied().collect()).collect::<Vec<_>>();
        let turned: Vec<Vec<Option<bool>>> = truth.iter().map(|r| r.iter().rev().copied().collect()).collect();
        let mut backwards = metric(&reversed(&scores), &turned);
        backwards.per_class.reverse();
        assert_eq!(backwards.per_class, whole.per_class);

        let masked: Vec<Vec<Option<bool>>> = truth.iter().map(|r| [&[None], &r[1..]].concat()).collect();
        let without = |rows: &[Vec<f32>]| rows.iter().map(|r| r[1..].to_vec()).collect::<Vec<_>>();
        let absent: Vec<Vec<Option<bool>>> = truth.iter().map(|r| r[1..].to_vec()).collect();
        let (masked, absent) = (metric(&scores, &masked), metric(&without(&scores), &absent));
        assert_eq!((masked.map, masked.f1), (absent.map, absent.f1));
    }

    #[test]
    fn a_score_that_is_not_a_number_comes_last() {
        let truth = [vec![Some(true)], vec![Some(false)]];
        assert_eq!(metric(&[vec![f32::NAN], vec![0.1]], &truth).map, Some(0.5));
        assert_eq!(metric(&[vec![0.2], vec![f32::NAN]], &truth).map, Some(1.0));
    }
}
