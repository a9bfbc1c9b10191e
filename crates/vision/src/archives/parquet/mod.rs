//! Parquet files with a column of pictures, as Hugging Face's `datasets` writes them. Each row is like a file in a folder, whose
//! name is the row's number. Only the footer is read when a file is opened; the pictures of a row group are located when one of
//! them is first read.

mod cells;
mod pages;

use super::files::Shared;
use super::invalid;
use bytes::Bytes;
use pages::{Group, Picture};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{ChunkReader, FileReader, Length, SerializedFileReader};
use parquet::schema::types::{Type, TypePtr};
use serde_json::Value;
use std::io::{self, BufReader, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Names of a column of pictures, the most usual first.
const PICTURES: [&str; 7] = ["image", "img", "picture", "photo", "images", "jpg", "png"];

/// The rows of a file, and where their pictures are.
#[derive(Debug)]
pub struct Rows {
    metadata: Arc<ParquetMetaData>,
    /// The column of pictures, and its number among those that hold bytes.
    picture: String,
    leaf: usize,
    count: usize,
    /// The first row of each row group.
    starts: Vec<usize>,
    groups: Vec<OnceLock<Result<Group, String>>>,
    /// `jpg`, `png`: that of the first picture.
    ending: &'static str,
    /// Hugging Face's description of the columns.
    features: Value,
}

/// Where the bytes of a row's picture are.
pub enum Found {
    /// In the file as they are: the first byte and the length.
    At(u64, u64),
    Unpacked(Vec<u8>),
}

impl Rows {
    /// # Errors
    /// `InvalidData` if this is no parquet file, a damaged one, or one without pictures.
    pub fn open(file: &Arc<Shared>) -> io::Result<Rows> {
        guarded(|| Rows::read(file))
    }

    fn read(file: &Arc<Shared>) -> io::Result<Rows> {
        let reader = SerializedFileReader::new(Chunks::new(file))
            .map_err(|e| invalid(format!("damaged, truncated or no parquet file ({e}): copy or write it again")))?;
        let metadata = Arc::new(reader.metadata().clone());
        let (picture, leaf) = picture_column(&metadata)?;
        let (mut starts, mut count) = (Vec::new(), 0usize);
        for group in metadata.row_groups() {
            starts.push(count);
            let rows =
                usize::try_from(group.num_rows()).map_err(|_| invalid("damaged: a row group has a negative size"))?;
            count = count.saturating_add(rows);
        }
        // Names are made for all rows, so that a wrong number must not be trusted.
        if count as u64 > file.length() {
            return Err(invalid(format!("damaged: it says {count} rows, which {} bytes cannot hold", file.length())));
        }
        let groups = starts.iter().map(|_| OnceLock::new()).collect();
        let features = features(&metadata);
        let mut rows = Rows { metadata, picture, leaf, count, starts, groups, ending: "jpg", features };
        rows.ending = rows.first_ending(file)?;
        Ok(rows)
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// The name of a row as that of a file.
    pub fn name(&self, row: usize) -> String {
        format!("{row:06}.{}", self.ending)
    }

    /// The row with this name.
    pub fn row(&self, name: &str) -> Option<usize> {
        let row: usize = name.split('.').next()?.parse().ok()?;
        (row < self.count && self.name(row) == name).then_some(row)
    }

    /// Locates the picture of a row.
    ///
    /// # Errors
    /// There is none in this row, or the file is damaged.
    pub fn find(&self, file: &Arc<Shared>, row: usize) -> io::Result<Found> {
        let number = self.starts.partition_point(|start| *start <= row) - 1;
        let group = self.groups[number].get_or_init(|| {
            let rows = self.starts.get(number + 1).map_or(self.count, |next| *next) - self.starts[number];
            guarded(|| Group::locate(file, self.metadata.row_group(number).column(self.leaf), rows))
                .map_err(|e| e.to_string())
        });
        let group = group.as_ref().map_err(|reason| invalid(reason.clone()))?;
        match group.picture(row - self.starts[number]) {
            Some(Picture::Missing) => Err(invalid(format!(
                "row {row} has no bytes in the column `{}`, so that there is no picture",
                self.picture
            ))),
            Some(Picture::At { at, length }) => Ok(Found::At(at, length)),
            Some(Picture::Within { page, at, length }) => {
                let column = self.metadata.row_group(number).column(self.leaf);
                let page = guarded(|| group.page(file, column, page))?;
                let bytes = page.get(at..at + length).ok_or_else(|| invalid("damaged: a page has changed"))?;
                Ok(Found::Unpacked(bytes.to_vec()))
            }
            None => Err(invalid("damaged: a row group holds fewer pictures than it says")),
        }
    }

    /// The ending that the first picture's content asks for.
    fn first_ending(&self, file: &Arc<Shared>) -> io::Result<&'static str> {
        let Some(group) = self.metadata.row_groups().first() else { return Ok("jpg") };
        let start = pages::first_bytes(file, group.column(self.leaf))?;
        Ok(match start.as_slice() {
            [0x89, b'P', b'N', b'G', ..] => "png",
            [b'G', b'I', b'F', b'8', ..] => "gif",
            [b'B', b'M', ..] => "bmp",
            [b'R', b'I', b'F', b'F', ..] => "webp",
            [b'I', b'I', 42, ..] | [b'M', b'M', 0, 42, ..] => "tif",
            _ => "jpg",
        })
    }

    /// The columns besides that of the pictures.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        let root = self.metadata.file_metadata().schema_descr().root_schema();
        root.get_fields().iter().map(|field| field.name()).filter(|name| *name != self.picture)
    }
}

/// The column of pictures: a struct with bytes, or bytes alone under one of the usual names.
fn picture_column(metadata: &ParquetMetaData) -> io::Result<(String, usize)> {
    let schema = metadata.file_metadata().schema_descr();
    let is_bytes = |field: &Type| {
        let is_plain = field.get_basic_info().logical_type_ref().is_none()
            && field.get_basic_info().converted_type() == parquet::basic::ConvertedType::NONE;
        field.is_primitive() && field.get_physical_type() == parquet::basic::Type::BYTE_ARRAY && is_plain
    };
    let path = |field: &TypePtr| -> Option<Vec<String>> {
        let name = field.name().to_owned();
        if field.is_group() {
            let holds = field.get_fields().iter().any(|inner| inner.name() == "bytes" && is_bytes(inner));
            return holds.then(|| vec![name, "bytes".into()]);
        }
        (is_bytes(field) && PICTURES.contains(&field.name())).then(|| vec![name])
    };
    let fields = schema.root_schema().get_fields();
    let mut found: Vec<Vec<String>> = fields.iter().filter_map(path).collect();
    found.sort_by_key(|path| PICTURES.iter().position(|name| *name == path[0]).unwrap_or(PICTURES.len()));
    let leaf_of = |path: &Vec<String>| {
        let leaf = schema.columns().iter().position(|column| column.path().parts() == path.as_slice())?;
        (schema.column(leaf).max_rep_level() == 0).then_some((path[0].clone(), leaf))
    };
    found.iter().find_map(leaf_of).ok_or_else(|| {
        let names: Vec<&str> = fields.iter().take(12).map(|field| field.name()).collect();
        invalid(format!(
            "a parquet file without pictures: expected a column such as `image` with {{bytes, path}}, and it has {}",
            names.join(", ")
        ))
    })
}

/// `features` in the description that `datasets` writes; null without one.
fn features(metadata: &ParquetMetaData) -> Value {
    let entries = metadata.file_metadata().key_value_metadata();
    let text = entries.into_iter().flatten().find(|entry| entry.key == "huggingface").and_then(|e| e.value.clone());
    let mut described: Value = text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    described.pointer_mut("/info/features").map(Value::take).unwrap_or_default()
}

/// Runs `read`; if the reader of parquet files panics over one, that file is damaged and others are not affected.
fn guarded<T>(read: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(invalid("damaged: the reader of parquet files panicked")))
}

fn damaged(error: ParquetError) -> io::Error {
    invalid(format!("damaged or of a kind that is not read: {error}"))
}

/// The file as the parquet crate reads it, with the place of the last bytes that it asked for.
struct Chunks {
    file: Arc<Shared>,
    at: AtomicU64,
    length: AtomicU64,
}

impl Chunks {
    fn new(file: &Arc<Shared>) -> Chunks {
        Chunks { file: file.clone(), at: AtomicU64::new(0), length: AtomicU64::new(0) }
    }

    fn last(&self) -> [u64; 2] {
        [&self.at, &self.length].map(|number| number.load(Ordering::Relaxed))
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.file.length()
    }
}

impl ChunkReader for Chunks {
    type T = BufReader<From>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<BufReader<From>> {
        // The headers of pages are small, and their content is not read from here.
        Ok(BufReader::with_capacity(512, From { file: self.file.clone(), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.file.length()) {
            return Err(ParquetError::EOF("truncated: the file ends before its data".into()));
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, start)?;
        self.at.store(start, Ordering::Relaxed);
        self.length.store(length as u64, Ordering::Relaxed);
        Ok(bytes.into())
    }
}

/// The file from a position on.
struct From {
    file: Arc<Shared>,
    at: u64,
}

impl Read for From {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
