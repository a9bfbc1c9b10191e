//! All output of this program: results on standard output, everything else on standard error, with progress bars if that is
//! a terminal. No other module prints, and nothing here panics, even if the reader is gone.

use crate::error::{Error, Result, one_line, visible};
use crate::threads::Threads;
use indicatif::{ProgressBar, ProgressStyle};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Prints a line on standard error. Write errors are ignored: work continues if nobody reads or the disk is full. Nothing in the
/// line reaches the terminal as a command: names of files, classes and keys may hold anything.
pub fn say(line: &str) {
    // A single write, so that lines of several threads do not mix.
    let _ = std::io::stderr().write_all(format!("{}\n", visible(line)).as_bytes());
}

/// Whether standard output still has a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// The whole text was written.
    There,
    /// The reader has closed the pipe, for example `| head` after its last line. This is not an error.
    Gone,
}

/// Prints a result for people on standard output, with the same care as [`say`]. Data for programs goes to [`output`].
///
/// # Errors
/// Standard output cannot be written, for example on a full disk. A result must not be lost silently.
pub fn print(text: &str) -> Result<Reader> {
    printed(std::io::stdout().lock().write_all(visible(text).as_bytes()))
}

/// Converts the result of a write to standard output.
///
/// # Errors
/// The same as [`print()`].
pub fn printed(written: std::io::Result<()>) -> Result<Reader> {
    match written.and_then(|()| std::io::stdout().flush()) {
        Ok(()) => Ok(Reader::There),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(e) => Err(Error::Other(format!("cannot write to standard output: {e}"))),
    }
}

/// Standard output, for results printed one after the other. The caller handles the errors.
pub fn output() -> Box<dyn Write + Send> {
    Box::new(std::io::stdout())
}

/// A progress bar on standard error; hidden if that is not a terminal.
pub struct Bar {
    bar: ProgressBar,
}

impl Bar {
    /// Makes a bar from a template in indicatif's language.
    pub fn new(template: &str) -> Bar {
        let bar = Bar { bar: ProgressBar::no_length() };
        bar.set_template(template);
        bar
    }

    /// Starts the bar with some of the work already done.
    pub fn at(self, position: u64, length: u64) -> Bar {
        self.bar.set_length(length);
        Bar { bar: self.bar.with_position(position) }
    }

    /// Whether the bar is visible. If not, the caller prints a line from time to time instead.
    pub fn is_shown(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// Changes the template (indicatif's language). An invalid template gives indicatif's default bar.
    pub fn set_template(&self, template: &str) {
        self.bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    }

    /// Sets the position at which the work is complete.
    pub fn set_length(&self, length: u64) {
        self.bar.set_length(length);
    }

    /// Sets how much of the work is done, in the unit of the length.
    pub fn set_position(&self, position: u64) {
        self.bar.set_position(position);
    }

    /// Sets the text that a template shows at `{msg}`.
    pub fn set_message(&self, message: String) {
        self.bar.set_message(one_line(&message));
    }

    /// Resets the bar and its clock to zero.
    pub fn reset(&self) {
        self.bar.reset();
    }

    /// Prints a line above the bar, or like [`say`] if the bar is hidden.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| say(line));
    }

    /// Ends the bar and removes it from the terminal.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// Makes panic messages say that this is a bug and how to report it. The hook does not change what happens next: a caught
/// panic continues as before, and an uncaught one still exits with 101.
pub fn explain_panics() {
    static EXPLAINED: AtomicBool = AtomicBool::new(false);
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let what = format!("thread '{}' {panic}", thread.name().unwrap_or("unnamed"));
        // Captured only if RUST_BACKTRACE is set.
        let backtrace = Backtrace::capture();
        // Only the first panic is explained: several threads may panic for the same reason, and an image whose decoder panics is
        // skipped.
        let words = match EXPLAINED.swap(true, Ordering::Relaxed) {
            true => what,
            false => panic_words(&what, &backtrace),
        };
        say(&words);
    }));
}

fn panic_words(what: &str, backtrace: &Backtrace) -> String {
    let place = match env!("CARGO_PKG_REPOSITORY") {
        "" => "to the project where you got polyhead",
        url => &format!("at {url}"),
    };
    let backtrace = match backtrace.status() {
        BacktraceStatus::Captured => format!("{backtrace}"),
        _ => "Set RUST_BACKTRACE=1 and run it again to add a backtrace to the report.".to_owned(),
    };
    format!(
        "error: this is a bug in polyhead {}, commit {}: {what}\n\
         Please report it {place}, with this text and the command.\n\
         If it ended a training run, the last checkpoint is safe: continue with polyhead train --resume RUN.\n\
         {backtrace}",
        env!("CARGO_PKG_VERSION"),
        env!("POLYHEAD_COMMIT"),
    )
}

/// The runs of this process that a signal can interrupt.
struct Interrupts {
    listening: bool,
    runs: Vec<Interruptible>,
}

struct Interruptible {
    /// Freed at the end of the run.
    flag: Weak<AtomicBool>,
    /// Printed when the flag is set.
    words: &'static str,
    /// When Ctrl-C or SIGTERM first reached the run.
    asked: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq)]
enum Received {
    /// Ctrl-C or SIGTERM. The second one ends the process at once.
    Request,
    /// The terminal is gone. The shell and the system each send this signal then, so a second one means nothing.
    Hangup,
}

/// The reaction to a signal.
#[derive(Debug, PartialEq)]
enum Reaction {
    Say(&'static str),
    Nothing,
    EndProcess,
}

/// Requests within this time are one: `timeout` sends its signal to the process and then to its group.
const ONE_REQUEST: Duration = Duration::from_millis(100);

static INTERRUPTS: Mutex<Interrupts> = Mutex::new(Interrupts { listening: false, runs: Vec::new() });

impl Interrupts {
    fn lock() -> MutexGuard<'static, Interrupts> {
        // The list is consistent between statements, so a panic elsewhere does not corrupt it.
        INTERRUPTS.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&mut self, flag: &Arc<AtomicBool>, words: &'static str) {
        self.runs.push(Interruptible { flag: Arc::downgrade(flag), words, asked: None });
    }

    /// Sets the flags of all active runs.
    fn receive(&mut self, signal: Received, now: Instant) -> Reaction {
        self.runs.retain(|run| run.flag.strong_count() > 0);
        let last = self.runs.iter().filter_map(|run| run.asked).max();
        let mut words = None;
        for run in &mut self.runs {
            let was_set = run.flag.upgrade().is_none_or(|flag| flag.swap(true, Ordering::Relaxed));
            let is_first = match signal {
                Received::Hangup => !was_set,
                Received::Request => run.asked.is_none(),
            };
            if is_first {
                words = Some(run.words);
            }
            if signal == Received::Request {
                run.asked.get_or_insert(now);
            }
        }
        match words {
            Some(words) => Reaction::Say(words),
            None if self.runs.is_empty() => Reaction::EndProcess,
            None if signal == Received::Hangup => Reaction::Nothing,
            None if last.is_some_and(|last| now.duration_since(last) < ONE_REQUEST) => Reaction::Nothing,
            None => Reaction::EndProcess,
        }
    }
}

/// Returns a flag that the first Ctrl-C, SIGTERM or hangup sets; `words` is printed at the same time. A second Ctrl-C or SIGTERM
/// ends the process at once; a second hangup does not. On Linux, Ctrl-C and hangups are ignored if the process was started with
/// them ignored, as under `nohup` or in the background of a script.
///
/// A process may have several such flags, one after another or at once. A run ends when its flag is dropped. A signal with no
/// active run ends the process.
///
/// # Errors
/// The operating system refuses to install the handler.
pub fn interrupt_flag(words: &'static str) -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let mut interrupts = Interrupts::lock();
    interrupts.add(&flag, words);
    if !interrupts.listening {
        listen(interrupted)?;
        interrupts.listening = true;
    }
    Ok(flag)
}

fn interrupted(signal: Received) {
    let reaction = Interrupts::lock().receive(signal, Instant::now());
    match reaction {
        // On a separate thread: writing blocks if standard error is a full pipe, and a second Ctrl-C must still work.
        Reaction::Say(words) => drop(std::thread::Builder::new().spawn(|| say(words))),
        Reaction::Nothing => {}
        Reaction::EndProcess => std::process::exit(130),
    }
}

/// Makes a write beyond the limit on file sizes (`ulimit -f`) fail like a write to a full disk. By default the system would end
/// the process with a signal, SIGXFSZ.
pub fn survive_file_size_limit() {
    // A handler for the signal has this effect whatever it does. If it cannot be installed, the default stays.
    #[cfg(unix)]
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
}

#[cfg(unix)]
fn listen(interrupted: fn(Received)) -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let handled = [SIGINT, SIGHUP].into_iter().filter(|&signal| !is_ignored(signal)).chain([SIGTERM]);
    let signals = signal_hook::iterator::Signals::new(handled);
    let mut signals = signals.map_err(|e| Error::Other(format!("cannot listen for Ctrl-C: {e}")))?;
    let thread = Threads { count: 1, purpose: "to listen for Ctrl-C", lower: "--threads or --workers" };
    thread.spawn(move || {
        for signal in signals.forever() {
            interrupted(if signal == SIGHUP { Received::Hangup } else { Received::Request });
        }
    })?;
    Ok(())
}

/// Whether the process ignores a signal. Only Linux reports this, in a file; elsewhere the answer is no.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(not(unix))]
fn listen(interrupted: fn(Received)) -> Result<()> {
    let set = ctrlc::set_handler(move || interrupted(Received::Request));
    set.map_err(|e| Error::Other(format!("cannot listen for Ctrl-C: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_signal_reaches_every_active_run_and_no_finished_one() {
        let mut interrupts = Interrupts { listening: true, runs: Vec::new() };
        let mut run = |words| {
            let flag = Arc::new(AtomicBool::new(false));
            interrupts.add(&flag, words);
            flag
        };
        let over = run("over");
        let (first, second) = (run("first"), run("second"));
        drop(over);
        let (start, later) = (Instant::now(), |ms| Duration::from_millis(ms));
        assert_eq!(interrupts.receive(Received::Request, start), Reaction::Say("second"));
        assert!(first.load(Ordering::Relaxed) && second.load(Ordering::Relaxed));
        assert_eq!(interrupts.receive(Received::Request, start + later(200)), Reaction::EndProcess);
        // A later run is interrupted by its own signal only.
        drop((first, second));
        let next = Arc::new(AtomicBool::new(false));
        interrupts.add(&next, "next");
        assert_eq!(interrupts.receive(Received::Request, start + later(400)), Reaction::Say("next"));
        assert_eq!(interrupts.runs.len(), 1);
        drop(next);
        assert_eq!(interrupts.receive(Received::Request, start + later(600)), Reaction::EndProcess);
    }

    #[test]
    fn hangups_and_repeats_of_one_request_do_not_end_the_process() {
        let mut interrupts = Interrupts { listening: true, runs: Vec::new() };
        let flag = Arc::new(AtomicBool::new(false));
        interrupts.add(&flag, "stopping");
        let start = Instant::now();
        let mut receive = |signal, ms| interrupts.receive(signal, start + Duration::from_millis(ms));
        assert_eq!(receive(Received::Hangup, 0), Reaction::Say("stopping"));
        assert!(flag.load(Ordering::Relaxed));
        assert_eq!(receive(Received::Hangup, 5000), Reaction::Nothing);
        // The first request after a hangup is not a second request.
        assert_eq!(receive(Received::Request, 6000), Reaction::Say("stopping"));
        assert_eq!(receive(Received::Request, 6050), Reaction::Nothing);
        assert_eq!(receive(Received::Hangup, 7000), Reaction::Nothing);
        assert_eq!(receive(Received::Request, 8000), Reaction::EndProcess);
    }

    const CHILD: &str = "POLYHEAD_TEST_PANICS";

    /// The child process runs this same test: it panics on two threads, continues, and exits with 0.
    #[test]
    fn a_panic_explains_itself_and_does_not_end_the_process() {
        if std::env::var_os(CHILD).is_some() {
            explain_panics();
            for words in ["the first", "the second"] {
                assert!(std::thread::spawn(move || panic!("{words}")).join().is_err());
            }
            return;
        }
        let test = "console::tests::a_panic_explains_itself_and_does_not_end_the_process";
        let child = |stderr: Stdio, backtrace: &str| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args([test, "--exact", "--nocapture"]).env(CHILD, "1").env("RUST_BACKTRACE", backtrace);
            let output = command.stdout(Stdio::null()).stderr(stderr).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stderr).unwrap()
        };
        let said = child(Stdio::piped(), "0");
        let parts = ["bug in polyhead", env!("CARGO_PKG_VERSION"), env!("POLYHEAD_COMMIT"), "console.rs", "the first"];
        for part in [&parts[..], &["report it", "--resume RUN", "RUST_BACKTRACE=1", "the second"]].concat() {
            assert!(said.contains(part), "{part} is not in: {said}");
        }
        assert_eq!(said.matches("report it").count(), 1, "{said}");
        assert!(child(Stdio::piped(), "1").contains("console::tests::"));
        // Standard error is a pipe without a reader.
        child(std::io::pipe().unwrap().1.into(), "0");
    }
}
