//! The kernels' text, part of the binary.

/// One file of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct File {
    /// File name under `kernels/`.
    pub name: &'static str,
    pub text: &'static str,
}

macro_rules! file {
    ($name:literal) => {
        File { name: $name, text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../kernels/", $name)) }
    };
}

impl File {
    /// What kernels include.
    pub const HEADERS: [File; 2] = [file!("primitives.cuh"), file!("conv2d.cuh")];

    pub const BATCH_NORM: File = file!("batch_norm.cu");
    pub const BOX_LOSS: File = file!("box_loss.cu");
    pub const CLASS_LOSS: File = file!("class_loss.cu");
    pub const COMBINE: File = file!("combine.cu");
    pub const CONCAT: File = file!("concat.cu");
    pub const CONV2D: File = file!("conv2d.cu");
    pub const CONV2D_DIRECT: File = file!("conv2d_direct.cu");
    pub const CONV2D_WGRAD: File = file!("conv2d_wgrad.cu");
    pub const GROUP_NORM: File = file!("group_norm.cu");
    pub const LINEAR: File = file!("linear.cu");
    pub const MULTI_LABEL_LOSS: File = file!("multi_label_loss.cu");
    pub const OPTIMIZER: File = file!("optimizer.cu");
    pub const POOL: File = file!("pool.cu");
    pub const PREPROCESS: File = file!("preprocess.cu");
    pub const UPSAMPLE: File = file!("upsample.cu");
    pub const VALUE_LOSS: File = file!("value_loss.cu");

    pub const ALL: [File; 16] = [
        File::BATCH_NORM,
        File::BOX_LOSS,
        File::CLASS_LOSS,
        File::COMBINE,
        File::CONCAT,
        File::CONV2D,
        File::CONV2D_DIRECT,
        File::CONV2D_WGRAD,
        File::GROUP_NORM,
        File::LINEAR,
        File::MULTI_LABEL_LOSS,
        File::OPTIMIZER,
        File::POOL,
        File::PREPROCESS,
        File::UPSAMPLE,
        File::VALUE_LOSS,
    ];
}
