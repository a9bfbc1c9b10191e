//! Counts every file below a data set once, in one pass over its folders: pictures that are used, pictures that are not, label
//! files, and the folders that are not entered. `leftovers` says what it found.

use super::known::Known;
use crate::archives;
use crate::data::formats::Listed;
use crate::data::images::decode::is_image;
use crate::data::images::unread::looks_like_picture;
use crate::data::own::{is_candidate, written_among};
use crate::data::walk::{self, Ignored};
use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Endings of files that may hold labels.
const OF_LABELS: [&str; 7] = ["txt", "xml", "json", "jsonl", "csv", "tsv", "parquet"];

/// Folders are entered to this depth, as in a walk of images.
const DEEPEST: usize = 32;

/// The account ends after this many files, and after four times as many as there are images if that is more: the folder of a
/// data.yaml may hold anything.
const MOST_FILES: usize = 2_000_000;

/// Some files: their number and the first of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Few {
    pub count: usize,
    pub first: Option<PathBuf>,
}

impl Few {
    pub fn add(&mut self, folder: &Path, name: &OsStr) {
        self.count += 1;
        let is_first = self.first.as_ref().is_none_or(|first| (folder, name) < (parent(first), file_name(first)));
        if is_first {
            self.first = Some(folder.join(name));
        }
    }
}

/// Every file below a data set, as far as it may be a picture or a label.
#[derive(Default)]
pub struct Account {
    /// The folder below which files were counted.
    pub root: PathBuf,
    /// Pictures that are in a split. A picture that is in two is counted once.
    pub used: usize,
    /// Pictures that could be read and are in no split, by folder.
    pub unused: BTreeMap<PathBuf, Few>,
    /// Pictures in formats that are not read, by folder and ending.
    pub unread: BTreeMap<(PathBuf, String), Few>,
    /// Pictures and label files whose names begin with a dot.
    pub hidden: Few,
    /// The folders that were not entered.
    pub ignored: Vec<(PathBuf, Ignored)>,
    /// Folders that cannot be listed.
    pub closed: Vec<PathBuf>,
    /// Whether there are more files, which were not counted.
    pub is_cut: bool,
    /// Files that may hold labels.
    pub(super) labels: Vec<MayBeLabels>,
}

/// The files with one ending in one folder that may hold labels.
pub(super) struct MayBeLabels {
    pub folder: PathBuf,
    pub real: u128,
    pub ending: &'static str,
    pub names: Vec<Box<OsStr>>,
}

impl Account {
    /// Counts the files below `root`. `images` are those of all splits; folders in `named` are entered although they would be
    /// ignored, because the user named a source in them.
    pub fn take(root: &Path, images: &[Listed], named: &[PathBuf]) -> Account {
        let mut used = Known::default();
        images.iter().for_each(|image| used.add(&image.image));
        let named = named.iter().filter_map(|folder| archives::canonicalize(folder).ok()).collect();
        let most = MOST_FILES.max(4 * images.len());
        let mut counting = Counting {
            account: Account { root: root.to_path_buf(), ..Account::default() },
            used,
            named,
            seen: HashSet::new(),
            left: most,
        };
        counting.visit(root, 0, Reached::ByUser);
        counting.account
    }
}

/// How a folder was reached.
#[derive(Clone, Copy, PartialEq)]
enum Reached {
    /// The user named it or a folder in it, so that it is read whatever it holds.
    ByUser,
    /// From the folder above it.
    ByWalk,
}

/// An account while it is taken.
struct Counting {
    account: Account,
    used: Known,
    named: Vec<PathBuf>,
    /// The folders that were entered, with links resolved: each is counted once.
    seen: HashSet<PathBuf>,
    left: usize,
}

impl Counting {
    fn visit(&mut self, folder: &Path, depth: usize, reached: Reached) {
        let Ok(real) = archives::canonicalize(folder) else { return };
        if depth > DEEPEST || !self.seen.insert(real.clone()) {
            return;
        }
        let Ok(entries) = archives::read_dir(folder) else {
            self.account.closed.push(folder.to_path_buf());
            return;
        };
        let (mut inner, mut files) = (Vec::new(), Vec::new());
        for entry in entries.flatten() {
            if self.left == 0 {
                self.account.is_cut = true;
                break;
            }
            self.left -= 1;
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() || (kind.is_symlink() && entry.path().is_dir()) {
                inner.push(entry.file_name());
            } else {
                files.push(entry.file_name());
            }
        }
        // The names are listed once, for this question, too.
        if reached == Reached::ByWalk {
            let names = inner.iter().chain(&files).filter(|name| is_candidate(name)).cloned();
            if let Some(what) = written_among(folder, &names.collect::<Vec<_>>()) {
                self.account.ignored.push((folder.to_path_buf(), Ignored::Own(what)));
                return;
            }
        }
        let key = Known::folder(&real);
        let mut labels: BTreeMap<&'static str, Vec<Box<OsStr>>> = BTreeMap::new();
        for name in files {
            self.file(folder, key, name, &mut labels);
        }
        for (ending, names) in labels {
            self.account.labels.push(MayBeLabels { folder: folder.to_path_buf(), real: key, ending, names });
        }
        inner.sort_unstable();
        for folder in inner.into_iter().map(|name| folder.join(name)) {
            let reached = if self.is_named(&folder) { Reached::ByUser } else { Reached::ByWalk };
            match walk::ignored_unlisted(&folder).filter(|_| reached == Reached::ByWalk) {
                Some(why) => self.account.ignored.push((folder, why)),
                None => self.visit(&folder, depth + 1, reached),
            }
        }
    }

    /// Whether the user named this folder or one in it.
    fn is_named(&self, folder: &Path) -> bool {
        !self.named.is_empty()
            && archives::canonicalize(folder).is_ok_and(|real| self.named.iter().any(|named| named.starts_with(&real)))
    }

    fn file(&mut self, folder: &Path, key: u128, name: OsString, labels: &mut BTreeMap<&'static str, Vec<Box<OsStr>>>) {
        let account = &mut self.account;
        if self.used.has(key, &name) {
            account.used += 1;
            return;
        }
        let ending = label_ending(&name);
        if walk::is_hidden(&name) {
            if ending.is_some() || is_image(Path::new(&name)) {
                account.hidden.add(folder, &name);
            }
        } else if let Some(ending) = ending {
            labels.entry(ending).or_default().push(name.into_boxed_os_str());
        } else if is_image(&folder.join(&name)) {
            account.unused.entry(folder.to_path_buf()).or_default().add(folder, &name);
        } else if looks_like_picture(&folder.join(&name)) {
            let ending = Path::new(&name).extension().unwrap_or_default().to_string_lossy().into_owned();
            account.unread.entry((folder.to_path_buf(), ending)).or_default().add(folder, &name);
        }
    }
}

/// The ending of a file that may hold labels.
fn label_ending(name: &OsStr) -> Option<&'static str> {
    let ending = Path::new(name).extension()?;
    OF_LABELS.into_iter().find(|known| ending.eq_ignore_ascii_case(known))
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

fn file_name(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}
