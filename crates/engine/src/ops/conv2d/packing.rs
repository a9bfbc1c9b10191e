//! The packed form of a convolution's weight that an evaluation plan keeps.

use super::Problem;
use super::cpu::{Algorithm, pack_dgrad, pack_fprop, packed_dgrad_len, packed_fprop_len};
use crate::device::cpu::Cpu;

/// The kind of packed form; a parameter may be packed in several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PackedForm {
    Fprop(Algorithm),
    Dgrad(Algorithm),
}

/// The packing of a node's weight, which is its second input.
#[derive(Clone, Copy, Debug)]
pub struct Packing {
    pub form: PackedForm,
    problem: Problem,
}

impl Packing {
    pub fn of_fprop(problem: Problem) -> Packing {
        Packing { form: PackedForm::Fprop(Algorithm::of(&problem)), problem }
    }

    pub fn of_dgrad(problem: Problem) -> Packing {
        Packing { form: PackedForm::Dgrad(Algorithm::of(&problem)), problem }
    }

    /// The index of the input that is packed.
    pub const WEIGHT: usize = 1;

    /// The number of elements of the packed weight.
    pub fn len(&self, cpu: &Cpu) -> usize {
        match self.form {
            PackedForm::Fprop(_) => packed_fprop_len(cpu.isa(), &self.problem),
            PackedForm::Dgrad(_) => packed_dgrad_len(cpu.isa(), &self.problem),
        }
    }

    /// Writes `weight` `[K, R, S, C]` to `packed`, which has [`Packing::len`] elements.
    pub fn pack(&self, cpu: &Cpu, weight: &[f32], packed: &mut [f32]) {
        assert_eq!(weight.len(), self.problem.weight_len(), "the weight has the problem's shape");
        match self.form {
            PackedForm::Fprop(_) => pack_fprop(cpu, &self.problem, weight, packed),
            PackedForm::Dgrad(_) => pack_dgrad(cpu, &self.problem, weight, packed),
        }
    }
}
