//! The three splits of a data set: training, validation and test.

/// One of the three parts of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// The images a model is trained on.
    Train,
    /// The images that evaluate a run during training.
    Val,
    /// The images that evaluate a finished model.
    Test,
}

impl Split {
    /// All three, in the order used by arrays of splits.
    pub const ALL: [Split; 3] = [Split::Train, Split::Val, Split::Test];

    /// The word in data.yaml, flags and file names.
    pub fn word(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Val => "val",
            Split::Test => "test",
        }
    }

    /// Matches the usual names of the split's folder or file, ignoring case.
    pub(crate) fn called(word: &str) -> Option<Split> {
        match word.to_ascii_lowercase().as_str() {
            "train" | "training" => Some(Split::Train),
            "val" | "valid" | "validation" => Some(Split::Val),
            "test" | "testing" => Some(Split::Test),
            _ => None,
        }
    }
}
