//! Accuracy, balanced accuracy, macro precision, recall and F1 of one classification task, from its confusion matrix.

use super::mean;

/// Classes from which on top-5 says something.
const TOP5_FROM: usize = 6;

/// Counts over the images seen so far.
#[derive(Clone, Debug)]
pub struct ClassificationMetric {
    num_classes: usize,
    /// `[truth, prediction]`, row-major.
    confusion: Vec<u64>,
    in_top5: u64,
}

/// What the counts say. Fractions in 0–1; `None` where no image was labelled.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassificationSummary {
    /// Labelled images.
    pub count: u64,
    pub top1: Option<f64>,
    /// Only above five classes.
    pub top5: Option<f64>,
    /// Mean over the classes that occur as truth or prediction, 0 where undefined (scikit-learn's `average="macro"`,
    /// `zero_division=0`).
    pub precision: Option<f64>,
    pub recall: Option<f64>,
    pub f1: Option<f64>,
    /// Mean recall over the classes that occur as truth.
    pub balanced_accuracy: Option<f64>,
    /// `confusion[truth][prediction]`.
    pub confusion: Vec<Vec<u64>>,
}

impl ClassificationMetric {
    pub fn new(num_classes: usize) -> Self {
        ClassificationMetric { num_classes, confusion: vec![0; num_classes * num_classes], in_top5: 0 }
    }

    /// Counts one image: its logits or probabilities `[K]` and its class; nothing if it is unlabelled. Of equal scores
    /// the lower class comes first.
    pub fn add(&mut self, scores: &[f32], truth: Option<usize>) {
        let Some(truth) = truth else { return };
        debug_assert_eq!(scores.len(), self.num_classes);
        debug_assert!(truth < self.num_classes);
        let mut predicted = 0;
        for (class, score) in scores.iter().enumerate() {
            if *score > scores[predicted] || scores[predicted].is_nan() {
                predicted = class;
            }
        }
        self.confusion[truth * self.num_classes + predicted] += 1;

        let own = scores[truth];
        let before = |&(class, &score): &(usize, &f32)| score > own || score == own && class < truth;
        let rank = scores.iter().enumerate().filter(before).count();
        self.in_top5 += u64::from(rank < 5 && !own.is_nan());
    }

    pub fn compute(&self) -> ClassificationSummary {
        let classes = 0..self.num_classes;
        let at = |truth: usize, prediction: usize| self.confusion[truth * self.num_classes + prediction];
        let of_truth = |c: usize| classes.clone().map(|p| at(c, p)).sum::<u64>();
        let of_prediction = |c: usize| classes.clone().map(|t| at(t, c)).sum::<u64>();
        let count: u64 = self.confusion.iter().sum();
        let fraction = |part: u64, whole: u64| if whole > 0 { part as f64 / whole as f64 } else { 0.0 };

        let occurring: Vec<usize> = classes.clone().filter(|&c| of_truth(c) + of_prediction(c) > 0).collect();
        let over = |value: &dyn Fn(usize) -> f64| mean(occurring.iter().map(|&c| value(c)));
        let recall = |c: usize| fraction(at(c, c), of_truth(c));
        ClassificationSummary {
            count,
            top1: (count > 0).then(|| fraction(classes.clone().map(|c| at(c, c)).sum(), count)),
            top5: (count > 0 && self.num_classes >= TOP5_FROM).then(|| fraction(self.in_top5, count)),
            precision: over(&|c| fraction(at(c, c), of_prediction(c))),
            recall: over(&recall),
            f1: over(&|c| fraction(2 * at(c, c), of_truth(c) + of_prediction(c))),
            balanced_accuracy: mean(classes.clone().filter(|&c| of_truth(c) > 0).map(recall)),
            confusion: classes.clone().map(|t| classes.clone().map(|p| at(t, p)).collect()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::golden;

    #[test]
    fn equals_scikit_learn() {
        for case in golden::cases("classification") {
            let name = case["name"].as_str().unwrap();
            let scores = golden::rows(&case["scores"]);
            let num_classes = case["num_classes"].as_u64().unwrap() as usize;
            let mut metric = ClassificationMetric::new(num_classes);
            for (row, truth) in scores.iter().zip(case["truth"].as_array().unwrap()) {
                metric.add(row, truth.as_u64().map(|t| t as usize));
            }
            let got = metric.compute();
            let expected = &case["expected"];
            golden::close(name, "top1", got.top1, &expected["top1"]);
            golden::close(name, "top5", got.top5, &expected["top5"]);
            golden::close(name, "precision", got.precision, &expected["precision"]);
            golden::close(name, "recall", got.recall, &expected["recall"]);
            golden::close(name, "f1", got.f1, &expected["f1"]);
            golden::close(name, "balanced_accuracy", got.balanced_accuracy, &expected["balanced_accuracy"]);
            assert_eq!(got.count, expected["count"].as_u64().unwrap(), "{name}");
            let confusion: Vec<Vec<u64>> = serde_json::from_value(expected["confusion"].clone()).unwrap();
            assert_eq!(got.confusion, confusion, "{name}");
        }
    }

    #[test]
    fn a_score_that_is_not_a_number_never_wins() {
        let mut metric = ClassificationMetric::new(6);
        metric.add(&[f32::NAN, 0.0, 1.0, 0.5, 0.2, 0.1], Some(0));
        let got = metric.compute();
        assert_eq!((got.top1, got.top5), (Some(0.0), Some(0.0)));
        assert_eq!(got.confusion[0][2], 1);
    }
}
