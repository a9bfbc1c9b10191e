//! Where every value of one plan lies. The only place that turns a plan's offsets into memory.

use super::{PackedWeights, Prepared, packing};
use crate::device::cpu::{Cpu, memory::Aligned};
use crate::executor::store::{ParameterSet, Store};
use crate::ir::{DType, Node, Place, StepScalars, ValueId};
use crate::ops;
use crate::ops::cpu::{CpuNode, Operands, Slot, Slots, Weights};
use std::marker::PhantomData;

/// Scratch that a node needs while it runs, in f32.
pub fn scratch_len(node: &CpuNode) -> usize {
    ops::operation(&node.node.op).cpu_scratch(node)
}

/// What an executor's values lie in, borrowed until the memory is dropped.
pub struct Blocks<'a> {
    pub store: &'a mut Store,
    pub arena: &'a mut Aligned,
    pub scratch: &'a mut Aligned,
}

/// The addresses behind [`Blocks`], which they borrow.
pub struct Memory<'a> {
    cpu: &'a Cpu,
    prepared: &'a Prepared,
    packed: &'a PackedWeights,
    set: ParameterSet,
    store: &'a Store,
    arena: *mut u8,
    scratch: Slot,
    values: *mut u8,
    running: *mut u8,
    gradients: *mut u8,
    blocks: PhantomData<&'a mut u8>,
}

impl<'a> Memory<'a> {
    pub fn new(
        cpu: &'a Cpu,
        prepared: &'a Prepared,
        packed: &'a PackedWeights,
        set: ParameterSet,
        Blocks { store, arena, scratch }: Blocks<'a>,
    ) -> Memory<'a> {
        assert!(prepared.plan.arena_bytes <= arena.bytes(), "prepare made room for the largest plan");
        let (values, running) = match set {
            ParameterSet::Current => (store.values.as_mut_ptr(), store.running.as_mut_ptr()),
            ParameterSet::Average => (store.average.as_mut_ptr(), store.running_average.as_mut_ptr()),
        };
        Memory {
            cpu,
            prepared,
            packed,
            set,
            gradients: store.gradients.as_mut_ptr(),
            store,
            arena: arena.as_mut_ptr(),
            scratch: Slot { start: scratch.as_mut_ptr(), len: scratch.bytes() / 4, dtype: DType::F32 },
            values,
            running,
            blocks: PhantomData,
        }
    }

    /// Runs `node`, one of the plan's or another over the plan's values.
    pub fn run(&mut self, node: &Node, scalars: &StepScalars) {
        let operation = ops::operation(&node.op);
        let described = self.prepared.node(self.cpu, node);
        let scratch = scratch_len(&described);
        assert!(scratch <= self.scratch.len, "prepare made room for the greediest node");
        let moved = operation.moved();
        let input = |(index, &value): (usize, &ValueId)| match moved.contains(&index) {
            true => self.written(value),
            false => self.slot(value),
        };
        let slots = Slots {
            inputs: node.inputs.iter().enumerate().map(input).collect(),
            outputs: node.outputs.iter().map(|&value| self.written(value)).collect(),
            scratch: Slot { len: scratch, ..self.scratch },
            packed: self.packed_weight(node),
        };
        // SAFETY: `self` borrows all blocks and is borrowed for as long as the operands live, so nobody else uses what is in
        // them. Every slot lies within its block and is aligned to 64; blocks are initialised and only ever hold numbers. The
        // plan verifies that arena values which live at the same time have bytes of their own, and that nodes write no value
        // twice and none that they read but those they move. The Store gives every parameter, gradient and running statistic
        // its own bytes, and `written` refuses what is only read.
        operation.run(&mut unsafe { Operands::new(described, scalars, moved, slots) });
    }

    /// The numbers of a value.
    pub fn read(&self, value: ValueId) -> Vec<f32> {
        let slot = self.slot(value);
        // SAFETY: as in `run`; any bytes are numbers of these types.
        unsafe {
            match slot.dtype {
                DType::U8 => {
                    let bytes = std::slice::from_raw_parts(slot.start, slot.len);
                    bytes.iter().map(|&v| f32::from(v)).collect()
                }
                _ => std::slice::from_raw_parts(slot.start.cast::<f32>(), slot.len).to_vec(),
            }
        }
    }

    /// Replaces the numbers of a value.
    pub fn write(&mut self, value: ValueId, numbers: &[f32]) {
        let slot = self.written(value);
        // SAFETY: as in `run`.
        unsafe {
            match slot.dtype {
                DType::U8 => {
                    let bytes = std::slice::from_raw_parts_mut(slot.start, slot.len);
                    bytes.iter_mut().zip(numbers).for_each(|(to, &v)| *to = v as u8);
                }
                _ => std::slice::from_raw_parts_mut(slot.start.cast(), slot.len).copy_from_slice(numbers),
            }
        }
    }

    fn slot(&self, value: ValueId) -> Slot {
        let described = self.prepared.graph.value(value);
        let float = |base: *mut u8, start: usize| base.wrapping_add(start * 4);
        let start = match described.place {
            // Read only: `written` refuses it.
            Place::Batch => self.prepared.batch[&value].as_ptr().cast_mut(),
            Place::Parameter(id) => float(self.values, self.store.range(id).start),
            Place::Gradient(id) => float(self.gradients, self.store.range(id).start),
            Place::Buffer(id) => float(self.running, self.store.buffer_range(id).start),
            Place::Arena => {
                let offset = self.prepared.plan.offsets[value.0];
                self.arena.wrapping_add(offset.unwrap_or_else(|| unreachable!("every value a node touches is placed")))
            }
        };
        Slot { start, len: described.len(), dtype: described.dtype }
    }

    /// A value that a node writes.
    fn written(&self, value: ValueId) -> Slot {
        let described = self.prepared.graph.value(value);
        assert_ne!(described.place, Place::Batch, "{} is written by the host alone", described.name);
        self.slot(value)
    }

    /// The packed weight of a node, where the plan keeps it.
    fn packed_weight(&self, node: &Node) -> Option<&'a [f32]> {
        if self.prepared.weights == Weights::Plain {
            return None;
        }
        let (id, packing) = packing(&self.prepared.graph, node)?;
        Some(self.packed.get(id, &packing, self.set))
    }
}
