//! Files inside archives. A path may lead through an archive, as in `shards/train-0000.tar/000012.jpg`, and the functions here
//! take such paths as well as those of plain files. They answer what the file system answers about a folder: its entries, what is
//! there, and bytes. Nothing is ever unpacked to disk.
//!
//! An archive is indexed once per process, when a path first leads into it, and the index is kept. It is a memory of what is on
//! disk and decides nothing, so it is the one table that the whole process shares: handing it to every function that takes a path
//! would put it into all readers of labels.

mod columns;
mod files;
mod index;
mod opened;
#[cfg(feature = "parquet")]
mod parquet;
mod tar;
mod zip;

pub use columns::{RowColumn, has_rows, row_cells, row_columns, row_of};
pub use opened::{Opened, Part};

use crate::error::{Error, Result};
use files::Shared;
use flate2::read::DeflateDecoder;
use index::{Form, Index, Member};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Cursor, ErrorKind, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

/// The largest file that is read from an archive: 1 GiB, the limit of pictures.
const MAX_BYTES: u64 = 1 << 30;

/// The endings of archives whose members are read in place, in lower case.
const READ: &[&str] = if cfg!(feature = "parquet") { &["tar", "zip", PARQUET] } else { &["tar", "zip"] };
const PARQUET: &str = "parquet";

/// An archive and its index.
#[derive(Debug)]
pub struct Archive {
    file: Arc<Shared>,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Members(Index),
    /// The rows of a parquet file, each with a picture.
    #[cfg(feature = "parquet")]
    Rows(parquet::Rows),
}

static KNOWN: LazyLock<RwLock<HashMap<PathBuf, Arc<Archive>>>> = LazyLock::new(RwLock::default);

/// Whether the name is that of an archive whose members can be read.
pub fn is_archive(path: &Path) -> bool {
    let ending = path.extension().and_then(OsStr::to_str);
    ending.is_some_and(|ending| READ.iter().any(|read| ending.eq_ignore_ascii_case(read)))
}

/// Why the file cannot be read in place, if it is an archive of another kind.
pub fn other_kind(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    if ends(&[".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tar.lz4"]) {
        return Some(
            "is a compressed tar, in which nothing can be read without unpacking all before it: unpack it, or make it a plain .tar (`gunzip` or the like)",
        );
    }
    if !cfg!(feature = "parquet") && ends(&[".parquet"]) {
        return Some("is a parquet file, and this polyhead was built without the feature `parquet`");
    }
    ends(&[".7z", ".rar", ".gz", ".xz", ".bz2", ".zst"])
        .then_some("is an archive that is not read (.tar and .zip are): unpack it and give the folder")
}

/// Forgets the indexes of archives that have changed, as when a data set is opened again.
pub fn forget_changed() {
    known_lock(|known| known.retain(|_, archive| archive.file.is_unchanged()));
}

/// Indexes an archive.
///
/// # Errors
/// The archive is damaged, or holds what is not read: encrypted members, or names that lead out of it.
pub fn check(path: &Path) -> Result<()> {
    match known(path) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == ErrorKind::InvalidData => Err(Error::data(path, None, e.to_string())),
        Err(e) => Err(Error::io("read", path)(e)),
    }
}

fn known_lock<T>(change: impl FnOnce(&mut HashMap<PathBuf, Arc<Archive>>) -> T) -> T {
    change(&mut KNOWN.write().unwrap_or_else(PoisonError::into_inner))
}

/// The archive in this file.
fn known(path: &Path) -> io::Result<Arc<Archive>> {
    if let Some(archive) = KNOWN.read().unwrap_or_else(PoisonError::into_inner).get(path) {
        return Ok(archive.clone());
    }
    let file = Arc::new(Shared::open(path)?);
    let content = match path.extension().unwrap_or_default().to_ascii_lowercase().to_str() {
        Some("zip") => Content::Members(Index::new(zip::members(&file)?)),
        #[cfg(feature = "parquet")]
        Some(PARQUET) => Content::Rows(parquet::Rows::open(&file)?),
        _ => Content::Members(Index::new(tar::members(&file)?)),
    };
    let archive = Arc::new(Archive { file, content });
    known_lock(|known| known.insert(path.to_path_buf(), archive.clone()));
    Ok(archive)
}

/// The archive that `path` leads into, and the name within it, which is empty for the archive itself. `None` if it leads into none.
fn find(path: &Path) -> io::Result<Option<(Arc<Archive>, String)>> {
    let Some(at) = file_of(path) else { return Ok(None) };
    match inside(path, at) {
        Some(inside) => Ok(Some((known(at)?, inside))),
        None => Ok(None),
    }
}

/// Like [`find`], without the archive itself, which is a file like others.
fn find_member(path: &Path) -> io::Result<Option<(Arc<Archive>, String)>> {
    let Some(at) = file_of(path).filter(|at| *at != path) else { return Ok(None) };
    match inside(path, at).filter(|name| !name.is_empty()) {
        Some(name) => Ok(Some((known(at)?, name))),
        None => Ok(None),
    }
}

/// The archive's file in a path that leads into one: the outermost, because archives within archives are not entered.
fn file_of(path: &Path) -> Option<&Path> {
    let is_known = |at: &Path| KNOWN.read().unwrap_or_else(PoisonError::into_inner).contains_key(at);
    let named = path.ancestors().filter(|at| is_archive(at) && (is_known(at) || at.is_file()));
    named.last()
}

/// The part of `path` below `archive`, as members are named; `None` if it leads out again.
fn inside(path: &Path, archive: &Path) -> Option<String> {
    let mut name = String::new();
    for part in path.strip_prefix(archive).ok()?.components() {
        match part {
            Component::Normal(part) => {
                if !name.is_empty() {
                    name.push('/');
                }
                name.push_str(part.to_str()?);
            }
            Component::CurDir => {}
            Component::ParentDir => {
                if name.is_empty() {
                    return None;
                }
                name.truncate(name.rfind('/').unwrap_or(0));
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(name)
}

/// Whether the path is that of a member of an archive.
pub fn is_member(path: &Path) -> bool {
    file_of(path).is_some_and(|at| at != path)
}

/// The file on disk that holds `path`, and the first byte and the length of the member within it; `None` for a plain file.
///
/// # Errors
/// There is no such member, or the archive is damaged.
pub fn place(path: &Path) -> io::Result<(PathBuf, Option<(u64, u64)>)> {
    Ok(match find_member(path)? {
        Some((archive, name)) => (archive.file.path().to_path_buf(), Some(archive.place(&name)?)),
        None => (path.to_path_buf(), None),
    })
}

/// Whether there is a folder, or an archive, which is like one.
pub fn is_dir(path: &Path) -> bool {
    match find(path) {
        Ok(Some((archive, name))) => archive.is_folder(&name),
        Ok(None) => path.is_dir(),
        Err(_) => false,
    }
}

/// Whether there is a file. An archive is one, too.
pub fn is_file(path: &Path) -> bool {
    match find(path) {
        Ok(Some((archive, name))) => name.is_empty() || archive.place(&name).is_ok(),
        Ok(None) => path.is_file(),
        Err(_) => path.is_file(),
    }
}

/// Whether there is anything.
pub fn exists(path: &Path) -> bool {
    path.exists() || is_dir(path) || is_file(path)
}

/// The path with links resolved, as far as the file system has it.
///
/// # Errors
/// Those of [`Path::canonicalize`].
pub fn canonicalize(path: &Path) -> io::Result<PathBuf> {
    match file_of(path) {
        Some(archive) if archive != path => {
            let whole = archive.canonicalize()?;
            let name = inside(path, archive).ok_or(ErrorKind::NotFound)?;
            Ok(if name.is_empty() { whole } else { whole.join(name) })
        }
        _ => path.canonicalize(),
    }
}

/// An entry of a folder, as [`std::fs::DirEntry`].
pub struct DirEntry {
    path: PathBuf,
    kind: FileType,
}

/// The kind of an entry, as [`std::fs::FileType`].
#[derive(Clone, Copy)]
pub struct FileType {
    folder: bool,
    link: bool,
}

impl DirEntry {
    /// The last part of the path.
    pub fn file_name(&self) -> OsString {
        self.path.file_name().unwrap_or_default().to_owned()
    }

    /// The whole path.
    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// The kind, without following links.
    ///
    /// # Errors
    /// None; as in the standard library.
    pub fn file_type(&self) -> io::Result<FileType> {
        Ok(self.kind)
    }
}

impl FileType {
    /// A folder, and no link to one.
    pub fn is_dir(self) -> bool {
        self.folder
    }

    /// A link of the file system.
    pub fn is_symlink(self) -> bool {
        self.link
    }
}

/// The entries of a folder, of an archive, or of a folder within one.
///
/// # Errors
/// There is no such folder, or it cannot be listed.
pub fn read_dir(folder: &Path) -> io::Result<Box<dyn Iterator<Item = io::Result<DirEntry>>>> {
    let Some((archive, name)) = find(folder)? else {
        let plain = |entry: io::Result<std::fs::DirEntry>| {
            let entry = entry?;
            let kind = entry.file_type()?;
            Ok(DirEntry { path: entry.path(), kind: FileType { folder: kind.is_dir(), link: kind.is_symlink() } })
        };
        return Ok(Box::new(std::fs::read_dir(folder)?.map(plain)));
    };
    let entries = archive.entries(&name).ok_or(ErrorKind::NotFound)?;
    let folder = folder.to_path_buf();
    Ok(Box::new(entries.into_iter().map(move |(name, is_folder)| {
        Ok(DirEntry { path: folder.join(name), kind: FileType { folder: is_folder, link: false } })
    })))
}

/// Opens a file, or a member of an archive, that has an end: no pipe and no device.
///
/// # Errors
/// Those of [`crate::files::open`]; a member that is not there is `NotFound`, and one that cannot be unpacked `InvalidData`.
pub fn open(path: &Path) -> io::Result<Opened> {
    match find_member(path)? {
        Some((archive, name)) => archive.open(&name),
        None => crate::files::open(path).map(Opened::File),
    }
}

/// The content of a file that [`open`] accepts.
///
/// # Errors
/// The same.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    match open(path)? {
        Opened::Bytes(bytes) => Ok(bytes.into_inner()),
        mut file => {
            let mut bytes = Vec::new();
            if let Opened::Part(part) = &file {
                bytes.reserve_exact(part.length().min(MAX_BYTES) as usize);
            }
            file.read_to_end(&mut bytes)?;
            Ok(bytes)
        }
    }
}

/// Calls `each` with the name of every member of an archive, in the order of the names.
///
/// # Errors
/// The archive is damaged.
pub fn for_each_member(archive: &Path, each: impl FnMut(&str)) -> io::Result<()> {
    if let Content::Members(index) = &known(archive)?.content {
        index.names().for_each(each);
    }
    Ok(())
}

/// The number of bytes of a file, or of a member when unpacked; of a picture in a parquet file, that of the whole file, because its
/// own is not known before it is read.
///
/// # Errors
/// Nothing is there.
pub fn length(path: &Path) -> io::Result<u64> {
    match find_member(path)? {
        Some((archive, name)) => archive.length(&name),
        None => Ok(std::fs::metadata(path)?.len()),
    }
}

impl Archive {
    fn is_folder(&self, name: &str) -> bool {
        match &self.content {
            Content::Members(index) => index.is_folder(name),
            #[cfg(feature = "parquet")]
            Content::Rows(_) => name.is_empty(),
        }
    }

    fn entries(&self, folder: &str) -> Option<Vec<(String, bool)>> {
        match &self.content {
            Content::Members(index) => index.entries(folder),
            #[cfg(feature = "parquet")]
            Content::Rows(rows) => {
                folder.is_empty().then(|| (0..rows.count()).map(|row| (rows.name(row), false)).collect())
            }
        }
    }

    /// The first byte and the length of a member, or the number of a row.
    fn place(&self, name: &str) -> io::Result<(u64, u64)> {
        match &self.content {
            Content::Members(index) => member(index, name).map(|member| (member.at, member.stored)),
            #[cfg(feature = "parquet")]
            Content::Rows(rows) => rows.row(name).map(|row| (row as u64, 0)).ok_or(ErrorKind::NotFound.into()),
        }
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        match &self.content {
            Content::Members(index) => member(index, name).map(|member| member.length),
            #[cfg(feature = "parquet")]
            Content::Rows(_) => self.place(name).map(|_| self.file.length()),
        }
    }

    fn open(&self, name: &str) -> io::Result<Opened> {
        let index = match &self.content {
            Content::Members(index) => index,
            #[cfg(feature = "parquet")]
            Content::Rows(rows) => {
                let row = rows.row(name).ok_or(ErrorKind::NotFound)?;
                return Ok(match rows.find(&self.file, row)? {
                    parquet::Found::At(at, length) => Opened::Part(Part::new(&self.file, at, length)),
                    parquet::Found::Unpacked(bytes) => Opened::Bytes(Cursor::new(bytes)),
                });
            }
        };
        let member = member(index, name)?;
        let (at, length) = match member.form {
            Form::Plain => (member.at, member.length),
            Form::Stored => (zip::data_of(&self.file, member)?, member.length),
            Form::Deflated => {
                let at = zip::data_of(&self.file, member)?;
                return Ok(Opened::Bytes(Cursor::new(inflated(&self.file, member, at)?)));
            }
        };
        Ok(Opened::Part(Part::new(&self.file, at, length)))
    }
}

fn member<'a>(index: &'a Index, name: &str) -> io::Result<&'a Member> {
    index.get(name).ok_or_else(|| match index.is_folder(name) {
        true => io::Error::new(ErrorKind::InvalidInput, "this is a folder, not a file"),
        false => ErrorKind::NotFound.into(),
    })
}

/// The bytes of a deflated member. Its stated sizes are checked first, so that a small file cannot take much memory.
fn inflated(file: &Shared, member: &Member, at: u64) -> io::Result<Vec<u8>> {
    let Member { stored, length, .. } = *member;
    // Deflate makes at most 1032 bytes from one.
    if length > MAX_BYTES || length > 1032 * stored.max(1) {
        return Err(invalid(format!(
            "the archive says that {stored} packed bytes are {length}; at most {MAX_BYTES} are read, and at most 1032 for each"
        )));
    }
    let mut packed = vec![0; stored as usize];
    file.read_exact_at(&mut packed, at)?;
    let mut bytes = Vec::with_capacity(length as usize);
    // One byte more shows that there are more than stated.
    let read = DeflateDecoder::new(packed.as_slice()).take(length + 1).read_to_end(&mut bytes);
    match read {
        Ok(read) if read as u64 == length => Ok(bytes),
        Ok(_) => Err(invalid(format!("damaged: it does not unpack to the {length} bytes that the archive states"))),
        Err(e) => Err(invalid(format!("damaged: it cannot be unpacked ({e})"))),
    }
}

fn invalid(message: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, message.into())
}
