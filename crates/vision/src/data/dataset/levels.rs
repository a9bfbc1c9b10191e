//! Says which level is the class if the class folders hold further folders.

use crate::data::declaration::{Declaration, LabelsFrom};
use crate::data::formats::{Listed, below_class};
use crate::data::walk::relative_name;
use crate::reading::{count_of, list_some};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The images in folders below one class folder.
struct Deeper {
    count: usize,
    /// The class folder and the folder of the first image.
    class: PathBuf,
    holder: PathBuf,
}

/// A note for each task by folders if images lie in folders below their class folder.
pub fn notes(declared: &Declaration, images: &[Listed]) -> Vec<String> {
    let by_folder = declared.tasks.iter().filter(|task| task.from == LabelsFrom::Folders);
    let tasks: Vec<&str> = by_folder.map(|task| task.name.as_str()).collect();
    if tasks.is_empty() {
        return Vec::new();
    }
    let mut classes: BTreeMap<String, Deeper> = BTreeMap::new();
    let mut first = None;
    for (class, holder) in images.iter().filter_map(below_class) {
        first = first.or_else(|| class.parent().map(PathBuf::from));
        let name = class.file_name().unwrap_or_default().to_string_lossy().into_owned();
        classes.entry(name).or_insert(Deeper { count: 0, class, holder }).count += 1;
    }
    let Some(first) = first else {
        return Vec::new();
    };
    let shown = |path: &PathBuf| relative_name(path, &declared.root);
    let each = classes.iter().map(|(name, deeper)| {
        format!("`{name}` has {} there, such as those in {}/", count_of(deeper.count, "image"), shown(&deeper.holder))
    });
    let each: Vec<String> = each.collect();
    let of_first = classes.values().filter(|deeper| deeper.class.parent() == Some(&first));
    let above: Vec<String> = of_first.map(|deeper| shown(&deeper.class)).collect();
    let total: usize = classes.values().map(|deeper| deeper.count).sum();
    let note = |task: &str| {
        format!(
            "{task}: the class is the first folder below the split's folder; {total} of {} lie in folders further down and count as the class above them: {}; to make those folders the classes, declare the folders above them, as in `train: [{}]`",
            count_of(images.len(), "image"),
            list_some(&each, 3),
            list_some(&above, 3)
        )
    };
    tasks.into_iter().map(note).collect()
}
