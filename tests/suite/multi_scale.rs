//! Batches of several sides: plans for several sizes of a step on every device, and `--multi-scale` from the command line.

use crate::augment::classes;
use crate::cli::{SMALL, digits, fail, interrupt, path, run, succeed, text, train};
use crate::cuda::devices;
use crate::step::{Folder, assert_same_bits, cpu, current, encoder, images, labels, optimizer, three_tasks};
use polyhead::device::cuda::Precision;
use polyhead::executor::DeviceChoice;
use polyhead::graph::fuse::Fusion;
use polyhead::model::weights::{self, Tensors};
use polyhead::model::{Architecture, Backbone, TrainingNetwork, init};
use polyhead::tasks::{Boxes, Label, Target, Task};
use polyhead::train::step::{StepTargets, Trainer};
use std::path::Path;

/// Changes a label's boxes in place.
pub fn edit_boxes(label: &mut Label, edit: impl FnOnce(&mut Boxes)) {
    let mut boxes = label.boxes().unwrap().clone();
    edit(&mut boxes);
    *label = Label::of(boxes);
}

const N: usize = 4;

fn architecture(tasks: Vec<Task>) -> Architecture {
    Architecture::new(Backbone::Tiny, tasks, 64, 0.2)
}

/// A trainer for batches of any of these sides.
fn trainer(device: &DeviceChoice, sides: &[usize]) -> Trainer {
    let architecture = architecture(three_tasks());
    let balance = crate::balance::balance("uncertainty", &architecture.tasks, &[]);
    let first = [N, sides[0], sides[0]];
    let mut trainer = Trainer::new(&architecture, first, device, optimizer(3e-3, 20), balance).unwrap();
    for &side in &sides[1..] {
        trainer.add(TrainingNetwork::new(&architecture, [N, side, side]).unwrap(), Fusion::On).unwrap();
    }
    trainer.executor.edit_store(|store| init::initialise(store, 5)).unwrap();
    trainer
}

/// Images of this side, with target boxes of the same relative size at every side.
fn batch(side: usize) -> (Vec<u8>, Vec<Vec<Target>>) {
    let encoder = encoder(&architecture(three_tasks()), side);
    let target = |image: usize| {
        let mut labels = labels(image);
        edit_boxes(&mut labels[0], |boxes| {
            boxes.iter_mut().for_each(|b| b.xyxy = b.xyxy.map(|v| v * side as f32 / 64.0));
        });
        encoder.encode(&labels)
    };
    (images(N, side), (0..N).map(target).collect())
}

/// Copies all state that survives a step to another trainer.
fn hand_over(from: &mut Trainer, to: &mut Trainer) {
    let store = from.executor.store().unwrap();
    to.executor
        .edit_store(|other| {
            for (old, new) in [
                (&store.values, &mut other.values),
                (&store.gradients, &mut other.gradients),
                (&store.first_moment, &mut other.first_moment),
                (&store.second_moment, &mut other.second_moment),
                (&store.average, &mut other.average),
                (&store.running, &mut other.running),
                (&store.running_average, &mut other.running_average),
            ] {
                new.f32_mut().copy_from_slice(old.f32());
            }
        })
        .unwrap();
    to.step = from.step;
    to.optimizer.steps.clone_from(&from.optimizer.steps);
    to.balance.restore(&from.balance.state()).unwrap();
}

/// Compares one trainer that changes sides with trainers for one side each, which pass the parameters on.
#[test]
fn a_step_of_one_side_equals_the_step_of_a_trainer_for_that_side_only() {
    for device in [vec![cpu(2)], devices(Precision::Bf16)].concat() {
        let mut of_all = trainer(&device, &[96, 64, 32]);
        let mut alone: Option<Trainer> = None;
        // The GPU's kernels take seconds per step on this CPU.
        let on_host = matches!(device, DeviceChoice::CudaOnHost { .. });
        for side in if on_host { vec![64, 32] } else { vec![64, 32, 96, 64] } {
            let (images, targets) = batch(side);
            let mut next = trainer(&device, &[side]);
            if let Some(before) = &mut alone {
                hand_over(before, &mut next);
            }
            let (all, one) = (of_all.step(&images, &targets).unwrap(), next.step(&images, &targets).unwrap());
            assert_eq!(all, one, "{device} at {side}");
            assert!(all.losses.iter().all(|loss| *loss > 0.0), "{all:?}");
            assert_same_bits(&current(&mut of_all), &current(&mut next));
            alone = Some(next);
        }
    }
}

/// The order of the feed: the next step's batch, of another side, is copied before the losses are read.
#[test]
fn batches_of_several_sides_make_one_step() {
    for device in [vec![cpu(2)], devices(Precision::F32)].concat() {
        let (small, large) = (batch(32), batch(64));
        let batches = [(small.0.as_slice(), small.1.as_slice()), (large.0.as_slice(), large.1.as_slice())];
        let mut plain = trainer(&device, &[64, 32]);
        let report = plain.accumulated_step(&batches).unwrap();
        let mut fed = trainer(&device, &[64, 32]);
        let targets = StepTargets::new(&[batches[0].1, batches[1].1]);
        fed.load(batches[0].0, &targets, 0).unwrap();
        fed.begin(&targets);
        fed.start().unwrap();
        fed.load(batches[1].0, &targets, 1).unwrap();
        fed.start().unwrap();
        let (next, next_targets) = batch(32);
        fed.load(&next, &StepTargets::new(&[&next_targets]), 0).unwrap();
        assert_eq!(fed.finish().unwrap(), report, "{device}");
        assert_same_bits(&current(&mut fed), &current(&mut plain));
        // Each batch's part of the losses is the same in either order, up to the rounding of two numbers; the dropout masks
        // differ.
        let mut turned = trainer(&device, &[64, 32]);
        let other = turned.accumulated_step(&[batches[1], batches[0]]).unwrap();
        let (a, b) = (report.losses[0], other.losses[0]);
        assert!((a - b).abs() <= 1e-6 * a, "{device}: detection {a} and {b}");
    }
}

#[test]
fn an_unplanned_size_and_another_network_are_refused() {
    let mut trainer = trainer(&cpu(1), &[64, 32]);
    let (images, targets) = batch(96);
    let said = trainer.step(&images, &targets).unwrap_err().to_string();
    assert!(said.contains("a batch of 110592 bytes: steps were planned for batches of [49152, 12288]"), "{said}");
    let other = TrainingNetwork::new(&architecture(three_tasks()[..2].to_vec()), [N, 96, 96]).unwrap();
    let said = trainer.add(other, Fusion::On).unwrap_err().to_string();
    assert!(said.contains("batches of [4, 96, 96, 3] would need other parameters"), "{said}");
}

fn tensors(run: &str, file: &str) -> Tensors {
    weights::read(&Path::new(run).join("weights").join(file)).unwrap().tensors
}

fn log(run: &str) -> String {
    std::fs::read_to_string(Path::new(run).join("log.txt")).unwrap()
}

#[test]
fn a_run_of_several_sides_repeats_itself_with_any_number_of_workers() {
    let folder = Folder::new("sides");
    let data = digits(&folder, 40);
    let train = |name: &str, more: &[&str]| {
        let joined = ["--epochs", "2", "--mosaic", "0.5", "--close-mosaic", "1"];
        train(&folder, &data, name, &[&joined[..], more].concat())
    };
    let one = train("one", &["--multi-scale", "0.5", "--workers", "1"]);
    let four = train("four", &["--multi-scale", "0.5", "--workers", "4", "--cache", "ram"]);
    assert_same_bits(&tensors(&one, "last.safetensors"), &tensors(&four, "last.safetensors"));
    let said = log(&one);
    assert!(said.contains("multi-scale: batches of 3 sides from 32 to 96 px, on average of 1.17 times"), "{said}");
    assert!(said.contains("sum: --multi-scale shows images at several sizes"), "{said}");
    // With five batches per epoch the log names the sides.
    assert!(said.contains(" to 96 px, loader"), "{said}");
    // Evaluation and prediction use --imgsz.
    let judged = succeed(&["evaluate", &one, &data]);
    assert!(judged.contains("digits"), "{judged}");

    // No share, and one too small for another side, give the same bits as without the flag.
    let without = train("without", &[]);
    for (name, share) in [("none", "0"), ("little", "0.3")] {
        let run = train(name, &["--multi-scale", share]);
        assert_same_bits(&tensors(&run, "last.safetensors"), &tensors(&without, "last.safetensors"));
        assert_eq!(log(&run).contains("no other multiple of 32 lies within"), share == "0.3", "{}", log(&run));
    }
    assert!(!log(&without).contains("multi-scale") && !log(&without).contains(" px, loader"), "{}", log(&without));
    let (a, b) = (tensors(&one, "last.safetensors"), tensors(&without, "last.safetensors"));
    let sum = |t: &Tensors| t["conv1.weight"].flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().sum::<f32>();
    assert_ne!(sum(&a), sum(&b));
}

#[test]
fn an_interrupted_run_of_several_sides_ends_like_an_undisturbed_one() {
    let folder = Folder::new("sides-interrupt");
    let data = digits(&folder, 40);
    let flags = ["--epochs", "12", "--multi-scale", "0.5", "--accumulate", "2"];
    let whole = train(&folder, &data, "whole", &flags);
    let project = path(&folder, "runs/train");
    let args = [&["train", &data, "--project", &project, "--name", "cut"], &SMALL[..], &flags].concat();
    let cut = path(&folder, "runs/train/cut");
    interrupt(&args, &cut);
    let output = run(&["train", "--resume", &cut, "--workers", "3", "--threads", "1", "--multi-scale", "0"]);
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("--multi-scale is ignored"), "{said}");
    let (a, b) = (tensors(&whole, "last.safetensors"), tensors(&cut, "last.safetensors"));
    assert_eq!(a.len(), b.len());
    assert_same_bits(&a, &b);
}

#[test]
fn impossible_sides_are_refused_and_previews_use_several_sides() {
    let folder = Folder::new("sides-flags");
    let data = digits(&folder, 12);
    let project = path(&folder, "runs/train");
    // Memorised without augmentation.
    let learnt = train(&folder, &data, "learnt", &["--overfit", "8", "--epochs", "1", "--multi-scale", "0.5"]);
    assert!(!log(&learnt).contains("multi-scale") && !log(&learnt).contains(" px, loader"), "{}", log(&learnt));

    let out = path(&folder, "preview.png");
    let preview = ["data", "preview", &data, "--out", &out, "--multi-scale", "0.5"];
    succeed(&[&preview[..], &["--augmented", "--imgsz", "64", "--batch", "5"]].concat());
    assert!(Path::new(&out).is_file());
    let measured = succeed(&["bench", "data", &data, "--imgsz", "64", "--images", "40", "--multi-scale", "0.5"]);
    assert!(measured.contains("images/s from the loader"), "{measured}");

    let declared = path(&folder, "digits/data.yaml");
    let text = std::fs::read_to_string(&declared).unwrap();
    std::fs::write(&declared, format!("scale_invariant: false\n{text}")).unwrap();
    let flags = ["train", &data, "--project", &project, "--name", "sized", "--multi-scale", "0.5"];
    fail(&flags, 2, &["--multi-scale 0.5: the data set says scale_invariant: false"]);
    assert!(!Path::new(&project).join("sized").exists(), "a refused run left a folder behind");
}

/// Without a detection task no other part needs multiples of the stride, and a batch has no boxes.
#[test]
fn a_plain_classification_is_trained_at_several_sides() {
    let folder = Folder::new("sides-classes");
    let data = classes(&folder);
    let run = train(&folder, &data, "classes", &["--epochs", "3", "--multi-scale", "0.5", "--mixup", "0.5"]);
    let said = log(&run);
    assert!(said.contains("batches of 3 sides from 32 to 96 px"), "{said}");
    assert!(!said.contains("while their values stay"), "{said}");
}
