//! Tests of `data` as a whole; small files are written to a folder that is deleted after the test.

mod archives;
mod bad_entries;
mod bdd;
mod beside;
mod box_rows;
mod check;
mod check_files;
mod class_order;
mod coco;
mod convert;
mod declarations;
mod describe;
mod digits;
mod discovery;
mod formats;
mod forms;
mod forms_by_name;
mod hints;
mod hostile;
mod images;
mod label_tables;
mod layouts;
mod leftovers;
#[cfg(unix)]
mod links;
mod loading;
mod losses;
mod multi_label;
mod own;
mod partial;
mod picture_files;
mod pixels;
mod reach;
mod refusals;
mod sampling;
mod sources;
mod splits;
mod tables;
mod yaml_files;
mod yolo_rows;

use crate::data::dataset::{Dataset, OpenOptions};
use crate::error::Error;
use crate::tasks::classify::Class;
use crate::tasks::multi_label::Classes;
use crate::tasks::regress::Values;
use crate::tasks::{Boxes, Label, LabelledBox};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A temporary folder, deleted on drop.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("polyhead-data-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn text(&self, name: &str, text: &str) -> &Self {
        let file = self.0.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
        self
    }

    /// A grey PNG of 40 × 20 pixels for each name.
    pub fn images(&self, names: &[&str]) -> &Self {
        for name in names {
            let file = self.0.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            image::RgbImage::from_pixel(40, 20, image::Rgb([90, 120, 150])).save(file).unwrap();
        }
        self
    }

    pub fn open(&self) -> Dataset {
        Dataset::open(&self.0, &OpenOptions::default()).unwrap()
    }

    /// The error message, with this folder's path replaced by `DIR`.
    pub fn error(&self) -> String {
        let error = Dataset::open(&self.0, &OpenOptions::default()).unwrap_err();
        assert!(matches!(error, Error::Data { .. }), "{error:?}");
        error.to_string().replace(&*self.0.to_string_lossy(), "DIR")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn one_box(class: usize, xyxy: [f32; 4]) -> Label {
    let ignore = false;
    of_boxes(vec![LabelledBox { class, xyxy, ignore }])
}

pub fn of_boxes(boxes: Vec<LabelledBox>) -> Label {
    Label::of(Boxes::from(boxes))
}

pub fn of_class(class: usize) -> Label {
    Label::of(Class::One(class))
}

pub fn of_classes(there: Vec<Option<bool>>) -> Label {
    Label::of(Classes::from(there))
}

pub fn of_values(values: Vec<f64>) -> Label {
    Label::of(Values::from(&values[..]))
}

/// Edits a label's boxes in place.
pub fn edit_boxes(label: &mut Label, edit: impl FnOnce(&mut Boxes)) {
    let mut boxes = label.boxes().unwrap().clone();
    edit(&mut boxes);
    *label = Label::of(boxes);
}

/// The class, corners and `ignore` flag of each box of a label.
pub fn boxes_of(label: &Label) -> Vec<(usize, [f32; 4], bool)> {
    let Some(boxes) = label.boxes() else { panic!("{label:?} is no list of boxes") };
    boxes.iter().map(|b| (b.class, b.xyxy, b.ignore)).collect()
}

/// Checks that one of the notes contains these words.
pub fn assert_note(dataset: &Dataset, words: &str) {
    assert!(dataset.notes.iter().any(|note| note.contains(words)), "no `{words}` in {:#?}", dataset.notes);
}

/// The label of image `name` for task number `task`, in any split.
pub fn label<'a>(dataset: &'a Dataset, name: &str, task: usize) -> &'a Label {
    let mut all = dataset.train.iter().chain(&dataset.val).chain(&dataset.test);
    &all.find(|sample| sample.name == name).unwrap().labels[task]
}
