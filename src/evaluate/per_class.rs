//! One task's metrics by class: as JSON, and as a printed table.

use super::TaskResult;
use crate::error::one_line;
use crate::tasks::{ClassRow, PerClass};
use serde_json::{Map, Value, json};
use std::cmp::Ordering;

/// With more classes than this, a table shows only the worst ones.
const MOST_ROWS: usize = 20;
const WORST_ROWS: usize = 5;
/// Longer class names are cut in tables.
const NAME_WIDTH: usize = 24;
const COLUMN_WIDTH: usize = 9;

/// `{class: {figure: value, …}}`.
pub(super) fn to_json(per_class: &PerClass) -> Value {
    let of = |row: &ClassRow| {
        let mut figures: Map<String, Value> =
            row.figures.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        figures.extend(row.counts.iter().map(|(name, count)| ((*name).to_owned(), json!(count))));
        (row.class.to_owned(), Value::Object(figures))
    };
    Value::Object(per_class.rows.iter().map(of).collect())
}

/// A row per class, or only the worst ones if there are many; empty without metrics by class.
pub(super) fn table(result: &TaskResult) -> String {
    let Some(PerClass { rank, mut rows }) = result.summary.per_class() else { return String::new() };
    if result.labelled == 0 || rows.is_empty() {
        return String::new();
    }
    let mut text = String::new();
    if rows.len() > MOST_ROWS {
        let all = rows.len();
        rows.retain(|row| row.rank.is_some());
        // The sort is stable, so classes with equal rank keep their order.
        rows.sort_by(|a, b| a.rank.partial_cmp(&b.rank).unwrap_or(Ordering::Equal));
        rows.truncate(WORST_ROWS);
        if rows.is_empty() {
            return text;
        }
        text = format!("    the {} worst of {all} classes by {rank} (--json and --out write all)\n", rows.len());
    }
    let names: Vec<String> = rows.iter().map(|row| cut(&one_line(row.class))).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max("class".len());
    let Some(first) = rows.first() else { return text };
    text.push_str(&format!("    {:<width$}", "class"));
    for name in first.figures.iter().map(|f| f.0).chain(first.counts.iter().map(|c| c.0)) {
        text.push_str(&format!("  {name:>COLUMN_WIDTH$}"));
    }
    for (row, name) in rows.iter().zip(&names) {
        text.push_str(&format!("\n    {name:<width$}"));
        for (_, value) in &row.figures {
            let value = value.map_or("–".to_owned(), |v| format!("{v:.3}"));
            text.push_str(&format!("  {value:>COLUMN_WIDTH$}"));
        }
        for (_, count) in &row.counts {
            text.push_str(&format!("  {count:>COLUMN_WIDTH$}"));
        }
    }
    text + "\n"
}

fn cut(name: &str) -> String {
    match name.chars().count() > NAME_WIDTH {
        true => name.chars().take(NAME_WIDTH - 1).chain(['…']).collect(),
        false => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boxes::Detection;
    use crate::tasks::classify::{Class, Classify, Probabilities};
    use crate::tasks::detect::{Detect, FoundBoxes};
    use crate::tasks::{Label, Task, TaskSpec};

    fn result(classes: usize, labelled: usize) -> TaskResult {
        let task = Classify::new((0..classes).map(|c| format!("c{c}")).collect());
        let mut metric = task.metric();
        for image in 0..labelled {
            let mut probabilities = vec![0.0; classes];
            // Correct, except that class 3 is predicted as 4.
            let class = image % (classes - 1);
            probabilities[if class == 3 { 4 } else { class }] = 1.0;
            metric.add(&Probabilities { classes: task.classes.clone(), probabilities }, &Label::of(Class::One(class)));
        }
        let summary = metric.summary();
        TaskResult { task: Task::new("kind", task), labelled, summary, intervals: Vec::new() }
    }

    #[test]
    fn a_small_table_has_every_class_and_a_large_one_the_worst() {
        let table = super::table(&result(6, 10));
        let rows: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(rows.len(), 7);
        assert_eq!(rows[0], ["class", "precision", "recall", "f1", "AP", "support"]);
        assert_eq!(rows[1], ["c0", "1.000", "1.000", "1.000", "1.000", "2"]);
        assert_eq!(rows[4], ["c3", "–", "0.000", "0.000", "0.200", "2"]);
        assert_eq!(rows[6], ["c5", "–", "–", "–", "–", "0"]);

        let table = super::table(&result(31, 60));
        let rows: Vec<&str> = table.lines().map(str::trim).collect();
        assert_eq!(rows[0], "the 5 worst of 31 classes by f1 (--json and --out write all)");
        let names: Vec<&str> = rows[2..].iter().map(|r| r.split(' ').next().unwrap()).collect();
        assert_eq!(names, ["c3", "c4", "c0", "c1", "c2"]);
        assert!(super::table(&result(6, 0)).is_empty());
        // Images without an object have no class to rank.
        let task = Task::new("cells", Detect::new((0..25).map(|c| format!("c{c}")).collect()));
        let mut metric = task.spec.metric();
        let nothing = crate::tasks::Boxes::default();
        metric.add(&FoundBoxes { classes: task.classes().into(), boxes: Vec::new() }, &Label::of(nothing));
        let result = TaskResult { task, labelled: 1, summary: metric.summary(), intervals: Vec::new() };
        assert_eq!(super::table(&result), "");
    }

    #[test]
    fn json_names_every_class_with_its_figures() {
        let json = result(6, 10).to_json();
        let expected = json!({"precision": 0.5, "recall": 1.0, "f1": 2.0 / 3.0, "AP": 0.5, "support": 2});
        assert_eq!(json["per_class"]["c4"], expected);
        let cells = Task::new("cells", Detect::new(vec!["RBC".into()]));
        let json = super::super::empty_result(&cells).to_json();
        assert_eq!(json["per_class"], json!({"RBC": {"AP": null, "AP50": null, "count": 0}}));
        // Predictions on an unlabelled image do not count as mistakes.
        let mut metric = cells.spec.metric();
        let boxes = vec![Detection { class: 0, score: 0.9, xyxy: [0.0, 0.0, 8.0, 8.0] }];
        metric.add(&FoundBoxes { classes: cells.classes().into(), boxes }, &Label::UNLABELLED);
        assert_eq!(metric.summary().metrics(), cells.spec.metric().summary().metrics());
    }
}
