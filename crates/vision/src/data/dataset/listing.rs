//! Lists the images of a split: walks folders, reads list files, and looks up VOC IDs. Every image has one name, its
//! path relative to the data set, and a fixed position.

use super::faults::Faults;
use crate::archives;
use crate::data::declaration::{Source, Split};
use crate::data::formats::{self, Listed, Origin};
use crate::data::images::decode::{EXTENSIONS, is_image};
use crate::data::progress::Progress;
use crate::data::walk::{Names, folder_in, relative_name, walk, walk_named};
use crate::error::{Error, Result};
use crate::reading::{Place, count_of, did_you_mean, text};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The images of `sources` in order, each path once, and the folders that were reached under several names or left out.
/// Both names are kept, because it is not known here which one the labels use. A list line that names no image is a fault.
/// Notes say how images were found that a list names by paths elsewhere.
pub fn list(
    root: &Path,
    sources: &[Source],
    faults: &mut Faults,
    notes: &mut Vec<String>,
    progress: &Progress,
) -> Result<(Vec<Listed>, Names)> {
    let (mut images, mut names) = (Vec::new(), Names::default());
    for source in sources {
        match source {
            Source::Folder(folder) => {
                let at: Arc<Path> = folder.as_path().into();
                let found = walk_named(folder, &mut names, progress)?;
                let is_split = folder.file_name().is_some_and(|name| Split::called(&name.to_string_lossy()).is_some());
                let origin = if is_split && sources.len() > 1 { Origin::SplitOfClass } else { Origin::Folder };
                images.extend(found.into_iter().map(|image| listed(root, image, &at, origin)));
            }
            Source::List(file) => read_list(root, file, &mut images, faults, notes, progress)?,
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

fn listed(root: &Path, image: PathBuf, folder: &Arc<Path>, origin: Origin) -> Listed {
    Listed { name: relative_name(&image, root), image, folder: folder.clone(), origin }
}

/// The lines of a list file, or the cells of a table's column of images, with their line numbers.
fn lines_of(file: &Path) -> Result<Vec<(usize, String)>> {
    let ends = |with: &str| file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case(with));
    if ends("csv") || ends("tsv") {
        return formats::image_list(file);
    }
    let text = text::read(file).map_err(Error::io("read", file))?;
    Ok(text.lines().enumerate().map(|(i, line)| (i + 1, line.trim().to_owned())).collect())
}

/// Reads a list file: one path per line, a table with a column of paths, or one VOC ID per line
/// (`ID`, or `ID  1|-1|0` in VOC's per-class lists).
fn read_list(
    root: &Path,
    file: &Path,
    images: &mut Vec<Listed>,
    faults: &mut Faults,
    notes: &mut Vec<String>,
    progress: &Progress,
) -> Result<()> {
    let at: Arc<Path> = root.into();
    let all = lines_of(file)?;
    let lines = || all.iter().map(|(number, line)| (*number, line.as_str())).filter(|(_, line)| !line.is_empty());
    let is_path = |line: &str| is_image(Path::new(line));
    // A list from another machine names every image by a path that is not here. If some are here, the others are missing.
    let is_here = |(_, line): (usize, &str)| is_path(line) && find_path(root, file, line).is_some();
    let mut elsewhere =
        (lines().any(|(_, line)| is_path(line)) && !lines().any(is_here)).then(|| Elsewhere::new(root, file));
    let mut ids = None;
    for (number, line) in lines() {
        let place = Place::new(file, Some(number));
        let image = if is_path(line) {
            let found = match &mut elsewhere {
                None => find_path(root, file, line),
                Some(elsewhere) => elsewhere.find(line)?,
            };
            found.ok_or_else(|| missing_path(root, &place, line))
        } else if let Some(image) = find_path(root, file, line) {
            // Its content says whether it is an image.
            Ok(image)
        } else {
            let id = line.split_whitespace().next().unwrap_or(line);
            let ids = match &mut ids {
                Some(ids) => ids,
                none => none.insert(images_by_id(root)?),
            };
            ids.get(id).cloned().ok_or_else(|| missing_id(root, &place, id, ids))
        };
        images.extend(faults.pass(image)?.map(|image| listed(root, image, &at, Origin::List)));
        progress.count(1);
    }
    notes.extend(elsewhere.and_then(|elsewhere| elsewhere.note(root)));
    Ok(())
}

/// Images that a list names by paths of another machine or folder, found by the last parts of these paths.
struct Elsewhere<'a> {
    root: &'a Path,
    file: &'a Path,
    /// The images of the data set by their names; `None` for a name that several have.
    by_name: Option<HashMap<String, Option<PathBuf>>>,
    count: usize,
    first: Option<(String, PathBuf)>,
}

impl<'a> Elsewhere<'a> {
    fn new(root: &'a Path, file: &'a Path) -> Self {
        Elsewhere { root, file, by_name: None, count: 0, first: None }
    }

    /// The image whose path ends with most parts of `line`, or the only one of its name.
    fn find(&mut self, line: &str) -> Result<Option<PathBuf>> {
        let line = line.replace('\\', "/");
        let parts: Vec<&str> = line.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        let mut found =
            (1..parts.len()).find_map(|skipped| find_path(self.root, self.file, &parts[skipped..].join("/")));
        if found.is_none() {
            let by_name = match &mut self.by_name {
                Some(by_name) => by_name,
                none => {
                    let mut by_name = HashMap::new();
                    for image in walk(self.root)? {
                        let name = image.file_name().unwrap_or_default().to_string_lossy().into_owned();
                        by_name.entry(name).and_modify(|one| *one = None).or_insert(Some(image));
                    }
                    none.insert(by_name)
                }
            };
            found = parts.last().and_then(|name| by_name.get(*name).cloned().flatten());
        }
        if let Some(image) = &found {
            self.count += 1;
            self.first.get_or_insert_with(|| (line.clone(), image.clone()));
        }
        Ok(found)
    }

    fn note(&self, root: &Path) -> Option<String> {
        let (line, image) = self.first.as_ref()?;
        Some(format!(
            "{}: no line names a path that is here, so {} found by the last parts of the path (first: `{line}` is {})",
            relative_name(self.file, root),
            match self.count {
                1 => "1 image is".to_owned(),
                n => format!("{n} images are"),
            },
            relative_name(image, root)
        ))
    }
}

/// Skips images that do not exist; the label reader counts them. A name alone, with or without its ending, may be that of one
/// picture in any folder.
fn named_images(root: &Path, file: &Path, images: &mut Vec<Listed>, progress: &Progress) -> Result<()> {
    let at: Arc<Path> = root.into();
    let folders = ["images", "JPEGImages"].map(|name| folder_in(root, name));
    let mut by_name: Option<HashMap<String, Option<PathBuf>>> = None;
    for name in formats::image_names(file)? {
        let below = || folders.iter().map(|folder| folder.join(&name)).find(|path| archives::is_file(path));
        let mut image = find_path(root, file, &name).or_else(below);
        if image.is_none() {
            let by_name = match &mut by_name {
                Some(by_name) => by_name,
                none => none.insert(images_by_name(root)?),
            };
            image = by_name.get(&name).cloned().flatten();
        }
        images.extend(image.map(|image| listed(root, image, &at, Origin::List)));
        progress.count(1);
    }
    Ok(())
}

/// All images of the data set by their names with and without endings; `None` for a name that several have.
fn images_by_name(root: &Path) -> Result<HashMap<String, Option<PathBuf>>> {
    let mut by_name = HashMap::new();
    for image in walk(root)? {
        // A file without an ending has one name.
        let stem = image.file_stem().filter(|stem| Some(*stem) != image.file_name());
        for name in [image.file_name(), stem].into_iter().flatten() {
            let name = name.to_string_lossy().into_owned();
            by_name.entry(name).and_modify(|one| *one = None).or_insert(Some(image.clone()));
        }
    }
    Ok(by_name)
}

/// The reason why none of the images that a label file names is there, with one of its names beside one that exists.
pub fn none_named(root: &Path, file: &Path) -> Option<String> {
    let names = formats::image_names(file).ok()?;
    let first = names.first()?;
    let there = walk(root).ok()?.first().map_or("there is no image".to_owned(), |image| {
        format!("an image that is there is `{}`", relative_name(image, root))
    });
    Some(format!(
        "none of the {} that it names is in {} (first: `{first}`; {there}): correct the names, or name the folder of the images in a data.yaml",
        count_of(names.len(), "image"),
        root.display()
    ))
}

/// A listed path is absolute, or relative to the data set or to the list file. A backslash separates its parts, unless a file
/// has one in its name.
fn find_path(root: &Path, file: &Path, line: &str) -> Option<PathBuf> {
    let beside = file.parent().unwrap_or(root);
    let find = |line: &str| {
        let line = line.strip_prefix("./").unwrap_or(line);
        [root.join(line), beside.join(line)].into_iter().find(|path| archives::is_file(path))
    };
    find(line).or_else(|| line.contains('\\').then(|| find(&line.replace('\\', "/"))).flatten())
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
        folder_in(root, "JPEGImages").display(),
        did_you_mean(id, ids.keys().map(String::as_str))
    ))
}

fn images_by_id(root: &Path) -> Result<HashMap<String, PathBuf>> {
    let folder = folder_in(root, "JPEGImages");
    if !archives::is_dir(&folder) {
        return Ok(HashMap::new());
    }
    let stem =
        |path: &PathBuf| path.with_extension("").strip_prefix(&folder).ok().map(|p| p.to_string_lossy().into_owned());
    let images = walk(&folder)?.into_iter();
    Ok(images.filter_map(|path| Some((stem(&path)?, path))).collect())
}
