//! Killed runs and truncated checkpoints: a run resumes bit for bit from whatever was saved completely. `tests/kill.sh` by
//! itself can run any number of kills.

use crate::cli::{SMALL, digits, fail, interrupt, path, polyhead, succeed, text, timeless_table};
use crate::step::Folder;
use std::path::Path;
use std::process::Command;

#[test]
fn a_run_killed_at_random_moments_ends_like_an_undisturbed_one() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kill.sh");
    let output = Command::new("bash").arg(script).arg("8").arg(polyhead().get_program()).output().unwrap();
    let said = text(&output.stdout);
    assert!(output.status.success() && said.starts_with("killed 8 times"), "{said}{}", text(&output.stderr));
}

/// The tensors of the final state, and the table without times.
pub fn end_of(run: &str) -> (Vec<(String, Vec<u32>)>, Vec<String>) {
    let file = Path::new(run).join("weights/last.safetensors");
    let tensors = polyhead::model::weights::read(&file).unwrap().tensors;
    let bits = |t: &candle_core::Tensor| -> Vec<u32> {
        t.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
    };
    (tensors.iter().map(|(name, t)| (name.clone(), bits(t))).collect(), timeless_table(run))
}

#[test]
fn a_checkpoint_truncated_anywhere_is_replaced_by_the_previous_one() {
    let folder = Folder::new("cut-checkpoint");
    let (data, project) = (digits(&folder, 24), path(&folder, "runs/train"));
    let run = |name: &str| -> Vec<String> {
        let own = ["train", &data, "--project", &project, "--name", name, "--epochs", "6", "--save-minutes", "0.0001"];
        own.into_iter().chain(SMALL).map(str::to_owned).collect()
    };
    succeed(&run("whole").iter().map(String::as_str).collect::<Vec<_>>());
    let expected = end_of(&path(&folder, "runs/train/whole"));

    let cut = path(&folder, "runs/train/cut");
    interrupt(&run("cut").iter().map(String::as_str).collect::<Vec<_>>(), &cut);
    let weights = Path::new(&cut).join("weights");
    let (last, previous) = (weights.join("last.safetensors"), weights.join("previous.safetensors"));
    let (newest, older) = (std::fs::read(&last).unwrap(), std::fs::read(&previous).unwrap());
    let table = std::fs::read(Path::new(&cut).join("results.csv")).unwrap();
    assert!(newest != older);
    for left in [0, 5, 8, 300, newest.len() / 2, newest.len() - 1] {
        std::fs::write(&last, &newest[..left]).unwrap();
        std::fs::remove_file(&previous).unwrap();
        std::fs::write(&previous, &older).unwrap();
        std::fs::write(Path::new(&cut).join("results.csv"), &table).unwrap();
        let output = polyhead().args(["train", "--resume", &cut]).output().unwrap();
        let said = text(&output.stderr);
        assert!(output.status.success() && said.contains("not a complete safetensors file"), "{left} bytes: {said}");
        assert!(said.contains("going on from the state before it"), "{said}");
        assert!(end_of(&cut) == expected, "cut to {left} bytes: another end");
    }
    // If both are truncated, the newest is named, and nothing is changed.
    std::fs::write(&last, &newest[..100]).unwrap();
    std::fs::remove_file(&previous).unwrap();
    std::fs::write(&previous, &older[..100]).unwrap();
    fail(&["train", "--resume", &cut], 1, &["last.safetensors", "not a complete safetensors file"]);
    assert_eq!(std::fs::read(&last).unwrap().len(), 100);
}

#[test]
fn an_output_that_cannot_be_written_is_named_before_anything_is_computed() {
    let folder = Folder::new("unwritable");
    let data = digits(&folder, 8);
    std::fs::write(folder.path.join("file"), "").unwrap();
    let project = path(&folder, "file");
    fail(&[&["train", &data, "--project", &project], &SMALL[..]].concat(), 1, &["cannot create", "/file"]);
}
