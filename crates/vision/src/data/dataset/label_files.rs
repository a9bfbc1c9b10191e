//! Label files with one image each: one that two images share is a fault of both, and one that belongs to no image is noted.

use super::faults::Faults;
use crate::data::declaration::{LabelsFrom, TaskDeclaration};
use crate::data::formats::{Listed, begins_with_row};
use crate::data::walk::{self, relative_name};
use crate::error::{Error, Result};
use crate::reading::{Reading, Remark, count_of, list_some};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// The ending of the task's label files, if each image has its own.
fn ending(task: &TaskDeclaration) -> Option<&'static str> {
    match task.from {
        LabelsFrom::Yolo { .. } => Some("txt"),
        LabelsFrom::Voc { .. } => Some("xml"),
        _ => None,
    }
}

fn has_file(reading: &Reading) -> bool {
    !reading.remarks.iter().any(|(remark, _)| *remark == Remark::NoLabelFile)
}

/// Images that share a label file, such as `a.jpg` and `a.png`, become unlabelled: the file may describe either of them.
///
/// # Errors
/// There are some, and faults stop the run.
pub fn shared(
    task: &TaskDeclaration,
    readings: &mut [Reading],
    images: &[Listed],
    root: &Path,
    faults: &mut Faults,
) -> Result<()> {
    if ending(task).is_none() {
        return Ok(());
    }
    let mut first: HashMap<Arc<Path>, usize> = HashMap::with_capacity(readings.len());
    let mut shared: BTreeMap<Arc<Path>, BTreeSet<usize>> = BTreeMap::new();
    let is_one = |reading: &Reading| has_file(reading) && !reading.place.file.as_os_str().is_empty();
    for (index, reading) in readings.iter().enumerate().filter(|(_, reading)| is_one(reading)) {
        let before = *first.entry(reading.place.file.clone()).or_insert(index);
        // An image that is in several splits is one image.
        if images[before].image != images[index].image {
            shared.entry(reading.place.file.clone()).or_default().extend([before, index]);
        }
    }
    for (file, sharing) in shared {
        let names: Vec<String> = sharing.iter().map(|index| relative_name(&images[*index].image, root)).collect();
        let message = format!(
            "is the label file of {} ({}): rename or remove all but one, because it may describe either",
            count_of(names.len(), "image"),
            list_some(&names, 3)
        );
        faults.take(Error::data(&*file, None, message))?;
        sharing.iter().for_each(|index| readings[*index].unlabel());
    }
    Ok(())
}

/// A note about label files beside those that were read which belong to no image.
pub fn of_no_image(task: &TaskDeclaration, readings: &[Reading], images: &[Listed], root: &Path) -> Option<String> {
    let ending = ending(task)?;
    let used: HashSet<&Path> = readings.iter().filter(|reading| has_file(reading)).map(|r| &*r.place.file).collect();
    let folders: BTreeSet<&Path> = used.iter().filter_map(|file| file.parent()).collect();
    let entries = folders.into_iter().flat_map(|folder| walk::entries(folder).unwrap_or_default());
    let is_orphan = |path: &Path| {
        // Other text files, such as lists of classes or of images, may lie beside the labels.
        path.extension().is_some_and(|e| e == ending)
            && !used.contains(path)
            && (ending == "xml" || begins_with_row(path))
    };
    let orphans = entries.filter(|(path, is_folder)| !is_folder && is_orphan(path)).map(|(path, _)| path);
    let orphans: Vec<_> = orphans.collect();
    if orphans.is_empty() {
        return None;
    }
    let stem = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let without = readings.iter().zip(images).filter(|(reading, _)| !has_file(reading));
    let without: HashMap<String, &Listed> = without.map(|(_, image)| (stem(&image.image), image)).collect();
    let near = orphans.iter().find_map(|orphan| Some((orphan, without.get(&stem(orphan))?)));
    let near = near.map_or(String::new(), |(orphan, image)| {
        format!(
            "; {} differs from {} only in upper and lower case: rename one of them",
            relative_name(orphan, root),
            image.name
        )
    });
    let names: Vec<String> = orphans.iter().map(|path| relative_name(path, root)).collect();
    let (count, verb) = (count_of(names.len(), "label file"), if names.len() == 1 { "belongs" } else { "belong" });
    Some(format!("{}: {count} {verb} to no image of this data set ({}){near}", task.name, list_some(&names, 3)))
}
