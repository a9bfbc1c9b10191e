//! `--balance auto`: the trials leave nothing behind but their outcome, and may be stopped at any moment.

use crate::cli::{SMALL, digits, fail, interrupt, path, polyhead, results, succeed, text};
use crate::kill::end_of;
use crate::step::Folder;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// A run of eight epochs that tries each method for two of them.
fn args<'a>(data: &'a str, project: &'a str, name: &'a str, method: &'a str) -> Vec<&'a str> {
    let own = ["train", data, "--project", project, "--name", name, "--balance", method, "--epochs", "8"];
    own.into_iter().chain(SMALL).collect()
}

const TRIAL: [&str; 4] = ["--balance-trial", "0.25", "--save-minutes", "0.0001"];

/// The method that a run chose, by its log.
fn chosen(run: &str) -> String {
    let log = std::fs::read_to_string(Path::new(run).join("log.txt")).unwrap();
    let line = log.lines().rfind(|line| line.starts_with("continuing with ")).unwrap();
    line.split(' ').nth(2).unwrap().to_owned()
}

#[test]
fn a_run_that_tried_methods_is_the_run_of_the_best_of_them_wherever_it_was_killed() {
    let folder = Folder::new("trials");
    let (data, project) = (digits(&folder, 24), path(&folder, "runs/train"));
    let whole = path(&folder, "runs/train/whole");
    succeed(&[&args(&data, &project, "whole", "auto")[..], &TRIAL].concat());
    let expected = end_of(&whole);

    let method = chosen(&whole);
    succeed(&args(&data, &project, "plain", &method));
    let plain = end_of(&path(&folder, "runs/train/plain"));
    assert!(plain.0 == expected.0, "{method} by itself ends otherwise");
    // The last column says which epoch is best; while methods are tried, none is.
    let known = |(_, table): &(_, Vec<String>)| -> Vec<String> {
        table.iter().map(|line| line.rsplit_once(',').unwrap().0.to_owned()).collect()
    };
    assert_eq!(known(&plain), known(&expected));
    // Every candidate's figures after two epochs, from runs of their own: the chosen one's are the best.
    let log = std::fs::read_to_string(Path::new(&whole).join("log.txt")).unwrap();
    let mut reached = Vec::new();
    for candidate in ["uncertainty-tempered", "fixed", "cagrad"] {
        let name = format!("only-{candidate}");
        succeed(&args(&data, &project, &name, candidate));
        let row = &results(&path(&folder, &format!("runs/train/{name}")))[1];
        let figure = |column: &str| row[column].parse::<f64>().unwrap().max(0.0);
        let columns = ["val/digits/AP", "val/paper/balanced_accuracy", "val/sum/R2"];
        let mean = columns.map(figure).iter().sum::<f64>() / 3.0;
        assert!(log.contains(&format!("{candidate} reached {mean:.3}")), "{candidate}, {mean}: {log}");
        reached.push((candidate, mean));
    }
    let best = reached.iter().map(|(_, mean)| *mean).fold(0.0, f64::max);
    assert_eq!(method, reached.iter().find(|(_, mean)| *mean == best).unwrap().0);
    let weights = |run: &str, name: &str| Path::new(run).join(format!("weights/{name}.safetensors"));
    let best = std::fs::read(weights(&whole, "best")).unwrap();

    let cut = path(&folder, "runs/train/cut");
    let mut killed = 0;
    for round in 0..200 {
        let saved = ["last", "previous"].map(|name| Path::new(&cut).join(format!("weights/{name}.safetensors")));
        let args = match saved.iter().any(|file| file.exists()) {
            true => vec!["train", "--resume", &cut],
            false => [&args(&data, &project, "cut", "auto")[..], &TRIAL, &["--exist-ok"]].concat(),
        };
        let mut child = polyhead().args(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Moments spread over the run: later ones are waited for if earlier ones came before its first save.
        std::thread::sleep(Duration::from_millis(60 + 37 * (round % 13)));
        if killed < 10 && child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            killed += 1;
        }
        if child.wait().unwrap().success() {
            break;
        }
    }
    assert!(killed >= 3, "the run ended after {killed} kills");
    assert!(end_of(&cut) == expected, "after {killed} kills another end");
    assert_eq!(chosen(&cut), method);
    assert!(std::fs::read(weights(&cut, "best")).unwrap() == best);
    // A run that was killed before it could remove the trials' files does so when it is resumed.
    for name in ["start", "trial"] {
        assert!(!weights(&whole, name).exists() && !weights(&cut, name).exists(), "{name} stays");
        std::fs::write(weights(&cut, name), "").unwrap();
    }
    // A file of the run names it, too.
    succeed(&["train", "--resume", &weights(&cut, "last").to_string_lossy()]);
    assert!(["start", "trial"].iter().all(|name| !weights(&cut, name).exists()));
}

#[test]
fn auto_needs_what_it_chooses_by() {
    let folder = Folder::new("trials-refused");
    let (data, project) = (digits(&folder, 24), path(&folder, "runs/train"));
    let auto = |more: &[&str], words: &[&str]| {
        fail(&[&args(&data, &project, "run", "auto")[..], more].concat(), 2, words);
        assert!(!Path::new(&project).exists(), "{more:?} left a folder");
    };
    auto(&["--balance-c", "0.5"], &["auto does not read --balance-c", "--balance-trial"]);
    auto(&["--balance-trial", "0.9999"], &["8 of 8 epochs"]);
    auto(&["--balance-trial", "1"], &["between 0 and 1"]);
    auto(&["--task-weight", "sum=2"], &["--task-weight only works with --balance fixed"]);
    auto(&["--accumulate", "2"], &["auto: cagrad", "leave out --accumulate"]);
    let timed = ["train", &data, "--project", &project, "--balance", "auto", "--time", "1"];
    fail(&[&timed, &SMALL[..]].concat(), 2, &["--time with --balance auto", "give --epochs"]);
    auto(&["--primary-task", "sum"], &["--primary-task only works with --balance pcd, and --balance is auto"]);
    fail(&["bench", "train", "--balance", "auto"], 2, &["name one of them: uncertainty-tempered, fixed, cagrad"]);
    fail(
        &[&args(&data, &project, "run", "auto")[..], &["--balance-trial", "0.9999", "--dry-run"]].concat(),
        2,
        &["8 of 8"],
    );
    // One task is nothing to balance, whatever is frozen.
    let one = ["--task", "sum", "--freeze", "trunk"];
    let output = polyhead().args(args(&data, &project, "one", "auto")).args(one).output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.success() && !said.contains("trial 1 of"), "{said}");
}

#[test]
fn a_run_does_not_choose_by_files_that_it_did_not_write() {
    let folder = Folder::new("trials-swapped");
    let (data, project) = (digits(&folder, 24), path(&folder, "runs/train"));
    let run = path(&folder, "runs/train/run");
    interrupt(&[&args(&data, &project, "run", "auto")[..], &["--balance-trial", "0.8"]].concat(), &run);
    let [start, last] = ["start", "last"].map(|name| Path::new(&run).join(format!("weights/{name}.safetensors")));
    let last = std::fs::read(last).unwrap();
    let refused = |what: &str| fail(&["train", "--resume", &run], 1, &["start.safetensors", what, "start a new run"]);
    let bytes = std::fs::read(&start).unwrap();
    std::fs::write(&start, &last).unwrap();
    refused("is not the file that the run wrote");
    std::fs::remove_file(&start).unwrap();
    refused("cannot be read");
    std::fs::write(&start, bytes).unwrap();
    succeed(&["train", "--resume", &run]);
}

/// The trials' figures in a run's log.
fn reached(run: &str) -> Vec<f64> {
    let log = std::fs::read_to_string(Path::new(run).join("log.txt")).unwrap();
    log.lines().filter_map(|line| line.split_once(" reached ")?.1.split(' ').next()?.parse().ok()).collect()
}

#[test]
fn a_run_stopped_between_a_new_leaders_file_and_its_checkpoint_continues() {
    let folder = Folder::new("trials-leader");
    let (data, project) = (digits(&folder, 24), path(&folder, "runs/train"));
    let more = |seed: &'static str| ["--balance-trial", "0.5", "--lr0", "0.01", "--warmup-epochs", "0", "--seed", seed];
    // The second method must take the lead.
    let seed = ["0", "1", "2", "3", "4", "5", "6", "7"].into_iter().find(|seed| {
        succeed(&[&args(&data, &project, seed, "auto")[..], &more(seed)].concat());
        let reached = reached(&path(&folder, &format!("runs/train/{seed}")));
        reached[1] > reached[0]
    });
    let seed = seed.expect("a seed with which the second method leads");
    let cut = path(&folder, "runs/train/cut");
    let start = Path::new(&cut).join("weights/start.safetensors");
    let cut_run = [&args(&data, &project, "cut", "auto")[..], &more(seed)].concat();
    let mut child = polyhead().args(cut_run).stderr(Stdio::null()).spawn().unwrap();
    // Without the start, the run fails after it has written the new leader's file.
    while !std::fs::read_to_string(Path::new(&cut).join("log.txt")).unwrap_or_default().contains("trial 2 of 3") {
        std::thread::sleep(Duration::from_millis(2));
    }
    std::thread::sleep(Duration::from_millis(40));
    let bytes = std::fs::read(&start).unwrap();
    std::fs::remove_file(&start).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    std::fs::write(&start, bytes).unwrap();
    succeed(&["train", "--resume", &cut]);
    assert!(end_of(&cut) == end_of(&path(&folder, &format!("runs/train/{seed}"))));
}

#[test]
fn a_candidate_whose_loss_is_no_number_is_out() {
    let folder = Folder::new("trials-nan");
    let (data, project) = (digits(&folder, 16), path(&folder, "runs/train"));
    let wild = ["--lr0", "1e30", "--clip-norm", "0", "--optimizer", "sgd", "--warmup-epochs", "0"];
    let output = polyhead().args(args(&data, &project, "run", "auto")).args(wild).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.matches(" is out: ").count() == 3 && said.contains("every method of --balance auto"), "{said}");
}
