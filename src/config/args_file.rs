//! A run's args.yaml, read back. Not here: what writes it, and the choices that a person may have in such a file of their own.

use super::TrainConfig;
use crate::error::{Error, Result};
use crate::reading::yaml;
use serde::Deserialize;
use std::path::Path;

/// The keys that every run writes besides its choices. Other programs write an args.yaml, too, but none with all of these keys.
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
    /// Older versions did not write it.
    #[serde(default)]
    tasks: Vec<String>,
}

/// The names of the run's tasks in the text of its args.yaml, none if an older version wrote it; `None` if no run wrote the text.
pub fn tasks_of_run(text: &str) -> Option<Vec<String>> {
    yaml::read::<Provenance>(text).ok().map(|provenance| provenance.tasks)
}

impl TrainConfig {
    /// Reads the choices in a run's args.yaml; those that it does not name are at their defaults.
    ///
    /// # Errors
    /// A file that cannot be read, or that no run wrote.
    pub fn read(file: &Path) -> Result<TrainConfig> {
        let text = std::fs::read_to_string(file).map_err(Error::io("read", file))?;
        // Without this check any block of keys would be a run on the built-in digits, since every choice has a default.
        yaml::read::<Provenance>(&text)
            .and_then(|_| yaml::read(&text))
            .map_err(|e| Error::data(file, e.line, format!("not a run's configuration: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_no_run_wrote_is_no_configuration() {
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
