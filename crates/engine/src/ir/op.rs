//! The kinds of op and their attributes. What an op computes is in `ops/<op>`.

use serde::{Deserialize, Serialize};

/// The window of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2d {
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
}

/// What a convolution does to its result before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConvEpilogue {
    Plain,
    /// Third input: bias `[K]`.
    Bias,
    /// Second output: partial statistics.
    Statistics,
    /// Third input: affine `[2, K]`; fourth, if `residual`: `[N, P, Q, K]`.
    Affine {
        residual: bool,
        relu: bool,
    },
}

/// What the gradient convolution does to its result before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DgradEpilogue {
    /// With `addend` a third input: a gradient of the same shape.
    Plain { addend: bool },
    /// After `[addend]`: `[z]`, `y`, `moments`. Outputs the masked gradient and the partial sums.
    Reduce { addend: bool, relu: bool },
}

/// One level of the feature pyramid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Level {
    pub stride: usize,
    pub h: usize,
    pub w: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TermForm {
    /// `[N, H, W, C]`.
    Dense,
    /// `[N, C]`, the gradient of the mean over H and W.
    Pooled,
}

/// What is stored at the seam for one task and feature: whose gradient it is and in which form.
pub type Term = (usize, TermForm);

/// What a value costs that is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueLossForm {
    /// Huber's with δ = 1: half the square, beyond 1 the distance less ½.
    #[default]
    Huber,
    /// The square.
    Mse,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conv2dFprop {
    pub conv: Conv2d,
    pub epilogue: ConvEpilogue,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conv2dDgrad {
    pub conv: Conv2d,
    pub epilogue: DgradEpilogue,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conv2dWgrad {
    pub conv: Conv2d,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormApply {
    pub residual: bool,
    pub relu: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormReduce {
    pub relu: bool,
}

/// The backward of a norm by running statistics, whose parameters stay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormApplyBackward {
    pub residual: bool,
    pub relu: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNormRelu {
    pub groups: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNormReluBackward {
    pub groups: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    pub probability: f32,
    /// Tells this node's random numbers from another's.
    pub salt: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinearBackward {
    pub input_gradient: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassLoss {
    pub task: usize,
    pub smoothing: f32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MultiLabelLoss {
    pub task: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ValueLoss {
    pub task: usize,
    pub form: ValueLossForm,
}

#[derive(Clone, Debug, PartialEq)]
pub struct BoxLoss {
    pub task: usize,
    pub levels: Vec<Level>,
}

/// The seam: one term for each input.
#[derive(Clone, Debug, PartialEq)]
pub struct Combine {
    pub terms: Vec<Term>,
}

/// Every kind of op with its attributes. What it computes, and its inputs and outputs in order, are in `ops/<op>`, which
/// `ops::operation` finds.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    Preprocess,
    Conv2d(Conv2dFprop),
    Conv2dDgrad(Conv2dDgrad),
    Conv2dWgrad(Conv2dWgrad),
    /// Bias gradient: sum over all but the last dimension.
    ChannelSum,
    BatchNormStatistics,
    BatchNormFinish,
    BatchNormFold,
    BatchNormApply(BatchNormApply),
    BatchNormReduce(BatchNormReduce),
    BatchNormBackwardFinish,
    BatchNormBackwardApply,
    BatchNormApplyBackward(BatchNormApplyBackward),
    GroupNormRelu(GroupNormRelu),
    GroupNormReluBackward(GroupNormReluBackward),
    MaxPool,
    MaxPoolBackward,
    GlobalPool,
    Dropout(Dropout),
    Linear,
    LinearBackward(LinearBackward),
    UpsampleAdd,
    UpsampleBackward,
    ConcatLevels,
    ConcatLevelsBackward,
    ClassLoss(ClassLoss),
    MultiLabelLoss(MultiLabelLoss),
    ValueLoss(ValueLoss),
    BoxLoss(BoxLoss),
    Combine(Combine),
    Add,
}
