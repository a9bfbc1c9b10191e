//! Reads the records of a CSV file, each with the line on which it begins.
//!
//! The csv crate ends a record at the `\r` of a Windows line end and counts the line only at the `\n` after it, so its
//! lines would be one too low; it also gives a record the line of the blank lines before it. Line ends therefore become
//! `\n` before the crate sees them, and the places of blank lines are kept.

use crate::error::{Error, Result};
use crate::reading::text;
use csv::{ErrorKind, StringRecord};
use std::collections::VecDeque;
use std::io::{self, BufRead, Chain, Cursor, Read};
use std::path::{Path, PathBuf};

/// The first bytes of a file, which were read before, and the rest of it.
type Source = Chain<Cursor<Vec<u8>>, Box<dyn BufRead>>;

/// The records of a file whose cells are separated by commas, semicolons or tabs, as found in its first line with text, or by the
/// character that a first line such as `sep=;` names.
pub struct Records {
    file: PathBuf,
    reader: csv::Reader<Lines<Source>>,
}

impl Records {
    /// The first record is not taken for a header.
    pub fn open(file: &Path) -> Result<Records> {
        let Beginning { read, delimiter, rest } = beginning(file)?;
        let text = Lines::new(Cursor::new(read).chain(rest));
        Ok(Records { file: file.to_path_buf(), reader: csv_reader(delimiter).from_reader(text) })
    }

    /// Reads the next record and returns its line, counted from 1; `None` at the end of the file.
    ///
    /// Errors: the text is not UTF-8, or the file cannot be read.
    pub fn read(&mut self, record: &mut StringRecord) -> Result<Option<usize>> {
        let there = self.reader.read_record(record);
        let position = match &there {
            Ok(_) => record.position().cloned(),
            Err(e) => e.position().cloned(),
        };
        let lines = self.reader.get_mut();
        let line = position.map(|at| at.line() as usize + lines.blanks_at(at.byte()));
        match there {
            Ok(true) => Ok(Some(line.unwrap_or(0))),
            Ok(false) => Ok(None),
            Err(e) => {
                let message = match e.kind() {
                    // The crate's own message names a line, too.
                    ErrorKind::Utf8 { err, .. } => {
                        format!("the text in cell {} is not UTF-8: save the file as UTF-8", err.field() + 1)
                    }
                    _ => format!("not a table of comma-separated values: {e}"),
                };
                Err(Error::data(&self.file, line, message))
            }
        }
    }
}

/// The first record, if it ends with its first line; the rest of the file is not read.
pub fn first_record(file: &Path) -> Option<StringRecord> {
    let Beginning { read, delimiter, .. } = beginning(file).ok()?;
    csv_reader(delimiter).from_reader(read.as_slice()).into_records().next()?.ok()
}

fn csv_reader(delimiter: u8) -> csv::ReaderBuilder {
    let mut builder = csv::ReaderBuilder::new();
    builder.delimiter(delimiter).trim(csv::Trim::All).flexible(true).has_headers(false);
    builder
}

/// The beginning of a file, up to the line with its first record.
struct Beginning {
    /// The lines read so far. A line `sep=;`, which Excel writes and reads, is a blank line here.
    read: Vec<u8>,
    delimiter: u8,
    rest: Box<dyn BufRead>,
}

fn beginning(file: &Path) -> Result<Beginning> {
    let mut rest = text::open(file).map_err(Error::io("read", file))?;
    let (mut read, mut delimiter) = (Vec::new(), None);
    loop {
        let mut line = Vec::new();
        let length = rest.read_until(b'\n', &mut line).map_err(Error::io("read", file))?;
        match line.trim_ascii() {
            [] if length > 0 => read.extend(line),
            [b's' | b'S', b'e' | b'E', b'p' | b'P', b'=', chosen] if delimiter.is_none() => {
                delimiter = Some(*chosen);
                read.push(b'\n');
            }
            _ => {
                let found = || [b',', b';', b'\t'].into_iter().find(|delimiter| line.contains(delimiter));
                let delimiter = delimiter.or_else(found).unwrap_or(b',');
                read.extend(line);
                return Ok(Beginning { read, delimiter, rest });
            }
        }
    }
}

/// A text in which `\r\n` and `\r` are read as `\n`.
struct Lines<R> {
    text: R,
    /// The number of bytes given out.
    given: u64,
    after_return: bool,
    /// Whether the next byte begins a line.
    begins_line: bool,
    /// Runs of blank lines that have been given out: the offset of the first, and their number. Runs within quoted cells
    /// are among them, but no record begins there.
    blanks: VecDeque<(u64, usize)>,
}

impl<R: Read> Lines<R> {
    fn new(text: R) -> Self {
        Lines { text, given: 0, after_return: false, begins_line: true, blanks: VecDeque::new() }
    }

    /// The number of blank lines from `offset` on, which must not be less than the offset of an earlier call.
    fn blanks_at(&mut self, offset: u64) -> usize {
        while self.blanks.front().is_some_and(|(first, _)| *first < offset) {
            self.blanks.pop_front();
        }
        self.blanks.front().filter(|(first, _)| *first == offset).map_or(0, |(_, count)| *count)
    }

    fn note_blank(&mut self) {
        match self.blanks.back_mut() {
            Some((first, count)) if *first + *count as u64 == self.given => *count += 1,
            _ => self.blanks.push_back((self.given, 1)),
        }
    }
}

impl<R: Read> Read for Lines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.text.read(buffer)?;
            let mut kept = 0;
            for i in 0..read {
                let byte = buffer[i];
                let ends_return = byte == b'\n' && self.after_return;
                self.after_return = byte == b'\r';
                if ends_return {
                    continue;
                }
                let byte = if byte == b'\r' { b'\n' } else { byte };
                if byte == b'\n' && self.begins_line {
                    self.note_blank();
                }
                self.begins_line = byte == b'\n';
                buffer[kept] = byte;
                kept += 1;
                self.given += 1;
            }
            // Zero bytes would mean the end of the text.
            if kept > 0 || read == 0 {
                return Ok(kept);
            }
        }
    }
}
