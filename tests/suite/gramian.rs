//! The inner products of the tasks' gradients that a plan computes during a step, at the shared features and at the last shared
//! convolution, compared with the products of the gradients themselves. On a CPU, and on a GPU's kernels.

use crate::cuda::devices;
use crate::step::{cpu, encoder, images, labels, three_tasks};
use polyhead::device::cuda::Precision;
use polyhead::executor::{DeviceChoice, Executor, ParameterSet, PlanId, StepScalars};
use polyhead::graph::fuse::{Fusion, fuse};
use polyhead::graph::plan::plan;
use polyhead::ir::{Gramian, Graph, Op, ParameterId, Segment, TermForm, ValueId};
use polyhead::model::{Architecture, Backbone, Freeze, Probe, Stage, TrainingNetwork, init};
use polyhead::tasks::{LabelFeatures, Target, gather};

const TASKS: usize = 3;
const SHAPE: [usize; 3] = [3, 64, 64];

fn architecture(backbone: Backbone) -> Architecture {
    Architecture::new(backbone, three_tasks(), SHAPE[1], 0.25)
}

fn network(backbone: Backbone, freeze: &Freeze, probe: Probe) -> polyhead::error::Result<TrainingNetwork> {
    TrainingNetwork::for_labels(&architecture(backbone), SHAPE, freeze, LabelFeatures::default(), probe)
}

/// One batch on a device, and the inputs of the nodes that compare gradients.
struct Step {
    executor: Executor,
    plan: PlanId,
    denominators: Vec<f32>,
    compared: Vec<(Gramian, Vec<ValueId>)>,
}

/// The nodes that compare gradients, with their inputs.
fn compared(graph: &Graph) -> Vec<(Gramian, Vec<ValueId>)> {
    let of_node = |node: &polyhead::ir::Node| match &node.op {
        Op::Gramian(op) => Some((op.clone(), node.inputs.clone())),
        _ => None,
    };
    graph.nodes.iter().filter_map(of_node).collect()
}

impl Step {
    fn new(device: &DeviceChoice, freeze: &Freeze, probe: Probe) -> Step {
        let TrainingNetwork { mut network, losses, .. } = network(Backbone::Tiny, freeze, probe).unwrap();
        let compared = compared(&network.graph);
        // Added as outputs, so that the host can read them.
        network.graph.outputs.extend(compared.iter().flat_map(|(_, values)| values));
        let mut executor = Executor::new(device, &network.graph.parameters, &network.graph.buffers).unwrap();
        executor.edit_store(|store| init::initialise(store, 1)).unwrap();
        let pixels = network.images;
        let plan = executor.prepare(network.graph, Fusion::On).unwrap();
        executor.write_u8(plan, pixels, &images(SHAPE[0], SHAPE[1])).unwrap();
        let encoder = encoder(&architecture(Backbone::Tiny), SHAPE[1]);
        let encoded: Vec<Vec<Target>> = (0..SHAPE[0]).map(|i| encoder.encode(&labels(i))).collect();
        let mut denominators = Vec::new();
        for (task, loss) in losses.iter().enumerate() {
            let target = gather(encoded.iter(), task);
            denominators.push(target.denominator);
            loss.write(&mut executor, plan, &target).unwrap();
        }
        Step { executor, plan, denominators, compared }
    }

    fn run(&mut self, segments: &[Segment], weights: [f32; TASKS]) {
        let (task_weights, denominators) = (weights.to_vec(), self.denominators.clone());
        let scalars = StepScalars { task_weights, denominators, dropout_counter: 9, micro_batches: 1 };
        for &segment in segments {
            self.executor.run(self.plan, segment, ParameterSet::Current, &scalars).unwrap();
        }
    }

    /// The plan's Gramian after a step's first segments with these weights.
    fn gramian(&mut self) -> Vec<f64> {
        self.run(&[Segment::Forward, Segment::HeadsBackward], [0.5, 2.0, 1.25]);
        self.run(&[Segment::Probe], [1.0; TASKS]);
        self.executor.gramian(self.plan, TASKS).unwrap()
    }

    /// A parameter's gradient in the Store.
    fn stored(&mut self, name: &str) -> Vec<f32> {
        let store = self.executor.store().unwrap();
        let id = store.parameters.iter().position(|parameter| parameter.name == name).unwrap();
        store.gradients.f32()[store.range(ParameterId(id))].to_vec()
    }
}

fn inner_products(gradients: &[Vec<f64>]) -> Vec<f64> {
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum();
    gradients.iter().flat_map(|a| gradients.iter().map(move |b| product(a, b))).collect()
}

/// Within the difference of f32 sums in another order, as a share of the two gradients' lengths.
fn assert_near(what: &str, got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), TASKS * TASKS);
    for (index, (got, expected_here)) in got.iter().zip(expected).enumerate() {
        let [row, column] = [index / TASKS, index % TASKS].map(|task| expected[task * (TASKS + 1)].sqrt());
        assert!(row > 0.0 && column > 0.0, "{what}: {expected:?}");
        let allowed = 2e-6 * row * column;
        assert!((got - expected_here).abs() <= allowed, "{what} [{index}]: {got}, not {expected_here}");
    }
}

fn all_devices() -> Vec<DeviceChoice> {
    let gpus = [Precision::F32, Precision::Bf16].into_iter().flat_map(devices);
    std::iter::once(cpu(2)).chain(gpus).collect()
}

#[test]
fn products_at_the_features_match_the_gradients_there() {
    for device in all_devices() {
        let mut step = Step::new(&device, &Freeze::default(), Probe::Features);
        assert_eq!(step.compared.len(), 3);
        let got = step.gramian();
        let mut expected = vec![0.0; TASKS * TASKS];
        for (op, values) in &step.compared {
            let gradients: Vec<Vec<f32>> =
                values.iter().map(|&value| step.executor.read_f32(step.plan, value).unwrap()).collect();
            let dense = op.terms.iter().position(|term| term.1 == TermForm::Dense).unwrap();
            let mut whole = vec![vec![0.0; gradients[dense].len()]; TASKS];
            let channels = whole[0].len() / (SHAPE[0] * op.pixels);
            for (&(task, form), gradient) in op.terms.iter().zip(&gradients) {
                for (at, sum) in whole[task].iter_mut().enumerate() {
                    *sum += match form {
                        TermForm::Dense => f64::from(gradient[at]),
                        TermForm::Pooled => {
                            let image = at / (op.pixels * channels);
                            f64::from(gradient[image * channels + at % channels]) / op.pixels as f64
                        }
                    };
                }
            }
            expected.iter_mut().zip(inner_products(&whole)).for_each(|(sum, product)| *sum += product);
        }
        assert_near(&device.to_string(), &got, &expected);
    }
}

/// The slow way: a whole step per task with only that task, whose gradient is read from the Store.
#[test]
fn products_at_the_last_shared_convolution_match_whole_steps() {
    let frozen_norms = Freeze { batch_norm: true, ..Freeze::default() };
    let all = all_devices();
    let cases = all.iter().map(|device| (device, Freeze::default())).chain([(&all[0], frozen_norms)]);
    for (device, freeze) in cases {
        let got = Step::new(device, &freeze, Probe::Layer).gramian();
        let of_task = |task: usize| -> Vec<f64> {
            let mut step = Step::new(device, &freeze, Probe::None);
            let mut weights = [0.0; TASKS];
            weights[task] = 1.0;
            step.run(&[Segment::Forward, Segment::HeadsBackward, Segment::TrunkBackward], weights);
            step.stored("layer4.0.conv2.weight").into_iter().map(f64::from).collect()
        };
        let gradients: Vec<Vec<f64>> = (0..TASKS).map(of_task).collect();
        assert_near(&format!("{device}, {freeze:?}"), &got, &inner_products(&gradients));
    }
}

/// A plan with a probe has the same nodes, fused in the same way, plus those of the probe.
#[test]
fn a_probe_is_a_separate_segment() {
    let none = network(Backbone::Tiny, &Freeze::default(), Probe::None).unwrap().network.graph;
    for fusion in [Fusion::On, Fusion::Off] {
        let mut without = none.clone();
        fuse(&mut without, fusion);
        let planned = plan(&without);
        assert!(planned.nodes(Segment::Probe).is_empty());
        let ends = Segment::ALL.map(|segment| planned.nodes(segment)).map(|range| (range.start, range.end));
        assert!(
            ends[0].0 == 0 && ends.windows(2).all(|pair| pair[0].1 == pair[1].0) && ends[3].1 == without.nodes.len()
        );
        for probe in [Probe::Features, Probe::Layer] {
            let mut with = network(Backbone::Tiny, &Freeze::default(), probe).unwrap().network.graph;
            fuse(&mut with, fusion);
            let rest = |graph: &Graph| -> Vec<Op> {
                let rest = graph.nodes.iter().filter(|node| node.segment != Segment::Probe);
                rest.map(|node| node.op.clone()).collect()
            };
            assert_eq!(rest(&with), rest(&without));
            // No other node reads the probe's outputs.
            let probed = plan(&with).nodes(Segment::Probe);
            assert!(!probed.is_empty());
            let written = |value: &ValueId| with.nodes[probed.clone()].iter().any(|node| node.outputs.contains(value));
            let behind = &with.nodes[probed.end..];
            assert!(!behind.iter().any(|node| node.inputs.iter().chain(&node.outputs).any(written)));
        }
    }
}

#[test]
fn the_last_shared_convolution_is_in_the_last_block() {
    for (backbone, name) in [
        (Backbone::Tiny, "layer4.0.conv2"),
        (Backbone::Resnet18, "layer4.1.conv2"),
        (Backbone::Resnet34, "layer4.2.conv2"),
        (Backbone::Resnet50, "layer4.2.conv3"),
        (Backbone::Resnet101, "layer4.2.conv3"),
    ] {
        let graph = network(backbone, &Freeze::default(), Probe::Layer).unwrap().network.graph;
        let compared = compared(&graph);
        let names: Vec<&str> = compared[0].1.iter().map(|&value| graph.value(value).name.as_str()).collect();
        assert_eq!((compared.len(), names), (1, vec![format!("{name}.weight.gradient_aside").as_str(); TASKS]));
    }
}

#[test]
fn a_probe_in_a_frozen_trunk_is_refused() {
    let frozen = |stages: &[Stage]| Freeze { stages: stages.to_vec(), batch_norm: false };
    let refusal = |stages: &[Stage], probe| {
        let error = network(Backbone::Resnet50, &frozen(stages), probe).err().unwrap();
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    };
    let error = refusal(&[Stage::Layer4], Probe::Layer);
    assert!(error.contains("layer4.2.conv3") && error.contains("--gramian features"), "{error}");
    assert!(network(Backbone::Resnet50, &frozen(&[Stage::Layer4]), Probe::Features).is_ok());
    let error = refusal(&Stage::ALL, Probe::Features);
    assert!(error.contains("the whole trunk is frozen"), "{error}");
}

#[test]
fn a_plan_without_a_probe_says_so() {
    let step = Step::new(&cpu(1), &Freeze::default(), Probe::None);
    let error = step.executor.gramian(step.plan, TASKS).unwrap_err();
    assert!(error.to_string().contains("without a probe"), "{error}");
}
