//! The binary: parses the command line, runs the command and prints an error. It exits with 0, 1 (failed), 2 (usage) or
//! 130 (interrupted). A panic, which is a bug, exits with 101.

use polyhead::cli;
use polyhead::console;
use polyhead::error::Error;

fn main() {
    console::explain_panics();
    console::survive_file_size_limit();
    let done = cli::parse().and_then(|asked| asked.map_or(Ok(()), cli::run));
    if let Err(error) = done {
        // The command has said how it was interrupted, and what continues it.
        if !matches!(error, Error::Interrupted) {
            console::say(&format!("error: {error}"));
        }
        std::process::exit(error.exit_code());
    }
}
