//! Balancing in whole steps and runs: a task without labels equals an absent task, and the failure modes of uncertainty
//! weighting that need whole steps to show (`src/balance/tests` has the others, under the same names).

use crate::cli::{digits, path, results, succeed, train};
use crate::step::{
    Folder, assert_same_bits, cpu, current, encoder, images, labels, norm, optimizer, take_steps, three_tasks, trainer,
    vector,
};
use polyhead::balance::{Balance, METHODS, Method, Needs, Signals};
use polyhead::executor::Store;
use polyhead::ir::ParameterId;
use polyhead::model::{Architecture, Backbone, init};
use polyhead::optim::schedule::Decline;
use polyhead::optim::{OptimizerConfig, OptimizerKind};
use polyhead::tasks::{Label, Target, Task};
use polyhead::train::checkpoint;
use polyhead::train::step::{StepReport, Trainer};
use std::path::Path;

/// A method's initial state for `tasks`.
pub fn balance(method: &str, tasks: &[Task], weights: &[f32]) -> Box<dyn Balance> {
    Method::named(method).unwrap().for_tasks(tasks, weights).unwrap()
}

/// The methods that need only one batch per step.
pub fn in_whole_steps() -> impl Iterator<Item = &'static str> {
    let names = METHODS.iter().map(|method| method.name);
    names.filter(|name| balance(name, &three_tasks(), &[1.0; 3]).needs() != Needs::Cross)
}

/// The bits of a method's state: one part for each of `tasks` tasks, then the part that belongs to no task.
fn states(trainer: &Trainer, method: &str, tasks: usize) -> Vec<Vec<u64>> {
    let state: Vec<u64> = trainer.balance.state().iter().map(|s| s.to_bits()).collect();
    let each = (state.len() - balance(method, &[], &[]).state().len()) / tasks;
    let (of_tasks, rest) = state.split_at(each * tasks);
    (0..tasks).map(|t| of_tasks[each * t..each * (t + 1)].to_vec()).chain([rest.to_vec()]).collect()
}

#[test]
fn mode_4_a_task_without_labels_equals_an_absent_task() {
    for method in in_whole_steps() {
        for missing in ["things", "kind", "amount"] {
            // This method does not work without its primary task.
            if method == "pcd" && missing == "things" {
                continue;
            }
            let two: Vec<Task> = three_tasks().into_iter().filter(|t| t.name != missing).collect();
            let mut masked = trainer(three_tasks(), 2, method);
            let mut absent = trainer(two.clone(), 2, method);
            let (untouched, fresh) = (current(&mut masked), states(&masked, method, 3));
            take_steps(&mut masked, &three_tasks(), &[missing], 5);
            take_steps(&mut absent, &two, &[], 5);
            let after = current(&mut masked);
            assert_same_bits(&current(&mut absent), &after);
            // Skipped entirely: not even decayed.
            let own = format!("heads.{missing}.");
            for name in untouched.keys().filter(|n| n.contains(&own)) {
                assert_eq!(vector(&untouched, name), vector(&after, name), "{name}");
            }
            let mut states_after = states(&masked, method, 3);
            let index = three_tasks().iter().position(|t| t.name == missing).unwrap();
            assert_eq!(states_after.remove(index), fresh[index], "{method}: {missing} moved");
            // The method keeps a number for every pair of tasks.
            if method == "gradvac" {
                continue;
            }
            assert_eq!(states_after, states(&absent, method, 2), "{method}: without {missing}");
        }
    }
}

/// A trainer without dropout for `n` images per step.
fn still(n: usize, method: &str, config: OptimizerConfig) -> Trainer {
    let architecture = Architecture::new(Backbone::Tiny, three_tasks(), 64, 0.0);
    let balance = balance(method, &architecture.tasks, &[20.0, 0.5, 1.25]);
    let mut trainer = Trainer::new(&architecture, [n, 64, 64], &cpu(2), config, balance).unwrap();
    trainer.executor.edit_store(|store| init::initialise(store, 5)).unwrap();
    trainer
}

/// Raises the scores to one half. The box losses are divided by the sum of scores, but by at least 1, which an untrained
/// head does not reach.
fn raise_scores(trainer: &mut Trainer) {
    let raise = |store: &mut Store| {
        let index = store.parameters.iter().position(|p| p.name == "heads.things.class.logits.bias").unwrap();
        let range = store.range(ParameterId(index));
        store.values.f32_mut()[range].fill(0.0);
    };
    trainer.executor.edit_store(raise).unwrap();
}

/// A step on four images, each repeated `copies` times; only the first `labelled` copies have labels.
fn step(trainer: &mut Trainer, copies: usize, labelled: usize) -> StepReport {
    let architecture = Architecture::new(Backbone::Tiny, three_tasks(), 64, 0.0);
    let encoder = encoder(&architecture, 64);
    let targets: Vec<Vec<Target>> = (0..4 * copies)
        .map(|i| match i < 4 * labelled {
            true => encoder.encode(&labels(i % 4)),
            false => encoder.encode(&vec![Label::UNLABELLED; 3]),
        })
        .collect();
    trainer.step(&images(4, 64).repeat(copies), &targets).unwrap()
}

/// Independent of the network's optimizer: with its learning rate at zero, and with any weight decay, log-variances still
/// change.
#[test]
fn mode_6_log_variances_change_under_any_optimizer_of_the_network() {
    for method in ["uncertainty-learned", "uncertainty-kind", "uncertainty-bounded"] {
        let run = |kind, weight_decay| {
            let mut trainer = still(4, method, OptimizerConfig { kind, weight_decay, ..optimizer(0.0, 20) });
            let fresh = trainer.balance.log_variances();
            step(&mut trainer, 1, 1);
            for (before, after) in fresh.iter().zip(trainer.balance.log_variances()) {
                // Adam's first step is .025 for any gradient; for c it changes ln c² by twice that.
                assert!((after - before).abs() > 0.0249, "{method}: {before} to {after}");
            }
            for _ in 0..4 {
                let before = trainer.balance.weights(&Signals::before(&[true; 3])).seam;
                // The other half of mode 7: a step's weights come from the state before the step.
                assert_eq!(step(&mut trainer, 1, 1).weights, before);
            }
            states(&trainer, method, 3)
        };
        assert_eq!(run(OptimizerKind::Sgd, 0.5), run(OptimizerKind::AdamW, 0.0));
    }
}

#[test]
fn mode_7_a_loss_is_the_mean_over_any_number_of_labels() {
    let by_state = |method: &&str| balance(method, &three_tasks(), &[1.0; 3]).needs() == Needs::State;
    for method in in_whole_steps().filter(by_state) {
        let run = |copies, labelled| {
            let mut trainer = still(4 * copies, method, optimizer(0.0, 20));
            raise_scores(&mut trainer);
            let losses = step(&mut trainer, copies, labelled).losses;
            (losses, trainer.balance.weights(&Signals::before(&[true; 3])).seam)
        };
        let (losses, weights) = run(1, 1);
        for (copies, labelled) in [(2, 2), (2, 1), (3, 1)] {
            let (other_losses, other_weights) = run(copies, labelled);
            // Sums and batch statistics over twice the images are rounded differently. A sum instead of a mean would
            // double.
            let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-4 * b.abs());
            assert!(close(&other_losses, &losses), "{method}: {losses:?}, {other_losses:?} of {labelled} in {copies}");
            assert!(close(&other_weights, &weights), "{method}: {weights:?}, {other_weights:?}");
        }
    }
}

/// The kept weights are those that were best on the validation images, whatever the losses of that epoch.
#[test]
fn mode_8_validation_selects_the_weights_and_training_losses_do_not() {
    let folder = Folder::new("select");
    let data = digits(&folder, 24);
    let flags = ["--epochs", "8", "--balance", "uncertainty-learned", "--lr0", "0.01", "--ema", "0.5"];
    let run_folder = train(&folder, &data, "run", &flags);
    let table = results(&run_folder);
    let of = |row: usize, column: &str| table[row][column].parse::<f64>().unwrap();
    let judged = ["val/digits/AP", "val/paper/balanced_accuracy", "val/sum/R2"];
    let overall = |row: &usize| judged.iter().map(|c| of(*row, c).max(0.0)).sum::<f64>() / 3.0;
    let best = (0..8).max_by(|a, b| overall(a).total_cmp(&overall(b))).unwrap();
    let state = checkpoint::load(&Path::new(&run_folder).join("weights/last.safetensors")).unwrap().state;
    assert!((state.best.unwrap() - overall(&best)).abs() < 1e-5);
    for (kept, column) in state.best_per_task.iter().zip(judged) {
        let largest = (0..8).map(|row| of(row, column)).fold(f64::NEG_INFINITY, f64::max);
        assert!((kept.unwrap() - largest).abs() < 1e-5, "{column}: {kept:?}, {largest}");
    }
    let (model, json) = (format!("{run_folder}/weights/best.safetensors"), path(&folder, "best.json"));
    succeed(&["evaluate", &model, &data, "--json", &json]);
    let figures: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    for column in judged {
        let (task, metric) = column.strip_prefix("val/").unwrap().split_once('/').unwrap();
        let got = figures["tasks"][task]["metrics"][metric].as_f64().unwrap();
        assert!((got - of(best, column)).abs() < 1e-4, "{column}: {got}, {} in the table", of(best, column));
    }
    // The minimised values are shown per task, as weight times loss, so that they are not mistaken for a metric.
    for task in ["digits", "paper", "sum"] {
        let [weighted, weight, loss] = ["weighted/*", "weight/*", "train/*/loss"].map(|c| of(7, &c.replace('*', task)));
        assert!((weighted / (weight * loss) - 1.0).abs() < 0.05, "{task}: {weighted}, {weight}, {loss}");
        assert!(of(7, &format!("log_var/{task}")).is_finite());
    }
}

/// With SGD at a rate of one, without momentum and decay, a clipped step is as long as the clipping norm. So the norm that
/// the step was divided by included each head's gradient times its task's weight, as the step does.
#[test]
fn the_clipping_norm_includes_each_heads_weight() {
    let mut config = OptimizerConfig {
        kind: OptimizerKind::Sgd,
        momentum: 0.0,
        weight_decay: 0.0,
        clip_norm: Some(0.01),
        ..optimizer(1.0, 20)
    };
    config.schedule.decline = Decline::Constant;
    config.schedule.warmup_steps = 0;
    let mut trainer = still(4, "fixed", config);
    let before = current(&mut trainer);
    let report = step(&mut trainer, 1, 1);
    assert!(report.gradient_norm > 1.0, "{report:?}");
    let after = current(&mut trainer);
    let stored =
        |name: &&String| !name.starts_with("ema.") && !name.starts_with("first.") && !name.starts_with("second.");
    let parameters = before.keys().filter(stored).filter(|n| !n.contains(".running_"));
    let moved = parameters.flat_map(|n| {
        let pairs: Vec<f32> = vector(&after, n).iter().zip(vector(&before, n)).map(|(a, b)| a - b).collect();
        pairs
    });
    let length = norm(moved);
    // Elements change by about 1e-5 and are rounded independently by 1e-8 to 1e-7; without the weights the step would be
    // 8 % longer.
    assert!((length / 0.01 - 1.0).abs() < 1e-3, "moved by {length}");
}
