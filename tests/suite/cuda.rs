//! Compares a whole step on the GPU's kernels with the CPU: the plan, its layout in a GPU's memory, and every launch in
//! order. Runs on a GPU if there is one, and through the shim on this CPU.

use crate::step::{Probe, cpu, labels, norm, open_and_close_gates, optimizer, three_tasks, vector};
use polyhead::bench::{Heads, OpsMeasurement, Options, Pair, check_kernels, infer, ops, train};
use polyhead::device::cuda::{Driver, File, Precision};
use polyhead::executor::{DeviceChoice, ParameterSet, Tiles};
use polyhead::graph::fuse::Fusion;
use polyhead::ir::ParameterId;
use polyhead::model::weights::{self, Slot, Tensors};
use polyhead::model::{Architecture, Backbone, init};
use polyhead::train::step::Trainer;
use std::collections::{BTreeMap, BTreeSet};

/// The available devices. If the shim cannot be built, a message says so; with `POLYHEAD_REQUIRE_SHIM` that is a
/// failure.
pub fn devices(precision: Precision) -> Vec<DeviceChoice> {
    let mut devices = Vec::new();
    assert!(Driver::is_present() || std::env::var_os("POLYHEAD_REQUIRE_GPU").is_none(), "no GPU is there");
    if Driver::is_present() {
        devices.push(DeviceChoice::Cuda { ordinal: 0, precision });
    }
    let library = crate::kernels::library(&File::ALL.map(|file| file.name), precision);
    devices.extend(library.map(|library| DeviceChoice::CudaOnHost { library, precision }));
    devices
}

/// The losses and gradients of one step.
fn step(device: &DeviceChoice, fusion: Fusion) -> (Vec<f32>, Tensors) {
    let mut probe = Probe::on(device, Backbone::Tiny, [3, 64], fusion, labels);
    open_and_close_gates(&mut probe.executor);
    (probe.losses(), probe.gradients())
}

/// Error of every gradient against the CPU, relative to its size (for a bias, to its weight's, because a bias's sum may
/// cancel).
pub fn errors(ours: &Tensors, cpu: &Tensors) -> BTreeMap<String, f64> {
    let error = |name: &String| {
        let (x, y) = (vector(ours, name), vector(cpu, name));
        let apart = norm(x.iter().zip(&y).map(|(x, y)| x - y));
        let beside = name.strip_suffix(".bias").map(|n| norm(vector(cpu, &format!("{n}.weight")).into_iter()));
        let scale = norm(y.into_iter()).max(beside.unwrap_or(0.0));
        // A level without an object in these images has no gradient for its scale.
        assert!(apart.is_finite() && (scale > 0.0 || apart == 0.0), "{name}: {apart} apart of {scale}");
        (name.clone(), if scale > 0.0 { apart / scale } else { 0.0 })
    };
    cpu.keys().map(error).collect()
}

#[test]
fn a_step_in_f32_matches_the_cpu() {
    let (cpu_losses, cpu) = step(&crate::step::cpu(2), Fusion::On);
    for device in devices(Precision::F32) {
        let (losses, gradients) = step(&device, Fusion::On);
        for (a, b) in losses.iter().zip(&cpu_losses) {
            assert!(a.is_finite() && (a - b).abs() <= 1e-5 * b.abs(), "{device}: loss {a}, {b} on the CPU");
        }
        for (name, error) in errors(&gradients, &cpu) {
            // Sums are ordered differently. A wrong launch changes a gradient by several per cent.
            assert!(error <= 2e-4, "{device} {name}: {error:.2e}");
        }
    }
}

/// bf16 rounds every map, so gradients deep in the trunk are off by several per cent with or without fusion. The fused list
/// may be off by twice as much as the plain one.
#[test]
fn a_fused_step_in_bf16_is_as_close_to_the_cpu_as_the_plain_one() {
    let (cpu_losses, cpu) = step(&crate::step::cpu(2), Fusion::On);
    for device in devices(Precision::Bf16) {
        let (plain_losses, plain) = step(&device, Fusion::Off);
        let (losses, gradients) = step(&device, Fusion::On);
        for ((a, b), exact) in losses.iter().zip(&plain_losses).zip(&cpu_losses) {
            let allowed = 2.0 * (b - exact).abs() + 2e-3 * exact.abs();
            assert!((a - exact).abs() <= allowed, "{device}: loss {a} fused, {b} plain, {exact} on the CPU");
        }
        let (fused, plain) = (errors(&gradients, &cpu), errors(&plain, &cpu));
        for (name, error) in &fused {
            assert!(
                *error <= 2.0 * plain[name] + 2e-3,
                "{device} {name}: {error:.2e} fused, {:.2e} plain",
                plain[name]
            );
        }
    }
}

/// The tile that computes an element does not change the order of its sum. Only wgrad's splits, which add up partial sums, change
/// anything: the gradients of convolution weights, by rounding, and nothing that depends on them within a step.
#[test]
fn other_tiles_compute_the_same_step_and_trials_change_nothing() {
    for device in [Precision::Bf16, Precision::F32].into_iter().flat_map(devices) {
        let step = |tiles| {
            let mut probe = Probe::tiled(&device, Some(tiles), Backbone::Tiny, [3, 64], Fusion::On, labels);
            open_and_close_gates(&mut probe.executor);
            let (losses, gradients) = (probe.losses(), probe.gradients());
            (probe, losses, gradients)
        };
        let (estimated, estimated_losses, estimated_gradients) = step(Tiles::Estimated);
        let (mut probe, losses, gradients) = step(Tiles::Last);
        let hash = probe.executor.tuning_hash();
        assert_eq!((estimated.executor.tuning_hash(), hash.as_ref().map(String::len)), (None, Some(16)), "{device}");
        assert_eq!(losses, estimated_losses, "{device}");
        let mut moved = 0;
        for (name, error) in errors(&gradients, &estimated_gradients) {
            let of_convolution = gradients[&name].rank() == 4;
            // Partial sums are added in f32, whatever the type of the maps.
            assert!(error <= if of_convolution { 1e-5 } else { 0.0 }, "{device} {name}: {error:.2e}");
            moved += usize::from(error > 0.0);
        }
        assert!(moved > 0, "{device}: the last candidates were not run");

        // Trials between steps, in an arena full of numbers.
        let values = probe.stored(Slot::Set(ParameterSet::Current));
        probe.prepare_another(Backbone::Tiny, [1, 64]);
        assert_ne!(probe.executor.tuning_hash(), hash, "{device}: no tiles were tried");
        // The trials leave the arena full of numbers. They make the host's copy stale, and the forward pass gives the same
        // result.
        assert_eq!(probe.losses(), losses, "{device}");
        for (before, slot) in [(gradients, Slot::Gradient), (values, Slot::Set(ParameterSet::Current))] {
            let after = probe.stored(slot);
            for name in before.keys() {
                assert!(vector(&before, name) == vector(&after, name), "{device}: a trial moved {name} {slot:?}");
            }
        }
    }
}

/// cuDNN's plain convolutions followed by our kernels; on the shim a plain loop replaces cuDNN. Each node then rounds where
/// the plain list rounds.
#[test]
fn a_step_with_cudnn_is_as_close_to_the_cpu_as_the_plain_one() {
    let (cpu_losses, cpu) = step(&crate::step::cpu(2), Fusion::On);
    for device in devices(Precision::Bf16) {
        let (plain_losses, plain) = step(&device, Fusion::Off);
        let run = |tiles| {
            let mut probe = Probe::tiled(&device, Some(tiles), Backbone::Tiny, [3, 64], Fusion::On, labels);
            open_and_close_gates(&mut probe.executor);
            (probe.losses(), probe.gradients())
        };
        let ((losses, gradients), (_, own)) = (run(Tiles::Cudnn), run(Tiles::Estimated));
        if matches!(device, DeviceChoice::CudaOnHost { .. }) {
            let moved = errors(&gradients, &own).values().filter(|e| **e > 0.0).count();
            assert!(2 * moved > gradients.len(), "{device}: cuDNN's way was not taken");
        }
        for ((a, b), exact) in losses.iter().zip(&plain_losses).zip(&cpu_losses) {
            let allowed = 2.0 * (b - exact).abs() + 2e-3 * exact.abs();
            assert!((a - exact).abs() <= allowed, "{device}: loss {a} by cuDNN, {b} plain, {exact} on the CPU");
        }
        let (ours, plain) = (errors(&gradients, &cpu), errors(&plain, &cpu));
        for (name, error) in &ours {
            let allowed = 2.0 * plain[name] + 2e-3;
            assert!(*error <= allowed, "{device} {name}: {error:.2e} by cuDNN, {:.2e} plain", plain[name]);
        }
    }
}

/// Parameters after a few whole steps, including update and averages.
#[test]
fn steps_in_f32_change_parameters_as_on_the_cpu() {
    let architecture = Architecture::new(Backbone::Tiny, three_tasks(), 64, 0.25);
    let train = |device: &DeviceChoice| {
        let balance = crate::balance::balance("uncertainty", &architecture.tasks, &[]);
        let mut trainer = Trainer::new(&architecture, [4, 64, 64], device, optimizer(1e-3, 20), balance).unwrap();
        trainer.executor.edit_store(|store| init::initialise(store, 5)).unwrap();
        let encoder = crate::step::encoder(&architecture, 64);
        let reports: Vec<_> = (0..3)
            .map(|step| {
                let targets: Vec<_> = (0..4).map(|i| encoder.encode(&labels(i + step))).collect();
                trainer.step(&crate::step::images(4, 64), &targets).unwrap()
            })
            .collect();
        let store = trainer.executor.store().unwrap();
        let set = |set| weights::export_parameters(store, Slot::Set(set), "").unwrap();
        (reports, set(ParameterSet::Current), set(ParameterSet::Average))
    };
    for device in devices(Precision::F32) {
        let (reports, values, averages) = train(&device);
        let (cpu_reports, cpu_values, cpu_averages) = train(&crate::step::cpu(2));
        for (a, b) in reports.iter().zip(&cpu_reports) {
            assert!((a.gradient_norm - b.gradient_norm).abs() <= 1e-2 * b.gradient_norm, "{device}: {a:?} {b:?}");
            assert_eq!(a.learning_rate, b.learning_rate);
        }
        for (ours, theirs) in [(values, cpu_values), (averages, cpu_averages)] {
            for name in ours.keys() {
                let (x, y) = (vector(&ours, name), vector(&theirs, name));
                let apart = norm(x.iter().zip(&y).map(|(x, y)| x - y));
                // AdamW's first steps are ±rate for any gradient. An element whose gradient is only rounding error may move in
                // the other direction, three times by at most the rate.
                let allowed = 0.05 * 3.0 * 1e-3 * (x.len() as f64).sqrt() + 1e-5 * norm(y.into_iter());
                assert!(apart <= allowed, "{device} {name}: {apart:.2e} apart, {allowed:.2e} allowed");
            }
        }
    }
}

fn bench(device: &DeviceChoice, batch: usize) -> Options {
    let device = device.clone();
    Options { imgsz: 64, batch, device, backbone: Backbone::Tiny, heads: Heads::All, repeats: 1, source: None }
}

/// The check that `bench ops --check` makes before timing.
#[test]
fn every_node_of_a_step_matches_the_cpu() {
    // With 4 images a strided dgrad has as many partial sums as on the CPU, from other rows; with 3 it has more.
    for (precision, batch) in [(Precision::Bf16, 3), (Precision::Bf16, 4), (Precision::F32, 3)] {
        for device in devices(precision) {
            let checked = check_kernels(&bench(&device, batch), 8).unwrap();
            println!("{device} in {precision:?}: {checked}");
            assert!(checked.nodes.len() > 100, "{} nodes", checked.nodes.len());
            assert!(checked.verdict().is_ok(), "{device} in {precision:?}:\n{checked}");
        }
    }
}

/// Copying the next batch during a step, timing the update alone, and the ceilings; the rows are the same as on the
/// CPU.
#[test]
fn every_bench_runs_on_a_gpus_kernels() {
    for device in devices(Precision::Bf16) {
        let on = |device: &DeviceChoice| Options { imgsz: 32, ..bench(device, 2) };
        let options = on(&device);
        for measured in [train(&options), infer(&options)] {
            let measured = measured.unwrap();
            assert!(measured.samples_per_sec > 0.0 && measured.batch_size == 2, "{measured}");
        }
        let (ours, theirs) = (ops(&options).unwrap(), ops(&on(&cpu(2))).unwrap());
        let names = |of: &OpsMeasurement| of.ops.iter().map(|op| op.op.clone()).collect::<BTreeSet<_>>();
        assert_eq!(names(&ours), names(&theirs));
        // The same parameters and moments, and bf16 copies of the convolution weights, which are most of the
        // parameters.
        let bytes = |of: &OpsMeasurement| of.ops.last().map_or(0.0, |row| row.gb_per_second * row.time * 1e6);
        let copies = (bytes(&ours) - bytes(&theirs)) / bytes(&theirs);
        assert!((0.5 * 2.0 / 36.0..1.1 * 2.0 / 36.0).contains(&copies), "copies are {copies} of the update");
    }
}

/// One tap of one filter is changed on the CPU: the check reports the two convolutions that read it, and no others.
#[test]
fn a_check_names_the_wrong_convolution() {
    for device in devices(Precision::Bf16) {
        let mut pair = Pair::new(&bench(&device, 3), Fusion::On).unwrap();
        let name = "layer2.0.conv2.weight";
        pair.cpu
            .executor
            .edit_store(|store| {
                let index = store.parameters.iter().position(|p| p.name == name).unwrap();
                let start = store.range(ParameterId(index)).start;
                store.values.f32_mut()[start] += 0.25;
            })
            .unwrap();
        let nodes = pair.compare().unwrap();
        let wrong: Vec<(&str, &str)> =
            nodes.iter().filter(|n| !n.is_right()).map(|n| (n.name.as_str(), n.of.as_str())).collect();
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        for (node, kind) in wrong.iter().zip(["conv2d fprop 3×3", "conv2d dgrad 3×3"]) {
            assert!(node.0.starts_with(kind) && node.1 == name, "{wrong:?}");
        }
    }
}
