//! Counts the images that a reading of a folder explains, to choose between several readings.

use super::faults::{Faults, Findings};
use super::labels::has_label;
use super::splits::list_images;
use super::{OpenOptions, Sample};
use crate::archives;
use crate::data::declaration::{Declaration, LabelsFrom};
use crate::data::formats::{Cache, Reader};
use crate::data::layouts;
use crate::data::progress::Progress;
use crate::error::Error;
use rayon::prelude::*;
use std::path::Path;

/// The number of images with a label in a file, if the data set is declared like this; 0 if it cannot be read so.
pub fn explained(declared: &Declaration) -> usize {
    let mut declared = declared.clone();
    let mut faults = Faults::Collect(Findings::default());
    // Nothing is split off for validation, so that a single image is enough.
    let options = OpenOptions { undivided: true, ..OpenOptions::default() };
    let Ok((images, _)) = list_images(&mut declared, &options, &mut faults, &Progress::default()) else {
        return 0;
    };
    let mut has = vec![false; images.all.len()];
    let mut cache = Cache::default();
    for task in &declared.tasks {
        let Ok(reader) = Reader::open(task, &declared.root, &images, &mut cache) else { continue };
        has.par_iter_mut().zip(&images.all).enumerate().filter(|(_, (has, _))| !**has).for_each(|(i, (has, image))| {
            *has = reader.read(task, i, image).is_ok_and(|reading| has_label(&reading));
        });
    }
    has.into_iter().filter(|has| *has).count()
}

/// The error about a folder whose label files were recognised while they label less than a tenth of its images, and whose class
/// folders hold all of them.
pub fn against_classes(path: &Path, declared: &Declaration, samples: &[Sample]) -> Option<Error> {
    let is_guess =
        archives::is_dir(&declared.place.file) && !declared.tasks.iter().any(|task| task.from == LabelsFrom::Folders);
    let labelled = || samples.iter().filter(|sample| sample.labels.iter().any(|label| label.is_labelled())).count();
    if !is_guess || declared.tasks.is_empty() || 10 * labelled() >= samples.len() {
        return None;
    }
    layouts::against_classes(path, declared)
}
