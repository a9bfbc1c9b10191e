//! Text files of users, read as UTF-8: a byte order mark, UTF-16, and the encoding that an XML file declares are understood.

use crate::archives;
use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};
use std::borrow::Cow;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

/// The whole text of a file, without its byte order mark. Line ends stay as they are, except that those of old Macs, a bare `\r`,
/// become `\n`.
///
/// # Errors
/// Those of [`archives::open`]; the text is invalid in its encoding, or in an encoding that is not known.
pub fn read(path: &Path) -> io::Result<String> {
    let text = decode(archives::read(path)?)?;
    let is_old_mac = text.contains('\r') && !text.contains('\n');
    Ok(if is_old_mac { text.replace('\r', "\n") } else { text })
}

/// The text of a file, without its byte order mark, to be read piece by piece. Only UTF-8 is not read at once; whether it is valid
/// shows while it is read.
///
/// # Errors
/// As for [`read`].
pub fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let mut file = BufReader::new(archives::open(path)?);
    let start = file.fill_buf()?;
    let (encoding, mark) = marked(start).unwrap_or((UTF_8, 0));
    if encoding == UTF_8 {
        file.consume(mark);
        return Ok(Box::new(file));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(Box::new(Cursor::new(decode(bytes)?)))
}

/// The text in `bytes`, as [`read`] returns it.
fn decode(mut bytes: Vec<u8>) -> io::Result<String> {
    let (encoding, mark) = match marked(&bytes) {
        Some(found) => found,
        None => (declared_in_xml(&bytes)?.unwrap_or(UTF_8), 0),
    };
    if encoding == UTF_8 {
        bytes.drain(..mark);
        return String::from_utf8(bytes).map_err(|e| {
            let valid = &e.as_bytes()[..e.utf8_error().valid_up_to()];
            let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
            invalid(format!("the text in line {line} is not UTF-8: save the file as UTF-8"))
        });
    }
    let text = encoding.decode_without_bom_handling_and_without_replacement(&bytes[mark..]);
    let name = encoding.name();
    text.map(Cow::into_owned).ok_or_else(|| invalid(format!("the text is not valid {name}: save the file as UTF-8")))
}

/// The encoding and the length of the byte order mark. UTF-16 without a mark is recognised by the zeros in its first two letters,
/// because no label file begins with other than ASCII.
fn marked(bytes: &[u8]) -> Option<(&'static Encoding, usize)> {
    let unmarked = match bytes {
        [a, 0, b, 0, ..] if *a != 0 && *b != 0 => Some((UTF_16LE, 0)),
        [0, a, 0, b, ..] if *a != 0 && *b != 0 => Some((UTF_16BE, 0)),
        _ => None,
    };
    Encoding::for_bom(bytes).or(unmarked)
}

/// The encoding in `<?xml … encoding="…"?>`. A declaration whose bytes are ASCII is not UTF-16, whatever it says: some programs
/// write that word into UTF-8 files.
fn declared_in_xml(bytes: &[u8]) -> io::Result<Option<&'static Encoding>> {
    let Some(head) = bytes.strip_prefix(b"<?xml").map(|rest| String::from_utf8_lossy(&rest[..rest.len().min(200)]))
    else {
        return Ok(None);
    };
    let head = head.split("?>").next().unwrap_or_default();
    let Some(written) = head.split("encoding").nth(1) else {
        return Ok(None);
    };
    let Some(label) = written.split(['"', '\'']).nth(1) else {
        return Ok(None);
    };
    match Encoding::for_label(label.as_bytes()) {
        Some(encoding) if encoding == UTF_16LE || encoding == UTF_16BE => Ok(None),
        Some(encoding) => Ok(Some(encoding)),
        None => Err(invalid(format!("the encoding `{label}` is not known: save the file as UTF-8"))),
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn usual_encodings_are_read() {
        let text = "名前,label\na.png,é\n";
        let marked = [b"\xEF\xBB\xBF".as_slice(), text.as_bytes()].concat();
        let little = [b"\xFF\xFE".to_vec(), utf16(text, u16::to_le_bytes)].concat();
        let big = [b"\xFE\xFF".to_vec(), utf16(text, u16::to_be_bytes)].concat();
        for bytes in [text.as_bytes().to_vec(), marked, little, big] {
            assert_eq!(decode(bytes).unwrap(), text);
        }
        for bytes in [utf16("a,é\n", u16::to_le_bytes), utf16("a,é\n", u16::to_be_bytes)] {
            assert_eq!(decode(bytes).unwrap(), "a,é\n", "without a mark");
        }
    }

    #[test]
    fn the_encoding_that_an_xml_file_declares_is_used() {
        let named = |encoding: &str, name: &[u8]| {
            let head = format!("<?xml version='1.0' encoding='{encoding}'?>\n<name>");
            [head.as_bytes(), name, b"</name>"].concat()
        };
        let gbk = decode(named("GBK", b"\xC3\xA8")).unwrap();
        assert!(gbk.ends_with("<name>猫</name>"), "{gbk}");
        let latin = decode(named("ISO-8859-1", b"\xE9")).unwrap();
        assert!(latin.ends_with("<name>é</name>"), "{latin}");
        let mistaken = decode(named("utf-16", "é".as_bytes())).unwrap();
        assert!(mistaken.ends_with("<name>é</name>"), "{mistaken}");
        assert!(decode(named("klingon", b"a")).unwrap_err().to_string().contains("`klingon` is not known"));
    }

    #[test]
    fn invalid_text_is_refused_with_its_line() {
        let error = decode(b"a\nb\xE9\n".to_vec()).unwrap_err();
        assert_eq!(error.to_string(), "the text in line 2 is not UTF-8: save the file as UTF-8");
        let error = decode(b"\xFF\xFEa\0\x00\xD8".to_vec()).unwrap_err();
        assert!(error.to_string().contains("not valid UTF-16LE"), "{error}");
    }

    #[test]
    fn a_file_is_read_in_pieces_or_at_once() {
        let file = std::env::temp_dir().join(format!("polyhead-text-{}.txt", std::process::id()));
        for (bytes, expected) in [
            (b"\xEF\xBB\xBFone\r\ntwo".to_vec(), "one\r\ntwo"),
            (utf16("\u{feff}one\ntwo", u16::to_le_bytes), "one\ntwo"),
            (b"one\rtwo".to_vec(), "one\ntwo"),
        ] {
            std::fs::write(&file, bytes).unwrap();
            assert_eq!(read(&file).unwrap(), expected);
            let mut pieces = String::new();
            open(&file).unwrap().read_to_string(&mut pieces).unwrap();
            assert_eq!(pieces.replace('\r', "\n"), expected.replace('\r', "\n"));
        }
        std::fs::remove_file(&file).unwrap();
    }
}
