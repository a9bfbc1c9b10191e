//! A step as data: the graph of values and nodes, the rules that extend and rewrite it, and the plan that orders it and
//! places its buffers. Nothing here knows a device.

pub mod backward;
pub mod fuse;
pub mod ir;
pub mod plan;
