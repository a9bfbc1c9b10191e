//! Runs one node of a plan by itself and checks what it writes into memory filled with poison.

use super::memory::Block;
use super::{CudaExecutor, lower};
use crate::device::cuda::{Memory, Work};
use crate::error::Result;
use crate::executor::compare::{adds_to, written};
use crate::executor::{ParameterSet, StepScalars};
use crate::ir::{Graph, Place, ValueId};

/// One value after a node ran.
pub struct Written {
    pub value: ValueId,
    /// The value's elements without padding.
    pub numbers: Vec<f32>,
    /// A fault that is found without comparing with other numbers.
    pub fault: Option<&'static str>,
}

impl CudaExecutor {
    /// The plan's graph with its values as they are laid out in memory.
    pub fn graph(&self, plan: usize) -> &Graph {
        &self.plans[&plan].layout.physical
    }

    /// The plan's graph with its values as the model defines them.
    pub fn logical(&self, plan: usize) -> &Graph {
        &self.plans[&plan].layout.logical
    }

    /// Prepares everything that nodes read besides their values.
    pub(in crate::executor) fn start_inspection(&mut self, plan: usize, scalars: &StepScalars) -> Result<()> {
        self.take_batch(plan)?;
        self.upload_scalars(scalars)?;
        self.refresh_packed(ParameterSet::Current)?;
        self.stale = true;
        Ok(())
    }

    /// The elements of a value without padding.
    pub(in crate::executor) fn value(&self, plan: usize, value: ValueId) -> Result<Vec<f32>> {
        Ok(self.plans[&plan].layout.read(value, &self.download(plan, value)?))
    }

    /// Replaces the elements of a value.
    pub(in crate::executor) fn set_value(&mut self, plan: usize, value: ValueId, numbers: &[f32]) -> Result<()> {
        let bytes = self.plans[&plan].layout.write(value, numbers);
        self.upload(plan, value, &bytes)
    }

    /// Runs node `index` twice. Before each run its outputs and the workspace are filled with 0xff, gradients with zero. The
    /// second run must write the same bits and add the same to a gradient.
    pub(in crate::executor) fn run_node(&mut self, plan: usize, index: usize) -> Result<Vec<Written>> {
        let layout = &self.plans[&plan].layout;
        let values = written(&layout.physical.nodes[index]);
        let work = lower::node(layout, &self.memory, &self.tuning, self.cuda.precision(), index);
        let before: Vec<Vec<u8>> = values.iter().map(|&v| self.before(plan, index, v)).collect::<Result<_>>()?;
        for (&value, bytes) in values.iter().zip(&before) {
            self.upload(plan, value, bytes)?;
        }
        let first = self.run_work(plan, &values, &work)?;
        for (&value, bytes) in values.iter().zip(&before) {
            if !adds_to(self.graph(plan), index, value) {
                self.upload(plan, value, bytes)?;
            }
        }
        let second = self.run_work(plan, &values, &work)?;
        let judge = |((&value, first), second): ((&ValueId, Vec<u8>), Vec<u8>)| {
            let layout = &self.plans[&plan].layout;
            let numbers = layout.read(value, &first);
            let fault = if !layout.padding_is_zero(value, &first) {
                Some("its padding is not zero")
            } else if adds_to(&layout.physical, index, value) {
                // g + g is exact.
                let twice = layout.read(value, &second).iter().zip(&numbers).all(|(two, one)| *two == 2.0 * one);
                (!twice).then_some("a second run did not add the same as the first")
            } else {
                (first != second).then_some("two runs differ")
            };
            Written { value, numbers, fault }
        };
        Ok(values.iter().zip(first).zip(second).map(judge).collect())
    }

    /// The bytes to fill `value` with before node `index` writes it.
    fn before(&self, plan: usize, index: usize, value: ValueId) -> Result<Vec<u8>> {
        let described = self.graph(plan).value(value);
        match described.place {
            _ if adds_to(self.graph(plan), index, value) => Ok(vec![0; described.bytes()]),
            // A running statistic is updated from its old value.
            Place::Buffer(_) => self.download(plan, value),
            _ => Ok(vec![0xff; described.bytes()]),
        }
    }

    fn run_work(&mut self, plan: usize, values: &[ValueId], work: &[Work]) -> Result<Vec<Vec<u8>>> {
        let workspace = self.memory.block(Block::Workspace);
        self.cuda.upload(workspace, 0, &vec![0xff; workspace.bytes])?;
        let blocks = self.blocks(plan);
        self.cuda.launch(work, &blocks)?;
        values.iter().map(|&v| self.download(plan, v)).collect()
    }

    fn blocks(&self, plan: usize) -> Vec<Memory> {
        let prepared = &self.plans[&plan];
        self.memory.table(ParameterSet::Current, prepared.batches[prepared.current].memory)
    }

    fn upload(&mut self, plan: usize, value: ValueId, bytes: &[u8]) -> Result<()> {
        let at = lower::address(&self.plans[&plan].layout, &self.memory, value);
        let block = self.blocks(plan)[at.block];
        self.cuda.upload(block, at.offset, bytes)
    }

    fn download(&self, plan: usize, value: ValueId) -> Result<Vec<u8>> {
        let at = lower::address(&self.plans[&plan].layout, &self.memory, value);
        let mut bytes = vec![0; self.graph(plan).value(value).bytes()];
        self.cuda.download(self.blocks(plan)[at.block], at.offset, &mut bytes)?;
        Ok(bytes)
    }
}
