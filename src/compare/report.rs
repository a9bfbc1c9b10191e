//! The comparison as Markdown text and tables.

use super::costs::Costs;
use super::setting::EQUAL_WEIGHTS;
use super::statistics::{Difference, Verdict, deviation, mean};
use super::tables::{Comparison, EqualCompute, JointSummary, Relation, Row, TaskComparison};
use crate::error::shown;
use crate::reading::{count_of, list_some};
use crate::train::progress::in_words;
use std::fmt::Write as _;

/// The whole report.
pub fn markdown(comparison: &Comparison, costs: Option<&Costs>) -> String {
    let mut text = String::from("# Did sharing pay?\n\n");
    text.push_str(&head(comparison));
    comparison.tasks.iter().for_each(|task| text.push_str(&of_task(task, comparison)));
    text.push_str(&over_all_tasks(comparison));
    text.push_str(&verdicts(comparison));
    text.push_str(&of_costs(comparison, costs));
    text.push_str(&relatedness(&comparison.relations));
    if !comparison.notes.is_empty() {
        text.push_str("\n## Notes\n\n");
        comparison.notes.iter().for_each(|note| text.push_str(&format!("- {note}\n")));
    }
    text
}

fn head(comparison: &Comparison) -> String {
    let config = &comparison.config;
    let data = config.data.as_ref().map_or("the built-in digits".to_owned(), |data| format!("`{}`", shown(data)));
    let seeds: Vec<String> = comparison.seeds.iter().map(u64::to_string).collect();
    let length = match config.time {
        Some(hours) => format!("{hours} h each"),
        None => count_of(config.epochs as usize, "epoch"),
    };
    let spread = match seeds.len() {
        1 => "There is one seed, so there are no intervals and nothing is tested.".to_owned(),
        _ => "Figures are means over the seeds ± the standard deviation. Differences are taken seed by seed; in brackets is their \
              95 % interval by Student's t."
            .to_owned(),
    };
    format!(
        "{data}: {} tasks, {} at {} px, batch {}, {length}, {} {}.\n\
         Each figure is that of the epoch whose weights are `best`, on the validation images; higher is better for all of them.\n\
         {spread}\n",
        comparison.tasks.len(),
        config.backbone.name(),
        config.imgsz,
        config.batch,
        if seeds.len() == 1 { "seed" } else { "seeds" },
        list_some(&seeds, 20),
    )
}

fn of_task(task: &TaskComparison, comparison: &Comparison) -> String {
    let (single, equal) = (comparison.has_single(), task.rows.iter().any(|row| row.to_equal.is_some()));
    let mut columns = vec!["setting", task.metric];
    columns.extend(single.then_some("minus single"));
    columns.extend(equal.then_some("minus fixed"));
    let rows = task.rows.iter().map(|row| {
        let mut cells = vec![row.label.clone(), spread(&row.numbers())];
        cells.extend(single.then(|| difference(row.to_single.as_ref())));
        cells.extend(equal.then(|| difference(row.to_equal.as_ref())));
        cells
    });
    format!("\n## {}: {}\n\n{}", task.task, task.metric, table(&columns, rows))
}

/// `0.745 ± 0.012`; a single value has no deviation.
fn spread(values: &[f64]) -> String {
    let Some(mean) = mean(values) else { return "–".into() };
    let mean = signed(mean, 3).replace('+', "");
    deviation(values).map_or(mean.clone(), |deviation| format!("{mean} ± {deviation:.3}"))
}

/// `−0.042 [−0.061, −0.023]`.
fn difference(difference: Option<&Difference>) -> String {
    let Some(Difference { mean, interval, .. }) = difference else { return String::new() };
    let interval = interval
        .map_or("one seed: no interval".to_owned(), |[low, high]| format!("[{}, {}]", signed(low, 3), signed(high, 3)));
    format!("{} {interval}", signed(*mean, 3))
}

/// A number with its sign; minus is `−`.
fn signed(value: f64, decimals: usize) -> String {
    let size = format!("{:.decimals$}", value.abs());
    let is_zero = size.chars().all(|c| c == '0' || c == '.');
    let sign = if is_zero {
        ""
    } else if value < 0.0 {
        "−"
    } else {
        "+"
    };
    format!("{sign}{size}")
}

fn table(columns: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| {
        format!("| {} |\n", cells.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>().join(" | "))
    };
    let head: Vec<String> = columns.iter().map(|column| (*column).to_owned()).collect();
    let mut text = line(&head) + &format!("|{}\n", "---|".repeat(columns.len()));
    rows.for_each(|cells| text.push_str(&line(&cells)));
    text
}

fn over_all_tasks(comparison: &Comparison) -> String {
    let single = mean(&comparison.single_seconds);
    let mut columns = vec!["setting"];
    columns.extend(comparison.has_single().then_some("Δm in % (higher is better)"));
    columns.push("training");
    columns.extend(single.map(|_| "share of the single models'"));
    let rows = comparison.joint.iter().map(|joint| {
        let mut cells = vec![joint.label.clone()];
        cells.extend(comparison.has_single().then(|| delta(joint)));
        let seconds = mean(&joint.seconds).unwrap_or(f64::NAN);
        cells.push(in_words(seconds));
        cells.extend(single.map(|single| format!("{:.2}", seconds / single)));
        cells
    });
    let mut text = format!("\n## All tasks together\n\n{}", table(&columns, rows));
    if comparison.has_single() {
        text.push_str(
            "\nΔm is the mean over the tasks of the gain over the task's single model, in percent of that model's figure: \
             positive means that sharing is better. Some papers print the opposite sign.\n",
        );
    }
    if let Some(equal) = &comparison.equal_compute {
        text.push_str(&at_equal_compute(equal, comparison));
    }
    text
}

/// `−3.1 ± 0.9 [−5.2, −1.0]`.
fn delta(joint: &JointSummary) -> String {
    match &joint.delta_m {
        Some(Difference { each, mean, interval }) => {
            let spread = deviation(each).map_or(String::new(), |deviation| format!(" ± {deviation:.1}"));
            let interval = interval.map_or(" (one seed: no interval)".to_owned(), |[low, high]| {
                format!(" [{}, {}]", signed(low, 1), signed(high, 1))
            });
            format!("{}{spread}{interval}", signed(*mean, 1))
        }
        None if !joint.meaningless.is_empty() => {
            format!("not computed: the single model of {} scores 0 or less", joint.meaningless.join(", "))
        }
        None => "–".into(),
    }
}

fn at_equal_compute(equal: &EqualCompute, comparison: &Comparison) -> String {
    let EqualCompute { label, seconds: [joint, single], epoch, figures } = equal;
    let (tasks, epochs) = (comparison.tasks.len(), comparison.config.epochs);
    let mut text = format!(
        "\nThe tables compare at equal epochs. There {tasks} single runs took {} together, and a joint run ({label}) {}.\n",
        in_words(*single),
        in_words(*joint)
    );
    if *epoch == 0 {
        text.push_str("At equal total compute the single runs would not have ended their first epoch.\n");
    } else if (*epoch as u64) < epochs {
        let each: Vec<String> =
            figures.iter().map(|(task, [single, joint])| format!("{task} {single:.3} (joint {joint:.3})")).collect();
        let _ = writeln!(
            text,
            "At equal total compute the single runs end with epoch {epoch} of {epochs}; their best until then: {}. Their learning \
             rate has not come down there, so that runs planned for that length would reach somewhat more.",
            each.join(", ")
        );
    } else {
        text.push_str(
            "At equal total compute the comparison is the same: the joint run took no less than all single runs.\n",
        );
    }
    text
}

fn verdicts(comparison: &Comparison) -> String {
    let mut text = String::from("\n## Task by task\n\n");
    for task in &comparison.tasks {
        for row in task.rows.iter().filter(|row| !row.is_single) {
            let _ = writeln!(text, "- {}", verdict(task, row, comparison));
        }
    }
    if comparison.seeds.len() > 1 {
        text.push_str(
            "\nEach sentence is one test by itself: of twenty settings that change nothing, one is expected to be called helped or \
             hurt.\n",
        );
    }
    text
}

/// One sentence about a task under a setting, compared with the single model, or with equal weights if there is none.
fn verdict(task: &TaskComparison, row: &Row, comparison: &Comparison) -> String {
    let (versus, difference) = match comparison.has_single() {
        true => ("its single model", &row.to_single),
        false => ("equal weights", &row.to_equal),
    };
    let begin = format!("`{}` under {}", task.task, row.label);
    let Some(Difference { each, mean, interval }) = difference else {
        let is_equal = !comparison.has_single() && row.label == EQUAL_WEIGHTS;
        let why = if is_equal { "is the baseline of the others" } else { "has no baseline" };
        return format!("{begin}: {why}.");
    };
    let gap = format!("{} {} against {versus}", signed(*mean, 3), task.metric);
    let word = match difference.as_ref().map(Difference::verdict) {
        Some(Verdict::Helped) => "helped",
        Some(Verdict::Hurt) => "hurt",
        Some(Verdict::WithinNoise) => "within noise",
        Some(Verdict::Untested) | None => {
            return format!("{begin}: {gap}; one seed, so there is no interval and no test.");
        }
    };
    let [low, high] = interval.unwrap_or([f64::NAN; 2]);
    format!(
        "{begin}: **{word}**, {gap}, 95 % interval {} to {} (paired t over {} seeds).",
        signed(low, 3),
        signed(high, 3),
        each.len()
    )
}

fn of_costs(comparison: &Comparison, costs: Option<&Costs>) -> String {
    let tasks = comparison.tasks.len();
    let Some(costs) = costs else {
        return "\n## Costs\n\nThe runs keep no weights: inference and memory were not measured.\n".into();
    };
    let against = format!("{tasks} single models");
    let rows_of = |name: String, joint: f64, single: Option<f64>, show: &dyn Fn(f64) -> String| {
        let single_cell = single.map_or("–".into(), show);
        let ratio = single.map_or("–".into(), |single| format!("{:.2}", joint / single));
        vec![name, show(joint), single_cell, ratio]
    };
    let millions = |count: f64| format!("{:.2} million", count / 1e6);
    let mib = |bytes: f64| format!("{:.1} MiB", bytes / f64::from(1 << 20));
    let ms = |seconds: f64| format!("{:.2} ms", seconds * 1e3);
    let whole = |number: Option<usize>| number.map(|number| number as f64);
    let mut rows = vec![
        rows_of("parameters".into(), costs.joint_parameters as f64, whole(costs.single_parameters), &millions),
        rows_of("memory of inference".into(), costs.joint_bytes as f64, whole(costs.single_bytes), &mib),
    ];
    for inference in &costs.inference {
        let name = format!("time per image, batch {}", inference.batch);
        rows.push(rows_of(name, inference.joint_seconds, inference.single_seconds, &ms));
    }
    format!(
        "\n## Costs\n\n{}\nInference: medians of {} passes after a warm-up, on {} at {} px, the joint model and all single models in \
         turn. Memory: parameters and the arena a pass computes in, at the larger batch.\n",
        table(&["", "one model", &against, "ratio"], rows.into_iter()),
        costs.repeats,
        costs.device,
        costs.imgsz
    )
}

fn relatedness(relations: &[Relation]) -> String {
    if relations.is_empty() {
        return String::new();
    }
    let rows = relations.iter().map(|relation| {
        let [a, b] = &relation.tasks;
        let cosine = relation.cosine();
        let interval = cosine.as_ref().and_then(|cosine| cosine.interval);
        let interval =
            interval.map_or(String::new(), |[low, high]| format!(" [{}, {}]", signed(low, 3), signed(high, 3)));
        let mean = cosine.map_or("–".to_owned(), |cosine| signed(cosine.mean, 3));
        vec![format!("{a}, {b}"), relation.label.clone(), format!("{mean}{interval}"), relation.word().to_owned()]
    });
    format!(
        "\n## Agreement of the tasks' gradients\n\n{}\nThe cosine of two tasks' gradients at what they share: the mean over \
         the epochs of a run and over the seeds, with its 95 % interval by Student's t. The whole interval must lie below 0 for a \
         conflict and above 0 for kinship.\n",
        table(&["tasks", "setting", "cosine", ""], rows)
    )
}
