//! The folder of a run: its name, the resolved configuration, the log.

use super::checkpoint::RunState;
use super::files::{self, ARGS, LOG, WEIGHTS};
use super::lock::{self, LOCK, RunLock};
use crate::config::TrainConfig;
use crate::device::cpu::{Isa, IsaName};
use crate::error::{Error, Result, visible};
use crate::new_folder::{first_free, mark_project};
use crate::reading::yaml;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The folder `<project>/<name>` with its lock.
pub struct RunFolder {
    /// The run's folder, `<project>/<name>`.
    pub path: PathBuf,
    /// A random number that this run and no other has; `None` for a run of an older version.
    pub(super) id: Option<String>,
    log: File,
    pub(super) lock: RunLock,
}

/// The content of `args.yaml`: the origin of the run, and its configuration.
#[derive(Serialize)]
struct Provenance<'a> {
    command: String,
    version: &'a str,
    commit: &'a str,
    machine: Machine,
    /// A random number that tells this run's files from those of others.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    /// The CPU's instruction set that was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    isa: Option<IsaName>,
    /// The tuning hash of a GPU's convolutions.
    #[serde(skip_serializing_if = "Option::is_none")]
    tuning: Option<&'a str>,
    /// The names of the tasks, which determine the names of the run's files.
    tasks: &'a [&'a str],
    #[serde(flatten)]
    config: &'a TrainConfig,
}

/// The computer that a run trains on, as recorded in args.yaml.
#[derive(Serialize)]
pub struct Machine {
    /// Model name from /proc/cpuinfo, or the architecture if that is missing.
    pub cpu: String,
    /// Number of logical cores that this process may use.
    pub cores: usize,
    /// The widest instruction set of the CPU.
    pub instruction_set: String,
    /// The operating system, such as `linux`.
    pub os: &'static str,
}

impl Machine {
    /// The computer that this process runs on.
    pub fn this() -> Machine {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model =
            info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':').map(|p| p.1.trim().to_owned()));
        Machine {
            cpu: model.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, |n| n.get()),
            instruction_set: format!("{:?}", Isa::detect().name()),
            os: std::env::consts::OS,
        }
    }
}

impl RunFolder {
    /// Makes a new folder: `name`, or `name-2`, `name-3` … if that exists and `exist_ok` is not set. With `exist_ok`, only the
    /// files of the existing run are removed. `isa` and `tuning` are the executor's [`isa`](crate::executor::Executor::isa) and
    /// [`tuning_hash`](crate::executor::Executor::tuning_hash).
    ///
    /// # Errors
    /// The folder cannot be made or written, another process writes there, or its content is not a run's.
    pub fn create(
        config: &TrainConfig,
        tasks: &[&str],
        isa: Option<IsaName>,
        tuning: Option<&str>,
    ) -> Result<RunFolder> {
        let parent = &config.project;
        let asked = parent.join(&config.name);
        let refused = if config.exist_ok { files::replaced(&asked, tasks).err() } else { None };
        // Without a lock file no process writes there, and a refused folder should not get one. With a lock file, the check
        // below decides.
        if let Some(error) = refused.filter(|_| !asked.join(LOCK).exists()) {
            return Err(error);
        }
        std::fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        mark_project(parent)?;
        // The default's parent holds the built-in digits, which are images. Any other parent is the user's own folder.
        if parent.ends_with("runs/train") {
            mark_project(config.shared_folder())?;
        }
        let path = if config.exist_ok {
            std::fs::create_dir_all(&asked).map_err(Error::io("create", &asked))?;
            asked
        } else {
            first_free(parent, &config.name)?
        };
        let mut lock = RunLock::acquire(&path)?;
        let old = files::replaced(&path, tasks)?;
        lock.sign()?;
        for file in old {
            std::fs::remove_file(&file).map_err(Error::io("remove", &file))?;
        }
        // This file is written first, because it says whose the other files are.
        let id = format!("{:016x}", RandomState::new().build_hasher().finish());
        write_args(&path, lock::command(), config, tasks, Some(&id), isa, tuning)?;
        let weights = path.join(WEIGHTS);
        std::fs::create_dir_all(&weights).map_err(Error::io("create", &weights))?;
        Ok(RunFolder { log: open_log(&path)?, path, id: Some(id), lock })
    }

    /// Opens the folder of a run of `tasks` to resume it. Removes half-written files of a killed run.
    ///
    /// # Errors
    /// The log cannot be written.
    pub fn open(path: &Path, tasks: &[&str], lock: RunLock) -> Result<RunFolder> {
        for part in files::half_written(path, tasks) {
            std::fs::remove_file(&part).map_err(Error::io("remove", &part))?;
        }
        Ok(RunFolder { log: open_log(path)?, path: path.to_path_buf(), id: id_of(path), lock })
    }

    /// Writes args.yaml again from the state of the run. It keeps the command that started the run, if the file still names it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn rewrite_args(&self, tasks: &[&str], state: &RunState) -> Result<()> {
        let old = std::fs::read_to_string(self.path.join(ARGS)).unwrap_or_default();
        let old = yaml::read::<yaml::Tree>(&old).ok();
        let command = old.as_ref().and_then(|old| old.value.get("command")?.as_str()).map(str::to_owned);
        let command = command.unwrap_or_else(lock::command);
        let id = state.id.as_deref();
        write_args(&self.path, command, &state.config, tasks, id, state.isa, state.tuning.as_deref())
    }

    /// Path of the weights file called `name`, such as `last` or `best`.
    pub fn weights(&self, name: &str) -> PathBuf {
        self.path.join(files::weights_file(name))
    }

    /// Appends a line to `log.txt`.
    ///
    /// # Errors
    /// The log cannot be written.
    pub fn log(&mut self, line: &str) -> Result<()> {
        writeln!(self.log, "{}", visible(line)).map_err(Error::io("write", self.path.join(LOG)))
    }
}

/// The id in the args.yaml of a run's folder.
pub(super) fn id_of(folder: &Path) -> Option<String> {
    let text = std::fs::read_to_string(folder.join(ARGS)).ok()?;
    let tree = yaml::read::<yaml::Tree>(&text).ok()?;
    id_in(&text, &tree.value)
}

/// The id as it is written. An id of digits alone, or one such as `1234567890123e45`, is a number in YAML.
fn id_in(text: &str, tree: &yaml::Value) -> Option<String> {
    match tree.get("id")? {
        yaml::Value::String(id) => Some(id.clone()),
        _ => {
            let line = text.lines().find_map(|line| line.strip_prefix("id:"))?;
            Some(line.trim().to_owned()).filter(|id| !id.is_empty())
        }
    }
}

fn open_log(path: &Path) -> Result<File> {
    let log = path.join(LOG);
    OpenOptions::new().create(true).append(true).open(&log).map_err(Error::io("write", &log))
}

fn write_args(
    folder: &Path,
    command: String,
    config: &TrainConfig,
    tasks: &[&str],
    id: Option<&str>,
    isa: Option<IsaName>,
    tuning: Option<&str>,
) -> Result<()> {
    let provenance = Provenance {
        command,
        version: env!("CARGO_PKG_VERSION"),
        commit: env!("POLYHEAD_COMMIT"),
        machine: Machine::this(),
        id,
        isa,
        tuning,
        tasks,
        config,
    };
    let text = yaml::write(&provenance).map_err(|e| Error::Other(format!("{ARGS}: {e}")))?;
    crate::files::write_synced(&folder.join(ARGS), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Choices;
    use crate::recipe::Recipe;

    #[test]
    fn an_id_that_yaml_takes_for_a_number_is_read_as_it_is_written() {
        for id in ["0123456789012345", "1234567890123e45", "00000000000000e0", "a123456789012345"] {
            for text in [format!("id: {id}\nseed: 1\n"), format!("id: '{id}'\n")] {
                let tree = yaml::read::<yaml::Tree>(&text).unwrap();
                assert_eq!(id_in(&text, &tree.value).as_deref(), Some(id), "{text}");
            }
        }
        let none = yaml::read::<yaml::Tree>("seed: 1\n").unwrap();
        assert_eq!(id_in("seed: 1\n", &none.value), None);
    }

    #[test]
    fn args_yaml_names_the_instruction_set_and_the_tuning_and_is_read_back() {
        let project = std::env::temp_dir().join(format!("polyhead-run-{}", std::process::id()));
        let config = TrainConfig { project: project.clone(), ..Recipe::QuickStart.config() };
        let tunings = [None, Some("00e4f1a2b3c4d5e6"), Some("1234567890123456")];
        for (isa, tuning) in [Some(IsaName::Avx2), None, None].into_iter().zip(tunings) {
            let folder = RunFolder::create(&config, &["a task: 1", "2"], isa, tuning).unwrap();
            let text = std::fs::read_to_string(folder.path.join("args.yaml")).unwrap();
            let yaml = yaml::read::<yaml::Tree>(&text).unwrap().value;
            assert_eq!(yaml.get("isa").and_then(|t| t.as_str()), isa.map(IsaName::word), "{text}");
            assert_eq!(yaml.get("tuning").and_then(|t| t.as_str()), tuning, "{text}");
            let tasks = yaml.get("tasks").and_then(|t| t.as_array()).unwrap();
            assert_eq!(tasks, &["a task: 1".into(), "2".into()] as &[yaml::Value], "{text}");
            let read: TrainConfig = yaml::read(&text).unwrap();
            assert_eq!(read, config);
            let mut repeated = TrainConfig::default();
            Choices::read(&folder.path).unwrap().apply(&mut repeated).unwrap();
            // A repeated run has its own place.
            assert_eq!(TrainConfig { project: project.clone(), ..repeated }, config);
        }
        std::fs::remove_dir_all(project).unwrap();
    }
}
