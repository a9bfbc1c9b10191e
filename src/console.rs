//! All that this program writes to a person: results on standard output, everything else on standard error, bars where that
//! is a terminal. Nothing else writes there, and nothing here panics, whoever has stopped reading.

use crate::error::{Error, Result};
use indicatif::{ProgressBar, ProgressStyle};
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
