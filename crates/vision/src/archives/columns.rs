//! The columns of parquet files, for the labels of their rows.

use super::{Content, PARQUET, check, known};
use crate::error::{Error, Result};
use serde_json::Value;
use std::path::Path;

/// Whether the file is one whose rows have pictures and labels.
pub fn has_rows(path: &Path) -> bool {
    cfg!(feature = "parquet") && path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case(PARQUET))
}

/// The parquet file and the row that a path leads to.
pub fn row_of(path: &Path) -> Option<(&Path, usize)> {
    let file = path.parent().filter(|file| has_rows(file))?;
    let row = path.file_stem()?.to_str()?.parse().ok()?;
    Some((file, row))
}

/// A column of a parquet file.
#[derive(Clone, Debug)]
pub struct RowColumn {
    /// Its name.
    pub name: String,
    /// The names of its classes in the order of their numbers, if the file says that it holds classes.
    pub classes: Option<Vec<String>>,
    /// Whether a cell is one class, and not a list or a struct that holds classes.
    pub is_class: bool,
}

/// The columns of a parquet file besides that of its pictures.
///
/// # Errors
/// The file is damaged, or has no pictures.
pub fn row_columns(path: &Path) -> Result<Vec<RowColumn>> {
    check(path)?;
    let archive = known(path).map_err(Error::io("read", path))?;
    match &archive.content {
        Content::Members(_) => Ok(Vec::new()),
        #[cfg(feature = "parquet")]
        Content::Rows(rows) => {
            let column = |name: &str| RowColumn {
                name: name.to_owned(),
                classes: rows.classes(name),
                is_class: rows.is_class(name),
            };
            Ok(rows.columns().map(column).collect())
        }
    }
}

/// The cells of these columns, for each a value in every row. One that the file does not have is blank.
///
/// # Errors
/// The file is damaged, or packed in a way that is not read.
pub fn row_cells(path: &Path, columns: &[String]) -> Result<Vec<Vec<Value>>> {
    check(path)?;
    let archive = known(path).map_err(Error::io("read", path))?;
    match &archive.content {
        Content::Members(_) => Ok(vec![Vec::new(); columns.len()]),
        #[cfg(feature = "parquet")]
        Content::Rows(rows) => rows.cells(&archive.file, columns).map_err(|e| Error::data(path, None, e.to_string())),
    }
}
