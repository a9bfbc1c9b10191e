//! Reading a person's files before their meaning is known: places in files, words about them, YAML with its lines, and
//! the content of labels as written. It opens no image.

mod content;
mod place;
mod words;
pub mod yaml;

pub use content::{BoxFormat, Missing, Raw, RawBox, RawClass, Reading, Remark, Word};
pub use place::{List, Place, Spot};
pub use words::{count_of, did_you_mean, list_some};
