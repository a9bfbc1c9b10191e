//! Numbers by task, as `--task-weight` and `--lr-head` take them: parsing, lookup, and their form in files.

use crate::data::ranges::at_least_0;
use crate::error::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;

/// Writes a list of numbers by task to files as a block of `task: number`.
pub fn serialize<S: Serializer>(list: &[(String, f32)], to: S) -> Result<S::Ok, S::Error> {
    list.iter().map(|(task, number)| (task, number)).collect::<BTreeMap<_, _>>().serialize(to)
}

/// Reads what [`serialize`] wrote.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(String, f32)>, D::Error> {
    Ok(BTreeMap::deserialize(from)?.into_iter().collect())
}

/// The number of `task` in a list of numbers by task.
pub fn number_of(task: &str, list: &[(String, f32)]) -> Option<f32> {
    list.iter().find(|(name, _)| name == task).map(|(_, number)| *number)
}

/// # Errors
/// A task is named twice.
pub(super) fn check_names_differ(flag: &str, list: &[(String, f32)]) -> Result<()> {
    let twice = list.iter().enumerate().find(|(i, (name, _))| list[..*i].iter().any(|(before, _)| before == name));
    match twice {
        None => Ok(()),
        Some((_, (name, _))) => {
            Err(Error::Usage(format!("{flag} is given twice for `{name}`: expected one number for each task")))
        }
    }
}

/// Reads `TASK=NUMBER`.
pub(super) fn of_a_task(text: &str) -> Result<(String, f32), String> {
    // Split at the last `=`: a task's name may contain one, a number cannot.
    let (task, number) = text.rsplit_once('=').ok_or("expected a task's name, =, and a number")?;
    let is_too_large = number.parse().is_ok_and(|n: f64| n.is_finite() && n > f64::from(f32::MAX));
    match at_least_0(number) {
        Err(_) if is_too_large => Err(format!("expected a number of at most {:.1e}", f32::MAX)),
        number => Ok((task.to_owned(), number?)),
    }
}
