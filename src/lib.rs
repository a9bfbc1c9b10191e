//! One shared ResNet trunk, any number of classification, detection and regression heads, trained together.
//!
//! The rooms, each of which looks only into those before it:
//!
//! ```text
//! error → boxes → task → device → ir → ops → graph → executor → model → losses → balance → optim
//!       → metrics → data → draw → config → recipe → evaluate → predict → train → bench → cli → main
//! ```
//!
//! To ask a trained network, see [`model::Model`]. ARCHITECTURE.md is the map.

/// README.md's Rust is compiled with the doc tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub mod balance;
pub mod bench;
pub mod boxes;
pub mod cli;
pub mod config;
pub mod data;
pub mod device;
pub mod draw;
pub mod error;
pub mod evaluate;
pub mod executor;
pub mod graph;
pub mod ir;
pub mod losses;
pub mod metrics;
pub mod model;
pub mod ops;
pub mod optim;
pub mod predict;
pub mod recipe;
pub mod task;
pub mod train;
