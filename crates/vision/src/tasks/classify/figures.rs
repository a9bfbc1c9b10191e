//! Implements the metric interfaces for classification: class names, figures, and the confusion matrix plot.

use super::metric::{ClassSummary, ClassificationMetric, ClassificationSummary};
use super::{Class, Probabilities};
use crate::draw::{self, Canvas};
use crate::reading::count_of;
use crate::tasks::metric::named;
use crate::tasks::{ClassRow, Label, Metric, PerClass, Prediction, Summary};
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub struct Figures {
    classes: Arc<[String]>,
    metric: ClassificationMetric,
}

impl Figures {
    pub fn new(classes: Arc<[String]>) -> Figures {
        Figures { metric: ClassificationMetric::new(classes.len()), classes }
    }
}

impl Metric for Figures {
    fn add(&mut self, prediction: &dyn Prediction, label: &Label) {
        let Some(Class::One(class)) = label.get() else { return };
        let answer: &Probabilities =
            prediction.get().unwrap_or_else(|| unreachable!("a classification answers with probabilities"));
        self.metric.add(&answer.probabilities, Some(*class));
    }

    fn summary(&self) -> Arc<dyn Summary> {
        Arc::new(ClassificationSummary { classes: self.classes.clone(), ..self.metric.compute() })
    }
}

impl Summary for ClassificationSummary {
    fn fitness(&self) -> Option<f64> {
        self.balanced_accuracy
    }

    fn metrics(&self) -> Vec<(String, Option<f64>)> {
        let mut all = named(&[("top1", self.top1)]);
        if self.per_class.len() > 5 {
            all.extend(named(&[("top5", self.top5)]));
        }
        all.extend(named(&[
            ("balanced_accuracy", self.balanced_accuracy),
            ("precision", self.precision),
            ("recall", self.recall),
            ("f1", self.f1),
            ("ECE", self.calibration_error),
        ]));
        all
    }

    fn per_class(&self) -> Option<PerClass<'_>> {
        let row = |(class, c): (_, &ClassSummary)| ClassRow {
            class,
            figures: vec![("precision", c.precision), ("recall", c.recall), ("f1", c.f1), ("AP", c.average_precision)],
            rank: c.f1,
            counts: vec![("support", c.support)],
        };
        let classes = self.classes.iter().map(String::as_str);
        Some(PerClass { rank: "f1", rows: classes.zip(&self.per_class).map(row).collect() })
    }

    fn details(&self) -> Map<String, Value> {
        Map::from_iter([
            ("classes".to_owned(), json!(&self.classes[..])),
            ("confusion".to_owned(), json!(self.confusion)),
        ])
    }

    fn picture(&self, task: &str) -> Option<Canvas> {
        let title = format!("{task} ({})", count_of(self.count as usize, "image"));
        Some(draw::confusion(&title, &self.classes, &self.confusion))
    }
}
