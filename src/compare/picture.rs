//! The comparison as a picture: one panel per task, one row per setting, one point per seed.

use super::tables::{Comparison, TaskComparison};
use crate::draw::{Canvas, Strip, grid, strips};

/// Draws all tasks, side by side if there are more than two.
pub fn picture(comparison: &Comparison) -> Canvas {
    let panels: Vec<Canvas> = comparison.tasks.iter().map(|task| panel(task, comparison.seeds.len())).collect();
    let columns = if panels.len() > 2 { 2 } else { 1 };
    grid(&panels, columns)
}

fn panel(task: &TaskComparison, seeds: usize) -> Canvas {
    let strip = |row: &super::tables::Row| Strip { label: row.label.clone(), values: row.numbers() };
    let groups: Vec<Strip> = task.rows.iter().map(strip).collect();
    let reference = task.rows.iter().position(|row| row.is_single);
    let title = match seeds {
        1 => format!("{}: one seed", task.task),
        _ => format!("{}: a point per seed, a bar at the mean", task.task),
    };
    strips(&title, task.metric, &groups, reference)
}
