//! Files that appear complete under their names: each is written under a temporary name beside its place, then renamed. File
//! formats, and files that grow while others read them, are elsewhere.

use crate::error::{Error, Result};
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

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
    replace(path, bytes, || ())
}

/// Writes `bytes` as [`write_synced`] does and keeps the old file under the name `previous`, if the file system has hard links.
///
/// # Errors
/// The same as [`write_synced`]'s. `path` holds the old file or the new one.
pub fn write_and_keep(path: &Path, previous: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes, || {
        // Both names point to the same file until the new one is renamed to `path`. Without hard links only the newest is kept.
        let _ = std::fs::remove_file(previous);
        let _ = std::fs::hard_link(real(path), previous);
    })
}

/// Calls `before` when the new file is complete, just before it is renamed.
fn replace(path: &Path, bytes: &[u8], before: impl FnOnce()) -> Result<()> {
    write(path, |file| {
        file.write_all(bytes)?;
        // Devices and pipes cannot be synced.
        if file.metadata()?.is_file() {
            file.sync_all()?;
        }
        before();
        Ok(())
    })?;
    match real(path).parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => sync_folder(folder).map_err(Error::io("sync", folder)),
        None => Ok(()),
    }
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
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}-{}.part", std::process::id(), RandomState::new().build_hasher().finish() % NUMBERS));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Not opened by tempfile, which would make the file readable by its owner only and put this name into error messages.
    let open = |aside: &Path| File::options().write(true).create_new(true).open(aside);
    tempfile::Builder::new().prefix(&name).rand_bytes(0).make_in(folder, open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_atomic_and_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let previous = folder.path().join("previous");
        write_and_keep(&path, &previous, b"one").unwrap();
        write_and_keep(&path, &previous, b"two").unwrap();
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

    #[cfg(target_os = "linux")]
    #[test]
    fn links_and_devices_stay_what_they_are() {
        use std::os::unix::fs::{FileTypeExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (file, link, previous) =
            (folder.path().join("file"), folder.path().join("link"), folder.path().join("old"));
        std::fs::write(&file, "one").unwrap();
        symlink("file", &link).unwrap();
        write_and_keep(&link, &previous, b"two").unwrap();
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
    fn the_umask_decides_who_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let mode = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        std::fs::write(folder.path().join("plain"), "").unwrap();
        write_synced(&folder.path().join("whole"), b"").unwrap();
        assert_eq!(mode("whole"), mode("plain"));
    }
}
