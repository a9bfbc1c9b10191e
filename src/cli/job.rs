//! Runs a long job over files and shows its progress: a bar on standard error if that is a terminal, else a line from time
//! to time.

use crate::console::{self, Bar};
use crate::data::{Progress, remove_leftovers};
use crate::reading::count_of;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

const BAR_EVERY: Duration = Duration::from_millis(100);
/// Used without a terminal.
const LINE_EVERY: Duration = Duration::from_secs(20);

/// Runs `job` and shows its progress.
pub fn shown<T>(job: impl FnOnce(&Progress) -> T) -> T {
    watched(Progress::default(), job)
}

/// Runs a job that writes the folder `out`, and shows its progress. On Ctrl-C it ends and removes what it has written; what an
/// earlier one left behind when it was killed is removed first.
pub fn writing<T>(out: &Path, job: impl FnOnce(&Progress) -> T) -> T {
    remove_leftovers(out).iter().for_each(|removed| console::say(&format!("note: {removed}")));
    let listen = || console::interrupt_flag("removing what is written so far; Ctrl-C again stops at once");
    watched(Progress::stoppable(listen), job)
}

fn watched<T>(progress: Progress, job: impl FnOnce(&Progress) -> T) -> T {
    let (ended, watch) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        // If the system refuses the thread, the job runs without a display.
        let _ = std::thread::Builder::new().spawn_scoped(scope, || {
            let bar = Bar::new(OPEN);
            match bar.is_shown() {
                true => show_bar(&bar, &progress, watch),
                false => show_lines(&progress, watch),
            }
        });
        let outcome = job(&progress);
        // Dropping the sender ends the watcher.
        drop(ended);
        outcome
    })
}

/// Template while the number of files is unknown.
const OPEN: &str = "{msg} {spinner} {pos} {elapsed}";
const COUNTED: &str = "{msg} {bar:24} {pos}/{len} {elapsed}<{eta}";

fn show_bar(bar: &Bar, progress: &Progress, watch: mpsc::Receiver<()>) {
    let mut shown = None;
    while watch.recv_timeout(BAR_EVERY) == Err(RecvTimeoutError::Timeout) {
        let (stage, done, total) = progress.now();
        if shown.replace((stage, total)) != Some((stage, total)) {
            bar.reset();
            bar.set_template(if total.is_some() { COUNTED } else { OPEN });
            bar.set_message(stage.to_owned());
            total.inspect(|total| bar.set_length(*total as u64));
        }
        bar.set_position(done as u64);
    }
    bar.clear();
}

fn show_lines(progress: &Progress, watch: mpsc::Receiver<()>) {
    let started = Instant::now();
    while watch.recv_timeout(LINE_EVERY) == Err(RecvTimeoutError::Timeout) {
        let (stage, done, total) = progress.now();
        let files = match total {
            Some(total) => format!("{done} of {}", count_of(total, "file")),
            None => count_of(done, "file"),
        };
        console::say(&format!("  {stage}: {files}, {} s", started.elapsed().as_secs()));
    }
}
