//! Ensures one writer per folder of a run or comparison, with a lock that the operating system frees when the process ends for any reason.

use crate::error::{Error, Result, one_line, shown};
use crate::reading::shell_word;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// The locked file. It stays when a run ends: if it were removed, a second process could lock the removed file while a third
/// locks a new one. Its content counts only while it is locked.
pub(super) const LOCK: &str = ".polyhead-lock";
const COMPARISON_LOCK: &str = ".polyhead-compare-lock";

/// The time a second process keeps trying: a killed process keeps its lock until its memory is freed.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

/// Permission to write into a folder, until it is dropped.
pub struct RunLock {
    /// Dropping it closes and unlocks the file. Child processes do not inherit it, because the standard library opens
    /// files that way.
    file: File,
    path: PathBuf,
    /// The reason why the folder could not be locked, to be shown once.
    pub warning: Option<String>,
}

impl RunLock {
    /// Locks `folder` and writes this process into the lock file. On a file system without locks this gives only a
    /// warning.
    ///
    /// # Errors
    /// Another process, which is named, writes there, or the lock file cannot be written.
    pub fn take(folder: &Path) -> Result<RunLock> {
        let mut lock = RunLock::acquire(folder)?;
        lock.sign()?;
        Ok(lock)
    }

    /// Locks the folder of a comparison, as [`RunLock::take`] locks a run's. The file has another name, because the folder of a
    /// comparison is not a run's.
    ///
    /// # Errors
    /// The same as [`RunLock::take`]'s.
    pub fn take_for_comparison(folder: &Path) -> Result<RunLock> {
        let mut lock = acquire_by(&folder.join(COMPARISON_LOCK), PATIENCE, File::try_lock)?;
        lock.sign()?;
        Ok(lock)
    }

    /// Locks the folder like [`RunLock::take`], but writes nothing before [`RunLock::sign`], because the caller may still give
    /// up.
    pub(super) fn acquire(folder: &Path) -> Result<RunLock> {
        acquire_by(&folder.join(LOCK), PATIENCE, File::try_lock)
    }

    /// Writes the holder of the lock.
    pub(super) fn sign(&mut self) -> Result<()> {
        let written = self.file.set_len(0).and_then(|()| self.file.write_all(holder().as_bytes()));
        written.map_err(Error::io("write", &self.path))
    }
}

fn acquire_by(
    path: &Path,
    patience: Duration,
    try_lock: impl Fn(&File) -> Result<(), TryLockError>,
) -> Result<RunLock> {
    let folder = path.parent().unwrap_or(path);
    // Through a link, writing the holder would overwrite another file.
    if path.is_symlink() {
        let message = "is a link, and the lock of a folder must be a file in it: remove the link";
        return Err(Error::Other(format!("{}: {message}", shown(path))));
    }
    // The content belongs to another process until this one has the lock, so it is not truncated.
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let file = opened.map_err(Error::io("write", &path))?;
    let started = Instant::now();
    let warning = loop {
        match try_lock(&file) {
            Ok(()) => break None,
            Err(TryLockError::WouldBlock) if started.elapsed() < patience => std::thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => return Err(held(folder, file)),
            Err(TryLockError::Error(e)) => {
                break Some(format!(
                    "warning: {} cannot be locked ({e}): make sure that no other process trains into this folder",
                    shown(folder)
                ));
            }
        }
    };
    Ok(RunLock { file, path: path.to_path_buf(), warning })
}

/// The error for the second process.
fn held(folder: &Path, file: File) -> Error {
    let mut text = Vec::new();
    // Windows does not let others read a locked file; then no process is named.
    let _ = file.take(4096).read_to_end(&mut text);
    let text = one_line(String::from_utf8_lossy(&text).trim());
    let who = if text.is_empty() { "another process" } else { &text };
    Error::Other(format!(
        "{}: this folder is being written by {who}; wait until that process ends, or stop it",
        shown(folder)
    ))
}

/// A description of this process in one line.
fn holder() -> String {
    let (id, host, now) = (std::process::id(), host(), SystemTime::now());
    format!("process {id} on {host} since {}: {}\n", humantime::format_rfc3339_seconds(now), command())
}

/// The command line as one line, as a shell reads it.
pub(super) fn command() -> String {
    std::env::args_os().map(|argument| shell_word(&argument)).collect::<Vec<_>>().join(" ")
}

fn host() -> String {
    let named = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let named = named.or_else(|| ["HOSTNAME", "COMPUTERNAME"].iter().find_map(|name| std::env::var(name).ok()));
    named.map_or("a host without a name".into(), |name| one_line(name.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("polyhead-lock-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    fn refusal(folder: &Path) -> String {
        let refused = acquire_by(&folder.join(LOCK), Duration::ZERO, File::try_lock).err().unwrap();
        assert_eq!(refused.exit_code(), 1);
        refused.to_string()
    }

    #[test]
    fn the_second_process_learns_who_came_first_and_the_folder_stays_unchanged() {
        let folder = folder("second");
        let path = folder.join(LOCK);
        std::fs::write(
            &path,
            "process 1 on a host of long ago: a much longer line than that of the one who comes next\n".repeat(9),
        )
        .unwrap();
        let first = RunLock::take(&folder).unwrap();
        assert_eq!(first.warning, None);
        let said = std::fs::read_to_string(&path).unwrap();
        assert!(said.starts_with(&format!("process {} on ", std::process::id())) && said.ends_with('\n'), "{said}");
        let refusal = refusal(&folder);
        assert!(refusal.contains(said.trim()) && refusal.contains("wait until that process ends"), "{refusal}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), said);
        drop(first);
        assert!(path.exists(), "the file stays, free to be locked");
        drop(RunLock::take(&folder).unwrap());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_second_process_waits_briefly_for_one_that_is_ending() {
        let folder = folder("ending");
        let first = RunLock::take(&folder).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| RunLock::take(&folder).map(drop));
            std::thread::sleep(4 * PAUSE);
            drop(first);
            second.join().unwrap().unwrap();
        });
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn one_folder_under_two_names_has_one_lock() {
        let folder = folder("names");
        std::fs::create_dir_all(folder.join("run")).unwrap();
        let first = RunLock::take(&folder.join("run")).unwrap();
        assert!(refusal(&folder.join("run/../run")).contains("being written by process"));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("run", folder.join("link")).unwrap();
            assert!(refusal(&folder.join("link")).contains("being written by process"));
        }
        drop(first);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_missing_or_strange_holder_is_refused_in_one_line() {
        let folder = folder("wild");
        let first = RunLock::take(&folder).unwrap();
        for (text, expected) in [(&b""[..], "another process;"), (b"\xff\n\x1b[2J pid\n", "\u{fffd}\\n\\u{1b}[2J pid;")]
        {
            std::fs::write(folder.join(LOCK), text).unwrap();
            let refusal = refusal(&folder);
            assert!(refusal.contains(expected) && !refusal.contains('\n'), "{refusal:?}");
        }
        drop(first);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_file_that_is_a_link_is_refused_and_its_target_stays() {
        let folder = folder("link");
        std::fs::write(folder.join("thesis"), "years of work").unwrap();
        std::os::unix::fs::symlink("thesis", folder.join(LOCK)).unwrap();
        let refused = RunLock::take(&folder).err().unwrap().to_string();
        assert!(refused.contains(LOCK) && refused.contains("remove the link"), "{refused}");
        assert_eq!(std::fs::read_to_string(folder.join("thesis")).unwrap(), "years of work");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_system_without_locks_gives_a_warning() {
        let folder = folder("without");
        let lock =
            acquire_by(&folder.join(LOCK), PATIENCE, |_| Err(TryLockError::Error(ErrorKind::Unsupported.into())))
                .unwrap();
        let warning = lock.warning.unwrap();
        assert!(
            warning.contains("cannot be locked (unsupported)") && warning.contains("no other process"),
            "{warning}"
        );
        std::fs::remove_dir_all(&folder).unwrap();
        let gone = RunLock::take(&folder).err().unwrap().to_string();
        assert!(gone.starts_with("cannot write ") && gone.contains(LOCK), "{gone}");
    }
}
