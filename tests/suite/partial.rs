//! Steps with frozen stages, and steps with accumulated batches.

use crate::cuda::devices;
use crate::multi_scale::edit_boxes;
use crate::step::{Probe, encoder, images, labels, norm, open_and_close_gates, optimizer, three_tasks, vector};
use polyhead::device::cuda::Precision;
use polyhead::executor::compare::round_to_bf16;
use polyhead::executor::{DeviceChoice, ParameterSet, Store};
use polyhead::graph::fuse::{Fusion, fuse};
use polyhead::ir::{Op, ParameterId};
use polyhead::model::weights::{self, Slot, Tensors};
use polyhead::model::{self, Architecture, Backbone, Freeze, Stage, TrainingNetwork, init};
use polyhead::tasks::{Label, LabelFeatures, PartialRegion, Regions, Target, Task};
use polyhead::train::step::{StepReport, Trainer};

const N: usize = 4;

fn freezes() -> [Freeze; 4] {
    let stages = |stages: &[Stage]| Freeze { stages: stages.to_vec(), batch_norm: false };
    [
        stages(&[Stage::Stem, Stage::Layer1]),
        // There are learning layers on both sides.
        stages(&[Stage::Layer2]),
        stages(&Stage::ALL),
        Freeze { stages: vec![Stage::Stem], batch_norm: true },
    ]
}

fn probe(device: &DeviceChoice, freeze: &Freeze, fusion: Fusion) -> Probe {
    let architecture = Architecture::new(Backbone::Tiny, three_tasks(), 64, 0.25);
    let network = TrainingNetwork::partly_frozen(&architecture, [N, 64, 64], freeze).unwrap();
    let mut probe = Probe::of(device, None, network, &architecture, [N, 64], fusion, labels);
    open_and_close_gates(&mut probe.executor);
    probe
}

/// ‖a − b‖ ÷ ‖b‖ of every gradient; for a bias relative at least to its weight's, because its sum may cancel.
fn apart(a: &Tensors, b: &Tensors) -> Vec<(String, f64)> {
    let of = |name: &String| {
        let (x, y) = (vector(a, name), vector(b, name));
        let beside = name.strip_suffix(".bias").map(|n| norm(vector(b, &format!("{n}.weight")).into_iter()));
        let scale = norm(y.iter().copied()).max(beside.unwrap_or(0.0));
        let apart = norm(x.iter().zip(&y).map(|(x, y)| x - y));
        (name.clone(), if apart == 0.0 { 0.0 } else { apart / scale })
    };
    a.keys().map(of).collect()
}

/// In f32 every gradient with frozen stages matches the CPU's; in bf16 with fusion it is as close as the plain list's. The
/// CPU's are compared with torchvision's elsewhere.
#[test]
fn gpu_kernels_pass_gradients_through_frozen_stages_like_the_cpu() {
    for freeze in freezes() {
        let step = |device: &DeviceChoice, fusion| {
            let mut probe = probe(device, &freeze, fusion);
            (probe.losses(), probe.gradients())
        };
        let (cpu_losses, cpu) = step(&crate::step::cpu(2), Fusion::On);
        let (_, plain) = step(&crate::step::cpu(2), Fusion::Off);
        for (name, error) in apart(&plain, &cpu) {
            assert!(error <= 1e-4, "{freeze:?} {name}: {error:.2e} apart without fusion");
        }
        for device in devices(Precision::F32) {
            let (losses, gradients) = step(&device, Fusion::On);
            assert!(
                losses.iter().zip(&cpu_losses).all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs()),
                "{device} {freeze:?}"
            );
            for (name, error) in apart(&gradients, &cpu) {
                assert!(error <= 2e-4, "{device} {freeze:?} {name}: {error:.2e}");
            }
        }
        // bf16 rounds every map, so only single nodes can be compared; the layers are the same, so two kinds are enough.
        for device in devices(Precision::Bf16) {
            if freeze.stages == [Stage::Layer2] || freeze.batch_norm {
                check_nodes(&device, &freeze);
            }
        }
    }
}

/// Compares every single node with the CPU's, on the same numbers.
fn check_nodes(device: &DeviceChoice, freeze: &Freeze) {
    let mut trainers = [device, &crate::step::cpu(2)].map(|device| {
        let mut trainer = trainer_on(device, three_tasks(), N, freeze);
        let round = |store: &mut Store| {
            for (index, shape) in store.parameters.iter().map(|p| p.shape.len()).enumerate().collect::<Vec<_>>() {
                let range = store.range(ParameterId(index));
                let values = store.values.f32_mut()[range].iter_mut();
                // A convolution reads bf16 weights on the GPU, so both get weights in bf16.
                values.filter(|_| shape == 4).for_each(|v| *v = round_to_bf16(*v));
            }
        };
        trainer.executor.edit_store(round).unwrap();
        trainer
    });
    let [gpu, cpu] = &mut trainers;
    let (pixels, targets) = batch(&three_tasks(), N, 0);
    let nodes = gpu.compare_nodes(cpu, &pixels, &targets).unwrap();
    let wrong: Vec<_> = nodes.iter().filter(|node| !node.is_right()).collect();
    assert!(nodes.iter().any(|n| n.name == "batch_norm_apply_backward") && wrong.is_empty(), "{freeze:?}: {wrong:#?}");
}

#[test]
fn frozen_stages_have_no_backward() {
    let architecture = Architecture::new(Backbone::Resnet50, three_tasks(), 64, 0.0);
    let count = |freeze: &Freeze| {
        let mut graph = TrainingNetwork::partly_frozen(&architecture, [2, 64, 64], freeze).unwrap().network.graph;
        fuse(&mut graph, Fusion::On);
        let of = |kind: fn(&Op) -> bool| graph.nodes.iter().filter(|n| kind(&n.op)).count();
        let passes = of(|op| matches!(op, Op::BatchNormApply(_) | Op::BatchNormFinish));
        [of(|op| matches!(op, Op::Conv2dWgrad(_))), of(|op| matches!(op, Op::Conv2dDgrad(_))), passes]
    };
    let [wgrads, dgrads, passes] = count(&Freeze::default());
    // The stem, and layer1's three blocks of three and a downsample, are eleven convolutions; all but the stem have a dgrad. The
    // two of layer2 that read layer1's output have no dgrad either, because its gradient is not needed.
    let frozen = count(&Freeze { stages: vec![Stage::Stem, Stage::Layer1], batch_norm: false });
    assert_eq!(frozen, [wgrads - 11, dgrads - 12, passes - 22]);
    let [wgrads, dgrads, _] = count(&Freeze { stages: Stage::ALL.to_vec(), batch_norm: false });
    // The rest belongs to the detection head: three laterals without a dgrad, because the features' gradients are not
    // needed.
    assert_eq!(wgrads, dgrads + 3);
}

#[test]
fn frozen_stages_do_not_change() {
    for freeze in freezes() {
        let mut trainer = trainer(three_tasks(), N, &freeze);
        let before = parts(&mut trainer);
        for step in 0..3 {
            let (pixels, targets) = batch(&three_tasks(), N, step);
            trainer.step(&pixels, &targets).unwrap();
        }
        let after = parts(&mut trainer);
        for (name, old) in &before {
            let stage = name.trim_start_matches("ema.").split('.').next().unwrap();
            let stage = if ["conv1", "bn1"].contains(&stage) { "stem" } else { stage };
            let norm = [".bn", "bn1.", ".downsample.1."].iter().any(|n| name.contains(n)) && !name.contains("heads");
            let frozen = freeze.stages.iter().any(|s| s.name() == stage) || (freeze.batch_norm && norm);
            let same = old.iter().zip(&after[name]).all(|(a, b)| a.to_bits() == b.to_bits());
            // A level without an object has no gradient for its scale.
            assert!(same == frozen || name.contains(".box.scale."), "{freeze:?}: {name} moved: {}", !same);
        }
    }
}

type Parts = std::collections::BTreeMap<String, Vec<f32>>;

/// Parameters, running statistics and the averages of both.
fn parts(trainer: &mut Trainer) -> Parts {
    let store = trainer.executor.store().unwrap();
    let mut all = Parts::new();
    for (set, prefix) in [(ParameterSet::Current, ""), (ParameterSet::Average, "ema.")] {
        let mut tensors = weights::export_parameters(store, Slot::Set(set), prefix).unwrap();
        tensors.append(&mut weights::export_buffers(store, set, prefix).unwrap());
        all.extend(tensors.keys().map(|name| (name.clone(), vector(&tensors, name))));
    }
    all
}

fn trainer(tasks: Vec<Task>, n: usize, freeze: &Freeze) -> Trainer {
    trainer_on(&crate::step::cpu(2), tasks, n, freeze)
}

fn trainer_on(device: &DeviceChoice, tasks: Vec<Task>, n: usize, freeze: &Freeze) -> Trainer {
    let architecture = Architecture::new(Backbone::Tiny, tasks, 64, 0.0);
    let network = TrainingNetwork::partly_frozen(&architecture, [n, 64, 64], freeze).unwrap();
    let balance = crate::balance::balance("uncertainty", &architecture.tasks, &[]);
    let tasks = &architecture.tasks;
    let mut trainer = Trainer::of(network, tasks, device, optimizer(3e-3, 20), balance, Fusion::On).unwrap();
    trainer.executor.edit_store(|store| init::initialise(store, 5)).unwrap();
    trainer
}

/// `n` images starting with number `first · n`, some without labels.
fn batch(tasks: &[Task], n: usize, first: usize) -> (Vec<u8>, Vec<Vec<Target>>) {
    let encoder = encoder(&Architecture::new(Backbone::Tiny, tasks.to_vec(), 64, 0.0), 64);
    let images_before = first * n;
    let encode = |image: usize| {
        let all = three_tasks().into_iter().zip(labels(image));
        let mine: Vec<Label> =
            tasks.iter().map(|task| all.clone().find(|(other, _)| other == task).unwrap().1).collect();
        encoder.encode(&mine)
    };
    let pixels: Vec<u8> = (images_before..images_before + n)
        .flat_map(|image| {
            let mut one = images(1, 64);
            one.rotate_left(image * 101);
            one
        })
        .collect();
    (pixels, (images_before..images_before + n).map(encode).collect())
}

/// The second class was not annotated in two of four images, nor in the left half of a third.
fn partly_annotated(image: usize) -> Vec<Label> {
    let mut all = labels(image);
    let region = |xyxy| PartialRegion { xyxy, looked_for: [0].as_slice().into() };
    let region = match image % 4 {
        0 | 1 => Some(region([0.0, 0.0, 64.0, 64.0])),
        2 => Some(region([0.0, 0.0, 32.0, 64.0])),
        _ => None,
    };
    edit_boxes(&mut all[0], |boxes| boxes.partial = region.into_iter().collect());
    all
}

fn of_kind(device: &DeviceChoice, regions: Regions, labels: fn(usize) -> Vec<Label>) -> (Vec<f32>, Tensors) {
    let architecture = Architecture::new(Backbone::Tiny, three_tasks(), 64, 0.0);
    let kinds = LabelFeatures { regions, ..LabelFeatures::default() };
    let network =
        TrainingNetwork::for_labels(&architecture, [N, 64, 64], &Freeze::default(), kinds, model::Probe::None).unwrap();
    let mut probe = Probe::of(device, None, network, &architecture, [N, 64], Fusion::On, labels);
    open_and_close_gates(&mut probe.executor);
    (probe.losses(), probe.gradients())
}

/// Buffers for partly annotated images change no bits by themselves. Such images change only the detection's loss, equally on
/// every device.
#[test]
fn partly_annotated_images_have_the_same_loss_on_every_device() {
    let cpu = crate::step::cpu(2);
    let whole = of_kind(&cpu, Regions::Whole, labels);
    let room = of_kind(&cpu, Regions::Partial, labels);
    assert_eq!(whole.0, room.0);
    for name in whole.1.keys() {
        assert_eq!(vector(&whole.1, name), vector(&room.1, name), "{name}");
    }
    let partial = of_kind(&cpu, Regions::Partial, partly_annotated);
    assert!(partial.0[0] < whole.0[0], "what is left out costs nothing: {:?} {:?}", partial.0, whole.0);
    assert_eq!(partial.0[1..], whole.0[1..]);
    for device in devices(Precision::F32) {
        let (losses, gradients) = of_kind(&device, Regions::Partial, partly_annotated);
        assert!(losses.iter().zip(&partial.0).all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs()), "{device}");
        for (name, error) in apart(&gradients, &partial.1) {
            assert!(error <= 2e-4, "{device} {name}: {error:.2e}");
        }
    }
}

/// With frozen batch norm nothing in the trunk depends on other images of a batch, and both losses are sums over images ÷ the
/// step's denominator: M batches of B equal one of M·B except for the order of sums.
#[test]
fn accumulated_batches_equal_one_large_batch() {
    let tasks: Vec<Task> = three_tasks().into_iter().filter(|t| t.name != "things").collect();
    let freeze = Freeze { stages: Vec::new(), batch_norm: true };
    let (mut large, mut small) = (trainer(tasks.clone(), 6, &freeze), trainer(tasks.clone(), 2, &freeze));
    for step in 0..3 {
        let (pixels, targets) = batch(&tasks, 6, step);
        let whole = large.step(&pixels, &targets).unwrap();
        let image = pixels.len() / 6;
        let parts: Vec<(&[u8], &[Vec<Target>])> = pixels.chunks(2 * image).zip(targets.chunks(2)).collect();
        let accumulated = small.accumulated_step(&parts).unwrap();
        let near = |a: f64, b: f64| (a - b).abs() <= 2e-5 * b.abs();
        assert!(near(accumulated.gradient_norm, whole.gradient_norm), "{accumulated:?} {whole:?}");
        for (a, b) in accumulated.losses.iter().zip(&whole.losses) {
            assert!(near(f64::from(*a), f64::from(*b)), "{accumulated:?} {whole:?}");
        }
        assert_eq!(large.step, small.step);
        for (name, [apart, size]) in distances(&mut large, &mut small) {
            // AdamW divides a gradient by its own size. If that is only rounding error, a step of the rate may go either
            // way.
            assert!(apart <= 2e-3 * size.max(3e-3), "step {step} {name}: {apart:.2e} apart of {size:.2e}");
        }
    }
}

/// For every parameter the distance between the two, and its size.
fn distances(a: &mut Trainer, b: &mut Trainer) -> Vec<(String, [f64; 2])> {
    let (a, b) = (parts(a), parts(b));
    let of = |(name, x): (&String, &Vec<f32>)| {
        let y = &b[name];
        (name.clone(), [norm(x.iter().zip(y).map(|(x, y)| x - y)), norm(y.iter().copied())])
    };
    a.iter().map(of).collect()
}

/// The detection loss uses weights from scores summed within a batch, and batch norm uses statistics of its batch. Accumulation
/// averages these terms, as in PyTorch. So the same batch twice must equal the step of that batch, in losses and gradients.
#[test]
fn the_same_batch_twice_equals_the_step_of_that_batch() {
    let (pixels, targets) = batch(&three_tasks(), N, 0);
    let once = trainer(three_tasks(), N, &Freeze::default()).step(&pixels, &targets).unwrap();
    let batch = (pixels.as_slice(), targets.as_slice());
    let twice: StepReport = trainer(three_tasks(), N, &Freeze::default()).accumulated_step(&[batch, batch]).unwrap();
    assert_eq!(once.losses, twice.losses);
    assert!((once.gradient_norm - twice.gradient_norm).abs() <= 1e-6 * once.gradient_norm, "{once:?} {twice:?}");
}
