//! A trained network as a value: load it, ask it, save it. What programs that build on polyhead hold in their hands.

use super::card::{Card, Framing};
use super::weights::{self, StateFile, Tensors};
use super::{Architecture, Backbone, Network};
use crate::error::{Error, Result};
use crate::executor::{DeviceChoice, Executor, NodeTime, ParameterSet, PlanId, StepScalars, Store};
use crate::graph::fuse::Fusion;
use crate::ir::{Mode, Segment, ValueId};
use crate::tasks::{HeadOutput, HeadValues, classifier};
use candle_core::Tensor;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A network with its card, parameters as tensors in torchvision's names and order.
pub struct Model {
    pub card: Card,
    pub tensors: Tensors,
}

impl Model {
    /// Reads a weights file of ours, or a torchvision- or timm-named ResNet as a plain classifier whose classes are
    /// `classes`, or their indices.
    ///
    /// # Errors
    /// A file that is broken, no ResNet, or whose number of classes differs from `classes`.
    pub fn load(path: &Path, classes: Option<Vec<String>>) -> Result<Model> {
        let file = weights::read(path)?;
        match file.metadata.get(Card::KEY) {
            Some(_) if classes.is_some() => Err(Error::Usage(format!(
                "--classes is for a plain ResNet file; {} carries its own class names: leave --classes out",
                path.display()
            ))),
            Some(text) => {
                let card = Card::from_json(text, path)?;
                Ok(Model { card, tensors: prediction_tensors(file.tensors) })
            }
            None => plain_classifier(file, path, classes),
        }
    }

    /// The weights file a person means: the file itself, or the best (else the last) of a run's folder.
    ///
    /// # Errors
    /// Neither is there.
    pub fn locate(path: &Path) -> Result<PathBuf> {
        if path.is_file() {
            return Ok(path.to_path_buf());
        }
        let candidates = ["best", "last"].map(|n| path.join("weights").join(format!("{n}.safetensors")));
        candidates.into_iter().find(|c| c.is_file()).ok_or_else(|| {
            Error::Usage(format!(
                "{}: expected a weights file, or a run's folder with weights/best.safetensors or weights/last.safetensors",
                path.display()
            ))
        })
    }

    /// # Errors
    /// The file system refuses; an older file stays whole.
    pub fn save(&self, path: &Path) -> Result<()> {
        weights::write(path, &self.tensors, HashMap::from([(Card::KEY.to_owned(), self.card.to_json())]))
    }

    /// Puts the network on a device, ready to run.
    ///
    /// # Errors
    /// The device cannot be had, or tensors are missing.
    pub fn start(&self, device: &DeviceChoice) -> Result<Runner> {
        let size = self.card.image_size.next_multiple_of(32);
        let network = self.card.architecture.network([1, size, size], Mode::Evaluate)?;
        let mut executor = Executor::new(device, &network.graph.parameters, &network.graph.buffers)?;
        executor.edit_store(|store| self.fill(store))??;
        Ok(Runner { architecture: self.card.architecture.clone(), executor, plans: HashMap::new() })
    }

    fn fill(&self, store: &mut Store) -> Result<()> {
        let mut missing =
            weights::import_parameters(store, weights::Slot::Set(ParameterSet::Current), &self.tensors, "")?;
        missing.extend(weights::import_buffers(store, ParameterSet::Current, &self.tensors, "")?);
        match missing.first() {
            None => Ok(()),
            Some(first) => Err(Error::Other(format!(
                "the weights lack {} of the model's tensors, `{first}` first: the file is not whole",
                missing.len()
            ))),
        }
    }

    /// The shared features of images, for those who build on the trunk.
    ///
    /// Shapes: images u8 `[N, H, W, 3]`; c3, c4, c5 f32 `[N, ⌈H/8⌉, ⌈W/8⌉, C]` and so on, channels last.
    ///
    /// # Errors
    /// Images of another type or rank, or a device that cannot be had.
    pub fn features(&self, images: &Tensor, device: &DeviceChoice) -> Result<[Tensor; 3]> {
        let (n, h, w, _) = images.dims4().map_err(weights::of_candle)?;
        let bytes = images.flatten_all().and_then(|t| t.to_vec1::<u8>()).map_err(weights::of_candle)?;
        let mut runner = self.start(device)?;
        let trunk = Architecture { tasks: Vec::new(), ..self.card.architecture.clone() };
        let mut network = trunk.network([n, h, w], Mode::Evaluate)?;
        network.graph.outputs.extend(network.features);
        let shapes = network.features.map(|f| network.graph.shape(f).to_vec());
        let (images, features) = (network.images, network.features);
        let plan = runner.executor.prepare(network.graph, Fusion::On)?;
        runner.executor.write_u8(plan, images, &bytes)?;
        let scalars = StepScalars::default();
        runner.executor.run(plan, Segment::Forward, ParameterSet::Current, &scalars)?;
        let read = |i: usize| {
            let data = runner.executor.read_f32(plan, features[i])?;
            Tensor::from_vec(data, shapes[i].as_slice(), &candle_core::Device::Cpu).map_err(weights::of_candle)
        };
        Ok([read(0)?, read(1)?, read(2)?])
    }
}

/// Of a checkpoint take the averages; of a model file everything.
fn prediction_tensors(tensors: Tensors) -> Tensors {
    let averaged: Tensors =
        tensors.iter().filter_map(|(k, v)| Some((k.strip_prefix("ema.")?.to_owned(), v.clone()))).collect();
    if averaged.is_empty() { tensors } else { averaged }
}

/// A ResNet with torchvision's names and nothing else: one classification task on `fc`.
fn plain_classifier(file: StateFile, path: &Path, names: Option<Vec<String>>) -> Result<Model> {
    let mut tensors = file.tensors;
    let strange = |what: &str| {
        Error::checkpoint(
            path,
            format!("{what}: expected a polyhead file, or a ResNet-18, -34, -50 or -101 with torchvision's names"),
        )
    };
    let blocks = (0..).take_while(|i| tensors.contains_key(&format!("layer3.{i}.conv1.weight"))).count();
    let backbone = match (tensors.contains_key("layer1.0.conv3.weight"), blocks) {
        (true, 6) => Backbone::Resnet50,
        (true, 23) => Backbone::Resnet101,
        (false, 6) => Backbone::Resnet34,
        (false, 2) if tensors.contains_key("layer4.1.conv2.weight") => Backbone::Resnet18,
        _ => return Err(strange("the layers are those of no network known here")),
    };
    let (Some(weight), Some(bias)) = (tensors.remove("fc.weight"), tensors.remove("fc.bias")) else {
        return Err(strange("there is no final layer `fc`"));
    };
    let count = weight.dims()[0];
    let classes = names.unwrap_or_else(|| (0..count).map(|i| i.to_string()).collect());
    if classes.len() != count {
        return Err(Error::Usage(format!(
            "--classes names {} classes and {} has {count}: give one name per line, in the order of the outputs",
            classes.len(),
            path.display()
        )));
    }
    let task = classifier("class", classes);
    tensors.insert("heads.class.linear.weight".into(), weight);
    tensors.insert("heads.class.linear.bias".into(), bias);
    let mut card = Card::new(Architecture::new(backbone, vec![task], 224, 0.0), 224);
    card.framing = Framing::ResizeCenterCrop;
    Ok(Model { card, tensors })
}

/// A model on a device: runs batches of any size, a plan for each shape it meets.
pub struct Runner {
    architecture: Architecture,
    executor: Executor,
    plans: HashMap<[usize; 3], ForwardPlan>,
}

impl Runner {
    /// Shapes: images u8 `[N, H, W, 3]` as `shape` says; one output per task.
    ///
    /// # Errors
    /// A shape the network cannot take.
    pub fn run(&mut self, shape: [usize; 3], images: &[u8]) -> Result<Vec<HeadOutput>> {
        self.prepare(shape)?;
        self.plans[&shape].run(&mut self.executor, ParameterSet::Current, images)
    }

    /// Brings the next batch to the device, where the one that was started may still be computing.
    ///
    /// # Errors
    /// As [`Runner::run`].
    pub fn load(&mut self, shape: [usize; 3], images: &[u8]) -> Result<()> {
        self.prepare(shape)?;
        self.plans[&shape].load(&mut self.executor, images)
    }

    /// Times every node of a batch's pass; see [`Executor::time_nodes`].
    ///
    /// # Errors
    /// As [`Runner::run`].
    pub fn time_nodes(&mut self, shape: [usize; 3], images: &[u8], repeats: usize) -> Result<Vec<NodeTime>> {
        self.load(shape, images)?;
        self.executor.time_nodes(self.plans[&shape].plan, &StepScalars::default(), repeats)
    }

    /// Starts on the batch loaded last.
    ///
    /// # Errors
    /// As [`Runner::run`].
    pub fn start(&mut self, shape: [usize; 3]) -> Result<()> {
        self.prepare(shape)?;
        self.plans[&shape].start(&mut self.executor, ParameterSet::Current)
    }

    /// The answers to the batch started last, as soon as they are there.
    ///
    /// # Errors
    /// As [`Runner::run`].
    pub fn answers(&mut self, shape: [usize; 3]) -> Result<Vec<HeadOutput>> {
        self.prepare(shape)?;
        self.plans[&shape].answers(&self.executor)
    }

    fn prepare(&mut self, shape: [usize; 3]) -> Result<()> {
        if !self.plans.contains_key(&shape) {
            let plan = ForwardPlan::prepare(&mut self.executor, &self.architecture, shape)?;
            self.plans.insert(shape, plan);
        }
        Ok(())
    }

    /// What it runs on.
    pub fn executor(&self) -> &Executor {
        &self.executor
    }
}

/// The evaluation forward pass of one shape, on somebody's executor.
pub struct ForwardPlan {
    plan: PlanId,
    images: ValueId,
    heads: Vec<HeadValues>,
}

impl ForwardPlan {
    /// # Errors
    /// A shape the network cannot take.
    pub fn prepare(executor: &mut Executor, architecture: &Architecture, shape: [usize; 3]) -> Result<ForwardPlan> {
        let mut network: Network = architecture.network(shape, Mode::Evaluate)?;
        network.keep_outputs();
        let heads = network.heads.into_iter().map(|h| h.values).collect();
        let images = network.images;
        let plan = executor.prepare(network.graph, Fusion::On)?;
        Ok(ForwardPlan { plan, images, heads })
    }

    /// Runs one batch with the parameters of `set`.
    ///
    /// # Errors
    /// A GPU that refuses a call.
    pub fn run(&self, executor: &mut Executor, set: ParameterSet, images: &[u8]) -> Result<Vec<HeadOutput>> {
        self.load(executor, images)?;
        self.start(executor, set)?;
        self.answers(executor)
    }

    fn load(&self, executor: &mut Executor, images: &[u8]) -> Result<()> {
        executor.write_u8(self.plan, self.images, images)
    }

    fn start(&self, executor: &mut Executor, set: ParameterSet) -> Result<()> {
        executor.run(self.plan, Segment::Forward, set, &StepScalars::default())
    }

    fn answers(&self, executor: &Executor) -> Result<Vec<HeadOutput>> {
        let read = |value: &ValueId| executor.read_f32(self.plan, *value);
        let output = |head: &HeadValues| {
            let values = head.outputs.iter().map(read).collect::<Result<_>>()?;
            Ok(HeadOutput { values, levels: head.levels.clone() })
        };
        self.heads.iter().map(output).collect()
    }
}
