//! Parses `data.yaml`: the Ultralytics keys at the top and the `tasks:` block. Paths are resolved and keys are checked
//! here.

use super::{Explained, Splits, split_folders};
use crate::archives;
use crate::data::declaration::{
    Declaration, LabelsFrom, Source, SourceSet, Split, TaskDeclaration, YoloRows, explained,
};
use crate::data::formats;
use crate::data::images::decode::is_image;
use crate::data::walk::{folder_in, relative_name};
use crate::error::{Error, Result, shown};
use crate::files;
use crate::reading::yaml::{self, Mapping, NO_KEY, Tree, Value, Yaml};
use crate::reading::{MOST_CLASSES, Place, count_of, did_you_mean, text};
use crate::tasks::Content;
use std::ops::Deref;
use std::path::{Path, PathBuf};

const TOP_KEYS: [&str; 13] = [
    "path",
    "sources",
    "train",
    "val",
    "valid",
    "validation",
    "test",
    "names",
    "nc",
    "tasks",
    "val_fraction",
    "group",
    "missing",
];
const TOP_FLAGS: [&str; 4] = ["crop_safe", "flip_safe", "flip_invariant", "scale_invariant"];
/// Keys of other trainers' files that are accepted and ignored.
const TOLERATED: [&str; 12] = [
    "channels",
    "download",
    "kpt_shape",
    "flip_idx",
    "roboflow",
    "minival",
    "yolo_version",
    "author",
    "license",
    "version",
    "url",
    "description",
];

/// A `data.yaml`, with methods that turn its keys into a declaration of a data set.
pub struct DataYaml {
    yaml: Yaml,
    /// The tasks whose label files must exist; all if empty.
    pub asked: Vec<String>,
    pub purpose: Purpose,
    /// Chooses between the layouts of a source.
    pub evidence: Explained,
}

/// The use of a data set.
#[derive(Clone, Copy, PartialEq)]
pub enum Purpose {
    Training,
    /// Its images are only evaluated, so splits other than test may be missing.
    Judging,
}

impl Deref for DataYaml {
    type Target = Yaml;

    fn deref(&self) -> &Yaml {
        &self.yaml
    }
}

/// Reads `data.yaml`. Only the tasks in `asked` are wanted, or all if it is empty.
pub fn read(file: &Path, asked: &[String], evidence: Explained) -> Result<Declaration> {
    read_for(Purpose::Training, file, asked, evidence)
}

/// Reads `data.yaml` of images that are only evaluated: if it has a test split, the others may be missing.
pub fn read_to_judge(file: &Path, asked: &[String], evidence: Explained) -> Result<Declaration> {
    read_for(Purpose::Judging, file, asked, evidence)
}

fn read_for(purpose: Purpose, file: &Path, asked: &[String], evidence: Explained) -> Result<Declaration> {
    let text = text::read(file).map_err(Error::io("read", file))?;
    let tree: Tree = yaml::tree(&text).map_err(|e| Error::data(file, e.line, format!("not valid YAML: {e}")))?;
    let Value::Object(top) = tree.value else {
        let message = "expected `key: value` lines such as `train: images/train`";
        return Err(Error::data(file, None, message));
    };
    let yaml = Yaml { file: file.to_path_buf(), lines: tree.lines };
    let yaml = DataYaml { yaml, asked: asked.to_vec(), purpose, evidence };
    let (mut notes, causes) = yaml.unknown_keys(&top);
    let declared = yaml.declaration(&top, &mut notes).map_err(|error| explained(error, &causes))?;
    Ok(Declaration { notes, causes, ..declared })
}

impl DataYaml {
    /// Whether the task's labels will be read.
    pub fn is_asked(&self, task: &str) -> bool {
        self.asked.is_empty() || self.asked.iter().any(|asked| asked == task)
    }

    fn declaration(&self, top: &Mapping, notes: &mut Vec<String>) -> Result<Declaration> {
        let root = self.root(top, notes)?;
        let sources = self.sources(top, &root, notes)?;
        if !sources.is_empty() {
            return self.of_sources(sources, top, root);
        }
        let (splits, no_test) = self.splits(top, &root, notes)?;
        let mut tasks = match top.get("tasks") {
            Some(tasks) => self.tasks(tasks, top, &root, notes)?,
            None => vec![self.yolo_task(top)?],
        };
        for task in &mut tasks {
            self.inherit(top, task)?;
        }
        let is_there = |key: &str| top.get(key).is_some_and(|value| !value.is_null());
        let counted = if is_there("names") { None } else { self.top_names(top)? };
        if counted.is_some() && tasks.iter().any(|task| task.names == counted) {
            notes.push(format!(
                "{}: `nc:` without `names:`, so classes are called by their numbers; to name them, add `names: [first, second, …]`",
                self.shown(&["nc"])
            ));
        }
        let count = tasks.len();
        let plural = if count == 1 { "" } else { "s" };
        Ok(Declaration {
            layout: match top.get("tasks") {
                Some(_) => format!("{} with a tasks: block of {count} task{plural}", shown(&self.file)),
                None => format!("YOLO labels under {}", shown(&self.file)),
            },
            group: self.group(top, &root)?,
            root,
            splits,
            val_fraction: self.val_fraction(top)?,
            tasks,
            notes: Vec::new(),
            causes: Vec::new(),
            no_test,
            sources: Vec::new(),
            place: Place::new(&self.file, None),
        })
    }

    fn of_sources(&self, sources: Vec<SourceSet>, top: &Mapping, root: PathBuf) -> Result<Declaration> {
        Ok(Declaration {
            layout: format!("{} with {}", shown(&self.file), count_of(sources.len(), "source")),
            group: None,
            root,
            splits: [const { Vec::new() }; 3],
            val_fraction: self.val_fraction(top)?,
            tasks: Vec::new(),
            notes: Vec::new(),
            causes: Vec::new(),
            no_test: None,
            sources,
            place: Place::new(&self.file, None),
        })
    }

    /// A note about each unknown key, and those among them about a key that resembles a known one.
    fn unknown_keys(&self, top: &Mapping) -> (Vec<String>, Vec<String>) {
        let (mut notes, mut causes) = (Vec::new(), Vec::new());
        for key in top.keys() {
            let known = TOP_KEYS.iter().chain(&TOP_FLAGS).chain(&TOLERATED);
            if known.clone().any(|k| k == key) {
                continue;
            }
            let nearest = did_you_mean(key, known.copied());
            let note = format!("{}: the key `{key}` is not known and is ignored{nearest}", self.shown(&[key]));
            causes.extend((!nearest.is_empty()).then(|| note.clone()));
            notes.push(note);
        }
        (notes, causes)
    }

    fn root(&self, top: &Mapping, notes: &mut Vec<String>) -> Result<PathBuf> {
        let beside = match self.file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        let Some(path) = top.get("path").filter(|v| !v.is_null()) else {
            return Ok(beside);
        };
        let path = self.text_of(path, &["path"])?;
        let resolved = if path == "." { beside.clone() } else { beside.join(&path) };
        if archives::is_dir(&resolved) {
            return Ok(resolved);
        }
        let from_here = PathBuf::from(&path);
        if archives::is_dir(&from_here) {
            notes.push(format!(
                "{}: `path: {path}` was found relative to the current folder, not to this file",
                self.shown(&["path"])
            ));
            return Ok(from_here);
        }
        let elsewhere = match from_here.is_absolute() {
            true => String::new(),
            false => format!(" and for {path} in the current folder"),
        };
        let message = format!(
            "`path: {path}` is not a folder (looked for {}{elsewhere}): give it relative to this file, or leave it out",
            shown(&resolved)
        );
        Err(self.error(&["path"], message))
    }

    /// The sources of the three splits, and the reason why a declared test split is left out.
    fn splits(&self, top: &Mapping, root: &Path, notes: &mut Vec<String>) -> Result<(Splits, Option<String>)> {
        let mut splits: Splits = [const { Vec::new() }; 3];
        let (mut no_test, mut absent) = (None, Vec::new());
        for split in Split::ALL {
            let keys: &[&str] = match split {
                Split::Train => &["train"],
                Split::Val => &["val", "valid", "validation"],
                Split::Test => &["test"],
            };
            let mut given = keys.iter().filter(|k| top.get(**k).is_some_and(|v| !v.is_null()));
            let Some(key) = given.next() else {
                continue;
            };
            if let Some(other) = given.next() {
                let message = format!("`{key}:` and `{other}:` both name the {} split: remove one", split.word());
                return Err(self.error(&[other], message));
            }
            // Without `train:`, all images are trained on, and those of validation would be among them.
            if split == Split::Val && splits[0].is_empty() && self.purpose == Purpose::Training {
                let message = format!(
                    "`{key}:` is given without `train:`, so the validation images would be trained on, too: add `train:` with the folder or list file of the training images"
                );
                return Err(self.error(&[key], message));
            }
            let names = match &top[*key] {
                Value::Array(list) => list.iter().map(|v| self.text_of(v, &[key])).collect::<Result<_>>()?,
                one => vec![self.text_of(one, &[key])?],
            };
            let found: Result<Vec<Source>, String> =
                names.iter().map(|name| self.source(key, name, root, notes)).collect();
            match found {
                Ok(found) => splits[split as usize] = found,
                // Many exports name a test split that they do not have, and training does not need one.
                Err(missing) if split == Split::Test => {
                    let reason = format!("{}: {missing}", self.shown(&[key]));
                    notes.push(format!("{reason}; there is no test split"));
                    no_test = Some(reason);
                }
                Err(missing) if self.purpose == Purpose::Judging => absent.push((split, *key, missing)),
                Err(missing) => return Err(self.error(&[key], format!("{missing}: correct it, or leave it out"))),
            }
        }
        let judged = self.purpose == Purpose::Judging && splits.iter().any(|sources| !sources.is_empty());
        for (split, key, missing) in absent {
            match judged {
                true => notes.push(format!("{}: {missing}; there is no {} split", self.shown(&[key]), split.word())),
                false => return Err(self.error(&[key], format!("{missing}: correct it, or leave it out"))),
            }
        }
        if splits[0].is_empty() && !judged {
            splits[0].push(self.every_image(root, &splits[2], notes)?);
        }
        Ok((splits, no_test))
    }

    /// The source of the training images if the file has no `train:`.
    ///
    /// Errors: the images lie in folders of splits, which would be mixed.
    fn every_image(&self, root: &Path, test: &[Source], notes: &mut Vec<String>) -> Result<Source> {
        let folders = ["images", "JPEGImages"].map(|name| folder_in(root, name));
        let folder = folders.into_iter().find(|dir| archives::is_dir(dir)).unwrap_or_else(|| root.to_path_buf());
        if let Some(splits) = split_folders(&folder)? {
            let undeclared = |(split, _): &(&Split, &Vec<Source>)| **split != Split::Test || test.is_empty();
            let lines = Split::ALL.iter().zip(&splits).filter(undeclared).filter_map(|(split, sources)| {
                Some(format!("`{}: {}`", split.word(), relative_name(sources.first()?.path(), root)))
            });
            let message = format!(
                "there is no `train:`, but {} has folders for the splits: add {}; or `train: {}` if these folders are classes",
                shown(&folder),
                lines.collect::<Vec<_>>().join(", "),
                match relative_name(&folder, root) {
                    same if same.is_empty() => ".".to_owned(),
                    other => other,
                }
            );
            return Err(self.error(&NO_KEY, message));
        }
        let except = if test.is_empty() { "" } else { ", except those of `test:`," };
        notes.push(format!(
            "{}: there is no `train:`, so all images below {}{except} are for training and validation",
            shown(&self.file),
            shown(&folder)
        ));
        Ok(Source::Folder(folder))
    }

    /// Errors: nothing of this name exists, as the beginning of a sentence.
    pub fn source(&self, key: &str, name: &str, root: &Path, notes: &mut Vec<String>) -> Result<Source, String> {
        let mut path = if name == "." { root.to_path_buf() } else { root.join(name.trim_start_matches("./")) };
        let mut looked = shown(&path);
        // Roboflow exports write `../train/images` for `train/images`.
        let inner = name.trim_start_matches("../");
        if inner.len() < name.len() {
            let inside = root.join(inner);
            match (archives::exists(&path), archives::exists(&inside)) {
                (false, true) => {
                    notes.push(format!("{}: `{name}` does not exist, so `{inner}` is used", self.shown(&[key])));
                    path = inside;
                }
                (true, true) => notes.push(format!(
                    "{}: `{name}` is {}; the folder {} is there, too, and is not used: write `{key}: {inner}` if you mean that one",
                    self.shown(&[key]),
                    shown(&path),
                    shown(&inside)
                )),
                (false, false) => looked.push_str(&format!(" and {}", shown(&inside))),
                (true, false) => {}
            }
        }
        if path.is_file() && archives::is_archive(&path) {
            archives::check(&path).map_err(|e| format!("`{key}: {name}` cannot be read: {e}"))?;
        } else if path.is_file()
            && let Some(what) = archives::other_kind(&path)
        {
            return Err(format!("`{key}: {name}` {what}"));
        }
        if archives::is_dir(&path) {
            Ok(Source::Folder(path))
        } else if is_label_file(&path) {
            Ok(Source::Labels(path))
        } else if archives::is_file(&path) {
            Ok(Source::List(path))
        } else if let Some(what) = files::endless(&path) {
            Err(format!("`{key}: {name}` is {what}, neither a folder nor a list file"))
        } else {
            Err(format!("`{key}: {name}` is neither a folder nor a list file (looked for {looked})"))
        }
    }

    /// A plain YOLO data.yaml declares one detection task.
    fn yolo_task(&self, top: &Mapping) -> Result<TaskDeclaration> {
        let names = self.top_names(top)?;
        if names.is_none() {
            let message = "neither `tasks:` nor `names:`: list the class names of the YOLO labels as `names: [cat, dog]`, or declare tasks";
            return Err(self.error(&NO_KEY, message));
        }
        let from = LabelsFrom::Yolo { dir: None, rows: yolo_rows(top) };
        let task = TaskDeclaration::new("objects", Content::Boxes.kind(), from, self.place(&["names"]));
        Ok(TaskDeclaration { names, ..task })
    }

    /// Class names at the top, from `names:` or generated from the count in `nc:`.
    pub fn top_names(&self, top: &Mapping) -> Result<Option<Vec<String>>> {
        let names = match top.get("names").filter(|v| !v.is_null()) {
            Some(value) => Some(self.names(value, &["names"])?),
            None => None,
        };
        let Some(count) = top.get("nc").filter(|v| !v.is_null()) else {
            return Ok(names);
        };
        let count =
            count.as_u64().ok_or_else(|| self.error(&["nc"], "`nc:` is the number of classes, a whole number"))?;
        match names {
            Some(names) if names.len() as u64 != count => {
                let message = format!(
                    "`nc: {count}`, but `names:` lists {} classes: make them agree, or leave `nc` out",
                    names.len()
                );
                Err(self.error(&["nc"], message))
            }
            Some(names) => Ok(Some(names)),
            None if count > MOST_CLASSES as u64 => {
                Err(self.error(&["nc"], format!("`nc: {count}`: expected at most {MOST_CLASSES} classes")))
            }
            None => Ok(Some((0..count).map(|i| i.to_string()).collect())),
        }
    }

    /// Applies the top-level `missing`, `crop_safe` and `scale_invariant` to a task that does not set them. The flip flags
    /// must be true both at the top and in the task.
    pub fn inherit(&self, top: &Mapping, task: &mut TaskDeclaration) -> Result<()> {
        task.missing = task.missing.or(self.missing(top.get("missing"), &["missing"])?);
        task.crop_safe = task.crop_safe.or(self.flag(top.get("crop_safe"), &["crop_safe"])?);
        task.flip_safe &= self.flip_safe(top, &[])?;
        task.scale_safe = task.scale_safe.or(self.flag(top.get("scale_invariant"), &["scale_invariant"])?);
        Ok(())
    }

    /// Reads both names of the flag; if both are given, both must be true.
    pub fn flip_safe(&self, body: &Mapping, at: &[&str]) -> Result<bool> {
        let mut safe = true;
        for key in ["flip_safe", "flip_invariant"] {
            safe &= self.flag(body.get(key), &[at, &[key]].concat())?.unwrap_or(true);
        }
        Ok(safe)
    }

    fn val_fraction(&self, top: &Mapping) -> Result<Option<f32>> {
        match top.get("val_fraction").filter(|v| !v.is_null()) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(fraction) if (0.0..1.0).contains(&fraction) => Ok(Some(fraction as f32)),
                _ => {
                    let message = "`val_fraction:` is a number from 0 to less than 1, such as 0.2";
                    Err(self.error(&["val_fraction"], message))
                }
            },
        }
    }
}

/// Whether this is a label file that names its images, rather than a list of paths.
fn is_label_file(path: &Path) -> bool {
    let ends = |with: &str| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(with));
    // A list of paths has one cell in each line, or a column of names with an image's ending.
    let is_list =
        || formats::image_list(path).is_ok_and(|names| names.iter().all(|(_, name)| is_image(Path::new(name))));
    let is_table = || formats::table::columns_of(path, 1).is_some_and(|columns| columns.len() > 1) && !is_list();
    archives::is_file(path) && (ends("json") || (ends("csv") && (formats::is_box_rows(path) || is_table())))
}

pub fn yolo_rows(top: &Mapping) -> YoloRows {
    match top.contains_key("kpt_shape") {
        true => YoloRows::Keypoints,
        false => YoloRows::BoxesOrPolygons,
    }
}
