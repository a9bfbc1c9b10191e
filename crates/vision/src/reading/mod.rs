//! Parsing the user's files before their meaning is known: positions in files, their text, wording of messages, YAML with line
//! numbers, and label content as written. No image is opened here.

mod content;
pub mod json;
mod nearest;
mod place;
pub mod text;
mod tree;
mod words;
pub mod yaml;

pub use content::{BoxFormat, MOST_CLASSES, Missing, Raw, RawBox, RawClass, Reading, Remark, Word};
pub use nearest::did_you_mean_path;
pub use place::{List, Place, Spot};
pub use words::{count_of, cut, did_you_mean, json_line, list_some, shell_word};
