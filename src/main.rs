//! The binary: parses, does, prints the error, exits with 0, 1 (failed), 2 (usage) or 130 (interrupted).

use clap::Parser;
use polyhead::cli::{self, Cli};

fn main() {
    if let Err(error) = cli::run(Cli::parse()) {
        let code = error.exit_code();
        eprintln!("error: {error}");
        std::process::exit(code);
    }
}
