//! The CPU implementation of every op, and the values of one node as its kernels see them.

use crate::device::cpu::Cpu;
use crate::ir::{DType, Graph, Node, StepScalars};
use crate::ops::conv2d::Packing;
use std::marker::PhantomData;
use std::ops::Deref;

/// The CPU implementation of an op. Only methods that concern convolutions alone have a default.
pub trait CpuOp {
    /// Scratch memory that the node needs while it runs, in f32; [`NO_SCRATCH`] if none.
    fn cpu_scratch(&self, node: &CpuNode) -> usize;

    /// Computes the node.
    fn run(&self, node: &mut Operands);

    /// The weight that an evaluation plan keeps in packed form.
    fn packing(&self, _graph: &Graph, _node: &Node) -> Option<Packing> {
        None
    }
}

pub const NO_SCRATCH: usize = 0;

/// The form in which a convolution receives its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// In the Store's form, and packed when it is used: a training plan uses each version only once.
    Plain,
    /// Packed in advance, for an evaluation plan.
    Packed,
}

/// A node and the shapes of its values.
#[derive(Clone, Copy)]
pub struct CpuNode<'a> {
    pub cpu: &'a Cpu,
    pub graph: &'a Graph,
    pub node: &'a Node,
    pub weights: Weights,
}

impl<'a> CpuNode<'a> {
    pub fn input_count(&self) -> usize {
        self.node.inputs.len()
    }

    /// The shape of input `index`.
    pub fn input_shape(&self, index: usize) -> &'a [usize] {
        self.graph.shape(self.node.inputs[index])
    }

    /// The shape of output `index`.
    pub fn output_shape(&self, index: usize) -> &'a [usize] {
        self.graph.shape(self.node.outputs[index])
    }

    /// The last dimension of input `index`.
    pub fn channels(&self, index: usize) -> usize {
        self.input_shape(index).last().copied().unwrap_or(1)
    }

    /// The number of rows of input `index` as a matrix `[rows, channels]`.
    pub fn rows(&self, index: usize) -> usize {
        self.input_shape(index).iter().product::<usize>() / self.channels(index)
    }
}

/// Where one value lies.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    pub start: *mut u8,
    /// The number of elements.
    pub len: usize,
    pub dtype: DType,
}

impl Slot {
    fn bytes(&self) -> std::ops::Range<usize> {
        let start = self.start as usize;
        start..start + self.len * self.dtype.bytes()
    }

    fn overlaps(&self, other: &Slot) -> bool {
        let (a, b) = (self.bytes(), other.bytes());
        !a.is_empty() && !b.is_empty() && a.start < b.end && b.start < a.end
    }

    fn assert_holds<T: Element>(&self) {
        assert_eq!(self.dtype, T::DTYPE, "an op reads a value with the value's own type");
    }
}

/// Where all values of one node lie.
pub struct Slots<'a> {
    pub inputs: Vec<Slot>,
    pub outputs: Vec<Slot>,
    pub scratch: Slot,
    /// The packed weight, if the plan uses [`Weights::Packed`].
    pub packed: Option<&'a [f32]>,
}

/// The values of one node while it runs. Each output is handed out only once, so two mutable slices of it never exist.
pub struct Operands<'a> {
    node: CpuNode<'a>,
    pub scalars: &'a StepScalars,
    /// `None` for an input that the node also writes.
    inputs: Vec<Option<Slot>>,
    /// The inputs that the node also writes, by their index; each is removed when it is handed out.
    updated: Vec<(usize, Slot)>,
    /// Each becomes `None` when it is handed out.
    outputs: Vec<Option<Slot>>,
    scratch: Option<Slot>,
    packed: Option<&'a [f32]>,
    values: PhantomData<&'a mut [u8]>,
}

impl<'a> Deref for Operands<'a> {
    type Target = CpuNode<'a>;

    fn deref(&self) -> &CpuNode<'a> {
        &self.node
    }
}

impl<'a> Operands<'a> {
    /// The operands of a node that also writes its inputs `updated`.
    ///
    /// # Safety
    /// For all of `'a`: every slot is valid for reads and aligned for its type and holds initialised elements. Outputs, the
    /// inputs `updated` and the scratch are valid for writes, overlap neither each other nor any other input, and nobody else
    /// reads or writes them; nobody else writes the inputs.
    pub unsafe fn new(
        node: CpuNode<'a>,
        scalars: &'a StepScalars,
        updated: &[usize],
        slots: Slots<'a>,
    ) -> Operands<'a> {
        let Slots { inputs, outputs, scratch, packed } = slots;
        assert!(writes_are_exclusive(&inputs, &outputs, updated, &scratch), "{:?} writes where it reads", node.node);
        let read = |(index, &slot): (usize, &Slot)| (!updated.contains(&index)).then_some(slot);
        Operands {
            node,
            scalars,
            inputs: inputs.iter().enumerate().map(read).collect(),
            updated: updated.iter().map(|&index| (index, inputs[index])).collect(),
            outputs: outputs.into_iter().map(Some).collect(),
            scratch: Some(scratch),
            packed,
            values: PhantomData,
        }
    }

    /// Input `index`, which the node only reads.
    pub fn input<T: Element>(&self, index: usize) -> &'a [T] {
        let slot =
            self.inputs[index].unwrap_or_else(|| unreachable!("input {index} is written: take it by `updated_input`"));
        slot.assert_holds::<T>();
        // SAFETY: readable for `'a` and not written by anyone, by the promise made to `new`.
        unsafe { std::slice::from_raw_parts(slot.start.cast(), slot.len) }
    }

    /// Input `index`, if the node has that many.
    pub fn optional_input<T: Element>(&self, index: usize) -> Option<&'a [T]> {
        (index < self.inputs.len()).then(|| self.input(index))
    }

    /// Input `index`, which the node reads and writes. It can be taken once.
    ///
    /// # Panics
    /// The op does not declare this input as updated, or the input has been taken already.
    pub fn updated_input(&mut self, index: usize) -> &'a mut [f32] {
        let place = self.updated.iter().position(|(updated, _)| *updated == index);
        let place = place.unwrap_or_else(|| unreachable!("input {index} is updated by its op and handed out once"));
        let (_, slot) = self.updated.swap_remove(place);
        slot.assert_holds::<f32>();
        // SAFETY: writable for `'a` and exclusive by the promise made to `new`, and removed here.
        unsafe { std::slice::from_raw_parts_mut(slot.start.cast(), slot.len) }
    }

    /// Output `index`. It can be taken once.
    ///
    /// # Panics
    /// The output has been taken already.
    pub fn output<T: Element>(&mut self, index: usize) -> &'a mut [T] {
        let slot = self.outputs[index].take().unwrap_or_else(|| unreachable!("output {index} is handed out once"));
        slot.assert_holds::<T>();
        // SAFETY: writable for `'a` and exclusive by the promise made to `new`, and removed here.
        unsafe { std::slice::from_raw_parts_mut(slot.start.cast(), slot.len) }
    }

    /// Output `index`, if the node has that many. It can be taken once.
    pub fn optional_output<T: Element>(&mut self, index: usize) -> Option<&'a mut [T]> {
        (index < self.outputs.len()).then(|| self.output(index))
    }

    /// The scratch memory. It can be taken once.
    ///
    /// # Panics
    /// The scratch memory has been taken already.
    pub fn scratch(&mut self) -> &'a mut [f32] {
        let slot = self.scratch.take().unwrap_or_else(|| unreachable!("the scratch is handed out once"));
        // SAFETY: as for an output.
        unsafe { std::slice::from_raw_parts_mut(slot.start.cast(), slot.len) }
    }

    /// The packed weight, if the plan keeps one.
    pub fn packed(&self) -> Option<&'a [f32]> {
        self.packed
    }
}

/// Whether no slot that is written overlaps any other slot.
fn writes_are_exclusive(inputs: &[Slot], outputs: &[Slot], updated: &[usize], scratch: &Slot) -> bool {
    let written: Vec<&Slot> =
        outputs.iter().chain(updated.iter().map(|&index| &inputs[index])).chain([scratch]).collect();
    let is_read = |index: &usize| !updated.contains(index);
    let read: Vec<&Slot> = (0..inputs.len()).filter(is_read).map(|index| &inputs[index]).collect();
    written.iter().enumerate().all(|(index, slot)| {
        let others = written[index + 1..].iter().chain(&read);
        others.into_iter().all(|other| !slot.overlaps(other))
    })
}

/// A type that the elements of a value can have.
///
/// # Safety
/// Every bit pattern of `DTYPE`'s size is a value of the type.
pub unsafe trait Element: Copy {
    const DTYPE: DType;
}

// SAFETY: any 4 bytes are an f32.
unsafe impl Element for f32 {
    const DTYPE: DType = DType::F32;
}

// SAFETY: any 4 bytes are an i32.
unsafe impl Element for i32 {
    const DTYPE: DType = DType::I32;
}

// SAFETY: any byte is a u8.
unsafe impl Element for u8 {
    const DTYPE: DType = DType::U8;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cpu::Isa;
    use crate::ir::{Mode, Op};

    fn slot(values: &mut [f32]) -> Slot {
        Slot { start: values.as_mut_ptr().cast(), len: values.len(), dtype: DType::F32 }
    }

    /// Runs `body` on a node with one input, one output and scratch memory.
    fn with_operands(updated: &[usize], body: impl FnOnce(&mut Operands)) {
        let cpu = Cpu::with_isa(1, Isa::PORTABLE).unwrap();
        let mut graph = Graph::new(Mode::Train);
        let (x, y) = (graph.arena("x", &[4], DType::F32), graph.arena("y", &[4], DType::F32));
        graph.push(Op::ChannelSum, &[x], &[y]);
        let (mut input, mut output, mut scratch) = ([1.0; 4], [0.0; 4], [0.0; 4]);
        let slots = Slots {
            inputs: vec![slot(&mut input)],
            outputs: vec![slot(&mut output)],
            scratch: slot(&mut scratch),
            packed: None,
        };
        let scalars = StepScalars::default();
        let node = CpuNode { cpu: &cpu, graph: &graph, node: &graph.nodes[0], weights: Weights::Plain };
        // SAFETY: three arrays that outlive the operands and that nothing else accesses at the same time.
        body(&mut unsafe { Operands::new(node, &scalars, updated, slots) });
    }

    fn refused(updated: &[usize], body: impl FnOnce(&mut Operands) + std::panic::UnwindSafe) -> bool {
        let updated = updated.to_vec();
        std::panic::catch_unwind(move || with_operands(&updated, body)).is_err()
    }

    #[test]
    fn written_values_are_handed_out_once() {
        with_operands(&[], |node| {
            node.output::<f32>(0).copy_from_slice(node.input(0));
            node.scratch().fill(2.0);
        });
        with_operands(&[0], |node| node.updated_input(0).fill(2.0));
        assert!(refused(&[], |node| {
            node.output::<f32>(0);
            node.output::<f32>(0);
        }));
        assert!(refused(&[], |node| {
            node.scratch();
            node.scratch();
        }));
        assert!(refused(&[0], |node| {
            node.updated_input(0);
            node.updated_input(0);
        }));
        assert!(refused(&[0], |node| {
            node.input::<f32>(0);
        }));
        assert!(refused(&[], |node| {
            node.updated_input(0);
        }));
        assert!(refused(&[], |node| {
            node.input::<i32>(0);
        }));
    }

    #[test]
    fn a_node_that_writes_where_it_reads_is_detected() {
        let mut values = [0.0; 8];
        let all = slot(&mut values);
        let half = |first: usize| Slot { start: all.start.wrapping_add(4 * first), len: 4, dtype: DType::F32 };
        let nothing = Slot { len: 0, ..all };
        assert!(writes_are_exclusive(&[half(0), half(0)], &[half(4)], &[], &nothing));
        assert!(!writes_are_exclusive(&[half(0)], &[half(3)], &[], &nothing));
        assert!(!writes_are_exclusive(&[], &[half(0), half(2)], &[], &nothing));
        assert!(!writes_are_exclusive(&[half(0), half(2)], &[], &[0], &nothing));
        assert!(!writes_are_exclusive(&[half(0)], &[half(4)], &[], &half(0)));
    }
}
