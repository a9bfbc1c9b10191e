//! Regression: one or several real values per image.

mod answer;
mod declare;
mod figures;
mod label;
pub mod metric;
mod narrow;

pub use answer::Amounts;
pub use figures::ColumnFigures;
pub use label::Values;

use super::coverage::TaskReport;
use super::head::{POOLED_LAYER, pooled_linear};
use super::loss_card::LossCard;
use super::{
    Content, Depiction, Encoding, HeadValues, Interpreting, Invariances, Kind, Label, Likelihood, LossSite, Metric,
    Prediction, Standardisation, Target, TargetArray, Task, TaskCard, TaskLoss, TaskSpec, Trunk,
};
use crate::error::Result;
use crate::ir::{DType, ValueLossForm};
use crate::layers::Builder;
use crate::ops::value_loss;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// The kind of all regression tasks.
pub static KIND: Kind = Kind {
    card_word: "regress",
    yaml_word: "regress",
    flag: None,
    declared_as: "`type: regress`",
    title: "regression",
    fitness: "R²",
    fitness_metric: "R2",
    content: Content::Values,
    keys: declare::KEYS,
    // A value may be a sum or a size, which changes if the picture is cropped or scaled.
    invariances: |_| Invariances { crop: false, scale: false, joining: false, mixing: false },
    declare: declare::declare,
    undeclared: declare::undeclared,
    read,
    synthetic,
    picture: Some("scatter"),
};

/// A regression task with its columns, units and loss.
#[derive(Clone, Debug, PartialEq)]
pub struct Regress {
    /// The names of the columns.
    pub columns: Arc<[String]>,
    /// The unit of each column; an empty string means no unit.
    pub units: Arc<[String]>,
    /// The loss as a function of the error.
    pub loss: ValueLossForm,
}

impl Regress {
    /// A task without units.
    pub fn new(columns: Vec<String>) -> Regress {
        let units = vec![String::new(); columns.len()];
        Regress { columns: columns.into(), units: units.into(), loss: ValueLossForm::default() }
    }
}

fn read(card: TaskCard) -> Result<Arc<dyn TaskSpec>, String> {
    let RegressCard { columns, units, loss } = card.read()?;
    Ok(Arc::new(Regress { columns: columns.into(), units: units.into(), loss: loss.values }))
}

/// The kind's own part of a card.
#[derive(Serialize, Deserialize)]
struct RegressCard {
    columns: Vec<String>,
    units: Vec<String>,
    #[serde(default, skip_serializing_if = "LossCard::is_default")]
    loss: LossCard,
}

fn synthetic() -> Task {
    Task::new("value", Regress::new(vec!["value".into()]))
}

impl TaskSpec for Regress {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn write(&self, card: &mut TaskCard) {
        let loss = LossCard { values: self.loss, ..LossCard::default() };
        card.write(&RegressCard { columns: self.columns.to_vec(), units: self.units.to_vec(), loss });
    }

    fn asks_the_same(&self, other: &dyn TaskSpec) -> bool {
        // The name of a single column may differ, because the task's name says what it is.
        let is_same = |other: &Regress| {
            self.columns == other.columns || [&self.columns, &other.columns].map(|c| c.len()) == [1; 2]
        };
        other.get::<Regress>().is_some_and(is_same)
    }

    fn head(&self, b: &mut Builder, name: &str, trunk: &Trunk) -> Result<HeadValues> {
        pooled_linear(b, name, trunk, self.columns.len())
    }

    fn output_layer(&self) -> &'static str {
        POOLED_LAYER
    }

    /// Target: f32 `[N, R]`, standardised, NaN unlabelled.
    fn loss(&self, site: LossSite) -> Result<TaskLoss> {
        let name = site.input("target");
        let LossSite { graph, index, head, .. } = site;
        let values = head.outputs[0];
        let shape = graph.shape(values).to_vec();
        let target = graph.input(&name, &shape, DType::F32);
        let loss = value_loss::value_loss(graph, values, target, self.loss, index)?;
        Ok(TaskLoss { loss, inputs: vec![Some(target)], constants: Vec::new(), least_denominator: 0.0 })
    }

    /// With several columns, the mean of their squared deviations, so that no column counts more than another.
    fn plain_loss_factor(&self, standardisation: Option<&Standardisation>) -> f64 {
        let squares = |fitted: &Standardisation| fitted.deviation.iter().map(|d| d * d).sum::<f64>();
        standardisation.map_or(1.0, |fitted| squares(fitted) / fitted.deviation.len().max(1) as f64)
    }

    fn likelihood(&self) -> Likelihood {
        Likelihood::Gaussian
    }

    fn fit(&self, labels: &mut dyn Iterator<Item = &Label>) -> Option<Standardisation> {
        let rows: Vec<&[f64]> = labels.filter_map(label::values_of).collect();
        Some(Standardisation::fit(self.columns.len(), rows.iter().copied()))
    }

    fn encode(&self, label: &Label, encoding: &Encoding) -> Target {
        let target: Vec<f32> = match label::values_of(label) {
            Some(values) => {
                let standardised = |(column, &v): (usize, &f64)| match encoding.standardisation {
                    Some(fitted) => fitted.apply(v, column),
                    None => v as f32,
                };
                values.iter().enumerate().map(standardised).collect()
            }
            None => vec![f32::NAN; self.columns.len()],
        };
        let labelled = target.iter().filter(|v| !v.is_nan()).count();
        Target { arrays: vec![TargetArray::F32(target)], denominator: labelled as f32, active: labelled > 0 }
    }

    fn interpret(&self, interpreting: &Interpreting) -> Box<dyn Prediction> {
        let row = interpreting.row(0, self.columns.len());
        let (values, deviations) = match interpreting.standardisation {
            Some(fitted) => {
                let undone = row.iter().enumerate().map(|(column, &v)| fitted.undo(v, column));
                (undone.collect(), fitted.deviation.clone())
            }
            None => (row.iter().copied().map(f64::from).collect(), vec![1.0; row.len()]),
        };
        let half_widths = interpreting.half_widths.to_vec();
        Box::new(Amounts { values, units: self.units.clone(), deviations, half_widths })
    }

    fn metric(&self) -> Box<dyn Metric> {
        Box::new(figures::Figures::new(self))
    }

    fn table(&self, task: &str) -> Vec<String> {
        match &self.columns[..] {
            [_] => vec![task.to_owned()],
            several => several.iter().map(|column| format!("{task}.{column}")).collect(),
        }
    }

    fn depict(&self, label: &Label) -> Depiction {
        Depiction { caption: Some(label::words(self, label)), boxes: Vec::new() }
    }

    fn count(&self, _: &Label, split: usize, report: &mut TaskReport) {
        report.splits[split].labelled += 1;
    }

    fn summarise(&self, training: &mut dyn Iterator<Item = &Label>, report: &mut TaskReport) {
        label::summarise(self, training, report);
    }

    fn columns(&self) -> Option<&[String]> {
        Some(&self.columns)
    }

    fn units(&self) -> Option<&[String]> {
        Some(&self.units)
    }

    fn to_json(&self, label: &Label) -> Option<Vec<Value>> {
        label::to_json(label)
    }

    fn synthetic_label(&self, _: usize, index: usize) -> Label {
        Label::of(Values::from(&vec![index as f64 / 8.0; self.columns.len()][..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Geometry;
    use crate::tasks::{DecodeOptions, HeadOutput};

    fn label(value: f64) -> Label {
        Label::of(Values::from(&[value][..]))
    }

    /// The predictions of a task that is fitted to `labels`, for these outputs of the network.
    fn predictions(task: &Regress, labels: &[Label], outputs: Vec<f32>) -> Vec<Box<dyn Prediction>> {
        let fitted = task.fit(&mut labels.iter());
        let output = HeadOutput { values: vec![outputs], levels: Vec::new() };
        let options = DecodeOptions::default();
        let geometry = &Geometry { source: [64; 2], size: 64, scale: [1.0; 2], offset: [0.0; 2], flip: false };
        let (standardisation, half_widths, options) = (fitted.as_ref(), &[Some(0.5)][..], &options);
        let of = |index| Interpreting { output: &output, index, geometry, standardisation, half_widths, options };
        (0..labels.len()).map(|index| task.interpret(&of(index))).collect()
    }

    /// In f32 all of these labels and predictions are the same two numbers, and R² was 1.
    #[test]
    fn times_in_seconds_since_1970_are_judged_by_their_own_spread() {
        let task = Regress::new(vec!["time".into()]);
        let seconds: Vec<f64> = (0..60).map(f64::from).collect();
        let labels: Vec<Label> = seconds.iter().map(|second| label(1.7e9 + second)).collect();
        // Off by several deviations.
        let outputs = (0..60).map(|i| 6.0 * (i as f32).sin() - 2.0).collect();
        let answers = predictions(&task, &labels, outputs);
        let mut metric = task.metric();
        answers.iter().zip(&labels).for_each(|(answer, label)| metric.add(&**answer, label));
        let summary = metric.summary();
        let figures = &summary.get::<ColumnFigures>().unwrap().columns[0];
        // The same in numbers without the large part, whose subtraction is exact.
        let errors = answers.iter().zip(&seconds).map(|(answer, second)| {
            let amounts: &Amounts = answer.get().unwrap();
            amounts.values[0] - 1.7e9 - second
        });
        let errors: Vec<f64> = errors.collect();
        let residual: f64 = errors.iter().map(|error| error * error).sum();
        let total: f64 = seconds.iter().map(|second| (second - 29.5).powi(2)).sum();
        let expected = 1.0 - residual / total;
        let r2 = figures.r2.unwrap();
        assert!(r2 < -10.0 && (r2 / expected - 1.0).abs() < 1e-9, "{r2}, expected {expected}");
        let mae = errors.iter().map(|error| error.abs()).sum::<f64>() / 60.0;
        assert!((figures.mae.unwrap() / mae - 1.0).abs() < 1e-9, "{:?}, expected {mae}", figures.mae);
        // A target is the distance from the mean in deviations, rounded once.
        let fitted = task.fit(&mut labels.iter());
        let target = task.encode(&labels[7], &Encoding { levels: &[], standardisation: fitted.as_ref() });
        let deviation = (total / 60.0).sqrt();
        assert_eq!(target.arrays, [TargetArray::F32(vec![((7.0 - 29.5) / deviation) as f32])]);
    }

    #[test]
    fn an_answer_has_the_digits_of_its_deviation() {
        let task = Regress::new(vec!["size".into()]);
        for (mean, deviation) in [(7e-7, 1e-9), (1.7e9, 60.0), (11.8, 3.25), (-4e5, 2e7)] {
            let labels = [label(mean - deviation), label(mean + deviation)];
            for answer in predictions(&task, &labels, vec![0.123_456_79, -1.5]) {
                let exact = answer.get::<Amounts>().unwrap().values[0];
                let json: Value = serde_json::from_str(&answer.to_json().to_string()).unwrap();
                let [written, low, high] =
                    [&json["values"][0], &json["interval"][0][0], &json["interval"][0][1]].map(|v| v.as_f64().unwrap());
                // The last place is at most a millionth of a deviation, but never above 1.
                let step = 1e-6 * deviation;
                assert!((written - exact).abs() <= 0.5 * step.max(1.0), "{json}: {exact}");
                assert!((written - exact).abs() <= 0.5 * step * 1.01 || step > 1.0, "{json}: {exact}");
                assert!((low - (exact - 0.5)).abs() <= step && (high - (exact + 0.5)).abs() <= step, "{json}: {exact}");
                let cells = answer.cells();
                assert_eq!(cells[0].parse::<f64>().unwrap(), written, "{cells:?}");
                // Noise of the computation is not written.
                let digits = cells[0].split(['e', 'E']).next().unwrap().chars().filter(char::is_ascii_digit).count();
                assert!(digits <= 17, "{cells:?}");
            }
        }
        let answers = predictions(&task, &[label(6.8e-7), label(7.2e-7)], vec![0.5, 0.0]);
        assert_eq!(answers[0].caption().unwrap().trim(), "7.100e-7");
        assert_eq!(answers[0].cells(), ["7.1e-7"]);
    }

    #[test]
    fn errors_are_shown_with_significant_digits() {
        let summary = Regress::new(vec!["a/b".into(), "c".into()]).metric().summary();
        assert_eq!(summary.shown("a/b/MAE", 7.123_4e-7), "7.123e-7");
        assert_eq!(summary.shown("RMSE", 43_612.3), "43612");
        assert_eq!(summary.shown("c/R2", -43.612_3), "-43.612");
    }
}
