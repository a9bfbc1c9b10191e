//! Ending a run before its last epoch, starting over, dry runs; and that interruptions do not change the result.

use crate::cli::{
    SMALL, digits, fail, path, polyhead, run, said, succeed, text, timeless_table as table, wait_for_epochs,
};
use crate::step::Folder;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn a_run_interrupted_ten_times_equals_an_uninterrupted_one() {
    let folder = Folder::new("ten-interrupts");
    let (data, project) = (digits(&folder, 24), path(&folder, "runs/train"));
    let args = |name: &'static str| {
        [&["train", &data, "--project", &project, "--name", name, "--epochs", "30"], &SMALL[..]].concat()
    };
    succeed(&args("whole"));
    let cut = path(&folder, "runs/train/cut");
    let mut interrupts = 0;
    let mut ended = false;
    while !ended {
        let resume = ["train", "--resume", &cut];
        let started = Path::new(&cut).join("weights/last.safetensors").exists();
        let args = if started { resume.to_vec() } else { args("cut") };
        let before = std::fs::read_to_string(Path::new(&cut).join("results.csv")).unwrap_or_default().lines().count();
        let mut child = polyhead().args(&args).stderr(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        // Interrupts ten times after a few epochs, then runs to the end.
        let wanted = before + 2;
        let goes_on = |child: &mut std::process::Child| interrupts < 10 && child.try_wait().unwrap().is_none();
        while goes_on(&mut child) {
            let rows = std::fs::read_to_string(Path::new(&cut).join("results.csv")).unwrap_or_default().lines().count();
            if rows >= wanted {
                break;
            }
            assert!(Instant::now() < deadline, "two epochs took over a minute");
            std::thread::sleep(Duration::from_millis(3));
        }
        if goes_on(&mut child) {
            Command::new("sh").args(["-c", &format!("kill -TERM {}", child.id())]).status().unwrap();
        }
        match child.wait().unwrap().code() {
            Some(130) => interrupts += 1,
            code => {
                assert_eq!(code, Some(0));
                ended = true;
            }
        }
    }
    assert_eq!(interrupts, 10);
    assert_eq!(table(&cut), table(&path(&folder, "runs/train/whole")));
    let best =
        |name: &str| std::fs::read(path(&folder, &format!("runs/train/{name}/weights/best.safetensors"))).unwrap();
    assert!(best("cut") == best("whole"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_hangup_ends_a_run_unless_nohup_asked_to_ignore_it() {
    let folder = Folder::new("hangup");
    let (data, project) = (digits(&folder, 24), path(&folder, "runs/train"));
    for (name, before, epochs, expected) in [("plain", "", "200", 130), ("nohup", "trap '' HUP; ", "12", 0)] {
        let own = ["train", &data, "--project", &project, "--name", name, "--epochs", epochs];
        let mut child = Command::new("sh")
            .args(["-c", &format!("{before}exec \"$0\" \"$@\"")])
            .arg(polyhead().get_program())
            .args(own)
            .args(SMALL)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let results = folder.path.join("runs/train").join(name).join("results.csv");
        wait_for_epochs(&path(&folder, &format!("runs/train/{name}")), 2);
        Command::new("sh").args(["-c", &format!("kill -HUP {}", child.id())]).status().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(expected), "{name}");
        let rows = std::fs::read_to_string(&results).unwrap().lines().count();
        assert_eq!(rows == 13, expected == 0, "{name}: {rows} lines");
    }
}

#[test]
fn patience_and_time_end_a_run_properly() {
    let folder = Folder::new("ends");
    let (data, project) = (digits(&folder, 16), path(&folder, "runs/train"));
    let train = |name: &str, more: &[&str]| {
        said(&[&["train", &data, "--project", &project, "--name", name], more, &SMALL[..]].concat())
    };
    // With a learning rate of almost zero, no epoch improves on the first except by chance.
    let words = train("patient", &["--epochs", "500", "--patience", "2", "--lr0", "1e-12", "--ema", "0"]);
    assert!(words.contains("within --patience 2"), "{words}");
    let rows = table(&path(&folder, "runs/train/patient")).len() - 1;
    assert!((3..500).contains(&rows), "{rows} epochs");

    let words = train("timed", &["--time", "0.0005"]);
    assert!(
        words.contains("--time 0.0005 h is over") || words.contains("would not end within --time 0.0005 h"),
        "{words}"
    );
    let timed = path(&folder, "runs/train/timed");
    // On resume the time is used up; with more time the run continues.
    assert!(said(&["train", "--resume", &timed]).contains("nothing is left to do"));
    let before = table(&timed).len();
    // Four times as long is more than one epoch more.
    let last = std::fs::read_to_string(Path::new(&timed).join("results.csv")).unwrap();
    let elapsed_s: f64 = last.lines().last().unwrap().split(',').nth(1).unwrap().parse().unwrap();
    let hours = (4.0 * (elapsed_s + 1.0) / 3600.0).to_string();
    let words = said(&["train", "--resume", &timed, "--time", &hours]);
    assert!(words.contains("the run may end at another epoch") && table(&timed).len() > before, "{words}");
}

#[test]
fn a_time_that_ends_before_the_first_step_is_a_failure() {
    let folder = Folder::new("no-time");
    let (data, project) = (digits(&folder, 16), path(&folder, "runs/train"));
    let args = ["train", &data, "--project", &project, "--name", "r", "--time", "0.000000001"];
    fail(&[&args, &SMALL[..]].concat(), 1, &["--time 0.000000001 h was over before the first step: give more time"]);
    assert!(!folder.path.join("runs/train/r/weights/best.safetensors").exists());
}

#[test]
fn a_validation_image_that_becomes_unreadable_is_named() {
    let folder = Folder::new("breaks-later");
    let (data, project) = (digits(&folder, 24), path(&folder, "runs/train"));
    let args = ["train", &data, "--project", &project, "--name", "cut", "--epochs", "9", "--max-broken", "0.5"];
    let cut = path(&folder, "runs/train/cut");
    crate::cli::interrupt(&[&args, &SMALL[..]].concat(), &cut);
    // Of the same size, width and height, so that the run does not refuse its data set.
    let image = Path::new(&data).join("val/00003.png");
    let mut bytes = std::fs::read(&image).unwrap();
    let half = bytes.len() / 2;
    bytes[half..].fill(0);
    std::fs::write(&image, bytes).unwrap();
    let words = said(&["train", "--resume", &cut]);
    assert_eq!(words.matches("unreadable, left out: val/00003.png").count(), 1, "{words}");
}

#[test]
fn a_resumed_run_with_mosaics_accepts_a_time_limit_and_its_mosaics_end_as_planned() {
    let folder = Folder::new("mosaic-time");
    let (data, project) = (digits(&folder, 24), path(&folder, "runs/train"));
    let mosaics = ["--mosaic", "1", "--close-mosaic", "2"];
    fail(&[&["train", &data, "--time", "1"], &mosaics[..]].concat(), 2, &["--mosaic with --time", "--close-mosaic 0"]);
    let cut = path(&folder, "runs/train/cut");
    let args = ["train", &data, "--project", &project, "--name", "cut", "--epochs", "500"];
    crate::cli::interrupt(&[&args, &mosaics[..], &SMALL[..]].concat(), &cut);
    let state = || polyhead::train::checkpoint::load(&Path::new(&cut).join("weights/last.safetensors")).unwrap().state;
    assert_eq!(state().mosaic_epochs, None);
    // A few epochs more, however long they take.
    let hours = || (1.5 * (state().elapsed_s + 1.0) / 3600.0).to_string();
    let first = hours();
    let words = said(&["train", "--resume", &cut, "--time", &first]);
    assert!(words.contains(&format!("note: --time {first} (before: none)")), "{words}");
    assert_eq!(state().mosaic_epochs, Some(500));
    // Without the flag the saved time limit applies; another limit does not change when mosaics end.
    assert!(said(&["train", "--resume", &cut]).contains("nothing is left to do"));
    let words = said(&["train", "--resume", &cut, "--time", &hours()]);
    assert!(words.contains(&format!("(before: {first})")), "{words}");
    assert_eq!(state().mosaic_epochs, Some(500));
}

#[test]
fn a_picture_that_cannot_be_drawn_gives_a_warning_and_keeps_the_epoch() {
    let folder = Folder::new("no-picture");
    let (data, project) = (digits(&folder, 24), path(&folder, "runs/train"));
    let cut = path(&folder, "runs/train/cut");
    let args = ["train", &data, "--project", &project, "--name", "cut", "--epochs", "12"];
    crate::cli::interrupt(&[&args, &SMALL[..]].concat(), &cut);
    let picture = Path::new(&cut).join("balance.png");
    std::fs::remove_file(&picture).unwrap();
    std::fs::create_dir(&picture).unwrap();
    let last = Path::new(&cut).join("val_batch0_pred.jpg");
    std::fs::create_dir(&last).unwrap();
    let words = said(&["train", "--resume", &cut]);
    assert!(words.contains("warning: a picture was not drawn: ") && words.contains("balance.png"), "{words}");
    // Without its last picture the run is still complete.
    assert!(words.contains("val_batch0_pred.jpg") && words.contains("done in "), "{words}");
    let words = said(&["train", "--resume", &cut]);
    assert!(words.contains("val_batch0_pred.jpg") && words.contains("nothing is left to do"), "{words}");
    let log = std::fs::read_to_string(Path::new(&cut).join("log.txt")).unwrap();
    assert!(log.contains("warning: a picture was not drawn: ") && log.contains("\ndone in "), "{log}");
    assert_eq!(table(&cut).len(), 13);
}

#[test]
fn accumulated_batches_are_refused_before_the_run_if_the_method_uses_the_step_itself() {
    let folder = Folder::new("accumulated-refused");
    let (data, project) = (digits(&folder, 24), path(&folder, "runs/train"));
    for balance in ["mgda", "famo", "excess"] {
        let own = ["train", &data, "--project", &project, "--balance", balance, "--accumulate", "2"];
        fail(
            &[&own, &SMALL[..]].concat(),
            2,
            &[&format!("--balance {balance} needs all images of a step in one batch"), "leave out --accumulate"],
        );
    }
    assert!(!Path::new(&project).exists(), "a refused run left a folder behind");
}

#[test]
fn a_dry_run_does_everything_once_and_keeps_no_files() {
    let folder = Folder::new("dry");
    let (data, project) = (digits(&folder, 16), path(&folder, "runs/train"));
    let args = ["train", &data, "--project", &project, "--dry-run", "--epochs", "90"];
    let words = said(&[&args, &SMALL[..]].concat());
    assert!(
        words.contains("dry run passed") && words.contains("1 epoch of 1 step\n") && !words.contains(".dry-run"),
        "{words}"
    );
    // Other dry runs are in `traces`.
    assert!(!Path::new(&project).exists());
}

#[test]
fn a_run_on_a_few_images_trains_and_validates_on_them() {
    let folder = Folder::new("heart");
    let (data, project) = (digits(&folder, 24), path(&folder, "runs/train"));
    let args = ["train", &data, "--project", &project, "--overfit", "8", "--epochs", "3", "--name", "heart"];
    let words = said(&[&args, &SMALL[..]].concat());
    assert!(words.contains("overfitting 8 training images"), "{words}");
    assert!(words.contains("8 training and 8 validation images"), "{words}");
}

#[test]
fn a_nan_loss_stops_the_run_or_restarts_it_three_times() {
    let folder = Folder::new("nan");
    let (data, project) = (digits(&folder, 16), path(&folder, "runs/train"));
    let wild = ["--lr0", "1e30", "--clip-norm", "0", "--optimizer", "sgd", "--warmup-epochs", "0", "--epochs", "3"];
    let train = |name: &'static str, more: &[&'static str]| {
        let own = ["train", &data, "--project", &project, "--name", name];
        run(&[&own, more, &wild[..], &SMALL[..]].concat())
    };
    let stopped = train("stop", &[]);
    let words = text(&stopped.stderr);
    assert_eq!(stopped.status.code(), Some(1));
    assert!(words.contains("is NaN or infinite") && words.contains("weight"), "{words}");
    assert!(words.contains("Images of the step: ") && words.contains(".png"), "{words}");

    let retried = train("retry", &["--on-nan", "retry"]);
    let words = text(&retried.stderr);
    assert_eq!(retried.status.code(), Some(1));
    assert!(words.contains("retry 3 of 3") && words.contains("learning rate 1.25e29"), "{words}");
    assert!(words.contains("happened again after 3 retries"), "{words}");
    // The state it went back to is complete, and records the restarts.
    let cut = path(&folder, "runs/train/retry");
    fail(&["train", "--resume", &cut], 1, &["happened again after 3 retries"]);
}

#[test]
fn accumulated_batches_make_fewer_steps_and_resume_bit_for_bit() {
    let folder = Folder::new("accumulated");
    let (data, project) = (digits(&folder, 24), path(&folder, "runs/train"));
    let args = |name: &'static str| {
        let own = ["train", &data, "--project", &project, "--name", name, "--epochs", "12", "--accumulate", "3"];
        [&own[..], &["--freeze", "stem,layer1"], &SMALL[..]].concat()
    };
    let words = said(&args("whole"));
    assert!(words.contains("3 batches of"), "{words}");
    let cut = path(&folder, "runs/train/cut");
    crate::cli::interrupt(&args("cut"), &cut);
    // The file with the choices may be lost; the checkpoint has them too.
    let args_yaml = Path::new(&cut).join("args.yaml");
    std::fs::remove_file(&args_yaml).unwrap();
    let words = said(&["train", "--resume", &cut, "--workers", "2", "--threads", "1"]);
    assert!(words.contains("args.yaml was missing and is written again"), "{words}");
    assert!(std::fs::read_to_string(&args_yaml).unwrap().contains("accumulate: 3"));
    assert_eq!(table(&cut), table(&path(&folder, "runs/train/whole")));
}

#[test]
fn a_batch_too_large_for_memory_gives_an_error() {
    let folder = Folder::new("huge-batch");
    let data = digits(&folder, 8);
    // More memory than any machine has; both values are within their ranges.
    let project = path(&folder, "runs/train");
    let huge = ["train", &data, "--project", &project, "--backbone", "tiny", "--imgsz", "16384", "--batch", "65536"];
    fail(&huge, 1, &["MiB of memory", "lower --batch or --imgsz"]);
}
