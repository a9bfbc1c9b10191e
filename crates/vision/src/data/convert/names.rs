//! Chooses the names of images in the new layout: the old names without the folders that all images share, made unique.

use super::Target;
use crate::data::dataset::Sample;
use crate::data::declaration::Split;
use std::collections::HashMap;
use std::path::{Component, Path};

/// A path for every image below its split's folder; for VOC, which has a single folder, an ID with the image's
/// extension.
pub fn targets<'a>(samples: &[(Split, &'a Sample)], target: Target) -> Vec<String> {
    let shared = Split::ALL.map(|split| shared_folders(samples, split));
    // Names in use, and the image that uses each. The key is the path without extension, because label files have
    // another one, in lower case, because some file systems ignore case.
    let mut taken: HashMap<(Option<Split>, String), &'a Path> = HashMap::new();
    let name = |&(split, sample): &(Split, &'a Sample)| {
        let mut parts: Vec<String> = parts_of(&sample.name).skip(shared[split as usize]).map(clean).collect();
        if target == Target::Yolo {
            // Label paths are found by replacing the last folder of this name.
            parts.iter_mut().filter(|part| part.eq_ignore_ascii_case("images")).for_each(|part| part.push('_'));
        }
        let last = parts.pop().unwrap_or_default();
        let (stem, ending) = last.rsplit_once('.').map_or((last.as_str(), ""), |(stem, ending)| (stem, ending));
        let id = |text: &str| text.replace(|c: char| c.is_whitespace() || c == '.', "_");
        let long = [parts.as_slice(), &[stem.to_string()]].concat();
        let (space, wanted) = match target {
            Target::Voc => (None, vec![id(stem), id(&long.join("_")), id(&format!("{}_{stem}", split.word()))]),
            _ => (Some(split), vec![long.join("/")]),
        };
        let numbered = (2..).map(|n| format!("{}_{n}", wanted[wanted.len() - 1]));
        let mut free = wanted.iter().cloned().chain(numbered);
        let image = sample.image.as_path();
        // In VOC, two splits may list the same image.
        let is_free = |stem: &String| {
            taken.get(&(space, stem.to_lowercase())).is_none_or(|other| space.is_none() && *other == image)
        };
        let stem = free.find(is_free).unwrap_or_default();
        taken.insert((space, stem.to_lowercase()), image);
        format!("{stem}.{ending}")
    };
    samples.iter().map(name).collect()
}

/// The number of leading folders that all images of a split share.
fn shared_folders(samples: &[(Split, &Sample)], split: Split) -> usize {
    let mut names = samples.iter().filter(|(of, _)| *of == split).map(|(_, sample)| sample.name.as_str());
    let Some(first) = names.next() else {
        return 0;
    };
    let first: Vec<&str> = parts_of(first).collect();
    let same = |name: &str| parts_of(name).zip(&first).take_while(|(a, b)| a == *b).count();
    // The last part is the file name.
    names.map(same).fold(first.len() - 1, usize::min)
}

fn parts_of(name: &str) -> impl Iterator<Item = &str> {
    Path::new(name).components().filter_map(|part| match part {
        Component::Normal(part) => part.to_str(),
        _ => None,
    })
}

/// Replaces a leading dot, because hidden files would be skipped when reading.
fn clean(part: &str) -> String {
    match part.strip_prefix('.') {
        Some(rest) => format!("_{rest}"),
        None => part.to_string(),
    }
}
