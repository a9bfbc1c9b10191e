//! A list of images in a table: the column of a CSV or TSV file that names image files.

use super::records::Records;
use super::table::{is_image_key, normal};
use crate::data::images::decode::is_image;
use crate::error::{Error, Result};
use std::path::Path;

/// The image files that a table names, with their lines. The column is recognised by its name, or by cells that have an image's
/// ending. A first row without an image in that column is a header.
///
/// # Errors
/// The file is no table, or no column names images.
pub fn image_list(file: &Path) -> Result<Vec<(usize, String)>> {
    let mut records = Records::open(file)?;
    let mut rows: Vec<(usize, csv::StringRecord)> = Vec::new();
    let mut record = csv::StringRecord::new();
    while let Some(line) = records.read(&mut record)? {
        rows.push((line, record.clone()));
    }
    let is_named = |cell: &str| is_image(Path::new(cell.trim()));
    let of_images = |row: Option<&(usize, csv::StringRecord)>| row.and_then(|row| row.1.iter().position(is_named));
    let all_single = rows.iter().all(|row| row.1.len() == 1);
    let named = rows.first().and_then(|row| row.1.iter().position(is_image_key));
    let Some(column) = of_images(rows.first()).or(named).or_else(|| of_images(rows.get(1))) else {
        // Names without an ending, as in the lists of VOC.
        if all_single {
            return Ok(rows.iter().map(|(line, row)| (*line, row[0].to_owned())).collect());
        }
        let message = "expected a list of images: one path per line, or a table whose column of paths is called `file`; labels in a table belong under `tasks:`";
        return Err(Error::data(file, Some(1), message));
    };
    let has_header = rows.first().is_some_and(|row| !row.1.get(column).is_some_and(is_named));
    let cells = rows.iter().skip(usize::from(has_header));
    Ok(cells.map(|(line, row)| (*line, normal(row.get(column).unwrap_or_default()))).collect())
}
