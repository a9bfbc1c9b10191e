//! Implements the metric interfaces for regression: figures, scatter plots, and the evaluation of prediction intervals.

use super::metric::{INTERVAL_COVERAGE, RegressionMetric, RegressionSummary};
use super::{Amounts, Regress, Values};
use crate::draw::{self, Canvas};
use crate::tasks::{JudgedIntervals, Label, Metric, Prediction, Summary, significant};
use serde_json::json;
use std::sync::Arc;

/// The most scatter plots drawn side by side for one task.
const SCATTERS: usize = 3;
/// The names of the figures in the unit of the values.
const MAE: &str = "MAE";
const RMSE: &str = "RMSE";

pub struct Figures {
    task: Regress,
    metric: RegressionMetric,
}

/// The figures of each column.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnFigures {
    task: Regress,
    /// One per column.
    pub columns: Vec<RegressionSummary>,
}

impl Figures {
    pub fn new(task: &Regress) -> Figures {
        Figures { task: task.clone(), metric: RegressionMetric::new(task.columns.len()) }
    }
}

impl Metric for Figures {
    fn add(&mut self, prediction: &dyn Prediction, label: &Label) {
        let Some(truth) = label.get::<Values>() else { return };
        let answer: &Amounts = prediction.get().unwrap_or_else(|| unreachable!("a regression answers with amounts"));
        self.metric.add(&answer.values, Some(truth));
    }

    fn summary(&self) -> Arc<dyn Summary> {
        Arc::new(ColumnFigures { task: self.task.clone(), columns: self.metric.compute() })
    }
}

impl Summary for ColumnFigures {
    /// The mean R² over the columns.
    fn fitness(&self) -> Option<f64> {
        let known: Vec<f64> = self.columns.iter().filter_map(|c| c.r2).collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    }

    /// With several columns, each metric name is prefixed with its column's name.
    fn metrics(&self) -> Vec<(String, Option<f64>)> {
        let one = self.columns.len() == 1;
        let of = |(summary, name): (&RegressionSummary, &String)| {
            let key = |metric: &str| if one { metric.to_owned() } else { format!("{name}/{metric}") };
            [
                (key(MAE), summary.mae),
                (key(RMSE), summary.rmse),
                (key("R2"), summary.r2),
                (key("spearman"), summary.spearman),
            ]
        };
        self.columns.iter().zip(&self.task.columns[..]).flat_map(of).collect()
    }

    /// Errors have the unit of the values, and so any magnitude.
    fn shown(&self, metric: &str, value: f64) -> String {
        let name = metric.rsplit('/').next().unwrap_or(metric);
        if [MAE, RMSE].contains(&name) { significant(value) } else { format!("{value:.3}") }
    }

    fn half_widths(&self) -> Vec<Option<f64>> {
        self.columns.iter().map(|c| c.half_width).collect()
    }

    fn judge_intervals(&self, half_widths: &[Option<f64>], origin: &str) -> JudgedIntervals {
        let mut judged = JudgedIntervals::default();
        let named = self.task.columns.iter().zip(&self.task.units[..]);
        for ((summary, half_width), (column, unit)) in self.columns.iter().zip(half_widths).zip(named) {
            let coverage = half_width.and_then(|half_width| summary.coverage(half_width));
            judged.json.push(json!({"half_width": half_width, "coverage": coverage}));
            if let (Some(half_width), Some(coverage)) = (half_width, coverage) {
                let (meant, held) = (100.0 * INTERVAL_COVERAGE, 100.0 * coverage);
                let width = format!("{} {unit}", significant(*half_width));
                judged.lines.push(format!(
                    "{column} ± {}: {meant:.0} % intervals contain {held:.1} % of the true values{origin}",
                    width.trim()
                ));
            }
        }
        judged
    }

    fn picture(&self, _: &str) -> Option<Canvas> {
        let one = |(summary, (name, unit)): (&RegressionSummary, (&String, &String))| {
            let unit = if unit.is_empty() { String::new() } else { format!(" in {unit}") };
            draw::scatter(&format!("{name}{unit} ({} images)", summary.count), &summary.pairs)
        };
        let named = self.task.columns.iter().zip(&self.task.units[..]);
        let mut pictures: Vec<Canvas> = self.columns.iter().zip(named).map(one).collect();
        Some(if pictures.len() == 1 { pictures.remove(0) } else { draw::grid(&pictures, SCATTERS) })
    }
}
