//! The columns of CSV files with one row per box: `filename,width,height,class,xmin,ymin,xmax,ymax` from TensorFlow and
//! Roboflow, `x,y,w,h` or one column `bbox` with these four, `path,x1,y1,x2,y2,class_name` without a header from
//! keras-retinanet, and Open Images' boxes as fractions of the picture, whose codes for classes are named in another table.

use super::box_rows::ONLY_CLASS;
use super::records::{Records, first_record};
use crate::boxes::{self, Xyxy};
use crate::data::images::decode;
use crate::data::walk;
use csv::StringRecord;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Accepted column names in lower case, for the image, the class and the four edges.
const FILE: [&str; 11] = [
    "filename",
    "file_name",
    "file",
    "path",
    "image",
    "image_path",
    "imageid",
    "image_id",
    "image_name",
    "img",
    "img_path",
];
const CLASS: [&str; 6] = ["class", "class_name", "label", "category", "labelname", "class_id"];
const EDGES: [[&str; 3]; 4] =
    [["xmin", "x1", "x_min"], ["ymin", "y1", "y_min"], ["xmax", "x2", "x_max"], ["ymax", "y2", "y_max"]];
/// The left and top edge, the width and the height. `width` and `height` are those of the picture if there are four edges.
const SIZES: [[&str; 6]; 4] = [
    ["x", "bbox_x", "left", "xmin", "x_min", "x1"],
    ["y", "bbox_y", "top", "ymin", "y_min", "y1"],
    ["w", "bbox_w", "bbox_width", "box_width", "width", "width"],
    ["h", "bbox_h", "bbox_height", "box_height", "height", "height"],
];
const CELL: [&str; 2] = ["bbox", "box"];
const IGNORE: [&str; 4] = ["isgroupof", "iscrowd", "difficult", "ignore"];
/// The columns of keras-retinanet's files, which have no header.
const HEADERLESS: [&str; 6] = ["path", "x1", "y1", "x2", "y2", "class_name"];

/// The columns that hold a box.
enum Columns {
    /// Left, top, right and bottom edge.
    Edges([usize; 4]),
    /// Left and top edge, width and height.
    Sizes([usize; 4]),
    /// One cell with left and top edge, width and height.
    Cell(usize),
}

/// The positions of a file's columns.
pub struct Layout {
    pub file: usize,
    /// `None` if all boxes have one class.
    pub class: Option<usize>,
    columns: Columns,
    /// The columns of the picture's width and height, if there are any.
    pub size: [Option<usize>; 2],
    pub ignore: Option<usize>,
    /// Whether edges are fractions of the picture, as in Open Images.
    pub parts: bool,
    pub header: Vec<String>,
}

/// Whether `file` has one row per box.
pub fn is_box_rows(file: &Path) -> bool {
    first_record(file).is_some_and(|first| Layout::of(&first).is_some())
}

impl Layout {
    /// The layout of a file from its first row; `None` if the rows are not boxes.
    pub fn of(first: &StringRecord) -> Option<Layout> {
        let names: Vec<String> = first.iter().map(|cell| cell.trim_matches('"').to_ascii_lowercase()).collect();
        let at = |spellings: &[&str]| spellings.iter().find_map(|word| names.iter().position(|name| name == word));
        let (file, class, header) = (at(&FILE), at(&CLASS), first.iter().map(str::to_string).collect());
        let Some(file) = file else {
            return Layout::without_header(first);
        };
        let ignore = at(&IGNORE);
        let parts = class.is_some_and(|class| names[file] == "imageid" && names[class] == "labelname");
        let layout = |columns, size| Some(Layout { file, class, columns, size, ignore, parts, header });
        if class.is_some() {
            if let [Some(x1), Some(y1), Some(x2), Some(y2)] = EDGES.map(|edge| at(&edge)) {
                return layout(Columns::Edges([x1, y1, x2, y2]), [at(&["width"]), at(&["height"])]);
            }
            if let [Some(x), Some(y), Some(w), Some(h)] = SIZES.map(|edge| at(&edge)) {
                return layout(Columns::Sizes([x, y, w, h]), [at(&["image_width"]), at(&["image_height"])]);
            }
        }
        match at(&CELL) {
            Some(cell) => layout(Columns::Cell(cell), [at(&["width"]), at(&["height"])]),
            None => Layout::without_header(first),
        }
    }

    fn without_header(first: &StringRecord) -> Option<Layout> {
        let cells: Vec<&str> = first.iter().collect();
        let [path, edges @ .., _] = cells.as_slice() else {
            return None;
        };
        let blank = edges.iter().all(|cell| cell.is_empty());
        let numbers = edges.iter().all(|cell| cell.parse::<f32>().is_ok());
        let rows = cells.len() == 6 && decode::is_image(Path::new(path)) && (blank || numbers);
        rows.then(|| Layout {
            file: 0,
            class: Some(5),
            columns: Columns::Edges([1, 2, 3, 4]),
            size: [None; 2],
            ignore: None,
            parts: false,
            header: Vec::new(),
        })
    }

    /// The number of cells in a row.
    pub fn width(&self) -> usize {
        if self.header.is_empty() { HEADERLESS.len() } else { self.header.len() }
    }

    pub fn column(&self, at: usize) -> &str {
        self.header.get(at).map_or_else(|| HEADERLESS[at.min(5)], String::as_str)
    }

    /// The columns that are blank in a row without a box.
    pub fn of_boxes(&self) -> Vec<usize> {
        let of_edges = match &self.columns {
            Columns::Edges(columns) | Columns::Sizes(columns) => columns.as_slice(),
            Columns::Cell(column) => std::slice::from_ref(column),
        };
        of_edges.iter().copied().chain(self.class).collect()
    }

    /// The edges of the box in a row, as written.
    pub fn edges<'a>(&self, cell: &dyn Fn(usize) -> &'a str) -> Result<Xyxy, String> {
        let unit = if self.parts { "a fraction of the picture from 0 to 1" } else { "a number of pixels" };
        let number = |at: usize| {
            let number = cell(at).parse::<f32>().ok().filter(|v| v.is_finite());
            number.ok_or_else(|| format!("column `{}` holds `{}`: expected {unit}", self.column(at), cell(at)))
        };
        let four = |[a, b, c, d]: [usize; 4]| Ok::<_, String>([number(a)?, number(b)?, number(c)?, number(d)?]);
        match self.columns {
            Columns::Edges(columns) => four(columns),
            Columns::Sizes(columns) => four(columns).map(boxes::from_xywh),
            Columns::Cell(at) => {
                let words =
                    cell(at).split(|c: char| c.is_whitespace() || "[](),;".contains(c)).filter(|word| !word.is_empty());
                let numbers: Option<Vec<f32>> =
                    words.map(|word| word.parse().ok().filter(|v: &f32| v.is_finite())).collect();
                let four = numbers.and_then(|numbers| <[f32; 4]>::try_from(numbers).ok());
                let wrong = || {
                    let column = self.column(at);
                    format!("column `{column}` holds `{}`: expected [left, top, width, height] in pixels", cell(at))
                };
                four.map(boxes::from_xywh).ok_or_else(wrong)
            }
        }
    }

    /// A sentence about what the columns leave open; `shown` is the file.
    pub fn note(&self, shown: &str) -> Option<String> {
        let column = |at: &usize| format!("`{}`", self.column(*at));
        let columns = match &self.columns {
            Columns::Edges(_) => return None,
            Columns::Sizes(columns) => columns.iter().map(column).collect::<Vec<_>>().join(", "),
            Columns::Cell(at) => format!("the numbers in {}", column(at)),
        };
        let class = match self.class {
            Some(_) => String::new(),
            None => format!(
                "; there is no column of classes ({}), so every box is of the class `{ONLY_CLASS}`",
                CLASS.join(", ")
            ),
        };
        Some(format!("{shown}: {columns} are read as left, top, width and height of a box{class}"))
    }
}

/// The table of Open Images' names of classes beside a file with boxes or in the data set's folder.
pub fn class_descriptions(file: &Path, root: &Path) -> Option<(PathBuf, HashMap<String, Arc<str>>)> {
    let is_table = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        name.contains("class-descriptions") && name.ends_with(".csv")
    };
    let mut folders = [file.parent()?, root].into_iter().chain(file.parent()?.parent());
    let table = folders.find_map(|folder| {
        let entries = walk::entries(folder).ok()?.into_iter();
        entries.filter(|(_, is_folder)| !is_folder).map(|(path, _)| path).find(is_table)
    })?;
    let mut records = Records::open(&table).ok()?;
    let (mut record, mut names) = (StringRecord::new(), HashMap::new());
    while let Ok(Some(_)) = records.read(&mut record) {
        if let (Some(code), Some(name)) = (record.get(0), record.get(1)) {
            names.insert(code.to_string(), Arc::from(name));
        }
    }
    Some((table, names))
}
