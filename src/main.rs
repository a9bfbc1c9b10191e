//! The binary: parses, does, prints the error, exits with 0, 1 (failed), 2 (usage) or 130 (interrupted).

use polyhead::cli;

fn main() {
    if let Err(error) = cli::parse().and_then(cli::run) {
        let code = error.exit_code();
        eprintln!("error: {error}");
        std::process::exit(code);
    }
}
