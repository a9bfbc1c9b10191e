//! Matches the entries of label files with images: by path, relative to any of the usual folders, or by file name alone
//! if it is unique.

use super::listed::{Images, Listed};
use crate::data::declaration::LabelFile;
use crate::data::walk::relative_name;
use crate::error::Result;
use crate::reading::Place;
use rayon::prelude::*;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// The name and position of an entry.
pub type Entry<'a> = dyn Fn(usize) -> (String, Place) + Sync + 'a;

/// The image names in one label file.
pub struct Names<'a> {
    pub file: &'a LabelFile,
    /// The word for an entry in messages: a row, an image, a frame.
    pub noun: &'static str,
    pub by_name: &'a HashMap<Arc<str>, usize>,
    pub entry: &'a Entry<'a>,
    pub count: usize,
}

/// For each image, the file and the entry in it.
pub type Matches = Vec<Option<(usize, usize)>>;

/// Finds the entry of every image.
///
/// Errors: several images match one name, or two files describe one image.
pub fn match_images(files: &[Names], root: &Path, images: &Images) -> Result<Matches> {
    let matches: Vec<_> =
        images.all.par_iter().enumerate().map(|(i, image)| entry_of(files, root, images, i, image)).collect();
    let error = |[f, entry, other]: [usize; 3]| {
        let (name, place) = (files[f].entry)(entry);
        place.error(format!(
            "`{name}` is also in {}: say which split each file is for, as in `{{train: {}, val: {}}}`",
            files[other].file.path.display(),
            relative_name(&files[f].file.path, root),
            relative_name(&files[other].file.path, root)
        ))
    };
    let matches = matches.into_iter().collect::<Result<Matches, _>>().map_err(error)?;
    // The first entry in the files, so that the error is always the same.
    if let Some((f, entry)) = claimed_twice(files, images, &matches) {
        let claim =
            |(image, at): (&Listed, &Option<(usize, usize)>)| (*at == Some((f, entry))).then(|| image.image.clone());
        let claims: HashSet<_> = images.all.iter().zip(&matches).filter_map(claim).collect();
        let ((name, place), count) = ((files[f].entry)(entry), claims.len());
        let message = format!("`{name}` is the name of {count} images: write the path relative to {}", root.display());
        return Err(place.error(message));
    }
    Ok(matches)
}

/// The first file and entry that several images match. An image that is in several splits is one image.
fn claimed_twice(files: &[Names], images: &Images, matches: &Matches) -> Option<(usize, usize)> {
    let mut claims: Vec<Vec<Option<usize>>> = files.iter().map(|names| vec![None; names.count]).collect();
    let mut twice = Vec::new();
    for (image, at) in matches.iter().enumerate() {
        let Some((f, entry)) = *at else { continue };
        let first = *claims[f][entry].get_or_insert(image);
        if images.all[first].image != images.all[image].image {
            twice.push((f, entry));
        }
    }
    twice.into_iter().min()
}

/// The file and the entry of an image. The error holds a file, its entry, and another file that matches equally well.
fn entry_of(
    files: &[Names],
    root: &Path,
    images: &Images,
    index: usize,
    image: &Listed,
) -> Result<Option<(usize, usize)>, [usize; 3]> {
    let of_split = |names: &Names| names.file.split.is_none_or(|split| images.belongs(index, split));
    let found: Vec<(bool, (usize, usize))> = (files.iter().enumerate())
        .filter(|(_, names)| of_split(names))
        .filter_map(|(f, names)| find(names, root, image).map(|(near, entry)| (near, (f, entry))))
        .collect();
    // A file in the image's own folder takes precedence over a file elsewhere that happens to contain the same file
    // name.
    let best = found.iter().map(|(near, _)| *near).max();
    let mut best = found.iter().filter(|(near, _)| Some(*near) == best).map(|(_, at)| *at);
    match (best.next(), best.next()) {
        (Some((f, entry)), Some((other, _))) => Err([f, entry, other]),
        (first, _) => Ok(first),
    }
}

/// The entry for `image`, and whether the file lies in the image's folder or one above it.
fn find(names: &Names, root: &Path, image: &Listed) -> Option<(bool, usize)> {
    let beside = names.file.path.parent().unwrap_or(root);
    let get = |name: &str| names.by_name.get(name).copied();
    let below = |base: &Path| get(&relative_name(&image.image, base));
    let near = image.image.starts_with(beside) && beside != root;
    if near && let Some(entry) = below(beside) {
        return Some((true, entry));
    }
    // Both `a.jpg` and `train/a.jpg` may refer to an image below `images/`.
    let below_images = || {
        let inner = image.name.split_once('/').filter(|(first, _)| is_of_images(first))?.1;
        get(inner)
    };
    let bare = image.name.rsplit('/').next().unwrap_or(&image.name);
    let stem = || get(bare.rsplit_once('.')?.0);
    let found = [root, &*image.folder, beside].into_iter().find_map(below);
    let found = found.or_else(below_images).or_else(|| get(&image.image.to_string_lossy()));
    found.or_else(|| get(bare)).or_else(stem).map(|entry| (false, entry))
}

fn is_of_images(folder: &str) -> bool {
    ["images", "JPEGImages"].iter().any(|name| folder.eq_ignore_ascii_case(name))
}

/// Entries that match no image give a note; a file in which none matches is an error.
pub fn check_unused(files: &[Names], matches: &Matches, root: &Path, images: &[Listed]) -> Result<Vec<String>> {
    let mut used: Vec<Vec<bool>> = files.iter().map(|names| vec![false; names.count]).collect();
    matches.iter().flatten().for_each(|&(f, entry)| used[f][entry] = true);
    let mut notes = Vec::new();
    for (f, names) in files.iter().enumerate() {
        let mut unused = (0..names.count).filter(|entry| !used[f][*entry]);
        let Some(first) = unused.next() else {
            continue;
        };
        let (count, noun) = (1 + unused.count(), names.noun);
        let (name, place) = (names.entry)(first);
        if count == names.count && !images.is_empty() {
            let first = match near(&name, images) {
                Some(image) => format!("`{name}` does not match `{image}`"),
                None => format!("the first names `{name}`, and an image here is `{}`", images[0].name),
            };
            let message =
                format!("no {noun} names an image of this data set: {first}; write paths relative to the images");
            return Err(place.error(message));
        }
        notes.push(format!(
            "{}: {} no image of this data set (first: {}, `{name}`)",
            relative_name(&names.file.path, root),
            match count {
                1 => format!("1 {noun} names"),
                n => format!("{n} {noun}s name"),
            },
            place.spot
        ));
    }
    Ok(notes)
}

/// An image that may be meant by `name`: its file name has the same stem, or differs in one character that is no digit.
/// Numbered images all resemble each other.
fn near<'a>(name: &str, images: &'a [Listed]) -> Option<&'a str> {
    let parts = |path: &str| -> (String, String) {
        let bare = path.rsplit('/').next().unwrap_or(path);
        let (stem, ending) = bare.rsplit_once('.').unwrap_or((bare, ""));
        (stem.to_lowercase(), ending.to_lowercase())
    };
    let (stem, ending) = parts(name);
    let is_near = |image: &&Listed| {
        let (other, other_ending) = parts(&image.name);
        if other == stem {
            return true;
        }
        let mut differing = stem.chars().zip(other.chars()).filter(|(a, b)| a != b);
        let one = differing.next().filter(|_| differing.next().is_none());
        other_ending == ending
            && other.chars().count() == stem.chars().count()
            // A single character that differs leaves nothing in common.
            && stem.chars().count() > 1
            && one.is_some_and(|(a, b)| !a.is_ascii_digit() && !b.is_ascii_digit())
    };
    images.iter().find(is_near).map(|image| image.name.as_str())
}
