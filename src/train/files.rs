//! Decides which files in a run's folder belong to the run. A new run in the same folder, or the resumed run, may remove only
//! these.
//!
//! A run writes its task names into args.yaml before any other file, and all its file names follow from those. Files with other
//! names, or in a folder without a run's args.yaml, belong to somebody else and are kept.

use super::lock::LOCK;
use crate::config;
use crate::error::{Error, Result, one_line, shown};
use crate::evaluate::{file_name, picture_names};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

pub(super) const ARGS: &str = "args.yaml";
pub(super) const LOG: &str = "log.txt";
pub(super) const TABLE: &str = "results.csv";
pub(super) const ANSWERS: &str = "val_batch0_pred.jpg";
/// The name of `ANSWERS` in runs of older versions.
pub(super) const OLD_ANSWERS: &str = "val_batch0_pred.png";
pub(super) const BALANCE: &str = "balance.png";
pub(super) const WEIGHTS: &str = "weights";
/// The state at the start of a run that tries methods, and the state at the end of its best trial so far.
pub(super) const START: &str = "start";
pub(super) const TRIAL: &str = "trial";

/// The last line of a finished run's log begins with `DONE`, or with `NOTHING_LEFT` if the run was resumed after its end.
pub(super) const DONE: &str = "done in";
pub(super) const NOTHING_LEFT: &str = "nothing is left to do";

/// The name of the best weights for one task, for [`weights_file`].
pub(super) fn best_of(task: &str) -> String {
    format!("best_{}", file_name(task))
}

/// The path of the weights called `name`, relative to a run's folder.
pub(super) fn weights_file(name: &str) -> PathBuf {
    Path::new(WEIGHTS).join(format!("{name}.safetensors"))
}

/// Every file that a run of these tasks may write, relative to its folder.
fn files_of<'a>(tasks: impl IntoIterator<Item = &'a str>) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = [ARGS, LOG, TABLE, ANSWERS, OLD_ANSWERS, BALANCE].map(PathBuf::from).into();
    files.extend(["last", "previous", "best", START, TRIAL].map(weights_file));
    for task in tasks {
        files.push(weights_file(&best_of(task)));
        files.extend(picture_names(task).map(PathBuf::from));
    }
    files
}

/// Checks that `name` can be the name of a folder on every system that the run may be copied to.
///
/// # Errors
/// It cannot; the message says which names are allowed.
pub fn check_name(name: &str) -> Result<()> {
    let refused = |c: char| c.is_control() || "/\\:*?\"<>|".contains(c);
    let stem = name.split('.').next().unwrap_or_default().to_ascii_uppercase();
    let port = stem.strip_prefix("COM").or(stem.strip_prefix("LPT"));
    let device = ["CON", "PRN", "AUX", "NUL"].contains(&stem.as_str())
        || port.is_some_and(|number| number.len() == 1 && number.starts_with(|c: char| c.is_ascii_digit()));
    // `.` and `..` end with a dot.
    if name.is_empty() || name.contains(refused) || name.trim() != name || name.ends_with('.') || device {
        return Err(Error::Usage(format!(
            "--name `{}`: expected the name of one folder: without / \\ : * ? \" < > | and control characters, with no space at its ends and no dot at its end, and not a device of Windows such as NUL or COM1",
            one_line(name)
        )));
    }
    Ok(())
}

/// The task names in the args.yaml of `folder`; `None` if it holds no run's args.yaml. The list is empty if an older version
/// wrote the file: then only the files that every run has are known to belong to the run.
fn tasks_of_run(folder: &Path) -> Option<Vec<String>> {
    config::tasks_of_run(&std::fs::read_to_string(folder.join(ARGS)).ok()?)
}

/// Whether `folder` is a run's folder, even if the run has only written its first file.
pub fn is_run(folder: &Path) -> bool {
    folder.join(LOCK).exists() || tasks_of_run(folder).is_some()
}

/// Whether the run in `folder` has finished: all epochs are done, or --patience or --time ended it.
pub fn is_finished(folder: &Path) -> bool {
    let log = std::fs::read_to_string(folder.join(LOG)).unwrap_or_default();
    log.lines().last().is_some_and(|line| line.starts_with(DONE) || line.starts_with(NOTHING_LEFT))
}

/// The epoch whose weights are `best`, according to the log of a finished run.
pub fn best_in_log(folder: &Path) -> Option<usize> {
    let log = std::fs::read_to_string(folder.join(LOG)).ok()?;
    let done = log.lines().rfind(|line| line.starts_with(DONE))?;
    done.split("; ").find_map(|part| part.rsplit_once(", of epoch ")?.1.parse().ok())
}

/// Whether the run in `folder` has saved a state to resume from.
pub fn has_state(folder: &Path) -> bool {
    ["last", "previous"].iter().any(|name| folder.join(weights_file(name)).is_file())
}

/// Lists the files that a new run of `tasks` in `folder` must remove first: all files of the earlier run except its args.yaml,
/// which is replaced.
///
/// # Errors
/// The folder is not empty and not a run's, or it holds a foreign file with a name that the new run needs.
pub(super) fn replaced(folder: &Path, tasks: &[&str]) -> Result<Vec<PathBuf>> {
    let old = tasks_of_run(folder);
    let own = old.iter().flat_map(|tasks| files_of(tasks.iter().map(String::as_str))).collect::<Vec<_>>();
    let new = files_of(tasks.iter().copied());
    let at = |file: &Path| folder.join(file).symlink_metadata().ok();
    let in_the_way = |file: &Path| at(file).is_some_and(|found| found.is_dir() || !own.iter().any(|own| own == file));
    let weights = Path::new(WEIGHTS);
    let no_folder = at(weights).is_some() && !folder.join(weights).is_dir();
    if let Some(file) = no_folder.then_some(weights).or(new.iter().map(PathBuf::as_path).find(|file| in_the_way(file)))
    {
        return Err(Error::Usage(format!(
            "{} is in the way: the run writes something of this name, and no {ARGS} in its folder says that an earlier run did; move it, or give another --name",
            shown(&folder.join(file))
        )));
    }
    let parts = parts(folder, &[own.as_slice(), &new].concat());
    if old.is_none() && !folder.join(LOCK).exists() {
        let others = entries(folder).find(|entry| !parts.contains(entry));
        if let Some(other) = others {
            return Err(Error::Usage(format!(
                "{}: holds {} and is not a run's folder: --exist-ok only replaces a run, or uses an empty folder; give another --name",
                shown(folder),
                shown(Path::new(other.file_name().unwrap_or_default()))
            )));
        }
    }
    let whole = own.iter().filter(|file| file.as_path() != Path::new(ARGS));
    let whole = whole.filter(|file| at(file).is_some_and(|found| !found.is_dir())).map(|file| folder.join(file));
    Ok(whole.chain(parts.iter().cloned()).collect())
}

/// The temporary files that killed processes of a run of `tasks` left behind.
pub(super) fn half_written(folder: &Path, tasks: &[&str]) -> Vec<PathBuf> {
    parts(folder, &files_of(tasks.iter().copied()))
}

/// Removes the temporary files of `files` that killed processes left in `folder`. The caller holds the folder's lock.
///
/// # Errors
/// A file cannot be removed.
pub fn remove_half_written(folder: &Path, files: &[PathBuf]) -> Result<()> {
    parts(folder, files).iter().try_for_each(|part| std::fs::remove_file(part).map_err(Error::io("remove", part)))
}

/// The temporary files of `files`. A run writes a file as `<file>.<process>.part` or `<file>.<process>-<number>.part`, then
/// renames it.
fn parts(folder: &Path, files: &[PathBuf]) -> Vec<PathBuf> {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_part = |path: &PathBuf| {
        let name = path.file_name().and_then(OsStr::to_str).and_then(|name| name.strip_suffix(".part"));
        let Some((file, writer)) = name.and_then(|name| name.rsplit_once('.')) else { return false };
        let (process, thread) = writer.split_once('-').unwrap_or((writer, "0"));
        let file = path.with_file_name(file);
        number(process) && number(thread) && path.is_file() && files.iter().any(|f| folder.join(f) == file)
    };
    entries(folder).chain(entries(&folder.join(WEIGHTS))).filter(is_part).collect()
}

/// The entries of a folder; none if it does not exist.
fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| entry.ok()).map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TrainConfig;
    use crate::recipe::Recipe;
    use crate::train::run::RunFolder;

    /// A project folder, and a configuration that creates runs in it over older ones.
    struct Place {
        project: PathBuf,
        config: TrainConfig,
    }

    impl Place {
        fn new(name: &str) -> Place {
            let project = std::env::temp_dir().join(format!("polyhead-files-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&project);
            let config = TrainConfig { project: project.clone(), exist_ok: true, ..Recipe::QuickStart.config() };
            std::fs::create_dir_all(&project).unwrap();
            Place { project, config }
        }

        fn run(&self) -> PathBuf {
            self.project.join(&self.config.name)
        }

        fn create(&self, tasks: &[&str]) -> Result<()> {
            RunFolder::create(&self.config, tasks, None, None).map(drop)
        }

        /// Creates a run and writes every file that it may have.
        fn whole_run(&self, tasks: &[&str]) {
            self.create(tasks).unwrap();
            let files = files_of(tasks.iter().copied()).into_iter().filter(|file| !self.run().join(file).exists());
            files.for_each(|file| self.write(&file.to_string_lossy()));
        }

        fn write(&self, file: &str) {
            let path = self.run().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file).unwrap();
        }

        /// The sorted entries of the run's folder and of its weights folder.
        fn tree(&self) -> Vec<String> {
            let all = entries(&self.run()).chain(entries(&self.run().join(WEIGHTS)));
            let mut all: Vec<String> =
                all.map(|path| path.strip_prefix(self.run()).unwrap().to_string_lossy().replace('\\', "/")).collect();
            all.sort();
            all
        }

        /// Checks that a run of `tasks` is refused as wrong usage with these words, and that no file changes.
        fn refuses(&self, tasks: &[&str], words: &[&str]) {
            let before = self.tree();
            let error = self.create(tasks).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{error}");
            words.iter().for_each(|word| assert!(error.to_string().contains(word), "no `{word}` in: {error}"));
            assert_eq!(self.tree(), before);
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.project);
        }
    }

    const FOREIGN: [&str; 9] = [
        "best_old.safetensors",
        "clip.part",
        "confusion_mine.png",
        "notes.txt",
        "results.csv.backup",
        "scatter_old.txt",
        "weights/best_mine.safetensors",
        "weights/notes.md",
        "weights/old/best.safetensors",
    ];

    #[test]
    fn a_run_over_an_older_one_removes_the_files_of_that_one_and_no_others() {
        let place = Place::new("over");
        place.whole_run(&["old", "a/b"]);
        assert_eq!(place.tree().iter().filter(|file| file.starts_with("confusion_a_b-")).count(), 1);
        FOREIGN.iter().for_each(|file| place.write(file));
        let parts = [
            "log.txt.7.part",
            "args.yaml.12.part",
            "confusion_old.png.3-14.part",
            "weights/best_new.safetensors.9.part",
        ];
        parts.iter().for_each(|file| place.write(file));
        let almost =
            ["log.txt.7a.part", "log.txt..part", "log.txt.7-.part", "mine.9.part", "weights/mine.safetensors.9.part"];
        almost.iter().for_each(|file| place.write(file));
        place.create(&["new"]).unwrap();
        let mut expected: Vec<&str> =
            [FOREIGN.as_slice(), &almost, &[LOCK, ARGS, LOG, WEIGHTS, "weights/old"]].concat();
        expected.retain(|file| *file != "weights/old/best.safetensors");
        expected.sort_unstable();
        assert_eq!(place.tree(), expected);
        assert!(place.run().join("weights/old/best.safetensors").exists());
        assert_eq!(tasks_of_run(&place.run()).unwrap(), ["new"]);
    }

    #[test]
    fn what_is_no_runs_and_has_a_name_that_the_run_needs_is_named() {
        let place = Place::new("way");
        place.whole_run(&["old"]);
        place.write("weights/best_new.safetensors");
        place.refuses(&["old", "new"], &["weights/best_new.safetensors is in the way", "move it"]);
        std::fs::remove_file(place.run().join("weights/best_new.safetensors")).unwrap();
        // A folder never belongs to a run, whatever its name.
        std::fs::create_dir(place.run().join("scatter_new.png")).unwrap();
        place.refuses(&["old", "new"], &["scatter_new.png is in the way"]);
        std::fs::remove_dir(place.run().join("scatter_new.png")).unwrap();
        std::fs::remove_dir_all(place.run().join(WEIGHTS)).unwrap();
        place.write("weights");
        place.refuses(&["new"], &["weights is in the way"]);
        std::fs::remove_file(place.run().join("weights")).unwrap();
        place.create(&["new"]).unwrap();
        // Without task names in args.yaml, only the files that every run has count as the run's.
        place.whole_run(&["new"]);
        let args = std::fs::read_to_string(place.run().join(ARGS)).unwrap();
        std::fs::write(place.run().join(ARGS), args.replace("tasks:\n- new\n", "")).unwrap();
        place.refuses(&["new"], &["best_new.safetensors is in the way"]);
        place.create(&["other"]).unwrap();
        assert!(place.tree().contains(&"weights/best_new.safetensors".to_owned()));
        assert!(!place.tree().contains(&"weights/best.safetensors".to_owned()));
    }

    #[test]
    fn a_folder_that_is_no_runs_is_left_alone() {
        let place = Place::new("foreign");
        place.write("weights/best.safetensors");
        place.refuses(&["a"], &["weights/best.safetensors is in the way"]);
        std::fs::remove_dir_all(place.run()).unwrap();
        place.write("main.rs");
        place.refuses(&["a"], &["holds main.rs and is not a run's folder", "--exist-ok"]);
        // Other programs write an args.yaml, too.
        place.write("args.yaml");
        place.refuses(&["a"], &["args.yaml is in the way"]);
        std::fs::write(place.run().join(ARGS), "task: detect\nmode: train\nepochs: 3\nname: x\n").unwrap();
        place.refuses(&["a"], &["args.yaml is in the way"]);
        assert!(!is_run(&place.run()) && !place.project.join(crate::data::RUNS_MARKER).exists());
        std::fs::remove_dir_all(place.run()).unwrap();
        std::fs::create_dir(place.run()).unwrap();
        place.create(&["a"]).unwrap();
        assert!(is_run(&place.run()));
    }

    #[test]
    fn a_run_that_was_killed_before_its_first_file_can_be_begun_again() {
        let place = Place::new("early");
        for left in [&["args.yaml.77.part"][..], &[LOCK], &[LOCK, "args.yaml.77.part"]] {
            left.iter().for_each(|file| place.write(file));
            place.create(&["a"]).unwrap();
            assert_eq!(place.tree(), [LOCK, ARGS, LOG, WEIGHTS]);
            std::fs::remove_dir_all(place.run()).unwrap();
        }
    }

    #[test]
    fn a_run_that_goes_on_removes_its_own_half_written_files_only() {
        let place = Place::new("parts");
        place.whole_run(&["a"]);
        let parts = ["results.csv.5.part", "scatter_a.png.5-1.part", "weights/last.safetensors.6.part"];
        // These are not the run's: `predict --out` and others wrote them.
        let others = ["predictions.jsonl.part", "weights/copy.safetensors.6.part"];
        parts.iter().chain(&others).for_each(|file| place.write(file));
        let before = place.tree();
        RunFolder::open(&place.run(), &["a"], crate::train::RunLock::take(&place.run()).unwrap()).unwrap();
        let after: Vec<String> = before.into_iter().filter(|file| !parts.contains(&file.as_str())).collect();
        assert_eq!(place.tree(), after);
        assert!(others.iter().all(|file| after.contains(&(*file).to_owned())));
    }

    #[test]
    fn a_name_is_that_of_one_folder_on_every_system() {
        let refused = [
            "",
            ".",
            "..",
            "...",
            "a/b",
            "/a",
            "a/",
            "../a",
            "a\\b",
            "C:",
            "a\0b",
            "a\nb",
            "a\x7f",
            "a*",
            "what?",
            "<a>",
            "a|b",
            "\"a\"",
            " a",
            "a ",
            "\u{a0}a",
            "a.",
            "nul",
            "CON",
            "Aux.txt",
            "com1",
            "LPT9.tar.gz",
        ];
        for name in refused {
            let error = check_name(name).unwrap_err();
            let said = error.to_string();
            assert_eq!(error.exit_code(), 2);
            assert!(
                said.starts_with("--name `") && said.contains("the name of one folder") && !said.contains('\n'),
                "{said}"
            );
        }
        for name in [
            "train",
            "2024-05-01 v2",
            ".hidden",
            "a.b",
            "-",
            "naïve",
            "実験",
            "console",
            "com10",
            "nul1",
            "compact",
            "lptx",
        ] {
            check_name(name).unwrap();
        }
    }
}
