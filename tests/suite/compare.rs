//! `polyhead compare` from the command line: a full comparison, repeating it, changing it, and invalid input.

use crate::cli::{digits, path, run, session, succeed, text, timeless_table};
use crate::step::Folder;
use serde_json::Value;
use std::path::Path;

/// The smallest possible runs.
const TINY: [&str; 12] =
    ["--backbone", "tiny", "--imgsz", "32", "--batch", "8", "--threads", "1", "--epochs", "1", "--workers", "1"];

#[test]
fn choices_of_a_file_that_a_comparison_does_not_take_are_named() {
    let folder = Folder::new("compare-config");
    let (data, out, plan) = (digits(&folder, 8), path(&folder, "out"), path(&folder, "plan.yaml"));
    std::fs::write(&plan, "seed: 5\ntask: [sum]\nbalance: cagrad\nbalance_c: 0.3\nlr0: 0.01\nname: x\n").unwrap();
    let refused = run(&["compare", &data, "--config", &plan, "--methods", "nonsense", "--out", &out]);
    let said = text(&refused.stderr);
    let note = "note: not taken from --config: --seed, --task, --balance, --balance-c, --name\n";
    assert!(refused.status.code() == Some(2) && said.contains(note), "{said}");
}

#[test]
fn a_comparison_from_data_to_tables_and_again() {
    let folder = Folder::new("compare");
    let (data, out) = (digits(&folder, 24), path(&folder, "out"));
    let args = |more: &[&'static str]| -> Vec<String> {
        let own = [
            "compare",
            &data,
            "--methods",
            "fixed,uncertainty-bounded",
            "--seeds",
            "0,1",
            "--out",
            &out,
            "--jobs",
            "2",
        ];
        own.iter().chain(&TINY).chain(more).map(|arg| (*arg).to_owned()).collect()
    };
    let start = |more: &[&'static str]| run(&args(more).iter().map(String::as_str).collect::<Vec<_>>());

    let listed = start(&["--dry-run"]);
    let (said, printed) = (text(&listed.stderr), text(&listed.stdout));
    assert!(listed.status.success() && said.contains("dry run: 10 of 10 runs would be trained"), "{said}");
    assert!(printed.starts_with("single-digits-seed0: to train\n") && printed.lines().count() == 10, "{printed}");
    assert!(!Path::new(&out).exists());
    let first = start(&[]);
    let (said, printed) = (text(&first.stderr), text(&first.stdout));
    assert!(first.status.success() && said.contains("run 1 of 10: single-digits-seed0"), "{said}");
    let file = |name: &str| std::fs::read_to_string(Path::new(&out).join(name)).unwrap();
    assert_eq!(printed, file("compare.md"));
    assert!(printed.contains("## sum: R²") && printed.contains("(paired t over 2 seeds)"), "{printed}");
    assert!(printed.contains("| time per image, batch 8 |"), "{printed}");
    let figures: Value = serde_json::from_str(&file("compare.json")).unwrap();
    assert_eq!(figures["tasks"].as_array().unwrap().len(), 3);
    assert!(figures["tasks"][1]["settings"][0]["values"]["1"].is_number(), "{figures}");
    assert!(
        figures["costs"]["joint_parameters"].as_u64() < figures["costs"]["single_parameters"].as_u64(),
        "{figures}"
    );
    assert!(Path::new(&out).join("compare.png").is_file());
    let table = Path::new(&out).join("train/single-sum-seed1/results.csv");
    let header = std::fs::read_to_string(&table).unwrap().lines().next().unwrap().to_owned();
    assert!(header.contains("val/sum/R2") && !header.contains("digits"), "{header}");

    // The second time nothing is trained. A removed run is trained again and gives the same metrics.
    let gone = Path::new(&out).join("train/fixed-seed1");
    let before = timeless_table(&gone.to_string_lossy());
    std::fs::remove_dir_all(&gone).unwrap();
    let said = text(&start(&[]).stderr);
    assert!(said.contains("9 of 10 runs are finished already") && said.matches("done in").count() == 1, "{said}");
    assert_eq!(before, timeless_table(&gone.to_string_lossy()));
    assert!(text(&start(&[]).stderr).contains("all 10 runs are finished"));
    assert!(text(&start(&["--dry-run"]).stdout).contains("fixed-seed1: finished\n"));

    let changed = start(&["--lr0", "0.5"]);
    let said = text(&changed.stderr);
    assert!(changed.status.code() == Some(2) && said.contains("was made with lr0 0.001, and now lr0 is 0.5"), "{said}");

    // Tabulates only; one folder is missing, so `paper` has no single model.
    let runs: Vec<String> = ["single-sum-seed0", "fixed-seed0", "uncertainty-bounded-seed0"]
        .map(|run| format!("{out}/train/{run}"))
        .to_vec();
    let tables = path(&folder, "tables");
    let printed = succeed(&["compare", "--runs", &runs[0], &runs[1], &runs[2], "--out", &tables]);
    assert!(printed.contains("one seed, so there is no interval and no test"), "{printed}");
    assert!(Path::new(&tables).join("compare.png").is_file() && !Path::new(&tables).join("train").exists());
}

#[test]
fn invalid_comparisons_give_an_error() {
    let folder = Folder::new("compare-wrong");
    let data = digits(&folder, 8);
    std::fs::write(folder.path.join("file"), "mine").unwrap();
    let whole = std::fs::read_to_string(Path::new(&data).join("data.yaml")).unwrap();
    let one = |line: &&str| !line.contains("  digits:") && !line.contains("  paper:");
    let one: Vec<&str> = whole.lines().filter(one).collect();
    std::fs::write(Path::new(&data).join("one_task.yaml"), one.join("\n")).unwrap();
    session(&folder, "compare");
    assert!(!folder.path.join("out/train").exists());
}

#[test]
fn a_failed_run_is_named_and_the_others_continue() {
    let folder = Folder::new("compare-fails");
    let (data, out) = (digits(&folder, 16), path(&folder, "out"));
    let args = ["compare", &data, "--methods", "fixed", "--seeds", "0", "--out", &out];
    // A folder that is not a run's blocks one run.
    let taken = Path::new(&out).join("train/single-paper-seed0");
    std::fs::create_dir_all(&taken).unwrap();
    std::fs::write(taken.join("mine.txt"), "mine").unwrap();
    let failed = run(&[&args[..], &TINY].concat());
    let said = text(&failed.stderr);
    assert_eq!(failed.status.code(), Some(1), "{said}");
    assert!(said.contains("holds mine.txt and is not a run's folder"), "{said}");
    assert!(said.contains("no table: no run of single-paper is finished"), "{said}");
    assert!(said.contains("1 of 4 runs failed: single-paper-seed0"), "{said}");
    assert!(Path::new(&out).join("train/fixed-seed0/weights/best.safetensors").is_file());
    assert_eq!(std::fs::read_dir(&taken).unwrap().count(), 1);
}

/// A signal to this process alone is passed on to the runs. A signal to all processes of a terminal, such as Ctrl-C, reaches them
/// directly.
#[cfg(unix)]
#[test]
fn an_interrupted_comparison_saves_its_runs_and_continues() {
    use std::io::Read;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};
    let folder = Folder::new("compare-stopped");
    let (data, out) = (digits(&folder, 16), path(&folder, "out"));
    let mut args = vec!["compare", &data, "--methods", "fixed", "--no-single", "--seeds", "0", "--out", &out];
    args.extend(&TINY[..8]);
    args.extend(["--epochs", "2000", "--workers", "1"]);
    let log = Path::new(&out).join("train/fixed-seed0/log.txt");
    let words = || std::fs::read_to_string(&log).unwrap_or_default();
    for (whom, awaited) in [("", "writing"), ("-", "resumed after epoch")] {
        let mut command = crate::cli::polyhead();
        let mut process = command.args(&args).process_group(0).stderr(Stdio::piped()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        // Once a run has finished an epoch, it handles signals.
        let has_trained = || words().rsplit_once(awaited).is_some_and(|(_, after)| after.contains("\nepoch "));
        while !has_trained() {
            assert!(Instant::now() < deadline, "no epoch within a minute: {}", words());
            std::thread::sleep(Duration::from_millis(5));
        }
        if whom.is_empty() {
            let second = run(&args);
            let said = text(&second.stderr);
            assert_eq!(second.status.code(), Some(1), "{said}");
            assert!(said.contains("this folder is being written by process"), "{said}");
        }
        let kill = format!("kill -TERM {whom}{}", process.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        let mut said = String::new();
        process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(process.wait().unwrap().code(), Some(130), "{said}");
        assert!(said.contains("stopped with 0 of 1 run finished; run the same command again to continue"), "{said}");
        let end = words();
        let last = end.lines().last().unwrap_or_default();
        assert!(last.starts_with("stopped after step") && last.contains("--resume"), "{end}");
    }
}
