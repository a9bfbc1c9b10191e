//! The mark in every picture that polyhead writes, by which it is recognised before another one replaces it.

use super::PictureFormat;
use crate::files;
use std::io::Read;
use std::path::Path;

/// A chunk of text that names the program: length, type, keyword and text, and their CRC.
const IN_PNG: &[u8] = b"\0\0\0\x11tEXtSoftware\0polyhead\xf4\x55\x15\xd4";
/// A comment with its length.
const IN_JPEG: &[u8] = b"\xff\xfe\0\x0apolyhead";

/// The mark is within this many bytes from the start of a file.
const START: u64 = 128;

/// Divides an encoded picture at the place of the mark. Returns the part before it, the mark and the part behind it.
pub(super) fn marked(picture: &[u8], format: PictureFormat) -> [&[u8]; 3] {
    let (at, mark) = match (format, picture) {
        // After the signature and the header.
        (PictureFormat::Png, _) => (8 + 25, IN_PNG),
        // After the JFIF segment, which must come first.
        (PictureFormat::Jpeg, [0xff, 0xd8, 0xff, 0xe0, high, low, ..]) => {
            (4 + usize::from(u16::from_be_bytes([*high, *low])), IN_JPEG)
        }
        (PictureFormat::Jpeg, _) => (2, IN_JPEG),
    };
    let (before, behind) = picture.split_at(at.min(picture.len()));
    [before, mark, behind]
}

/// Whether polyhead wrote the picture `file`.
pub fn is_own_picture(file: &Path) -> bool {
    let mut start = Vec::new();
    let read = files::open(file).and_then(|file| file.take(START).read_to_end(&mut start));
    let holds = |mark: &[u8]| start.windows(mark.len()).any(|part| part == mark);
    read.is_ok() && (holds(IN_PNG) || holds(IN_JPEG))
}
