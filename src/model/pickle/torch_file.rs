//! The two file formats of `torch.save`: a zip archive (PyTorch 1.6 and later), and before that four pickles, a list of
//! storages and then their numbers.

use super::Fault;
use super::machine;
use super::values::{Pickle, Value};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use zip::read::{ArchiveOffset, Config, ZipFile};
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

const ZIP_MAGIC: &[u8] = b"PK\x03\x04";
/// The number 0x1950a86a20f9469cfc6c as encoded in a pickle, and the version that follows it.
const LEGACY_MAGIC: &[u8] = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
const LEGACY_VERSION: i64 = 1001;

/// The number of bytes that [`begins`] looks at.
pub const HEAD: u64 = 64;

/// Whether a file with these first bytes may be one that `torch.save` wrote.
pub fn begins(head: &[u8]) -> bool {
    head.starts_with(ZIP_MAGIC) || begins_as_legacy(head)
}

fn begins_as_legacy(head: &[u8]) -> bool {
    head.windows(LEGACY_MAGIC.len()).any(|window| window == LEGACY_MAGIC)
}

/// An open file whose pickle has been read and whose storages have not.
pub struct TorchFile {
    pub pickle: Pickle,
    /// The size of the whole file in bytes.
    pub len: u64,
    /// Bytes of storages that may still be read. In a file without overlaps, all storages together are no larger than the
    /// file.
    left: u64,
    big_endian: bool,
    source: Source,
}

enum Source {
    /// `root` is the folder of all entries, with its slash.
    Zip { archive: Box<ZipArchive<BufReader<File>>>, root: String },
    /// Start of each storage's numbers.
    Legacy { file: BufReader<File>, begins: HashMap<Box<str>, u64> },
}

impl TorchFile {
    /// Opens a file and reads its pickle.
    ///
    /// # Errors
    /// The file is in neither format, or damaged.
    pub fn open(path: &Path) -> Result<TorchFile, Fault> {
        let mut file = BufReader::new(crate::files::open(path)?);
        let len = file.seek(SeekFrom::End(0))?;
        file.rewind()?;
        let mut head = Vec::new();
        file.by_ref().take(HEAD).read_to_end(&mut head)?;
        file.rewind()?;
        if head.starts_with(ZIP_MAGIC) {
            open_zip(file, len)
        } else if begins_as_legacy(&head) {
            open_legacy(file, len)
        } else {
            Fault::foreign("it begins neither as a zip archive nor as a file of PyTorch before 1.6")
        }
    }

    /// Reads a storage's numbers into `bytes`, little-endian.
    ///
    /// # Errors
    /// The file holds fewer numbers than its pickle states.
    pub fn read_storage(&mut self, index: usize, bytes: &mut Vec<u8>) -> Result<(), Fault> {
        let storage = &self.pickle.storages[index];
        let len = storage.bytes()?;
        let Some(left) = self.left.checked_sub(len) else {
            return Fault::damaged(format!("storage `{}` states {len} bytes, more than the file holds", storage.key));
        };
        self.left = left;
        bytes.clear();
        // The file has this many bytes, but memory may not.
        if usize::try_from(len).is_err() || bytes.try_reserve_exact(len as usize).is_err() {
            return Fault::foreign(format!("storage `{}` of {len} bytes does not fit into memory", storage.key));
        }
        match &mut self.source {
            Source::Zip { archive, root } => {
                let name = format!("{root}data/{}", storage.key);
                let mut entry = zip_entry(archive, &name)?;
                // If the bytes of a storage are not a multiple of the element size, the remainder is ignored.
                if entry.size() / storage.element.bytes() as u64 != storage.len {
                    let held = entry.size();
                    return Fault::damaged(format!("`{name}` holds {held} bytes, its pickle states {len}"));
                }
                entry.read_to_end(bytes)?;
            }
            Source::Legacy { file, begins } => {
                let Some(&begin) = begins.get(&storage.key) else {
                    return Fault::damaged(format!("it lists no storage `{}`", storage.key));
                };
                file.seek(SeekFrom::Start(begin))?;
                file.take(len).read_to_end(bytes)?;
            }
        }
        if (bytes.len() as u64) < len {
            return Fault::damaged("it ends early");
        }
        bytes.truncate(len as usize);
        if self.big_endian {
            bytes.chunks_exact_mut(storage.element.bytes()).for_each(<[u8]>::reverse);
        }
        Ok(())
    }
}

fn of_zip(e: ZipError) -> Fault {
    match e {
        ZipError::Io(e) => e.into(),
        e => Fault::Damaged(format!("as a zip archive: {e}")),
    }
}

fn open_zip(file: BufReader<File>, len: u64) -> Result<TorchFile, Fault> {
    // torch.save writes nothing before the archive, so the reader need not search for its start.
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let mut archive = ZipArchive::with_config(config, file).map_err(of_zip)?;
    if archive.has_duplicate_names() {
        return Fault::damaged("two entries of the archive have one name");
    }
    let root_of =
        |name: &str| name.strip_suffix("data.pkl").map(str::to_owned).filter(|r| r.is_empty() || r.ends_with('/'));
    let mut roots = archive.file_names().filter_map(|name| root_of(&name.ok()?));
    let (root, another) = (roots.next(), roots.next());
    drop(roots);
    let Some(root) = root else { return Fault::foreign("it is a zip archive without a data.pkl") };
    if another.is_some() {
        return Fault::damaged("there is more than one data.pkl in the archive");
    }
    if archive.index_for_name(&format!("{root}constants.pkl")).is_some() {
        return Fault::foreign("it is a TorchScript archive, to be loaded with torch.jit.load");
    }
    let big_endian = match archive.index_for_name(&format!("{root}byteorder")) {
        None => false,
        Some(_) => is_big_endian(&mut archive, &format!("{root}byteorder"))?,
    };
    let mut entry = BufReader::new(zip_entry(&mut archive, &format!("{root}data.pkl"))?);
    let pickle = machine::run(&mut entry)?;
    // The zip reader compares the checksum at the end of the entry.
    std::io::copy(&mut entry, &mut std::io::sink())?;
    drop(entry);
    Ok(TorchFile { pickle, len, left: len, big_endian, source: Source::Zip { archive: Box::new(archive), root } })
}

fn is_big_endian(archive: &mut ZipArchive<BufReader<File>>, name: &str) -> Result<bool, Fault> {
    let mut order = Vec::new();
    zip_entry(archive, name)?.take(16).read_to_end(&mut order)?;
    match order.as_slice() {
        b"little" => Ok(false),
        b"big" => Ok(true),
        _ => Fault::damaged(format!("`{name}` says neither little nor big")),
    }
}

/// An uncompressed entry, whose size really is in the file.
fn zip_entry<'a>(
    archive: &'a mut ZipArchive<BufReader<File>>,
    name: &str,
) -> Result<ZipFile<'a, BufReader<File>>, Fault> {
    match archive.by_name(name) {
        Err(ZipError::FileNotFound) => Fault::damaged(format!("there is no `{name}` in the archive")),
        Err(ZipError::CompressionMethodNotSupported(_)) => compressed(name),
        Err(e) => Err(of_zip(e)),
        Ok(entry) if entry.compression() != CompressionMethod::Stored => compressed(name),
        Ok(entry) if entry.size() != entry.compressed_size() => {
            Fault::damaged(format!("`{name}` states two sizes: {} and {} bytes", entry.size(), entry.compressed_size()))
        }
        Ok(entry) => Ok(entry),
    }
}

fn compressed<T>(name: &str) -> Result<T, Fault> {
    Fault::foreign(format!("`{name}` is compressed, as torch.save never does"))
}

fn open_legacy(mut file: BufReader<File>, len: u64) -> Result<TorchFile, Fault> {
    let _magic = machine::run(&mut file)?;
    let version = machine::run(&mut file)?;
    if !matches!(version.value(version.root), Value::Int(LEGACY_VERSION)) {
        return Fault::damaged(format!("its format is not numbered {LEGACY_VERSION}"));
    }
    // This pickle states the byte order of the machine; the numbers are always little-endian.
    let _system = machine::run(&mut file)?;
    let pickle = machine::run(&mut file)?;
    let keys = machine::run(&mut file)?;
    let mut begins = HashMap::new();
    for &key in keys.items(keys.root) {
        let Value::Text(key) = keys.value(key) else { return Fault::damaged("a storage in its list has no name") };
        let Some(&index) = pickle.storage_of.get(key) else {
            return Fault::damaged(format!("it lists a storage `{key}` that nothing refers to"));
        };
        let storage = &pickle.storages[index];
        let mut count = [0; 8];
        file.read_exact(&mut count)?;
        let count = u64::from_le_bytes(count);
        if count != storage.len {
            return Fault::damaged(format!("storage `{key}` has {count} numbers, its pickle states {}", storage.len));
        }
        let begin = file.stream_position()?;
        let end = begin.checked_add(storage.bytes()?).filter(|&end| end <= len);
        let Some(end) = end else { return Fault::damaged("it ends early") };
        if begins.insert(key.clone(), begin).is_some() {
            return Fault::damaged(format!("it lists storage `{key}` twice"));
        }
        file.seek(SeekFrom::Start(end))?;
    }
    Ok(TorchFile { pickle, len, left: len, big_endian: false, source: Source::Legacy { file, begins } })
}
