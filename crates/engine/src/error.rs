//! The one error type of the library. A shape error carries the op, a data error the file and line; the binary
//! prints it and maps it to an exit code.

use std::fmt;
use std::path::{Path, PathBuf};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, kept in the form a person needs: what, where, what was expected, what to do.
#[derive(Debug)]
pub enum Error {
    /// An op was asked for something it cannot compute.
    Shape { op: &'static str, expected: String, got: String },
    /// A user's file says something wrong. `line` is 1-based where there is one.
    Data { file: PathBuf, line: Option<usize>, message: String },
    /// Flags or a configuration that cannot be followed: exit code 2.
    Usage(String),
    /// The operating system refused.
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    /// A weights or checkpoint file that is not what it should be.
    Checkpoint { file: PathBuf, message: String },
    /// A loss left the real numbers; `report` lists every task's loss and weight, the step and the images.
    NonFinite { report: String },
    /// Ctrl-C: exit code 130.
    Interrupted,
    /// A failure with no better home, already a whole sentence.
    Other(String),
}

impl Error {
    pub fn shape(op: &'static str, expected: impl fmt::Debug, got: impl fmt::Debug) -> Self {
        Error::Shape { op, expected: format!("{expected:?}"), got: format!("{got:?}") }
    }

    pub fn data(file: impl AsRef<Path>, line: Option<usize>, message: impl Into<String>) -> Self {
        Error::Data { file: file.as_ref().to_path_buf(), line, message: message.into() }
    }

    /// For `map_err`: `fs::read(p).map_err(Error::io("read", p))`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io { action, path, source }
    }

    pub fn checkpoint(file: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Error::Checkpoint { file: file.as_ref().to_path_buf(), message: message.into() }
    }

    /// What went wrong with a file, for those who name the file themselves.
    pub fn reason(&self) -> String {
        match self {
            Error::Data { message, .. } => message.clone(),
            Error::Io { action, source, .. } => format!("cannot {action}: {source}"),
            other => other.to_string(),
        }
    }

    /// 0 is success, 1 failed, 2 usage, 130 interrupted.
    pub fn exit_code(&self) -> i32 {
        match self {
            Error::Usage(_) => 2,
            Error::Interrupted => 130,
            _ => 1,
        }
    }
}

/// A path as one line, whatever its bytes: control characters and what is no Unicode are escaped.
pub fn shown(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        text.push_str(&one_line(chunk.valid()));
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

/// A text with its control characters escaped.
pub fn one_line(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escaped).collect()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Shape { op, expected, got } => {
                write!(f, "{op}: expected {expected}, got {got}")
            }
            Error::Data { file, line: Some(line), message } => {
                write!(f, "{}:{line}: {message}", shown(file))
            }
            Error::Data { file, line: None, message } => write!(f, "{}: {message}", shown(file)),
            Error::Usage(message) | Error::Other(message) => f.write_str(message),
            Error::Io { action, path, source } => write!(f, "cannot {action} {}: {source}", shown(path)),
            Error::Checkpoint { file, message } => write!(f, "{}: {message}", shown(file)),
            Error::NonFinite { report } => f.write_str(report),
            Error::Interrupted => f.write_str("interrupted"),
        }
    }
}

/// Without a `source`: what lies below is in the sentence already, and a chain would say it twice.
impl std::error::Error for Error {}
