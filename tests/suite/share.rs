//! `polyhead card`: the description of a model, and the folder to give to others.

use crate::cli::{digits, fail, path, said, succeed, train};
use crate::step::Folder;
use std::path::Path;

#[test]
fn a_shared_model_predicts_the_same_and_names_no_path() {
    let folder = Folder::new("share");
    let data = digits(&folder, 16);
    let first = train(&folder, &data, "first", &["--epochs", "1"]);
    let run_folder = train(&folder, &data, "second", &["--epochs", "1", "--weights", &first, "--lr-trunk", "0.5"]);
    let text = succeed(&["card", &run_folder]);
    for words in ["# A model of polyhead", "| paper | classification |", "| digits/AP | ", "lr_trunk: 0.5\n"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    // `last` holds the whole state of the run, with its paths.
    let last = path(&folder, "runs/train/second/weights/last.safetensors");
    for (name, model) in [("of-run", &run_folder), ("of-last", &last)] {
        let out = path(&folder, name);
        assert!(succeed(&["card", model, "--share", &out]).contains("predict with: polyhead predict "));
        let mut files: Vec<_> =
            std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        assert_eq!(files, ["README.md", "model.safetensors"]);
        let home = folder.path.to_string_lossy().into_owned();
        for file in files {
            let bytes = std::fs::read(Path::new(&out).join(&file)).unwrap();
            let found = bytes.windows(home.len()).any(|part| part == home.as_bytes());
            assert!(!found, "{file} of {name} names {home}");
        }
        fail(&["card", model, "--share", &out], 1, &["already exists and is not empty: give a new folder"]);
    }
    assert_eq!(std::fs::read_to_string(path(&folder, "of-run/README.md")).unwrap(), text);
    let answers = |model: &str, out: &str| {
        succeed(&["predict", model, &format!("{data}/test"), "--out", &path(&folder, out), "--no-images"]);
        std::fs::read_to_string(Path::new(&path(&folder, out)).join("predictions.jsonl")).unwrap()
    };
    assert_eq!(answers(&run_folder, "a"), answers(&path(&folder, "of-run/model.safetensors"), "b"));
    assert!(said(&["evaluate", &path(&folder, "of-run/model.safetensors"), &data]).is_empty());
    fail(&["card", &path(&folder, "nowhere")], 2, &["does not exist: give a run's folder or a weights file"]);
}
