//! `train --task`: training some of a data set's tasks equals training all of them with weight zero for the others.

use crate::cli::{digits, fail, path, run, succeed, text, train};
use crate::step::{Folder, assert_same_bits};
use polyhead::model::weights::{self, Tensors};
use polyhead::model::{Architecture, Backbone, Card, ModelFile};
use std::path::Path;

fn saved(run_folder: &str) -> Tensors {
    weights::read(&Path::new(run_folder).join("weights/last.safetensors")).unwrap().tensors
}

/// The tensors of the trunk and of the head of `sum`.
fn shared(tensors: &Tensors) -> Tensors {
    let other = |name: &str| name.contains("heads.digits") || name.contains("heads.paper");
    tensors.iter().filter(|(name, _)| !other(name)).map(|(name, tensor)| (name.clone(), tensor.clone())).collect()
}

#[test]
fn a_run_of_one_task_equals_the_joint_run_with_weight_zero_for_the_others() {
    let folder = Folder::new("task-alone");
    let data = digits(&folder, 24);
    let fixed = ["--epochs", "2", "--balance", "fixed"];
    let alone = train(&folder, &data, "alone", &[&fixed[..], &["--task", "sum"]].concat());
    let weights = ["--task-weight", "digits=0", "--task-weight", "paper=0"];
    let joint = train(&folder, &data, "joint", &[&fixed[..], &weights].concat());
    let [alone_tensors, joint_tensors] = [&alone, &joint].map(|run| saved(run));
    assert!(alone_tensors.keys().all(|name| !name.contains("heads.digits") && !name.contains("heads.paper")));
    assert!(joint_tensors.keys().any(|name| name.contains("heads.digits")));
    assert_same_bits(&alone_tensors, &shared(&joint_tensors));
    let args = std::fs::read_to_string(Path::new(&alone).join("args.yaml")).unwrap();
    assert!(args.contains("task:\n- sum\n") && args.contains("tasks:\n- sum\n"), "{args}");
    // Two of three tasks, in the data set's order for any order of the flags; using the choices of that run, and
    // evaluated.
    let two = train(&folder, &data, "two", &["--epochs", "1", "--task", "sum", "--task", "digits"]);
    let header = std::fs::read_to_string(Path::new(&two).join("results.csv")).unwrap();
    assert!(
        header.starts_with("epoch,time,train/digits/loss,train/sum/loss,val/digits/loss,val/digits/AP,"),
        "{header}"
    );
    succeed(&["train", "--config", &two, "--project", &path(&folder, "runs/train"), "--name", "again"]);
    assert_same_bits(&saved(&two), &saved(&path(&folder, "runs/train/again")));
    let judged = succeed(&["evaluate", &two]);
    assert!(judged.contains("sum (regression, 9 labelled)") && !judged.contains("paper"), "{judged}");
}

#[test]
fn labels_of_the_other_tasks_are_not_needed() {
    let folder = Folder::new("task-labels");
    let data = digits(&folder, 16);
    std::fs::remove_file(Path::new(&data).join("labels.csv")).unwrap();
    fail(&["train", &data, "--project", &path(&folder, "runs/train")], 1, &["labels.csv"]);
    let run_folder = train(&folder, &data, "boxes", &["--epochs", "1", "--task", "digits"]);
    assert!(succeed(&["evaluate", &run_folder]).contains("digits (detection"));
    let resumed = text(&run(&["train", "--resume", &run_folder, "--task", "sum"]).stderr);
    assert!(resumed.contains("nothing is left to do"), "{resumed}");
}

/// Each parameter's initial value depends on its name and the seed.
#[test]
fn a_model_of_one_task_starts_from_the_trunk_of_the_joint_one() {
    let tasks = crate::step::three_tasks();
    let untrained = |tasks| {
        let card = Card::new(Architecture::new(Backbone::Tiny, tasks, 64, 0.0), 64);
        ModelFile::untrained(card, 3).unwrap().tensors
    };
    let (joint, one) = (untrained(tasks.clone()), untrained(vec![tasks[2].clone()]));
    let expected: Tensors = one.keys().map(|name| (name.clone(), joint[name].clone())).collect();
    assert!(one.len() > 10 && one.len() < joint.len());
    assert_same_bits(&expected, &one);
}
