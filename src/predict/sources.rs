//! Iterates over the images that the user named: files, folders, globs, and lists that are read as they are needed, so that
//! a full list is never held in memory. The images of a split are a list in memory, because its data set is.

use super::list::List;
use super::names::{Given, Name, ProtectedImages, mirrored, overwritten};
use super::walk::{Walk, Wanted, parse_glob};
use crate::archives;
use crate::data::walk;
use crate::draw::{self, PictureFormat};
use crate::error::{Error, Result, shown};
use crate::files;
use crate::reading::did_you_mean_path;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// An image to predict for.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub path: PathBuf,
    pub name: Name,
}

/// The word for the list on standard input.
pub const LIST: &str = "-";

enum Source {
    File {
        path: PathBuf,
        name: PathBuf,
    },
    /// Pictures below `base` mirror the images below `root`.
    Tree {
        root: PathBuf,
        wanted: Wanted,
        base: PathBuf,
    },
    List {
        list: List,
        base: PathBuf,
    },
    /// Pictures below `base` mirror the images below `root`: the data set's folder, or an archive.
    Images {
        images: std::vec::IntoIter<PathBuf>,
        root: PathBuf,
        base: PathBuf,
    },
}

/// All sources in the given order.
pub struct Sources {
    left: VecDeque<Source>,
    walk: Option<(Walk, PathBuf, PathBuf)>,
    left_out: Option<PathBuf>,
}

impl Sources {
    /// The given images of a data set in the folder `root`.
    pub fn of_images(images: Vec<PathBuf>, root: &Path) -> Sources {
        let source = Source::Images { images: images.into_iter(), root: root.to_path_buf(), base: PathBuf::new() };
        Sources { left: [source].into(), walk: None, left_out: None }
    }

    /// Parses the sources; `list` is the list behind [`LIST`].
    ///
    /// # Errors
    /// A source contains no image.
    pub fn open(words: &[OsString], list: Option<List>) -> Result<Sources> {
        let (mut given, mut list) = (Given::default(), list);
        let mut left = VecDeque::new();
        for word in words {
            let path = Path::new(word);
            let mut base = |wish: &Path| match words.len() {
                // A single source: pictures go directly into the output folder.
                1 => PathBuf::new(),
                _ => given.name(&folder_name(wish)),
            };
            left.push_back(if word == LIST {
                let list = list.take().ok_or_else(|| Error::Usage("-: the list can be read only once".into()))?;
                Source::List { list, base: base(Path::new("list")) }
            } else if path.is_dir() {
                Source::Tree { root: path.to_path_buf(), wanted: Wanted::Images, base: base(path) }
            } else if path.is_file() && archives::is_archive(path) {
                archives::check(path)?;
                let images = walk(path)?;
                if images.is_empty() {
                    return Err(Error::Usage(format!("{}: no images found in this archive", shown(Path::new(word)))));
                }
                let base = base(Path::new(path.file_stem().unwrap_or_default()));
                Source::Images { images: images.into_iter(), root: path.to_path_buf(), base }
            } else if path.is_file()
                && let Some(what) = archives::other_kind(path)
            {
                return Err(Error::Usage(format!("{}: {what}", shown(Path::new(word)))));
            } else if path.is_file() && has_ending(path, &["txt"]) {
                Source::List { list: List::open(path)?, base: base(Path::new(path.file_stem().unwrap_or_default())) }
            } else if path.is_file() && has_ending(path, &["yaml", "yml"]) {
                let message = "is not an image; for the images of a data set, name one of its splits with --split";
                return Err(Error::Usage(format!("{}: {message}", shown(path))));
            } else if path.is_file() {
                let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                Source::File { path: path.to_path_buf(), name: given.name(&stem) }
            } else {
                let (root, wanted) = parse_glob(path)?;
                let base = base(&root);
                Source::Tree { root, wanted, base }
            });
            if let Some(Source::Tree { root, wanted, .. }) = left.back() {
                check_tree(path, root, wanted)?;
            }
        }
        if list.is_some() {
            return Err(Error::Usage("--null is for a list on standard input: give - as a source".into()));
        }
        Ok(Sources { left, walk: None, left_out: None })
    }

    /// Whether images may arrive after a pause of any length, as from standard input.
    pub fn may_pause(&self) -> bool {
        self.left.iter().any(|source| matches!(source, Source::List { list, .. } if list.file.is_none()))
    }

    /// Excludes the output folder from the walk.
    ///
    /// # Errors
    /// It is among the images, and holds images itself that would be left out.
    pub fn leave_out(&mut self, out: &Path) -> Result<()> {
        let at = out.canonicalize().map_err(Error::io("find", out))?;
        let is_around = |source: &Source| match source {
            Source::Tree { root, .. } => {
                or_here(root).canonicalize().is_ok_and(|root| at != root && at.starts_with(root))
            }
            Source::File { .. } | Source::List { .. } | Source::Images { .. } => false,
        };
        if self.left.iter().any(is_around) {
            for image in Walk::new(out, &Wanted::Images, None) {
                let image = image?;
                if !draw::is_own_picture(&image) {
                    return Err(Error::Usage(format!(
                        "--out {}: this folder is among the images and holds others, such as {}, which would be left out: give another folder",
                        shown(out),
                        shown(&image)
                    )));
                }
            }
        }
        self.left_out = Some(at);
        Ok(())
    }

    /// The images that pictures in `out` must not overwrite.
    ///
    /// # Errors
    /// Pictures would overwrite images, as far as this is known before the images are found.
    pub fn protected_images(&self, out: &Path, format: PictureFormat) -> Result<ProtectedImages> {
        let canonical = |path: &Path| path.canonicalize().map_err(Error::io("find", path));
        let mut protected = ProtectedImages::default();
        let at = canonical(out)?;
        for source in &self.left {
            match source {
                Source::File { path, .. } => drop(protected.files.insert(canonical(path)?)),
                Source::Tree { root, base, .. } => {
                    let root = canonical(or_here(root))?;
                    let below = out.join(base).canonicalize();
                    if at == root || below.is_ok_and(|pictures| pictures == root) {
                        return Err(overwritten(&root));
                    }
                    // An output folder below the images is excluded from the walk, so nothing in it is an input image.
                    if !at.starts_with(&root) {
                        protected.folders.push(root);
                    }
                }
                Source::List { list, base } => {
                    let pictures = out.join(base).canonicalize();
                    let here = canonical(or_here(list.folder()))?;
                    if pictures.is_ok_and(|p| p == here || p.parent().is_none()) {
                        return Err(overwritten(Path::new("a listed image")));
                    }
                }
                Source::Images { images, root, .. } => {
                    if canonical(root)? == at {
                        return Err(overwritten(root));
                    }
                    // An image that is not there cannot be overwritten.
                    protected.files.extend(images.as_slice().iter().filter_map(|path| path.canonicalize().ok()));
                }
            }
        }
        for source in &self.left {
            if let Source::File { path, name } = source {
                protected.check(&out.join(Name::Given(name.clone()).with_ending(path, format.ending())))?;
            }
        }
        Ok(protected)
    }

    fn advance(&mut self) -> Result<Option<Found>> {
        loop {
            if let Some((walk, root, base)) = &mut self.walk {
                if let Some(path) = walk.next().transpose()? {
                    let below = path.strip_prefix(&root).unwrap_or(&path);
                    let name = Name::Mirrored(base.join(below));
                    return Ok(Some(Found { path, name }));
                }
                self.walk = None;
            }
            match self.left.front_mut() {
                None => return Ok(None),
                Some(Source::List { list, base }) => match list.read()? {
                    Some(listed) => {
                        let name = Name::Mirrored(base.join(mirrored(&listed)));
                        return Ok(Some(Found { path: list.find(listed), name }));
                    }
                    None => drop(self.left.pop_front()),
                },
                Some(Source::Images { images, root, base }) => match images.next() {
                    Some(path) => {
                        let name = Name::Mirrored(base.join(mirrored(path.strip_prefix(root).unwrap_or(&path))));
                        return Ok(Some(Found { path, name }));
                    }
                    None => drop(self.left.pop_front()),
                },
                Some(_) => match self.left.pop_front() {
                    Some(Source::File { path, name }) => return Ok(Some(Found { path, name: Name::Given(name) })),
                    Some(Source::Tree { root, wanted, base }) => {
                        self.walk = Some((Walk::new(&root, &wanted, self.left_out.as_deref()), root, base));
                    }
                    _ => {}
                },
            }
        }
    }
}

impl Iterator for Sources {
    type Item = Result<Found>;

    fn next(&mut self) -> Option<Result<Found>> {
        self.advance().transpose()
    }
}

/// The working directory for an empty path.
fn or_here(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension().is_some_and(|own| endings.iter().any(|ending| own.eq_ignore_ascii_case(ending)))
}

fn folder_name(folder: &Path) -> String {
    let own = folder.file_name().map(|name| name.to_string_lossy().into_owned());
    let found = || Some(folder.canonicalize().ok()?.file_name()?.to_string_lossy().into_owned());
    own.or_else(found).unwrap_or_else(|| "images".into())
}

fn check_tree(word: &Path, root: &Path, wanted: &Wanted) -> Result<()> {
    let folder = or_here(root);
    let fixed = matches!(wanted, Wanted::Matching(parts) if parts.is_empty());
    if folder.is_dir() && !fixed && Walk::new(root, wanted, None).next().transpose()?.is_some() {
        return Ok(());
    }
    let is_pattern = word.to_string_lossy().contains(['*', '?', '[']);
    let problem = match files::endless(word) {
        Some(what) => &format!("this is {what}, not an image"),
        None if is_pattern || word.exists() => "no images found",
        None => "does not exist",
    };
    let meant = if problem == "does not exist" { did_you_mean_path(word) } else { String::new() };
    Err(Error::Usage(format!(
        "{}: {problem}; name image files, folders with images, a .txt file with a list of them, or a glob in quotes{meant}",
        shown(word)
    )))
}
