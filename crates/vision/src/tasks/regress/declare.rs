//! The declaration of a regression, and the conversion of table values to labels.

use super::label::values_of;
use super::{Regress, Values, narrow};
use crate::error::Result;
use crate::ir::ValueLossForm;
use crate::reading::yaml::list;
use crate::reading::{Raw, did_you_mean};
use crate::tasks::declare::{Block, Declared, Keys, Messages, Readings, Resolved, TaskContext};
use crate::tasks::{Label, TaskSpec};
use std::sync::Arc;

pub const KEYS: &[&str] = &["unit", "units", "range", "loss"];

#[derive(Clone, Debug, Default)]
pub struct Units {
    units: Vec<String>,
    loss: ValueLossForm,
}

pub fn declare(block: &Block) -> Result<Arc<dyn Declared>> {
    if block.get("names").is_some() {
        let (at, name) = (["tasks", block.task, "names"], block.task);
        let message = format!("task `{name}` is a regression and has no classes: remove `names:`, or use `unit:`");
        return Err(block.yaml.error(&at, message));
    }
    let units = match block.texts("unit")? {
        Some(unit) => unit,
        None => block.texts("units")?.unwrap_or_default(),
    };
    let loss = match block.get("loss") {
        None => ValueLossForm::Huber,
        Some(value) => match block.yaml.text_of(value, &["tasks", block.task, "loss"])?.as_str() {
            "huber" => ValueLossForm::Huber,
            "mse" => ValueLossForm::Mse,
            other => {
                let hint = did_you_mean(other, ["huber", "mse"]);
                return Err(block.error("loss", &format!("`loss: {other}` is neither `huber` nor `mse`{hint}")));
            }
        },
    };
    Ok(Arc::new(Units { units, loss }))
}

pub fn undeclared() -> Arc<dyn Declared> {
    Arc::new(Units::default())
}

impl Declared for Units {
    fn keys(&self, reading: Keys) -> Keys {
        let units = (!self.units.is_empty()).then(|| ("units", list(&self.units)));
        let loss = (self.loss == ValueLossForm::Mse).then(|| ("loss", "mse".into()));
        units.into_iter().chain(reading).chain(loss).collect()
    }

    /// Lists the units of each column, if there are any.
    fn rewritten(&self, task: &dyn TaskSpec) -> Option<Arc<dyn Declared>> {
        let task: &Regress = task.get().unwrap_or_else(|| unreachable!("a regression was declared"));
        let units = if task.units.iter().all(String::is_empty) { Vec::new() } else { task.units.to_vec() };
        Some(Arc::new(Units { units, loss: self.loss }))
    }

    fn resolve(&self, context: &TaskContext, readings: &Readings, _: &mut Messages) -> Result<Resolved> {
        let labelled = readings.all.iter().filter_map(|reading| match &reading.raw {
            Raw::Values(values) => Some((values.len(), &reading.place)),
            Raw::Unlabelled | Raw::Class(_) | Raw::Names(_) | Raw::Flags(_) | Raw::Boxes(_) => None,
        });
        let any_labelled = readings.all[..readings.class_images].iter().any(|r| matches!(r.raw, Raw::Values(_)));
        let Some((length, first)) = labelled.clone().next().filter(|_| any_labelled) else {
            return Err(context.no_labels());
        };
        if let Some((other, place)) = labelled.clone().find(|(n, _)| *n != length) {
            let message = format!(
                "{other} values, but {length} on line {}: every row needs the same number",
                first.spot.line_number().unwrap_or(0)
            );
            return Err(place.error(message));
        }
        let columns: Vec<String> = match context.columns {
            [one] if length > 1 => (0..length).map(|i| format!("{one}[{i}]")).collect(),
            columns if columns.len() == length => columns.to_vec(),
            _ => (0..length).map(|i| format!("{}[{i}]", context.name)).collect(),
        };
        let units = match self.units.len() {
            0 => vec![String::new(); length],
            1 => vec![self.units[0].clone(); length],
            n if n == length => self.units.clone(),
            n => {
                return Err(
                    context.error(&format!("{n} units for {length} values: give one for all, or one per value"))
                );
            }
        };
        let labels = readings.all.iter().map(|reading| match &reading.raw {
            Raw::Values(values) => Label::of(Values::from(values.as_slice())),
            Raw::Unlabelled | Raw::Class(_) | Raw::Names(_) | Raw::Flags(_) | Raw::Boxes(_) => Label::UNLABELLED,
        });
        let labels = labels.collect();
        Ok((Arc::new(Regress { units: units.into(), loss: self.loss, ..Regress::new(columns) }), labels))
    }

    fn trained(
        &self,
        context: &TaskContext,
        task: Arc<dyn TaskSpec>,
        training: &[&Label],
        messages: &mut Messages,
    ) -> Result<Arc<dyn TaskSpec>> {
        let rows: Vec<&[f64]> = training.iter().filter_map(|label| values_of(label)).collect();
        let columns = task.columns().unwrap_or_default();
        messages.problems.extend(narrow::problems(context.name, columns, rows.iter().copied()));
        Ok(task)
    }
}
