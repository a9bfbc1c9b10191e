//! The layout of a graph's values in a GPU's memory. Feature maps are stored as activations, with channels padded to a multiple
//! of eight by zeros; everything else is unchanged. A feature map is any value of the arena with four dimensions and f32, unless
//! its op's [`store_outputs`](ops::cuda::CudaOp::store_outputs) says otherwise.

use crate::device::cuda::Precision;
use crate::error::{Error, Result};
use crate::executor::compare::round_to_bf16;
use crate::graph::plan::{ALIGNMENT, Plan, plan};
use crate::ir::{DType, Graph, Node, Place, ValueId};
use crate::ops;
use crate::ops::conv2d::cuda::Tunable;
use crate::ops::cuda::{MAX_VECTORS, VECTOR};
use std::collections::HashMap;

/// A fused graph with the layout in which a device stores its values.
pub struct Layout {
    /// The graph as the model defines it.
    pub logical: Graph,
    /// The same nodes with the values as they are laid out in memory.
    pub physical: Graph,
    pub plan: Plan,
    /// Where the host writes each value of the batch.
    pub batch: HashMap<ValueId, usize>,
    pub batch_bytes: usize,
    /// The number of multiprocessors; long sums are split accordingly.
    pub processors: usize,
}

impl Layout {
    /// # Errors
    /// A norm whose number of channels is not a multiple of eight, or a value with more elements than kernels can index.
    pub fn new(logical: Graph, precision: Precision, processors: usize) -> Result<Layout> {
        for node in &logical.nodes {
            ops::operation(&node.op).check_for_cuda(&logical, node)?;
        }
        let physical = physical(&logical, precision);
        for value in &physical.values {
            if value.len() / VECTOR > MAX_VECTORS {
                return Err(Error::Usage(format!(
                    "{} has {} elements, more than a kernel can index: lower --batch or --imgsz",
                    value.name,
                    value.len()
                )));
            }
        }
        let plan = plan(&physical);
        let mut batch_bytes = 0;
        let mut batch = HashMap::new();
        for &value in &physical.batch {
            batch.insert(value, batch_bytes);
            batch_bytes += physical.value(value).bytes().next_multiple_of(ALIGNMENT);
        }
        Ok(Layout { logical, physical, plan, batch, batch_bytes, processors })
    }

    /// The convolution that `node` computes, if it is one.
    pub fn tunable(&self, node: &Node) -> Option<Tunable> {
        ops::operation(&node.op).tunable(&self.logical, node)
    }

    /// The elements of `value` without padding, from its bytes in memory.
    pub fn read(&self, value: ValueId, bytes: &[u8]) -> Vec<f32> {
        let [stored, used] = self.channels(value);
        self.stored(value, bytes).chunks_exact(stored).flat_map(|row| &row[..used]).copied().collect()
    }

    /// The reverse of `read`: the bytes of `numbers` as they are laid out in memory, padded with zeros.
    pub fn write(&self, value: ValueId, numbers: &[f32]) -> Vec<u8> {
        let [stored, used] = self.channels(value);
        let padding = vec![0.0; stored - used];
        let padded = numbers.chunks_exact(used).flat_map(|row| row.iter().chain(&padding).copied());
        match self.physical.value(value).dtype {
            DType::Bf16 => padded.flat_map(|v| ((round_to_bf16(v).to_bits() >> 16) as u16).to_ne_bytes()).collect(),
            DType::U8 => padded.map(|v| v as u8).collect(),
            DType::F32 | DType::I32 => padded.flat_map(f32::to_ne_bytes).collect(),
        }
    }

    /// Whether the padding channels are zero, as their readers assume.
    pub fn padding_is_zero(&self, value: ValueId, bytes: &[u8]) -> bool {
        let [stored, used] = self.channels(value);
        stored == used || self.stored(value, bytes).chunks_exact(stored).flat_map(|row| &row[used..]).all(|&v| v == 0.0)
    }

    /// The number of channels in memory, and the number that the model has.
    fn channels(&self, value: ValueId) -> [usize; 2] {
        [&self.physical, &self.logical].map(|graph| graph.shape(value).last().copied().unwrap_or(1))
    }

    fn stored(&self, value: ValueId, bytes: &[u8]) -> Vec<f32> {
        let bf16 = |b: &[u8]| f32::from_bits(u32::from(u16::from_ne_bytes([b[0], b[1]])) << 16);
        match self.physical.value(value).dtype {
            DType::Bf16 => bytes.chunks_exact(2).map(bf16).collect(),
            DType::U8 => bytes.iter().map(|&b| f32::from(b)).collect(),
            _ => bytes.chunks_exact(4).map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]])).collect(),
        }
    }
}

fn physical(logical: &Graph, precision: Precision) -> Graph {
    let mut graph = logical.clone();
    for value in &mut graph.values {
        if value.place == Place::Arena && value.shape.len() == 4 && value.dtype == DType::F32 {
            value.shape[3] = value.shape[3].next_multiple_of(VECTOR);
            value.dtype = match precision {
                Precision::Bf16 => DType::Bf16,
                Precision::F32 => DType::F32,
            };
        }
    }
    for node in &logical.nodes {
        ops::operation(&node.op).store_outputs(logical, node, &mut graph);
    }
    graph
}
