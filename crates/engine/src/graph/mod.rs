//! A step as data: the rules that extend and rewrite a graph, and the plan that orders it and
//! places its buffers. Nothing here depends on a device.

pub mod backward;
pub mod fuse;
pub mod plan;
