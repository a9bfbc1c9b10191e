//! The CPU's half of every op, and the values of one node as its kernels see them.

use crate::device::cpu::Cpu;
use crate::ir::{DType, Graph, Node, StepScalars};
use crate::ops::conv2d::Packing;
use std::marker::PhantomData;
use std::ops::Deref;

/// The CPU's half of an op. Nothing here has a default but what only convolutions have.
pub trait CpuOp {
    /// Scratch that the node needs while it runs, in f32; [`NO_SCRATCH`] says that it needs none.
    fn cpu_scratch(&self, node: &CpuNode) -> usize;

    /// Computes the node.
    fn run(&self, node: &mut Operands);

    /// The weight that a plan keeps in packed form if it only answers.
    fn packing(&self, _graph: &Graph, _node: &Node) -> Option<Packing> {
        None
    }
}

pub const NO_SCRATCH: usize = 0;

/// The form in which a convolution finds its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// In the Store's form, and packed where it is used: a plan that trains uses each version once.
    Plain,
    /// Packed before, for a plan that only answers.
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

    /// Rows of input `index` as a matrix `[rows, channels]`.
    pub fn rows(&self, index: usize) -> usize {
        self.input_shape(index).iter().product::<usize>() / self.channels(index)
    }
}

/// Where one value lies.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    pub start: *mut u8,
    /// Elements.
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
        assert_eq!(self.dtype, T::DTYPE, "an op reads a value as what it is made of");
    }
}

/// Where all values of one node lie.
pub struct Slots<'a> {
    pub inputs: Vec<Slot>,
    pub outputs: Vec<Slot>,
    pub scratch: Slot,
    /// The packed weight, with [`Weights::Packed`].
    pub packed: Option<&'a [f32]>,
}

/// The values of one node while it runs. Each output is handed out once, so no two mutable slices of it exist.
pub struct Operands<'a> {
    node: CpuNode<'a>,
    pub scalars: &'a StepScalars,
    /// `None` for an input that the node moves.
    inputs: Vec<Option<Slot>>,
    /// The inputs that the node moves, by their index, until each is handed out.
    moved: Vec<(usize, Slot)>,
    /// Each until it is handed out.
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
    /// The operands of a node whose inputs `moved` are written as well.
    ///
    /// # Safety
    /// For all of `'a`: every slot is valid for reads and aligned for its type and holds initialised elements. Outputs, the
    /// inputs `moved` and the scratch are valid for writes, overlap neither each other nor any other input, and nobody else
    /// reads or writes them; nobody else writes the inputs.
    pub unsafe fn new(node: CpuNode<'a>, scalars: &'a StepScalars, moved: &[usize], slots: Slots<'a>) -> Operands<'a> {
        let Slots { inputs, outputs, scratch, packed } = slots;
        assert!(written_alone(&inputs, &outputs, moved, &scratch), "{:?} writes where it reads", node.node);
        let read = |(index, &slot): (usize, &Slot)| (!moved.contains(&index)).then_some(slot);
        Operands {
            node,
            scalars,
            inputs: inputs.iter().enumerate().map(read).collect(),
            moved: moved.iter().map(|&index| (index, inputs[index])).collect(),
            outputs: outputs.into_iter().map(Some).collect(),
            scratch: Some(scratch),
            packed,
            values: PhantomData,
        }
    }

    /// Input `index`, which is not one that the node moves.
    pub fn input<T: Element>(&self, index: usize) -> &'a [T] {
        let slot = self.inputs[index].unwrap_or_else(|| unreachable!("input {index} is written: take it by `moved`"));
        slot.assert_holds::<T>();
        // SAFETY: readable for `'a` and written by nobody, by the promise made to `new`.
        unsafe { std::slice::from_raw_parts(slot.start.cast(), slot.len) }
    }

    /// Input `index` if the node has so many.
    pub fn optional_input<T: Element>(&self, index: usize) -> Option<&'a [T]> {
        (index < self.inputs.len()).then(|| self.input(index))
    }

    /// Input `index`, which the node reads and writes, once.
    ///
    /// # Panics
    /// The op does not say that it moves this input, or the input has been handed out.
    pub fn moved(&mut self, index: usize) -> &'a mut [f32] {
        let place = self.moved.iter().position(|(moved, _)| *moved == index);
        let place = place.unwrap_or_else(|| unreachable!("input {index} is moved by its op and handed out once"));
        let (_, slot) = self.moved.swap_remove(place);
        slot.assert_holds::<f32>();
        // SAFETY: writable for `'a` and nobody else's by the promise made to `new`, and taken here.
        unsafe { std::slice::from_raw_parts_mut(slot.start.cast(), slot.len) }
    }

    /// Output `index`, once.
    ///
    /// # Panics
    /// The output has been handed out.
    pub fn output<T: Element>(&mut self, index: usize) -> &'a mut [T] {
        let slot = self.outputs[index].take().unwrap_or_else(|| unreachable!("output {index} is handed out once"));
        slot.assert_holds::<T>();
        // SAFETY: writable for `'a` and nobody else's by the promise made to `new`, and taken here.
        unsafe { std::slice::from_raw_parts_mut(slot.start.cast(), slot.len) }
    }

    /// Output `index` if the node has so many, once.
    pub fn optional_output<T: Element>(&mut self, index: usize) -> Option<&'a mut [T]> {
        (index < self.outputs.len()).then(|| self.output(index))
    }

    /// The scratch, once.
    ///
    /// # Panics
    /// The scratch has been handed out.
    pub fn scratch(&mut self) -> &'a mut [f32] {
        let slot = self.scratch.take().unwrap_or_else(|| unreachable!("the scratch is handed out once"));
        // SAFETY: as for an output.
        unsafe { std::slice::from_raw_parts_mut(slot.start.cast(), slot.len) }
    }

    /// The packed weight, where the plan keeps it.
    pub fn packed(&self) -> Option<&'a [f32]> {
        self.packed
    }
}

/// Whether everything that is written overlaps nothing else.
fn written_alone(inputs: &[Slot], outputs: &[Slot], moved: &[usize], scratch: &Slot) -> bool {
    let written: Vec<&Slot> =
        outputs.iter().chain(moved.iter().map(|&index| &inputs[index])).chain([scratch]).collect();
    let is_read = |index: &usize| !moved.contains(index);
    let read: Vec<&Slot> = (0..inputs.len()).filter(is_read).map(|index| &inputs[index]).collect();
    written.iter().enumerate().all(|(index, slot)| {
        let others = written[index + 1..].iter().chain(&read);
        others.into_iter().all(|other| !slot.overlaps(other))
    })
}

/// A type of which a value's elements may be.
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

    /// Runs `body` on a node of one input, one output and a scratch.
    fn with_operands(moved: &[usize], body: impl FnOnce(&mut Operands)) {
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
        // SAFETY: three arrays that outlive the operands, which nobody else touches meanwhile.
        body(&mut unsafe { Operands::new(node, &scalars, moved, slots) });
    }

    fn refused(moved: &[usize], body: impl FnOnce(&mut Operands) + std::panic::UnwindSafe) -> bool {
        let moved = moved.to_vec();
        std::panic::catch_unwind(move || with_operands(&moved, body)).is_err()
    }

    #[test]
    fn what_is_written_is_handed_out_once() {
        with_operands(&[], |node| {
            node.output::<f32>(0).copy_from_slice(node.input(0));
            node.scratch().fill(2.0);
        });
        with_operands(&[0], |node| node.moved(0).fill(2.0));
        assert!(refused(&[], |node| {
            node.output::<f32>(0);
            node.output::<f32>(0);
        }));
        assert!(refused(&[], |node| {
            node.scratch();
            node.scratch();
        }));
        assert!(refused(&[0], |node| {
            node.moved(0);
            node.moved(0);
        }));
        assert!(refused(&[0], |node| {
            node.input::<f32>(0);
        }));
        assert!(refused(&[], |node| {
            node.moved(0);
        }));
        assert!(refused(&[], |node| {
            node.input::<i32>(0);
        }));
    }

    #[test]
    fn a_node_that_writes_where_it_reads_is_seen() {
        let mut values = [0.0; 8];
        let all = slot(&mut values);
        let half = |first: usize| Slot { start: all.start.wrapping_add(4 * first), len: 4, dtype: DType::F32 };
        let nothing = Slot { len: 0, ..all };
        assert!(written_alone(&[half(0), half(0)], &[half(4)], &[], &nothing));
        assert!(!written_alone(&[half(0)], &[half(3)], &[], &nothing));
        assert!(!written_alone(&[], &[half(0), half(2)], &[], &nothing));
        assert!(!written_alone(&[half(0), half(2)], &[], &[0], &nothing));
        assert!(!written_alone(&[half(0)], &[half(4)], &[], &half(0)));
    }
}
