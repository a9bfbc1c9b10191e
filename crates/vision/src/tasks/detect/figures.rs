//! Implements the metric interfaces for detection with COCO's metric.

use super::FoundBoxes;
use crate::tasks::metric::named;
use crate::tasks::metrics::boxes::{BoxMetric, BoxSummary, ClassSummary, GroundTruth};
use crate::tasks::{Boxes, ClassRow, Label, Metric, PerClass, Prediction, Summary};
use std::sync::Arc;

pub struct Figures {
    classes: Arc<[String]>,
    only: Option<Arc<[bool]>>,
    metric: BoxMetric,
}

/// COCO's twelve figures, and the figures of each class.
#[derive(Clone, Debug, PartialEq)]
pub struct DetectionFigures {
    classes: Arc<[String]>,
    only: Option<Arc<[bool]>>,
    /// COCO's figures.
    pub boxes: BoxSummary,
}

impl Figures {
    /// Labels of classes that are `false` in `only` do not count; a task that has `only` does not predict them either.
    pub fn new(classes: Arc<[String]>, only: Option<Arc<[bool]>>) -> Figures {
        Figures { metric: BoxMetric::new(classes.len()), classes, only }
    }
}

impl Metric for Figures {
    fn add(&mut self, prediction: &dyn Prediction, label: &Label) {
        let Some(boxes) = label.get::<Boxes>() else { return };
        let answer: &FoundBoxes = prediction.get().unwrap_or_else(|| unreachable!("a detection answers with boxes"));
        let counts = |class: usize| self.only.as_ref().is_none_or(|only| only[class]);
        let truth = boxes.with_regions(self.classes.len()).filter(|b| counts(b.class));
        let truth: Vec<GroundTruth> = truth.map(|b| GroundTruth::from(&b)).collect();
        self.metric.add_image(&answer.boxes, &truth);
    }

    fn summary(&self) -> Arc<dyn Summary> {
        Arc::new(DetectionFigures {
            classes: self.classes.clone(),
            only: self.only.clone(),
            boxes: self.metric.compute(),
        })
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
        let shown = |number: &usize| self.only.as_ref().is_none_or(|only| only[*number]);
        let classes = (0..self.classes.len()).filter(shown);
        let rows = classes.map(|class| row((self.classes[class].as_str(), &self.boxes.per_class[class])));
        Some(PerClass { rank: "AP", rows: rows.collect() })
    }
}
