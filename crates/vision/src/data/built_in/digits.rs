//! The built-in data set: sheets of paper with real handwritten digits, and three tasks per picture. Scenes are
//! generated from a seed and written in the documented layout, so that they are read like any other data set.

use super::planted::Planted;
use super::scene::{COUNT, PAPERS, Records, Scene, draw};
use crate::data::aside;
use crate::data::progress::{Progress, Stop};
use crate::data::random::Random;
use crate::error::{Error, Result};
use crate::tasks::Content;
use crate::threads::start_shared_pool;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use rayon::prelude::*;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Must change whenever the scenes change, so that a cached older version is not used.
const VERSION: u32 = 2;

/// The number and kind of scenes.
#[derive(Clone, Debug, PartialEq)]
pub struct DigitsOptions {
    /// Scenes of the training split.
    pub train: usize,
    /// Scenes of the validation split.
    pub val: usize,
    /// Scenes of the test split; if 0, data.yaml declares no such split.
    pub test: usize,
    /// The side of a scene in pixels.
    pub size: usize,
    /// Equal seeds give equal scenes.
    pub seed: u64,
}

impl Default for DigitsOptions {
    fn default() -> Self {
        DigitsOptions { train: 5000, val: 400, test: 200, size: 96, seed: 0 }
    }
}

/// The labels of a training scene that are written; validation and test scenes have all labels.
struct Kept {
    digits: bool,
    paper: bool,
    sum: bool,
}

/// The splits share no handwriting: of every twenty records, fourteen are for train, three for val, three for test.
const SPLITS: [(&str, std::ops::Range<usize>); 3] = [("train", 0..14), ("val", 14..17), ("test", 17..20)];

pub(crate) fn records_of(split: usize) -> Vec<usize> {
    (0..COUNT).filter(|record| SPLITS[split].1.contains(&(record % 20))).collect()
}

/// Writes the set to `dir`, which must be absent or empty: images as PNG, YOLO labels, a table and data.yaml. It is
/// written under a temporary name and renamed, so that no partial set is left.
pub fn write_digits(dir: &Path, options: &DigitsOptions) -> Result<()> {
    write_planted(dir, options, None, &Progress::default())
}

/// Like [`write_digits`], with the tasks of `planted` added; everything else is the same. `progress` may interrupt it.
pub fn write_planted(dir: &Path, options: &DigitsOptions, planted: Option<Planted>, progress: &Progress) -> Result<()> {
    if options.size < 32 || options.train == 0 || options.val == 0 {
        let message = "digits: the size is at least 32 pixels, train and val at least 1 image each";
        return Err(Error::Usage(message.into()));
    }
    let stop = progress.stop()?;
    progress.begin("drawing scenes", options.train + options.val + options.test);
    aside::write_folder(dir, |partial| write_all(partial, options, planted, progress, &stop))
}

/// The set with default options in `cache_dir`, created if it does not exist. Returns the folder of its data.yaml.
pub fn digits_dataset(cache_dir: &Path) -> Result<PathBuf> {
    let dir = cache_dir.join(format!("digits-v{VERSION}"));
    if dir.join("data.yaml").is_file() {
        return Ok(dir);
    }
    // The folder is polyhead's own, so nobody has to be told.
    aside::remove_leftovers(&dir);
    match write_digits(&dir, &DigitsOptions::default()) {
        // Another process was faster.
        Err(_) if dir.join("data.yaml").is_file() => Ok(dir),
        other => other.map(|()| dir),
    }
}

fn write_all(
    dir: &Path,
    options: &DigitsOptions,
    planted: Option<Planted>,
    progress: &Progress,
    stop: &Stop,
) -> Result<()> {
    start_shared_pool()?;
    let records = Records::load()?;
    let tasks = planted.map_or(&[][..], Planted::tasks);
    let mut table = ["file", "paper", "sum"].iter().chain(tasks).copied().collect::<Vec<_>>().join(",") + "\n";
    for (split, count) in [options.train, options.val, options.test].into_iter().enumerate() {
        let name = SPLITS[split].0;
        let (images, labels) = (dir.join(name), dir.join("labels").join(name));
        for folder in [&images, &labels] {
            fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        let pool = records_of(split);
        let rows = (0..count).into_par_iter().map(|number| {
            stop.check()?;
            progress.count(1);
            let key = [options.seed, split as u64, number as u64];
            let scene = draw(&records, &pool, options.size, &key);
            let stem = format!("{number:05}");
            write_png(&images.join(format!("{stem}.png")), &scene.rgb, options.size)?;
            let kept = kept(options.seed, split, number);
            if kept.digits {
                let file = labels.join(format!("{stem}.txt"));
                fs::write(&file, yolo_rows(&scene, options.size)).map_err(Error::io("write", &file))?;
            }
            let paper = if kept.paper { PAPERS[scene.paper] } else { "" };
            let sum = if kept.sum { scene.sum().to_string() } else { String::new() };
            let cells = planted.filter(|planted| if planted.follows_paper() { kept.paper } else { kept.sum });
            Ok((format!("{name}/{stem}.png,{paper},{sum}"), cells.map(|planted| planted.cells(&scene, &key))))
        });
        let (rows, mut cells): (Vec<String>, Vec<Option<Vec<String>>>) =
            rows.collect::<Result<Vec<_>>>()?.into_iter().unzip();
        if let Some(planted) = planted {
            planted.arrange(options.seed, split, &mut cells);
        }
        for (row, cells) in rows.into_iter().zip(cells) {
            let cells = cells.unwrap_or_else(|| vec![String::new(); tasks.len()]);
            table += &[vec![row], cells].concat().join(",");
            table.push('\n');
        }
    }
    let test = if options.test > 0 { "test: test\n" } else { "" };
    let yaml = data_yaml(test) + &planted.map_or(String::new(), Planted::declared);
    let more =
        planted.map_or(String::new(), |_| format!("                    planted beside them: {}\n", tasks.join(", ")));
    let readme = README.to_owned() + &more;
    let files = [("labels.csv", table), ("data.yaml", yaml), ("README.txt", readme)];
    for (name, text) in files {
        let file = dir.join(name);
        fs::write(&file, text).map_err(Error::io("write", &file))?;
    }
    Ok(())
}

const README: &str = "\
Scenes of handwritten digits, drawn by `polyhead data digits`.

The digits are scikit-learn's copy of the test set of UCI's Optical Recognition of Handwritten Digits
(E. Alpaydin and C. Kaynak, 1998, https://doi.org/10.24432/C50P49), CC BY 4.0; changed here: enlarged, turned, sheared,
coloured and put on drawn paper.

train/ val/ test/   images; no handwritten digit is in two of them
labels/             YOLO rows of the digits; a training image without its file is unlabelled, an empty file is an empty sheet
labels.csv          paper and sum of each image; a blank cell is unlabelled
";

fn data_yaml(test: &str) -> String {
    let [boxes, class, values] =
        [Content::Boxes, Content::Class, Content::Values].map(|content| content.kind().yaml_word);
    format!(
        "\
# Sheets of paper with handwritten digits: three tasks over one picture.
path: .
train: train
val: val
{test}flip_safe: false                # a mirrored 2 is no 2
tasks:
  digits: {{type: {boxes},   names: ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9'], from: {{yolo: labels}}, missing: unlabelled}}
  paper:  {{type: {class}, names: [{}], from: {{csv: labels.csv, column: paper}}, crop_safe: true}}
  sum:    {{type: {values},  from: {{csv: labels.csv, column: sum}}}}
",
        PAPERS.join(", ")
    )
}

fn write_png(file: &Path, rgb: &[u8], size: usize) -> Result<()> {
    let mut bytes = Vec::with_capacity(rgb.len());
    let encoder = PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Sub);
    let encoded = encoder.write_image(rgb, size as u32, size as u32, ExtendedColorType::Rgb8);
    encoded.map_err(|e| Error::data(file, None, format!("cannot encode this image: {e}")))?;
    fs::write(file, bytes).map_err(Error::io("write", file))
}

fn yolo_rows(scene: &Scene, size: usize) -> String {
    let mut rows = String::new();
    for (digit, [x1, y1, x2, y2]) in &scene.digits {
        let s = size as f32;
        let (cx, cy, w, h) = ((x1 + x2) / 2.0 / s, (y1 + y2) / 2.0 / s, (x2 - x1) / s, (y2 - y1) / s);
        let _ = writeln!(rows, "{digit} {cx:.6} {cy:.6} {w:.6} {h:.6}"); // writing to a String cannot fail
    }
    rows
}

fn kept(seed: u64, split: usize, number: usize) -> Kept {
    let mut random = Random::new(&[seed, split as u64, number as u64, 1]);
    let mut keep = |part: f32| split != 0 || random.unit() < part;
    Kept { digits: keep(0.9), paper: keep(0.8), sum: keep(0.8) }
}
