//! The kinds of ops and their attributes. What an op computes is in `ops/<op>`.

use serde::{Deserialize, Serialize};

/// The window of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2d {
    /// Side of the square kernel.
    pub kernel: usize,
    /// Pixels from one output to the next.
    pub stride: usize,
    /// Zeros added on every side.
    pub padding: usize,
}

/// The steps that a convolution applies to its result before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConvEpilogue {
    /// Nothing.
    Plain,
    /// Third input: bias `[K]`.
    Bias,
    /// Second output: partial statistics.
    Statistics,
    /// Third input: affine `[2, K]`; fourth, if `residual`: `[N, P, Q, K]`.
    Affine {
        /// Whether another map is added.
        residual: bool,
        /// Whether a ReLU comes last.
        relu: bool,
    },
}

/// The steps that the gradient convolution applies to its result before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DgradEpilogue {
    /// Nothing, or with `addend` the sum with a third input: a gradient of the same shape.
    Plain {
        /// Whether another gradient is added.
        addend: bool,
    },
    /// After `[addend]`: `[z]`, `y`, `moments`. Outputs the masked gradient and the partial sums.
    Reduce {
        /// Whether another gradient is added.
        addend: bool,
        /// Whether the gradient passes only where `y` is above 0.
        relu: bool,
    },
}

/// One level of the feature pyramid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Level {
    /// Pixels of the image from one cell to the next.
    pub stride: usize,
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
}

/// The form in which a task's gradient of a shared feature is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TermForm {
    /// `[N, H, W, C]`.
    Dense,
    /// `[N, C]`, the gradient of the mean over H and W.
    Pooled,
}

/// One gradient stored at the seam for a task and feature: the task's number, and the form of the gradient.
pub type Term = (usize, TermForm);

/// The loss as a function of the error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueLossForm {
    /// Huber's loss with δ = 1: half the squared error, beyond 1 the absolute error minus ½.
    #[default]
    Huber,
    /// The squared error.
    Mse,
}

/// A convolution, forward.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conv2dFprop {
    /// Its window.
    pub conv: Conv2d,
    /// The epilogue: operations on the result while it is in registers.
    pub epilogue: ConvEpilogue,
}

/// A convolution's gradient with respect to its input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conv2dDgrad {
    /// Its window.
    pub conv: Conv2d,
    /// The epilogue: operations on the result while it is in registers.
    pub epilogue: DgradEpilogue,
}

/// A convolution's gradient with respect to its weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conv2dWgrad {
    /// Its window.
    pub conv: Conv2d,
}

/// Scales and shifts, then optionally adds a residual and applies a ReLU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormApply {
    /// Whether another map is added.
    pub residual: bool,
    /// Whether a ReLU follows.
    pub relu: bool,
}

/// The two sums of a batch norm's backward.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormReduce {
    /// Whether a ReLU follows the norm.
    pub relu: bool,
}

/// The backward of a norm that uses running statistics and whose parameters are frozen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormApplyBackward {
    /// Whether the norm added another map.
    pub residual: bool,
    /// Whether a ReLU followed.
    pub relu: bool,
}

/// Group norm and ReLU (Wu 2018).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNormRelu {
    /// Groups of channels.
    pub groups: usize,
}

/// The backward of group norm and ReLU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNormReluBackward {
    /// Groups of channels.
    pub groups: usize,
}

/// Dropout; values that are kept are scaled by 1 / (1 − probability).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// The fraction of values set to zero, from 0 up to 1.
    pub probability: f32,
    /// Distinguishes this node's random numbers from those of other dropout nodes.
    pub salt: u64,
}

/// The backward of a linear layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinearBackward {
    /// Whether the gradient of the input is computed.
    pub input_gradient: bool,
}

/// Softmax and cross-entropy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassLoss {
    /// The task's number.
    pub task: usize,
    /// Label smoothing: the share of every label that is spread evenly over the classes.
    pub smoothing: f32,
}

/// Sigmoid and binary cross-entropy, separately for each class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MultiLabelLoss {
    /// The task's number.
    pub task: usize,
}

/// The loss of a regression head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ValueLoss {
    /// The task's number.
    pub task: usize,
    /// The loss as a function of the error.
    pub form: ValueLossForm,
}

/// The loss of a detection head: classes, boxes, and their distributions.
#[derive(Clone, Debug, PartialEq)]
pub struct BoxLoss {
    /// The task's number.
    pub task: usize,
    /// The pyramid's levels, finest first.
    pub levels: Vec<Level>,
}

/// The weighted sum of the tasks' gradients at a shared feature.
#[derive(Clone, Debug, PartialEq)]
pub struct Combine {
    /// One term for each input, in their order.
    pub terms: Vec<Term>,
}

/// The inner products of the tasks' gradients at one shared feature or weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Gramian {
    /// The number of tasks of the model: rows and columns of the output.
    pub tasks: usize,
    /// H·W, the number of pixels that a pooled term is the mean over.
    pub pixels: usize,
    /// One term for each input, in their order. The terms of one task count as their sum.
    pub terms: Vec<Term>,
}

/// Every kind of op with its attributes. The computation, inputs and outputs are documented in `ops/<op>`; `ops::operation` finds
/// the implementation.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Turns u8 pixels into normalised numbers.
    Preprocess,
    /// A convolution.
    Conv2d(Conv2dFprop),
    /// A convolution's gradient with respect to its input.
    Conv2dDgrad(Conv2dDgrad),
    /// A convolution's gradient with respect to its weight.
    Conv2dWgrad(Conv2dWgrad),
    /// The gradient of a bias: the sum over all dimensions but the last.
    ChannelSum,
    /// Mean and sum of squared deviations of blocks of rows.
    BatchNormStatistics,
    /// Merges the blocks' statistics into the batch's and updates the running ones.
    BatchNormFinish,
    /// Folds running statistics, scale and shift into one affine map `[2, C]`.
    BatchNormFold,
    /// Normalises with the batch's statistics.
    BatchNormApply(BatchNormApply),
    /// The two sums that the backward of batch norm needs.
    BatchNormReduce(BatchNormReduce),
    /// Merges the blocks' sums into the batch's and computes the gradients of scale and shift.
    BatchNormBackwardFinish,
    /// The gradient of the norm's input.
    BatchNormBackwardApply,
    /// The backward of a norm that uses running statistics.
    BatchNormApplyBackward(BatchNormApplyBackward),
    /// Group norm and ReLU.
    GroupNormRelu(GroupNormRelu),
    /// The backward of group norm and ReLU.
    GroupNormReluBackward(GroupNormReluBackward),
    /// Max pooling 3×3 with stride 2.
    MaxPool,
    /// The backward of max pooling.
    MaxPoolBackward,
    /// The mean over height and width.
    GlobalPool,
    /// Dropout.
    Dropout(Dropout),
    /// A linear layer with bias.
    Linear,
    /// The backward of a linear layer.
    LinearBackward(LinearBackward),
    /// Enlarges a coarser level and adds it to a finer one.
    UpsampleAdd,
    /// The backward of `UpsampleAdd`, for the coarser level.
    UpsampleBackward,
    /// Concatenates the pyramid's levels.
    ConcatLevels,
    /// The backward of the concatenation.
    ConcatLevelsBackward,
    /// The loss of a classification head.
    ClassLoss(ClassLoss),
    /// The loss of a classification head with several labels per image.
    MultiLabelLoss(MultiLabelLoss),
    /// The loss of a regression head.
    ValueLoss(ValueLoss),
    /// The loss of a detection head.
    BoxLoss(BoxLoss),
    /// The weighted sum of the tasks' gradients at a shared feature.
    Combine(Combine),
    /// The sum of two values.
    Add,
    /// Zeros, to which gradients are added.
    Clear,
    /// The inner products of the tasks' gradients.
    Gramian(Gramian),
}
