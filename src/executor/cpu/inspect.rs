//! One node of a plan by itself, on values that somebody else computed.

use super::{CpuExecutor, memory, run_node};
use crate::executor::{ParameterSet, StepScalars};
use crate::graph::ir::{DType, Graph, Node, ValueId};

impl CpuExecutor {
    pub fn graph(&self, plan: usize) -> &Graph {
        &self.plans[plan].graph
    }

    /// Runs `node`, one of the plan's or another over the plan's values, on what those hold.
    pub fn run_node(&mut self, plan: usize, node: &Node, scalars: &StepScalars) {
        let set = ParameterSet::Current;
        self.refresh_packed(plan, node.segment, set);
        let memory = memory(&mut self.store, &mut self.arena, &mut self.workspace, &self.plans[plan], set);
        run_node(&self.cpu, &memory, &self.plans[plan].graph, node, scalars);
    }

    /// Replaces the numbers of a value.
    pub fn set_value(&mut self, plan: usize, value: ValueId, numbers: &[f32]) {
        let prepared = &self.plans[plan];
        let memory = memory(&mut self.store, &mut self.arena, &mut self.workspace, prepared, ParameterSet::Current);
        match prepared.graph.value(value).dtype {
            DType::U8 => memory.output::<u8>(value).iter_mut().zip(numbers).for_each(|(to, &v)| *to = v as u8),
            _ => memory.output::<f32>(value).copy_from_slice(numbers),
        }
    }

    pub fn value(&mut self, plan: usize, value: ValueId) -> Vec<f32> {
        let prepared = &self.plans[plan];
        let memory = memory(&mut self.store, &mut self.arena, &mut self.workspace, prepared, ParameterSet::Current);
        match prepared.graph.value(value).dtype {
            DType::U8 => memory.input::<u8>(value).iter().map(|&v| f32::from(v)).collect(),
            _ => memory.input::<f32>(value).to_vec(),
        }
    }
}
