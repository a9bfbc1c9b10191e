//! Compares a hundred steps of SGD and AdamW on a small network with PyTorch's (tests/golden/trajectory.py): parameters and
//! running statistics, with a task's weight, a head's learning rate, clipping and a schedule, on the CPU and with the GPU's
//! kernels.

use crate::cuda::devices;
use crate::reference::{fill, hash};
use crate::step::cpu;
use clap::ValueEnum;
use polyhead::balance::Weights;
use polyhead::device::cuda::Precision;
use polyhead::executor::{DeviceChoice, Executor, ParameterSet, PlanId, StepScalars};
use polyhead::graph::backward::{self, Head, append_backward};
use polyhead::graph::fuse::Fusion;
use polyhead::ir::{Conv2d, DType, Graph, Group, Mode, Segment, ValueId};
use polyhead::layers::Builder;
use polyhead::model::weights::{self, Slot, Tensors};
use polyhead::ops::batch_norm::Activation;
use polyhead::ops::{class_loss, pool, preprocess};
use polyhead::optim::schedule::{Decline, Schedule};
use polyhead::optim::{OptimizerConfig, OptimizerKind, OptimizerState};
use serde_json::Value;

/// The script's network on a device.
struct Network {
    executor: Executor,
    plan: PlanId,
    images: ValueId,
    class: ValueId,
    loss: ValueId,
}

impl Network {
    fn new(device: &DeviceChoice, shape: &[usize], classes: usize) -> Network {
        let conv = |stride| Conv2d { kernel: 3, stride, padding: 1 };
        let mut graph = Graph::new(Mode::Train);
        let images = graph.input("images", shape, DType::U8);
        let x = preprocess::preprocess(&mut graph, images).unwrap();
        let mut b = Builder::new(&mut graph);
        let y = b.conv(x, "conv1", 8, conv(2)).unwrap();
        let z = b.batch_norm(y, "bn1", None, Activation::Relu).unwrap();
        let y = b.conv(z, "layer1.0.conv2", 8, conv(1)).unwrap();
        let features = b.batch_norm(y, "layer1.0.bn2", None, Activation::Relu).unwrap();
        let trunk = b.graph.nodes.len();
        b.group = Group::Head(0);
        let pooled = pool::global_pool(b.graph, features, "pooled").unwrap();
        let logits = b.linear(pooled, "fc", classes).unwrap();
        let class = graph.input("class", &shape[..1], DType::I32);
        let loss = class_loss::class_loss(&mut graph, logits, class, None, None, 0.0, 0).unwrap();
        graph.outputs.push(loss);
        let head = Head { task: 0, nodes: (trunk..graph.nodes.len()).collect() };
        append_backward(&mut graph, 0..trunk, &[features], &[head], backward::Probe::None);
        let mut executor = Executor::new(device, &graph.parameters, &graph.buffers).unwrap();
        let plan = executor.prepare(graph, Fusion::On).unwrap();
        executor.edit_store(|store| fill(store, "bn2")).unwrap();
        Network { executor, plan, images, class, loss }
    }

    /// Runs one step on a batch; returns the loss and whether the gradient was clipped.
    fn step(
        &mut self,
        state: &mut OptimizerState,
        config: &OptimizerConfig,
        step: u64,
        batch: &Batch,
        weight: f32,
    ) -> (f32, bool) {
        self.executor.write_u8(self.plan, self.images, &batch.images).unwrap();
        self.executor.write_i32(self.plan, self.class, &batch.classes).unwrap();
        let labelled = batch.classes.iter().filter(|c| **c >= 0).count() as f32;
        let scalars = StepScalars {
            task_weights: vec![weight],
            denominators: vec![labelled],
            dropout_counter: step,
            micro_batches: 1,
        };
        for segment in [Segment::Forward, Segment::HeadsBackward, Segment::TrunkBackward] {
            self.executor.run(self.plan, segment, ParameterSet::Current, &scalars).unwrap();
        }
        let loss = self.executor.read_f32(self.plan, self.loss).unwrap()[0];
        let norm = self.executor.update(&state.advance(config, step, &Weights::of_losses(vec![weight]))).unwrap();
        (loss, norm > f64::from(config.clip_norm.unwrap()))
    }

    fn tensors(&mut self) -> Tensors {
        let store = self.executor.store().unwrap();
        let mut all = weights::export_parameters(store, Slot::Set(ParameterSet::Current), "").unwrap();
        all.append(&mut weights::export_buffers(store, ParameterSet::Current, "").unwrap());
        all
    }
}

struct Batch {
    images: Vec<u8>,
    classes: Vec<i32>,
}

impl Batch {
    fn new(index: u64, pixels: usize, n: usize, classes: u64) -> Batch {
        let words = |name: &str, len: usize| -> Vec<u64> {
            (0..len as u64).map(|i| hash::word(&format!("trajectory.{name}.{index}"), i)).collect()
        };
        Batch {
            images: words("images", pixels).into_iter().map(|w| (w >> 56) as u8).collect(),
            classes: words("classes", n).into_iter().map(|w| (w % (classes + 1)) as i32 - 1).collect(),
        }
    }
}

fn number(value: &Value) -> f32 {
    value.as_f64().unwrap() as f32
}

fn config(golden: &Value, case: &Value) -> OptimizerConfig {
    let milestones = golden["milestones"].as_array().unwrap().iter().map(|m| m.as_u64().unwrap()).collect();
    let steps = golden["steps"].as_u64().unwrap();
    OptimizerConfig {
        kind: OptimizerKind::from_str(case["optimizer"].as_str().unwrap(), false).unwrap(),
        schedule: Schedule {
            lr: number(&case["lr"]),
            decline: Decline::Step { milestones, gamma: number(&golden["gamma"]) },
            warmup_steps: 0,
            total_steps: steps,
        },
        rate_factors: vec![1.0, number(&golden["head"])],
        momentum: number(&case["momentum"]),
        weight_decay: number(&case["weight_decay"]),
        clip_norm: Some(number(&case["clip_norm"])),
        average_decay: 0.9,
    }
}

#[test]
fn a_hundred_steps_of_sgd_and_adamw_end_like_pytorchs() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/trajectory.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let shape: Vec<usize> = serde_json::from_value(golden["shape"].clone()).unwrap();
    let classes = golden["classes"].as_u64().unwrap();
    let batches: Vec<Batch> =
        (0..4).map(|index| Batch::new(index, shape.iter().product(), shape[0], classes)).collect();
    for device in [vec![cpu(2)], devices(Precision::F32)].concat() {
        for case in golden["cases"].as_array().unwrap() {
            let config = config(&golden, case);
            let mut network = Network::new(&device, &shape, classes as usize);
            let mut state = OptimizerState::new(2);
            let (mut losses, mut clipped) = (Vec::new(), 0);
            for step in 0..config.schedule.total_steps {
                let batch = &batches[step as usize % 4];
                let (loss, was) = network.step(&mut state, &config, step, batch, number(&golden["weight"]));
                losses.push(loss);
                clipped += u64::from(was);
            }
            assert_eq!(clipped, case["clipped"].as_u64().unwrap(), "{device} {:?}", config.kind);
            for (ours, theirs) in [losses[0], losses[losses.len() - 1]].iter().zip(case["losses"].as_array().unwrap()) {
                assert!((ours - number(theirs)).abs() <= 1e-5, "{device} {:?}: loss {ours}, {theirs}", config.kind);
            }
            compare(&format!("{device} {:?}", config.kind), &network.tensors(), &case["tensors"]);
        }
    }
}

/// The difference is at most 1e-5; PyTorch's own f32 differs by up to 2e-6. A running variance may be ten, so its error
/// is relative.
fn compare(what: &str, ours: &Tensors, golden: &Value) {
    let golden = golden.as_object().unwrap();
    assert_eq!(ours.len(), golden.len());
    for (name, tensor) in ours {
        let got: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
        let expected: Vec<f32> = golden[name].as_array().unwrap().iter().map(number).collect();
        assert_eq!(got.len(), expected.len(), "{name}");
        let scale = |e: f32| if name.contains(".running_") { e.abs().max(1.0) } else { 1.0 };
        let apart = got.iter().zip(&expected).map(|(g, &e)| (g - e).abs() / scale(e)).fold(0.0, f32::max);
        assert!(apart <= 1e-5, "{what} {name}: {apart:.2e} apart");
    }
}
