//! A long job over files, shown while it lasts: a bar on standard error where that is a terminal, else a line now and then.

use crate::data::Progress;
use crate::error::{Error, Result};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

const BAR_EVERY: Duration = Duration::from_millis(100);
/// Without a terminal.
const LINE_EVERY: Duration = Duration::from_secs(20);

/// Runs `job` and shows how far it is.
pub fn shown<T>(job: impl FnOnce(&Progress) -> T) -> T {
    let progress = Progress::default();
    let (ended, watch) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(|| match std::io::stderr().is_terminal() {
            true => show_bar(&progress, watch),
            false => show_lines(&progress, watch),
        });
        let outcome = job(&progress);
        // The watcher ends when nobody can tell it anything any more.
        drop(ended);
        outcome
    })
}

fn show_bar(progress: &Progress, watch: mpsc::Receiver<()>) {
    let bar = ProgressBar::no_length();
    let style = |template| ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let (counted, open) = ("{msg} {bar:24} {pos}/{len} {elapsed}<{eta}", "{msg} {spinner} {pos} {elapsed}");
    let mut shown = None;
    while watch.recv_timeout(BAR_EVERY) == Err(RecvTimeoutError::Timeout) {
        let (stage, done, total) = progress.now();
        if shown.replace((stage, total)) != Some((stage, total)) {
            bar.reset();
            bar.set_style(style(if total.is_some() { counted } else { open }));
            bar.set_message(stage);
            total.inspect(|total| bar.set_length(*total as u64));
        }
        bar.set_position(done as u64);
    }
    bar.finish_and_clear();
}

fn show_lines(progress: &Progress, watch: mpsc::Receiver<()>) {
    let started = Instant::now();
    while watch.recv_timeout(LINE_EVERY) == Err(RecvTimeoutError::Timeout) {
        let (stage, done, total) = progress.now();
        let of = total.map_or(String::new(), |total| format!(" of {total}"));
        eprintln!("  {stage}: {done}{of} files, {} s", started.elapsed().as_secs());
    }
}

/// Prints; that nobody reads any further is no error.
pub fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Error::Other(format!("cannot write to standard output: {e}")))
        }
        _ => Ok(()),
    }
}
