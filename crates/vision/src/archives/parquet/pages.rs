//! Where the pictures of a row group are. Most are in the file as they are, since `datasets` does not compress pictures again, and
//! are read like files. Others are in compressed pages, of which the last used are kept.
//!
//! Source: <https://parquet.apache.org/docs/file-format/data-pages/> and its encodings `PLAIN`, `RLE` and `RLE_DICTIONARY`.

use super::{Chunks, damaged};
use crate::archives::files::Shared;
use crate::archives::invalid;
use bytes::Bytes;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::{Page, PageReader};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::serialized_reader::SerializedPageReader;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// The pictures of a row group, one for each row.
#[derive(Debug)]
pub struct Group {
    pages: Vec<PageAt>,
    pictures: Vec<Place>,
}

#[derive(Debug)]
struct PageAt {
    /// The header's first byte, and the length of header and content.
    at: u64,
    length: u64,
    /// The content's first byte, if it is not compressed.
    plain: Option<u64>,
}

/// The bytes of a picture in the content of a page. There may be millions.
#[derive(Clone, Copy, Debug)]
struct Place {
    page: u32,
    at: u32,
    length: u32,
}

/// A row without bytes.
const MISSING: Place = Place { page: u32::MAX, at: 0, length: 0 };

/// Where a picture is.
pub enum Picture {
    Missing,
    At { at: u64, length: u64 },
    Within { page: usize, at: usize, length: usize },
}

impl Group {
    /// Reads all pages of the column, and keeps only the places.
    pub fn locate(file: &Arc<Shared>, column: &ColumnChunkMetaData, rows: usize) -> io::Result<Group> {
        let chunks = Arc::new(Chunks::new(file));
        let mut reader = SerializedPageReader::new(chunks.clone(), column, rows, None).map_err(damaged)?;
        let levels = column.column_descr().max_def_level();
        let is_plain = column.compression() == Compression::UNCOMPRESSED;
        let mut group = Group { pages: Vec::new(), pictures: Vec::with_capacity(rows) };
        let mut dictionary = Vec::new();
        let mut at = column.byte_range().0;
        while let Some(page) = reader.get_next_page().map_err(damaged)? {
            let [start, length] = chunks.last();
            let number = group.pages.len() as u32;
            let is_plain = is_plain || matches!(page, Page::DataPageV2 { is_compressed: false, .. });
            group.pages.push(PageAt { at, length: start + length - at, plain: is_plain.then_some(start) });
            at = start + length;
            let content = page.buffer().as_ref();
            let count = page.num_values() as usize;
            let cut = || invalid("damaged: a page ends before its values");
            if page.is_dictionary_page() {
                dictionary = plain(content, 0, count, number).ok_or_else(cut)?;
                continue;
            }
            if group.pictures.len() + count > rows {
                return Err(invalid("damaged: a row group holds more pictures than it says"));
            }
            let (is_there, from) = defined(&page, levels, count).ok_or_else(cut)?;
            let there = is_there.iter().filter(|there| **there).count();
            let mut values = match page.encoding() {
                Encoding::PLAIN => plain(content, from, there, number).ok_or_else(cut)?,
                Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY => {
                    chosen(&content[from..], there, &dictionary).ok_or_else(cut)?
                }
                other => {
                    return Err(invalid(format!(
                        "its pictures are encoded as {other}, which is not read: write them with the encoding PLAIN"
                    )));
                }
            }
            .into_iter();
            group
                .pictures
                .extend(is_there.iter().map(|there| if *there { values.next().unwrap_or(MISSING) } else { MISSING }));
        }
        Ok(group)
    }

    pub fn picture(&self, row: usize) -> Option<Picture> {
        let Place { page, at, length } = *self.pictures.get(row)?;
        let Some(found) = self.pages.get(page as usize) else { return Some(Picture::Missing) };
        Some(match found.plain {
            Some(start) => Picture::At { at: start + u64::from(at), length: length.into() },
            None => Picture::Within { page: page as usize, at: at as usize, length: length as usize },
        })
    }

    /// The content of a compressed page.
    pub fn page(&self, file: &Arc<Shared>, column: &ColumnChunkMetaData, number: usize) -> io::Result<Bytes> {
        let PageAt { at, length, .. } = self.pages[number];
        let key = (file.number(), at);
        if let Some(kept) = kept(key) {
            return Ok(kept);
        }
        // A column that consists of this page.
        let alone = column.clone().into_builder().set_dictionary_page_offset(None).set_data_page_offset(at as i64);
        let alone = alone.set_total_compressed_size(length as i64).build().map_err(damaged)?;
        let chunks = Arc::new(Chunks::new(file));
        let mut reader = SerializedPageReader::new(chunks, &alone, self.pictures.len(), None).map_err(damaged)?;
        let page = reader.get_next_page().map_err(damaged)?.ok_or_else(|| invalid("damaged: a page is gone"))?;
        let content = page.buffer().clone();
        keep(key, &content);
        Ok(content)
    }
}

/// The first bytes of the first picture.
pub fn first_bytes(file: &Arc<Shared>, column: &ColumnChunkMetaData) -> io::Result<Vec<u8>> {
    let rows = column.num_values().try_into().unwrap_or(0);
    let mut reader = SerializedPageReader::new(Arc::new(Chunks::new(file)), column, rows, None).map_err(damaged)?;
    let Some(page) = reader.get_next_page().map_err(damaged)? else { return Ok(Vec::new()) };
    let content = page.buffer().as_ref();
    let levels = column.column_descr().max_def_level();
    let from = match page.is_dictionary_page() {
        true => Some(0),
        false => defined(&page, levels, page.num_values() as usize).map(|(_, from)| from),
    };
    let first = from.and_then(|from| plain(content, from, 1, 0)).and_then(|first| first.first().copied());
    let bytes = first.and_then(|place| content.get(place.at as usize..)).unwrap_or_default();
    Ok(bytes[..bytes.len().min(16)].to_vec())
}

/// Whether each of `count` rows has a value, and where the values begin in the page.
fn defined(page: &Page, levels: i16, count: usize) -> Option<(Vec<bool>, usize)> {
    let content = page.buffer().as_ref();
    let (packed, from) = match page {
        Page::DataPageV2 { def_levels_byte_len, rep_levels_byte_len, .. } => {
            let start = *rep_levels_byte_len as usize;
            let end = start.checked_add(*def_levels_byte_len as usize)?;
            (content.get(start..end)?, end)
        }
        _ if levels == 0 => (&content[..0], 0),
        _ => {
            let length = u32::from_le_bytes(content.get(..4)?.try_into().ok()?) as usize;
            (content.get(4..)?.get(..length)?, 4 + length)
        }
    };
    if levels == 0 {
        return Some((vec![true; count], from));
    }
    let width = 16 - (levels as u16).leading_zeros();
    let found = runs(packed, width, count)?;
    Some((found.into_iter().map(|level| level == levels as u32).collect(), from))
}

/// The places of `count` values, each behind its length.
fn plain(content: &[u8], mut at: usize, count: usize, page: u32) -> Option<Vec<Place>> {
    let mut found = Vec::with_capacity(count.min(content.len() / 4));
    for _ in 0..count {
        let length = u32::from_le_bytes(content.get(at..at.checked_add(4)?)?.try_into().ok()?);
        at += 4;
        found.push(Place { page, at: at as u32, length });
        at = at.checked_add(length as usize).filter(|end| *end <= content.len())?;
    }
    Some(found)
}

/// The values of a dictionary whose numbers are in `content`, behind a byte with the number of their bits.
fn chosen(content: &[u8], count: usize, dictionary: &[Place]) -> Option<Vec<Place>> {
    let (width, packed) = content.split_first()?;
    let numbers = runs(packed, u32::from(*width), count)?;
    numbers.into_iter().map(|number| dictionary.get(number as usize).copied()).collect()
}

/// `count` numbers in runs: a number with its count, or numbers of `width` bits each.
fn runs(mut packed: &[u8], width: u32, count: usize) -> Option<Vec<u32>> {
    if width > 32 {
        return None;
    }
    let mut found = Vec::with_capacity(count);
    while found.len() < count {
        let left = count - found.len();
        let (header, rest) = variable(packed)?;
        packed = rest;
        if header == 0 || header == 1 {
            return None;
        }
        if header & 1 == 0 {
            let (value, rest) = packed.split_at_checked(width.div_ceil(8) as usize)?;
            packed = rest;
            let value = value.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte));
            found.extend(std::iter::repeat_n(value, left.min((header >> 1) as usize)));
        } else {
            let bytes = usize::try_from(header >> 1).ok()?.checked_mul(width as usize)?;
            // The last run may end with the values that are there.
            let (values, rest) = packed.split_at(bytes.min(packed.len()));
            packed = rest;
            let bit = |at: usize| u32::from(values.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1));
            let number = |i: usize| (0..width as usize).fold(0, |number, b| number | bit(i * width as usize + b) << b);
            let there = left.min(8 * usize::try_from(header >> 1).ok()?);
            if (there * width as usize).div_ceil(8) > values.len() {
                return None;
            }
            found.extend((0..there).map(number));
        }
    }
    Some(found)
}

/// A number of seven bits in each byte, and what follows it.
fn variable(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (i, byte) in bytes.iter().enumerate().take(9) {
        number |= u64::from(byte & 127) << (7 * i);
        if byte & 128 == 0 {
            return Some((number, &bytes[i + 1..]));
        }
    }
    None
}

/// The bytes of pages that are kept, for all files together.
const KEPT: usize = 512 << 20;

/// A file's number and the position of a page in it.
type Key = (u64, u64);

/// The last used pages, the latest at the end.
static PAGES: Mutex<Vec<(Key, Bytes)>> = Mutex::new(Vec::new());

fn kept(key: Key) -> Option<Bytes> {
    let mut pages = PAGES.lock().unwrap_or_else(PoisonError::into_inner);
    let at = pages.iter().rposition(|(of, _)| *of == key)?;
    let page = pages[at].1.clone();
    pages[at..].rotate_left(1);
    Some(page)
}

fn keep(key: Key, page: &Bytes) {
    let mut pages = PAGES.lock().unwrap_or_else(PoisonError::into_inner);
    if page.len() > KEPT || pages.iter().any(|(of, _)| *of == key) {
        return;
    }
    let mut used: usize = pages.iter().map(|(_, page)| page.len()).sum();
    let mut gone = 0;
    while used + page.len() > KEPT {
        used -= pages[gone].1.len();
        gone += 1;
    }
    pages.drain(..gone);
    pages.push((key, page.clone()));
}
