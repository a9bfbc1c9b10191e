//! A full disk, simulated by a limit on file sizes: existing files stay unchanged, and no half-written file is left.

use crate::cli::{SMALL, digits, interrupt, path, polyhead, succeed, text};
use crate::step::Folder;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs with a limit of this many blocks of 512 bytes per file; writing beyond it fails.
fn run_with_room(blocks: usize, args: &[&str]) -> Output {
    let binary = polyhead().get_program().to_os_string();
    let script = format!("ulimit -f {blocks}; exec \"$@\"");
    Command::new("sh").args(["-c", &script, "sh"]).arg(binary).args(args).output().unwrap()
}

/// The files in `folders`, with their bytes.
fn contents(folders: &[&Path]) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = folders.iter().flat_map(|f| std::fs::read_dir(f).unwrap()).map(|e| e.unwrap().path());
    let mut files: Vec<_> = entries.filter(|p| p.is_file()).map(|p| (p.clone(), std::fs::read(&p).unwrap())).collect();
    files.sort();
    files
}

#[test]
fn a_full_disk_leaves_existing_files_unchanged() {
    let folder = Folder::new("full-disk");
    let (data, project) = (digits(&folder, 8), path(&folder, "runs/train"));
    let run_folder = path(&folder, "runs/train/kept");
    let long = ["train", &data, "--project", &project, "--name", "kept", "--epochs", "1000"];
    interrupt(&[&long, &SMALL[..]].concat(), &run_folder);
    let (answers, images) = (path(&folder, "answers"), format!("{data}/val"));
    let (scenes, figures) = (path(&folder, "scenes"), path(&folder, "figures.json"));
    succeed(&["predict", &run_folder, &images, "--out", &answers, "--no-images"]);
    succeed(&["evaluate", &run_folder, "--json", &figures]);
    let places = [&folder.path.join("runs/train/kept/weights"), Path::new(&answers), &folder.path];
    let before = contents(&places);
    // 128 KiB are enough for the table and the log, but not for weights.
    let cases: [(usize, &[&str]); 4] = [
        (256, &["train", "--resume", &run_folder]),
        (0, &["predict", &run_folder, &images, "--out", &answers]),
        (0, &["data", "digits", &scenes]),
        (0, &["evaluate", &run_folder, "--json", &figures]),
    ];
    for (blocks, args) in cases {
        let output = run_with_room(blocks, args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        let error = said.lines().last().unwrap_or_default();
        assert!(error.starts_with("error: cannot write"), "{args:?}: {said}");
        // The system's reason appears once, not once per link of an error chain.
        assert_eq!(error.matches("os error").count(), 1, "{error}");
        assert!(contents(&places) == before, "{args:?} changed what was there");
    }
    assert!(!Path::new(&scenes).exists());
    let hidden = std::fs::read_dir(&folder.path).unwrap().map(|e| e.unwrap().file_name());
    assert!(hidden.into_iter().all(|name| !name.to_string_lossy().starts_with('.')));
}
