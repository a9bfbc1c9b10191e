//! The interfaces of metrics and their summaries.

use super::same::Same;
use super::{Label, Prediction};
use crate::draw::Canvas;
use serde_json::{Map, Value};
use std::any::Any;
use std::sync::Arc;

/// Accumulates the metric of one task. Sums run over the whole set, so that the batch size does not change the result.
pub trait Metric {
    /// Adds one image; an unlabelled image is skipped.
    fn add(&mut self, prediction: &dyn Prediction, label: &Label);

    /// The figures of all images added so far.
    fn summary(&self) -> Arc<dyn Summary>;
}

/// The figures of one task. They contain the class names and units; [`get`](#method.get) returns the kind's own type to
/// code that knows the kind.
pub trait Summary: Same {
    /// The figure that selects the best model; 1 is perfect. `None` without labels.
    fn fitness(&self) -> Option<f64>;

    /// Names and values, in display order.
    fn metrics(&self) -> Vec<(String, Option<f64>)>;

    /// The text of the figure of this name on the console.
    fn shown(&self, _metric: &str, value: f64) -> String {
        format!("{value:.3}")
    }

    /// The number of leading metrics that are printed in one line.
    fn headline(&self) -> usize {
        usize::MAX
    }

    /// The figures of each class; `None` if the kind has no classes.
    fn per_class(&self) -> Option<PerClass<'_>> {
        None
    }

    /// For each column, half the width of the prediction interval computed from these images.
    fn half_widths(&self) -> Vec<Option<f64>> {
        Vec::new()
    }

    /// The entries that the JSON report puts between the metrics and `per_class`.
    fn details(&self) -> Map<String, Value> {
        Map::new()
    }

    /// Evaluates the card's prediction intervals, given their half widths: as JSON and as sentences, each ending with
    /// `origin`.
    fn judge_intervals(&self, _half_widths: &[Option<f64>], _origin: &str) -> JudgedIntervals {
        JudgedIntervals::default()
    }

    /// The picture that goes with the figures, for a kind that has one ([`Kind::picture`](super::Kind::picture)).
    fn picture(&self, _task: &str) -> Option<Canvas> {
        None
    }
}

impl dyn Summary {
    /// The kind's own type; `None` if the figures are of another kind.
    pub fn get<T: Any>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

/// The coverage of the true values by prediction intervals.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JudgedIntervals {
    /// The figures that `--json` holds, one set per column.
    pub json: Vec<Value>,
    /// The printed lines, one per column.
    pub lines: Vec<String>,
}

/// Figures by class.
pub struct PerClass<'a> {
    /// The figure by which classes are ranked, to find the worst.
    pub rank: &'static str,
    /// One row per class.
    pub rows: Vec<ClassRow<'a>>,
}

/// The figures and counts of one class.
pub struct ClassRow<'a> {
    /// The class's name.
    pub class: &'a str,
    /// Names and values; `None` where a figure is undefined.
    pub figures: Vec<(&'static str, Option<f64>)>,
    /// The value of [`PerClass::rank`].
    pub rank: Option<f64>,
    /// Names and counts.
    pub counts: Vec<(&'static str, u64)>,
}

/// Converts the names to owned strings.
pub(super) fn named(pairs: &[(&str, Option<f64>)]) -> Vec<(String, Option<f64>)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
}
