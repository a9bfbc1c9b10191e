//! Writes a data set's declaration as a complete data.yaml. Everything that was inferred or inherited is written out,
//! so that the file describes the same data set from any folder.

use crate::archives;
use crate::data::dataset::faults::Faults;
use crate::data::dataset::{self, OpenOptions};
use crate::data::declaration::{GroupedBy, Grouping, LabelFile, LabelsFrom, Split, TaskDeclaration, YoloRows};
use crate::data::progress::Progress;
use crate::data::walk::relative_name;
use crate::error::{Error, Result, one_line};
use crate::reading::yaml::{self, list, scalar};
use crate::reading::{BoxFormat, Missing, count_of};
use crate::tasks::{Keys, Task};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The data set at `path` as the text of a data.yaml with an absolute `path:`. The sizes of its splits and all notes
/// are added as comments.
///
/// Errors: as for [`super::Dataset::open`].
pub fn data_yaml(path: &Path, options: &OpenOptions, progress: &Progress) -> Result<String> {
    let (declared, dataset) = dataset::open_declared(path, options, &mut Faults::Stop, progress)?;
    // One line each, because notes quote cells and names of files, and a line break would end the comment.
    let mut text = format!("# {}\n", one_line(&dataset.layout));
    for note in &dataset.notes {
        let _ = writeln!(text, "# note: {}", one_line(note)); // writing to a String cannot fail
    }
    let root = absolute(&declared.root)?;
    let _ = writeln!(text, "path: {}", scalar(&root.to_string_lossy()));
    if !declared.sources.is_empty() {
        let entries: Vec<_> = declared.sources.iter().map(|source| source.written.clone()).collect();
        let block = yaml::write(&serde_json::json!({ "sources": entries }));
        text.push_str(&block.map_err(|e| Error::Other(format!("the sources cannot be written: {e}")))?);
        if let Some(fraction) = options.val_fraction.or(declared.val_fraction) {
            let _ = writeln!(text, "val_fraction: {fraction}");
        }
        return Ok(text);
    }
    for split in Split::ALL {
        let sources = &declared.splits[split as usize];
        let images = count_of(dataset.split(split).len(), "image");
        let paths = sources.iter().map(|source| within(source.path(), &declared.root)).collect::<Result<Vec<_>>>()?;
        match paths.as_slice() {
            [] if split == Split::Val => {
                let fraction = options.val_fraction.or(declared.val_fraction).unwrap_or(dataset::DEFAULT_VAL_FRACTION);
                let _ = writeln!(text, "val_fraction: {fraction}  # {images} with --seed {}", options.seed);
            }
            [] => {}
            [one] => drop(writeln!(text, "{}: {}  # {images}", split.word(), scalar(one))),
            several => drop(writeln!(text, "{}: {}  # {images}", split.word(), list(several))),
        }
    }
    if let Some(group) = &declared.group {
        let _ = writeln!(text, "group: {}", grouped_by(group, &root)?);
    }
    let of_keypoints = LabelsFrom::Yolo { dir: None, rows: YoloRows::Keypoints };
    if declared.tasks.iter().any(|task| task.from == of_keypoints) {
        text.push_str("kpt_shape: []  # numbers after a YOLO box are keypoints, not a polygon\n");
    }
    // Labels beside `images` have no `from:`; the top-level `names:` is what marks them as YOLO labels.
    let beside = |task: &TaskDeclaration| matches!(task.from, LabelsFrom::Yolo { dir: None, .. });
    let at_top = declared.tasks.iter().position(beside);
    if let Some(at) = at_top {
        let _ = writeln!(text, "names: {}", list(dataset.tasks[at].classes()));
    }
    text.push_str("tasks:\n");
    for (index, (declaration, task)) in declared.tasks.iter().zip(&dataset.tasks).enumerate() {
        let from = labels_from(&declaration.from, &declared.root)?;
        let states = Split::ALL.map(|split| labelled(dataset.split(split), index));
        let _ = writeln!(text, "  {}:  # labelled: {}", scalar(&task.name), states.join(", "));
        let names = (Some(index) != at_top).then_some(task);
        for (key, value) in keys(declaration, names, from) {
            let _ = writeln!(text, "    {key}: {value}");
        }
    }
    Ok(text)
}

/// The value of `group:`.
fn grouped_by(group: &Grouping, root: &Path) -> Result<String> {
    match &group.by {
        GroupedBy::Name(_) => Ok(scalar(&group.written)),
        GroupedBy::Column(task) => match &task.from {
            LabelsFrom::Columns(columns) => Ok(scalar(&columns.concat())),
            LabelsFrom::Csv { files, columns, key } => {
                let key = key.as_ref().map_or(String::new(), |key| format!(", key: {}", scalar(key)));
                let column = scalar(&columns.concat());
                Ok(format!("{{csv: {}, column: {column}{key}}}", label_files(files, root)?))
            }
            _ => unreachable!("a group's column is in a metadata table or a CSV file"),
        },
    }
}

fn labelled(samples: &[dataset::Sample], task: usize) -> String {
    let of_split = samples.iter().filter(|s| s.labels[task].is_labelled()).count();
    format!("{of_split} of {}", samples.len())
}

/// The keys of a task in data.yaml with their values as YAML; if `named` is given, its classes are listed.
pub(super) fn keys(declaration: &TaskDeclaration, named: Option<&Task>, from: Option<String>) -> Keys {
    let mut keys = vec![("type", declaration.kind.yaml_word.to_string())];
    keys.extend(declaration.kind.flag.map(|flag| (flag, "true".into())));
    let named = named.map(Task::classes).filter(|classes| !classes.is_empty()).map(list);
    keys.extend(named.map(|names| ("names", names)));
    keys.extend(from.map(|from| ("from", from)));
    let missing = |missing| if missing == Missing::Background { "background" } else { "unlabelled" }.into();
    keys.extend(declaration.missing.map(|m| ("missing", missing(m))));
    let box_format = match declaration.box_format {
        BoxFormat::XywhAbsolute => None,
        BoxFormat::XyxyAbsolute => Some("xyxy_abs"),
        BoxFormat::CxcywhNormalised => Some("cxcywh_norm"),
    };
    let range = declaration.range.map(|[low, high]| ("range", format!("[{low}, {high}]")));
    let reading = box_format.map(|format| ("bbox_format", format.into())).into_iter().chain(range);
    keys.extend(declaration.own.keys(reading.collect()));
    keys.extend(declaration.crop_safe.map(|flag| ("crop_safe", flag.to_string())));
    keys.extend((!declaration.flip_safe).then(|| ("flip_safe", "false".into())));
    keys.extend(declaration.scale_safe.map(|flag| ("scale_invariant", flag.to_string())));
    keys
}

/// The value of `from:`; `None` for YOLO labels beside the images.
fn labels_from(from: &LabelsFrom, root: &Path) -> Result<Option<String>> {
    let dir = |path: &Path| Ok::<_, Error>(scalar(&within(path, root)?));
    Ok(Some(match from {
        // A list, because a column may be called `folders`.
        LabelsFrom::Columns(columns) => list(columns),
        LabelsFrom::Folders => "folders".into(),
        LabelsFrom::Csv { files: from, columns, key } => {
            let key = key.as_ref().map_or(String::new(), |key| format!(", key: {}", scalar(key)));
            format!("{{csv: {}, column: {}{key}}}", label_files(from, root)?, list(columns))
        }
        LabelsFrom::BoxRows { files: from } => format!("{{csv: {}}}", label_files(from, root)?),
        LabelsFrom::Coco { files: from } => format!("{{coco: {}}}", label_files(from, root)?),
        LabelsFrom::Bdd { files: from, attribute } => {
            let attribute = attribute.as_ref().map_or(String::new(), |word| format!(", attribute: {}", scalar(word)));
            format!("{{bdd: {}{attribute}}}", label_files(from, root)?)
        }
        LabelsFrom::Form { form, files: from, attributes } => {
            let named = match &attributes[..] {
                [] => String::new(),
                [one] => format!(", attribute: {}", scalar(one)),
                several => format!(", attribute: {}", list(several)),
            };
            format!("{{{}: {}{named}}}", form.word, label_files(from, root)?)
        }
        LabelsFrom::Yolo { dir: None, .. } => return Ok(None),
        LabelsFrom::Yolo { dir: Some(path), rows } => {
            let rows = rows.word().map_or(String::new(), |word| format!(", rows: {word}"));
            format!("{{yolo: {}{rows}}}", dir(path)?)
        }
        LabelsFrom::Voc { dir: path } => format!("{{voc: {}}}", dir(path)?),
    }))
}

/// One file or a list for all images, otherwise a mapping from split to files.
fn label_files(files: &[LabelFile], root: &Path) -> Result<String> {
    let of = |split: Option<Split>| -> Result<Vec<String>> {
        files.iter().filter(|file| file.split == split).map(|file| within(&file.path, root)).collect()
    };
    let one_or_list = |paths: &[String]| match paths {
        [one] => scalar(one),
        several => list(several),
    };
    let of_all = of(None)?;
    if !of_all.is_empty() {
        return Ok(one_or_list(&of_all));
    }
    let mut splits = Vec::new();
    for split in Split::ALL {
        let paths = of(Some(split))?;
        if !paths.is_empty() {
            splits.push(format!("{}: {}", split.word(), one_or_list(&paths)));
        }
    }
    Ok(format!("{{{}}}", splits.join(", ")))
}

/// The path relative to `root` if it lies below it, otherwise the absolute path.
fn within(path: &Path, root: &Path) -> Result<String> {
    match path.strip_prefix(root) {
        Ok(inside) if inside.as_os_str().is_empty() => Ok(".".into()),
        Ok(_) => Ok(relative_name(path, root)),
        Err(_) => Ok(absolute(path)?.to_string_lossy().into_owned()),
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    archives::canonicalize(path).map_err(Error::io("find", path))
}
