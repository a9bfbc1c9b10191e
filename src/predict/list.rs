//! Reads a list of paths as it arrives: one per line, or each ended by NUL.

use crate::error::{Error, Result, shown};
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

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
    /// The list's file, to whose folder the paths are relative; `None` for standard input, where they are relative to the
    /// working directory.
    pub file: Option<PathBuf>,
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
    /// Opens a file with one path per line. Blank lines, spaces around a path and a byte order mark do not count.
    ///
    /// # Errors
    /// The file cannot be read, or its first line is not a path.
    pub fn open(path: &Path) -> Result<List> {
        let open = || -> Result<List> {
            let reader = BufReader::new(File::open(path).map_err(Error::io("read", path))?);
            Ok(List { reader: Box::new(reader), ends: Ends::Line, line: 0, file: Some(path.to_path_buf()) })
        };
        match open()?.read()? {
            Some(_) => open(),
            None => {
                Err(Error::Usage(format!("{}: no images: expected a list of image files, one per line", shown(path))))
            }
        }
    }

    /// Waits for the next path.
    ///
    /// # Errors
    /// The bytes are not a list of paths.
    pub fn read(&mut self) -> Result<Option<PathBuf>> {
        let end = if self.ends == Ends::Nul { 0 } else { b'\n' };
        loop {
            let mut path = Vec::new();
            let read = self.reader.by_ref().take(LONGEST).read_until(end, &mut path);
            read.map_err(|e| match &self.file {
                Some(file) => Error::io("read", file)(e),
                None => Error::io("read", "the list on standard input")(e),
            })?;
            if path.is_empty() {
                return Ok(None);
            }
            self.line += 1;
            if path.last() == Some(&end) {
                path.pop();
            }
            if self.ends == Ends::Line && path.contains(&0) {
                return Err(self.error(match self.file {
                    Some(_) => "it holds a NUL byte: expected a text file with one path per line",
                    None => "it holds a NUL byte: for a list made by find -print0 add --null",
                }));
            }
            if path.len() as u64 >= LONGEST {
                return Err(self.error(match self.file {
                    Some(_) => "too long for a path: expected one path per line",
                    None => "too long for a path: expected one path per line, or with --null one before each NUL",
                }));
            }
            // Lists from Windows end lines with a carriage return and a line feed.
            if self.ends == Ends::Line && path.last() == Some(&b'\r') {
                path.pop();
            }
            if self.file.is_some() {
                path = self.without_decoration(&path).to_vec();
            }
            if !path.is_empty() {
                return Ok(Some(PathBuf::from(text(path))));
            }
        }
    }

    /// The image of a path that was read from this list: beside the list's file, or else below the working directory.
    pub fn find(&self, listed: PathBuf) -> PathBuf {
        let beside = self.folder().join(listed.strip_prefix(".").unwrap_or(&listed));
        if self.file.is_some() && (beside.exists() || !listed.exists()) { beside } else { listed }
    }

    /// The folder to which the paths are relative; empty for the working directory.
    pub fn folder(&self) -> &Path {
        self.file.as_deref().and_then(Path::parent).unwrap_or(Path::new(""))
    }

    fn without_decoration<'a>(&self, path: &'a [u8]) -> &'a [u8] {
        let mark = if self.line == 1 { "\u{feff}".as_bytes() } else { &[] };
        path.strip_prefix(mark).unwrap_or(path).trim_ascii()
    }

    fn error(&self, message: &str) -> Error {
        Error::Usage(match &self.file {
            Some(file) => format!("{}:{}: {message}", shown(file), self.line),
            None => format!("standard input, path {}: {message}", self.line),
        })
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
