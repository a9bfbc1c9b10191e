//! The computer vision of polyhead: the kinds of task with their labels, heads, losses, metrics and answers (`tasks`), and data sets, from
//! files to batches (`data`).
//!
//! Both are built on the other modules: what a user's files say (`reading`), pictures of results (`draw`), where images lie on a canvas
//! (`geometry`) and the layers of a network (`layers`); `preview` draws the labels of a data set. ARCHITECTURE.md, at the top of the repository, is the map.

#![warn(missing_docs)]
// Tests say what they skip.
#![cfg_attr(test, allow(clippy::print_stderr))]

pub mod data;
pub mod draw;
pub mod geometry;
pub mod layers;
pub mod preview;
pub mod reading;
pub mod tasks;

pub use polyhead_engine::{boxes, device, error, executor, files, graph, ir, ops, random};
