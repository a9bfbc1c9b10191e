//! Data sets in archives. Those in tests/golden/archives were written by Python, webdataset and datasets.

use super::{Folder, assert_note, boxes_of, label, of_class, of_values};
use crate::data::convert::{Options, Target, Transfer, convert};
use crate::data::images::cache::Cache;
use crate::data::images::{Part, decode};
use crate::data::{Dataset, OpenOptions, Progress, check, describe};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/archives").canonicalize().unwrap();
    folder.join(name)
}

fn open(path: &Path) -> Dataset {
    Dataset::open(path, &OpenOptions::default()).unwrap()
}

/// The first pixel of every picture with its name.
fn pixels(dataset: &Dataset) -> Vec<(String, [u8; 3])> {
    let all = dataset.train.iter().chain(&dataset.val).chain(&dataset.test);
    let pixel = |path: &Path| {
        let image = decode::decode(path).unwrap();
        assert_eq!([image.width, image.height], decode::dimensions(path).unwrap());
        [image.rgb[0], image.rgb[1], image.rgb[2]]
    };
    all.map(|sample| (sample.name.clone(), pixel(&sample.image))).collect()
}

#[test]
fn an_archive_is_read_as_the_folder_that_it_contains() {
    for name in ["folders.zip", "folders-gnu.tar", "folders-pax.tar", "folders-ustar.tar"] {
        let dataset = open(&golden(name));
        assert_note(&dataset, "set/ is the only folder with images");
        assert_eq!(dataset.tasks[0].classes(), ["blue", "red"], "{name}");
        let seen = pixels(&dataset);
        assert_eq!((dataset.train.len(), dataset.val.len()), (6, 2), "{name}");
        assert!(seen.contains(&("val/blue/0.png".into(), [0, 0, 210])), "{name}: {seen:?}");
        let is_long = |name: &str| name.starts_with("train/red/a-long-name-a-long") && name.len() > 120;
        let long = seen.iter().find(|(name, _)| is_long(name) || name == "train/red/2.png");
        assert_eq!(long.unwrap().1, [202, 0, 0], "{name}");
        assert_eq!(dataset.train[0].image, golden(name).join("set").join(&dataset.train[0].name));
    }
}

#[test]
fn labels_in_an_archive_are_read_in_place() {
    let dataset = open(&golden("yolo.zip"));
    assert_eq!(dataset.tasks[0].classes(), ["red", "blue"]);
    assert_eq!(boxes_of(label(&dataset, "images/2.png", 0)), [(1, [4.5, 3.0, 7.5, 5.0], false)]);
    assert_eq!(pixels(&dataset).len(), 2);
}

#[test]
fn an_archive_is_described_checked_and_converted() {
    let folder = Folder::new();
    let names = ["folders.zip", "yolo.zip", "shards", "hugging-face"];
    for name in names.into_iter().filter(|name| cfg!(feature = "parquet") || *name != "hugging-face") {
        let text = describe::data_yaml(&golden(name), &OpenOptions::default(), &Progress::default()).unwrap();
        folder.text("again.yaml", &text);
        let (first, again) = (open(&golden(name)), open(&folder.path().join("again.yaml")));
        let content = |set: &Dataset| {
            [&set.train, &set.val]
                .map(|split| split.iter().map(|s| (s.image.clone(), s.labels.clone())).collect::<Vec<_>>())
        };
        assert_eq!(content(&first), content(&again), "{text}");
        let options = check::CheckOptions { open: OpenOptions::default(), max_broken: 0.01 };
        let checked = check::check(&golden(name), &options, &Progress::default()).unwrap().check;
        assert!(checked.stops.is_empty(), "{name}: {:?}", checked.stops);
        let options = Options {
            target: Target::Jsonl,
            transfer: Transfer::LinkOrCopy,
            force: false,
            task: None,
            open: OpenOptions::default(),
        };
        let out = folder.path().join(format!("{name}-out"));
        convert(&golden(name), &out, &options, &Progress::default()).unwrap();
        let converted = open(&out);
        assert_eq!(converted.train.len(), first.train.len());
        let [mut old, mut new] =
            [&first, &converted].map(|set| set.train.iter().map(|s| &s.labels).collect::<Vec<_>>());
        for labels in [&mut old, &mut new] {
            labels.sort_by_key(|labels| format!("{labels:?}"));
        }
        assert_eq!(old, new, "{name}");
    }
}

#[test]
fn a_shard_of_samples_has_their_labels() {
    let dataset = open(&golden("shards"));
    assert_eq!((dataset.train.len(), dataset.val.len()), (6, 2));
    assert!(dataset.layout.starts_with("WebDataset (3 shards) in "), "{}", dataset.layout);
    let names: Vec<&str> = dataset.tasks.iter().map(|task| task.name.as_str()).collect();
    assert_eq!(names, ["class", "objects", "price"]);
    assert_eq!(dataset.tasks[0].classes(), ["0", "1"]);
    assert_eq!(*label(&dataset, "train-000001.tar/000004.png", 0), of_class(0));
    assert_eq!(*label(&dataset, "train-000001.tar/000003.png", 2), of_values(vec![0.75]));
    assert_eq!(boxes_of(label(&dataset, "train-000001.tar/000004.png", 1)), [(1, [1.0, 2.0, 4.0, 6.0], false)]);
    assert!(pixels(&dataset).contains(&("val-000000.tar/000006.png".into(), [206, 0, 0])));
    let shown = dataset.train[0].image.display().to_string();
    assert!(shown.ends_with("shards/train-000000.tar/000000.png"), "{shown}");
    let one = open(&golden("shards/train-000000.tar"));
    assert_eq!(one.train.len() + one.val.len(), 3);
}

#[test]
fn shards_may_lie_in_folders_of_splits_and_classes_may_have_names() {
    let folder = Folder::new();
    for (split, shard) in [("train", "train-000000"), ("train", "train-000001"), ("val", "val-000000")] {
        fs::create_dir_all(folder.path().join(split)).unwrap();
        let to = folder.path().join(split).join(format!("{}.tar", &shard[shard.len() - 6..]));
        fs::copy(golden(&format!("shards/{shard}.tar")), to).unwrap();
    }
    folder.text("classes.txt", "red\nblue\n");
    let dataset = folder.open();
    assert_eq!((dataset.train.len(), dataset.val.len()), (6, 2));
    assert_eq!(dataset.tasks[0].classes(), ["red", "blue"]);
    assert_eq!(*label(&dataset, "train/000001.tar/000003.png", 0), of_class(1));
}

#[test]
fn a_member_is_cached_as_a_file_is() {
    let folder = Folder::new();
    let path = golden("folders.zip").join("set/val/red/0.png");
    let other = golden("folders.zip").join("set/val/blue/0.png");
    let cache = Cache::in_folder(&folder.path().join("cache"), 1 << 20).unwrap();
    for _ in 0..2 {
        assert_eq!(cache.decode(&path, Part::whole).unwrap().rgb[0], 210);
        assert_eq!(cache.decode(&other, Part::whole).unwrap().rgb[2], 210);
    }
    assert_eq!(fs::read_dir(folder.path().join("cache")).unwrap().count(), 2);
}

/// A tar archive with these files.
fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        // Set as bytes, because the crate refuses to write names that lead out.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in files {
        writer.start_file(*name, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// The error for an archive with this content, with its path replaced by `FILE`.
fn error(name: &str, bytes: &[u8]) -> String {
    let folder = Folder::new();
    let file = folder.path().join(name);
    fs::write(&file, bytes).unwrap();
    let error = Dataset::open(&file, &OpenOptions::default()).unwrap_err().to_string();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is unpacked");
    error.replace(&*file.to_string_lossy(), "FILE")
}

#[test]
fn damaged_archives_are_refused_in_one_sentence() {
    let whole = fs::read(golden("folders.zip")).unwrap();
    assert!(error("a.zip", &whole[..whole.len() / 2]).starts_with("FILE: damaged, truncated or no zip archive"));
    let whole = tar(&[("a/1.png", &[1; 3000]), ("b/1.png", &[2; 3000])]);
    let cut = error("a.tar", &whole[..5000]);
    assert_eq!(cut, "FILE: truncated: the archive ends within `b/1.png`: copy or pack it again");
    assert!(error("a.tar", &whole[..3700]).starts_with("FILE: damaged, truncated or no tar archive, after `a/1.png`"));
    assert!(error("a.tar", b"neither").starts_with("FILE: damaged, truncated or no tar archive, at its beginning"));
    for name in ["../1.png", "a/../../1.png", "/1.png"] {
        let said = format!(
            "FILE: the member `{name}` has a name that leads out of the archive: pack it again with names below it"
        );
        assert_eq!(error("a.tar", &tar(&[(name, &[])])), said);
        assert_eq!(error("a.zip", &zip(&[(name, &[])])), said);
    }
    // The general flag, in the header and in the directory, says that it is encrypted.
    let mut encrypted = zip(&[("1.png", b"x")]);
    let directory = encrypted.windows(4).position(|four| four == b"PK\x01\x02").unwrap();
    encrypted[6] |= 1;
    encrypted[directory + 8] |= 1;
    let said = error("a.zip", &encrypted);
    assert_eq!(said, "FILE: `1.png` is encrypted: unpack it with its password and give the folder");
    for name in ["a.tar.gz", "a.tgz", "a.7z"] {
        let said = error(name, b"x");
        assert!(said.starts_with("FILE: is a") && said.contains("unpack it"), "{said}");
    }
}

#[test]
fn a_member_that_is_no_picture_is_named() {
    let folder = Folder::new();
    let picture =
        fs::read(golden("yolo.zip")).map(|_| decode::read(&golden("yolo.zip/images/1.png")).unwrap()).unwrap();
    let files: [(&str, &[u8]); 4] =
        [("a/1.png", &picture), ("a/2.png", b"no picture"), ("b/1.png", &picture), ("b/2.png", &picture)];
    fs::write(folder.path().join("a.zip"), zip(&files)).unwrap();
    let path = folder.path().join("a.zip");
    let dataset = open(&path);
    assert_eq!(dataset.train.len() + dataset.val.len(), 4);
    let said = decode::decode(&path.join("a/2.png")).unwrap_err().to_string();
    assert!(said.contains("a.zip/a/2.png: cannot decode this image"), "{said}");
    let gone = decode::decode(&path.join("a/3.png")).unwrap_err().to_string();
    assert!(gone.contains("a.zip/a/3.png"), "{gone}");
}

#[test]
fn a_small_member_cannot_unpack_to_a_large_one() {
    // The directory claims 900 MB for a few bytes; then it claims too few for what is there.
    let whole = fs::read(golden("folders.zip")).unwrap();
    let directory = whole.windows(4).position(|four| four == b"PK\x01\x02").unwrap();
    for (length, said) in [(900_000_000u32, "at most 1032 for each"), (20, "does not unpack to the 20 bytes")] {
        let folder = Folder::new();
        let mut bytes = whole.clone();
        bytes[directory + 24..directory + 28].copy_from_slice(&length.to_le_bytes());
        let path = folder.path().join("bomb.zip");
        fs::write(&path, bytes).unwrap();
        let error = decode::decode(&path.join("set/train/red/0.png")).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn an_archive_that_changes_is_read_again() {
    let folder = Folder::new();
    let path = folder.path().join("a.tar");
    let picture = decode::read(&golden("yolo.zip/images/1.png")).unwrap();
    let write = |names: &[&str]| {
        let files: Vec<(&str, &[u8])> = names.iter().map(|name| (*name, picture.as_slice())).collect();
        fs::write(&path, tar(&files)).unwrap();
    };
    write(&["a/1.png", "b/1.png"]);
    assert_eq!(open(&path).tasks[0].classes(), ["a", "b"]);
    write(&["a/1.png", "b/1.png", "c/1.png"]);
    assert_eq!(open(&path).tasks[0].classes(), ["a", "b", "c"]);
}

#[test]
fn a_data_yaml_names_archives_where_it_may_name_folders() {
    let folder = Folder::new();
    fs::copy(golden("folders.zip"), folder.path().join("a.zip")).unwrap();
    let declared = |train: &str| {
        format!("train: {train}\nval: a.zip/set/val\ntasks: {{kind: {{type: classify, from: folders}}}}\n")
    };
    folder.text("data.yaml", &declared("a.zip/set/train"));
    let dataset = folder.open();
    assert_eq!((dataset.train.len(), dataset.val.len()), (6, 2));
    assert_eq!(dataset.train[0].name, "a.zip/set/train/blue/0.png");
    folder.text("b.tar", "no archive");
    folder.text("data.yaml", &declared("b.tar"));
    let said = folder.error();
    assert!(said.contains("`train: b.tar` cannot be read: ") && said.contains("no tar archive"), "{said}");
    folder.text("b.tar.gz", "");
    folder.text("data.yaml", &declared("b.tar.gz"));
    assert!(folder.error().contains("`train: b.tar.gz` is a compressed tar"));
}

#[test]
fn links_in_a_tar_are_further_names() {
    let folder = Folder::new();
    let picture = decode::read(&golden("yolo.zip/images/1.png")).unwrap();
    let link = |kind: tar::EntryType, target: &str| {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(picture.len() as u64);
        builder.append_data(&mut header, "a/1.png", picture.as_slice()).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        builder.append_link(&mut header, "b/1.png", target).unwrap();
        builder.into_inner().unwrap()
    };
    for (kind, target) in [(tar::EntryType::Link, "a/1.png"), (tar::EntryType::Symlink, "../a/1.png")] {
        let path = folder.path().join(format!("{kind:?}.tar"));
        fs::write(&path, link(kind, target)).unwrap();
        assert_eq!(pixels(&open(&path)).len(), 2);
    }
    let said = error("a.tar", &link(tar::EntryType::Symlink, "/etc/passwd"));
    assert!(said.starts_with("FILE: `b/1.png` is a link to `/etc/passwd`, which is no file of this archive"), "{said}");
}

#[test]
fn a_sample_has_one_picture_and_a_label() {
    let picture = decode::read(&golden("yolo.zip/images/1.png")).unwrap();
    let said = error("a.tar", &tar(&[("1.cls", b"0"), ("1.mask.png", &picture), ("1.png", &picture)]));
    assert_eq!(
        said,
        "FILE: a sample has two pictures, `1.mask.png` and `1.png`: pack the shards with one picture in each sample"
    );
    let said = error("a.tar", &tar(&[("1.json", b"{\"id\": 3}"), ("1.png", &picture)]));
    assert!(said.contains("none of 1 sample has a label that could be a task (`id` of .json left out"), "{said}");
    let said = error("a.tar", &tar(&[("1.json", b"[1]"), ("1.png", &picture)]));
    assert_eq!(said, "FILE/1.json: not a JSON object: expected `{\"label\": …}`");
}

#[cfg(feature = "parquet")]
mod parquet {
    use super::*;
    use crate::tasks::Label;

    /// The labels of image `row` in the first training file.
    fn of_row(dataset: &Dataset, row: usize, task: usize) -> Label {
        label(dataset, &format!("data/train-00000-of-00002.parquet/{row:06}.png"), task).clone()
    }

    #[test]
    fn hugging_faces_files_have_pictures_and_labels() {
        let dataset = open(&golden("hugging-face"));
        assert_eq!((dataset.train.len(), dataset.val.len(), dataset.test.len()), (5, 2, 1));
        assert!(dataset.layout.starts_with("pictures in 4 parquet files in "), "{}", dataset.layout);
        let names: Vec<&str> = dataset.tasks.iter().map(|task| task.name.as_str()).collect();
        assert_eq!(names, ["label", "price", "objects", "tags"]);
        assert_eq!(dataset.tasks[0].classes(), ["red", "blue"]);
        assert_eq!(dataset.tasks[2].classes(), ["wheel", "door"]);
        assert_note(&dataset, "column `caption` left out: all its values are the same");
        let seen = pixels(&dataset);
        for (i, (name, rgb)) in seen.iter().enumerate() {
            let shade = 200 + i as u8;
            assert_eq!(*rgb, if i % 2 == 0 { [shade, 0, 0] } else { [0, 0, shade] }, "{name}");
        }
        assert_eq!(of_row(&dataset, 1, 0), of_class(1));
        assert_eq!(of_row(&dataset, 1, 1), of_values(vec![0.1]));
        assert!(!of_row(&dataset, 2, 1).is_labelled(), "null");
        assert_eq!(boxes_of(&of_row(&dataset, 1, 2)), [(1, [1.0, 2.0, 4.0, 6.0], false)]);
        assert!(!dataset.test[0].labels[0].is_labelled(), "-1 stands for no label");
    }

    #[test]
    fn compressed_pages_and_dictionaries_are_read() {
        for name in ["snappy.parquet", "dictionary.parquet", "pages.parquet", "plain.parquet"] {
            let dataset = open(&golden(name));
            let mut all: Vec<_> =
                dataset.train.iter().chain(&dataset.val).map(|sample| (sample.name.clone(), sample)).collect();
            all.sort_by(|a, b| a.0.cmp(&b.0));
            assert_eq!(all.len(), 9, "{name}");
            for (row, (_, sample)) in all.into_iter().enumerate() {
                let image = decode::decode(&sample.image);
                if row == 4 {
                    let said = image.unwrap_err().to_string();
                    let end = format!(
                        "{name}/000004.png: row 4 has no bytes in the column `image`, so that there is no picture"
                    );
                    assert!(said.ends_with(&end), "{said}");
                    continue;
                }
                // Every third picture is the same, which a dictionary stores once.
                let shade = 200 + row as u8 % 3;
                assert_eq!(image.unwrap().rgb[0], shade, "{name} {row}");
                assert_eq!(sample.labels[0], of_class(row % 2));
            }
        }
    }

    #[test]
    fn bad_files_are_refused_in_one_sentence() {
        let whole = fs::read(golden("snappy.parquet")).unwrap();
        let said = error("a.parquet", &whole[..whole.len() - 9]);
        assert!(said.starts_with("FILE: damaged, truncated or no parquet file"), "{said}");
        assert!(error("a.parquet", b"").starts_with("FILE: damaged, truncated or no parquet file"));
        let said = error("a.parquet", &fs::read(golden("no-pictures.parquet")).unwrap());
        assert_eq!(
            said,
            "FILE: a parquet file without pictures: expected a column such as `image` with {bytes, path}, and it has label, price"
        );
        let said = error("a.parquet", &fs::read(golden("no-labels.parquet")).unwrap());
        assert_eq!(said, "FILE: besides the pictures there is no column, so that there is nothing to learn");
    }

    #[test]
    fn a_data_yaml_names_columns_of_a_parquet_file() {
        let folder = Folder::new();
        fs::copy(golden("snappy.parquet"), folder.path().join("a.parquet")).unwrap();
        folder.text("data.yaml", "train: a.parquet\ntasks:\n  side: {type: classify, from: label}\n");
        assert_eq!(folder.open().tasks[0].classes(), ["0", "1"]);
        folder.text("data.yaml", "train: a.parquet\ntasks:\n  side: {type: classify, from: lable}\n");
        assert!(
            folder
                .error()
                .contains("which the parquet files do not have; they have label, price; did you mean `label`?")
        );
        folder.text("data.yaml", "train: a.parquet\ntasks:\n  p: {type: regress, from: price, range: [0, 1]}\n");
        let said = folder.error();
        assert!(
            said.starts_with("DIR/a.parquet: rows[") && said.contains("is outside the declared `range: [0, 1]`"),
            "{said}"
        );
    }

    #[test]
    fn damage_anywhere_is_an_error_and_no_panic() {
        let folder = Folder::new();
        for name in ["snappy.parquet", "dictionary.parquet"] {
            let whole = fs::read(golden(name)).unwrap();
            for at in (0..whole.len()).step_by(17) {
                let mut bytes = whole.clone();
                bytes[at] ^= 0x55;
                let path = folder.path().join(format!("{at}-{name}"));
                fs::write(&path, bytes).unwrap();
                if let Ok(dataset) = Dataset::open(&path, &OpenOptions::default()) {
                    dataset.train.iter().for_each(|sample| drop(decode::decode(&sample.image)));
                }
                fs::remove_file(&path).unwrap();
            }
        }
    }
}
