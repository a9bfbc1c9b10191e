//! The one error type of the library. A shape error carries the op, a data error the file and line; the binary
//! prints it and maps it to an exit code.

use std::fmt;
use std::path::{Path, PathBuf};

/// The result of an operation that can fail with [`Error`], the library's only error type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error that tells the user what went wrong, where, what was expected and how to fix it.
#[derive(Debug)]
pub enum Error {
    /// An op cannot compute with the shapes that it was given.
    Shape {
        /// The op's name, such as `conv2d`.
        op: &'static str,
        /// The shapes that the op takes, or a description of them.
        expected: String,
        /// The shapes that it was given.
        got: String,
    },
    /// A user's file contains an error.
    Data {
        /// The file, or the folder that was read as a data set.
        file: PathBuf,
        /// The line, counted from 1, if the error is on one line.
        line: Option<usize>,
        /// The error and how to fix it; the file and the line are printed before it.
        message: String,
    },
    /// Invalid flags or an invalid configuration: exit code 2.
    Usage(String),
    /// A call to the operating system failed.
    Io {
        /// A verb for the sentence "cannot … the path", such as `read`.
        action: &'static str,
        /// The file or folder on which the action failed.
        path: PathBuf,
        /// The system's own message.
        source: std::io::Error,
    },
    /// A weights or checkpoint file that is corrupt or has unexpected contents.
    Checkpoint {
        /// The weights or checkpoint file.
        file: PathBuf,
        /// The error; the file's name is printed before it.
        message: String,
    },
    /// A loss is NaN or infinite.
    NonFinite {
        /// Lists every task's loss and weight, the step and the images.
        report: String,
    },
    /// The operating system refuses to start threads.
    Threads {
        /// The number of threads asked for.
        count: usize,
        /// Their purpose, such as `to compute`.
        purpose: &'static str,
        /// The flag or variable that lowers their number.
        lower: &'static str,
        /// The system's own message.
        reason: String,
    },
    /// Ctrl-C: exit code 130.
    Interrupted,
    /// Any other failure; the text is a whole sentence.
    Other(String),
}

impl Error {
    /// An [`Error::Shape`]; shapes are formatted with `{:?}`.
    pub fn shape(op: &'static str, expected: impl fmt::Debug, got: impl fmt::Debug) -> Self {
        Error::Shape { op, expected: format!("{expected:?}"), got: format!("{got:?}") }
    }

    /// An [`Error::Data`] about a file and, if known, a line counted from 1.
    pub fn data(file: impl AsRef<Path>, line: Option<usize>, message: impl Into<String>) -> Self {
        Error::Data { file: file.as_ref().to_path_buf(), line, message: message.into() }
    }

    /// For `map_err`: `fs::read(p).map_err(Error::io("read", p))`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io { action, path, source }
    }

    /// An [`Error::Checkpoint`] about a file.
    pub fn checkpoint(file: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Error::Checkpoint { file: file.as_ref().to_path_buf(), message: message.into() }
    }

    /// The reason without the file's name, for messages that name the file themselves.
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

/// A path as one line. Control characters and bytes that are not valid Unicode are escaped.
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
            Error::Threads { count, purpose, lower, reason } => {
                let threads = if *count == 1 { "a thread".to_owned() } else { format!("{count} threads") };
                write!(
                    f,
                    "cannot start {threads} {purpose}: {reason}; lower {lower}, or raise the limit on processes (ulimit -u) or memory (ulimit -v)"
                )
            }
            Error::Interrupted => f.write_str("interrupted"),
        }
    }
}

/// No `source`: the message already contains the cause, and printing the chain would repeat it.
impl std::error::Error for Error {}
