//! Archives and parquet files, opened as data sets, with the pictures in them.

use super::folder::{folder, refused, write};
use polyhead::data::images::decode;
use polyhead::data::{Dataset, OpenOptions, Split};
use std::sync::atomic::{AtomicU64, Ordering};

/// Few pictures are enough, and a file may name very many.
const MOST: usize = 20;

/// Writes the bytes under a name of their own, because the index of an archive is kept with its name.
fn archive(kind: &'static str, bytes: &[u8]) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let file = write(&folder(kind, |_| ()), &format!("{number}.{kind}"), bytes);
    match Dataset::open(&file, &OpenOptions::default()) {
        Ok(dataset) => {
            let samples = Split::ALL.into_iter().flat_map(|split| dataset.split(split)).take(MOST);
            for sample in samples {
                let size = decode::dimensions(&sample.image);
                match decode::decode(&sample.image) {
                    Ok(image) => assert_eq!(size.ok(), Some([image.width, image.height])),
                    Err(error) => refused(&error),
                }
            }
        }
        Err(error) => refused(&error),
    }
    std::fs::remove_file(file).unwrap();
}

pub fn tar(bytes: &[u8]) {
    archive("tar", bytes);
}

pub fn zip(bytes: &[u8]) {
    archive("zip", bytes);
}

pub fn parquet(bytes: &[u8]) {
    archive("parquet", bytes);
}
