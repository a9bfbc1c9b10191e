//! Regression: one or several real values per image.

mod answer;
mod declare;
mod figures;
mod label;
pub mod metric;

pub use answer::Amounts;
pub use figures::ColumnFigures;
pub use label::Values;

use super::coverage::TaskReport;
use super::head::pooled_linear;
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
        other.get::<Regress>().is_some_and(|other| self.columns.len() == other.columns.len())
    }

    fn head(&self, b: &mut Builder, name: &str, trunk: &Trunk) -> Result<HeadValues> {
        pooled_linear(b, name, trunk, self.columns.len())
    }

    /// Target: f32 `[N, R]`, standardised, NaN unlabelled.
    fn loss(&self, site: LossSite) -> Result<TaskLoss> {
        let name = site.input("target");
        let LossSite { graph, index, head, .. } = site;
        let values = head.outputs[0];
        let shape = graph.shape(values).to_vec();
        let target = graph.input(&name, &shape, DType::F32);
        let loss = value_loss::value_loss(graph, values, target, self.loss, index)?;
        Ok(TaskLoss { loss, inputs: vec![Some(target)], constants: Vec::new() })
    }

    fn likelihood(&self) -> Likelihood {
        Likelihood::Gaussian
    }

    fn fit(&self, labels: &mut dyn Iterator<Item = &Label>) -> Option<Standardisation> {
        let rows: Vec<&[f32]> = labels.filter_map(label::values_of).collect();
        Some(Standardisation::fit(self.columns.len(), rows.iter().copied()))
    }

    fn encode(&self, label: &Label, encoding: &Encoding) -> Target {
        let target: Vec<f32> = match label::values_of(label) {
            Some(values) => {
                let standardised =
                    |(column, &v): (usize, &f32)| encoding.standardisation.map_or(v, |fitted| fitted.apply(v, column));
                values.iter().enumerate().map(standardised).collect()
            }
            None => vec![f32::NAN; self.columns.len()],
        };
        let labelled = target.iter().filter(|v| !v.is_nan()).count();
        Target { arrays: vec![TargetArray::F32(target)], denominator: labelled as f32, active: labelled > 0 }
    }

    fn interpret(&self, interpreting: &Interpreting) -> Box<dyn Prediction> {
        let row = interpreting.row(0, self.columns.len()).iter().enumerate();
        let undone = row.map(|(column, &v)| match interpreting.standardisation {
            Some(fitted) => fitted.undo(v, column),
            None => v,
        });
        let half_widths = interpreting.half_widths.to_vec();
        Box::new(Amounts { values: undone.collect(), units: self.units.clone(), half_widths })
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

    fn to_json(&self, label: &Label) -> Option<Vec<Value>> {
        label::to_json(label)
    }

    fn synthetic_label(&self, _: usize, index: usize) -> Label {
        Label::of(Values::from(&vec![index as f32 / 8.0; self.columns.len()][..]))
    }
}
