//! Keeps decoded images from one epoch to the next, in memory or in a folder. They are kept whole, upright and in full
//! size, so that they serve every augmentation. The result equals that of decoding: every file of the folder has a checksum, and an
//! image whose file is damaged is decoded again.

use super::decode;
use super::picture::{Image, Part};
use crate::archives;
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
    /// The number of damaged files found, until [`Cache::take_damaged`].
    damaged: AtomicU64,
}

#[derive(Debug)]
enum Place {
    Memory(Mutex<HashMap<PathBuf, Arc<Image>>>),
    Folder(PathBuf),
}

/// The first bytes of a cached file: format and version. Width, height and the checksum follow, then the pixels.
const MAGIC: &[u8; 8] = b"polyhd02";
/// Files of older versions, which had no checksum. They are replaced.
const OLDER: &[u8; 8] = b"polyhd01";
const SIZES: usize = MAGIC.len() + 8;
const HEAD: usize = SIZES + size_of::<u128>();

impl Cache {
    /// A cache that ends with the process.
    pub fn in_memory(limit: u64) -> Cache {
        Cache::new(Place::Memory(Mutex::default()), limit, 0)
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
        Ok(Cache::new(Place::Folder(folder.to_path_buf()), limit, used))
    }

    fn new(place: Place, limit: u64, used: u64) -> Cache {
        Cache { place, limit, used: AtomicU64::new(used), damaged: AtomicU64::new(0) }
    }

    /// The number of damaged files found since the last call. Their images were decoded again, and the files replaced.
    pub fn take_damaged(&self) -> u64 {
        self.damaged.swap(0, Ordering::Relaxed)
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
                match read(&file) {
                    Found::Image(image) => return Ok(Arc::new(image)),
                    Found::Nothing => {}
                    Found::Older(bytes) => drop(self.drop_file(&file, bytes)),
                    Found::Damaged(bytes) => {
                        let was_there = self.drop_file(&file, bytes);
                        self.damaged.fetch_add(u64::from(was_there), Ordering::Relaxed);
                    }
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

    /// Removes a file of this length, to make room for another one in its place. Returns whether it was there: another thread
    /// may have removed it.
    fn drop_file(&self, file: &Path, bytes: u64) -> bool {
        let is_removed = fs::remove_file(file).is_ok();
        if is_removed {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        is_removed
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
    let (file, inside) = archives::place(&path).map_err(Error::io("read", &path))?;
    let found = fs::metadata(&file).map_err(Error::io("read", &path))?;
    let changed = found.modified().map_err(Error::io("read", &path))?;
    // A tool that replaces a file but keeps its modification time cannot keep these.
    #[cfg(unix)]
    let identity = {
        use std::os::unix::fs::MetadataExt;
        (found.ino(), found.ctime(), found.ctime_nsec())
    };
    #[cfg(not(unix))]
    let identity = ();
    let mut text = format!("{} {} {changed:?} {identity:?}", shown(&path), found.len());
    if let Some((at, length)) = inside {
        text.push_str(&format!(" {at} {length}"));
    }
    Ok(format!("{:032x}", xxh3_128(text.as_bytes())))
}

/// The state of an image's file in the cache's folder. The numbers are lengths in bytes.
enum Found {
    Nothing,
    Image(Image),
    Older(u64),
    Damaged(u64),
}

fn read(file: &Path) -> Found {
    let Ok(mut bytes) = fs::read(file) else { return Found::Nothing };
    let len = bytes.len() as u64;
    match sizes(file, &bytes) {
        Some([width, height]) => {
            bytes.drain(..HEAD);
            Found::Image(Image { width, height, rgb: bytes })
        }
        None if bytes.starts_with(OLDER) => Found::Older(len),
        None => Found::Damaged(len),
    }
}

/// Width and height in a file that is as it was written.
fn sizes(file: &Path, bytes: &[u8]) -> Option<[usize; 2]> {
    let (head, rgb) = bytes.split_at_checked(HEAD)?;
    let (sizes, written) = head.split_at(SIZES);
    let sides = sizes.strip_prefix(MAGIC)?;
    let side = |at: usize| u32::from_le_bytes([sides[at], sides[at + 1], sides[at + 2], sides[at + 3]]) as usize;
    let (width, height) = (side(0), side(4));
    let fits = width.checked_mul(height)?.checked_mul(3)? == rgb.len();
    (fits && checksum(file, sizes, rgb) == written).then_some([width, height])
}

/// The checksum includes the file's name, which stands for an image, so that a file under another name is damaged, too.
fn checksum(file: &Path, sizes: &[u8], rgb: &[u8]) -> [u8; 16] {
    let name = file.file_name().unwrap_or_default().as_encoded_bytes();
    files::checksum(&[name, sizes, rgb]).to_le_bytes()
}

/// The file is not synced: after a power failure it may be incomplete, which its checksum shows, and the image is decoded again.
/// Syncing each of 1000 files of 200 KiB took 4 to 7 ms instead of 0.2 to 3 ms (ext4 on a virtual disk, two interleaved rounds),
/// several times what decoding a photograph of that size takes.
fn write(file: &Path, image: &Image) -> Result<()> {
    let sides = [image.width as u32, image.height as u32].map(u32::to_le_bytes);
    let sizes = [MAGIC.as_slice(), &sides.concat()].concat();
    let head = [sizes.as_slice(), &checksum(file, &sizes, &image.rgb)].concat();
    files::write(file, |to| to.write_all(&head).and_then(|()| to.write_all(&image.rgb)))
}
