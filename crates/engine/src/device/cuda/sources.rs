//! The kernels' text, which is compiled into the binary.

/// One file of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct File {
    /// File name under `kernels/`.
    pub name: &'static str,
    /// The whole text that is passed to NVRTC.
    pub text: &'static str,
}

macro_rules! file {
    ($name:literal) => {
        File { name: $name, text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../kernels/", $name)) }
    };
}

impl File {
    /// The headers that kernels include.
    pub const HEADERS: [File; 2] = [file!("primitives.cuh"), file!("conv2d.cuh")];
}

/// A constant for each file of kernels, and the list of them.
macro_rules! files {
    ($($constant:ident = $name:literal,)*) => {
        impl File {
            $(
                #[doc = concat!("`kernels/", $name, "`.")]
                pub const $constant: File = file!($name);
            )*
            /// All files of kernels, without the headers that they include.
            pub const ALL: [File; [$($name),*].len()] = [$(File::$constant),*];
        }
    };
}

files! {
    BATCH_NORM = "batch_norm.cu",
    BOX_LOSS = "box_loss.cu",
    CLASS_LOSS = "class_loss.cu",
    COMBINE = "combine.cu",
    CONCAT = "concat.cu",
    CONV2D = "conv2d.cu",
    CONV2D_DIRECT = "conv2d_direct.cu",
    CONV2D_WGRAD = "conv2d_wgrad.cu",
    GRAMIAN = "gramian.cu",
    GROUP_NORM = "group_norm.cu",
    LINEAR = "linear.cu",
    MULTI_LABEL_LOSS = "multi_label_loss.cu",
    OPTIMIZER = "optimizer.cu",
    POOL = "pool.cu",
    PREPROCESS = "preprocess.cu",
    UPSAMPLE = "upsample.cu",
    VALUE_LOSS = "value_loss.cu",
}
