//! The folder of a run: its name, the resolved configuration, the results table, the log.

use super::files::{self, ARGS, LOG, TABLE, WEIGHTS};
use super::lock::{self, LOCK, RunLock};
use crate::config::TrainConfig;
use crate::data::RUNS_MARKER;
use crate::device::cpu::{Isa, IsaName};
use crate::error::{Error, Result};
use crate::reading::yaml;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

/// The folder `<project>/train/<name>` with its lock.
pub struct RunFolder {
    /// The run's folder, `<project>/train/<name>`.
    pub path: PathBuf,
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
    /// Makes a new folder: `name`, or `name2`, `name3` … if that exists and `exist_ok` is not set. With `exist_ok`, only the
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
        let parent = config.project.join("train");
        let asked = parent.join(&config.name);
        let refused = if config.exist_ok { files::replaced(&asked, tasks).err() } else { None };
        // Without a lock file no process writes there, and a refused folder should not get one. With a lock file, the check
        // below decides.
        if let Some(error) = refused.filter(|_| !asked.join(LOCK).exists()) {
            return Err(error);
        }
        std::fs::create_dir_all(&parent).map_err(Error::io("create", &parent))?;
        let marker = config.project.join(RUNS_MARKER);
        // The file is not truncated, because it might be a link.
        File::options().append(true).create(true).open(&marker).map_err(Error::io("write", &marker))?;
        let path = if config.exist_ok {
            std::fs::create_dir_all(&asked).map_err(Error::io("create", &asked))?;
            asked
        } else {
            first_free(&parent, &config.name)?
        };
        let mut lock = RunLock::acquire(&path)?;
        let old = files::replaced(&path, tasks)?;
        lock.sign()?;
        for file in old {
            std::fs::remove_file(&file).map_err(Error::io("remove", &file))?;
        }
        // This file is written first, because it says whose the other files are.
        write_args(&path, config, tasks, isa, tuning)?;
        let weights = path.join(WEIGHTS);
        std::fs::create_dir_all(&weights).map_err(Error::io("create", &weights))?;
        Ok(RunFolder { log: open_log(&path)?, path, lock })
    }

    /// Opens the folder of a run of `tasks` to resume it. Removes half-written files of a killed run.
    ///
    /// # Errors
    /// The log cannot be written.
    pub fn open(path: &Path, tasks: &[&str], lock: RunLock) -> Result<RunFolder> {
        for part in files::half_written(path, tasks) {
            std::fs::remove_file(&part).map_err(Error::io("remove", &part))?;
        }
        Ok(RunFolder { log: open_log(path)?, path: path.to_path_buf(), lock })
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
        writeln!(self.log, "{line}").map_err(Error::io("write", self.path.join(LOG)))
    }
}

fn open_log(path: &Path) -> Result<File> {
    let log = path.join(LOG);
    OpenOptions::new().create(true).append(true).open(&log).map_err(Error::io("write", &log))
}

fn write_args(
    folder: &Path,
    config: &TrainConfig,
    tasks: &[&str],
    isa: Option<IsaName>,
    tuning: Option<&str>,
) -> Result<()> {
    let provenance = Provenance {
        command: lock::command(),
        version: env!("CARGO_PKG_VERSION"),
        commit: env!("POLYHEAD_COMMIT"),
        machine: Machine::this(),
        isa,
        tuning,
        tasks,
        config,
    };
    let text = yaml::write(&provenance).map_err(|e| Error::Other(format!("{ARGS}: {e}")))?;
    crate::files::write_synced(&folder.join(ARGS), text.as_bytes())
}

fn first_free(parent: &Path, name: &str) -> Result<PathBuf> {
    let mut number = 1;
    loop {
        let path = parent.join(if number == 1 { name.to_owned() } else { format!("{name}{number}") });
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
            Err(e) => return Err(Error::io("create", &path)(e)),
        }
    }
}

/// `results.csv`: one row per epoch.
pub struct ResultsTable {
    file: File,
    path: PathBuf,
    /// Columns of an older version that are no longer written; they stay at the end and are blank from now on.
    retired: usize,
}

impl ResultsTable {
    /// Opens the table and drops rows of epochs after `epochs_done`, which an interrupted run may have written. Rows of another
    /// version keep their values in columns of the same name; new columns are blank.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(folder: &RunFolder, columns: &[String], epochs_done: u64) -> Result<ResultsTable> {
        let path = folder.path.join(TABLE);
        let old = std::fs::read(&path).unwrap_or_default();
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(old.as_slice());
        let header: Vec<String> = reader.headers().map(|h| h.iter().map(str::to_owned).collect()).unwrap_or_default();
        let retired: Vec<&String> = header.iter().filter(|h| !columns.contains(h)).collect();
        let names: Vec<String> = columns.iter().chain(retired.iter().copied()).cloned().collect();
        let places: Vec<Option<usize>> = names.iter().map(|name| header.iter().position(|h| h == name)).collect();
        let mut text = csv_line(&names);
        for row in reader.records().filter_map(|r| r.ok()) {
            let epoch = row.get(0).and_then(|e| e.parse::<u64>().ok());
            if epoch.is_some_and(|e| e <= epochs_done) && row.len() == header.len() {
                let cell = |place: &Option<usize>| place.and_then(|p| row.get(p)).unwrap_or_default().to_owned();
                text.push_str(&csv_line(&places.iter().map(cell).collect::<Vec<_>>()));
            }
        }
        let retired = retired.len();
        crate::files::write_synced(&path, text.as_bytes())?;
        let mut file = OpenOptions::new().append(true).open(&path).map_err(Error::io("write", &path))?;
        file.seek(std::io::SeekFrom::End(0)).map_err(Error::io("write", &path))?;
        Ok(ResultsTable { file, path, retired })
    }

    /// # Errors
    /// The table cannot be written.
    pub fn row(&mut self, cells: &[String]) -> Result<()> {
        let cells = [cells, &vec![String::new(); self.retired]].concat();
        self.file.write_all(csv_line(&cells).as_bytes()).map_err(Error::io("write", &self.path))
    }
}

/// One row; cells are quoted if necessary.
fn csv_line(cells: &[String]) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    // Writing to memory cannot fail, and a single row cannot differ from others in length.
    let _ = writer.write_record(cells);
    String::from_utf8(writer.into_inner().unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Choices;
    use crate::recipe::Recipe;

    #[test]
    fn a_table_of_other_columns_keeps_its_rows_under_the_same_names() {
        let path = std::env::temp_dir().join(format!("polyhead-table-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let folder = RunFolder::open(&path, &[], RunLock::take(&path).unwrap()).unwrap();
        let strings = |cells: &[&str]| -> Vec<String> { cells.iter().map(|c| (*c).to_owned()).collect() };
        // The second row is cut short, the fourth belongs to an unfinished epoch.
        let old = "epoch,\"train/a,b/loss\",gone,lr\n1,0.5,x,0.01\n2,0.4\n3,0.3,y,0.02\n4,0.2,z,0.03\n";
        std::fs::write(path.join("results.csv"), old).unwrap();
        let columns = strings(&["epoch", "train/a,b/loss", "weighted/a,b", "lr"]);
        let expected = "epoch,\"train/a,b/loss\",\"weighted/a,b\",lr,gone\n1,0.5,,0.01,x\n3,0.3,,0.02,y\n4,1,2,3,\n";
        let mut table = ResultsTable::open(&folder, &columns, 3).unwrap();
        table.row(&strings(&["4", "1", "2", "3"])).unwrap();
        assert_eq!(std::fs::read_to_string(path.join("results.csv")).unwrap(), expected);
        ResultsTable::open(&folder, &columns, 4).unwrap();
        assert_eq!(std::fs::read_to_string(path.join("results.csv")).unwrap(), expected);
        std::fs::remove_file(path.join("results.csv")).unwrap();
        ResultsTable::open(&folder, &columns, 0).unwrap();
        let header = expected.lines().next().unwrap().trim_end_matches(",gone");
        assert_eq!(std::fs::read_to_string(path.join("results.csv")).unwrap().trim_end(), header);
        std::fs::remove_dir_all(path).unwrap();
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
            assert_eq!(repeated, config);
        }
        std::fs::remove_dir_all(project).unwrap();
    }
}
