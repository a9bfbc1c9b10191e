//! The comparison as JSON: every figure of every seed, without rounding.

use super::costs::Costs;
use super::runs::Failure;
use super::setting::SINGLE;
use super::statistics::{Difference, Verdict, mean};
use super::tables::{Comparison, JointSummary, Relation, Row, TaskComparison};
use crate::config::paths;
use serde_json::{Map, Value, json};

/// The whole comparison.
pub fn json(comparison: &Comparison, costs: Option<&Costs>, failures: &[Failure]) -> Value {
    let config = &comparison.config;
    json!({
        "data": config.data.as_deref().map(paths::text),
        "epochs": config.epochs,
        "imgsz": config.imgsz,
        "batch": config.batch,
        "backbone": config.backbone.name(),
        "seeds": comparison.seeds,
        "test": "paired t over seeds, 95 %",
        "tasks": comparison.tasks.iter().map(of_task).collect::<Vec<_>>(),
        "joint": comparison.joint.iter().map(of_joint).collect::<Vec<_>>(),
        "single_seconds": comparison.single_seconds,
        "equal_compute": comparison.equal_compute.as_ref().map(|equal| json!({
            "setting": equal.label,
            "joint_seconds": equal.seconds[0],
            "single_seconds": equal.seconds[1],
            "single_epoch": equal.epoch,
            "tasks": equal.figures.iter()
                .map(|(task, [single, joint])| (task.clone(), json!({"single": single, "joint": joint})))
                .collect::<Map<_, _>>(),
        })),
        "costs": costs,
        "relatedness": comparison.relations.iter().map(of_relation).collect::<Vec<_>>(),
        "failed": failures.iter().map(|f| json!({"run": f.run, "words": f.words})).collect::<Vec<_>>(),
        "notes": comparison.notes,
        "version": env!("CARGO_PKG_VERSION"),
        "commit": env!("POLYHEAD_COMMIT"),
    })
}

fn of_task(task: &TaskComparison) -> Value {
    json!({"task": task.task, "metric": task.metric, "settings": task.rows.iter().map(of_row).collect::<Vec<_>>()})
}

fn of_row(row: &Row) -> Value {
    json!({
        "setting": row.label,
        "is_single": row.is_single,
        "values": row.values.iter().map(|(seed, value)| (seed.to_string(), json!(value))).collect::<Map<_, _>>(),
        "mean": row.mean(),
        "deviation": row.deviation(),
        "less_single": row.to_single.as_ref().map(of_difference),
        "less_fixed": row.to_equal.as_ref().map(of_difference),
        "metrics": row.figures.iter().map(|(name, value)| (name.clone(), json!(value))).collect::<Map<_, _>>(),
    })
}

fn of_difference(difference: &Difference) -> Value {
    let verdict = match difference.verdict() {
        Verdict::Helped => "helped",
        Verdict::Hurt => "hurt",
        Verdict::WithinNoise => "within noise",
        Verdict::Untested => "one seed: no interval",
    };
    json!({"mean": difference.mean, "each": difference.each, "interval": difference.interval, "verdict": verdict})
}

fn of_joint(joint: &JointSummary) -> Value {
    json!({
        "setting": joint.label,
        "delta_m_percent": joint.delta_m.as_ref().map(of_difference),
        "delta_m_sign": "higher is better",
        "no_delta_m_because_of": joint.meaningless,
        "seconds": joint.seconds,
        "mean_seconds": mean(&joint.seconds),
        "baseline": SINGLE,
    })
}

fn of_relation(relation: &Relation) -> Value {
    json!({
        "setting": relation.label,
        "tasks": relation.tasks,
        "cosines": relation.cosines,
        "mean": mean(&relation.cosines),
        "interval": relation.cosine().and_then(|cosine| cosine.interval),
        "word": relation.word(),
    })
}
