//! Damaged files: a bit that changes in a checkpoint, in weights or in a cached image is noticed or changes nothing.

use crate::cli::{SMALL, digits, fail, interrupt, path, succeed, text};
use crate::kill::end_of;
use crate::step::Folder;
use polyhead::model::weights::{self, StateFile};
use std::collections::BTreeMap;
use std::path::Path;

/// The file with one bit changed: every fifth bit of the first 96 bytes, then bits spread up to the end, and the last one.
fn flips(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let all = bytes.len() * 8;
    let spread = (0..150).map(move |number| (number * (all / 150) + number * 13) % all);
    (0..96 * 8).step_by(5).chain(spread).chain([all - 1]).map(move |bit| {
        let mut damaged = bytes.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        damaged
    })
}

/// Metadata and numbers by name, without texts whose key no version of polyhead reads.
fn content(file: &StateFile) -> BTreeMap<String, Vec<u8>> {
    let texts = ["polyhead", "polyhead.run"].into_iter().filter_map(|key| Some((key, file.metadata.get(key)?)));
    let texts = texts.map(|(key, text)| (format!("metadata {key}"), text.clone().into_bytes()));
    let bytes = |tensor: &candle_core::Tensor| safetensors::View::data(&tensor).into_owned();
    texts.chain(file.tensors.iter().map(|(name, tensor)| (name.clone(), bytes(tensor)))).collect()
}

#[test]
fn a_bit_that_changes_in_a_checkpoint_is_noticed_or_changes_nothing() {
    let folder = Folder::new("bits");
    let (data, project) = (digits(&folder, 24), path(&folder, "runs/train"));
    let run = |name: &'static str| {
        let own = ["train", &data, "--project", &project, "--name", name, "--epochs", "12", "--save-minutes", "0.0001"];
        [&own, &SMALL[..]].concat()
    };
    succeed(&run("whole"));
    let expected = end_of(&path(&folder, "runs/train/whole"));
    let cut = path(&folder, "runs/train/cut");
    interrupt(&run("cut"), &cut);
    let file = |name: &str| Path::new(&cut).join(format!("weights/{name}.safetensors"));
    let damaged = folder.path.join("damaged.safetensors");
    for name in ["last", "best"] {
        let bytes = std::fs::read(file(name)).unwrap();
        let whole = content(&weights::read(&file(name)).unwrap());
        let (mut refused, mut tried) = (0, 0);
        for flipped in flips(&bytes) {
            std::fs::write(&damaged, flipped).unwrap();
            tried += 1;
            match weights::read(&damaged) {
                Err(_) => refused += 1,
                Ok(read) => assert!(content(&read) == whole, "{name}: change {tried} was accepted"),
            }
        }
        // Only a checksum without its name is no checksum: 17 bytes of the key, of which every fifth bit was changed.
        assert!(tried - refused <= 17 * 8 / 5 + 1, "{name}: {refused} of {tried} were refused");
    }
    // The commands say which file is damaged. A run goes on from the state before it and ends the same.
    let mut best = std::fs::read(file("best")).unwrap();
    let at = best.len() - 5;
    best[at] ^= 4;
    std::fs::write(file("best"), &best).unwrap();
    let images = format!("{data}/val");
    let predict = ["predict", &cut, &images, "--no-images", "--out", &path(&folder, "out")];
    fail(&predict, 1, &["best.safetensors: its content does not match its checksum"]);
    // `resume` has the test of a run that goes on without it.
    best[at] ^= 4;
    std::fs::write(file("best"), &best).unwrap();
    let mut last = std::fs::read(file("last")).unwrap();
    let at = last.len() / 2;
    last[at] ^= 1;
    std::fs::write(file("last"), last).unwrap();
    let output = crate::cli::run(&["train", "--resume", &cut]);
    let said = text(&output.stderr);
    assert!(
        output.status.success() && said.contains("last.safetensors: its content does not match its checksum"),
        "{said}"
    );
    assert!(said.contains("going on from the state before it"), "{said}");
    assert!(end_of(&cut) == expected, "another end");
}

#[test]
fn a_bit_that_changes_in_a_cached_image_changes_no_run() {
    let folder = Folder::new("cached-bits");
    let (data, project) = (digits(&folder, 24), path(&folder, "runs/train"));
    let run = |name: &'static str, cache: &'static str| {
        let own = ["train", &data, "--project", &project, "--name", name, "--epochs", "2", "--cache", cache];
        [&own, &SMALL[..]].concat()
    };
    succeed(&run("none", "none"));
    succeed(&run("first", "disk"));
    let entries = std::fs::read_dir(folder.path.join("runs/cache")).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    // The folder has a hidden mark besides the images.
    files.retain(|file| !file.ends_with(".polyhead"));
    files.sort();
    assert_eq!(files.len(), 24 + 9);
    for (number, file) in files.iter().enumerate() {
        let mut bytes = std::fs::read(file).unwrap();
        let bit = (number * 7919) % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(file, bytes).unwrap();
    }
    succeed(&run("second", "disk"));
    succeed(&run("third", "disk"));
    let end = |name: &str| end_of(&path(&folder, &format!("runs/train/{name}")));
    assert!(end("first") == end("none") && end("second") == end("none") && end("third") == end("none"));
    let log = |name: &str| std::fs::read_to_string(folder.path.join(format!("runs/train/{name}/log.txt"))).unwrap();
    let note = "of the cache did not match the checksum";
    assert_eq!(log("second").matches(&format!("note: 33 files {note}")).count(), 1, "{}", log("second"));
    assert!(!log("first").contains(note) && !log("third").contains(note));
}

/// The metadata of a checkpoint with one value of its run's state replaced.
fn with_state(file: &Path, place: &str, value: serde_json::Value) {
    let StateFile { tensors, mut metadata, .. } = weights::read(file).unwrap();
    let mut state: serde_json::Value = serde_json::from_str(&metadata["polyhead.run"]).unwrap();
    *state.pointer_mut(place).expect("a place in the state") = value;
    metadata.insert("polyhead.run".into(), state.to_string());
    weights::write(file, &tensors, metadata).unwrap();
}

#[test]
fn a_state_with_lists_of_another_length_is_refused() {
    let folder = Folder::new("state-lists");
    let (data, project) = (digits(&folder, 16), path(&folder, "runs/train"));
    let run = path(&folder, "runs/train/run");
    interrupt(
        &[&["train", &data, "--project", &project, "--name", "run", "--epochs", "500"], &SMALL[..]].concat(),
        &run,
    );
    let file = |name: &str| Path::new(&run).join(format!("weights/{name}.safetensors"));
    std::fs::remove_file(file("previous")).unwrap();
    let whole = std::fs::read(file("last")).unwrap();
    let one = || serde_json::json!([[1.0, 1]]);
    let losses = serde_json::json!(vec![vec![serde_json::json!({}); 600]; 3]);
    for (list, value, words) in [
        ("/optimizer_steps", serde_json::json!([1]), "`optimizer_steps` has 1 entries, expected 4"),
        ("/optimizer_steps", serde_json::json!([1, 1, 1, 1, 1]), "has 5 entries"),
        ("/best_per_task", serde_json::json!([]), "`best_per_task` has 0 entries, expected 3"),
        ("/past", serde_json::json!([[]]), "`past` has 1 entries, expected 3"),
        ("/past_losses", losses, "`past_losses` has the losses of 600 epochs, expected at most "),
        ("/means/losses", one(), "`means.losses` has 1 entries"),
        ("/means/weights", serde_json::json!([]), "`means.weights` has 0 entries"),
        ("/means/weighted", one(), "`means.weighted` has 1 entries"),
        ("/means/gradients/cosines", one(), "`means.gradients.cosines` has 1 entries, expected 3"),
        ("/balance", serde_json::json!([1.0]), "the balancing state holds 1 numbers"),
        ("/elapsed_s", serde_json::json!(-1.0), "`elapsed_s` is -1"),
    ] {
        std::fs::write(file("last"), &whole).unwrap();
        with_state(&file("last"), list, value);
        fail(&["train", "--resume", &run], 1, &[words]);
    }
    for (choice, value) in
        [("threads", 1_000_000_000u64), ("workers", u64::MAX), ("batch", 1 << 40), ("imgsz", 1 << 40)]
    {
        std::fs::write(file("last"), &whole).unwrap();
        with_state(&file("last"), &format!("/config/{choice}"), value.into());
        fail(&["train", "--resume", &run], 2, &[&format!("--{choice} {value}: expected at most")]);
    }
}

#[test]
fn numbers_of_any_size_are_refused_in_one_sentence() {
    let huge = ["1000000000", "9223372036854775807", "18446744073709551615", "18446744073709551616"];
    // Inputs must exist; nothing is read from them.
    let folder = Folder::new("huge-numbers");
    let (place, out) = (path(&folder, ""), path(&folder, "out"));
    let train = ["train", &place];
    let [predict, evaluate] =
        [["predict", &place, &place, "--out", &out], ["evaluate", &place, "--device", "cpu", "--imgsz=64"]];
    for number in huge {
        for flag in ["--batch", "--workers", "--threads", "--accumulate", "--imgsz", "--epochs"] {
            if !(flag == "--epochs" && number.len() == 10) {
                fail(&[&train[..], &[flag, number]].concat(), 2, &[flag, number, "expected"]);
            }
        }
        for flag in ["--batch", "--workers", "--threads"] {
            // predict takes any batch up to 2³⁰ images.
            if !(flag == "--batch" && number.len() == 10) {
                fail(&[&predict[..], &[flag, number]].concat(), 2, &[flag, number]);
            }
        }
        for flag in ["--batch", "--workers"] {
            fail(&[&evaluate[..], &[flag, number]].concat(), 2, &[flag, number]);
        }
        fail(&["bench", "infer", "--backbone", "tiny", "--threads", number], 2, &["--threads", number]);
        fail(&["bench", "infer", "--backbone", "tiny", "--imgsz", number], 2, &["--imgsz", number]);
    }
    for flag in ["--batch", "--accumulate", "--imgsz", "--epochs"] {
        fail(&[&train[..], &[flag, "0"]].concat(), 2, &[flag, "expected"]);
    }
}
