//! Launches the kernel of the regression loss (`kernels/value_loss.cu`).

use crate::device::cuda::{Address, Arguments, File, Launch, Work};
use crate::ir::{self, ValueLossForm};
use crate::ops::cuda::{CudaNode, CudaOp, NO_SCRATCH};

const THREADS: u32 = 256;
const WARP: u32 = 32;

/// Values and target `[N, R]`, `len` entries in all (NaN target: unlabelled) → loss `[1]`, dvalues `[N, R]`. `denominator` `[1]`
/// is read on the device; if it is 0, all results are 0.
pub fn value_loss(
    form: ValueLossForm,
    len: usize,
    [values, target, denominator]: [Address; 3],
    [loss, dvalues]: [Address; 2],
) -> Launch {
    let arguments =
        Arguments::new().pointer(values).pointer(target).pointer(denominator).pointer(loss).pointer(dvalues);
    let (grid, shared_bytes) = ([1, 1, 1], 8 * THREADS / WARP);
    let arguments = arguments.int(len).int(usize::from(form == ValueLossForm::Mse));
    Launch { file: File::VALUE_LOSS, kernel: "value_loss", grid, threads: THREADS, shared_bytes, arguments }
}

impl CudaOp for ir::ValueLoss {
    fn cuda_scratch(&self, _node: &CudaNode) -> usize {
        NO_SCRATCH
    }

    fn lower(&self, node: &CudaNode) -> Vec<Work> {
        let values = node.input_shape(0);
        let inputs = [node.input(0), node.input(1), node.denominator(self.task)];
        let outputs = [node.output(0), node.output(1)];
        vec![value_loss(self.form, values[0] * values[1], inputs, outputs).into()]
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::plain_loss;
    use super::*;
    use crate::ops::testing::{Board, Expected, Random, check_kernels, wide};

    const FORMS: [ValueLossForm; 2] = [ValueLossForm::Huber, ValueLossForm::Mse];

    fn run(board: &mut Board, form: ValueLossForm, values: &[f32], target: &[f32], denominator: f32) -> Vec<Vec<f32>> {
        let inputs = [board.floats(values), board.floats(target), board.floats(&[denominator])];
        let outputs = [board.floats_out(1), board.floats_out(values.len())];
        board.run(&[value_loss(form, values.len(), inputs, outputs)]);
        vec![board.read_floats(outputs[0], 1), board.read_floats(outputs[1], values.len())]
    }

    #[test]
    fn loss_and_gradient_match_f64() {
        let sizes = [(1, 0.5), (33, 4.0), (256, 200.0), (1000, 2.0)];
        for (form, (len, spread)) in FORMS.into_iter().flat_map(|form| sizes.map(|size| (form, size))) {
            let mut random = Random::new(len as u64);
            let values = random.vector(len, -spread, spread);
            let target: Vec<f32> =
                (0..len).map(|i| if i % 4 == 2 { f32::NAN } else { random.uniform(-spread, spread) }).collect();
            let loss = plain_loss(form, &wide(&values), &target, 7.0);
            let slope = |(&value, &target): (&f32, &f32)| match f64::from(value) - f64::from(target) {
                apart if apart.is_nan() => 0.0,
                apart if form == ValueLossForm::Mse => 2.0 * apart / 7.0,
                apart => apart.clamp(-1.0, 1.0) / 7.0,
            };
            let dvalues = values.iter().zip(&target).map(slope).collect();
            // One rounding each.
            let expected = [Expected::near("loss", 1, vec![loss]), Expected::near("dvalues", 1, dvalues)];
            let case = format!("{form:?} loss {len} ±{spread}");
            check_kernels(&case, &expected, |board| run(board, form, &values, &target, 7.0));
        }
    }

    #[test]
    fn unlabelled_entries_have_no_loss() {
        let zeros = [Expected::exact("loss", vec![0.0]), Expected::exact("dvalues", vec![0.0; 2])];
        for (target, denominator) in [([f32::NAN; 2], 0.0), ([f32::NAN; 2], 2.0), ([1.0; 2], 0.0)] {
            let case = format!("value loss of {target:?} ÷ {denominator}");
            for form in FORMS {
                check_kernels(&case, &zeros, |board| run(board, form, &[3.0, f32::NAN], &target, denominator));
            }
        }
        let nan = [Expected::exact("loss", vec![f64::NAN]), Expected::exact("dvalues", vec![f64::NAN])];
        for form in FORMS {
            check_kernels("value loss of NaN", &nan, |board| run(board, form, &[f32::NAN], &[0.0], 1.0));
        }
    }
}
