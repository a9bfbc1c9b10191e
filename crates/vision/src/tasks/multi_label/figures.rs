//! Implements the metric interfaces for multi-label classification.

use super::metric::{LabelSummary, MultiLabelMetric, MultiLabelSummary};
use super::{Classes, LabelProbabilities};
use crate::tasks::metric::named;
use crate::tasks::{ClassRow, Label, Metric, PerClass, Prediction, Summary};
use std::sync::Arc;

pub struct Figures {
    classes: Arc<[String]>,
    metric: MultiLabelMetric,
}

impl Figures {
    pub fn new(classes: Arc<[String]>) -> Figures {
        Figures { metric: MultiLabelMetric::new(classes.len()), classes }
    }
}

impl Metric for Figures {
    fn add(&mut self, prediction: &dyn Prediction, label: &Label) {
        let Some(truth) = label.get::<Classes>() else { return };
        let answer: &LabelProbabilities =
            prediction.get().unwrap_or_else(|| unreachable!("a multi-label task answers with probabilities"));
        self.metric.add(&answer.probabilities, truth);
    }

    fn summary(&self) -> Arc<dyn Summary> {
        Arc::new(MultiLabelSummary { classes: self.classes.clone(), ..self.metric.compute() })
    }
}

impl Summary for MultiLabelSummary {
    fn fitness(&self) -> Option<f64> {
        self.map
    }

    fn metrics(&self) -> Vec<(String, Option<f64>)> {
        named(&[("mAP", self.map), ("f1", self.f1)])
    }

    fn per_class(&self) -> Option<PerClass<'_>> {
        let row = |(class, c): (_, &LabelSummary)| ClassRow {
            class,
            figures: vec![("AP", c.ap), ("f1", c.f1)],
            rank: c.ap,
            counts: vec![("labelled", c.labelled as u64), ("count", c.count as u64)],
        };
        let classes = self.classes.iter().map(String::as_str);
        Some(PerClass { rank: "AP", rows: classes.zip(&self.per_class).map(row).collect() })
    }
}
