//! What polyhead knows of computer vision: its kinds of task, with their labels, heads, losses, metrics and answers, a folder for each.
//!
//! The other rooms are those that tasks are built on: what a user's files say (`reading`), pictures of results (`draw`), where images lie
//! on a canvas (`geometry`) and the layers of a network. ARCHITECTURE.md, at the top of the repository, is the map.

// Tests say what they skip.
#![cfg_attr(test, allow(clippy::print_stderr))]

pub mod data;
pub mod draw;
pub mod geometry;
pub mod layers;
pub mod preview;
pub mod reading;
pub mod tasks;

pub use polyhead_engine::{boxes, device, error, executor, files, graph, ir, ops};
