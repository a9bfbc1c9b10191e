//! One shared ResNet trunk, any number of classification, detection and regression heads, trained together.
//!
//! The rooms, each of which looks only into those before it:
//!
//! ```text
//! error → files → boxes → geometry → reading → draw → device → ir → ops → graph → executor → layers → tasks → model
//!       → balance → optim → data → preview → config → recipe → evaluate → predict → console → train → bench → cli → main
//! ```
//!
//! To ask a trained network, see [`model::Model`]. ARCHITECTURE.md is the map.

// Tests say what they skip.
#![cfg_attr(test, allow(clippy::print_stderr))]

/// README.md's Rust is compiled with the doc tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use polyhead_engine::{boxes, device, error, executor, files, graph, ir, ops};

pub mod balance;
pub mod bench;
pub mod cli;
pub mod config;
pub mod console;
pub mod data;
pub mod draw;
pub mod evaluate;
pub mod geometry;
pub mod layers;
pub mod model;
pub mod optim;
pub mod predict;
pub mod preview;
pub mod reading;
pub mod recipe;
pub mod tasks;
pub mod train;
