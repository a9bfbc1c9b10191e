//! Names of the files written for an image. A name depends only on the image's path, so that other names need not be
//! remembered.

use crate::archives;
use crate::data::images::decode::EXTENSIONS;
use crate::error::{Error, Result, shown};
use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// The name that an image's picture and labels share, without its ending.
#[derive(Clone, Debug, PartialEq)]
pub enum Name {
    /// Determined when the command line was read.
    Given(PathBuf),
    /// The image's own path relative to its source, including the ending.
    Mirrored(PathBuf),
}

impl Name {
    /// The name with the `ending` of pictures or labels. A mirrored name drops the image's ending, unless another image in the
    /// folder differs only in the ending: neither `a.jpg` nor `a.png` becomes `a`.
    pub fn with_ending(&self, image: &Path, ending: &str) -> PathBuf {
        let mut name: OsString = match self {
            Name::Given(name) => name.clone().into_os_string(),
            Name::Mirrored(path) if shares_stem(image) => path.clone().into_os_string(),
            Name::Mirrored(path) => path.with_extension("").into_os_string(),
        };
        name.push(".");
        name.push(ending);
        name.into()
    }
}

/// Whether another image in the folder has the same name without its ending.
fn shares_stem(image: &Path) -> bool {
    let Some(own) = image.extension() else { return false };
    let lower = EXTENSIONS.iter().map(|e| (*e).to_owned());
    let known: Vec<String> = lower.chain(EXTENSIONS.iter().map(|e| e.to_ascii_uppercase())).collect();
    if !known.iter().any(|e| own == e.as_str()) {
        return true;
    }
    let others = known.iter().filter(|e| own != e.as_str()).map(|e| image.with_extension(e));
    others.chain([image.with_extension("")]).any(|other| archives::is_file(&other) && !is_same(&other, image))
}

/// On file systems that ignore case, `a.JPG` is also found as `a.jpg`.
fn is_same(a: &Path, b: &Path) -> bool {
    matches!((archives::canonicalize(a), archives::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}

/// A listed path as a path below the output folder, with `..` as `__` and the root as `_`. A name of underscores only gets two
/// more, so that no two paths become one.
pub fn mirrored(path: &Path) -> PathBuf {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) if name.as_encoded_bytes().iter().all(|&byte| byte == b'_') => {
            let mut longer = name.to_owned();
            longer.push("__");
            Some(longer)
        }
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("__")),
        Component::RootDir => Some(OsString::from("_")),
        Component::Prefix(drive) => Some(drive.as_os_str().to_string_lossy().replace([':', '\\'], "_").into()),
        Component::CurDir => None,
    });
    parts.collect()
}

/// Unique names for the items of the command line: a repeated name gets a number.
#[derive(Default)]
pub struct Given {
    taken: HashSet<String>,
}

impl Given {
    pub fn name(&mut self, wish: &str) -> PathBuf {
        let mut name = wish.to_owned();
        let mut number = 2;
        while !self.taken.insert(name.clone()) {
            name = format!("{wish}-{number}");
            number += 1;
        }
        name.into()
    }
}

/// Input images that pictures must not overwrite.
#[derive(Debug, Default)]
pub struct ProtectedImages {
    /// Canonical paths.
    pub files: HashSet<PathBuf>,
    pub folders: Vec<PathBuf>,
}

impl ProtectedImages {
    /// # Errors
    /// A picture would overwrite an image.
    pub fn check(&self, picture: &Path) -> Result<()> {
        let Ok(there) = picture.canonicalize() else { return Ok(()) };
        if self.files.contains(&there) || self.folders.iter().any(|f| there.starts_with(f)) {
            return Err(overwritten(picture));
        }
        Ok(())
    }
}

pub fn overwritten(what: &Path) -> Error {
    Error::Usage(format!(
        "{} would be overwritten by an annotated picture: give another folder to --out, or --no-images",
        shown(what)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_listed_paths_have_one_name() {
        let paths =
            ["/a/b.png", "a/b.png", "../b.png", "__/b.png", "____/b.png", "_/b.png", "/b.png", "b.png", "a/../b.png"];
        let names: Vec<PathBuf> = paths.iter().map(|path| mirrored(Path::new(path))).collect();
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), paths.len(), "{names:?}");
        assert_eq!(mirrored(Path::new("./a//b_/c.png")), Path::new("a/b_/c.png"));
        assert_eq!(names[..3], ["_/a/b.png", "a/b.png", "__/b.png"].map(PathBuf::from));
    }
}
