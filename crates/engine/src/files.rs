//! Files that appear complete under their names: each is written under a temporary name beside its place, then renamed. Also the
//! checksum of a file. File formats, and files that grow while others read them, are elsewhere.

use crate::error::{Error, Result, shown};
use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;
use xxhash_rust::xxh3::Xxh3;

/// Writes a file through `write` under a temporary name beside `path`, then renames it to `path`. A reader sees the old file or
/// the new one, never half of one, even while other threads, processes or machines write it. Nothing is synced. If `path` is a
/// link, the file it points to is replaced. If `path` is a device or a pipe, it is written directly.
///
/// # Errors
/// `Io` if the file system refuses; `path` is then unchanged and no temporary file is left.
pub fn write(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<()> {
    let put = || {
        if std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
            return write(&mut File::options().write(true).open(path)?);
        }
        let path = real(path);
        let mut aside = beside(&path)?;
        write(aside.as_file_mut())?;
        aside.persist(&path).map(drop).map_err(|e| e.error)
    };
    put().map_err(Error::io("write", path))
}

/// Writes `bytes` as [`write`](fn@write) does and syncs the file and its folder, so that it survives a power failure.
///
/// # Errors
/// `Io` if the file system refuses. If only syncing the folder failed, `path` already holds the new file.
pub fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    write_parts(path, &[bytes], None)
}

/// Writes the parts of a file one after the other, synced as by [`write_synced`]. With `previous`, the old file is kept under that
/// name, if the file system has hard links.
///
/// # Errors
/// The same as [`write_synced`]'s. `path` holds the old file or the new one.
pub fn write_parts(path: &Path, parts: &[&[u8]], previous: Option<&Path>) -> Result<()> {
    write(path, |file| {
        parts.iter().try_for_each(|part| file.write_all(part))?;
        // Devices and pipes cannot be synced.
        if file.metadata()?.is_file() {
            file.sync_all()?;
        }
        if let Some(previous) = previous {
            // Both names point to the same file until the new one is renamed to `path`. Without hard links only the newest is kept.
            let _ = std::fs::remove_file(previous);
            let _ = std::fs::hard_link(real(path), previous);
        }
        Ok(())
    })?;
    match real(path).parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => sync_folder(folder).map_err(Error::io("sync", folder)),
        None => Ok(()),
    }
}

/// Opens a file that has an end. A pipe could block for ever, and a device may be endless.
///
/// # Errors
/// The file system refuses, or `path` is a folder, a pipe, a socket or a device.
pub fn open(path: &Path) -> io::Result<File> {
    let found = std::fs::metadata(path)?;
    if !found.is_file() {
        let what = if found.is_dir() { "a folder" } else { ENDLESS };
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("this is {what}, not a file")));
    }
    File::open(path)
}

const ENDLESS: &str = "a pipe, a socket or a device";

/// The words for what is at `path` if it is neither a file nor a folder.
pub fn endless(path: &Path) -> Option<&'static str> {
    std::fs::metadata(path).ok().filter(|found| !found.is_file() && !found.is_dir()).map(|_| ENDLESS)
}

/// The content of a file that [`open`] accepts.
///
/// # Errors
/// The same.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The checksum of a file with these parts: XXH3 of 128 bits. It finds damage of any kind, but no forgery. All files of polyhead
/// that carry or record a checksum use it.
///
/// Source: Collet, <https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md>.
pub fn checksum(parts: &[&[u8]]) -> u128 {
    let mut hash = Xxh3::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.digest128()
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Windows cannot open a folder as a file, and it writes a new name to disk with the file's own metadata.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

/// The target of the links in `path`, or `path` itself if there is no file.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

/// A new file `<file>.<process>-<number>.part` beside `path`, removed when dropped unless its `keep` is called. It is meant for
/// files that grow; use [`write`](fn@write) for all others. `train --exist-ok` recognises the leftovers of a killed process by
/// this name. The number is random, because processes of two machines or containers on a shared disk may have the same id.
///
/// # Errors
/// The file system refuses.
pub fn beside(path: &Path) -> io::Result<NamedTempFile> {
    const NUMBERS: u64 = 1_000_000_000_000;
    let ending = format!(".{}-{}.part", std::process::id(), RandomState::new().build_hasher().finish() % NUMBERS);
    let mut name = cut_to(path.file_name().unwrap_or_default(), LONGEST_NAME - ending.len());
    name.push(ending);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Not opened by tempfile, which would make the file readable by its owner only and put this name into error messages.
    let open = |aside: &Path| File::options().write(true).create_new(true).open(aside);
    tempfile::Builder::new().prefix(&name).rand_bytes(0).make_in(folder, open)
}

/// A file as from [`beside`] that stays and is locked as long as it is open, so that [`remove_left_beside`] knows it from what a
/// killed process left. Where files cannot be locked, it is not.
///
/// # Errors
/// The file system refuses.
pub fn beside_locked(path: &Path) -> io::Result<(File, PathBuf)> {
    loop {
        let (file, aside) = beside(path)?.keep().map_err(|e| e.error)?;
        match file.try_lock() {
            // Another process may have taken the new file for a leftover before it was locked.
            Ok(()) if !aside.exists() => {}
            Err(TryLockError::WouldBlock) => drop(std::fs::remove_file(&aside)),
            Ok(()) | Err(TryLockError::Error(_)) => return Ok((file, aside)),
        }
    }
}

/// Removes the unfinished files that killed processes left beside `path`, and returns a sentence about each. Files that another
/// process writes are kept, and so are all files where they cannot be locked.
pub fn remove_left_beside(path: &Path) -> Vec<String> {
    let Some(name) = path.file_name().and_then(OsStr::to_str) else { return Vec::new() };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_part = |entry: &OsStr| {
        let rest = entry.to_str().and_then(|entry| entry.strip_prefix(name)?.strip_prefix('.')?.strip_suffix(".part"));
        rest.and_then(|rest| rest.split_once('-'))
            .is_some_and(|(process, number)| is_number(process) && is_number(number))
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut left: Vec<PathBuf> = entries
        .map(|entry| entry.file_name())
        .filter(|entry| is_part(entry))
        .map(|entry| path.with_file_name(entry))
        .collect();
    left.sort();
    let removed = left.into_iter().filter_map(|part| {
        let file = File::options().write(true).open(&part).ok()?;
        file.try_lock().ok()?;
        std::fs::remove_file(&part).ok()?;
        Some(format!("{} was left unfinished by a process that was killed, and is removed", shown(&part)))
    });
    removed.collect()
}

/// The longest name of a file in bytes, on all common file systems.
const LONGEST_NAME: usize = 255;

/// The start of a name, at most this many bytes long. Names that are no Unicode are cut between two of their characters, too.
pub fn cut_to(name: &OsStr, most: usize) -> OsString {
    let bytes = name.as_encoded_bytes();
    if bytes.len() <= most {
        return name.to_owned();
    }
    // The longest start that is whole characters. It is found from the text, since bytes must not be put together to a name.
    let text = name.to_string_lossy();
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_atomic_and_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let previous = folder.path().join("previous");
        write_parts(&path, &[b"one"], Some(&previous)).unwrap();
        write_parts(&path, &[b"t", b"", b"wo"], Some(&previous)).unwrap();
        assert_eq!((std::fs::read(&path).unwrap(), std::fs::read(&previous).unwrap()), (b"two".into(), b"one".into()));
        write_synced(&path, b"three").unwrap();
        let refused = write(&path, |file| file.write_all(b"half").and(Err(io::Error::other("full"))));
        let refused = refused.unwrap_err();
        assert!(matches!(refused, Error::Io { .. }) && !refused.to_string().contains(".part"), "{refused}");
        assert_eq!(std::fs::read(&path).unwrap(), b"three");
        let absent = write(&folder.path().join("absent/x"), |_| Ok(())).unwrap_err().to_string();
        assert!(absent.contains("absent/x:") && !absent.contains(".part"), "{absent}");
        assert!(write(folder.path(), |_| Ok(())).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_checksum_is_the_published_one_however_the_file_is_divided() {
        // XXH3_128bits of nothing, from the specification's reference implementation.
        assert_eq!(checksum(&[]), 0x99aa_06d3_0147_98d8_6001_c324_468d_497f);
        let bytes: Vec<u8> = (0..5000).map(|i| (i * 7 % 251) as u8).collect();
        let whole = checksum(&[&bytes]);
        assert_eq!(whole, xxhash_rust::xxh3::xxh3_128(&bytes));
        for at in [0, 1, 240, 1024, 4999] {
            assert_eq!(checksum(&[&bytes[..at], &bytes[at..]]), whole);
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_ne!(checksum(&[&other]), whole);
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_a_killed_process_left_is_removed_and_what_is_written_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let (mut file, own) = beside_locked(&path).unwrap();
        file.write_all(b"one").unwrap();
        let foreign = ["a.jsonl", "a.jsonl.3-x.part", "a.jsonl.3.part", "b.jsonl.3-4.part", "a.jsonl.3-4.unfinished"];
        foreign.iter().for_each(|name| std::fs::write(folder.path().join(name), "").unwrap());
        std::fs::write(folder.path().join("a.jsonl.7-12.part"), "half").unwrap();
        let removed = remove_left_beside(&path);
        assert!(removed.len() == 1 && removed[0].contains("a.jsonl.7-12.part was left unfinished"), "{removed:?}");
        assert!(own.is_file() && foreign.iter().all(|name| folder.path().join(name).is_file()));
        drop(file);
        assert_eq!(remove_left_beside(&path).len(), 1);
        assert!(!own.exists());
    }

    #[test]
    fn temporary_names_contain_the_process_id() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("args.yaml"), |_| {
            let name = std::fs::read_dir(folder.path())?.next().unwrap()?.file_name().into_string().unwrap();
            let number = name.strip_prefix(&format!("args.yaml.{}-", std::process::id())).unwrap();
            assert!(number.strip_suffix(".part").unwrap().bytes().all(|b| b.is_ascii_digit()), "{name}");
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn the_longest_names_can_be_written() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a".repeat(255), "é".repeat(127), format!("{}.png", "猫".repeat(83))] {
            let path = folder.path().join(&name);
            write_synced(&path, b"one").unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"one", "{name}");
        }
        assert_eq!(cut_to(OsStr::new("éé"), 3), "é");
        assert_eq!(cut_to(OsStr::new("abc"), 3), "abc");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn links_and_devices_stay_what_they_are() {
        use std::os::unix::fs::{FileTypeExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (file, link, previous) =
            (folder.path().join("file"), folder.path().join("link"), folder.path().join("old"));
        std::fs::write(&file, "one").unwrap();
        symlink("file", &link).unwrap();
        write_parts(&link, &[b"two"], Some(&previous)).unwrap();
        assert!(link.is_symlink() && !previous.is_symlink());
        assert_eq!((std::fs::read(&file).unwrap(), std::fs::read(&previous).unwrap()), (b"two".into(), b"one".into()));
        let device = folder.path().join("device");
        symlink("/dev/full", &device).unwrap();
        assert!(write_synced(&device, b"three").unwrap_err().to_string().contains("device"));
        assert!(device.is_symlink() && std::fs::metadata("/dev/full").unwrap().file_type().is_char_device());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4);
    }

    #[cfg(unix)]
    #[test]
    fn only_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let (file, pipe) = (folder.path().join("file"), folder.path().join("pipe"));
        std::fs::write(&file, "text").unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert_eq!(read(&file).unwrap(), b"text");
        for (path, what) in
            [(&*pipe, "a pipe, a socket or a device"), (Path::new("/dev/zero"), "a pipe"), (folder.path(), "a folder")]
        {
            let said = read(path).unwrap_err().to_string();
            assert!(said.contains(what), "{said}");
        }
        assert_eq!(read(&folder.path().join("absent")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[cfg(unix)]
    #[test]
    fn the_umask_decides_who_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let mode = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        std::fs::write(folder.path().join("plain"), "").unwrap();
        write_synced(&folder.path().join("whole"), b"").unwrap();
        assert_eq!(mode("whole"), mode("plain"));
    }
}
