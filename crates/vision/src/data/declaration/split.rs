//! Training, validation and test.

/// One of the three parts of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// What a model learns from.
    Train,
    /// What judges a run while it trains.
    Val,
    /// What judges a model at the end.
    Test,
}

impl Split {
    /// All three, in the order in which arrays of splits have them.
    pub const ALL: [Split; 3] = [Split::Train, Split::Val, Split::Test];

    /// The word in data.yaml, flags and file names.
    pub fn word(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Val => "val",
            Split::Test => "test",
        }
    }

    /// The usual names of the split's folder or file, in any case.
    pub(crate) fn called(word: &str) -> Option<Split> {
        match word.to_ascii_lowercase().as_str() {
            "train" | "training" => Some(Split::Train),
            "val" | "valid" | "validation" => Some(Split::Val),
            "test" | "testing" => Some(Split::Test),
            _ => None,
        }
    }
}
