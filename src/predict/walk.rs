//! Iterates in a fixed order over the images below a folder or matched by a glob. A very large folder is listed in several
//! passes, so that memory does not grow with it.

use crate::data::ignored;
use crate::data::images::decode::is_image_file;
use crate::error::{Error, Result, shown};
use glob::Pattern;
use std::collections::BinaryHeap;
use std::ffi::OsString;
use std::fs::FileType;
use std::path::{Component, Path, PathBuf};

/// Number of names of one folder that are held at once. Each pass over a larger folder reads the next ones in sorted
/// order.
const HELD: usize = 1 << 16;

/// Deeper than any tree made by hand, so it must be a link that points back up.
const DEEPEST: usize = 32;

/// The images of a source.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// Every image, except in hidden entries and in the folders that a data set ignores.
    Images,
    /// Images whose path matches, part by part.
    Matching(Vec<Part>),
}

#[derive(Clone, Debug)]
pub enum Part {
    /// `**`: any number of folders.
    Folders,
    Name(Pattern),
}

/// Splits a glob into the folder named by its fixed parts and the variable parts below it.
///
/// # Errors
/// The pattern is invalid.
pub fn parse_glob(source: &Path) -> Result<(PathBuf, Wanted)> {
    let mut root = PathBuf::new();
    let mut parts = Vec::new();
    for component in source.components() {
        let text = component.as_os_str().to_string_lossy();
        let varies = matches!(component, Component::Normal(_)) && text.contains(['*', '?', '[']);
        if parts.is_empty() && !varies {
            root.push(component);
        } else if text == "**" {
            parts.push(Part::Folders);
        } else {
            let part = Pattern::new(&text).map_err(|e| {
                Error::Usage(format!("{}: neither a file nor a folder nor a glob ({e})", shown(source)))
            })?;
            parts.push(Part::Name(part));
        }
    }
    if matches!(parts.last(), Some(Part::Folders)) {
        parts.extend(Pattern::new("*").ok().map(Part::Name));
    }
    Ok((root, Wanted::Matching(parts)))
}

/// The images of one source, sorted by path.
pub struct Walk {
    wanted: Wanted,
    /// A folder that is not entered: the output folder.
    left_out: Option<PathBuf>,
    levels: Vec<Level>,
    root: PathBuf,
    held: usize,
}

/// A folder on the current path.
struct Level {
    listing: Listing,
    /// Numbers of pattern parts that the path to it has matched. There are several if `**` can end here or later.
    matched: Vec<usize>,
}

impl Walk {
    /// Units: `left_out` is canonical.
    pub fn new(root: &Path, wanted: &Wanted, left_out: Option<&Path>) -> Walk {
        let (root, left_out) = (root.to_path_buf(), left_out.map(Path::to_path_buf));
        let mut walk = Walk { wanted: wanted.clone(), left_out, levels: Vec::new(), root, held: HELD };
        walk.descend(walk.root.clone(), vec![0]);
        walk
    }

    fn descend(&mut self, folder: PathBuf, matched: Vec<usize>) {
        let listing = Listing { folder, last: None, names: Vec::new(), done: false };
        self.levels.push(Level { listing, matched });
    }

    /// Matches a name within a folder: returns the numbers of parts matched if it is a folder, and whether it matches as a
    /// file.
    fn step(&self, matched: &[usize], name: &OsString) -> (Vec<usize>, bool) {
        let text = name.to_string_lossy();
        let parts = match &self.wanted {
            Wanted::Images if text.starts_with('.') => return (Vec::new(), false),
            Wanted::Images => return (vec![0], true),
            Wanted::Matching(parts) => parts,
        };
        let mut after = Vec::new();
        for &first in matched {
            // `**` may end here, so the parts after it are tried as well.
            for (at, part) in parts.iter().enumerate().skip(first) {
                match part {
                    Part::Folders => after.push(at),
                    Part::Name(pattern) => {
                        if pattern.matches(&text) {
                            after.push(at + 1);
                        }
                        break;
                    }
                }
            }
        }
        after.sort_unstable();
        after.dedup();
        let whole = after.last() == Some(&parts.len());
        after.retain(|&at| at < parts.len());
        (after, whole)
    }

    fn is_left_out(&self, folder: &Path) -> bool {
        // The same folders as in a walk of a data set; a glob names what it matches.
        let is_ignored = matches!(self.wanted, Wanted::Images) && ignored(folder).is_some();
        is_ignored || self.left_out.as_ref().is_some_and(|out| folder.canonicalize().is_ok_and(|f| f == *out))
    }

    fn advance(&mut self) -> Result<Option<PathBuf>> {
        while let Some(level) = self.levels.last_mut() {
            let Some((name, kind)) = level.listing.next(self.held)? else {
                self.levels.pop();
                continue;
            };
            let path = level.listing.folder.join(&name);
            let matched = std::mem::take(&mut level.matched);
            let (after, whole) = self.step(&matched, &name);
            if let Some(level) = self.levels.last_mut() {
                level.matched = matched;
            }
            let is_folder = kind.is_dir() || (kind.is_symlink() && path.is_dir());
            if is_folder {
                if !after.is_empty() && !self.is_left_out(&path) {
                    if self.levels.len() > DEEPEST {
                        let message = "folders nested more than 32 deep: a link that leads back to its own parent?";
                        return Err(Error::data(path, None, message));
                    }
                    self.descend(path, after);
                }
            // A pipe, a device or a broken link with an image's name also gets a line, as an unreadable image.
            } else if whole && is_image_file(&path) {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }
}

impl Iterator for Walk {
    type Item = Result<PathBuf>;

    fn next(&mut self) -> Option<Result<PathBuf>> {
        let next = self.advance().transpose();
        if matches!(next, Some(Err(_))) {
            self.levels.clear();
        }
        next
    }
}

/// The entries of one folder, sorted by name.
struct Listing {
    folder: PathBuf,
    /// The name returned last.
    last: Option<OsString>,
    /// The next names in reverse order.
    names: Vec<(OsString, FileType)>,
    done: bool,
}

impl Listing {
    fn next(&mut self, held: usize) -> Result<Option<(OsString, FileType)>> {
        if self.names.is_empty() && !self.done {
            self.read(held)?;
        }
        let next = self.names.pop();
        if let Some((name, _)) = &next {
            self.last = Some(name.clone());
        }
        Ok(next)
    }

    /// One pass: reads the first `held` names after the last one.
    fn read(&mut self, held: usize) -> Result<()> {
        // A glob without a folder starts in the working directory.
        let folder = if self.folder.as_os_str().is_empty() { Path::new(".") } else { &self.folder };
        let mut first: BinaryHeap<Named> = BinaryHeap::new();
        self.done = true;
        for entry in std::fs::read_dir(folder).map_err(Error::io("list", folder))? {
            let entry = entry.map_err(Error::io("list", folder))?;
            let name = entry.file_name();
            let late = first.len() == held && first.peek().is_some_and(|largest| name >= largest.name);
            if late || self.last.as_ref().is_some_and(|last| name <= *last) {
                self.done &= !late;
                continue;
            }
            let kind = entry.file_type().map_err(Error::io("list", folder))?;
            first.push(Named { name, kind });
            if first.len() > held {
                first.pop();
                self.done = false;
            }
        }
        self.names = first.into_sorted_vec().into_iter().rev().map(|named| (named.name, named.kind)).collect();
        Ok(())
    }
}

struct Named {
    name: OsString,
    kind: FileType,
}

impl Ord for Named {
    fn cmp(&self, other: &Named) -> std::cmp::Ordering {
        self.name.cmp(&other.name)
    }
}

impl PartialOrd for Named {
    fn partial_cmp(&self, other: &Named) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Named {
    fn eq(&self, other: &Named) -> bool {
        self.name == other.name
    }
}

impl Eq for Named {}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(name: &str) -> PathBuf {
        let root = std::env::temp_dir().join(format!("polyhead-walk-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        let images =
            ["b.png", "a/z.jpg", "a/b/c.JPEG", "a-b/1.png", "a.png", "B.bmp", "z/é.webp", ".h/x.png", ".x.png"];
        let others = ["a/note.txt", "b", "z/deep/runs/.polyhead-runs", "z/deep/runs/v.png", "empty.png/inside.png"];
        let ignored = ["a/@eaDir/t.png", "__MACOSX/a.png", "z/out/predictions.jsonl", "z/out/p.png"];
        for file in images.iter().chain(&others).chain(&ignored) {
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        root
    }

    fn found(root: &Path, wanted: &Wanted, held: usize) -> Vec<PathBuf> {
        let mut walk = Walk::new(root, wanted, None);
        walk.held = held;
        walk.collect::<Result<_>>().unwrap()
    }

    /// With any number of held names, the images and their order match those of the data sets' walk.
    #[test]
    fn a_folder_is_listed_in_passes() {
        let root = tree("passes");
        let expected = crate::data::walk(&root).unwrap();
        assert_eq!(expected.len(), 8);
        for held in [1, 2, 3, 5, 100] {
            assert_eq!(found(&root, &Wanted::Images, held), expected, "{held}");
        }
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_glob_finds_the_same_as_the_glob_crate() {
        let root = tree("glob");
        for pattern in
            ["*.png", "*", "a*/*", "**/*.png", "**/[a-c]*", "a/**/*.JPEG", "*/b/*", "**/z/**/*", "?/z.jpg", "a/z.*"]
        {
            let whole = format!("{}/{pattern}", root.display());
            let usual = glob::glob(&whole).unwrap().filter_map(|p| p.ok()).filter(|p| p.is_file() && is_image_file(p));
            let mut usual: Vec<PathBuf> = usual.collect();
            usual.sort();
            let (folder, wanted) = parse_glob(Path::new(&whole)).unwrap();
            assert_eq!(found(&folder, &wanted, 2), usual, "{pattern}");
        }
        assert!(matches!(parse_glob(Path::new("a/[b")), Err(Error::Usage(_))));
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_its_own_parent_gives_an_error() {
        let root = tree("link");
        std::os::unix::fs::symlink(&root, root.join("a/up")).unwrap();
        let last = Walk::new(&root, &Wanted::Images, None).last().unwrap();
        assert!(last.unwrap_err().to_string().contains("32 deep"));
        let left_out = root.join("a").canonicalize().unwrap();
        let without = Walk::new(&root, &Wanted::Images, Some(&left_out)).map(|p| p.unwrap());
        assert!(without.into_iter().all(|p| !p.starts_with(root.join("a"))));
        std::fs::remove_dir_all(&root).unwrap();
    }
}
