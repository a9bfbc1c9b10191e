//! Signals of the operating system, and limits that it puts on a process: ignored signals, signals during validation and while
//! files are opened, dumb terminals, threads that cannot be started. Limits on file sizes are in `disk`.

use crate::cli::{SMALL, digits, path, polyhead, run, text, timeless_table as table};
use crate::step::Folder;
use polyhead::data::built_in::digits::{DigitsOptions, write_digits};
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// Runs the binary in a shell after `before`, as `nohup` and shells do with `trap` and `ulimit`.
fn after(before: &str, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{before}; exec \"$0\" \"$@\"")]).arg(polyhead().get_program()).args(args);
    command.stdin(Stdio::null());
    command
}

pub fn signal(child: &Child, names: &[&str]) {
    let kill: Vec<String> = names.iter().map(|name| format!("kill -{name} {}", child.id())).collect();
    assert!(Command::new("sh").args(["-c", &kill.join("; ")]).status().unwrap().success());
}

pub fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !ready() {
        assert!(Instant::now() < deadline, "{what} took over a minute");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// A process that is killed when it goes out of scope, so that one that is stopped by a signal does not outlive a failed test.
pub struct Running(Option<Child>);

impl Running {
    pub fn new(child: Child) -> Running {
        Running(Some(child))
    }

    /// Waits for its end.
    pub fn output(mut self) -> Output {
        self.0.take().unwrap().wait_with_output().unwrap()
    }
}

impl Deref for Running {
    type Target = Child;

    fn deref(&self) -> &Child {
        self.0.as_ref().unwrap()
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_stopped_process_does_not_outlive_a_failed_test() {
    let mut id = 0;
    let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let child = Running::new(Command::new("sleep").arg("600").spawn().unwrap());
        signal(&child, &["STOP"]);
        id = child.id();
        // Unlike a panic, this prints nothing.
        std::panic::resume_unwind(Box::new(()));
    }));
    assert!(failed.is_err() && id > 0 && !Path::new(&format!("/proc/{id}")).exists());
}

#[test]
fn a_signal_while_the_first_batch_of_large_pictures_loads_ends_the_run_soon() {
    let folder = Folder::new("large-pictures");
    // Files of 81 megapixels that take long to decode and little to write.
    let first = folder.path.join("data/cat/0.png");
    for class in ["cat", "dog"] {
        std::fs::create_dir_all(folder.path.join("data").join(class)).unwrap();
    }
    image::GrayImage::new(9000, 9000).save(&first).unwrap();
    for i in 1..24 {
        let copy = folder.path.join("data").join(["cat", "dog"][i % 2]).join(format!("{i}.png"));
        std::fs::hard_link(&first, copy).unwrap();
    }
    let (data, project) = (path(&folder, "data"), path(&folder, "runs/train"));
    let own = ["train", &data, "--project", &project, "--name", "run"];
    let mut command = polyhead();
    command.args([&own[..], &SMALL].concat()).args(["--workers", "2", "--val-fraction", "0.2"]);
    let mut child = Running::new(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let saved = folder.path.join("runs/train/run/weights/last.safetensors");
    wait_for("the first save", || saved.is_file() || child.try_wait().unwrap().is_some());
    // The batch takes several seconds.
    std::thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    signal(&child, &["TERM"]);
    let code = ended(&mut child).code();
    let took = begun.elapsed();
    let said = text(&child.output().stderr);
    assert_eq!(code, Some(130), "{said}");
    assert!(took < Duration::from_secs(2), "{took:?}: {said}");
    assert!(!said.contains("epoch 1/"), "{said}");
}

/// Waits for the end of a process. One that does not end is killed, and the test fails.
pub fn ended(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("the process does not end");
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    child.wait().unwrap()
}

fn rows(run: &str) -> usize {
    std::fs::read_to_string(Path::new(run).join("results.csv")).unwrap_or_default().lines().count().saturating_sub(1)
}

fn last_line(run: &str) -> String {
    let log = std::fs::read_to_string(Path::new(run).join("log.txt")).unwrap();
    log.lines().last().unwrap_or_default().to_owned()
}

/// A script's background job ignores Ctrl-C, and `nohup` ignores hangups. SIGTERM still ends both.
#[test]
fn signals_that_are_ignored_at_the_start_stay_ignored() {
    let folder = Folder::new("ignored");
    let (data, project) = (digits(&folder, 24), path(&folder, "runs/train"));
    let args = [&["train", &data, "--project", &project, "--epochs", "2000"], &SMALL[..]].concat();
    let mut child = after("trap '' INT HUP", &args).stderr(Stdio::null()).spawn().unwrap();
    let run = path(&folder, "runs/train/run");
    wait_for("an epoch", || rows(&run) > 0);
    for name in ["INT", "HUP", "INT"] {
        signal(&child, &[name]);
        let before = rows(&run);
        wait_for("two more epochs", || rows(&run) > before + 1 || child.try_wait().unwrap().is_some());
        assert!(child.try_wait().unwrap().is_none(), "{name} ended the run");
    }
    signal(&child, &["TERM"]);
    assert_eq!(ended(&mut child).code(), Some(130));
    assert!(last_line(&run).starts_with("stopped after step"), "{}", last_line(&run));
}

/// A closing terminal sends a hangup twice, and a service manager sends a hangup with SIGTERM.
#[test]
fn a_run_saves_after_a_burst_of_hangups_and_one_request() {
    let folder = Folder::new("burst");
    let (data, project) = (digits(&folder, 24), path(&folder, "runs/train"));
    for (name, burst) in [("hangups", &["HUP", "HUP", "HUP"][..]), ("mixed", &["HUP", "TERM", "HUP"])] {
        let own = ["train", &data, "--project", &project, "--name", name, "--epochs", "2000"];
        let mut child = polyhead().args(own).args(SMALL).stderr(Stdio::null()).spawn().unwrap();
        let run = path(&folder, &format!("runs/train/{name}"));
        wait_for("an epoch", || rows(&run) > 0);
        signal(&child, burst);
        assert_eq!(ended(&mut child).code(), Some(130), "{name}");
        assert!(last_line(&run).starts_with("stopped after step"), "{name}: {}", last_line(&run));
    }
}

#[test]
fn a_run_stopped_during_validation_repeats_it_and_ends_with_the_same_bits() {
    let folder = Folder::new("validating");
    let data = path(&folder, "digits");
    // One step of training and 30 batches of validation per epoch.
    write_digits(Path::new(&data), &DigitsOptions { train: 8, val: 240, test: 5, size: 64, seed: 1 }).unwrap();
    let project = path(&folder, "runs/train");
    // It saves after every step, so that the test knows when a validation begins.
    let small = ["--backbone", "tiny", "--imgsz", "128", "--batch", "8", "--threads", "2", "--epochs", "7"];
    let small = [&small[..], &["--save-minutes", "0.0001"]].concat();
    let args = |name| [&["train", &data, "--project", &project, "--name", name], &small[..]].concat();
    let [whole, cut] = ["whole", "cut"].map(|name| path(&folder, &format!("runs/train/{name}")));
    assert!(run(&args("whole")).status.success());
    let resume = ["train", "--resume", &cut];
    let mut validations = 0;
    let state = || {
        let file = Path::new(&cut).join("weights/last.safetensors");
        polyhead::train::checkpoint::load(&file).ok().map(|loaded| loaded.state)
    };
    // The epoch's only step is done, and the epoch is not.
    let step_in_validation = || state().filter(|state| state.step == state.epochs_done + 1).map(|state| state.step);
    for attempt in 0..3 {
        let args = if attempt == 0 { args("cut") } else { resume.to_vec() };
        let before = step_in_validation();
        let mut child = polyhead().args(&args).stderr(Stdio::null()).spawn().unwrap();
        wait_for("a validation", || step_in_validation().is_some_and(|step| Some(step) != before));
        signal(&child, &["TERM"]);
        assert_eq!(ended(&mut child).code(), Some(130));
        let step = state().unwrap().step;
        validations += usize::from(step_in_validation().is_some());
        assert!(last_line(&cut).starts_with(&format!("stopped after step {step}")), "{}", last_line(&cut));
    }
    assert!(validations > 0, "no signal arrived during validation");
    assert!(run(&resume).status.success());
    assert_eq!(table(&cut), table(&whole));
    let best = |run: &str| std::fs::read(Path::new(run).join("weights/best.safetensors")).unwrap();
    assert!(best(&cut) == best(&whole));
}

/// No other process writes into the pipe, so that opening it waits for ever.
#[test]
fn a_prediction_that_waits_for_a_file_ends_on_the_first_signal() {
    let place = crate::predict::Place::new("fifo");
    place.image("0.png");
    assert!(Command::new("mkfifo").arg(place.path("classes")).status().unwrap().success());
    let mut child = place.command(&["0.png", "--out", "out", "--classes", "classes"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "nothing waited for the pipe");
    signal(&child, &["TERM"]);
    assert!(!ended(&mut child).success());
    assert!(!place.path("out").exists());
}

#[test]
fn epochs_are_printed_on_a_dumb_terminal() {
    let folder = Folder::new("dumb");
    let (data, project) = (digits(&folder, 8), path(&folder, "runs/train"));
    let args = [&["train", &data, "--project", &project, "--epochs", "2"], &SMALL[..]].concat();
    let has_terminal = Command::new("script").arg("--version").output().is_ok_and(|output| output.status.success());
    if !has_terminal {
        eprintln!("skipped: no `script` to make a terminal; only a pipe is tested");
    }
    for term in [Some("dumb"), None] {
        let set = |command: &mut Command| match term {
            Some(term) => command.env("TERM", term).output().unwrap(),
            None => command.env_remove("TERM").output().unwrap(),
        };
        let mut said = vec![text(&set(polyhead().args(&args)).stderr)];
        if has_terminal {
            let line = format!("{} {}", polyhead().get_program().display(), args.join(" "));
            said.push(text(&set(Command::new("script").args(["-qec", &line, "/dev/null"])).stdout));
        }
        for said in said {
            for line in ["epoch 1/2  digits loss", "epoch 2/2  digits loss", "done in"] {
                assert!(said.contains(line), "{term:?}: no `{line}` in: {said}");
            }
        }
    }
}

/// Runs with room for about six threads besides the main one, since each gets a stack of 256 MiB.
fn with_few_threads(pool: &str, args: &[&str]) -> Output {
    let mut command = after("ulimit -v 2090000", args);
    // One arena, because allocators that reserve memory for each thread would use up the rest.
    command.env("RUST_MIN_STACK", "268435456").env("MALLOC_ARENA_MAX", "1").env("RAYON_NUM_THREADS", pool);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    ended(&mut child);
    child.wait_with_output().unwrap()
}

#[test]
fn threads_that_cannot_be_started_give_an_error() {
    let folder = Folder::new("threads");
    let (data, project) = (digits(&folder, 16), path(&folder, "runs/train"));
    let run = crate::cli::train(&folder, &data, "kept", &["--epochs", "1"]);
    let (images, out) = (format!("{data}/val"), path(&folder, "out"));
    let train = ["train", &data, "--project", &project, "--name", "new", "--backbone", "tiny", "--imgsz", "64"];
    let train = |more: [&'static str; 4]| [&train[..], &more].concat();
    let predict = vec!["predict", &run, &images, "--out", &out, "--threads", "1", "--workers", "20"];
    let cases = [
        (train(["--threads", "20", "--workers", "1"]), "1", "20 threads to compute", "--threads"),
        (train(["--threads", "1", "--workers", "20"]), "1", "21 threads to load images", "--workers"),
        (vec!["evaluate", &run, "--threads", "1", "--workers", "20"], "1", "21 threads to load images", "--workers"),
        (predict, "1", "22 threads to read images and write predictions", "--workers"),
        (vec!["data", "check", &data], "20", "20 threads to read files", "RAYON_NUM_THREADS"),
    ];
    for (args, pool, threads, lower) in cases {
        let output = with_few_threads(pool, &args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        let error = said.lines().last().unwrap_or_default();
        assert!(error.starts_with(&format!("error: cannot start {threads}: ")), "{args:?}: {said}");
        assert!(error.contains(&format!("; lower {lower}, or raise the limit")), "{args:?}: {said}");
        assert!(!said.contains("panicked"), "{args:?}: {said}");
    }
    let few = vec!["predict", &run, &images, "--out", &out, "--threads", "1", "--workers", "1", "--no-images"];
    let output = with_few_threads("1", &few);
    assert!(output.status.success(), "{}", text(&output.stderr));
}
