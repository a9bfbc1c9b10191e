//! Recognises pictures in formats that are not read, so that they can be counted and named.

use super::magic;
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
    let read = archives::open(path).and_then(|file| file.take(magic::LENGTH as u64).read_to_end(&mut start));
    read.is_ok() && (magic::is_read(&start) || magic::not_read(&start).is_some())
}
