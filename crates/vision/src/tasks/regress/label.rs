//! The values of an image as a label: statistics, and its display and JSON forms.

use super::Regress;
use crate::tasks::coverage::{TaskReport, ValueReport};
use crate::tasks::standardisation::Spread;
use crate::tasks::written::written_value;
use crate::tasks::{Label, LabelValue};
use serde_json::Value;
use std::ops::Deref;

/// One value per column; NaN is unlabelled.
#[derive(Clone, Debug, PartialEq)]
pub struct Values(Numbers);

/// Most labels have a single value, which needs no allocation; there may be a million labels.
#[derive(Clone, Debug, PartialEq)]
enum Numbers {
    One(f64),
    Several(Box<[f64]>),
}

impl From<&[f64]> for Values {
    fn from(values: &[f64]) -> Values {
        match values {
            [one] => Values(Numbers::One(*one)),
            several => Values(Numbers::Several(several.into())),
        }
    }
}

impl Deref for Values {
    type Target = [f64];

    fn deref(&self) -> &[f64] {
        match &self.0 {
            Numbers::One(one) => std::slice::from_ref(one),
            Numbers::Several(several) => several,
        }
    }
}

impl LabelValue for Values {}

/// `None` for an unlabelled image.
pub fn values_of(label: &Label) -> Option<&[f64]> {
    label.value()?;
    let values: &Values = label.get().unwrap_or_else(|| unreachable!("a regression's labels are values"));
    Some(values)
}

pub fn words(task: &Regress, label: &Label) -> String {
    let part = |((value, unit), column): ((&f64, &String), &String)| {
        let name = if task.columns.len() > 1 { format!("{column} ") } else { String::new() };
        format!("{name}{value} {unit}").trim_end().to_string()
    };
    let values = values_of(label).unwrap_or_default().iter();
    let parts: Vec<String> = values.zip(&task.units[..]).zip(&task.columns[..]).map(part).collect();
    parts.join(", ")
}

pub fn to_json(label: &Label) -> Option<Vec<Value>> {
    values_of(label).map(|values| values.iter().map(|v| written_value(*v)).collect())
}

/// The range and the mean of each column over the training split.
pub fn summarise(task: &Regress, training: &mut dyn Iterator<Item = &Label>, report: &mut TaskReport) {
    let rows: Vec<&[f64]> = training.filter_map(values_of).collect();
    let of_column = |(i, (name, unit)): (usize, (&String, &String))| {
        let Spread { least, mean, greatest, .. } = Spread::of(rows.iter().map(|row| row[i]))?;
        Some(ValueReport { name: name.clone(), unit: unit.clone(), least, mean, greatest })
    };
    report.values = task.columns.iter().zip(&task.units[..]).enumerate().filter_map(of_column).collect();
}
