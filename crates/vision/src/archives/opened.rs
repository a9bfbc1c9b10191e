//! A file or a member of an archive that is open for reading.

use super::files::Shared;
use std::fs::File;
use std::io::{self, Cursor, ErrorKind, Read, Seek, SeekFrom};
use std::sync::Arc;

/// A file that is open for reading, wherever it lies.
#[derive(Debug)]
pub enum Opened {
    /// A file of its own.
    File(File),
    /// A member that is stored as it is.
    Part(Part),
    /// A member that was unpacked.
    Bytes(Cursor<Vec<u8>>),
}

/// A range of bytes in an archive, and the position in it.
#[derive(Debug)]
pub struct Part {
    file: Arc<Shared>,
    at: u64,
    length: u64,
    read: u64,
}

impl Part {
    pub(super) fn new(file: &Arc<Shared>, at: u64, length: u64) -> Part {
        Part { file: file.clone(), at, length, read: 0 }
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }
}

impl Opened {
    /// The number of bytes.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn length(&self) -> io::Result<u64> {
        match self {
            Opened::File(file) => Ok(file.metadata()?.len()),
            Opened::Part(part) => Ok(part.length),
            Opened::Bytes(bytes) => Ok(bytes.get_ref().len() as u64),
        }
    }
}

impl Read for Opened {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Opened::File(file) => file.read(buffer),
            Opened::Bytes(bytes) => bytes.read(buffer),
            Opened::Part(part) => {
                let left = part.length.saturating_sub(part.read).min(buffer.len() as u64) as usize;
                if left == 0 {
                    return Ok(0);
                }
                let read = part.file.read_at(&mut buffer[..left], part.at + part.read)?;
                if read == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                part.read += read as u64;
                Ok(read)
            }
        }
    }
}

impl Seek for Opened {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Opened::File(file) => file.seek(to),
            Opened::Bytes(bytes) => bytes.seek(to),
            Opened::Part(part) => {
                let at = match to {
                    SeekFrom::Start(at) => Some(at),
                    SeekFrom::Current(by) => part.read.checked_add_signed(by),
                    SeekFrom::End(by) => part.length.checked_add_signed(by),
                };
                part.read = at.ok_or(ErrorKind::InvalidInput)?;
                Ok(part.read)
            }
        }
    }
}
