//! The label files of annotation tools, one form per file of this folder. A form only says what its files look like and
//! what they state about each image. Recognition, `from:` in data.yaml, matching with images and `data describe` are the
//! same for all forms.
//!
//! To add a form: a file here with a [`Form`], its row in [`FORMS`], and its row in docs/data.md.

mod createml;
mod cvat;
mod datumaro;
mod json;
mod kitti;
mod label_studio;
mod labelme;
mod via;
mod vott;
mod written;

pub use written::{Part, Shape, Unreadable, Written};

use crate::reading::text;
use std::fmt;
use std::io::Read;
use std::path::Path;

/// All forms.
#[rustfmt::skip]
pub static FORMS: &[&Form] = &[
    &labelme::FORM,
    &cvat::FORM,
    &createml::FORM,
    &kitti::FORM,
    &via::FORM,
    &vott::FORM,
    &label_studio::FORM,
    &datumaro::FORM,
];

/// A form of label files.
pub struct Form {
    /// The key of `from:` in data.yaml.
    pub word: &'static str,
    /// The name of the tool or data set, for display.
    pub title: &'static str,
    /// Whether every image has a file of its own.
    pub files: Files,
    /// The ending of its files, in lower case.
    pub ending: &'static str,
    /// The usual names of folders of such files, in lower case, if they do not lie beside the images.
    pub folders: &'static [&'static str],
    /// Whether its files may state more of an image than boxes: classes or numbers.
    pub has_tags: bool,
    /// Recognises the form by the beginning of a file.
    pub begins: fn(&str) -> bool,
    /// Reads a file and passes on what it states about each image. Returns notes about the file as a whole.
    ///
    /// # Errors
    /// The text is not of this form at all. Wrong entries are faults of their image instead.
    pub read: fn(&str, Sink) -> Result<Vec<String>, Unreadable>,
}

/// Takes the images of a file one by one, so that only one of them is held as it is written.
pub type Sink<'a> = &'a mut dyn FnMut(Written);

/// The number of images that one file describes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Files {
    /// One, which has the same name without the ending. `from:` names their folder.
    OfOneImage,
    /// Any number; the file names them.
    OfManyImages,
}

impl Form {
    /// The form of the key `word` in `from:`.
    pub fn called(word: &str) -> Option<&'static Form> {
        FORMS.iter().copied().find(|form| form.word == word)
    }

    /// The form of a file by its ending and its beginning.
    pub fn of_file(file: &Path) -> Option<&'static Form> {
        let fits = |form: &&&Form| form.is_ending_of(file);
        FORMS.iter().find(fits)?;
        let start = beginning(file)?;
        FORMS.iter().copied().find(|form| form.is_ending_of(file) && (form.begins)(&start))
    }

    /// Whether a file with this beginning is of some form with the ending `json`.
    pub fn is_json(start: &str) -> bool {
        FORMS.iter().any(|form| form.ending == "json" && (form.begins)(start))
    }

    /// Whether the file's name ends as those of this form do.
    pub fn is_ending_of(&self, file: &Path) -> bool {
        file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case(self.ending))
    }
}

impl PartialEq for Form {
    fn eq(&self, other: &Form) -> bool {
        self.word == other.word
    }
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word)
    }
}

/// The text at the beginning of a file, without blanks before it.
fn beginning(file: &Path) -> Option<String> {
    let mut start = Vec::new();
    text::open(file).ok()?.take(1 << 16).read_to_end(&mut start).ok()?;
    Some(String::from_utf8_lossy(&start).trim_start().to_string())
}

/// Whether the beginning of a JSON file has one of these keys.
fn has_key(start: &str, keys: &[&str]) -> bool {
    keys.iter().any(|key| start.contains(&format!("\"{key}\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_has_a_word_of_its_own() {
        for form in FORMS {
            assert_eq!(FORMS.iter().filter(|other| other.word == form.word).count(), 1, "{form:?}");
            assert!(!form.folders.iter().any(|folder| *folder != folder.to_lowercase()), "{form:?}");
        }
    }
}
