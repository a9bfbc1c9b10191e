//! The values of an image as a label: statistics, and its display and JSON forms.

use super::Regress;
use crate::tasks::coverage::{TaskReport, ValueReport};
use crate::tasks::{Label, LabelValue, written_number};
use serde_json::Value;
use std::ops::Deref;

/// One value per column; NaN is unlabelled.
#[derive(Clone, Debug, PartialEq)]
pub struct Values(Numbers);

/// Most labels have a single value, which needs no allocation; there may be a million labels.
#[derive(Clone, Debug, PartialEq)]
enum Numbers {
    One(f32),
    Several(Box<[f32]>),
}

impl From<&[f32]> for Values {
    fn from(values: &[f32]) -> Values {
        match values {
            [one] => Values(Numbers::One(*one)),
            several => Values(Numbers::Several(several.into())),
        }
    }
}

impl Deref for Values {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &self.0 {
            Numbers::One(one) => std::slice::from_ref(one),
            Numbers::Several(several) => several,
        }
    }
}

impl LabelValue for Values {}

/// `None` for an unlabelled image.
pub fn values_of(label: &Label) -> Option<&[f32]> {
    label.value()?;
    let values: &Values = label.get().unwrap_or_else(|| unreachable!("a regression's labels are values"));
    Some(values)
}

pub fn words(task: &Regress, label: &Label) -> String {
    let part = |((value, unit), column): ((&f32, &String), &String)| {
        let name = if task.columns.len() > 1 { format!("{column} ") } else { String::new() };
        format!("{name}{value} {unit}").trim_end().to_string()
    };
    let values = values_of(label).unwrap_or_default().iter();
    let parts: Vec<String> = values.zip(&task.units[..]).zip(&task.columns[..]).map(part).collect();
    parts.join(", ")
}

pub fn to_json(label: &Label) -> Option<Vec<Value>> {
    values_of(label).map(|values| values.iter().map(|v| written_number(*v)).collect())
}

/// The range and the mean of each column over the training split.
pub fn summarise(task: &Regress, training: &mut dyn Iterator<Item = &Label>, report: &mut TaskReport) {
    let rows: Vec<&[f32]> = training.filter_map(values_of).collect();
    let of_column = |(i, (name, unit)): (usize, (&String, &String))| {
        let values = || rows.iter().map(|row| row[i]);
        let mean = values().map(f64::from).sum::<f64>() / rows.len().max(1) as f64;
        ValueReport {
            name: name.clone(),
            unit: unit.clone(),
            least: values().fold(f32::INFINITY, f32::min),
            mean: mean as f32,
            greatest: values().fold(f32::NEG_INFINITY, f32::max),
        }
    };
    report.values = task.columns.iter().zip(&task.units[..]).enumerate().map(of_column).collect();
}
