//! Matches label files of single images with the images: `a.json` belongs to `a.jpg`, beside it or in a folder of label
//! files that has the same folders below.

use super::listed::{Images, Listed};
use super::matching::Matches;
use crate::data::declaration::LabelFile;
use crate::error::Error;
use crate::reading::Place;
use rayon::prelude::*;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// The label files below one folder.
pub struct Stems<'a> {
    pub folder: &'a LabelFile,
    /// By their path below the folder, without the ending.
    pub by_name: &'a HashMap<Arc<str>, usize>,
    pub place: &'a (dyn Fn(usize) -> Place + Sync),
}

/// The label file of every image. If several images have the same name, or several files fit one, none of them is taken, and
/// there is a fault.
pub fn match_stems(folders: &[Stems], images: &Images) -> (Matches, Vec<Error>) {
    let of_image = |(index, image): (usize, &Listed)| -> Vec<(usize, usize)> {
        let of_split = |stems: &Stems| stems.folder.split.is_none_or(|split| images.belongs(index, split));
        let folders = folders.iter().enumerate().filter(|(_, stems)| of_split(stems));
        folders.filter_map(|(f, stems)| Some((f, find(stems, image)?))).collect()
    };
    let found: Vec<Vec<(usize, usize)>> = images.all.par_iter().enumerate().map(of_image).collect();
    let mut faults = Vec::new();
    let mut claims: HashMap<(usize, usize), usize> = HashMap::new();
    let mut matches: Matches = Vec::with_capacity(found.len());
    for (index, found) in found.into_iter().enumerate() {
        let at = match found[..] {
            [] => None,
            [one] => Some(one),
            [(f, one), (g, other), ..] => {
                let (one, other) = ((folders[f].place)(one), (folders[g].place)(other));
                let message = format!(
                    "{} has the labels of `{}`, too: say which split each folder is for, or remove one of the two",
                    other.file.display(),
                    images.all[index].name
                );
                faults.push(one.error(message));
                None
            }
        };
        if let Some(at) = at
            && let Some(before) = claims.insert(at, index)
            // An image that is in several splits is one image.
            && images.all[before].image != images.all[index].image
        {
            let message = format!(
                "this file fits `{}` and `{}`: give each image a name of its own",
                images.all[before].name, images.all[index].name
            );
            faults.push((folders[at.0].place)(at.1).error(message));
            matches[before] = None;
            matches.push(None);
            continue;
        }
        matches.push(at);
    }
    (matches, faults)
}

fn find(stems: &Stems, image: &Listed) -> Option<usize> {
    let stem = |path: &Path| path.with_extension("").to_str().map(|text| text.replace('\\', "/"));
    // In a folder that also holds the images, another folder's file of the same name belongs to another image.
    if let Ok(below) = image.image.strip_prefix(&stems.folder.path) {
        return stems.by_name.get(stem(below)?.as_str()).copied();
    }
    // With and without the upper folders, because label files may repeat them from any level on.
    let name = stem(Path::new(&image.name))?;
    let starts = std::iter::once(0).chain(name.match_indices('/').map(|(at, _)| at + 1));
    starts.into_iter().find_map(|start| stems.by_name.get(&name[start..]).copied())
}
