//! CSV files with one row per box, in the columns that `box_columns` finds. A row with only a file name means *labelled,
//! nothing there*; an image without a row is unlabelled.

use super::box_columns::{Layout, class_descriptions};
use super::corners::Found;
use super::listed::{Images, Listed};
use super::matching::{Matches, Names, check_unused, match_images};
use super::records::Records;
use super::table::normal;
use super::{Raw, RawBox, RawClass, Reading, Remark, Word};
use crate::boxes::Xyxy;
use crate::data::declaration::{LabelFile, TaskDeclaration};
use crate::data::images::decode;
use crate::data::walk::relative_name;
use crate::error::{Error, Result};
use crate::reading::{Place, Spot, count_of};
use csv::StringRecord;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

pub struct BoxFile {
    path: Arc<Path>,
    layout: Layout,
    images: Vec<ImageRows>,
    by_name: HashMap<Arc<str>, usize>,
    /// Sorted by image once all are read, in file order; a list per image would take three times the memory.
    rows: Vec<Row>,
    /// Each class name once; many boxes share it.
    classes: HashSet<Arc<str>>,
    /// For each image with wrong rows, the line and the message of each.
    wrong: HashMap<usize, Vec<(usize, String)>>,
    /// Rows that could not be interpreted and name no image.
    faults: Vec<Error>,
}

/// The rows of one image in a file, and the position of the first.
struct ImageRows {
    name: Arc<str>,
    line: usize,
    /// While reading, `end` is the number of rows; afterwards this is their range.
    rows: Range<u32>,
    /// Whether a row says that the image has no objects.
    empty: bool,
}

struct Row {
    image: u32,
    line: u32,
    class: Arc<str>,
    edges: Xyxy,
    size: [Option<f32>; 2],
    ignore: bool,
}

impl BoxFile {
    pub fn open(path: &Path) -> Result<BoxFile> {
        let mut records = Records::open(path)?;
        let mut record = StringRecord::new();
        let mut line = records.read(&mut record).ok().flatten();
        let Some(layout) = line.and_then(|_| Layout::of(&record)) else {
            let message = "no table of boxes: expected the columns filename, class, xmin, ymin, xmax, ymax (or x, y, w, h, or bbox), or rows of path,x1,y1,x2,y2,class";
            return Err(Error::data(path, Some(1), message));
        };
        let mut file = BoxFile {
            path: path.into(),
            layout,
            images: Vec::new(),
            by_name: HashMap::new(),
            rows: Vec::new(),
            classes: HashSet::new(),
            wrong: HashMap::new(),
            faults: Vec::new(),
        };
        if !file.layout.header.is_empty() {
            line = records.read(&mut record)?;
        }
        while let Some(at) = line {
            let taken = file.take(&record, at);
            file.faults.extend(taken.err());
            line = records.read(&mut record)?;
        }
        if file.images.is_empty() && !file.faults.is_empty() {
            return Err(file.faults.swap_remove(0));
        }
        // Fast in most files, because the rows of an image are already adjacent.
        file.rows.sort_by_key(|row| row.image);
        let mut end = 0;
        for image in &mut file.images {
            image.rows = end..end + image.rows.end;
            end = image.rows.end;
        }
        file.rows.shrink_to_fit();
        Ok(file)
    }

    pub fn image_names(&self) -> impl Iterator<Item = &str> {
        self.images.iter().map(|image| &*image.name)
    }

    fn take(&mut self, record: &StringRecord, line: usize) -> Result<()> {
        let place = Place::at(&self.path, Spot::line(line));
        let layout = &self.layout;
        let expected = layout.width();
        if record.len() != expected {
            let of = if layout.header.is_empty() { "path,x1,y1,x2,y2,class has" } else { "the header has" };
            let message = format!("{} cells, but {of} {expected}: quote cells that hold a comma", record.len());
            return Err(place.error(message));
        }
        let cell = |at: usize| record.get(at).unwrap_or("");
        let name: Arc<str> = normal(cell(layout.file)).into();
        if name.is_empty() {
            let column = layout.column(layout.file);
            return Err(place.error(format!("no file name in column `{column}`: name the image or remove the row")));
        }
        let columns = layout.of_boxes();
        let blank = columns.iter().filter(|at| cell(**at).is_empty()).count();
        let row = match blank {
            0 => row(layout, &cell, line, &mut self.classes).map(Some),
            n if n == columns.len() => Ok(None),
            _ => {
                let at = columns.iter().find(|at| cell(**at).is_empty()).copied().unwrap_or_default();
                Err(format!(
                    "column `{}` is blank: fill it, or leave all of class and edges blank where nothing is there",
                    layout.column(at)
                ))
            }
        };
        let images = &mut self.images;
        let is_empty = matches!(row, Ok(None));
        let index = *self.by_name.entry(name.clone()).or_insert_with(|| {
            images.push(ImageRows { name, line, rows: 0..0, empty: is_empty });
            images.len() - 1
        });
        let image = &mut images[index];
        let message = match row {
            Err(message) => message,
            Ok(_) if image.empty != is_empty => format!(
                "`{}` has a row without a box and a row with one (first: line {}): remove one of them",
                image.name, image.line
            ),
            Ok(Some(row)) => {
                image.rows.end += 1;
                self.rows.push(Row { image: index as u32, ..row });
                return Ok(());
            }
            Ok(None) => return Ok(()),
        };
        self.wrong.entry(index).or_default().push((line, message));
        Ok(())
    }

    /// Replaces Open Images' codes such as `/m/01yrx` by the names in a table beside the file; a note says which table it was.
    fn name_classes(&mut self, root: &Path) -> Option<String> {
        if !self.classes.iter().any(|class| class.starts_with("/m/")) {
            return None;
        }
        let shown = relative_name(&self.path, root);
        let Some((table, names)) = class_descriptions(&self.path, root) else {
            return Some(format!(
                "{shown}: classes are called by their codes; to name them, put class-descriptions-boxable.csv beside this file"
            ));
        };
        let unnamed: Vec<&str> =
            self.classes.iter().map(|code| &**code).filter(|code| !names.contains_key(*code)).collect();
        let unnamed = match unnamed.len() {
            0 => String::new(),
            n => format!(
                "; {} not in it and called by {} code",
                count_of(n, "class"),
                if n == 1 { "its" } else { "their" }
            ),
        };
        for row in &mut self.rows {
            if let Some(name) = names.get(&*row.class) {
                row.class = name.clone();
            }
        }
        Some(format!("{shown}: the names of classes are those of {}{unnamed}", relative_name(&table, root)))
    }

    /// The faults of the rows of an image.
    fn wrong_rows(&self, image: usize) -> impl Iterator<Item = Error> {
        let wrong = self.wrong.get(&image).into_iter().flatten();
        wrong.map(|(line, message)| Error::data(&self.path, Some(*line), message.as_str()))
    }

    fn entry(&self, index: usize) -> (String, Place) {
        let image = &self.images[index];
        (image.name.to_string(), Place::at(&self.path, Spot::line(image.line)))
    }
}

/// The class of all boxes in a table without a column of classes.
pub const ONLY_CLASS: &str = "object";

/// Parses a row with a box; its image is set by the caller.
fn row<'a>(
    layout: &Layout,
    cell: &dyn Fn(usize) -> &'a str,
    line: usize,
    classes: &mut HashSet<Arc<str>>,
) -> Result<Row, String> {
    let edges = layout.edges(cell)?;
    let flag = layout.ignore.map(|at| cell(at).to_ascii_lowercase());
    let class = layout.class.map_or(ONLY_CLASS, cell);
    let class = classes.get(class).cloned().unwrap_or_else(|| class.into());
    classes.insert(class.clone());
    Ok(Row {
        image: 0,
        line: line as u32,
        class,
        edges,
        size: layout.size.map(|at| cell(at?).parse().ok()),
        ignore: flag.is_some_and(|flag| flag == "1" || flag == "true"),
    })
}

pub struct BoxRowsReader {
    files: Vec<BoxFile>,
    matches: Matches,
    pub notes: Vec<String>,
    /// Rows that could not be interpreted.
    pub faults: Vec<Error>,
}

impl BoxRowsReader {
    pub fn open(files: &[LabelFile], root: &Path, images: &Images) -> Result<Self> {
        let mut opened = files.iter().map(|file| BoxFile::open(&file.path)).collect::<Result<Vec<_>>>()?;
        let entries: Vec<_> = opened.iter().map(|file| |image: usize| file.entry(image)).collect();
        let names = opened.iter().zip(files).zip(&entries).map(|((file, at), entry)| Names {
            file: at,
            noun: "row",
            by_name: &file.by_name,
            entry,
            count: file.images.len(),
        });
        let names: Vec<Names> = names.collect();
        let matches = match_images(&names, root, images)?;
        let mut notes = check_unused(&names, &matches, root, &images.all)?;
        let mut faults: Vec<Error> = opened.iter_mut().flat_map(|file| std::mem::take(&mut file.faults)).collect();
        // The rows of an image that is not in this data set belong to nobody who would report them.
        let matched: HashSet<(usize, usize)> = matches.iter().flatten().copied().collect();
        for (f, file) in opened.iter().enumerate().filter(|(_, file)| !file.wrong.is_empty()) {
            let unmatched = (0..file.images.len()).filter(|image| !matched.contains(&(f, *image)));
            faults.extend(unmatched.flat_map(|image| file.wrong_rows(image)));
        }
        for file in &mut opened {
            notes.extend(file.layout.note(&relative_name(&file.path, root)));
            notes.extend(file.name_classes(root));
        }
        // Every image now has its rows, so the names are no longer needed.
        opened.iter_mut().for_each(|file| file.by_name = HashMap::new());
        Ok(BoxRowsReader { matches, notes, faults, files: opened })
    }

    pub fn read(&self, task: &TaskDeclaration, index: usize, image: &Listed) -> Result<Reading> {
        let Some((f, i)) = self.matches[index] else {
            return Ok(super::not_mentioned(task, &self.files[0].path));
        };
        let (file, entry) = (&self.files[f], &self.files[f].images[i]);
        let rows = &file.rows[entry.rows.start as usize..entry.rows.end as usize];
        let mut reading = Reading::at(Raw::Unlabelled, Place::at(&file.path, Spot::line(entry.line)));
        reading.faults = file.wrong_rows(i).collect();
        let mut scale = [1.0; 2];
        if file.layout.parts && !rows.is_empty() {
            let Ok([width, height]) = decode::dimensions(&image.image) else {
                reading.remarks.push((Remark::UnreadableImage, Place::new(&image.image, None)));
                return Ok(reading);
            };
            scale = [width as f32, height as f32];
        }
        let mut found = Found::default();
        for row in rows {
            let spot = Spot::Line(row.line);
            let Some([x1, y1, x2, y2]) = found.in_order(row.edges, spot, &mut reading) else { continue };
            let beyond = |end: f32, size: Option<f32>| size.is_some_and(|size| size > 0.0 && end > size);
            if beyond(x2, row.size[0]) || beyond(y2, row.size[1]) {
                reading.remarks.push((Remark::BeyondImage, Place::at(&file.path, spot)));
            }
            found.boxes.push(RawBox {
                class: RawClass { word: Word::Name(row.class.clone()), spot },
                xyxy: [x1 * scale[0], y1 * scale[1], x2 * scale[0], y2 * scale[1]],
                ignore: row.ignore,
            });
        }
        found.finish(&mut reading);
        Ok(reading)
    }
}
