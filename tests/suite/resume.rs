//! Changes of a run or its data before it is resumed: those that are accepted, and those that are refused.

use crate::cli::{digits, fail, interrupt, path, said, timeless_table as table, train};
use crate::step::Folder;
use polyhead::model::Card;
use polyhead::model::weights::{self, StateFile};
use std::path::Path;

#[test]
fn a_finished_run_continues_with_more_epochs_and_the_schedule_is_planned_anew() {
    let folder = Folder::new("more-epochs");
    let data = digits(&folder, 16);
    let run_folder = train(&folder, &data, "first", &["--epochs", "2"]);
    let before = table(&run_folder);
    let words = said(&["train", "--resume", &run_folder, "--epochs", "4"]);
    assert!(words.contains("note: --epochs 4 (before: 2)"), "{words}");
    assert!(
        words.contains("the cosine schedule now ends with epoch 4: the run continues with the learning rate"),
        "{words}"
    );
    let after = table(&run_folder);
    assert_eq!((&after[..3], after.len()), (&before[..], 5));
    let args = std::fs::read_to_string(Path::new(&run_folder).join("args.yaml")).unwrap();
    assert!(args.contains("\nepochs: 4\n") && !args.contains("--resume"), "{args}");
    // Fewer are possible as long as the run has not done them yet.
    fail(&["train", "--resume", &run_folder, "--epochs", "3"], 2, &["has done 4 epochs", "expected at least 4"]);
    assert!(said(&["train", "--resume", &run_folder]).contains("nothing is left to do: 4 of 4 epochs done"));
    // A new place of the data is kept even if nothing is left to train.
    let moved = path(&folder, "elsewhere");
    std::fs::rename(&data, &moved).unwrap();
    assert!(said(&["train", &moved, "--resume", &run_folder]).contains("nothing is left to do"));
    assert!(said(&["train", "--resume", &run_folder]).contains("nothing is left to do: 4 of 4 epochs done"));
    std::fs::rename(&moved, &data).unwrap();
    fail(&["train", "--resume", &run_folder, "--epochs", "5", "--time", "1"], 2, &["--time replaces --epochs"]);
    let timed = train(&folder, &data, "timed", &["--time", "0.00001"]);
    fail(&["train", "--resume", &timed, "--epochs", "9"], 2, &["this run ends by --time 0.00001 h"]);
}

#[test]
fn a_run_with_fewer_epochs_ends_there() {
    let folder = Folder::new("fewer-epochs");
    let (data, project) = (digits(&folder, 16), path(&folder, "runs/train"));
    let args = [&["train", &data, "--project", &project, "--name", "cut", "--epochs", "300"], &crate::cli::SMALL[..]];
    let cut = path(&folder, "runs/train/cut");
    interrupt(&args.concat(), &cut);
    // A run that was interrupted in the middle of its third epoch ends with it.
    let epochs = table(&cut).len().to_string();
    let words = said(&["train", "--resume", &cut, "--epochs", &epochs]);
    assert!(words.contains("(before: 300)") && words.contains("done in"), "{words}");
    assert_eq!((table(&cut).len() - 1).to_string(), epochs);
    assert!(said(&["train", "--resume", &cut]).contains("nothing is left to do"));
}

#[test]
fn a_moved_run_with_moved_data_ends_like_an_undisturbed_one_and_writes_nowhere_else() {
    let folder = Folder::new("moved");
    let (data, project) = (digits(&folder, 24), path(&folder, "runs/train"));
    let more = ["--epochs", "40", "--cache", "disk"];
    let whole = train(&folder, &data, "whole", &more);
    let args = [&["train", &data, "--project", &project, "--name", "cut"], &crate::cli::SMALL[..], &more].concat();
    interrupt(&args, &path(&folder, "runs/train/cut"));
    let (new_data, moved) = (path(&folder, "elsewhere"), path(&folder, "other/train/moved"));
    std::fs::rename(&data, &new_data).unwrap();
    std::fs::create_dir_all(folder.path.join("other/train")).unwrap();
    std::fs::rename(path(&folder, "runs/train/cut"), &moved).unwrap();
    let expected = table(&whole);
    std::fs::remove_dir_all(&project).unwrap();
    fail(&["train", "--resume", &moved], 1, &[&data, "if it was moved: polyhead train NEW-PATH --resume"]);
    let words = said(&["train", &new_data, "--resume", &moved]);
    assert!(words.contains(&format!("note: the data set is now {new_data} (before: {data})")), "{words}");
    assert_eq!(table(&moved), expected);
    assert!(!Path::new(&project).exists() && folder.path.join("other/cache").is_dir());
}

#[test]
fn changed_labels_images_and_classes_are_named() {
    let folder = Folder::new("changed-data");
    let data = digits(&folder, 16);
    let run_folder = train(&folder, &data, "first", &["--epochs", "1"]);
    let resume = ["train", "--resume", &run_folder, "--epochs", "2"];
    let change = |file: &Path, new: &[u8], words: &[&str]| {
        let old = std::fs::read(file).unwrap();
        std::fs::write(file, new).unwrap();
        fail(&resume, 2, words);
        std::fs::write(file, old).unwrap();
    };
    let read = |file: &Path| std::fs::read_to_string(file).unwrap();
    let csv = Path::new(&data).join("labels.csv");
    let mut rows: Vec<Vec<String>> =
        read(&csv).lines().map(|line| line.split(',').map(str::to_owned).collect()).collect();
    let sum = rows[0].iter().position(|name| name == "sum").unwrap();
    let of_training = rows.iter().position(|row| row[0].starts_with("train/")).unwrap();
    rows[of_training][sum] = "99".into();
    let labels = rows.iter().map(|row| row.join(",") + "\n").collect::<String>();
    change(&csv, labels.as_bytes(), &["the labels of the task sum in the training images have changed", "--weights"]);
    let image = std::fs::read_dir(Path::new(&data).join("train")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&image).unwrap();
    bytes.push(0);
    change(&image, &bytes, &["the sizes of files of training images have changed"]);
    let yaml = Path::new(&data).join("data.yaml");
    let text = read(&yaml);
    assert!(text.contains("  sum: "), "{text}");
    change(&yaml, text.replace("  sum: ", "  total: ").as_bytes(), &["its tasks are", "total", "was started with"]);
    assert!(text.contains("flip_safe: false"), "{text}");
    change(
        &yaml,
        text.replace("flip_safe: false", "flip_safe: true").as_bytes(),
        &["`flip_safe`, which was false and is true, has changed since this run was started"],
    );
    change(
        &yaml,
        text.replace("crop_safe: true", "crop_safe: false").as_bytes(),
        &["`crop_safe` of the task paper, which was true and is false, has changed"],
    );
    assert!(said(&resume).contains("(before: 1)"));
}

#[test]
fn best_weights_that_are_missing_damaged_or_of_another_run_no_longer_count() {
    let folder = Folder::new("lost-best");
    let data = digits(&folder, 16);
    let run_folder = train(&folder, &data, "first", &["--epochs", "2"]);
    let other = train(&folder, &data, "other", &["--epochs", "2", "--seed", "1"]);
    let best = |run: &str, name: &str| Path::new(run).join(format!("weights/{name}.safetensors"));
    let state = || polyhead::train::checkpoint::load(&best(&run_folder, "last")).unwrap().state;
    let mut damaged = std::fs::read(best(&run_folder, "best")).unwrap();
    let at = damaged.len() - 5;
    damaged[at] ^= 4;
    let foreign = std::fs::read(best(&other, "best")).unwrap();
    let mut epochs = 2;
    let mut resume = || {
        epochs += 1;
        said(&["train", "--resume", &run_folder, "--epochs", &epochs.to_string()])
    };
    for (name, content, problem) in [
        ("best", None, "is missing"),
        ("best", Some(&damaged), "cannot be used (its content does not match its checksum"),
        ("best", Some(&foreign), "is not the file that this run saved"),
        ("best_paper", None, "is missing"),
        ("best_paper", Some(&foreign), "is not the file that this run saved"),
    ] {
        let file = best(&run_folder, name);
        match content {
            Some(content) => std::fs::write(&file, content).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        let before = state();
        let words = resume();
        let warning = format!("warning: weights/{name}.safetensors {problem}");
        assert!(
            words.contains(&warning)
                && words.contains("the weights after the next epoch, if there is one, take its place"),
            "{words}"
        );
        assert_eq!(words.matches("warning: ").count(), 1, "{words}");
        let state = state();
        if name == "best" {
            assert_eq!(state.kept_epoch, Some(state.epochs_done), "{words}");
            // --patience counts from the best epoch, even if its weights are lost.
            let highest = [before.best, before.lost_best].into_iter().flatten().reduce(f64::max);
            let expected = match state.best > highest {
                true => (Some(state.epochs_done), None),
                false => (before.best_epoch, highest),
            };
            assert_eq!((state.best_epoch, state.lost_best), expected, "{words}");
            assert!(words.contains(&format!("of epoch {}; predict with", state.epochs_done)), "{words}");
        }
        polyhead::model::weights::read(&file).unwrap();
        assert!(std::fs::read(&file).unwrap() != foreign);
    }
    assert!(!resume().contains("warning: "));
    // Another run's file does not count either if its epoch is the next one, as that of a run killed after saving it would be.
    let next = state().epochs_done + 1;
    let StateFile { tensors, mut metadata, .. } = weights::read(&best(&other, "best")).unwrap();
    let mut card = Card::from_json(&metadata[Card::KEY], Path::new("")).unwrap();
    card.epoch = Some(next);
    metadata.insert(Card::KEY.to_owned(), card.to_json());
    weights::write(&best(&run_folder, "best"), &tensors, metadata).unwrap();
    let strange = std::fs::read(best(&run_folder, "best")).unwrap();
    let words = resume();
    let warning = format!("best.safetensors is of epoch {next}, which the run's state does not include");
    assert!(words.contains(&warning), "{words}");
    assert_eq!(state().kept_epoch, Some(next));
    assert!(std::fs::read(best(&run_folder, "best")).unwrap() != strange);
    // Nothing is left to train, and the figure of a best file that is gone is not claimed.
    std::fs::remove_file(best(&run_folder, "best")).unwrap();
    let words = said(&["train", "--resume", &run_folder]);
    assert!(words.contains("weights/best.safetensors is missing") && !words.contains("best overall"), "{words}");
}

#[test]
fn the_state_of_another_run_is_refused() {
    let folder = Folder::new("other-state");
    let data = digits(&folder, 16);
    let [first, second] = ["first", "second"].map(|name| train(&folder, &data, name, &["--epochs", "1"]));
    let last = |run: &str| Path::new(run).join("weights/last.safetensors");
    let own = std::fs::read(last(&first)).unwrap();
    std::fs::copy(last(&second), last(&first)).unwrap();
    let resume = ["train", "--resume", &first, "--epochs", "2"];
    fail(&resume, 1, &["last.safetensors: is the state of another run (its id is ", "put this run's own file back"]);
    // Without an id, as in runs of older versions, states cannot be told apart.
    let args = Path::new(&first).join("args.yaml");
    let text = std::fs::read_to_string(&args).unwrap();
    let older: String = text.lines().filter(|line| !line.starts_with("id: ")).map(|line| format!("{line}\n")).collect();
    assert!(older.len() < text.len(), "{text}");
    std::fs::write(&args, older).unwrap();
    assert!(said(&resume).contains("resumed after epoch 1"));
    std::fs::write(&args, text).unwrap();
    std::fs::write(last(&first), own).unwrap();
    assert!(said(&resume).contains("resumed after epoch 1"));
}

#[test]
fn a_run_killed_before_its_last_picture_draws_it_on_resume() {
    let folder = Folder::new("last-picture");
    let run_folder = train(&folder, &digits(&folder, 16), "first", &["--epochs", "1"]);
    let file = |name: &str| Path::new(&run_folder).join(name);
    std::fs::remove_file(file("val_batch0_pred.jpg")).unwrap();
    // An older version drew it as PNG; that picture would not show this network.
    std::fs::write(file("val_batch0_pred.png"), "old").unwrap();
    let log = std::fs::read_to_string(file("log.txt")).unwrap();
    std::fs::write(file("log.txt"), &log[..log.rfind("done in").unwrap()]).unwrap();
    assert!(said(&["train", "--resume", &run_folder]).contains("done in"));
    assert!(file("val_batch0_pred.jpg").is_file() && !file("val_batch0_pred.png").exists());
    assert!(said(&["train", "--resume", &run_folder]).contains("nothing is left to do"));
}
