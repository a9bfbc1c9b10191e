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
    /// The operating system refuses memory.
    Memory {
        /// The number of bytes asked for.
        bytes: usize,
        /// Their purpose, such as `a step`.
        purpose: String,
        /// The user's way out, such as `lower --batch`.
        advice: &'static str,
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
    one_line(&path_text(path))
}

/// A path as text. Bytes that are not valid Unicode are escaped, so that different paths have different texts.
pub fn path_text(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

/// A text as one line, with everything escaped that a terminal would not show as a character: see [`is_hidden`].
pub fn one_line(text: &str) -> String {
    escape(text, |_| true)
}

/// A message as [`one_line`]. If it quotes something so long that nobody would find its end, the middle is left out.
pub fn sentence(text: &str) -> String {
    const LONGEST: usize = 2000;
    const START: usize = 900;
    const END: usize = 600;
    let length = text.chars().count();
    if length <= LONGEST {
        return one_line(text);
    }
    let start: String = text.chars().take(START).collect();
    let end: String = text.chars().skip(length - END).collect();
    one_line(&format!("{start} … {end}"))
}

/// A text of one or several lines, with everything escaped that [`one_line`] escapes but line ends and tabs.
pub fn visible(text: &str) -> String {
    escape(text, |c| !matches!(c, '\n' | '\t'))
}

/// Whether a terminal acts on this character instead of showing it: a control character, or a mark that reverses the order in
/// which the text after it is shown, so that a name looks like another one.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escape(text: &str, chosen: impl Fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) && chosen(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// One line, because messages quote names and cells of users' files, which may hold anything.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = match self {
            Error::Shape { op, expected, got } => format!("{op}: expected {expected}, got {got}"),
            Error::Data { file, line: Some(line), message } => format!("{}:{line}: {message}", shown(file)),
            Error::Data { file, line: None, message } => format!("{}: {message}", shown(file)),
            Error::Usage(message) | Error::Other(message) => message.clone(),
            Error::Io { action, path, source } => format!("cannot {action} {}: {source}", shown(path)),
            Error::Checkpoint { file, message } => format!("{}: {message}", shown(file)),
            Error::NonFinite { report } => report.clone(),
            Error::Memory { bytes, purpose, advice } => {
                format!("the system refuses {} MiB of memory for {purpose}: {advice}", bytes.div_ceil(1 << 20))
            }
            Error::Threads { count, purpose, lower, reason } => {
                let threads = if *count == 1 { "a thread".to_owned() } else { format!("{count} threads") };
                format!(
                    "cannot start {threads} {purpose}: {reason}; lower {lower}, or raise the limit on processes (ulimit -u) or memory (ulimit -v)"
                )
            }
            Error::Interrupted => "interrupted".to_owned(),
        };
        match self {
            // Lists all images of a step.
            Error::NonFinite { .. } => f.write_str(&one_line(&line)),
            _ => f.write_str(&sentence(&line)),
        }
    }
}

/// No `source`: the message already contains the cause, and printing the chain would repeat it.
impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_acts_on_is_left_in_a_message() {
        let name = "a\u{1b}[2J\r\n\u{9b}b\u{202e}gpj.\u{2069}é猫\t";
        assert_eq!(one_line(name), "a\\u{1b}[2J\\r\\n\\u{9b}b\\u{202e}gpj.\\u{2069}é猫\\t");
        assert_eq!(visible("a\tb\n\u{1b}c\r\n"), "a\tb\n\\u{1b}c\\r\n");
        assert_eq!(shown(Path::new(name)), one_line(name));
        let errors = [
            Error::data(name, Some(3), name),
            Error::data(name, None, name),
            Error::Usage(name.into()),
            Error::Other(name.into()),
            Error::io("read", name)(std::io::Error::other(name)),
            Error::checkpoint(name, name),
            Error::NonFinite { report: name.into() },
        ];
        for error in errors {
            let said = error.to_string();
            assert!(!said.contains(is_hidden) && said.contains("gpj."), "{said:?}");
        }
    }

    #[test]
    fn a_long_cell_is_cut_and_the_place_and_the_advice_stay() {
        let message = format!("`{}` is not a number: correct it", "é".repeat(1 << 20));
        let said = Error::data("labels.csv", Some(7), message).to_string();
        assert!(said.starts_with("labels.csv:7: `éé") && said.ends_with("éé` is not a number: correct it"), "{said}");
        assert!(said.contains("é … é") && said.chars().count() < 2000);
    }
}
