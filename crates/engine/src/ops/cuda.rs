//! The GPU's half of every op, and one node as it becomes launches.

use crate::device::cuda::{Address, Precision, Work};
use crate::error::{Error, Result};
use crate::ir::{Graph, Node, ValueId};
use crate::ops::conv2d::cuda::{Choice, Tunable};

/// The GPU's half of an op. What has a default is said by few ops and means that there is nothing to say.
pub trait CudaOp {
    /// Scratch that the node needs while it runs, in bytes; [`NO_SCRATCH`] says that it needs none.
    fn cuda_scratch(&self, node: &CudaNode) -> usize;

    /// The launches that compute the node.
    fn lower(&self, node: &CudaNode) -> Vec<Work>;

    /// Refuses what the kernels cannot compute although the op is defined for it.
    ///
    /// # Errors
    /// Sizes that a GPU does not take.
    fn check_for_cuda(&self, _graph: &Graph, _node: &Node) -> Result<()> {
        Ok(())
    }

    /// Changes the shapes of outputs that a GPU stores in another size than the op's contract says.
    fn store_outputs(&self, _logical: &Graph, _node: &Node, _physical: &mut Graph) {}

    /// The convolution whose kernel is chosen by measuring, if the node is one.
    fn tunable(&self, _logical: &Graph, _node: &Node) -> Option<Tunable> {
        None
    }
}

/// The answer of an op whose kernels need no scratch.
pub const NO_SCRATCH: usize = 0;

/// Channels that are read and written together: maps are stored with theirs padded to a multiple.
pub const VECTOR: usize = 8;
/// The most vectors that a value may have. Kernels count them with an int, which the last block may count beyond the end.
pub const MAX_VECTORS: usize = i32::MAX as usize - 4095;

/// Where the numbers lie that change between steps.
#[derive(Clone, Copy, Debug)]
pub struct ScalarAddresses {
    /// One f32 a task.
    pub task_weights: Address,
    /// One f32 a task.
    pub denominators: Address,
    /// A u64.
    pub dropout_counter: Address,
    /// An f32, [`crate::ir::StepScalars::share`].
    pub share: Address,
}

/// One node: its sizes as the model has them and as they lie in memory, and the addresses of its values.
pub struct CudaNode<'a> {
    /// Values without padding.
    pub logical: &'a Graph,
    /// Values as they lie in memory.
    pub physical: &'a Graph,
    /// The node itself.
    pub node: &'a Node,
    /// The number type of stored activations.
    pub precision: Precision,
    /// One address an input, in the order of the node's inputs.
    pub inputs: Vec<Address>,
    /// One address an output, in the order of the node's outputs.
    pub outputs: Vec<Address>,
    /// The second input as convolutions read it, if it is a parameter that is kept so.
    pub packed: Option<Address>,
    /// Scratch of the size that the op asked for; other nodes use the same bytes before and after.
    pub scratch: Address,
    /// Where the step's scalars are.
    pub scalars: ScalarAddresses,
    /// The way in which a convolution is computed; `None` for other ops.
    pub choice: Option<Choice>,
}

impl CudaNode<'_> {
    /// The address of input `index`.
    pub fn input(&self, index: usize) -> Address {
        self.inputs[index]
    }

    /// The address of output `index`.
    pub fn output(&self, index: usize) -> Address {
        self.outputs[index]
    }

    /// Output `index` if the node has so many.
    pub fn optional_output(&self, index: usize) -> Option<Address> {
        self.outputs.get(index).copied()
    }

    /// The shape of input `index` as it lies in memory.
    pub fn input_shape(&self, index: usize) -> &[usize] {
        self.physical.shape(self.node.inputs[index])
    }

    /// The shape of output `index` as it lies in memory.
    pub fn output_shape(&self, index: usize) -> &[usize] {
        self.physical.shape(self.node.outputs[index])
    }

    /// Input `index` as a matrix `[rows, C]`.
    pub fn input_rows(&self, index: usize) -> [usize; 2] {
        self.rows(self.node.inputs[index])
    }

    /// Output `index` as a matrix `[rows, C]`.
    pub fn output_rows(&self, index: usize) -> [usize; 2] {
        self.rows(self.node.outputs[index])
    }

    fn rows(&self, value: ValueId) -> [usize; 2] {
        let shape = self.physical.shape(value);
        let c = shape[shape.len() - 1];
        [shape.iter().product::<usize>() / c, c]
    }

    /// A convolution's weight as its kernels read it.
    pub fn weight(&self) -> Address {
        self.packed.unwrap_or_else(|| unreachable!("a convolution's weight is a parameter of four sizes"))
    }

    /// The address of the number that a task's summed loss is divided by.
    pub fn denominator(&self, task: usize) -> Address {
        self.scalars.denominators.plus(4 * task)
    }
}

/// A shape `[N, H, W, C]` as its four sizes.
pub fn image(shape: &[usize]) -> [usize; 4] {
    [shape[0], shape[1], shape[2], shape[3]]
}

/// Refuses a norm over channels that are no whole vectors: padding would be normalised with them.
///
/// # Errors
/// Channels that are no multiple of [`VECTOR`].
pub fn check_normed_channels(graph: &Graph, node: &Node) -> Result<()> {
    let value = graph.value(node.outputs[0]);
    if value.shape[value.shape.len() - 1].is_multiple_of(VECTOR) {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "{} has shape {:?}: a GPU normalises channels in multiples of {VECTOR}",
        value.name, value.shape
    )))
}
