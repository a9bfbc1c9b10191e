//! Walks folders and lists their images, including the names under which folders are reached. Links are followed. This file
//! decides which folders are ignored below a data set: hidden ones, those that systems make, and those that polyhead wrote.

use super::images::decode::is_image_file;
use super::own::{marked, written_here};
use super::progress::Progress;
use crate::archives::{self, DirEntry};
use crate::error::{Error, Result, path_text};
use std::collections::HashMap;
use std::ffi::OsStr;
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

/// The reason why a folder is not entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// Its name begins with a dot.
    Hidden,
    /// A system or another program keeps its own files in folders of this name; the word says what.
    System(&'static str),
    /// Polyhead wrote it; the word says what it holds.
    Own(&'static str),
}

/// Folders that systems and other programs make beside the user's files, with what is in them.
const OF_SYSTEMS: [(&str, &str); 9] = [
    ("__MACOSX", "macOS keeps attributes of files there"),
    ("@eaDir", "a NAS keeps thumbnails there"),
    ("@Recycle", "a NAS keeps deleted files there"),
    ("#recycle", "a NAS keeps deleted files there"),
    ("#snapshot", "a NAS keeps old versions there"),
    ("$RECYCLE.BIN", "Windows keeps deleted files there"),
    ("System Volume Information", "Windows keeps its own files there"),
    ("lost+found", "the file system keeps recovered files there"),
    ("__pycache__", "Python keeps compiled files there"),
];

/// Why `folder` is ignored if a walk reaches it from above; `None` if it is entered. A folder that the user names is always read.
pub fn ignored(folder: &Path) -> Option<Ignored> {
    ignored_by_name(folder.file_name()?).or_else(|| written_here(folder).map(Ignored::Own))
}

/// Like [`ignored`] as far as the folder's name and its marker say so.
pub fn ignored_unlisted(folder: &Path) -> Option<Ignored> {
    ignored_by_name(folder.file_name()?).or_else(|| marked(folder).map(Ignored::Own))
}

fn ignored_by_name(name: &OsStr) -> Option<Ignored> {
    if is_hidden(name) {
        return Some(Ignored::Hidden);
    }
    let of_system = OF_SYSTEMS.iter().find(|(system, _)| name.eq_ignore_ascii_case(system));
    of_system.map(|(_, what)| Ignored::System(what))
}

/// Whether a file or a folder is hidden.
pub fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// The folder `name` in `root`, in any case of its letters if there is none that is spelled so.
pub fn folder_called(root: &Path, name: &str) -> Option<PathBuf> {
    let exact = root.join(name);
    if archives::is_dir(&exact) {
        return Some(exact);
    }
    let (first, rest) = name.split_once('/').map_or((name, None), |(first, rest)| (first, Some(rest)));
    let is_called = |folder: &PathBuf| folder.file_name().is_some_and(|found| found.eq_ignore_ascii_case(first));
    let mut found: Vec<PathBuf> = match root.join(first) {
        exact if archives::is_dir(&exact) => vec![exact],
        _ => folders(root).unwrap_or_default().into_iter().filter(is_called).collect(),
    };
    let folder = found.pop().filter(|_| found.is_empty())?;
    match rest {
        None => Some(folder),
        Some(rest) => folder_called(&folder, rest),
    }
}

/// Like [`folder_called`], or the path that it would have.
pub fn folder_in(root: &Path, name: &str) -> PathBuf {
    folder_called(root, name).unwrap_or_else(|| root.join(name))
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
    let is_left_out = |folder: &Path| folder != Path::new("") && ignored(&top.join(folder)).is_some();
    !rest.ancestors().any(is_left_out)
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
    for (mut path, is_folder, why) in all_entries(folder)? {
        let written = || written_here(&path).filter(|_| is_folder).map(Ignored::Own);
        if let Some(why) = why.or_else(written) {
            if let (Some(names), Ignored::Own(what)) = (&mut names, why) {
                names.own.push((path, what));
            }
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
        match seen(folder, entry)? {
            (path, true, None) => inner.push(path),
            (path, false, None) if fits(&path) => return Ok(true),
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

/// The sorted entries of `folder` without ignored ones, each with whether it is a folder (links are followed).
pub fn entries(folder: &Path) -> Result<Vec<(PathBuf, bool)>> {
    let found = all_entries(folder)?.into_iter().filter(|(_, _, ignored)| ignored.is_none());
    Ok(found.map(|(path, is_folder, _)| (path, is_folder)).collect())
}

/// The sorted entries of `folder`, each with whether it is a folder, and why it is ignored.
fn all_entries(folder: &Path) -> Result<Vec<(PathBuf, bool, Option<Ignored>)>> {
    let mut found = Vec::new();
    for entry in archives::read_dir(folder).map_err(Error::io("list", folder))? {
        found.push(seen(folder, entry)?);
    }
    // Siblings differ only in their last component.
    found.sort_unstable_by(|a, b| a.0.file_name().cmp(&b.0.file_name()));
    Ok(found)
}

/// An entry's path, whether it is a folder, and whether its name or its marker says that it is ignored.
fn seen(folder: &Path, entry: std::io::Result<DirEntry>) -> Result<(PathBuf, bool, Option<Ignored>)> {
    let entry = entry.map_err(Error::io("list", folder))?;
    let path = entry.path();
    let name = entry.file_name();
    if is_hidden(&name) {
        return Ok((path, false, Some(Ignored::Hidden)));
    }
    let kind = entry.file_type().map_err(Error::io("list", folder))?;
    let is_folder = kind.is_dir() || (kind.is_symlink() && path.is_dir());
    // A folder of runs lies below the images if training was started there.
    let why = if is_folder { ignored_by_name(&name).or_else(|| marked(&path).map(Ignored::Own)) } else { None };
    Ok((path, is_folder, why))
}

/// The folders directly in `folder` that polyhead wrote, sorted, each with a word for what it holds.
pub fn own_folders(folder: &Path) -> Vec<(PathBuf, &'static str)> {
    let own = |(path, _, ignored)| match ignored {
        Some(Ignored::Own(what)) => Some((path, what)),
        _ => None,
    };
    all_entries(folder).unwrap_or_default().into_iter().filter_map(own).collect()
}

/// The folders directly in `folder`, sorted.
pub fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let found = entries(folder)?.into_iter();
    Ok(found.filter(|(_, is_folder)| *is_folder).map(|(path, _)| path).collect())
}
