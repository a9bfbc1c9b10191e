//! The kinds of task polyhead trains: labels, heads, losses, metrics and answers, a folder for each kind.
//!
//! Beside them stand the rooms they are built on: what a person's files say (`reading`), pictures of results (`draw`), how pictures come
//! to lie on a canvas (`geometry`) and the layers a network is written in. ARCHITECTURE.md, at the top of the repository, is the map.

// Tests say what they skip.
#![cfg_attr(test, allow(clippy::print_stderr))]

pub mod draw;
pub mod geometry;
pub mod layers;
pub mod reading;
pub mod tasks;

pub use polyhead_engine::{boxes, device, error, executor, graph, ir, ops};
