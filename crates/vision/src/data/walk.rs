//! Walks folders and lists their images, including the names under which folders are reached. Links are followed; hidden entries
//! and folders that polyhead wrote are skipped.

use super::images::decode::is_image_file;
use super::own::{RUNS_MARKER, written_here};
use super::progress::Progress;
use crate::archives::{self, DirEntry};
use crate::error::{Error, Result, path_text};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A folder that is also listed under another name.
#[derive(Clone, Debug, PartialEq)]
pub struct Alias {
    pub path: PathBuf,
    pub same_as: PathBuf,
}

/// `image` relative to `base`, with forward slashes; the unchanged path if it lies elsewhere.
pub fn relative_name(image: &Path, base: &Path) -> String {
    let relative = image.strip_prefix(base).unwrap_or(image);
    match relative.to_str() {
        Some(text) => text.replace('\\', "/"),
        // Two such names must not become one.
        None => path_text(relative),
    }
}

/// All images below `folder` under all their names, sorted by path; hidden entries are skipped.
pub fn walk(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut images = Vec::new();
    walk_into(folder, &mut Vec::new(), None, &is_image_file, &mut images, &Progress::default())?;
    Ok(images)
}

/// All files below `folder` that fit, otherwise like [`walk`].
pub fn files(folder: &Path, fits: &dyn Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    walk_into(folder, &mut Vec::new(), None, fits, &mut files, &Progress::default())?;
    Ok(files)
}

/// Like [`walk`], and records in `names` the folders that are reached under more than one name.
pub fn walk_named(folder: &Path, names: &mut Names, progress: &Progress) -> Result<Vec<PathBuf>> {
    let mut images = Vec::new();
    walk_into(folder, &mut Vec::new(), Some(names), &is_image_file, &mut images, progress)?;
    Ok(images)
}

/// A folder: its path with links resolved, and the path by which it was reached.
type Entered = (PathBuf, PathBuf);

/// The name under which each folder was first entered.
#[derive(Default)]
pub struct Names {
    /// Keyed by the path with links resolved.
    entered: HashMap<PathBuf, PathBuf>,
    pub aliases: Vec<Alias>,
    /// The folders that were left out because polyhead wrote them, each with a word for what it holds.
    pub own: Vec<(PathBuf, &'static str)>,
}

impl Names {
    /// Whether this is another name of a folder that has been or will be entered. A folder below one of `above` will be
    /// entered under its real name there, even if a link leads to it earlier.
    fn knows(&mut self, (real, path): &Entered, above: &[Entered]) -> bool {
        let below = |(top, reached): &Entered| {
            let rest = real.strip_prefix(top).ok().filter(|rest| is_walked(top, rest))?;
            Some(reached.join(rest))
        };
        let known = self.entered.get(real).cloned();
        let same_as = known.or_else(|| above.iter().rev().find_map(below).filter(|_| path.is_symlink()));
        let is_known = same_as.is_some();
        match same_as {
            // The same path, reached again because one source lies within another, is not another name.
            Some(same_as) if same_as == *path => {}
            Some(same_as) => self.aliases.push(Alias { path: path.clone(), same_as }),
            None => drop(self.entered.insert(real.clone(), path.clone())),
        }
        is_known
    }
}

/// Whether a walk of `top` reaches `rest` below it.
fn is_walked(top: &Path, rest: &Path) -> bool {
    let hidden = |part: &std::path::Component| part.as_os_str().as_encoded_bytes().starts_with(b".");
    let holds_runs = |folder: &Path| folder != Path::new("") && top.join(folder).join(RUNS_MARKER).exists();
    let is_left_out =
        |folder: &Path| holds_runs(folder) || folder != Path::new("") && written_here(&top.join(folder)).is_some();
    !rest.components().any(|part| hidden(&part)) && !rest.ancestors().any(is_left_out)
}

/// Each folder's entries are sorted, which sorts the whole list, because paths compare component by component. `above`
/// are the folders that contain this one; links back to any of them are skipped, since they lead to no new image.
fn walk_into(
    folder: &Path,
    above: &mut Vec<Entered>,
    mut names: Option<&mut Names>,
    fits: &dyn Fn(&Path) -> bool,
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
    // Everything below an alias has a second name too; report only the alias itself.
    let mut names = names.filter(|_| !is_alias);
    for (mut path, is_folder) in entries(folder)? {
        if is_folder && let Some(what) = written_here(&path) {
            names.iter_mut().for_each(|names| names.own.push((path.clone(), what)));
        } else if is_folder {
            walk_into(&path, above, names.as_deref_mut(), fits, images, progress)?;
        } else if fits(&path) {
            // Joined paths have about twice the capacity they need, which adds up over a million paths.
            path.shrink_to_fit();
            images.push(path);
            progress.count(1);
        }
    }
    above.pop();
    Ok(())
}

/// Whether there is an image anywhere below `folder`; stops at the first.
pub fn holds_image(folder: &Path) -> Result<bool> {
    holds(folder, &is_image_file)
}

/// Whether there is a file that `fits` anywhere below `folder`; stops at the first.
pub fn holds(folder: &Path, fits: &dyn Fn(&Path) -> bool) -> Result<bool> {
    is_below(folder, fits, &mut Vec::new())
}

fn is_below(folder: &Path, fits: &dyn Fn(&Path) -> bool, above: &mut Vec<Entered>) -> Result<bool> {
    if !enter(folder, above)? {
        return Ok(false);
    }
    let mut inner = Vec::new();
    for entry in archives::read_dir(folder).map_err(Error::io("list", folder))? {
        match visible(folder, entry)? {
            Some((path, true)) => inner.push(path),
            Some((path, false)) if fits(&path) => return Ok(true),
            _ => {}
        }
    }
    for folder in inner {
        if written_here(&folder).is_none() && is_below(&folder, fits, above)? {
            return Ok(true);
        }
    }
    above.pop();
    Ok(false)
}

/// Pushes a folder onto the stack of its parents; false if it is already there.
fn enter(folder: &Path, above: &mut Vec<Entered>) -> Result<bool> {
    let entered = (archives::canonicalize(folder).map_err(Error::io("list", folder))?, folder.to_path_buf());
    if above.iter().any(|(real, _)| *real == entered.0) {
        return Ok(false);
    }
    // Deeper than any folder tree that people make by hand.
    if above.len() > 32 {
        return Err(Error::data(folder, None, "folders are nested more than 32 deep, which is the limit"));
    }
    above.push(entered);
    Ok(true)
}

/// The sorted entries of `folder` without hidden ones, each with whether it is a folder (links are followed).
pub fn entries(folder: &Path) -> Result<Vec<(PathBuf, bool)>> {
    let mut found = Vec::new();
    for entry in archives::read_dir(folder).map_err(Error::io("list", folder))? {
        found.extend(visible(folder, entry)?);
    }
    // Siblings differ only in their last component.
    found.sort_unstable_by(|a, b| a.0.file_name().cmp(&b.0.file_name()));
    Ok(found)
}

/// An entry's path and whether it is a folder; `None` if it is hidden or holds runs.
fn visible(folder: &Path, entry: std::io::Result<DirEntry>) -> Result<Option<(PathBuf, bool)>> {
    let entry = entry.map_err(Error::io("list", folder))?;
    if entry.file_name().as_encoded_bytes().starts_with(b".") {
        return Ok(None);
    }
    let kind = entry.file_type().map_err(Error::io("list", folder))?;
    let path = entry.path();
    let is_folder = kind.is_dir() || (kind.is_symlink() && path.is_dir());
    // A folder of runs lies below the images if training was started there.
    let runs = is_folder && path.join(RUNS_MARKER).exists();
    Ok((!runs).then_some((path, is_folder)))
}

/// The folders directly in `folder`, sorted.
pub fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let found = entries(folder)?.into_iter();
    Ok(found.filter(|(_, is_folder)| *is_folder).map(|(path, _)| path).collect())
}
