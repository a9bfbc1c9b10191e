//! CSV files with a row a box: TensorFlow's and Roboflow's `filename,width,height,class,xmin,ymin,xmax,ymax`, keras-retinanet's
//! `path,x1,y1,x2,y2,class_name` without a header, and Open Images' boxes in parts of the picture.
//! A row with nothing but a file name says that *nothing is there*; an image without a row is unlabelled.

use super::matching::{Matches, Names, check_unused, match_images};
use super::table::{csv_reader, normal, not_csv};
use super::{Raw, RawBox, RawClass, Reading, Remark, Word};
use crate::boxes::Xyxy;
use crate::data::dataset::Images;
use crate::data::declaration::{LabelFile, TaskDeclaration};
use crate::data::listing::Listed;
use crate::data::{Place, decode};
use crate::error::{Error, Result};
use csv::StringRecord;
use std::collections::HashMap;
use std::path::Path;

/// Spellings of the columns, lower case: the image, the class, and the four edges.
const FILE: [&str; 7] = ["filename", "file_name", "file", "path", "image", "image_path", "imageid"];
const CLASS: [&str; 5] = ["class", "class_name", "label", "category", "labelname"];
const EDGES: [[&str; 3]; 4] =
    [["xmin", "x1", "x_min"], ["ymin", "y1", "y_min"], ["xmax", "x2", "x_max"], ["ymax", "y2", "y_max"]];
const IGNORE: [&str; 4] = ["isgroupof", "iscrowd", "difficult", "ignore"];
/// What keras-retinanet has no header for.
const HEADERLESS: [&str; 6] = ["path", "x1", "y1", "x2", "y2", "class_name"];

/// Where a file's columns stand.
struct Layout {
    file: usize,
    class: usize,
    edges: [usize; 4],
    /// Width and height of the picture, where stated.
    size: [Option<usize>; 2],
    ignore: Option<usize>,
    /// Edges are parts of the picture, as in Open Images.
    parts: bool,
    header: Vec<String>,
}

impl Layout {
    /// Of a file whose first row is `first`; `None` where these are no boxes.
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

/// Whether `file` has a row a box.
pub fn is_box_rows(file: &Path) -> bool {
    let Ok(text) = first_line(file) else {
        return false;
    };
    let mut reader = csv_reader(&text);
    let mut records = reader.has_headers(false).from_reader(text.as_bytes()).into_records();
    matches!(records.next(), Some(Ok(first)) if Layout::of(&first).is_some())
}

fn first_line(file: &Path) -> std::io::Result<String> {
    use std::io::{BufRead, BufReader, Read};
    let mut line = String::new();
    BufReader::new(std::fs::File::open(file)?.take(1 << 16)).read_line(&mut line)?;
    Ok(line.trim_start_matches('\u{feff}').to_string())
}

pub struct BoxFile {
    path: std::path::PathBuf,
    layout: Layout,
    images: Vec<ImageRows>,
    by_name: HashMap<String, usize>,
}

/// What a file says of one image: where first, and its boxes with their lines.
struct ImageRows {
    name: String,
    line: usize,
    boxes: Vec<Row>,
    /// Whether a row says that nothing is there.
    empty: bool,
}

struct Row {
    line: usize,
    class: String,
    edges: Xyxy,
    size: [Option<f32>; 2],
    ignore: bool,
}

impl BoxFile {
    pub fn open(path: &Path) -> Result<BoxFile> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let text = text.trim_start_matches('\u{feff}');
        let mut records = csv_reader(text).has_headers(false).from_reader(text.as_bytes()).into_records().peekable();
        let first = match records.peek() {
            Some(Ok(first)) => Layout::of(first),
            _ => None,
        };
        let Some(layout) = first else {
            let message = "no table of boxes: expected the columns filename, class, xmin, ymin, xmax, ymax, or rows of path,x1,y1,x2,y2,class";
            return Err(Error::data(path, Some(1), message));
        };
        if !layout.header.is_empty() {
            records.next();
        }
        let mut file = BoxFile { path: path.to_path_buf(), layout, images: Vec::new(), by_name: HashMap::new() };
        for record in records {
            let record = record.map_err(|e| not_csv(path, &e))?;
            let line = record.position().map_or(0, |at| at.line() as usize);
            file.take(&record, line)?;
        }
        Ok(file)
    }

    pub fn image_names(&self) -> impl Iterator<Item = &str> {
        self.images.iter().map(|image| image.name.as_str())
    }

    fn take(&mut self, record: &StringRecord, line: usize) -> Result<()> {
        let place = Place::new(&self.path, Some(line));
        let layout = &self.layout;
        let expected = if layout.header.is_empty() { HEADERLESS.len() } else { layout.header.len() };
        if record.len() != expected {
            let of = if layout.header.is_empty() { "path,x1,y1,x2,y2,class has" } else { "the header has" };
            let message = format!("{} cells, but {of} {expected}: quote cells that hold a comma", record.len());
            return Err(place.error(message));
        }
        let cell = |at: usize| record.get(at).unwrap_or("");
        let name = normal(cell(layout.file));
        if name.is_empty() {
            let column = layout.column(layout.file);
            return Err(place.error(format!("no file name in column `{column}`: name the image or remove the row")));
        }
        let columns = [&layout.edges[..], &[layout.class]].concat();
        let blank = columns.iter().filter(|at| cell(**at).is_empty()).count();
        let row = match blank {
            0 => Some(row(layout, &cell, &place)?),
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
            images.push(ImageRows { name, line, boxes: Vec::new(), empty: false });
            images.len() - 1
        });
        let image = &mut images[index];
        image.empty |= row.is_none();
        image.boxes.extend(row);
        if image.empty && !image.boxes.is_empty() {
            let message = format!(
                "`{}` has a row without a box and a row with one (first: line {}): remove one of them",
                image.name, image.line
            );
            return Err(place.error(message));
        }
        Ok(())
    }

    fn entry(&self, index: usize) -> (String, Place) {
        let image = &self.images[index];
        (image.name.clone(), Place::new(&self.path, Some(image.line)))
    }
}

fn row<'a>(layout: &Layout, cell: &dyn Fn(usize) -> &'a str, place: &Place) -> Result<Row> {
    let mut edges = [0.0; 4];
    for (edge, at) in edges.iter_mut().zip(layout.edges) {
        let number = cell(at).parse::<f32>().ok().filter(|v| v.is_finite());
        *edge = number.ok_or_else(|| {
            let unit = if layout.parts { "a part of the picture from 0 to 1" } else { "a number of pixels" };
            place.error(format!("column `{}` holds `{}`: expected {unit}", layout.column(at), cell(at)))
        })?;
    }
    let flag = layout.ignore.map(|at| cell(at).to_ascii_lowercase());
    Ok(Row {
        line: place.line.unwrap_or(0),
        class: cell(layout.class).to_string(),
        edges,
        size: layout.size.map(|at| cell(at?).parse().ok()),
        ignore: flag.is_some_and(|flag| flag == "1" || flag == "true"),
    })
}

pub struct BoxRowsReader {
    files: Vec<BoxFile>,
    matches: Matches,
    pub notes: Vec<String>,
}

impl BoxRowsReader {
    pub fn open(files: &[LabelFile], root: &Path, images: &Images) -> Result<Self> {
        let opened = files.iter().map(|file| BoxFile::open(&file.path)).collect::<Result<Vec<_>>>()?;
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
        Ok(BoxRowsReader { matches, notes, files: opened })
    }

    pub fn read(&self, task: &TaskDeclaration, index: usize, image: &Listed) -> Result<Reading> {
        let Some((f, i)) = self.matches[index] else {
            return Ok(Reading::not_mentioned(task, &self.files[0].path));
        };
        let (file, rows) = (&self.files[f], &self.files[f].images[i]);
        let mut reading = Reading::of(Raw::Unlabelled, &file.path, Some(rows.line));
        let mut scale = [1.0; 2];
        if file.layout.parts && !rows.boxes.is_empty() {
            let Ok([width, height]) = decode::dimensions(&image.image) else {
                reading.remarks.push((Remark::UnreadableImage, Place::new(&image.image, None)));
                return Ok(reading);
            };
            scale = [width as f32, height as f32];
        }
        let mut found = Vec::new();
        for row in &rows.boxes {
            let [x1, y1, x2, y2] = row.edges;
            let place = Place::new(&file.path, Some(row.line));
            if x2 <= x1 || y2 <= y1 {
                reading.remarks.push((Remark::DegenerateBox, place));
                continue;
            }
            let beyond = |end: f32, size: Option<f32>| size.is_some_and(|size| size > 0.0 && end > size);
            if beyond(x2, row.size[0]) || beyond(y2, row.size[1]) {
                reading.remarks.push((Remark::BeyondImage, place));
            }
            found.push(RawBox {
                class: RawClass { word: Word::Name(row.class.clone()), line: Some(row.line) },
                xyxy: [x1 * scale[0], y1 * scale[1], x2 * scale[0], y2 * scale[1]],
                ignore: row.ignore,
            });
        }
        reading.raw = Raw::Boxes(found);
        Ok(reading)
    }
}
