//! One or a few training steps: fusion changes nothing, gradients match the loss, a resumed run equals an uninterrupted one.

use crate::balance::{balance, in_whole_steps};
use polyhead::device::cpu::IsaName;
use polyhead::executor::{DeviceChoice, Executor, ParameterSet, StepScalars, Tiles};
use polyhead::graph::fuse::{Fusion, fuse};
use polyhead::graph::plan::plan;
use polyhead::ir::{Mode, Segment};
use polyhead::model::weights::{self, Slot, Tensors};
use polyhead::model::{Architecture, Backbone, Card, TrainingNetwork, init};
use polyhead::optim::schedule::{Decline, Schedule};
use polyhead::optim::{OptimizerConfig, OptimizerKind};
use polyhead::tasks::classify::{Class, Classify};
use polyhead::tasks::detect::Detect;
use polyhead::tasks::regress::{Regress, Values};
use polyhead::tasks::{Boxes, Encoder, Label, LabelledBox, Target, Task, gather};
use polyhead::train::checkpoint::{self, EpochMeans, RunState};
use polyhead::train::step::Trainer;
use std::path::PathBuf;

pub fn cpu(threads: usize) -> DeviceChoice {
    DeviceChoice::Cpu { threads }
}

fn words(n: usize) -> Vec<String> {
    (0..n).map(|i| i.to_string()).collect()
}

pub fn three_tasks() -> Vec<Task> {
    vec![
        Task::new("things", Detect::new(words(3))),
        Task::new("kind", Classify::new(words(4))),
        Task::new("amount", Regress::new(words(2))),
    ]
}

pub fn labels(image: usize) -> Vec<Label> {
    let boxes = (0..image % 3).map(|i| {
        let (x, y) = (3.0 + 17.0 * i as f32, 5.0 + 11.0 * i as f32);
        LabelledBox { class: (image + i) % 3, xyxy: [x, y, x + 19.0, y + 23.0], ignore: false }
    });
    let values = [image as f64 / 2.0 - 1.0, if image == 1 { f64::NAN } else { 0.3 }];
    vec![Label::of(boxes.collect::<Boxes>()), Label::of(Class::One(image % 4)), Label::of(Values::from(&values[..]))]
}

pub fn images(n: usize, size: usize) -> Vec<u8> {
    let hash = |i: u64| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 53) as u8;
    (0..(n * size * size * 3) as u64).map(|i| hash(i / 7)).collect()
}

pub fn encoder(architecture: &Architecture, size: usize) -> Encoder {
    Encoder {
        tasks: architecture.tasks.clone(),
        levels: architecture.levels(size, size),
        standardisation: architecture.tasks.iter().map(|_| None).collect(),
    }
}

/// Losses and parameter gradients of one step, computed without the trainer.
pub struct Probe {
    pub executor: Executor,
    network: TrainingNetworkValues,
    scalars: StepScalars,
}

struct TrainingNetworkValues {
    plan: polyhead::executor::PlanId,
    losses: Vec<polyhead::ir::ValueId>,
}

impl Probe {
    fn new(backbone: Backbone, shape: [usize; 2], fusion: Fusion, labels: fn(usize) -> Vec<Label>) -> Probe {
        Probe::on(&cpu(2), backbone, shape, fusion, labels)
    }

    pub fn on(
        device: &DeviceChoice,
        backbone: Backbone,
        [n, size]: [usize; 2],
        fusion: Fusion,
        labels: fn(usize) -> Vec<Label>,
    ) -> Probe {
        Probe::tiled(device, None, backbone, [n, size], fusion, labels)
    }

    /// Chooses tiles in another way than the device's.
    pub fn tiled(
        device: &DeviceChoice,
        tiles: Option<Tiles>,
        backbone: Backbone,
        [n, size]: [usize; 2],
        fusion: Fusion,
        labels: fn(usize) -> Vec<Label>,
    ) -> Probe {
        let architecture = Architecture::new(backbone, three_tasks(), size, 0.25);
        let network = TrainingNetwork::new(&architecture, [n, size, size]).unwrap();
        Probe::of(device, tiles, network, &architecture, [n, size], fusion, labels)
    }

    /// For a network built from `architecture` for `[n, size]`.
    pub fn of(
        device: &DeviceChoice,
        tiles: Option<Tiles>,
        TrainingNetwork { network, losses, .. }: TrainingNetwork,
        architecture: &Architecture,
        [n, size]: [usize; 2],
        fusion: Fusion,
        labels: fn(usize) -> Vec<Label>,
    ) -> Probe {
        let mut executor = Executor::new(device, &network.graph.parameters, &network.graph.buffers).unwrap();
        if let Some(tiles) = tiles {
            executor.set_tiles(tiles);
        }
        executor.edit_store(|store| init::initialise(store, 1)).unwrap();
        let pixels = network.images;
        let plan = executor.prepare(network.graph, fusion).unwrap();
        executor.write_u8(plan, pixels, &images(n, size)).unwrap();
        let encoder = encoder(architecture, size);
        let encoded: Vec<Vec<Target>> = (0..n).map(|i| encoder.encode(&labels(i))).collect();
        let mut denominators = Vec::new();
        for (task, loss) in losses.iter().enumerate() {
            let target = gather(encoded.iter(), task);
            denominators.push(target.denominator);
            loss.write(&mut executor, plan, &target).unwrap();
        }
        let scalars =
            StepScalars { task_weights: vec![0.5, 2.0, 1.25], denominators, dropout_counter: 9, micro_batches: 1 };
        let network = TrainingNetworkValues { plan, losses: losses.iter().map(|l| l.loss).collect() };
        Probe { executor, network, scalars }
    }

    /// Also plans the same network for images of another shape `[N, size]`.
    pub fn prepare_another(&mut self, backbone: Backbone, [n, size]: [usize; 2]) {
        let architecture = Architecture::new(backbone, three_tasks(), size, 0.25);
        let another = TrainingNetwork::new(&architecture, [n, size, size]).unwrap();
        self.executor.prepare(another.network.graph, Fusion::On).unwrap();
    }

    fn run(&mut self, segment: Segment) {
        self.executor.run(self.network.plan, segment, ParameterSet::Current, &self.scalars).unwrap();
    }

    pub fn losses(&mut self) -> Vec<f32> {
        self.run(Segment::Forward);
        self.network.losses.iter().map(|&l| self.executor.read_f32(self.network.plan, l).unwrap()[0]).collect()
    }

    pub fn gradients(&mut self) -> Tensors {
        self.run(Segment::HeadsBackward);
        self.run(Segment::TrunkBackward);
        self.stored(Slot::Gradient)
    }

    pub fn stored(&mut self, slot: Slot) -> Tensors {
        weights::export_parameters(self.executor.store().unwrap(), slot, "").unwrap()
    }
}

/// Raises every other channel's bias of each norm far, and lowers the rest: half of the ReLUs are active, and none is so
/// close to its edge that rounding decides, which would change gradients by several per cent.
pub fn open_and_close_gates(executor: &mut Executor) {
    executor
        .edit_store(|store| {
            for index in 0..store.parameters.len() {
                let name = &store.parameters[index].name;
                let norm = ["bn1.bias", "bn2.bias", "bn3.bias", "downsample.1.bias", "norm.bias"];
                if norm.iter().any(|n| name.ends_with(n)) {
                    let range = store.range(polyhead::ir::ParameterId(index));
                    let bias = store.values.f32_mut()[range].iter_mut().enumerate();
                    bias.for_each(|(channel, b)| *b = if channel % 2 == 0 { 6.0 } else { -6.0 });
                }
            }
        })
        .unwrap();
}

pub fn vector(tensors: &Tensors, name: &str) -> Vec<f32> {
    tensors[name].flatten_all().unwrap().to_vec1().unwrap()
}

pub fn norm(values: impl Iterator<Item = f32>) -> f64 {
    values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn fused_and_plain_lists_give_the_same_results() {
    for (backbone, shape) in [(Backbone::Tiny, [3, 64]), (Backbone::Resnet18, [4, 64]), (Backbone::Resnet50, [4, 64])] {
        let new = |fusion| Probe::new(backbone, shape, fusion, labels);
        let (mut fused, mut plain) = (new(Fusion::On), new(Fusion::Off));
        open_and_close_gates(&mut fused.executor);
        open_and_close_gates(&mut plain.executor);
        for (a, b) in fused.losses().iter().zip(plain.losses()) {
            assert!(a.is_finite() && (a - b).abs() <= 1e-4 * b.abs(), "{backbone:?}: loss {a} fused, {b} plain");
        }
        let (a, b) = (fused.gradients(), plain.gradients());
        for name in a.keys() {
            let (x, y) = (vector(&a, name), vector(&b, name));
            let size = norm(y.iter().copied());
            let apart = norm(x.iter().zip(&y).map(|(x, y)| x - y));
            // A level without an object in these images has no gradient for its scale.
            assert!(size > 0.0 || name.contains(".box.scale."), "{name} has no gradient");
            // A bias's gradient is a sum that may cancel; its weight's gradient, over the same terms, gives the scale.
            let beside = name.strip_suffix(".bias").map(|n| vector(&b, &format!("{n}.weight")));
            let scale = beside.map_or(size, |w| size.max(norm(w.into_iter())));
            // Sums are ordered differently, through up to fifty layers. Batch norm's backward also subtracts the mean,
            // which magnifies rounding if the gradient is mostly mean (1e-4 in layer4 of the ResNet-50). A wrong mask,
            // addend or block of statistics changes a gradient by several per cent; the bound lies in between.
            assert!(apart <= 5e-4 * scale, "{backbone:?} {name}: {apart:.2e} apart of {size:.2e}");
        }
    }
}

/// The change of the weighted loss along a tensor's own gradient equals that gradient's norm. The images have no boxes:
/// with boxes the detection loss has targets that it does not differentiate (the decoded box's IoU, the best class
/// score), so that its gradient is not a slope. The op's own tests compare those gradients with PyTorch's.
#[test]
fn gradients_match_the_weighted_losses() {
    let names = [
        "conv1.weight",
        "layer2.0.downsample.0.weight",
        "layer4.0.bn2.weight",
        "heads.things.fpn.lateral.1.weight",
        "heads.things.class.tower.0.norm.weight",
        "heads.things.class.logits.bias",
        "heads.things.class.tower.0.conv.weight",
        "heads.kind.linear.weight",
        "heads.amount.linear.bias",
    ];
    for name in names {
        let mut probe = Probe::new(Backbone::Tiny, [4, 64], Fusion::On, |image| {
            let mut all = labels(image);
            all[0] = Label::of(Boxes::default());
            all
        });
        let weights = probe.scalars.task_weights.clone();
        // A head's stored gradient is that of its own loss; the trunk's is that of the weighted sum.
        let of = |probe: &mut Probe| -> f64 {
            let losses = probe.losses();
            let task = three_tasks().iter().position(|t| name.starts_with(&format!("heads.{}.", t.name)));
            let weighted = losses.iter().zip(&weights).map(|(&l, &w)| f64::from(l) * f64::from(w));
            match task {
                Some(task) => f64::from(losses[task]),
                None => weighted.sum(),
            }
        };
        let before = of(&mut probe);
        let gradient = vector(&probe.gradients(), name);
        let size = norm(gradient.iter().copied());
        assert!(before.is_finite() && size > 0.0, "{name}");
        let mut moved = |distance: f64| {
            let index = probe.executor.store().unwrap().parameters.iter().position(|p| p.name == name).unwrap();
            let range = probe.executor.store().unwrap().range(polyhead::ir::ParameterId(index));
            let old = probe.executor.store().unwrap().values.f32()[range.clone()].to_vec();
            // The exported gradient is in KCRS order, so the step along it uses the same import.
            let mut tensors =
                weights::export_parameters(probe.executor.store().unwrap(), Slot::Set(ParameterSet::Current), "")
                    .unwrap();
            let step: Vec<f32> = vector(&tensors, name)
                .iter()
                .zip(&gradient)
                .map(|(v, g)| v + (distance * f64::from(*g) / size) as f32)
                .collect();
            let shape = tensors[name].dims().to_vec();
            tensors.insert(name.into(), candle_core::Tensor::from_vec(step, shape, &candle_core::Device::Cpu).unwrap());
            probe
                .executor
                .edit_store(|store| {
                    weights::import_parameters(store, Slot::Set(ParameterSet::Current), &tensors, "").unwrap();
                })
                .unwrap();
            let loss = of(&mut probe);
            probe.executor.edit_store(|store| store.values.f32_mut()[range].copy_from_slice(&old)).unwrap();
            loss
        };
        // Large enough to exceed f32's rounding of the loss, small enough to stay in the linear part. Kinks of ReLU and
        // of the assignment lie in between, so the bound is a tenth.
        let h = (3e-3 / size).min(2e-2);
        let slope = (moved(h) - moved(-h)) / (2.0 * h);
        assert!((slope - size).abs() <= 0.1 * size, "{name}: slope {slope:.5}, gradient {size:.5}");
    }
}

pub fn optimizer(lr: f32, steps: u64) -> OptimizerConfig {
    OptimizerConfig {
        kind: OptimizerKind::AdamW,
        schedule: Schedule { lr, decline: Decline::Cosine { final_share: 0.05 }, warmup_steps: 5, total_steps: steps },
        rate_factors: Vec::new(),
        momentum: 0.9,
        weight_decay: 0.01,
        clip_norm: Some(10.0),
        average_decay: 0.9,
    }
}

pub fn trainer(tasks: Vec<Task>, threads: usize, method: &str) -> Trainer {
    let architecture = Architecture::new(Backbone::Tiny, tasks, 64, 0.2);
    let balance = balance(method, &architecture.tasks, &vec![1.0; architecture.tasks.len()]);
    let mut trainer = Trainer::new(&architecture, [4, 64, 64], &cpu(threads), optimizer(3e-3, 20), balance).unwrap();
    trainer.executor.edit_store(|store| init::initialise(store, 5)).unwrap();
    trainer
}

/// Steps with the tasks' labels, except those of the tasks in `mask`.
pub fn take_steps(trainer: &mut Trainer, tasks: &[Task], mask: &[&str], steps: u64) {
    let architecture = Architecture::new(Backbone::Tiny, tasks.to_vec(), 64, 0.2);
    let encoder = encoder(&architecture, 64);
    for _ in 0..steps {
        let first = trainer.step as usize;
        let targets: Vec<Vec<Target>> = (first..first + 4)
            .map(|image| {
                let all = three_tasks().into_iter().zip(labels(image % 6));
                let mine = tasks.iter().map(|t| {
                    let label = all.clone().find(|(task, _)| task == t).unwrap().1;
                    if mask.contains(&t.name.as_str()) { Label::UNLABELLED } else { label }
                });
                encoder.encode(&mine.collect::<Vec<_>>())
            })
            .collect();
        let mut pixels = images(4, 64);
        pixels.rotate_left(first * 101);
        trainer.step(&pixels, &targets).unwrap();
    }
}

pub fn current(trainer: &mut Trainer) -> Tensors {
    let store = trainer.executor.store().unwrap();
    let mut all = weights::export_parameters(store, Slot::Set(ParameterSet::Current), "").unwrap();
    all.append(&mut weights::export_parameters(store, Slot::Set(ParameterSet::Average), "ema.").unwrap());
    all.append(&mut weights::export_parameters(store, Slot::FirstMoment, "first.").unwrap());
    all.append(&mut weights::export_parameters(store, Slot::SecondMoment, "second.").unwrap());
    all.append(&mut weights::export_buffers(store, ParameterSet::Current, "").unwrap());
    all.append(&mut weights::export_buffers(store, ParameterSet::Average, "ema.").unwrap());
    all
}

pub fn assert_same_bits(a: &Tensors, b: &Tensors) {
    let mut compared = 0;
    for (name, tensor) in a {
        let Some(other) = b.get(name) else { continue };
        let bits = |t: &candle_core::Tensor| -> Vec<u32> {
            t.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
        };
        assert!(bits(tensor) == bits(other), "{name} differs");
        compared += 1;
    }
    assert!(compared > 20);
}

#[test]
fn images_without_objects_train_and_unlabelled_images_do_not() {
    let tasks = three_tasks()[..1].to_vec();
    let architecture = Architecture::new(Backbone::Tiny, tasks.clone(), 64, 0.0);
    let encoder = encoder(&architecture, 64);
    let step = |label: Label| {
        let mut trainer = trainer(tasks.clone(), 2, "fixed");
        let before = current(&mut trainer);
        let report = trainer.step(&images(4, 64), &vec![encoder.encode(&[label]); 4]).unwrap();
        let after = current(&mut trainer);
        (report.losses[0], vector(&before, "conv1.weight") == vector(&after, "conv1.weight"))
    };
    let (loss, still) = step(Label::of(Boxes::default()));
    assert!(loss > 0.0 && !still);
    let (loss, still) = step(Label::UNLABELLED);
    assert!(loss.is_nan() && still);
}

#[test]
fn the_number_of_threads_does_not_change_results() {
    let run = |threads| {
        let mut trainer = trainer(three_tasks(), threads, "uncertainty");
        take_steps(&mut trainer, &three_tasks(), &[], 4);
        current(&mut trainer)
    };
    [2, 3].into_iter().for_each(|threads| assert_same_bits(&run(1), &run(threads)));
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one() {
    let folder = Folder::new("resume");
    for method in in_whole_steps() {
        let mut whole = trainer(three_tasks(), 2, method);
        take_steps(&mut whole, &three_tasks(), &[], 9);
        let mut first = trainer(three_tasks(), 2, method);
        take_steps(&mut first, &three_tasks(), &["kind"], 0);
        take_steps(&mut first, &three_tasks(), &[], 4);
        let card = Card::new(Architecture::new(Backbone::Tiny, three_tasks(), 64, 0.2), 64);
        let state = RunState {
            config: polyhead::recipe::Recipe::QuickStart.config(),
            step: first.step,
            epochs_done: 0,
            optimizer_steps: first.optimizer.steps.clone(),
            balance: first.balance.state(),
            best: None,
            lost_best: Some(0.5),
            best_epoch: Some(3),
            kept_epoch: Some(4),
            retries: 1,
            best_per_task: vec![None; 3],
            elapsed_s: 1.25,
            data_fingerprint: u64::MAX,
            id: Some("0123".into()),
            best_files: [("best".to_owned(), "ff".to_owned())].into(),
            content: None,
            isa: Some(IsaName::Avx2),
            tuning: Some("0123456789abcdef".into()),
            past: vec![vec![(1.5, Some(0.25)), (2.0, None)], Vec::new(), Vec::new()],
            past_losses: Vec::new(),
            mosaic_epochs: Some(40),
            trials: None,
            means: EpochMeans::new(3),
        };
        let file = folder.path.join("last.safetensors");
        checkpoint::save(&file, &mut first, &card, &state).unwrap();
        let loaded = checkpoint::load(&file).unwrap();
        assert_eq!(loaded.state, state);
        let mut second = trainer(three_tasks(), 2, method);
        loaded.restore(&mut second, &file).unwrap();
        take_steps(&mut second, &three_tasks(), &[], 5);
        assert_same_bits(&current(&mut whole), &current(&mut second));
        assert_eq!(whole.balance.state(), second.balance.state());
    }
}

/// A temporary folder that is removed on drop.
pub struct Folder {
    pub path: PathBuf,
}

impl Folder {
    pub fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("polyhead-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Folder { path }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// A head that is skipped in a step continues as if the step had not happened: its gradient, moments and step count
/// depend on its own labels only. With a learning rate of zero the trunk is the same in both runs.
#[test]
fn a_task_that_comes_back_continues_where_it_was() {
    for kind in [OptimizerKind::AdamW, OptimizerKind::Sgd] {
        let run = |schedule: &[(usize, bool)]| {
            let architecture = Architecture::new(Backbone::Tiny, three_tasks(), 64, 0.0);
            let encoder = encoder(&architecture, 64);
            let config = OptimizerConfig { kind, ..optimizer(0.0, 20) };
            let balance = balance("fixed", &architecture.tasks, &[1.0; 3]);
            let mut trainer = Trainer::new(&architecture, [4, 64, 64], &cpu(2), config, balance).unwrap();
            trainer.executor.edit_store(|store| init::initialise(store, 5)).unwrap();
            for &(first, labelled) in schedule {
                let targets: Vec<Vec<Target>> = (first..first + 4)
                    .map(|image| match labels(image % 6) {
                        mut all if !labelled => {
                            all[1] = Label::UNLABELLED;
                            encoder.encode(&all)
                        }
                        all => encoder.encode(&all),
                    })
                    .collect();
                let mut pixels = images(4, 64);
                pixels.rotate_left(first * 101);
                trainer.step(&pixels, &targets).unwrap();
            }
            trainer
        };
        let (mut away, mut never) = (run(&[(0, true), (1, false), (2, true)]), run(&[(0, true), (2, true)]));
        assert_eq!(away.optimizer.steps, [3, 3, 2, 3]);
        let (a, b) = (current(&mut away), current(&mut never));
        let mut compared = 0;
        for name in a.keys().filter(|n| n.contains("heads.kind.")) {
            assert_eq!(vector(&a, name), vector(&b, name), "{kind:?} {name}");
            compared += usize::from(name.starts_with("first.") && vector(&a, name).iter().any(|v| *v != 0.0));
        }
        assert_eq!(compared, 2, "weight and bias have moments");
    }
}

/// Fusion leaves fewer nodes, and values share memory.
#[test]
fn fusion_removes_nodes_and_the_arena_is_smaller_than_its_values() {
    for (backbone, norms) in [(Backbone::Tiny, 12), (Backbone::Resnet18, 20), (Backbone::Resnet50, 53)] {
        let architecture = Architecture::new(backbone, three_tasks(), 64, 0.0);
        let training = TrainingNetwork::new(&architecture, [2, 64, 64]).unwrap().network.graph;
        let evaluation = architecture.network([2, 64, 64], Mode::Evaluate).unwrap().graph;
        for plain in [training, evaluation] {
            let mut fused = plain.clone();
            fuse(&mut fused, Fusion::On);
            // At least one node of each batch norm is fused into its convolution.
            assert!(fused.nodes.len() + norms <= plain.nodes.len(), "{} of {}", fused.nodes.len(), plain.nodes.len());
            let planned = plan(&fused);
            assert!(planned.arena_bytes > 0 && planned.arena_bytes * 10 < planned.unshared_bytes * 9);
        }
    }
}
