//! Recognises pictures in formats that are not read, so that they can be counted and named.

use crate::archives;
use std::io::Read;
use std::path::Path;

/// Endings of pictures, in lower case.
const PICTURES: [&str; 39] = [
    "heic", "heif", "avif", "jxl", "jp2", "j2k", "jpf", "jpx", "svg", "psd", "tga", "raw", "dng", "cr2", "cr3", "nef",
    "arw", "orf", "rw2", "raf", "exr", "hdr", "dds", "ico", "qoi", "ppm", "pgm", "pbm", "pnm", "pam", "jfif", "jpe",
    "jif", "dcm", "nii", "jxr", "wdp", "pcx", "xcf",
];

/// Endings of files that are no pictures, so that their content need not be looked at.
const OTHERS: [&str; 46] = [
    "txt",
    "xml",
    "json",
    "jsonl",
    "csv",
    "tsv",
    "parquet",
    "yaml",
    "yml",
    "md",
    "rst",
    "html",
    "pdf",
    "toml",
    "ini",
    "cfg",
    "log",
    "lock",
    "py",
    "pyc",
    "ipynb",
    "m",
    "mat",
    "npy",
    "npz",
    "pkl",
    "pickle",
    "pt",
    "pth",
    "onnx",
    "safetensors",
    "h5",
    "hdf5",
    "bin",
    "zip",
    "tar",
    "gz",
    "tgz",
    "7z",
    "rar",
    "mp4",
    "avi",
    "mov",
    "cache",
    "db",
    "sh",
];

/// Whether a file that is not read as an image looks like a picture: by its ending, or by its first bytes if the ending says
/// nothing.
pub fn looks_like_picture(path: &Path) -> bool {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let is_in = |list: &[&str]| list.contains(&ending.as_str());
    is_in(&PICTURES) || !is_in(&OTHERS) && begins_like_picture(path)
}

fn begins_like_picture(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = archives::open(path).and_then(|file| file.take(16).read_to_end(&mut start));
    if read.is_err() {
        return false;
    }
    let begins: [&[u8]; 12] = [
        b"\xFF\xD8\xFF",
        b"\x89PNG\r\n",
        b"GIF8",
        b"II*\0",
        b"MM\0*",
        b"8BPS",
        b"qoif",
        b"\0\0\0\x0CjP  ",
        b"\0\0\0\x0CJXL ",
        b"\xFF\x4F\xFF\x51",
        b"\xFF\x0A",
        b"P7\n",
    ];
    let of_ppm =
        |start: &[u8]| matches!(start, [b'P', b'1'..=b'6', b' ' | b'\n' | b'\r' | b'\t', b'0'..=b'9' | b'#', ..]);
    let of_bmp = |start: &[u8]| start.starts_with(b"BM") && start.get(6..10) == Some(&[0; 4]);
    let boxed = start.get(4..12).is_some_and(|kind| {
        [b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1", b"ftypavif", b"ftypavis"]
            .iter()
            .any(|known| kind == *known)
    });
    let of_webp = start.starts_with(b"RIFF") && start.get(8..12) == Some(b"WEBP");
    begins.iter().any(|known| start.starts_with(known)) || of_ppm(&start) || of_bmp(&start) || boxed || of_webp
}
