//! A step as data: the code that appends a graph's backward pass and fuses nodes, and the plan that divides the nodes into
//! segments and places their values. Nothing here depends on a device.

pub mod backward;
pub mod fuse;
pub mod plan;
