//! CSV files with one row per box: `filename,width,height,class,xmin,ymin,xmax,ymax` from TensorFlow and Roboflow,
//! `path,x1,y1,x2,y2,class_name` without a header from keras-retinanet, and Open Images' boxes as fractions of the
//! picture. A row with only a file name means *labelled, nothing there*; an image without a row is unlabelled.

use super::listed::{Images, Listed};
use super::matching::{Matches, Names, check_unused, match_images};
use super::records::{Records, first_record};
use super::table::normal;
use super::{Raw, RawBox, RawClass, Reading, Remark, Word};
use crate::boxes::Xyxy;
use crate::data::declaration::{LabelFile, TaskDeclaration};
use crate::data::images::decode;
use crate::error::{Error, Result};
use crate::reading::{Place, Spot};
use csv::StringRecord;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Accepted column names in lower case, for the image, the class and the four edges.
const FILE: [&str; 7] = ["filename", "file_name", "file", "path", "image", "image_path", "imageid"];
const CLASS: [&str; 5] = ["class", "class_name", "label", "category", "labelname"];
const EDGES: [[&str; 3]; 4] =
    [["xmin", "x1", "x_min"], ["ymin", "y1", "y_min"], ["xmax", "x2", "x_max"], ["ymax", "y2", "y_max"]];
const IGNORE: [&str; 4] = ["isgroupof", "iscrowd", "difficult", "ignore"];
/// The columns of keras-retinanet's files, which have no header.
const HEADERLESS: [&str; 6] = ["path", "x1", "y1", "x2", "y2", "class_name"];

/// The positions of a file's columns.
struct Layout {
    file: usize,
    class: usize,
    edges: [usize; 4],
    /// The columns of the picture's width and height, if there are any.
    size: [Option<usize>; 2],
    ignore: Option<usize>,
    /// Whether edges are fractions of the picture, as in Open Images.
    parts: bool,
    header: Vec<String>,
}

impl Layout {
    /// The layout of a file from its first row; `None` if the rows are not boxes.
    fn of(first: &StringRecord) -> Option<Layout> {
        let names: Vec<String> = first.iter().map(|cell| cell.trim_matches('"').to_ascii_lowercase()).collect();
        let at = |spellings: &[&str]| spellings.iter().find_map(|word| names.iter().position(|name| name == word));
        if let (Some(file), Some(class)) = (at(&FILE), at(&CLASS))
            && let [Some(x1), Some(y1), Some(x2), Some(y2)] = EDGES.map(|edge| at(&edge))
        {
            let parts = names[file] == "imageid" && names[class] == "labelname";
            return Some(Layout {
                file,
                class,
                edges: [x1, y1, x2, y2],
                size: [at(&["width"]), at(&["height"])],
                ignore: at(&IGNORE),
                parts,
                header: first.iter().map(str::to_string).collect(),
            });
        }
        let cells: Vec<&str> = first.iter().collect();
        let [path, edges @ .., _] = cells.as_slice() else {
            return None;
        };
        let blank = edges.iter().all(|cell| cell.is_empty());
        let numbers = edges.iter().all(|cell| cell.parse::<f32>().is_ok());
        let rows = cells.len() == 6 && decode::is_image(Path::new(path)) && (blank || numbers);
        rows.then(|| Layout {
            file: 0,
            class: 5,
            edges: [1, 2, 3, 4],
            size: [None; 2],
            ignore: None,
            parts: false,
            header: Vec::new(),
        })
    }

    fn column(&self, at: usize) -> &str {
        self.header.get(at).map_or_else(|| HEADERLESS[at.min(5)], String::as_str)
    }
}

/// Whether `file` has one row per box.
pub fn is_box_rows(file: &Path) -> bool {
    first_record(file).is_some_and(|first| Layout::of(&first).is_some())
}

pub struct BoxFile {
    path: Arc<Path>,
    layout: Layout,
    images: Vec<ImageRows>,
    by_name: HashMap<Arc<str>, usize>,
    /// Sorted by image once all are read, in file order; a list per image would take three times the memory.
    rows: Vec<Row>,
    /// Each class name once; many boxes share it.
    classes: HashSet<Arc<str>>,
    /// Rows that could not be interpreted; others in the file may be valid.
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
            let message = "no table of boxes: expected the columns filename, class, xmin, ymin, xmax, ymax, or rows of path,x1,y1,x2,y2,class";
            return Err(Error::data(path, Some(1), message));
        };
        let mut file = BoxFile {
            path: path.into(),
            layout,
            images: Vec::new(),
            by_name: HashMap::new(),
            rows: Vec::new(),
            classes: HashSet::new(),
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
        let expected = if layout.header.is_empty() { HEADERLESS.len() } else { layout.header.len() };
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
        let columns = [&layout.edges[..], &[layout.class]].concat();
        let blank = columns.iter().filter(|at| cell(**at).is_empty()).count();
        let row = match blank {
            0 => Some(row(layout, &cell, &place, &mut self.classes)?),
            n if n == columns.len() => None,
            _ => {
                let at = columns.iter().find(|at| cell(**at).is_empty()).copied().unwrap_or_default();
                let message = format!(
                    "column `{}` is blank: fill it, or leave all of class and edges blank where nothing is there",
                    layout.column(at)
                );
                return Err(place.error(message));
            }
        };
        let images = &mut self.images;
        let index = *self.by_name.entry(name.clone()).or_insert_with(|| {
            images.push(ImageRows { name, line, rows: 0..0, empty: row.is_none() });
            images.len() - 1
        });
        let image = &mut images[index];
        if image.empty != row.is_none() {
            let message = format!(
                "`{}` has a row without a box and a row with one (first: line {}): remove one of them",
                image.name, image.line
            );
            return Err(place.error(message));
        }
        if let Some(row) = row {
            image.rows.end += 1;
            self.rows.push(Row { image: index as u32, ..row });
        }
        Ok(())
    }

    fn entry(&self, index: usize) -> (String, Place) {
        let image = &self.images[index];
        (image.name.to_string(), Place::at(&self.path, Spot::line(image.line)))
    }
}

/// Parses a row with a box; its image is set by the caller.
fn row<'a>(
    layout: &Layout,
    cell: &dyn Fn(usize) -> &'a str,
    place: &Place,
    classes: &mut HashSet<Arc<str>>,
) -> Result<Row> {
    let mut edges = [0.0; 4];
    for (edge, at) in edges.iter_mut().zip(layout.edges) {
        let number = cell(at).parse::<f32>().ok().filter(|v| v.is_finite());
        *edge = number.ok_or_else(|| {
            let unit = if layout.parts { "a fraction of the picture from 0 to 1" } else { "a number of pixels" };
            place.error(format!("column `{}` holds `{}`: expected {unit}", layout.column(at), cell(at)))
        })?;
    }
    let flag = layout.ignore.map(|at| cell(at).to_ascii_lowercase());
    let class = cell(layout.class);
    let class = classes.get(class).cloned().unwrap_or_else(|| class.into());
    classes.insert(class.clone());
    Ok(Row {
        image: 0,
        line: place.spot.line_number().unwrap_or(0) as u32,
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
        let notes = check_unused(&names, &matches, root, &images.all)?;
        let faults = opened.iter_mut().flat_map(|file| std::mem::take(&mut file.faults)).collect();
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
        let mut scale = [1.0; 2];
        if file.layout.parts && !rows.is_empty() {
            let Ok([width, height]) = decode::dimensions(&image.image) else {
                reading.remarks.push((Remark::UnreadableImage, Place::new(&image.image, None)));
                return Ok(reading);
            };
            scale = [width as f32, height as f32];
        }
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            let [x1, y1, x2, y2] = row.edges;
            let spot = Spot::Line(row.line);
            if x2 <= x1 || y2 <= y1 {
                reading.remarks.push((Remark::DegenerateBox, Place::at(&file.path, spot)));
                continue;
            }
            let beyond = |end: f32, size: Option<f32>| size.is_some_and(|size| size > 0.0 && end > size);
            if beyond(x2, row.size[0]) || beyond(y2, row.size[1]) {
                reading.remarks.push((Remark::BeyondImage, Place::at(&file.path, spot)));
            }
            found.push(RawBox {
                class: RawClass { word: Word::Name(row.class.clone()), spot },
                xyxy: [x1 * scale[0], y1 * scale[1], x2 * scale[0], y2 * scale[1]],
                ignore: row.ignore,
            });
        }
        reading.raw = Raw::Boxes(found);
        Ok(reading)
    }
}
