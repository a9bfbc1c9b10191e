//! The GPU implementation of every op, and one node as it is turned into launches.

use crate::device::cuda::{Address, Precision, Work};
use crate::error::{Error, Result};
use crate::ir::{Graph, Node, ValueId};
use crate::ops::conv2d::cuda::{Choice, Tunable};

/// The GPU implementation of an op. The defaults suit most ops.
pub trait CudaOp {
    /// Scratch memory that the node needs while it runs, in bytes; [`NO_SCRATCH`] if none.
    fn cuda_scratch(&self, node: &CudaNode) -> usize;

    /// The launches that compute the node.
    fn lower(&self, node: &CudaNode) -> Vec<Work>;

    /// Checks that the kernels support the node, beyond the op's own contract.
    ///
    /// # Errors
    /// Sizes that the kernels do not support.
    fn check_for_cuda(&self, _graph: &Graph, _node: &Node) -> Result<()> {
        Ok(())
    }

    /// Changes the shapes of outputs that a GPU stores in another size than the op's contract specifies.
    fn store_outputs(&self, _logical: &Graph, _node: &Node, _physical: &mut Graph) {}

    /// The convolution whose kernel is chosen by measurement, if the node is one.
    fn tunable(&self, _logical: &Graph, _node: &Node) -> Option<Tunable> {
        None
    }
}

/// The size of the scratch memory for an op that needs none.
pub const NO_SCRATCH: usize = 0;

/// The number of channels read or written together. Maps are stored with their channels padded to a multiple of it.
pub const VECTOR: usize = 8;
/// The most vectors that a value may have. Kernels index them with an int, and the last block may index beyond the end.
pub const MAX_VECTORS: usize = i32::MAX as usize - 4095;

/// The addresses of the numbers that change between steps.
#[derive(Clone, Copy, Debug)]
pub struct ScalarAddresses {
    /// One f32 per task.
    pub task_weights: Address,
    /// One f32 per task.
    pub denominators: Address,
    /// A u64.
    pub dropout_counter: Address,
    /// An f32, [`crate::ir::StepScalars::share`].
    pub share: Address,
}

/// One node: its sizes in the model and in memory, and the addresses of its values.
pub struct CudaNode<'a> {
    /// Values without padding.
    pub logical: &'a Graph,
    /// Values as they are laid out in memory.
    pub physical: &'a Graph,
    /// The node itself.
    pub node: &'a Node,
    /// The number type of stored activations.
    pub precision: Precision,
    /// One address per input, in the order of the node's inputs.
    pub inputs: Vec<Address>,
    /// One address per output, in the order of the node's outputs.
    pub outputs: Vec<Address>,
    /// The packed copy of the second input, if it is a parameter that has one.
    pub packed: Option<Address>,
    /// Scratch memory of the size that the op asked for; other nodes use the same bytes before and after.
    pub scratch: Address,
    /// The addresses of the step's scalars.
    pub scalars: ScalarAddresses,
    /// The way a convolution is computed; `None` for other ops.
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

    /// The address of output `index`, if the node has that many.
    pub fn optional_output(&self, index: usize) -> Option<Address> {
        self.outputs.get(index).copied()
    }

    /// The shape of input `index` in memory.
    pub fn input_shape(&self, index: usize) -> &[usize] {
        self.physical.shape(self.node.inputs[index])
    }

    /// The shape of output `index` in memory.
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

    /// The packed weight of a convolution.
    pub fn weight(&self) -> Address {
        self.packed.unwrap_or_else(|| unreachable!("a convolution's weight is a parameter with four dimensions"))
    }

    /// The address of the divisor of a task's summed loss.
    pub fn denominator(&self, task: usize) -> Address {
        self.scalars.denominators.plus(4 * task)
    }
}

/// A shape `[N, H, W, C]` as its four sizes.
pub fn image(shape: &[usize]) -> [usize; 4] {
    [shape[0], shape[1], shape[2], shape[3]]
}

/// Returns an error unless the channels are a multiple of [`VECTOR`]: otherwise a norm would include the padding.
///
/// # Errors
/// The number of channels is not a multiple of [`VECTOR`].
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
