//! Runs one node of a plan by itself, on values that are set from outside.

use super::CpuExecutor;
use crate::error::Result;
use crate::executor::{ParameterSet, StepScalars};
use crate::ir::{Graph, Node, ValueId};

impl CpuExecutor {
    /// The fused graph of a plan.
    pub fn graph(&self, plan: usize) -> &Graph {
        &self.plans[&plan].graph
    }

    /// Runs `node` on the current values of the plan. It may be a node of the plan or another one on the same values.
    pub(in crate::executor) fn run_node(&mut self, plan: usize, node: &Node, scalars: &StepScalars) -> Result<()> {
        self.refresh_packed(plan, node.segment, ParameterSet::Current)?;
        self.memory(plan, ParameterSet::Current).1.run(node, scalars);
        Ok(())
    }

    /// Replaces the numbers of a value.
    pub(in crate::executor) fn set_value(&mut self, plan: usize, value: ValueId, numbers: &[f32]) {
        self.memory(plan, ParameterSet::Current).1.write(value, numbers);
    }

    /// The numbers of any value, as f32.
    pub(in crate::executor) fn value(&mut self, plan: usize, value: ValueId) -> Vec<f32> {
        self.memory(plan, ParameterSet::Current).1.read(value)
    }
}
