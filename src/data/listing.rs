//! Which images a split holds: folders walked, list files read, VOC IDs looked up. Every image has one name, its path
//! relative to the data set, and one order.

use super::decode::{EXTENSIONS, is_image};
use super::faults::Faults;
use super::progress::Progress;
use super::{Place, did_you_mean, formats};
use crate::error::{Error, Result};
use std::collections::{HashMap, HashSet};
use std::fs::DirEntry;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a `train:`, `val:` or `test:` names.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    Folder(PathBuf),
    List(PathBuf),
    /// The images that a file of labels names, as far as they are there.
    Labels(PathBuf),
}

impl Source {
    pub fn path(&self) -> &Path {
        let (Source::Folder(path) | Source::List(path) | Source::Labels(path)) = self;
        path
    }
}

/// One image of a split.
#[derive(Clone, Debug)]
pub struct Listed {
    pub image: PathBuf,
    /// Relative to the data set's root, with forward slashes.
    pub name: String,
    /// The folder its split was read from; the root for a list file.
    pub folder: Arc<Path>,
}

/// A folder whose images are listed under another name too.
#[derive(Clone, Debug, PartialEq)]
pub struct Alias {
    pub path: PathBuf,
    pub same_as: PathBuf,
}

/// The images of `sources`, in order, each path once, and the folders that were met under more than one. Which of their names the
/// labels go by is not known here, so both stay. A line of a list that names no image is a fault.
pub fn list(
    root: &Path,
    sources: &[Source],
    faults: &mut Faults,
    progress: &Progress,
) -> Result<(Vec<Listed>, Vec<Alias>)> {
    let (mut images, mut names) = (Vec::new(), Names::default());
    for source in sources {
        match source {
            Source::Folder(folder) => {
                let at: Arc<Path> = folder.as_path().into();
                let mut found = Vec::new();
                walk_into(folder, &mut Vec::new(), Some(&mut names), &mut found, progress)?;
                images.extend(found.into_iter().map(|image| listed(root, image, &at)));
            }
            Source::List(file) => read_list(root, file, &mut images, faults, progress)?,
            Source::Labels(file) => named_images(root, file, &mut images, progress)?,
        }
    }
    // One folder holds every path once. By path: names that are no Unicode may read alike.
    if !matches!(sources, [] | [Source::Folder(_)]) {
        let mut seen = HashSet::with_capacity(images.len());
        let mut first = images.iter().map(|image| seen.insert(image.image.as_path())).collect::<Vec<_>>().into_iter();
        images.retain(|_| first.next().unwrap_or(true));
    }
    Ok((images, names.aliases))
}

fn listed(root: &Path, image: PathBuf, folder: &Arc<Path>) -> Listed {
    Listed { name: relative_name(&image, root), image, folder: folder.clone() }
}

/// `image` relative to `base` with forward slashes; whole where it lies elsewhere.
pub fn relative_name(image: &Path, base: &Path) -> String {
    let relative = image.strip_prefix(base).unwrap_or(image);
    relative.to_string_lossy().replace('\\', "/")
}

/// All images below `folder` under every name they have, sorted by path; hidden entries are left out.
pub fn walk(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut images = Vec::new();
    walk_into(folder, &mut Vec::new(), None, &mut images, &Progress::default())?;
    Ok(images)
}

/// A folder, links resolved, and as it was reached.
type Entered = (PathBuf, PathBuf);

/// Under which name each folder was entered first.
#[derive(Default)]
struct Names {
    /// By where they really lie.
    entered: HashMap<PathBuf, PathBuf>,
    aliases: Vec<Alias>,
}

impl Names {
    /// Whether this is another name of a folder that was entered, or will be: one that lies below a folder of `above` has its real
    /// name there, whatever links lead to it before.
    fn knows(&mut self, (real, path): &Entered, above: &[Entered]) -> bool {
        let below = |(top, reached): &Entered| {
            let rest = real.strip_prefix(top).ok().filter(|rest| is_walked(top, rest))?;
            Some(reached.join(rest))
        };
        let known = self.entered.get(real).cloned();
        let same_as = known.or_else(|| above.iter().rev().find_map(below).filter(|_| path.is_symlink()));
        let is_known = same_as.is_some();
        match same_as {
            // A source within another is no other name.
            Some(same_as) if same_as == *path => {}
            Some(same_as) => self.aliases.push(Alias { path: path.clone(), same_as }),
            None => drop(self.entered.insert(real.clone(), path.clone())),
        }
        is_known
    }
}

/// Whether a walk of `top` comes by `rest` below it.
fn is_walked(top: &Path, rest: &Path) -> bool {
    let hidden = |part: &std::path::Component| part.as_os_str().as_encoded_bytes().starts_with(b".");
    let holds_runs = |folder: &Path| folder != Path::new("") && top.join(folder).join(RUNS_MARKER).exists();
    !rest.components().any(|part| hidden(&part)) && !rest.ancestors().any(holds_runs)
}

/// Each folder's entries are sorted, so that the whole is: paths compare part by part. `above` are the folders this one lies
/// in: what links back to one of them leads to no other image.
fn walk_into(
    folder: &Path,
    above: &mut Vec<Entered>,
    mut names: Option<&mut Names>,
    images: &mut Vec<PathBuf>,
    progress: &Progress,
) -> Result<()> {
    if !enter(folder, above)? {
        return Ok(());
    }
    let is_alias = match (&mut names, above.split_last()) {
        (Some(names), Some((entered, above))) => names.knows(entered, above),
        _ => false,
    };
    // All below an alias has another name too: said once.
    let mut names = names.filter(|_| !is_alias);
    for (mut path, is_folder) in entries(folder)? {
        if is_folder {
            walk_into(&path, above, names.as_deref_mut(), images, progress)?;
        } else if is_image(&path) {
            // Joined paths have room for twice their length, which a million of them feel.
            path.shrink_to_fit();
            images.push(path);
            progress.count(1);
        }
    }
    above.pop();
    Ok(())
}

/// Whether there is an image somewhere below `folder`; looks no further than the first.
pub fn holds_image(folder: &Path) -> Result<bool> {
    image_below(folder, &mut Vec::new())
}

fn image_below(folder: &Path, above: &mut Vec<Entered>) -> Result<bool> {
    if !enter(folder, above)? {
        return Ok(false);
    }
    let mut inner = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("list", folder))? {
        match visible(folder, entry)? {
            Some((path, true)) => inner.push(path),
            Some((path, false)) if is_image(&path) => return Ok(true),
            _ => {}
        }
    }
    for folder in inner {
        if image_below(&folder, above)? {
            return Ok(true);
        }
    }
    above.pop();
    Ok(false)
}

/// Puts a folder on top of those it lies in; false where it is one of them.
fn enter(folder: &Path, above: &mut Vec<Entered>) -> Result<bool> {
    let entered = (folder.canonicalize().map_err(Error::io("list", folder))?, folder.to_path_buf());
    if above.iter().any(|(real, _)| *real == entered.0) {
        return Ok(false);
    }
    // Deeper than any tree people make by hand.
    if above.len() > 32 {
        return Err(Error::data(folder, None, "folders nested more than 32 deep: expected at most that"));
    }
    above.push(entered);
    Ok(true)
}

/// A hidden file that marks a folder as holding runs, whose pictures are nobody's training images.
pub const RUNS_MARKER: &str = ".polyhead-runs";

/// What lies in `folder`, sorted, hidden entries left out, and whether each is a folder (links followed).
pub fn entries(folder: &Path) -> Result<Vec<(PathBuf, bool)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("list", folder))? {
        found.extend(visible(folder, entry)?);
    }
    // Siblings: the last part alone tells them apart.
    found.sort_unstable_by(|a, b| a.0.file_name().cmp(&b.0.file_name()));
    Ok(found)
}

/// An entry's path and whether it is a folder; nothing of one that is hidden or holds somebody's runs.
fn visible(folder: &Path, entry: std::io::Result<DirEntry>) -> Result<Option<(PathBuf, bool)>> {
    let entry = entry.map_err(Error::io("list", folder))?;
    if entry.file_name().as_encoded_bytes().starts_with(b".") {
        return Ok(None);
    }
    let kind = entry.file_type().map_err(Error::io("list", folder))?;
    let path = entry.path();
    let is_folder = kind.is_dir() || (kind.is_symlink() && path.is_dir());
    // The folder of somebody's runs lies below the images where training was started among them.
    let runs = is_folder && path.join(RUNS_MARKER).exists();
    Ok((!runs).then_some((path, is_folder)))
}

/// The folders in `folder`, sorted.
pub fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let found = entries(folder)?.into_iter();
    Ok(found.filter(|(_, is_folder)| *is_folder).map(|(path, _)| path).collect())
}

/// A list file: one path a line, or VOC's one ID a line (`ID`, or `ID  1|-1|0` of its per-class lists).
fn read_list(
    root: &Path,
    file: &Path,
    images: &mut Vec<Listed>,
    faults: &mut Faults,
    progress: &Progress,
) -> Result<()> {
    let text = std::fs::read_to_string(file).map_err(Error::io("read", file))?;
    let at: Arc<Path> = root.into();
    let mut ids = None;
    for (i, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let (line, place) = (line.trim(), Place::new(file, Some(i + 1)));
        if line.is_empty() {
            continue;
        }
        let image = if is_image(Path::new(line)) {
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

/// Images that are absent are counted by whoever reads the labels.
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

/// A listed path stands relative to the data set, to the list file, or is absolute.
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
