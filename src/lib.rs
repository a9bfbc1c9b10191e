//! Trains one shared ResNet trunk with any number of classification, detection and regression heads.
//!
//! The components in dependency order; each imports only from those before it:
//!
//! ```text
//! error → threads → files → boxes → random → device → ir → ops → graph → executor → geometry → archives → reading → draw
//!       → layers → tasks
//!       → data::random → data::progress → data::ranges → data::aside → data::images → data::own → data::walk → data::forms → data::declaration
//!       → data::formats → data::layouts → data::dataset → data::augment → data::feed → data::built_in
//!       → data::describe → data::convert → data::check → data → preview
//!       → model → balance → optim → config → recipe → new_folder → replacing → evaluate → predict → console → train → compare → bench → share → cli → main
//! ```
//!
//! To use a trained network, see [`model::Model`]. ARCHITECTURE.md describes the code.

#![warn(missing_docs)]
// Tests print a message when they are skipped.
#![cfg_attr(test, allow(clippy::print_stderr))]

/// Compiles the Rust code of docs/library.md with the doc tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/library.md")]
struct LibraryPage;

pub use polyhead_engine::{boxes, device, error, executor, files, graph, ir, ops, random, threads};
pub use polyhead_vision::{archives, data, draw, geometry, layers, preview, reading, tasks};

pub mod balance;
pub mod bench;
pub mod cli;
pub mod compare;
pub mod config;
pub mod console;
pub mod evaluate;
pub mod model;
pub mod new_folder;
pub mod optim;
pub mod predict;
pub mod recipe;
pub mod replacing;
pub mod share;
pub mod train;
