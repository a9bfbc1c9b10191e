//! Reads a run's args.yaml back. It is written elsewhere, and files of the user's own choices are read in `choices`.

use super::TrainConfig;
use crate::error::{Error, Result};
use crate::reading::yaml;
use serde::Deserialize;
use std::path::Path;

/// The keys that every run writes besides its choices. Other programs also write an args.yaml, but none with all of these keys.
#[derive(Deserialize)]
struct Provenance {
    #[serde(rename = "command")]
    _command: String,
    #[serde(rename = "version")]
    _version: String,
    #[serde(rename = "commit")]
    _commit: String,
    #[serde(rename = "machine")]
    _machine: yaml::Mapping,
    /// Absent in files of older versions.
    #[serde(default)]
    tasks: Vec<String>,
}

/// The names of the run's tasks from the text of its args.yaml, none if an older version wrote it; `None` if the text is not from
/// a run.
pub fn tasks_of_run(text: &str) -> Option<Vec<String>> {
    yaml::read::<Provenance>(text).ok().map(|provenance| provenance.tasks)
}

/// Whether the text of an args.yaml is a run's, perhaps a damaged one: it has one of the keys that only runs write.
pub fn is_of_run(text: &str) -> bool {
    let own = ["command:", "version:", "commit:", "machine:"];
    text.lines().any(|line| own.iter().any(|key| line.starts_with(key)))
}

impl TrainConfig {
    /// Reads the choices in a run's args.yaml; choices that it does not name have their defaults.
    ///
    /// # Errors
    /// The file cannot be read, or was not written by a run.
    pub fn read(file: &Path) -> Result<TrainConfig> {
        let text = std::fs::read_to_string(file).map_err(Error::io("read", file))?;
        // Without this check any mapping would count as a run on the built-in digits, because every choice has a
        // default.
        yaml::read::<Provenance>(&text)
            .and_then(|_| yaml::read(&text))
            .map_err(|e| Error::data(file, e.line, format!("not a run's configuration: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_no_run_wrote_is_refused() {
        let file = std::env::temp_dir().join(format!("polyhead-args-{}.yaml", std::process::id()));
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            TrainConfig::read(&file)
        };
        let run = "command: polyhead train\nversion: 0.1.0\ncommit: abc\nmachine:\n  cores: 2\nepochs: 7\n";
        assert_eq!(read(run).unwrap(), TrainConfig { epochs: 7, ..TrainConfig::default() });
        assert_eq!(tasks_of_run(run), Some(Vec::new()));
        assert_eq!(tasks_of_run(&format!("{run}tasks: [a, b]\n")), Some(vec!["a".to_owned(), "b".to_owned()]));
        let yolo = "task: detect\nmode: train\nepochs: 3\nname: x\n";
        for text in ["", "{}\n", yolo, &run.replace("commit: abc\n", "")] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("polyhead-args-") && error.contains("not a run's configuration: "), "{error}");
            assert_eq!(tasks_of_run(text), None);
        }
        std::fs::remove_file(&file).unwrap();
    }
}
