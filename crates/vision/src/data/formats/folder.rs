//! Class folders: the class of an image is the first folder below its split's folder, or the folder above it in `cat/train/1.jpg`.

use super::listed::{Listed, Origin};
use super::{Raw, RawClass, Reading, Word};
use crate::data::declaration::Split;
use crate::error::{Error, Result};
use crate::reading::Spot;
use std::path::{Path, PathBuf};

pub fn read(image: &Listed) -> Result<Reading> {
    let Some(class) = class_of(image) else {
        let message = format!(
            "this image lies in no class folder below {}: move it into the folder of its class",
            image.folder.display()
        );
        return Err(Error::data(&image.image, None, message));
    };
    let word = Word::Name(class.into());
    Ok(Reading::of(Raw::Class(RawClass { word, spot: Spot::File }), &image.image, None))
}

/// The first folder below the split's folder, or the parent folder if a list file names images of many folders.
fn class_of(image: &Listed) -> Option<String> {
    let below = image.image.strip_prefix(&image.folder).ok()?;
    let parents: Vec<&Path> = below.parent()?.iter().map(Path::new).collect();
    let class = match image.origin {
        Origin::SplitOfClass if parents.is_empty() => Path::new(image.folder.parent()?.file_name()?),
        Origin::List if is_listed(&parents) => parents.last()?,
        Origin::Folder | Origin::SplitOfClass | Origin::List => parents.first()?,
    };
    Some(class.to_string_lossy().into_owned())
}

/// The class folder and the folder of an image that lies further down; `None` if it lies in its class folder.
pub fn below_class(image: &Listed) -> Option<(PathBuf, PathBuf)> {
    let holder = image.image.parent()?;
    let parents: Vec<&Path> = holder.strip_prefix(&image.folder).ok()?.iter().map(Path::new).collect();
    let is_deeper = parents.len() > 1 && !(image.origin == Origin::List && is_listed(&parents));
    is_deeper.then(|| (image.folder.join(parents[0]), holder.to_path_buf()))
}

fn is_listed(parents: &[&Path]) -> bool {
    matches!(parents.first(), Some(first) if is_split(first)) && parents.len() > 1
}

fn is_split(folder: &Path) -> bool {
    Split::called(&folder.to_string_lossy()).is_some()
}
