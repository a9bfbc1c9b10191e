//! Implements the metric interfaces for detection with COCO's metric.

use super::FoundBoxes;
use crate::tasks::metric::named;
use crate::tasks::metrics::boxes::{BoxMetric, BoxSummary, ClassSummary, GroundTruth};
use crate::tasks::{Boxes, ClassRow, Label, Metric, PerClass, Prediction, Summary};
use std::sync::Arc;

pub struct Figures {
    classes: Arc<[String]>,
    metric: BoxMetric,
}

/// COCO's twelve figures, and the figures of each class.
#[derive(Clone, Debug, PartialEq)]
pub struct DetectionFigures {
    classes: Arc<[String]>,
    /// COCO's figures.
    pub boxes: BoxSummary,
}

impl Figures {
    pub fn new(classes: Arc<[String]>) -> Figures {
        Figures { metric: BoxMetric::new(classes.len()), classes }
    }
}

impl Metric for Figures {
    fn add(&mut self, prediction: &dyn Prediction, label: &Label) {
        let Some(boxes) = label.get::<Boxes>() else { return };
        let answer: &FoundBoxes = prediction.get().unwrap_or_else(|| unreachable!("a detection answers with boxes"));
        let truth: Vec<GroundTruth> = boxes.with_regions(self.classes.len()).map(|b| GroundTruth::from(&b)).collect();
        self.metric.add_image(&answer.boxes, &truth);
    }

    fn summary(&self) -> Arc<dyn Summary> {
        Arc::new(DetectionFigures { classes: self.classes.clone(), boxes: self.metric.compute() })
    }
}

impl Summary for DetectionFigures {
    fn fitness(&self) -> Option<f64> {
        self.boxes.ap
    }

    fn metrics(&self) -> Vec<(String, Option<f64>)> {
        named(&self.boxes.twelve())
    }

    /// AP, AP50, AP75.
    fn headline(&self) -> usize {
        3
    }

    fn per_class(&self) -> Option<PerClass<'_>> {
        let row = |(class, c): (_, &ClassSummary)| ClassRow {
            class,
            figures: vec![("AP", c.ap), ("AP50", c.ap50)],
            rank: c.ap,
            counts: vec![("count", c.count as u64)],
        };
        let classes = self.classes.iter().map(String::as_str);
        Some(PerClass { rank: "AP", rows: classes.zip(&self.boxes.per_class).map(row).collect() })
    }
}
