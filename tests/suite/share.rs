//! `polyhead card`: the description of a model, and the folder to give to others.

use crate::cli::{digits, fail, path, polyhead, said, succeed, train};
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
    // In the folder of the weights, a bare file name still belongs to its run.
    let weights = Path::new(&run_folder).join("weights");
    let bare = |command: &str| {
        let output = polyhead().args([command, "best.safetensors"]).current_dir(&weights).output().unwrap();
        assert!(output.status.success(), "{}", crate::cli::text(&output.stderr));
        crate::cli::text(&output.stdout)
    };
    assert_eq!(bare("card"), text);
    let own = format!("best.safetensors on {data} (val split, 9 images)");
    assert!(bare("evaluate").starts_with(&own), "{own}");
    // Figures are those of the epoch of the weights, whatever else is in the table.
    let table = Path::new(&run_folder).join("results.csv");
    let rows = std::fs::read_to_string(&table).unwrap();
    let last = rows.lines().last().unwrap();
    let later = format!("2{}", last.strip_prefix('1').unwrap().replace("0.", "0.9"));
    std::fs::write(&table, format!("{rows}{later}\n")).unwrap();
    assert_eq!(succeed(&["card", &run_folder]), text);
    std::fs::write(&table, rows.replace(last, &later)).unwrap();
    assert!(!succeed(&["card", &run_folder]).contains("On the validation images"));
    std::fs::write(&table, &rows).unwrap();
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
