//! Folders that look like class folders and are something else: pictures and their masks, splits, or a copy of the data set
//! within itself. Each is refused with what was seen and with the line of a data.yaml that takes it nevertheless.

use super::one_line;
use crate::archives;
use crate::data::declaration::{Declaration, Split};
use crate::data::images::decode::is_image;
use crate::data::walk::{self, relative_name};
use crate::error::{Error, Result};
use crate::reading::list_some;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Words in the names of folders that hold masks or labels as pictures.
const OF_MASKS: [&str; 19] = [
    "mask",
    "masks",
    "label",
    "labels",
    "labelids",
    "annotation",
    "annotations",
    "annot",
    "gt",
    "groundtruth",
    "truth",
    "seg",
    "segmentation",
    "segmentations",
    "segmentationclass",
    "segmentationobject",
    "trimap",
    "trimaps",
    "matte",
];

/// Endings of the stems of masks: the mask of `a.jpg` may be `a_mask.png`.
const SUFFIXES: [&str; 8] = ["_mask", "-mask", "_masks", "_label", "_labels", "_gt", "_seg", "_segmentation"];

/// Pictures of a folder whose kind is looked at.
const LOOKED_AT: usize = 4;

/// Refuses the folders in `folder` as the classes of `declared`, which was made from them.
///
/// Errors: `Data` if they are rather something else; `Io` if a folder cannot be listed.
pub fn check(declared: &Declaration, folder: &Path, classes: &[String]) -> Result<()> {
    let refused = match masks(declared, folder, classes)? {
        Some(masks) => Some(masks),
        None => copy_within(declared, folder, classes)?,
    };
    refused.or_else(|| only_splits(declared, folder, classes)).map_or(Ok(()), Err)
}

fn refusal(declared: &Declaration, seen: &str) -> Option<Error> {
    let message =
        format!("{seen}; if these folders are classes, add a data.yaml here with the line `{}`", one_line(declared));
    Some(Error::data(&declared.root, None, message))
}

/// Two folders whose pictures have the same names, one of which holds masks by its name or by its pictures. Many sets number the
/// pictures of every class from the same number, so equal names alone are no sign.
fn masks(declared: &Declaration, folder: &Path, classes: &[String]) -> Result<Option<Error>> {
    let is_named = |class: &String| {
        let lower = class.to_lowercase();
        lower.split(|c: char| !c.is_alphanumeric()).any(|word| OF_MASKS.contains(&word))
    };
    let mut pairs: Vec<(usize, usize, &str)> = Vec::new();
    for at in (0..classes.len()).filter(|at| is_named(&classes[*at])) {
        let others = (0..classes.len()).filter(|other| *other != at && !is_named(&classes[*other]));
        pairs.extend(others.map(|other| (at, other, "is named like masks or labels")));
    }
    if pairs.is_empty() && classes.len() <= 3 {
        let are_masks: Vec<bool> =
            classes.iter().map(|class| holds_masks(&folder.join(class))).collect::<Result<_>>()?;
        for at in (0..classes.len()).filter(|at| are_masks[*at]) {
            let others = (0..classes.len()).filter(|other| !are_masks[*other]);
            pairs.extend(others.map(|other| (at, other, "holds grey or palette PNG files, as masks are")));
        }
    }
    for (mask, other, why) in pairs {
        let [a, b] = [other, mask].map(|at| stems(&folder.join(&classes[at])));
        let (a, b) = (a?, b?);
        let both = a.intersection(&b).count();
        let (least, most) = (a.len().min(b.len()), a.len().max(b.len()));
        if both >= 2 && 10 * both >= 9 * least && 2 * least >= most {
            let [images, masks] = [other, mask].map(|at| relative_name(&folder.join(&classes[at]), &declared.root));
            return Ok(refusal(
                declared,
                &format!(
                    "{both} pictures of {images}/ and {masks}/ have the same names, and {masks}/ {why}: these are pictures and their masks rather than two classes, and masks are not read"
                ),
            ));
        }
    }
    Ok(None)
}

/// The paths of the pictures below `folder`, without endings and without the words that names of masks end with.
fn stems(folder: &Path) -> Result<HashSet<String>> {
    let stem = |path: &PathBuf| {
        let name = relative_name(&path.with_extension(""), folder).to_lowercase();
        let cut = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix));
        cut.map(str::to_owned).unwrap_or(name)
    };
    Ok(walk::walk(folder)?.iter().map(stem).collect())
}

/// Whether the first PNG files below `folder` are all grey or have a palette.
fn holds_masks(folder: &Path) -> Result<bool> {
    let kinds = RefCell::new(Vec::new());
    walk::holds(folder, &|path| {
        if is_image(path) {
            kinds.borrow_mut().push(is_mask(path));
        }
        kinds.borrow().len() >= LOOKED_AT
    })?;
    let kinds = kinds.into_inner();
    Ok(!kinds.is_empty() && kinds.iter().all(|is_mask| *is_mask))
}

/// Whether a file is a PNG that is grey or has a palette.
fn is_mask(file: &Path) -> bool {
    let mut start = Vec::new();
    let read = archives::open(file).and_then(|file| file.take(26).read_to_end(&mut start));
    read.is_ok() && start.starts_with(b"\x89PNG\r\n\x1a\n") && matches!(start.get(25), Some(0 | 3 | 4))
}

/// A folder that holds folders with the names of those beside it, or a link to a folder above it.
fn copy_within(declared: &Declaration, folder: &Path, classes: &[String]) -> Result<Option<Error>> {
    let real = archives::canonicalize(folder).map_err(Error::io("list", folder))?;
    let names: BTreeSet<&str> = classes.iter().map(String::as_str).collect();
    for class in classes {
        let at = folder.join(class);
        let name = relative_name(&at, &declared.root);
        if archives::canonicalize(&at).is_ok_and(|target| real.starts_with(target)) {
            let message = format!("{name}/ is a link to a folder that contains it: remove the link");
            return Ok(Some(Error::data(&declared.root, None, message)));
        }
        let inner = walk::folders(&at)?;
        let same: Vec<String> = inner
            .iter()
            .map(|inner| relative_name(inner, &at))
            .filter(|inner| names.contains(inner.as_str()) && inner != class)
            .collect();
        if same.len() >= 2 || (same.len() == 1 && classes.len() == 2 && Split::called(class).is_some()) {
            let as_split = Split::called(class).filter(|split| *split != Split::Train).map_or(String::new(), |split| {
                format!(
                    "; if {name}/ is the {0} split, write `{{train: ., {0}: {name}, tasks: {{class: {{type: {1}, from: folders}}}}}}`",
                    split.word(),
                    declared.tasks[0].kind.yaml_word
                )
            });
            let seen = format!(
                "{name}/ holds folders with the names of those beside it ({}), as a copy of the data set within itself would: remove one of the two{as_split}",
                list_some(&same, 3)
            );
            return Ok(refusal(declared, &seen));
        }
    }
    Ok(None)
}

/// Folders that are all named like splits, such as `val` and `test` or `train2017` and `val2017`.
fn only_splits(declared: &Declaration, folder: &Path, classes: &[String]) -> Option<Error> {
    let are_all = classes.len() >= 2 && classes.iter().all(|class| split_word(class).is_some());
    let some: Vec<&str> =
        classes.iter().filter(|class| Split::called(class).is_some()).map(String::as_str).take(3).collect();
    if !are_all && some.len() < 2 {
        return None;
    }
    let shown = if are_all { classes.iter().map(String::as_str).collect() } else { some };
    let shown: Vec<String> =
        shown.iter().map(|class| format!("{}/", relative_name(&folder.join(class), &declared.root))).collect();
    let seen = format!(
        "{} are named like splits rather than classes, and no labels were recognised for their images",
        list_some(&shown, 3)
    );
    refusal(declared, &seen)
}

/// The split whose word a name begins with, as in `train2017`.
fn split_word(name: &str) -> Option<Split> {
    let word = name.split(|c: char| !c.is_alphabetic()).find(|word| !word.is_empty())?;
    Split::called(word)
}
