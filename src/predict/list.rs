//! Reads a list of paths as it arrives: one per line, or each ended by NUL.

use crate::error::{Error, Result};
use std::ffi::OsString;
use std::io::{BufRead, Read};
use std::path::PathBuf;

/// Longer than a path can be on any system.
const LONGEST: u64 = 1 << 16;

/// The source of listed paths.
pub struct List {
    /// The source of the list, such as standard input.
    pub reader: Box<dyn BufRead + Send>,
    /// The end of each path.
    pub ends: Ends,
    /// Number of paths read so far, including empty ones, for error messages; starts at 0.
    pub line: usize,
}

/// The character that ends a path in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// A line break; a carriage return before it is dropped.
    Line,
    /// NUL, as written by `find -print0`, so that a path may contain a line break.
    Nul,
}

impl List {
    /// Waits for the next path.
    ///
    /// # Errors
    /// The bytes are not a list of paths.
    pub fn read(&mut self) -> Result<Option<PathBuf>> {
        let end = if self.ends == Ends::Nul { 0 } else { b'\n' };
        loop {
            let mut path = Vec::new();
            let read = self.reader.by_ref().take(LONGEST).read_until(end, &mut path);
            read.map_err(Error::io("read", "the list on standard input"))?;
            if path.is_empty() {
                return Ok(None);
            }
            self.line += 1;
            if path.last() == Some(&end) {
                path.pop();
            }
            if self.ends == Ends::Line && path.contains(&0) {
                return Err(self.error("it holds a NUL byte: for a list made by find -print0 add --null"));
            }
            if path.len() as u64 >= LONGEST {
                return Err(
                    self.error("too long for a path: expected one path per line, or with --null one before each NUL")
                );
            }
            // Lists from Windows end lines with a carriage return and a line feed.
            if self.ends == Ends::Line && path.last() == Some(&b'\r') {
                path.pop();
            }
            if !path.is_empty() {
                return Ok(Some(PathBuf::from(text(path))));
            }
        }
    }

    fn error(&self, message: &str) -> Error {
        Error::Usage(format!("standard input, path {}: {message}", self.line))
    }
}

#[cfg(unix)]
fn text(bytes: Vec<u8>) -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes)
}

#[cfg(not(unix))]
fn text(bytes: Vec<u8>) -> OsString {
    String::from_utf8_lossy(&bytes).into_owned().into()
}
