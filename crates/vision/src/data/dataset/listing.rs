//! Lists the images of a split: walks folders, reads list files, and looks up VOC IDs. Every image has one name, its
//! path relative to the data set, and a fixed position.

use super::faults::Faults;
use crate::data::declaration::Source;
use crate::data::formats::{self, Listed};
use crate::data::images::decode::{EXTENSIONS, is_image};
use crate::data::progress::Progress;
use crate::data::walk::{Names, relative_name, walk, walk_named};
use crate::error::{Error, Result};
use crate::reading::{Place, did_you_mean, text};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The images of `sources` in order, each path once, and the folders that were reached under several names or left out.
/// Both names are kept, because it is not known here which one the labels use. A list line that names no image is a fault.
pub fn list(root: &Path, sources: &[Source], faults: &mut Faults, progress: &Progress) -> Result<(Vec<Listed>, Names)> {
    let (mut images, mut names) = (Vec::new(), Names::default());
    for source in sources {
        match source {
            Source::Folder(folder) => {
                let at: Arc<Path> = folder.as_path().into();
                let found = walk_named(folder, &mut names, progress)?;
                images.extend(found.into_iter().map(|image| listed(root, image, &at)));
            }
            Source::List(file) => read_list(root, file, &mut images, faults, progress)?,
            Source::Labels(file) => named_images(root, file, &mut images, progress)?,
        }
    }
    // A single folder never lists a path twice. Paths are compared rather than names, because names that are not
    // Unicode may look equal.
    if !matches!(sources, [] | [Source::Folder(_)]) {
        let mut seen = HashSet::with_capacity(images.len());
        let mut first = images.iter().map(|image| seen.insert(image.image.as_path())).collect::<Vec<_>>().into_iter();
        images.retain(|_| first.next().unwrap_or(true));
    }
    Ok((images, names))
}

fn listed(root: &Path, image: PathBuf, folder: &Arc<Path>) -> Listed {
    Listed { name: relative_name(&image, root), image, folder: folder.clone() }
}

/// The lines of a list file, or the cells of a table's column of images, with their line numbers.
fn lines(file: &Path) -> Result<Vec<(usize, String)>> {
    let ends = |with: &str| file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case(with));
    if ends("csv") || ends("tsv") {
        return formats::image_list(file);
    }
    let text = text::read(file).map_err(Error::io("read", file))?;
    Ok(text.lines().enumerate().map(|(i, line)| (i + 1, line.trim().to_owned())).collect())
}

/// Reads a list file: one path per line, a table with a column of paths, or one VOC ID per line (`ID`, or `ID  1|-1|0` in VOC's per-class lists).
fn read_list(
    root: &Path,
    file: &Path,
    images: &mut Vec<Listed>,
    faults: &mut Faults,
    progress: &Progress,
) -> Result<()> {
    let at: Arc<Path> = root.into();
    let mut ids = None;
    for (number, line) in lines(file)? {
        let (line, place) = (line.as_str(), Place::new(file, Some(number)));
        if line.is_empty() {
            continue;
        }
        let image = if is_image(Path::new(line)) || find_path(root, file, line).is_some() {
            find_path(root, file, line).ok_or_else(|| missing_path(root, &place, line))
        } else {
            let id = line.split_whitespace().next().unwrap_or(line);
            let ids = match &mut ids {
                Some(ids) => ids,
                none => none.insert(images_by_id(root)?),
            };
            ids.get(id).cloned().ok_or_else(|| missing_id(root, &place, id, ids))
        };
        images.extend(faults.pass(image)?.map(|image| listed(root, image, &at)));
        progress.count(1);
    }
    Ok(())
}

/// Skips images that do not exist; the label reader counts them.
fn named_images(root: &Path, file: &Path, images: &mut Vec<Listed>, progress: &Progress) -> Result<()> {
    let at: Arc<Path> = root.into();
    let folders = ["images", "JPEGImages"].map(|name| root.join(name));
    for name in formats::image_names(file)? {
        let below = || folders.iter().map(|folder| folder.join(&name)).find(|path| path.is_file());
        let image = find_path(root, file, &name).or_else(below);
        images.extend(image.map(|image| listed(root, image, &at)));
        progress.count(1);
    }
    Ok(())
}

/// A listed path is absolute, or relative to the data set or to the list file.
fn find_path(root: &Path, file: &Path, line: &str) -> Option<PathBuf> {
    let line = line.strip_prefix("./").unwrap_or(line);
    let beside = file.parent().unwrap_or(root);
    [root.join(line), beside.join(line)].into_iter().find(|path| path.is_file())
}

fn missing_path(root: &Path, place: &Place, line: &str) -> Error {
    place.error(format!(
        "`{line}` is not there (looked in {} and beside this list): correct the line or remove it",
        root.display()
    ))
}

fn missing_id(root: &Path, place: &Place, id: &str, ids: &HashMap<String, PathBuf>) -> Error {
    place.error(format!(
        "no image `{id}` with one of the endings {} in {}: correct the line or remove it{}",
        EXTENSIONS.join(", "),
        root.join("JPEGImages").display(),
        did_you_mean(id, ids.keys().map(String::as_str))
    ))
}

fn images_by_id(root: &Path) -> Result<HashMap<String, PathBuf>> {
    let folder = root.join("JPEGImages");
    if !folder.is_dir() {
        return Ok(HashMap::new());
    }
    let stem =
        |path: &PathBuf| path.with_extension("").strip_prefix(&folder).ok().map(|p| p.to_string_lossy().into_owned());
    let images = walk(&folder)?.into_iter();
    Ok(images.filter_map(|path| Some((stem(&path)?, path))).collect())
}
