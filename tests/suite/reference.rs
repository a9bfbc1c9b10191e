//! Compares the trunk with torchvision in f64: outputs, features, gradients and running statistics (tests/golden/resnet.py), with
//! frozen parts and accumulated batches (partial.py), and with candle-transformers.

#[path = "../golden/hash.rs"]
pub mod hash;

use clap::ValueEnum;
use polyhead::executor::{DeviceChoice, Executor, ParameterSet, PlanId, StepScalars, Store};
use polyhead::graph::fuse::Fusion;
use polyhead::ir::{DType, Gradients, Graph, Group, Mode, Segment, TermForm, ValueId};
use polyhead::layers::Builder;
use polyhead::model::weights::{self, Slot, Tensors};
use polyhead::model::{Backbone, Freeze, Stage, resnet};
use polyhead::ops::{self, combine, pool};
use serde_json::Value;

/// A torchvision-shaped network without losses: the test provides the gradient of the logits.
struct Reference {
    executor: Executor,
    plan: PlanId,
    x: ValueId,
    /// c3, c4, c5, logits
    looked_at: [(ValueId, Vec<usize>); 4],
    logits_gradient: Option<ValueId>,
    last_norm: String,
}

impl Reference {
    fn new(case: &Value, mode: Mode, fusion: Fusion) -> Reference {
        Reference::frozen(case, mode, fusion, &Freeze::default())
    }

    fn frozen(case: &Value, mode: Mode, fusion: Fusion, freeze: &Freeze) -> Reference {
        let [n, _, h, w] = shape_of(case);
        let backbone = Backbone::from_str(case["architecture"].as_str().unwrap(), false).unwrap();
        let mut graph = Graph::new(mode);
        let x = graph.input("x", &[n, h, w, 3], DType::F32);
        let mut builder = Builder::new(&mut graph);
        let features = resnet::resnet(&mut builder, x, backbone, freeze).unwrap();
        let trunk = builder.graph.nodes.len();
        let pooled = pool::global_pool(builder.graph, features[2], "pooled").unwrap();
        builder.group = Group::Trunk;
        let logits = builder.linear(pooled, "fc", 1000).unwrap();
        graph.outputs.extend(features);
        graph.outputs.push(logits);
        let logits_gradient = (mode == Mode::Train).then(|| append_backward(&mut graph, features[2], logits, trunk));
        let looked_at = [features[0], features[1], features[2], logits].map(|v| (v, graph.shape(v).to_vec()));
        let mut executor = Executor::new(&DeviceChoice::Cpu { threads: 2 }, &graph.parameters, &graph.buffers).unwrap();
        let plan = executor.prepare(graph, fusion).unwrap();
        let last_norm = case["last_norm"].as_str().unwrap().to_owned();
        executor.edit_store(|store| fill(store, &last_norm)).unwrap();
        Reference { executor, plan, x, looked_at, logits_gradient, last_norm }
    }

    /// The forward pass of the case's `index`-th input.
    fn forward(&mut self, case: &Value, index: usize) {
        let [n, c, h, w] = shape_of(case);
        let input = input_name(case, index);
        let nchw = hash::input(input, n * c * h * w);
        let mut nhwc = vec![0.0; nchw.len()];
        for (i, value) in nchw.iter().enumerate() {
            let (image, channel, pixel) = (i / (c * h * w), i / (h * w) % c, i % (h * w));
            nhwc[(image * h * w + pixel) * c + channel] = *value;
        }
        self.executor.write_f32(self.plan, self.x, &nhwc).unwrap();
        self.run(Segment::Forward);
    }

    /// The backward pass of the last forward input; gradients are added to the existing ones.
    fn backward(&mut self, case: &Value) {
        let seed = self.logits_gradient.unwrap();
        let gradient = hash::logits_gradient(shape_of(case)[0], 1000);
        self.executor.write_f32(self.plan, seed, &gradient).unwrap();
        self.run(Segment::HeadsBackward);
        self.run(Segment::TrunkBackward);
    }

    fn gradients(&mut self) -> Tensors {
        weights::export_parameters(self.executor.store().unwrap(), Slot::Gradient, "gradient.").unwrap()
    }

    fn run(&mut self, segment: Segment) {
        let scalars = StepScalars { task_weights: vec![1.0], denominators: vec![1.0], ..StepScalars::default() };
        self.executor.run(self.plan, segment, ParameterSet::Current, &scalars).unwrap();
    }

    /// An output in torchvision's order.
    fn read(&self, index: usize) -> Vec<f32> {
        let (value, shape) = &self.looked_at[index];
        let data = self.executor.read_f32(self.plan, *value).unwrap();
        match shape[..] {
            [n, h, w, c] => to_nchw(&data, [n, h, w, c]),
            _ => data,
        }
    }
}

fn append_backward(graph: &mut Graph, c5: ValueId, logits: ValueId, trunk: usize) -> ValueId {
    let shape = graph.shape(logits).to_vec();
    let seed = graph.input("logits_gradient", &shape, DType::F32);
    let fc = graph.nodes[graph.nodes.len() - 1].clone();
    let mut gradients = Gradients::new(graph);
    gradients.accumulate(graph, logits, seed);
    graph.segment = Segment::HeadsBackward;
    ops::operation(&fc.op).backward(graph, &fc, &mut gradients);
    let pooled = gradients.get(fc.inputs[0]).unwrap();
    graph.segment = Segment::TrunkBackward;
    let seam = combine::combine(graph, c5, &[(0, TermForm::Pooled, pooled)]);
    gradients.accumulate(graph, c5, seam);
    for index in (0..trunk).rev() {
        let node = graph.nodes[index].clone();
        ops::operation(&node.op).backward(graph, &node, &mut gradients);
    }
    seed
}

/// Sets every parameter and running statistic from the counter hash.
pub fn fill(store: &mut Store, last_norm: &str) {
    let mut tensors = weights::export_parameters(store, Slot::Set(ParameterSet::Current), "").unwrap();
    tensors.append(&mut weights::export_buffers(store, ParameterSet::Current, "").unwrap());
    let hashed: Tensors = tensors
        .iter()
        .map(|(name, old)| {
            let values = hash::parameter(name, old.dims(), last_norm);
            (name.clone(), candle_core::Tensor::from_vec(values, old.dims(), old.device()).unwrap())
        })
        .collect();
    assert!(weights::import_parameters(store, Slot::Set(ParameterSet::Current), &hashed, "").unwrap().is_empty());
    assert!(weights::import_buffers(store, ParameterSet::Current, &hashed, "").unwrap().is_empty());
}

fn to_nchw(data: &[f32], [n, h, w, c]: [usize; 4]) -> Vec<f32> {
    let index = |i: usize| {
        let (image, channel, pixel) = (i / (c * h * w), i / (h * w) % c, i % (h * w));
        (image * h * w + pixel) * c + channel
    };
    (0..n * c * h * w).map(|i| data[index(i)]).collect()
}

fn shape_of(case: &Value) -> [usize; 4] {
    let sizes: Vec<usize> = case["shape"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect();
    sizes.try_into().unwrap()
}

fn input_name(case: &Value, index: usize) -> &str {
    case["inputs"][index].as_str().unwrap()
}

fn cases() -> Vec<Value> {
    golden("resnet.json")
}

fn golden(file: &str) -> Vec<Value> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    all["cases"].as_array().unwrap().clone()
}

/// Compares samples and projections with the stored ones, relative to the stored norm: the error is at most 1e-4, or
/// twice the error of PyTorch's own f32.
fn compare(case: &Value, name: &str, got: &[f32]) {
    let tensors = case["tensors"].as_array().unwrap();
    let stored = tensors.iter().find(|t| t["name"] == name).unwrap_or_else(|| panic!("no golden {name}"));
    let numbers =
        |key: &str| -> Vec<f64> { stored[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect() };
    assert_eq!(got.len() as u64, stored["len"].as_u64().unwrap(), "{name}");
    let norm = stored["norm"].as_f64().unwrap();
    let bound = (2.0 * stored["f32_error"].as_f64().unwrap()).max(1e-4);
    let root_mean_square = |errors: Vec<f64>| {
        let count = errors.len() as f64;
        (errors.iter().map(|e| e * e).sum::<f64>() / count).sqrt()
    };
    let samples = numbers("samples");
    let indices = hash::sample_indices(name, got.len(), samples.len());
    let sampled = samples.iter().zip(indices).map(|(&s, i)| f64::from(got[i]) - s).collect();
    let sampled = root_mean_square(sampled) * (got.len() as f64).sqrt() / norm;
    let projected = numbers("projections").iter().zip(0..).map(|(&s, p)| hash::projection(name, got, p) - s).collect();
    let projected = root_mean_square(projected) / norm;
    let architecture = case["architecture"].as_str().unwrap();
    assert!(
        sampled <= bound && projected <= bound,
        "{architecture} {name}: samples {sampled:.2e}, projections {projected:.2e}, allowed {bound:.2e}"
    );
}

const OUTPUTS: [&str; 4] = ["c3", "c4", "c5", "logits"];

#[test]
fn evaluation_equals_torchvision() {
    for case in cases() {
        let mut reference = Reference::new(&case, Mode::Evaluate, Fusion::On);
        if let Some(count) = case["parameters"].as_u64() {
            let parameters = &reference.executor.store().unwrap().parameters;
            assert_eq!(parameters.iter().map(|p| p.shape.iter().product::<usize>() as u64).sum::<u64>(), count);
        }
        reference.forward(&case, 0);
        for (index, name) in OUTPUTS.iter().enumerate() {
            compare(&case, &format!("evaluate.{name}"), &reference.read(index));
        }
    }
}

/// Cases without `parameters` also have a training pass.
#[test]
fn training_equals_torchvision_in_outputs_gradients_and_running_statistics() {
    for case in cases().into_iter().filter(|case| case["parameters"].is_null()) {
        let mut reference = Reference::new(&case, Mode::Train, Fusion::On);
        reference.forward(&case, 0);
        for (index, name) in OUTPUTS.iter().enumerate() {
            compare(&case, &format!("train.{name}"), &reference.read(index));
        }
        reference.backward(&case);
        let gradients = reference.gradients();
        assert_eq!(gradients.len(), if reference.last_norm == "bn3" { 161 } else { 62 });
        for (name, gradient) in &gradients {
            compare(&case, name, &gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        }
        reference.forward(&case, 1);
        reference.forward(&case, 2);
        let running = weights::export_buffers(reference.executor.store().unwrap(), ParameterSet::Current, "").unwrap();
        for (name, statistic) in &running {
            compare(&case, name, &statistic.to_vec1::<f32>().unwrap());
        }
    }
}

#[test]
fn gradients_with_frozen_parts_and_of_several_batches_equal_torchvision() {
    for case in golden("partial.json") {
        let kind = case["kind"].as_str().unwrap();
        let stages = match kind {
            "stages" => vec![Stage::Stem, Stage::Layer1],
            "middle" => vec![Stage::Layer2],
            _ => Vec::new(),
        };
        let freeze = Freeze { stages, batch_norm: kind == "batch_norm" };
        for fusion in [Fusion::On, Fusion::Off] {
            let mut reference = Reference::frozen(&case, Mode::Train, fusion, &freeze);
            for index in 0..case["inputs"].as_array().unwrap().len() {
                reference.forward(&case, index);
                reference.backward(&case);
            }
            let learnt = case["tensors"].as_array().unwrap();
            for (name, gradient) in &reference.gradients() {
                let gradient = gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                match learnt.iter().any(|t| t["name"] == name.as_str()) {
                    true => compare(&case, name, &gradient),
                    false => assert!(gradient.iter().all(|&g| g == 0.0), "{kind}: {name} is frozen"),
                }
            }
        }
    }
}

#[test]
fn oracle_logits_equal_ours() {
    use candle_core::{Device, Tensor};
    use candle_nn::{Module, VarBuilder};
    use candle_transformers::models::resnet as oracle;

    for case in cases() {
        let mut reference = Reference::new(&case, Mode::Evaluate, Fusion::On);
        reference.forward(&case, 0);
        let store = reference.executor.store().unwrap();
        let mut tensors = weights::export_parameters(store, Slot::Set(ParameterSet::Current), "").unwrap();
        tensors.append(&mut weights::export_buffers(store, ParameterSet::Current, "").unwrap());
        let builder = VarBuilder::from_tensors(tensors.into_iter().collect(), candle_core::DType::F32, &Device::Cpu);
        let network = match case["architecture"].as_str().unwrap() {
            "resnet18" => oracle::resnet18(1000, builder),
            "resnet101" => oracle::resnet101(1000, builder),
            _ => oracle::resnet50(1000, builder),
        };
        let [n, c, h, w] = shape_of(&case);
        let input =
            Tensor::from_vec(hash::input(input_name(&case, 0), n * c * h * w), (n, c, h, w), &Device::Cpu).unwrap();
        let expected = network.unwrap().forward(&input).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let got = reference.read(3);
        let norm = expected.iter().map(|v| v * v).sum::<f32>().sqrt();
        let error = expected.iter().zip(&got).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
        assert!(error <= 1e-4 * norm, "{}: {error} of {norm}", case["architecture"]);
    }
}
