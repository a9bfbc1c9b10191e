//! The interfaces of every kind's metric and its summary, which judge answers.

use super::same::Same;
use super::{Label, Prediction};
use crate::draw::Canvas;
use serde_json::{Map, Value};
use std::any::Any;
use std::sync::Arc;

/// One task's figures while images are coming in: sums over the whole set, so that the batch size changes nothing.
pub trait Metric {
    /// Counts one image; nothing if it is unlabelled.
    fn add(&mut self, prediction: &dyn Prediction, label: &Label);

    /// The figures of all images that were added so far.
    fn summary(&self) -> Arc<dyn Summary>;
}

/// The figures of one task's answers. It knows its classes' names and its units; [`get`](#method.get) gives the kind's own
/// figures to whoever knows the kind.
pub trait Summary: Same {
    /// The figure that selects the best model, 1 at best; `None` without labels.
    fn fitness(&self) -> Option<f64>;

    /// Names and values, in the order people read them.
    fn metrics(&self) -> Vec<(String, Option<f64>)>;

    /// The number of metrics, from the first, that are printed in one line.
    fn headline(&self) -> usize {
        usize::MAX
    }

    /// Class by class; `None` where the kind has no classes.
    fn per_class(&self) -> Option<PerClass<'_>> {
        None
    }

    /// Per column half the width of the prediction intervals that these images make.
    fn half_widths(&self) -> Vec<Option<f64>> {
        Vec::new()
    }

    /// The entries between the metrics and `per_class` in the report's JSON.
    fn details(&self) -> Map<String, Value> {
        Map::new()
    }

    /// Judges the card's intervals, whose half widths these are: for the JSON, and as sentences, each of which `origin` ends.
    fn judge_intervals(&self, _half_widths: &[Option<f64>], _origin: &str) -> JudgedIntervals {
        JudgedIntervals::default()
    }

    /// The picture that explains the figures, for a kind that has one ([`Kind::picture`](super::Kind::picture)).
    fn picture(&self, _task: &str) -> Option<Canvas> {
        None
    }
}

impl dyn Summary {
    /// The kind's own figures, `None` if they are of another kind.
    pub fn get<T: Any>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

/// The comparison of prediction intervals with the truths.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JudgedIntervals {
    /// The figures that `--json` holds, one set per column.
    pub json: Vec<Value>,
    /// The printed lines, one per column.
    pub lines: Vec<String>,
}

/// Figures class by class.
pub struct PerClass<'a> {
    /// The figure that says which class is worst.
    pub rank: &'static str,
    /// One for each class.
    pub rows: Vec<ClassRow<'a>>,
}

/// Names, values and how many there are of one class.
pub struct ClassRow<'a> {
    /// The class's name.
    pub class: &'a str,
    /// Names and values; `None` where a figure is undefined.
    pub figures: Vec<(&'static str, Option<f64>)>,
    /// The value of [`PerClass::rank`].
    pub rank: Option<f64>,
    /// Names and numbers.
    pub counts: Vec<(&'static str, u64)>,
}

/// Names as texts.
pub(super) fn named(pairs: &[(&str, Option<f64>)]) -> Vec<(String, Option<f64>)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
}
