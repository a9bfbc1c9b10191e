//! The graph: values, nodes and their attributes, and the numbers that change between steps. This module holds data only; nodes
//! are built, checked, differentiated and run in `ops/<op>`.

mod op;
mod scalars;

pub use op::*;
pub use scalars::StepScalars;

use std::collections::HashMap;

/// Index into [`Graph::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub usize);

/// Index into [`Graph::parameters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParameterId(pub usize);

/// Index into [`Graph::buffers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub usize);

/// The type of a value's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DType {
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point: activations on a GPU.
    Bf16,
    /// 32-bit integers: classes and indices.
    I32,
    /// Bytes: pixels.
    U8,
}

impl DType {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            DType::F32 | DType::I32 => 4,
            DType::Bf16 => 2,
            DType::U8 => 1,
        }
    }
}

/// Where a value is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Written by the host before the step, in the order of [`Graph::batch`].
    Batch,
    /// In the Store: a trainable parameter, or its moving average in evaluation with the averages.
    Parameter(ParameterId),
    /// In the Store: the accumulating gradient of a parameter.
    Gradient(ParameterId),
    /// In the Store: a running statistic.
    Buffer(BufferId),
    /// In the plan's arena, from the node that makes it to its last reader.
    Arena,
}

/// An array that nodes read and write: its name, its shape, and where it is stored.
#[derive(Clone, Debug)]
pub struct Value {
    /// The name in messages; for a parameter, torchvision's name.
    pub name: String,
    /// Outermost dimension first; maps are `[N, H, W, C]`.
    pub shape: Vec<usize>,
    /// The type of its elements.
    pub dtype: DType,
    /// Where it is stored.
    pub place: Place,
}

impl Value {
    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all elements.
    pub fn bytes(&self) -> usize {
        self.len() * self.dtype.bytes()
    }
}

/// The four parts of a step, which ARCHITECTURE.md explains. The fourth, the update, works on the whole Store and has no nodes;
/// between the second and the third lies the probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// The network and its losses.
    Forward,
    /// The backward pass from the losses to the shared features.
    HeadsBackward,
    /// The inner products of the tasks' gradients. It runs only in steps that need them; no other segment reads its results.
    Probe,
    /// The weighted sum at the shared features and the backward pass of the trunk.
    TrunkBackward,
}

impl Segment {
    /// All segments, in the order of a step.
    pub const ALL: [Segment; 4] = [Segment::Forward, Segment::HeadsBackward, Segment::Probe, Segment::TrunkBackward];
}

/// The part of the network that a parameter belongs to. The update scales and skips whole groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// The trunk that all tasks share.
    Trunk,
    /// The head of the task with this number.
    Head(usize),
    /// Parameters that the update leaves unchanged.
    Frozen,
}

impl Group {
    /// The group's index in a model with `heads` heads: the trunk is 0, the head of task `i` is `i + 1`, frozen parameters come
    /// last.
    pub fn index(self, heads: usize) -> usize {
        match self {
            Group::Trunk => 0,
            Group::Head(task) => task + 1,
            Group::Frozen => heads + 1,
        }
    }
}

/// The initial values of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Every element has this value.
    Constant(f32),
    /// Normal with this standard deviation.
    Normal(f32),
    /// Normal with deviation sqrt(2 / fan_out) (He 2015, as in torchvision's ResNet).
    KaimingFanOut,
    /// Uniform within ±1/sqrt(fan_in) (PyTorch's linear layer).
    UniformFanIn,
}

/// A trainable array.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// torchvision's state-dict name.
    pub name: String,
    /// `[K, R, S, C]` for convolutions, `[K, C]` for linear layers, `[C]` for vectors.
    pub shape: Vec<usize>,
    /// Its initial values.
    pub init: Init,
    /// The group that it is updated with.
    pub group: Group,
    /// Norms, biases and scales are not decayed.
    pub decay: bool,
}

/// A running statistic: kept between steps and not updated by a gradient.
#[derive(Clone, Debug, PartialEq)]
pub struct Buffer {
    /// torchvision's state-dict name.
    pub name: String,
    /// `[C]`.
    pub shape: Vec<usize>,
    /// The initial value of every element.
    pub start: f32,
}

/// One op and the values that it reads and writes.
#[derive(Clone, Debug)]
pub struct Node {
    /// The op, with its attributes.
    pub op: Op,
    /// The values that it reads, in the order of the op's contract.
    pub inputs: Vec<ValueId>,
    /// The values that it writes, in the order of the op's contract.
    pub outputs: Vec<ValueId>,
    /// The part of a step in which it runs.
    pub segment: Segment,
}

/// Whether batch norm uses the batch's statistics or the running ones, and whether dropout drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The batch's statistics; dropout drops.
    Train,
    /// Running statistics; dropout does nothing.
    Evaluate,
}

/// A fixed network for one batch size and image size.
#[derive(Clone, Debug)]
pub struct Graph {
    /// Whether it is for training or for evaluation.
    pub mode: Mode,
    /// Indexed by [`ValueId`].
    pub values: Vec<Value>,
    /// The nodes in the order in which they run, segment by segment.
    pub nodes: Vec<Node>,
    /// Indexed by [`ParameterId`].
    pub parameters: Vec<Parameter>,
    /// Indexed by [`BufferId`].
    pub buffers: Vec<Buffer>,
    /// Values the host writes before a step.
    pub batch: Vec<ValueId>,
    /// Values the host reads afterwards; they stay alive to the end of the list.
    pub outputs: Vec<ValueId>,
    /// The segment that new nodes are added to.
    pub segment: Segment,
    parameter_values: HashMap<Place, ValueId>,
}

impl Graph {
    /// An empty graph.
    pub fn new(mode: Mode) -> Graph {
        Graph {
            mode,
            values: Vec::new(),
            nodes: Vec::new(),
            parameters: Vec::new(),
            buffers: Vec::new(),
            batch: Vec::new(),
            outputs: Vec::new(),
            segment: Segment::Forward,
            parameter_values: HashMap::new(),
        }
    }

    /// The value of this number.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0]
    }

    /// The shape of a value.
    pub fn shape(&self, id: ValueId) -> &[usize] {
        &self.values[id.0].shape
    }

    fn new_value(&mut self, name: String, shape: Vec<usize>, dtype: DType, place: Place) -> ValueId {
        self.values.push(Value { name, shape, dtype, place });
        ValueId(self.values.len() - 1)
    }

    /// A value the host writes before each step.
    pub fn input(&mut self, name: &str, shape: &[usize], dtype: DType) -> ValueId {
        let id = self.new_value(name.to_owned(), shape.to_vec(), dtype, Place::Batch);
        self.batch.push(id);
        id
    }

    /// Adds a value that a node computes; the plan decides where it lies in the arena.
    pub fn arena(&mut self, name: impl Into<String>, shape: &[usize], dtype: DType) -> ValueId {
        self.new_value(name.into(), shape.to_vec(), dtype, Place::Arena)
    }

    /// Adds a trainable array, which the Store holds.
    pub fn parameter(&mut self, parameter: Parameter) -> ValueId {
        let place = Place::Parameter(ParameterId(self.parameters.len()));
        let id = self.new_value(parameter.name.clone(), parameter.shape.clone(), DType::F32, place);
        self.parameters.push(parameter);
        self.parameter_values.insert(place, id);
        id
    }

    /// Adds a running statistic, `start` in every element.
    pub fn buffer(&mut self, name: String, shape: &[usize], start: f32) -> ValueId {
        let place = Place::Buffer(BufferId(self.buffers.len()));
        self.buffers.push(Buffer { name: name.clone(), shape: shape.to_vec(), start });
        self.new_value(name, shape.to_vec(), DType::F32, place)
    }

    /// Whether `value` is a parameter that is not frozen.
    pub fn learns(&self, value: ValueId) -> bool {
        match self.value(value).place {
            Place::Parameter(id) => self.parameters[id.0].group != Group::Frozen,
            _ => false,
        }
    }

    /// For every value, whether it depends on a parameter that is not frozen.
    pub fn depends_on_what_learns(&self) -> Vec<bool> {
        self.depends_on(|value| self.learns(value))
    }

    /// For every value, whether it depends on one of `origins`.
    fn depends_on(&self, origins: impl Fn(ValueId) -> bool) -> Vec<bool> {
        let mut depends = vec![false; self.values.len()];
        for node in &self.nodes {
            if node.inputs.iter().any(|&v| depends[v.0] || origins(v)) {
                node.outputs.iter().for_each(|v| depends[v.0] = true);
            }
        }
        depends
    }

    /// The parameter of this name, if the graph has it.
    pub fn parameter_named(&self, name: &str) -> Option<ValueId> {
        let id = self.parameters.iter().position(|parameter| parameter.name == name)?;
        self.parameter_values.get(&Place::Parameter(ParameterId(id))).copied()
    }

    /// The accumulating gradient in the Store of the parameter `value`. An op's backward rule asks [`Gradients::of_parameter`]
    /// instead, which may place the gradient elsewhere.
    fn gradient_of_parameter(&mut self, value: ValueId) -> ValueId {
        let Place::Parameter(parameter) = self.value(value).place else {
            unreachable!("{} is not a parameter: only parameters have a gradient in the Store", self.value(value).name)
        };
        let place = Place::Gradient(parameter);
        if let Some(&id) = self.parameter_values.get(&place) {
            return id;
        }
        let name = format!("{}.gradient", self.value(value).name);
        let shape = self.shape(value).to_vec();
        let id = self.new_value(name, shape, DType::F32, place);
        self.parameter_values.insert(place, id);
        id
    }

    /// Adds a node to the current segment. Shapes were checked by the op that calls this.
    pub fn push(&mut self, op: Op, inputs: &[ValueId], outputs: &[ValueId]) {
        self.nodes.push(Node { op, inputs: inputs.to_vec(), outputs: outputs.to_vec(), segment: self.segment });
    }
}

/// The gradient of each value so far, while a backward pass is being built.
#[derive(Clone)]
pub struct Gradients {
    of: HashMap<ValueId, ValueId>,
    /// By value. Values made later have no entry; they are gradients themselves.
    wanted: Vec<bool>,
    /// Parameters' gradients that are values of the arena; `None` if they are added up in the Store.
    aside: Option<HashMap<ValueId, ValueId>>,
}

impl Gradients {
    /// Starts a backward pass over all of `forward`. It computes the gradients of values that depend on a parameter that is not
    /// frozen, and adds the parameters' gradients up in the Store.
    pub fn new(forward: &Graph) -> Gradients {
        Gradients { of: HashMap::new(), wanted: forward.depends_on_what_learns(), aside: None }
    }

    /// Starts a backward pass that ends at `parameter`. It computes the gradients of values that depend on `parameter`. The Store
    /// is not written: parameters' gradients are values of the arena, each set to zero before the first node that adds to it.
    pub fn aside(forward: &Graph, parameter: ValueId) -> Gradients {
        let wanted = forward.depends_on(|value| value == parameter);
        Gradients { of: HashMap::new(), wanted, aside: Some(HashMap::new()) }
    }

    /// The value to which a node adds the gradient of `parameter`.
    pub fn of_parameter(&mut self, graph: &mut Graph, parameter: ValueId) -> ValueId {
        let Some(aside) = &mut self.aside else {
            return graph.gradient_of_parameter(parameter);
        };
        *aside.entry(parameter).or_insert_with(|| {
            let name = format!("{}.gradient_aside", graph.value(parameter).name);
            let shape = graph.shape(parameter).to_vec();
            let gradient = graph.arena(name, &shape, DType::F32);
            graph.push(Op::Clear, &[], &[gradient]);
            gradient
        })
    }

    /// The gradient of `parameter` in the arena, if a node was appended that computes it.
    pub fn put_aside(&self, parameter: ValueId) -> Option<ValueId> {
        self.aside.as_ref()?.get(&parameter).copied()
    }

    /// The gradient of `value` so far.
    pub fn get(&self, value: ValueId) -> Option<ValueId> {
        self.of.get(&value).copied()
    }

    /// Whether the gradient of `value` is needed. It is not for images and for values that only frozen layers made.
    pub fn wanted(&self, value: ValueId) -> bool {
        self.wanted.get(value.0).is_none_or(|&wanted| wanted)
    }

    /// Adds `gradient` to the gradient of `value`, if it is needed; a second one appends an [`Op::Add`].
    pub fn accumulate(&mut self, graph: &mut Graph, value: ValueId, gradient: ValueId) {
        if !self.wanted(value) {
            return;
        }
        let total = match self.get(value) {
            None => gradient,
            Some(so_far) => {
                let shape = graph.shape(value).to_vec();
                let name = format!("{}.gradient_sum", graph.value(value).name);
                let sum = graph.arena(name, &shape, DType::F32);
                graph.push(Op::Add, &[so_far, gradient], &[sum]);
                sum
            }
        };
        self.of.insert(value, total);
    }
}
