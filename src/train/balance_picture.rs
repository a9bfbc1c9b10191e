//! Draws the balance of a run: weights and pulls over the epochs, and the cosines of the tasks' gradients.

use super::files::{BALANCE, TABLE};
use super::telemetry::pairs;
use crate::draw::{self, Line};
use crate::error::{Error, Result, shown};
use std::collections::HashMap;
use std::path::Path;

/// The picture shows at most this many pairs of tasks, the first ones in order.
const MOST_PAIRS: usize = 16;

/// Draws the rows of the run's table so far.
///
/// # Errors
/// The table cannot be read, or the picture cannot be written.
pub fn write(folder: &Path, tasks: &[&str]) -> Result<()> {
    let path = folder.join(TABLE);
    let read = |e: csv::Error| Error::Other(format!("{}: {e}", shown(&path)));
    let mut reader = csv::Reader::from_path(&path).map_err(read)?;
    let rows: Vec<HashMap<String, String>> =
        reader.deserialize().collect::<std::result::Result<_, _>>().map_err(read)?;
    let number = |row: &HashMap<String, String>, column: &str| {
        row.get(column).and_then(|cell| cell.parse().ok()).unwrap_or(f64::NAN)
    };
    let line = |name: String, column: String| Line {
        name,
        points: rows.iter().map(|row| (number(row, "epoch"), number(row, &column))).collect(),
    };
    let of_tasks = |prefix: &str| -> Vec<Line> {
        tasks.iter().map(|task| line((*task).to_owned(), format!("{prefix}/{task}"))).collect()
    };
    let column = |a: usize, b: usize| format!("cosine/{}/{}", tasks[a], tasks[b]);
    let of_pairs = pairs(tasks.len()).take(MOST_PAIRS);
    let cosines: Vec<Line> =
        of_pairs.map(|(a, b)| line(format!("{} – {}", tasks[a], tasks[b]), column(a, b))).collect();
    let mut last = vec![f64::NAN; tasks.len() * tasks.len()];
    if let Some(row) = rows.last() {
        for (a, b) in pairs(tasks.len()) {
            let cosine = number(row, &column(a, b));
            (last[a * tasks.len() + b], last[b * tasks.len() + a]) = (cosine, cosine);
        }
        (0..tasks.len()).for_each(|task| last[task * (tasks.len() + 1)] = 1.0);
    }
    let names: Vec<String> = tasks.iter().map(|&task| task.to_owned()).collect();
    let pictures = [
        draw::lines("weights of the tasks", ["epoch", "mean weight"], &of_tasks("weight")),
        draw::lines("pull on the shared layers", ["epoch", "weight · gradient norm"], &of_tasks("weighted_gradient")),
        draw::lines("relatedness", ["epoch", "cosine of the gradients"], &cosines),
        draw::matrix("cosines in the last epoch", &names, &last),
    ];
    draw::write_png(&folder.join(BALANCE), &draw::grid(&pictures, 2))
}
