//! The findings of a check as text and as JSON.

use super::coverage::Report;
use super::{Problem, ProblemKind};
use crate::error::{Error, Result, sentence, shown};
use crate::reading::count_of;
use serde::Serialize;
use std::fmt;

/// All findings of a check.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// The counts of its labels.
    pub coverage: Report,
    /// Sorted by kind, starting with those that stop a run.
    pub problems: Vec<Problem>,
    /// The reasons why training would not start, as sentences; empty if it would.
    pub stops: Vec<String>,
}

/// At most this many problems of one kind are listed; the rest is summed up.
const SHOWN: usize = 20;

impl Check {
    /// The number of problems of one kind.
    pub fn count(&self, kind: ProblemKind) -> usize {
        self.problems.iter().filter(|problem| problem.kind == kind).count()
    }

    /// Errors: `Other` if training would not start.
    pub fn verdict(&self) -> Result<()> {
        match self.stops.as_slice() {
            [] => Ok(()),
            stops => Err(Error::Other(format!("training would not start: {}", stops.join("; ")))),
        }
    }
}

impl ProblemKind {
    fn heading(self) -> &'static str {
        match self {
            ProblemKind::Label => "stops training",
            ProblemKind::Unlearnable => "the training images cannot teach this",
            ProblemKind::UnreadableImage => "unreadable images",
            ProblemKind::FaintImage => "pictures that are nearly black, because they use few of their 16 bits",
            ProblemKind::Leak => "leaks: training pictures that are also in val or test (compared by decoded pixels)",
            ProblemKind::Duplicate => "pictures that occur more than once (compared by decoded pixels)",
            ProblemKind::Exif => "boxes drawn before the picture was turned",
            ProblemKind::Scale => "boxes in the wrong scale",
            ProblemKind::BoxOutside => "boxes outside their image, clipped when trained on",
            ProblemKind::DegenerateBox => "boxes without width or height, left out",
            ProblemKind::SwappedCorners => "boxes with swapped corners, whose images are unlabelled",
            ProblemKind::DuplicateBox => "boxes repeated, counted once",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = sentence(&self.message);
        if self.file.as_os_str().is_empty() {
            return f.write_str(&message);
        }
        match self.line {
            Some(line) => write!(f, "{}:{line}: {message}", shown(&self.file)),
            None => write!(f, "{}: {message}", shown(&self.file)),
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.coverage)?;
        for group in self.problems.chunk_by(|a, b| a.kind == b.kind) {
            writeln!(f, "\n{}: {}", group[0].kind.heading(), group.len())?;
            for problem in group.iter().take(SHOWN) {
                writeln!(f, "  {problem}")?;
            }
            if group.len() > SHOWN {
                writeln!(f, "  … and {} more; --json FILE has all", group.len() - SHOWN)?;
            }
        }
        let unreadable = self.count(ProblemKind::UnreadableImage);
        write!(f, "\n{}, unreadable images: {unreadable}; ", count_of(self.problems.len(), "problem"))?;
        f.write_str(if self.stops.is_empty() { "training would start" } else { "training would not start" })
    }
}
