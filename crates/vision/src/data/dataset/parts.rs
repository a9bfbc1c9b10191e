//! The data sets that are opened together. Their images are listed, and each part keeps its own splits.

use super::faults::Faults;
use super::held_out::Division;
use super::splits::list_images;
use super::{OpenOptions, levels};
use crate::data::declaration::{Declaration, Split};
use crate::data::formats::{Images, Listed};
use crate::data::progress::Progress;
use crate::error::Result;
use std::path::Path;
use std::sync::Arc;

/// One data set with its images.
pub struct Part {
    /// The name of the source.
    pub name: String,
    pub declared: Declaration,
    pub images: Images,
    pub division: Division,
    /// The number of tasks that it declares.
    pub tasks: usize,
}

/// Lists the images of each source.
///
/// # Errors
/// Those of [`list_images`].
pub fn list(
    declared: &Declaration,
    options: &OpenOptions,
    faults: &mut Faults,
    progress: &Progress,
) -> Result<Vec<Part>> {
    let part = |name: &str, mut declared: Declaration, options: &OpenOptions, faults: &mut Faults| -> Result<Part> {
        let (images, division) = list_images(&mut declared, options, faults, progress)?;
        declared.notes.extend(levels::notes(&declared, &images.all));
        Ok(Part { name: name.to_owned(), tasks: declared.tasks.len(), declared, images, division })
    };
    let of_source = declared.sources.iter().map(|source| {
        let mut own = source.declared.clone();
        own.val_fraction = own.val_fraction.or(declared.val_fraction);
        let undivided = options.undivided || source.undivided || own.splits[Split::Train as usize].is_empty();
        let fold = options.fold.filter(|_| !undivided);
        part(&source.name, own, &OpenOptions { undivided, fold, ..options.clone() }, faults)
    });
    of_source.collect()
}

/// The images of all parts together, those of training first.
pub struct Together {
    /// For each image, its part and its index there.
    pub of: Vec<(usize, usize)>,
    /// The end of each split.
    pub ends: [usize; 3],
    /// For each part, the place of each of its images.
    pub places: Vec<Vec<usize>>,
}

impl Together {
    pub fn new(parts: &[Part]) -> Together {
        let mut together = Together {
            of: Vec::new(),
            ends: [0; 3],
            places: parts.iter().map(|part| vec![0; part.images.all.len()]).collect(),
        };
        for split in 0..3 {
            for (number, part) in parts.iter().enumerate() {
                let start = if split == 0 { 0 } else { part.images.ends[split - 1] };
                for image in start..part.images.ends[split] {
                    together.places[number][image] = together.of.len();
                    together.of.push((number, image));
                }
            }
            together.ends[split] = together.of.len();
        }
        together
    }

    /// The number of leading images whose labels may define classes; see [`Images::class_images`].
    pub fn class_images(&self) -> usize {
        if self.ends[1] == 0 { self.of.len() } else { self.ends[0] }
    }
}

/// An image under its name in the whole data set.
pub fn named(part: &Part, image: Listed) -> Listed {
    Listed { name: name_in(part, &image.name), ..image }
}

/// The name of a source's image: sources have different names, and so have their images.
pub fn name_in(part: &Part, name: &str) -> String {
    format!("{}/{}", part.name, name.trim_start_matches('/'))
}

/// The folder that images of no split folder lie in, for readings of images whose source lacks a task.
pub fn nowhere() -> Arc<Path> {
    Path::new("").into()
}
