//! The kinds of op and their attributes. What an op computes is in `ops/<op>`.

use serde::{Deserialize, Serialize};

/// The window of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2d {
    /// Side of the square kernel.
    pub kernel: usize,
    /// Pixels from one output to the next.
    pub stride: usize,
    /// Zeros on every side.
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
    /// With `addend` a third input: a gradient of the same shape.
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
    /// Huber's with δ = 1: half the square, beyond 1 the distance less ½.
    #[default]
    Huber,
    /// The square.
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

/// A convolution's gradient by its input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conv2dDgrad {
    /// Its window.
    pub conv: Conv2d,
    /// The epilogue: operations on the result while it is in registers.
    pub epilogue: DgradEpilogue,
}

/// A convolution's gradient by its weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conv2dWgrad {
    /// Its window.
    pub conv: Conv2d,
}

/// Scale, shift, and what may follow.
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

/// The backward of a norm by running statistics, whose parameters stay.
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

/// Dropout: scaled by 1 / (1 − probability) where it keeps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// The share that is dropped, from 0 up to 1.
    pub probability: f32,
    /// Tells this node's random numbers from another's.
    pub salt: u64,
}

/// The backward of a linear layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinearBackward {
    /// Whether the input's gradient is computed.
    pub input_gradient: bool,
}

/// Softmax and cross-entropy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassLoss {
    /// The task's number.
    pub task: usize,
    /// The share of every label that is spread evenly over the classes.
    pub smoothing: f32,
}

/// Sigmoid and binary cross-entropy, each class by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MultiLabelLoss {
    /// The task's number.
    pub task: usize,
}

/// The loss of values.
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

/// The seam: one term for each input.
#[derive(Clone, Debug, PartialEq)]
pub struct Combine {
    /// One for each input, in their order.
    pub terms: Vec<Term>,
}

/// The inner products of the tasks' gradients at one place: one term for each input.
#[derive(Clone, Debug, PartialEq)]
pub struct Gramian {
    /// Tasks of the model: rows and columns of the output.
    pub tasks: usize,
    /// H·W, which a pooled term was the mean over.
    pub pixels: usize,
    /// One for each input, in their order. The terms of one task count as their sum.
    pub terms: Vec<Term>,
}

/// Every kind of op with its attributes. What it computes, and its inputs and outputs in order, are in `ops/<op>`, which
/// `ops::operation` finds.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Pixels u8 to normalised numbers.
    Preprocess,
    /// A convolution.
    Conv2d(Conv2dFprop),
    /// Its gradient by the input.
    Conv2dDgrad(Conv2dDgrad),
    /// Its gradient by the weight.
    Conv2dWgrad(Conv2dWgrad),
    /// Bias gradient: sum over all but the last dimension.
    ChannelSum,
    /// Mean and spread of blocks of rows.
    BatchNormStatistics,
    /// Blocks' statistics to those of the batch, and the running ones.
    BatchNormFinish,
    /// Running statistics, scale and shift to one affine `[2, C]`.
    BatchNormFold,
    /// Normalises with the batch's statistics.
    BatchNormApply(BatchNormApply),
    /// The sums that the norm's backward needs.
    BatchNormReduce(BatchNormReduce),
    /// Blocks' sums to those of the batch, and the gradients of scale and shift.
    BatchNormBackwardFinish,
    /// The gradient of the norm's input.
    BatchNormBackwardApply,
    /// The backward of a norm by running statistics.
    BatchNormApplyBackward(BatchNormApplyBackward),
    /// Group norm and ReLU.
    GroupNormRelu(GroupNormRelu),
    /// Its backward.
    GroupNormReluBackward(GroupNormReluBackward),
    /// Max pooling 3×3 with stride 2.
    MaxPool,
    /// Its backward.
    MaxPoolBackward,
    /// The mean over height and width.
    GlobalPool,
    /// Dropout.
    Dropout(Dropout),
    /// A linear layer with bias.
    Linear,
    /// Its backward.
    LinearBackward(LinearBackward),
    /// A coarser level enlarged and added to a finer one.
    UpsampleAdd,
    /// Its backward, for the coarser level.
    UpsampleBackward,
    /// The pyramid's levels side by side.
    ConcatLevels,
    /// Its backward.
    ConcatLevelsBackward,
    /// The loss of a classification.
    ClassLoss(ClassLoss),
    /// The loss of a classification with several labels.
    MultiLabelLoss(MultiLabelLoss),
    /// The loss of a regression.
    ValueLoss(ValueLoss),
    /// The loss of a detection.
    BoxLoss(BoxLoss),
    /// The weighted sum of the tasks' gradients at a shared feature.
    Combine(Combine),
    /// The sum of two values.
    Add,
    /// Zeros, for gradients to be added to.
    Clear,
    /// The inner products of the tasks' gradients.
    Gramian(Gramian),
}
