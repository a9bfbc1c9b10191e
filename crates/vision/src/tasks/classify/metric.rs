//! Accuracy, balanced accuracy, precision, recall, F1, average precision and calibration of one classification task.

use crate::tasks::metrics::mean;
use std::sync::Arc;

/// With fewer classes than this, top-5 accuracy means little and is not reported.
const TOP5_FROM: usize = 6;
/// Bins of the calibration error.
const CALIBRATION_BINS: usize = 15;

/// Counts over the images seen so far, and their probabilities, which must be kept to sort them for average precision.
#[derive(Clone, Debug)]
pub struct ClassificationMetric {
    num_classes: usize,
    /// `[truth, prediction]`, row-major.
    confusion: Vec<u64>,
    in_top5: u64,
    truth: Vec<usize>,
    /// `[image, class]`, row-major.
    probabilities: Vec<f32>,
    bins: Vec<CalibrationBin>,
}

#[derive(Clone, Copy, Debug, Default)]
struct CalibrationBin {
    confidence: f64,
    correct: u64,
}

/// The figures computed from the counts, as fractions from 0 to 1; `None` if no image was labelled.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassificationSummary {
    /// The class names, if given.
    pub classes: Arc<[String]>,
    /// Labelled images.
    pub count: u64,
    /// The share of images whose most likely class is the true one.
    pub top1: Option<f64>,
    /// Top-5 accuracy; only with more than five classes.
    pub top5: Option<f64>,
    /// Mean over the classes that occur as truth or prediction, 0 where undefined (scikit-learn's `average="macro"`,
    /// `zero_division=0`).
    pub precision: Option<f64>,
    /// The mean recall, over the same classes as `precision`.
    pub recall: Option<f64>,
    /// The mean over classes of the harmonic mean of precision and recall.
    pub f1: Option<f64>,
    /// Mean recall over the classes that occur as truth.
    pub balanced_accuracy: Option<f64>,
    /// Expected calibration error of the predicted class's probability: images fall into 15 bins of equal width by that
    /// probability, `(i/15, (i+1)/15]`; the mean over images of their bin's |accuracy − mean probability|
    /// (Guo et al. 2017, arXiv:1706.04599, eq. 3).
    pub calibration_error: Option<f64>,
    /// One for each class.
    pub per_class: Vec<ClassSummary>,
    /// `confusion[truth][prediction]`.
    pub confusion: Vec<Vec<u64>>,
}

/// The figures of one class against all others; `None` if a denominator is 0.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassSummary {
    /// The share of correct predictions among the images predicted as this class.
    pub precision: Option<f64>,
    /// The share of correct predictions among the images of this class.
    pub recall: Option<f64>,
    /// The harmonic mean of the two.
    pub f1: Option<f64>,
    /// The area under the precision-recall curve, without interpolation (scikit-learn's `average_precision_score`).
    pub average_precision: Option<f64>,
    /// The number of images of this class.
    pub support: u64,
}

impl ClassificationMetric {
    /// An empty metric for this many classes.
    pub fn new(num_classes: usize) -> Self {
        ClassificationMetric {
            num_classes,
            confusion: vec![0; num_classes * num_classes],
            in_top5: 0,
            truth: Vec::new(),
            probabilities: Vec::new(),
            bins: vec![CalibrationBin::default(); CALIBRATION_BINS],
        }
    }

    /// Adds one image: its probabilities `[K]` and its true class. An unlabelled image is skipped. Among equal
    /// probabilities, the lower class ranks first.
    pub fn add(&mut self, probabilities: &[f32], truth: Option<usize>) {
        let Some(truth) = truth else { return };
        debug_assert_eq!(probabilities.len(), self.num_classes);
        debug_assert!(truth < self.num_classes);
        let mut predicted = 0;
        for (class, probability) in probabilities.iter().enumerate() {
            if *probability > probabilities[predicted] || probabilities[predicted].is_nan() {
                predicted = class;
            }
        }
        self.confusion[truth * self.num_classes + predicted] += 1;

        let own = probabilities[truth];
        let before = |&(class, &p): &(usize, &f32)| p > own || p == own && class < truth;
        let rank = probabilities.iter().enumerate().filter(before).count();
        self.in_top5 += u64::from(rank < 5 && !own.is_nan());

        // A NaN probability counts as zero confidence.
        let confidence = f64::from(probabilities[predicted]).max(0.0);
        let bin = (confidence * CALIBRATION_BINS as f64).ceil() as usize;
        let bin = &mut self.bins[bin.clamp(1, CALIBRATION_BINS) - 1];
        bin.confidence += confidence;
        bin.correct += u64::from(predicted == truth);
        self.truth.push(truth);
        self.probabilities.extend(probabilities);
    }

    /// The figures of the images so far.
    pub fn compute(&self) -> ClassificationSummary {
        let classes = 0..self.num_classes;
        let at = |truth: usize, prediction: usize| self.confusion[truth * self.num_classes + prediction];
        let of_truth = |c: usize| classes.clone().map(|p| at(c, p)).sum::<u64>();
        let of_prediction = |c: usize| classes.clone().map(|t| at(t, c)).sum::<u64>();
        let count: u64 = self.confusion.iter().sum();

        let per_class: Vec<ClassSummary> = classes
            .clone()
            .map(|c| ClassSummary {
                precision: share(at(c, c), of_prediction(c)),
                recall: share(at(c, c), of_truth(c)),
                f1: share(2 * at(c, c), of_truth(c) + of_prediction(c)),
                average_precision: self.average_precision(c, of_truth(c)),
                support: of_truth(c),
            })
            .collect();
        // F1 is defined for classes that occur as truth or prediction.
        let over = |value: &dyn Fn(&ClassSummary) -> Option<f64>| {
            mean(per_class.iter().filter(|c| c.f1.is_some()).map(|c| value(c).unwrap_or(0.0)))
        };
        ClassificationSummary {
            classes: Arc::default(),
            count,
            top1: share(classes.clone().map(|c| at(c, c)).sum(), count),
            top5: share(self.in_top5, count).filter(|_| self.num_classes >= TOP5_FROM),
            precision: over(&|c| c.precision),
            recall: over(&|c| c.recall),
            f1: over(&|c| c.f1),
            balanced_accuracy: mean(per_class.iter().filter_map(|c| c.recall)),
            calibration_error: self.calibration_error(count),
            confusion: classes.clone().map(|t| classes.clone().map(|p| at(t, p)).collect()).collect(),
            per_class,
        }
    }

    /// The weighted gap of a bin simplifies: (its share of the images) · |accuracy − mean confidence| = |correct − sum
    /// of confidences| ÷ images.
    fn calibration_error(&self, count: u64) -> Option<f64> {
        let gaps = self.bins.iter().map(|b| (b.correct as f64 - b.confidence).abs());
        (count > 0).then(|| gaps.sum::<f64>() / count as f64)
    }

    /// The mean, over the class's images, of the precision at their probability; images of equal probability are
    /// counted together.
    fn average_precision(&self, class: usize, support: u64) -> Option<f64> {
        let of_class = self.probabilities.iter().skip(class).step_by(self.num_classes.max(1));
        let mut ranked: Vec<(f32, bool)> = of_class.zip(&self.truth).map(|(&p, &truth)| (p, truth == class)).collect();
        // NaN is ranked last.
        let sinking = |p: f32| if p.is_nan() { f32::NEG_INFINITY } else { p };
        ranked.sort_by(|a, b| sinking(b.0).total_cmp(&sinking(a.0)));
        let (mut seen, mut found, mut sum) = (0, 0, 0.0);
        for tied in ranked.chunk_by(|a, b| a.0 == b.0) {
            let own = tied.iter().filter(|t| t.1).count();
            seen += tied.len();
            found += own;
            sum += own as f64 * (found as f64 / seen as f64);
        }
        (support > 0).then(|| sum / support as f64)
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::metrics::golden;

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
            for (class, own) in got.per_class.iter().enumerate() {
                let expected = &expected["per_class"][class];
                let close = |what: &str, got, column: usize| {
                    golden::close(name, &format!("{what} of class {class}"), got, &expected[column]);
                };
                close("precision", own.precision, 0);
                close("recall", own.recall, 1);
                close("F1", own.f1, 2);
                close("AP", own.average_precision, 3);
                assert_eq!(own.support, expected[4].as_u64().unwrap(), "{name}: class {class}");
            }
            let confusion: Vec<Vec<u64>> = serde_json::from_value(expected["confusion"].clone()).unwrap();
            assert_eq!(got.confusion, confusion, "{name}");
        }
    }

    #[test]
    fn calibration_error_equals_its_definition() {
        for case in golden::cases("calibration") {
            let name = case["name"].as_str().unwrap();
            let mut metric = ClassificationMetric::new(case["num_classes"].as_u64().unwrap() as usize);
            for (row, truth) in golden::rows(&case["probabilities"]).iter().zip(case["truth"].as_array().unwrap()) {
                metric.add(row, truth.as_u64().map(|t| t as usize));
            }
            golden::close(name, "ECE", metric.compute().calibration_error, &case["expected"]);
        }
    }

    #[test]
    fn a_score_that_is_not_a_number_never_wins() {
        let mut metric = ClassificationMetric::new(6);
        metric.add(&[f32::NAN, 0.0, 1.0, 0.5, 0.2, 0.1], Some(0));
        let got = metric.compute();
        assert_eq!((got.top1, got.top5), (Some(0.0), Some(0.0)));
        assert_eq!(got.confusion[0][2], 1);
        assert_eq!((got.per_class[0].average_precision, got.calibration_error), (Some(1.0), Some(1.0)));
    }
}
