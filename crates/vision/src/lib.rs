//! The computer vision part of polyhead. `tasks` holds the kinds of task with their labels, heads, losses, metrics and
//! answers; `data` turns data sets into batches.
//!
//! Both build on smaller modules: `archives` (files inside archives), `reading` (parsing the user's files), `draw` (pictures of results), `geometry` (how
//! an image is placed on the canvas) and `layers` (layers of the network). `preview` draws the labels of a data set.
//! ARCHITECTURE.md, at the top of the repository, is the map.

#![warn(missing_docs)]
// Tests print a note when they skip something.
#![cfg_attr(test, allow(clippy::print_stderr))]

pub mod archives;
pub mod data;
pub mod draw;
pub mod geometry;
pub mod layers;
pub mod preview;
pub mod reading;
pub mod tasks;

pub use polyhead_engine::{boxes, device, error, executor, files, graph, ir, ops, random, threads};
