//! The whole step on the GPU's kernels against the CPU: the plan, its layout in a GPU's memory, every launch in order. On a
//! GPU where there is one, and through the shim on this CPU.

use crate::step::{Probe, labels, norm, optimizer, three_tasks, vector};
use polyhead::balance::Method;
use polyhead::device::cuda::{Driver, File, Host, Precision};
use polyhead::executor::{DeviceChoice, ParameterSet};
use polyhead::graph::fuse::Fusion;
use polyhead::model::weights::{self, Slot};
use polyhead::model::{Architecture, Backbone, init};
use polyhead::train::step::Trainer;
use std::path::{Path, PathBuf};

/// The devices there are; where the shim cannot be built that is said, and a failure if `POLYHEAD_REQUIRE_SHIM` is set.
fn devices(precision: Precision) -> Vec<DeviceChoice> {
    let mut devices = Vec::new();
    if Driver::is_present() {
        devices.push(DeviceChoice::Cuda { ordinal: 0, precision });
    }
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    match Host::build(Path::new(env!("CARGO_MANIFEST_DIR")), &File::ALL, &target, precision) {
        Ok(library) => devices.push(DeviceChoice::CudaOnHost { library, precision }),
        Err(e) if std::env::var_os("POLYHEAD_REQUIRE_SHIM").is_some() => panic!("{e}"),
        Err(e) => eprintln!("skipped: kernels on this CPU: {e}"),
    }
    devices
}

/// Losses and every gradient of one step, as far apart as `bound` says: in f32 the sums are ordered otherwise.
fn compare(device: &DeviceChoice, backbone: Backbone, loss_bound: f32, bound: f64) {
    let new = |device: &DeviceChoice| {
        let mut probe = Probe::on(device, backbone, [3, 64], Fusion::On, labels);
        probe.open_and_close_gates();
        probe
    };
    let (mut gpu, mut cpu) = (new(device), new(&crate::step::cpu(2)));
    for (a, b) in gpu.losses().iter().zip(cpu.losses()) {
        assert!(a.is_finite() && (a - b).abs() <= loss_bound * b.abs(), "{device}: loss {a}, {b} on the CPU");
    }
    let (a, b) = (gpu.gradients(), cpu.gradients());
    let mut worst = (0.0, String::new());
    for name in a.keys() {
        let (x, y) = (vector(&a, name), vector(&b, name));
        let apart = norm(x.iter().zip(&y).map(|(x, y)| x - y));
        let size = norm(y.iter().copied());
        let beside = name.strip_suffix(".bias").map(|n| vector(&b, &format!("{n}.weight")));
        let scale = beside.map_or(size, |w| size.max(norm(w.into_iter())));
        assert!(apart.is_finite() && apart <= bound * scale.max(1e-30), "{device} {name}: {apart:.2e} of {scale:.2e}");
        if scale > 0.0 && apart / scale > worst.0 {
            worst = (apart / scale, name.clone());
        }
    }
    eprintln!("{device}: gradients at most {:.1e} apart ({})", worst.0, worst.1);
}

#[test]
fn a_step_in_f32_is_the_cpus() {
    for device in devices(Precision::F32) {
        compare(&device, Backbone::Tiny, 1e-4, 5e-4);
    }
}

#[test]
fn a_step_in_bf16_is_the_cpus_to_rounding() {
    for device in devices(Precision::Bf16) {
        compare(&device, Backbone::Tiny, 0.02, 0.1);
    }
}

/// Parameters after a few whole steps, update and averages included.
#[test]
fn steps_in_f32_move_parameters_as_the_cpu_does() {
    let architecture = Architecture::new(Backbone::Tiny, three_tasks(), 64, 0.25);
    let train = |device: &DeviceChoice| {
        let balance = Method::Uncertainty.start(&[1.0; 3]);
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
                // AdamW's first steps are ±rate whatever the gradient's size: an element whose gradient is rounding alone may go
                // the other way, three times by at most the rate.
                let allowed = 0.05 * 3.0 * 1e-3 * (x.len() as f64).sqrt() + 1e-5 * norm(y.into_iter());
                assert!(apart <= allowed, "{device} {name}: {apart:.2e} apart, {allowed:.2e} allowed");
            }
        }
    }
}
