//! Paths as text in args.yaml and in checkpoints. A path that is not Unicode, which Linux allows, is written as `bytes:` followed by
//! its bytes. Bytes outside printable ASCII, and `%`, are percent-encoded.

use serde::{Deserialize, Deserializer, Serializer, de};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The choices that are paths.
pub const KEYS: [&str; 3] = ["data", "weights", "project"];
const ENCODED: &str = "bytes:";

/// The text of a path.
pub fn text(path: &Path) -> String {
    match path.to_str() {
        // A path that begins like an encoded one would be decoded when it is read.
        Some(text) if !text.starts_with(ENCODED) => text.to_owned(),
        _ => {
            let byte = |&byte: &u8| match byte {
                b'%' => "%25".to_owned(),
                b' '..=b'~' => char::from(byte).to_string(),
                _ => format!("%{byte:02X}"),
            };
            ENCODED.to_owned() + &path.as_os_str().as_encoded_bytes().iter().map(byte).collect::<String>()
        }
    }
}

/// The path of a text; `None` if it is encoded and this system has no such paths, or the encoding is wrong.
pub fn path(text: &str) -> Option<OsString> {
    let Some(encoded) = text.strip_prefix(ENCODED) else { return Some(text.into()) };
    let mut bytes = Vec::new();
    let mut rest = encoded.as_bytes();
    while let Some((&first, others)) = rest.split_first() {
        rest = others;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digits = std::str::from_utf8(others.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?);
        rest = &others[2..];
    }
    from_bytes(bytes)
}

#[cfg(unix)]
fn from_bytes(bytes: Vec<u8>) -> Option<OsString> {
    Some(std::os::unix::ffi::OsStringExt::from_vec(bytes))
}

#[cfg(not(unix))]
fn from_bytes(bytes: Vec<u8>) -> Option<OsString> {
    String::from_utf8(bytes).ok().map(Into::into)
}

/// For a field that is a path.
pub mod one {
    use super::*;

    pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text(path))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        let text = String::deserialize(deserializer)?;
        path(&text).map(PathBuf::from).ok_or_else(|| de::Error::custom(format!("`{text}` is not a path")))
    }
}

/// For a field that may be a path.
pub mod optional {
    use super::*;

    pub fn serialize<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
        match path {
            Some(path) => serializer.serialize_some(&text(path)),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        let decoded = path(&text).ok_or_else(|| de::Error::custom(format!("`{text}` is not a path")))?;
        Ok(Some(decoded.into()))
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn every_path_is_read_as_it_was_written() {
        let cases: [(&[u8], &str); 5] = [
            (b"/data/a b%c", "/data/a b%c"),
            ("/d/é".as_bytes(), "/d/é"),
            (b"/d\xff/a%\n", "bytes:/d%FF/a%25%0A"),
            (b"bytes:x", "bytes:bytes:x"),
            (b"", ""),
        ];
        for (bytes, expected) in cases {
            let whole = PathBuf::from(OsString::from_vec(bytes.to_vec()));
            assert_eq!(text(&whole), expected);
            assert_eq!(path(expected).unwrap(), whole);
        }
        assert_eq!((path("bytes:%F"), path("bytes:%é"), path("bytes:%+1")), (None, None, None));
    }
}
