//! Starts threads so that a refusal of the operating system is an error with advice, not a panic. Also starts the pool that all
//! crates share for reading files. The threads that compute are in `device::cpu`.

use crate::error::{Error, Result};
use std::io;
use std::sync::OnceLock;
use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle};

/// Threads that are started for one purpose.
#[derive(Clone, Copy, Debug)]
pub struct Threads {
    /// The number of threads asked for.
    pub count: usize,
    /// Their purpose, which continues "cannot start 8 threads", such as `to compute`.
    pub purpose: &'static str,
    /// The flag or variable that lowers their number.
    pub lower: &'static str,
}

impl Threads {
    /// Starts one of the threads.
    ///
    /// # Errors
    /// The operating system refuses it. The caller must end the threads that it has started.
    pub fn spawn(&self, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
        Builder::new().spawn(run).map_err(|e| self.refused(&e))
    }

    /// Starts one of the threads in a scope.
    ///
    /// # Errors
    /// The same as [`Threads::spawn`].
    pub fn spawn_scoped<'scope, T: Send + 'scope>(
        &self,
        scope: &'scope Scope<'scope, '_>,
        run: impl FnOnce() -> T + Send + 'scope,
    ) -> Result<ScopedJoinHandle<'scope, T>> {
        Builder::new().spawn_scoped(scope, run).map_err(|e| self.refused(&e))
    }

    /// The error if one of the threads cannot be started.
    pub fn refused(&self, reason: &io::Error) -> Error {
        self.refused_because(&reason.to_string())
    }

    fn refused_because(&self, reason: &str) -> Error {
        let Threads { count, purpose, lower } = *self;
        Error::Threads { count, purpose, lower, reason: reason.to_owned() }
    }
}

/// Starts rayon's pool unless it runs already: one thread per core, or RAYON_NUM_THREADS. Must be called before rayon is first
/// used, because rayon panics if it cannot start its threads.
///
/// # Errors
/// The operating system refuses the threads. Later calls fail, too.
pub fn start_shared_pool() -> Result<()> {
    static REFUSED: OnceLock<Option<(usize, String)>> = OnceLock::new();
    let refused = REFUSED.get_or_init(|| {
        let count = shared_threads(std::env::var("RAYON_NUM_THREADS").ok().as_deref());
        let error = rayon::ThreadPoolBuilder::new().num_threads(count).build_global().err()?;
        // Without a source, the pool was started before, by the program that uses this library.
        std::error::Error::source(&error).map(|reason| (count, reason.to_string()))
    });
    match refused {
        None => Ok(()),
        Some((count, reason)) => {
            let threads = Threads { count: *count, purpose: "to read files", lower: "RAYON_NUM_THREADS" };
            Err(threads.refused_because(reason))
        }
    }
}

/// The number of threads that rayon would choose with this value of its variable.
fn shared_threads(variable: Option<&str>) -> usize {
    let asked = variable.and_then(|text| text.parse().ok()).filter(|&count| count > 0);
    asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_names_the_number_of_threads_and_what_lowers_it() {
        let threads = Threads { count: 9, purpose: "to load images", lower: "--workers" };
        let error = threads.refused(&io::Error::other("no room"));
        assert_eq!(error.exit_code(), 1);
        assert_eq!(
            error.to_string(),
            "cannot start 9 threads to load images: no room; lower --workers, or raise the limit on processes (ulimit -u) or memory (ulimit -v)"
        );
        let error = Threads { count: 1, ..threads }.refused(&io::Error::other("no room"));
        assert!(error.to_string().starts_with("cannot start a thread to load images: "), "{error}");
    }

    #[test]
    fn the_shared_pool_has_a_thread_per_core_unless_its_variable_says_otherwise() {
        let cores = std::thread::available_parallelism().unwrap().get();
        let cases = [(None, cores), (Some("3"), 3), (Some("0"), cores), (Some("many"), cores)];
        for (variable, expected) in cases {
            assert_eq!(shared_threads(variable), expected, "{variable:?}");
        }
        // The second call finds the pool running.
        start_shared_pool().unwrap();
        start_shared_pool().unwrap();
    }
}
