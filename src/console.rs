//! All that this program writes to a person: results on standard output, everything else on standard error, bars where that
//! is a terminal. Nothing else writes there, and nothing here panics, whoever has stopped reading.

use crate::error::{Error, Result};
use indicatif::{ProgressBar, ProgressStyle};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A line on standard error. It is for whoever watches: work does not end because nobody does, or because the disk that the
/// lines go to is full.
pub fn say(line: &str) {
    // As one write, so that lines of several threads do not mix.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Whether anybody reads standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    There,
    /// As after `| head`, who has what was wanted: no error.
    Gone,
}

/// Prints a result on standard output.
///
/// # Errors
/// Standard output cannot be written, as on a full disk. A result is not lost in silence.
pub fn print(text: &str) -> Result<Reader> {
    printed(std::io::stdout().lock().write_all(text.as_bytes()))
}

/// What became of something written to standard output.
///
/// # Errors
/// As [`print()`].
pub fn printed(written: std::io::Result<()>) -> Result<Reader> {
    match written.and_then(|()| std::io::stdout().flush()) {
        Ok(()) => Ok(Reader::There),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(e) => Err(Error::Other(format!("cannot write to standard output: {e}"))),
    }
}

/// Standard output, for results that come one after the other; whoever writes there bears the errors.
pub fn output() -> Box<dyn Write + Send> {
    Box::new(std::io::stdout())
}

/// A bar on standard error; hidden where that is no terminal.
pub struct Bar {
    bar: ProgressBar,
}

impl Bar {
    /// In indicatif's template language.
    pub fn new(template: &str) -> Bar {
        let bar = Bar { bar: ProgressBar::no_length() };
        bar.set_template(template);
        bar
    }

    /// With so much done of the whole before it began.
    pub fn at(self, position: u64, length: u64) -> Bar {
        self.bar.set_length(length);
        Bar { bar: self.bar.with_position(position) }
    }

    /// Where it is hidden, lines now and then take its place.
    pub fn is_shown(&self) -> bool {
        !self.bar.is_hidden()
    }

    pub fn set_template(&self, template: &str) {
        self.bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    }

    pub fn set_length(&self, length: u64) {
        self.bar.set_length(length);
    }

    pub fn set_position(&self, position: u64) {
        self.bar.set_position(position);
    }

    pub fn set_message(&self, message: String) {
        self.bar.set_message(message);
    }

    /// Begins again, with the clock at zero.
    pub fn reset(&self) {
        self.bar.reset();
    }

    /// A line above the bar, or as [`say`] where it is hidden.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| say(line));
    }

    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// Makes a panic say what to do about it. It does not end the process: whoever catches panics goes on, and the exit code of
/// one that nobody catches stays 101.
pub fn explain_panics() {
    static EXPLAINED: AtomicBool = AtomicBool::new(false);
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let what = format!("thread '{}' {panic}", thread.name().unwrap_or("unnamed"));
        // Captured only where RUST_BACKTRACE asks for it.
        let backtrace = Backtrace::capture();
        // Several threads may panic for one reason, and an image whose decoder panics is left out: once is enough.
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
        _ => "With RUST_BACKTRACE=1 in the environment, the report would say where it came from.".to_owned(),
    };
    format!(
        "error: this is a fault in polyhead {}, commit {}: {what}\n\
         Please report it {place}, with this text and the command.\n\
         If it ended a training run, the run's last checkpoint is safe: polyhead train --resume RUN goes on from it.\n\
         {backtrace}",
        env!("CARGO_PKG_VERSION"),
        env!("POLYHEAD_COMMIT"),
    )
}

/// A flag that the first Ctrl-C, SIGTERM or hangup sets, which also prints `words`; a second one ends the process at once.
/// A hangup counts only if the process did not start with it ignored, as under `nohup`.
///
/// # Errors
/// The operating system refuses to install the handler.
pub fn interrupt_flag(words: &'static str) -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let handler = Arc::clone(&flag);
    let interrupted = move || {
        if handler.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        // On its own thread: if standard error is a full pipe, writing waits, and a second Ctrl-C must not.
        let _ = std::thread::Builder::new().spawn(|| say(words));
    };
    listen(interrupted).map_err(|e| Error::Other(format!("cannot listen for Ctrl-C: {e}")))?;
    Ok(flag)
}

#[cfg(unix)]
fn listen(interrupted: impl Fn() + Send + 'static) -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    if !is_ignored(SIGHUP) {
        signals.add_signal(SIGHUP)?;
    }
    std::thread::Builder::new().name("signals".into()).spawn(move || signals.forever().for_each(|_| interrupted()))?;
    Ok(())
}

/// Whether the process ignores a signal. Linux tells; elsewhere nothing counts as ignored.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(not(unix))]
fn listen(interrupted: impl Fn() + Send + 'static) -> std::io::Result<()> {
    match ctrlc::set_handler(interrupted) {
        // A second run in one process keeps the first one's handler.
        Ok(()) | Err(ctrlc::Error::MultipleHandlers) => Ok(()),
        Err(e) => Err(std::io::Error::other(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    const CHILD: &str = "POLYHEAD_TEST_PANICS";

    /// The child is this very test: it panics on two threads, goes on, and ends well.
    #[test]
    fn a_panic_says_what_to_do_and_ends_nothing_by_itself() {
        if std::env::var_os(CHILD).is_some() {
            explain_panics();
            for words in ["the first", "the second"] {
                assert!(std::thread::spawn(move || panic!("{words}")).join().is_err());
            }
            return;
        }
        let test = "console::tests::a_panic_says_what_to_do_and_ends_nothing_by_itself";
        let child = |stderr: Stdio, backtrace: &str| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args([test, "--exact", "--nocapture"]).env(CHILD, "1").env("RUST_BACKTRACE", backtrace);
            let output = command.stdout(Stdio::null()).stderr(stderr).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stderr).unwrap()
        };
        let said = child(Stdio::piped(), "0");
        let parts =
            ["fault in polyhead", env!("CARGO_PKG_VERSION"), env!("POLYHEAD_COMMIT"), "console.rs", "the first"];
        for part in [&parts[..], &["report it", "--resume RUN", "RUST_BACKTRACE=1", "the second"]].concat() {
            assert!(said.contains(part), "{part} is not in: {said}");
        }
        assert_eq!(said.matches("report it").count(), 1, "{said}");
        assert!(child(Stdio::piped(), "1").contains("console::tests::"));
        // Nobody reads.
        child(std::io::pipe().unwrap().1.into(), "0");
    }
}
