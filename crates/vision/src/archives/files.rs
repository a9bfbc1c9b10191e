//! Files that many threads read at once, each at positions of its own. A data set may have thousands of archives, more than a process
//! may keep open, so that only the last used stay open.

use super::invalid;
use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// The number of files that stay open. Processes usually may open 1024.
const OPEN: usize = 64;

/// A file that is opened when it is read. It is refused once it is no longer the file that it was at first.
#[derive(Debug)]
pub struct Shared {
    path: PathBuf,
    number: u64,
    length: u64,
    changed: Option<SystemTime>,
}

/// The open files with the numbers of their owners; the last used are at the end.
static POOL: Mutex<Vec<(u64, Arc<File>)>> = Mutex::new(Vec::new());

impl Shared {
    /// # Errors
    /// It is no file, or cannot be opened.
    pub fn open(path: &Path) -> io::Result<Shared> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let file = crate::files::open(path)?;
        let found = file.metadata()?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        keep(number, Arc::new(file));
        Ok(Shared { path: path.to_path_buf(), number, length: found.len(), changed: found.modified().ok() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A number that no other file has.
    #[cfg(feature = "parquet")]
    pub fn number(&self) -> u64 {
        self.number
    }

    pub fn length(&self) -> u64 {
        self.length
    }

    /// Whether the path still leads to the file as it was when it was opened.
    pub fn is_unchanged(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|found| self.is_same(&found))
    }

    fn is_same(&self, found: &Metadata) -> bool {
        found.is_file() && found.len() == self.length && found.modified().ok() == self.changed
    }

    /// The open file, most recently used from now on.
    fn file(&self) -> io::Result<Arc<File>> {
        {
            let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = pool.iter().rposition(|(number, _)| *number == self.number) {
                let file = pool[at].1.clone();
                // Near the end is recent enough, and moving would cost all threads time.
                if at + OPEN / 2 < pool.len() {
                    pool[at..].rotate_left(1);
                }
                return Ok(file);
            }
        }
        let file = Arc::new(crate::files::open(&self.path)?);
        if !self.is_same(&file.metadata()?) {
            return Err(invalid("the archive has changed since it was opened: run the command again"));
        }
        keep(self.number, file.clone());
        Ok(file)
    }

    /// Reads at most as many bytes as `buffer` has room for.
    ///
    /// # Errors
    /// The file cannot be read, or has changed.
    pub fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let file = self.file()?;
        #[cfg(unix)]
        return std::os::unix::fs::FileExt::read_at(&*file, buffer, at);
        #[cfg(windows)]
        return std::os::windows::fs::FileExt::seek_read(&*file, buffer, at);
    }

    /// Fills `buffer`.
    ///
    /// # Errors
    /// The same, or the file ends before.
    pub fn read_exact_at(&self, mut buffer: &mut [u8], mut at: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, at) {
                Ok(0) => return Err(invalid("truncated: the archive ends within this file")),
                Ok(read) => {
                    buffer = &mut buffer[read..];
                    at += read as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// The whole file, read from the start through a buffer of a megabyte.
    pub fn reader(&self) -> Reader<'_> {
        Reader { file: self, at: 0, buffer: Vec::new(), from: 0 }
    }
}

fn keep(number: u64, file: Arc<File>) {
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    if pool.len() >= OPEN {
        pool.remove(0);
    }
    pool.push((number, file));
}

/// Reads a file with short jumps ahead, as an index is made: the bytes that a jump skips are read with the rest, which takes less
/// time than a system call for each.
pub struct Reader<'a> {
    file: &'a Shared,
    at: u64,
    buffer: Vec<u8>,
    /// The position of the buffer's first byte.
    from: u64,
}

/// The least and the largest number of bytes that are read at once.
const LEAST: usize = 4 << 10;
const MOST: usize = 1 << 20;

impl io::Read for Reader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let end = self.from + self.buffer.len() as u64;
        if self.at < self.from || self.at >= end {
            // Jumps that leave the buffer behind mean large members, of which little is needed.
            let is_near = self.at >= end && self.at - end < self.buffer.len() as u64;
            let size = if is_near { (2 * self.buffer.len()).clamp(LEAST, MOST) } else { LEAST };
            self.buffer.resize(size, 0);
            self.from = self.at;
            let read = self.file.read_at(&mut self.buffer, self.at)?;
            self.buffer.truncate(read);
        }
        let there = &self.buffer[(self.at - self.from) as usize..];
        let count = there.len().min(into.len());
        into[..count].copy_from_slice(&there[..count]);
        self.at += count as u64;
        Ok(count)
    }
}

impl io::Seek for Reader<'_> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        let at = match to {
            io::SeekFrom::Start(at) => Some(at),
            io::SeekFrom::Current(by) => self.at.checked_add_signed(by),
            io::SeekFrom::End(by) => self.file.length.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
