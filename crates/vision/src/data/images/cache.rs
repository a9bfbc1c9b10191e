//! Keeps decoded images from one epoch to the next, in memory or in a folder. They are kept whole, upright and in full
//! size, so that they serve every augmentation. The result equals that of decoding.

use super::decode;
use super::picture::{Image, Part};
use crate::error::{Error, Result, shown};
use crate::files;
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use xxhash_rust::xxh3::xxh3_128;

/// Images kept up to a limit in bytes; others are decoded each time.
#[derive(Debug)]
pub struct Cache {
    place: Place,
    limit: u64,
    used: AtomicU64,
}

#[derive(Debug)]
enum Place {
    Memory(Mutex<HashMap<PathBuf, Arc<Image>>>),
    Folder(PathBuf),
}

/// The first bytes of a cached file: format and version. Width and height follow.
const MAGIC: &[u8; 8] = b"polyhd01";
const HEAD: usize = MAGIC.len() + 8;

impl Cache {
    /// A cache that ends with the process.
    pub fn in_memory(limit: u64) -> Cache {
        Cache { place: Place::Memory(Mutex::default()), limit, used: AtomicU64::new(0) }
    }

    /// A cache that persists between runs. An image is identified by its path, its size in bytes and its modification
    /// time. Unused entries are never removed; the folder may be deleted at any time.
    ///
    /// # Errors
    /// The folder cannot be created or listed.
    pub fn in_folder(folder: &Path, limit: u64) -> Result<Cache> {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let mut used = 0;
        for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
            let entry = entry.map_err(Error::io("list", folder))?;
            used += entry.metadata().map_or(0, |found| found.len());
        }
        Ok(Cache { place: Place::Folder(folder.to_path_buf()), limit, used: AtomicU64::new(used) })
    }

    /// The image at `path`, which is kept from now on if there is room. Otherwise only `part` of it is decoded, as in
    /// [`decode::decode_part`].
    ///
    /// # Errors
    /// The errors of [`decode::decode`].
    pub fn decode(&self, path: &Path, part: impl FnOnce([usize; 2]) -> Part) -> Result<Arc<Image>> {
        let file = match &self.place {
            Place::Memory(images) => {
                if let Some(image) = lock(images).get(path) {
                    return Ok(image.clone());
                }
                None
            }
            Place::Folder(folder) => {
                let file = folder.join(key(path)?);
                if let Some(image) = read(&file) {
                    return Ok(Arc::new(image));
                }
                Some(file)
            }
        };
        let mut room = 0;
        let decoded = decode::decode_part(path, |size| {
            let bytes = (size[0] * size[1] * 3 + HEAD) as u64;
            if self.reserve(bytes) {
                room = bytes;
                return Part::whole(size);
            }
            part(size)
        });
        let image = decoded.map(Arc::new);
        if room > 0 && !image.as_ref().is_ok_and(|image| self.keep(path, file.as_deref(), image)) {
            self.used.fetch_sub(room, Ordering::Relaxed);
        }
        image
    }

    fn reserve(&self, bytes: u64) -> bool {
        let more = |used: u64| used.checked_add(bytes).filter(|&used| used <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Stores the image; whether it is stored now and was not before. A full disk only costs time and does not stop the
    /// run.
    fn keep(&self, path: &Path, file: Option<&Path>, image: &Arc<Image>) -> bool {
        match (&self.place, file) {
            (Place::Memory(images), _) => lock(images).insert(path.to_path_buf(), image.clone()).is_none(),
            (Place::Folder(_), Some(file)) => write(file, image).is_ok(),
            (Place::Folder(_), None) => false,
        }
    }
}

/// The location and limit of the cache, for display.
impl std::fmt::Display for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let limit = self.limit as f64 / (1u64 << 30) as f64;
        match &self.place {
            Place::Memory(_) => write!(f, "decoded images are kept in memory, up to {limit} GiB"),
            Place::Folder(folder) => write!(f, "decoded images are kept in {}, up to {limit} GiB", shown(folder)),
        }
    }
}

/// The map is consistent between statements, so a panic in another thread does not corrupt it.
fn lock(images: &Mutex<HashMap<PathBuf, Arc<Image>>>) -> MutexGuard<'_, HashMap<PathBuf, Arc<Image>>> {
    images.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The cache key of an image: a 128-bit hash of its path, size and times of change.
fn key(path: &Path) -> Result<String> {
    let path = std::path::absolute(path).map_err(Error::io("read", path))?;
    let found = fs::metadata(&path).map_err(Error::io("read", &path))?;
    let changed = found.modified().map_err(Error::io("read", &path))?;
    // A tool that replaces a file but keeps its modification time cannot keep these.
    #[cfg(unix)]
    let identity = {
        use std::os::unix::fs::MetadataExt;
        (found.ino(), found.ctime(), found.ctime_nsec())
    };
    #[cfg(not(unix))]
    let identity = ();
    let text = format!("{} {} {changed:?} {identity:?}", shown(&path), found.len());
    Ok(format!("{:032x}", xxh3_128(text.as_bytes())))
}

fn read(file: &Path) -> Option<Image> {
    let mut bytes = fs::read(file).ok()?;
    let head = bytes.get(..HEAD)?.strip_prefix(MAGIC)?;
    let side = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
    let (width, height) = (side(0), side(4));
    if width.checked_mul(height)?.checked_mul(3)? != bytes.len() - HEAD {
        return None;
    }
    bytes.drain(..HEAD);
    Some(Image { width, height, rgb: bytes })
}

fn write(file: &Path, image: &Image) -> Result<()> {
    let sides = [image.width as u32, image.height as u32].map(u32::to_le_bytes);
    let head = [MAGIC.as_slice(), &sides.concat()].concat();
    files::write(file, |to| to.write_all(&head).and_then(|()| to.write_all(&image.rgb)))
}
