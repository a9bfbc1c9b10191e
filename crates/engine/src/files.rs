//! Files that appear whole under their names: written beside their place, then renamed. Not here: what is in them, and files
//! that grow while somebody reads them.

use crate::error::{Error, Result};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::NamedTempFile;

/// Has `write` make a file that then takes the name `path`. A reader sees the old file or the new one, never half, whatever
/// other threads and processes write. It is not synced.
///
/// # Errors
/// `Io` where the file system refuses; `path` is then untouched and nothing stays behind.
pub fn write(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<()> {
    let put = || {
        let mut aside = beside(path)?;
        write(aside.as_file_mut())?;
        aside.persist(path).map_err(|e| e.error)
    };
    put().map(drop).map_err(Error::io("write", path))
}

/// Writes `bytes` as [`write`](fn@write) does and syncs the file and its folder, so that it survives a power cut.
///
/// # Errors
/// As there.
pub fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes, || ())
}

/// As [`write_synced`], and what was in `path` is at `previous` from then on, where the file system knows second names.
///
/// # Errors
/// As there; both files stay as they were.
pub fn write_and_keep(path: &Path, previous: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes, || {
        // Both names are of one file until the new one takes the first. Without second names, there is only the newest state.
        let _ = std::fs::remove_file(previous);
        let _ = std::fs::hard_link(path, previous);
    })
}

/// `before` runs when the new file is whole, before it takes its name.
fn replace(path: &Path, bytes: &[u8], before: impl FnOnce()) -> Result<()> {
    write(path, |file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        before();
        Ok(())
    })?;
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io("sync", folder)),
        None => Ok(()),
    }
}

/// A new file `<file>.<process>-<number>.part`, by which a run knows what a killed process left of its own files. It is removed
/// when dropped.
fn beside(path: &Path) -> io::Result<NamedTempFile> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}-{}.part", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    // tempfile's own choice is for secrets; this is narrowed by the umask like any file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.prefix(&name).rand_bytes(0);
    match builder.tempfile_in(folder) {
        // A process that was killed had our number.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(folder.join(&name))?;
            builder.tempfile_in(folder)
        }
        made => made,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_the_old_one_or_the_new_one_and_nothing_stays_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let previous = folder.path().join("previous");
        write_and_keep(&path, &previous, b"one").unwrap();
        write_and_keep(&path, &previous, b"two").unwrap();
        assert_eq!((std::fs::read(&path).unwrap(), std::fs::read(&previous).unwrap()), (b"two".into(), b"one".into()));
        write_synced(&path, b"three").unwrap();
        let refused = write(&path, |file| file.write_all(b"half").and(Err(io::Error::other("full"))));
        assert!(matches!(refused, Err(Error::Io { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"three");
        assert!(write(&folder.path().join("absent/x"), |_| Ok(())).is_err());
        assert!(write(folder.path(), |_| Ok(())).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_file_lies_aside_under_a_name_with_the_process() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("args.yaml"), |_| {
            let name = std::fs::read_dir(folder.path())?.next().unwrap()?.file_name().into_string().unwrap();
            let number = name.strip_prefix(&format!("args.yaml.{}-", std::process::id())).unwrap();
            assert!(number.strip_suffix(".part").unwrap().bytes().all(|b| b.is_ascii_digit()), "{name}");
            Ok(())
        })
        .unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn everybody_may_read_it_as_the_umask_has_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let mode = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        std::fs::write(folder.path().join("plain"), "").unwrap();
        write_synced(&folder.path().join("whole"), b"").unwrap();
        assert_eq!(mode("whole"), mode("plain"));
    }
}
