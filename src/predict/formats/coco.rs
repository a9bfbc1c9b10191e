//! COCO's results file, `detections.json`, and its ids. They come from an annotation file, so that the two can be
//! compared directly, or are our own, which `images.json` explains.

use crate::data::coco::{self, CocoAnnotations};
use crate::error::{Error, Result, path_text, shown};
use crate::predict::answer::Answered;
use crate::reading::{cut, did_you_mean};
use crate::tasks::Task;
use serde_json::json;
use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The ids of images and classes in an annotation file.
pub struct Annotations {
    file: PathBuf,
    /// Ids by `file_name`.
    images: HashMap<String, i64>,
    /// Ids by the last part of `file_name`; `None` if two images share it.
    bare: HashMap<String, Option<i64>>,
    categories: HashMap<String, i64>,
    unknown: AtomicU64,
}

impl Annotations {
    /// # Errors
    /// The file cannot be read, is not a COCO annotation file, or gives a name to two images or two categories.
    pub fn read(path: &Path) -> Result<Annotations> {
        let CocoAnnotations { images, categories, .. } = coco::read_annotations(path)?;
        let mut bare = HashMap::new();
        for image in &images {
            let last = image.file_name.rsplit('/').next().unwrap_or_default().to_owned();
            bare.entry(last).and_modify(|id| *id = None).or_insert(Some(image.id));
        }
        let images = by_name(path, ["images", "file_name"], images.into_iter().map(|i| (i.file_name, i.id)))?;
        let categories = by_name(path, ["categories", "name"], categories.into_iter().map(|c| (c.name, c.id)))?;
        Ok(Annotations { file: path.to_path_buf(), images, bare, categories, unknown: AtomicU64::new(0) })
    }

    /// The id of the image whose `file_name` is the end of the path, or else of the only one with the same file name.
    fn id_of(&self, file: &Path) -> Option<i64> {
        let text = file.to_string_lossy().replace('\\', "/");
        let starts = text.match_indices('/').map(|(at, _)| at + 1);
        let whole = [0].into_iter().chain(starts).find_map(|at| self.images.get(&text[at..]).copied());
        let last = text.rsplit('/').next().unwrap_or_default();
        let id = whole.or_else(|| self.bare.get(last).copied().flatten());
        if id.is_none() {
            self.unknown.fetch_add(1, Ordering::Relaxed);
        }
        id
    }

    /// A note about the predicted images that are not annotated.
    pub fn remark(&self) -> Option<String> {
        let count = self.unknown.load(Ordering::Relaxed);
        let file = shown(&self.file);
        (count > 0)
            .then(|| format!("images that {file} does not name, without a detection in the COCO results: {count}"))
    }
}

/// The ids of a list's entries by their name, which stands under a key.
fn by_name(
    path: &Path,
    [list, key]: [&str; 2],
    entries: impl Iterator<Item = (String, i64)>,
) -> Result<HashMap<String, i64>> {
    let mut ids = HashMap::new();
    for (name, id) in entries {
        if let Some(before) = ids.insert(name.clone(), id) {
            let name = cut(&name);
            let message =
                format!("the {list} with the ids {before} and {id} have the same {key}, `{name}`: each needs its own");
            return Err(Error::data(path, None, message));
        }
    }
    Ok(ids)
}

/// A detection task's classes as category ids; `None` for a task whose classes are not in the annotations.
pub type Categories = Option<Vec<i64>>;

/// The category ids of an annotation file by name, or else numbers from 1 that continue from task to task.
///
/// # Errors
/// Only some of a task's classes are in the annotations.
pub fn categories(tasks: &[Task], detects: &[usize], annotations: Option<&Annotations>) -> Result<Vec<Categories>> {
    let Some(annotations) = annotations else {
        let mut next = 1..;
        return Ok(detects.iter().map(|&t| Some(next.by_ref().take(tasks[t].classes().len()).collect())).collect());
    };
    let known = &annotations.categories;
    let mut found = Vec::new();
    for &task in detects {
        let classes = tasks[task].classes();
        let missing = classes.iter().find(|class| !known.contains_key(*class));
        found.push(match missing {
            None => Some(classes.iter().map(|class| known[class]).collect()),
            Some(_) if detects.len() > 1 && classes.iter().all(|class| !known.contains_key(class)) => None,
            Some(missing) => {
                return Err(Error::Usage(format!(
                    "{}: no category is called `{missing}`, a class of the task `{}`{}; use the annotations of the model's training data",
                    shown(&annotations.file),
                    tasks[task].name,
                    did_you_mean(missing, known.keys().map(String::as_str))
                )));
            }
        });
    }
    if found.iter().all(Option::is_none) {
        return Err(Error::Usage(format!(
            "{}: none of its categories is a class of the model; use the annotations of its training data",
            shown(&annotations.file)
        )));
    }
    Ok(found)
}

/// `detections.json`: one entry per box.
pub struct Results {
    pub task: usize,
    pub categories: Vec<i64>,
    pub ids: Option<Arc<Annotations>>,
}

impl Results {
    pub fn piece(&self, image: &Answered) -> String {
        let id = match &self.ids {
            Some(annotations) => annotations.id_of(image.file),
            // Numbers are far below the largest of either type.
            None => Some(image.number as i64),
        };
        let Some(id) = id else { return String::new() };
        let entries = image.answer[self.task].coco(id, &self.categories);
        entries.iter().map(ToString::to_string).collect::<Vec<_>>().join(",\n")
    }
}

/// The start of `images.json`. Other programs write no space there, or other keys first.
pub const IMAGES_START: &str = "{\"categories\": ";

/// `images.json`: lists the images and classes behind our ids, in the form of an annotation file.
pub struct Images {
    categories: String,
}

impl Images {
    pub fn new(tasks: &[Task], detects: &[usize], categories: &[Categories]) -> Images {
        let named = detects.iter().zip(categories).flat_map(|(&task, ids)| {
            let ids = ids.iter().flatten();
            let entry = move |(class, id)| json!({"id": id, "name": class, "supercategory": tasks[task].name});
            tasks[task].classes().iter().zip(ids).map(entry)
        });
        Images { categories: json!(named.collect::<Vec<_>>()).to_string() }
    }

    pub fn opening(&self) -> String {
        format!("{IMAGES_START}{},\n\"images\": [", self.categories)
    }

    pub fn piece(image: &Answered) -> String {
        let [width, height] = image.size;
        let file = path_text(image.file);
        json!({"id": image.number, "file_name": file, "width": width, "height": height}).to_string()
    }
}

/// Ids for images without an annotation file: the number in the file stem if the first stem is a number, as in COCO's
/// own folders, else a count from 1.
#[derive(Default)]
pub struct Numbers {
    first: Option<Option<First>>,
}

/// The form of ids taken from stems. Two images may share a number: in two folders, with two endings, or as `7` and
/// `007`.
#[derive(PartialEq)]
struct First {
    folder: PathBuf,
    ending: Option<OsString>,
    /// Number of digits if the stems are padded with zeros.
    padded: Option<usize>,
}

/// Above all numbers of up to twelve digits, the longest in COCO's own file names.
const BEYOND_STEMS: u64 = 1 << 40;

impl Numbers {
    /// `line` counts from 1.
    pub fn next(&mut self, file: &Path, line: u64) -> u64 {
        let stem = file.file_stem().and_then(|s| s.to_str()).filter(|s| s.bytes().all(|b| b.is_ascii_digit()));
        let number = stem.and_then(|s| Some((s, s.parse().ok()?))).filter(|&(_, n): &(_, u64)| n < BEYOND_STEMS);
        let of = |padded| First {
            folder: file.parent().map(Path::to_path_buf).unwrap_or_default(),
            ending: file.extension().map(OsString::from),
            padded,
        };
        let fills = |stem: &str| (stem.len() > 1 && stem.starts_with('0')).then_some(stem.len());
        let first = self.first.get_or_insert_with(|| number.map(|(stem, _)| of(fills(stem))));
        match (first, number) {
            // A number that is at least as long as the padded ones needs no padding.
            (Some(first), Some((stem, number)))
                if *first == of(first.padded)
                    && fills(stem)
                        .map_or(first.padded.is_none_or(|p| stem.len() >= p), |own| first.padded == Some(own)) =>
            {
                number
            }
            // A file without a number, among files with numbers, gets an id that no stem has.
            (Some(_), _) => BEYOND_STEMS + line,
            (None, _) => line,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_images_share_an_id() {
        let number = |files: &[&str]| -> Vec<u64> {
            let mut numbers = Numbers::default();
            files.iter().zip(1..).map(|(file, line)| numbers.next(Path::new(file), line)).collect()
        };
        let beyond = |line: u64| BEYOND_STEMS + line;
        assert_eq!(number(&["a/7.jpg", "a/12.jpg", "b/7.jpg", "a/7.png"]), [7, 12, beyond(3), beyond(4)]);
        assert_eq!(number(&["007.jpg", "012.jpg", "12.jpg", "1234.jpg", "x.jpg"]), [7, 12, beyond(3), 1234, beyond(5)]);
        assert_eq!(number(&["7.jpg", "07.jpg", "0.jpg"]), [7, beyond(2), 0]);
        assert_eq!(number(&["x.jpg", "7.jpg", "1.jpg"]), [1, 2, 3]);
    }
}
