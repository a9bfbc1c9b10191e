//! Label files and declarations. Each target writes its bytes as one file of a small data set and opens that. The readers
//! themselves are private, and opening also covers how a layout is recognised.

use super::folder::{folder, refused, write};
use polyhead::data::check::{CheckOptions, check};
use polyhead::data::describe::data_yaml as described;
use polyhead::data::{Dataset, OpenOptions, Progress, Split};
use std::path::Path;

/// The pictures of every data set have this size.
const SIZE: [u32; 2] = [40, 20];

const TASKS: &str = "train: images\ntasks:
  kind: {type: classify, from: {csv: labels.csv, column: kind}}
  size: {type: regress, from: {csv: labels.csv, column: [size, age]}}
  tags: {type: classify, multi_label: true, from: {csv: labels.csv, column: tags}}\n";
const TABLE: &str = "file,kind,size,age,tags\n1.png,cat,12.5,1,red round\n2.png,dog,-3e2,2,\n3.png,cat,1,,red\n";
const VOC: &str = "<annotation><size><width>40</width><height>20</height></size><object><name>cat</name><bndbox>
<xmin>1</xmin><ymin>2</ymin><xmax>20</xmax><ymax>18</ymax></bndbox></object></annotation>";
const COCO: &str = r#"{"images": [{"id": 1, "file_name": "1.png", "width": 40, "height": 20}],
"annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 10, 5]}], "categories": [{"id": 3, "name": "cat"}]}"#;
const BDD: &str = r#"[{"name": "1.png", "attributes": {"weather": "clear"}, "labels": [{"category": "car", "box2d":
{"x1": 1, "y1": 2, "x2": 20, "y2": 18}}]}, {"name": "2.png", "attributes": {"weather": "rainy"}, "labels": []}]"#;
const LABELME: &str = r#"{"flags": {"sunny": true, "wet": false}, "shapes": [{"label": "cat", "points": [[1, 2], [20, 18]],
"shape_type": "rectangle"}], "imagePath": "2.png", "imageData": null, "imageHeight": 20, "imageWidth": 40}"#;
const KITTI: &str = "Car 0 0 -1.58 5 2.5 20 10 1.65 1.67 3.64 -0.65 1.71 46.7 -1.59\n";
const BOXES: &str = "filename,width,height,class,xmin,ymin,xmax,ymax\n1.png,40,20,cat,1,2,20,18\n2.png,,,,,,,\n";

/// Writes `bytes` as `file` in a data set with three pictures in the folder `images` and these other files, and opens it.
fn data_set(layout: &'static str, images: &str, others: &[(&str, &str)], file: &str, bytes: &[u8]) {
    let place = folder(layout, |place| {
        for (name, content) in [("1", 200u8), ("2", 90), ("3", 20)] {
            let picture = write(place, &format!("set/{images}/{name}.png"), "");
            image::RgbImage::from_pixel(SIZE[0], SIZE[1], image::Rgb([content; 3])).save(picture).unwrap();
        }
        for (name, text) in others {
            write(&place.join("set"), name, text);
        }
    });
    write(&place.join("set"), file, bytes);
    examine(&place);
}

/// Opens the data set in `place`, or sees it refused.
fn examine(place: &Path) {
    let (path, options) = (&place.join("set"), OpenOptions::default());
    let opened = Dataset::open(path, &options);
    // The check names exactly what training would refuse.
    let checked = check(path, &CheckOptions { open: options.clone(), max_broken: 0.01 }, &Progress::default());
    let stops = checked.map_or_else(|e| vec![e.to_string()], |examined| examined.check.stops);
    assert_eq!(stops.is_empty(), opened.is_ok(), "{stops:?}, {:?}", opened.err());
    let dataset = match opened {
        Ok(dataset) => dataset,
        Err(error) => return refused(&error),
    };
    assert_in_range(&dataset);
    // The description is complete: it gives the same data set.
    let text = described(path, &options, &Progress::default()).unwrap_or_else(|e| panic!("not described: {e}"));
    let file = write(place, "described.yaml", &text);
    let again = Dataset::open(&file, &options).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(content(&again), content(&dataset), "{text}");
}

/// Asserts that boxes have a size and classes are known. Boxes may reach beyond the picture until they are moved with its pixels.
fn assert_in_range(dataset: &Dataset) {
    let samples = Split::ALL.into_iter().flat_map(|split| dataset.split(split));
    let labels = samples.flat_map(|sample| sample.labels.iter().zip(&dataset.tasks));
    for (label, task) in labels {
        for labelled in label.boxes().into_iter().flat_map(|boxes| boxes.iter()) {
            let [x1, y1, x2, y2] = labelled.xyxy;
            let has_size = labelled.xyxy.iter().all(|edge| edge.is_finite()) && x1 < x2 && y1 < y2;
            assert!(has_size && labelled.class < task.classes().len(), "{labelled:?}");
        }
    }
}

/// Everything that training sees of the labels.
fn content(dataset: &Dataset) -> String {
    let splits = Split::ALL
        .map(|split| dataset.split(split).iter().map(|sample| (&sample.name, &sample.labels)).collect::<Vec<_>>());
    let safe = (dataset.crop_safe, dataset.flip_safe, dataset.scale_safe);
    format!("{:?} {:?} {safe:?} {splits:?}", dataset.tasks, dataset.invariances)
}

pub fn yolo(bytes: &[u8]) {
    data_set("yolo", "images", &[("labels/2.txt", "1 0.5 0.5 1 1\n")], "labels/1.txt", bytes);
    let declared = ("data.yaml", "train: images\nkpt_shape: [2, 3]\nnames: [a, b, c]\n");
    data_set("yolo-keypoints", "images", &[declared], "labels/1.txt", bytes);
}

pub fn voc(bytes: &[u8]) {
    data_set("voc", "JPEGImages", &[("Annotations/2.xml", VOC)], "Annotations/1.xml", bytes);
}

pub fn coco(bytes: &[u8]) {
    data_set("coco", "images", &[], "annotations/labels.json", bytes);
}

pub fn bdd(bytes: &[u8]) {
    data_set("bdd", "images", &[], "labels/labels.json", bytes);
}

pub fn labelme(bytes: &[u8]) {
    data_set("labelme", "images", &[("images/2.json", LABELME)], "images/1.json", bytes);
}

pub fn cvat(bytes: &[u8]) {
    form("cvat", "xml", "multi_label: true, ", bytes);
}

pub fn createml(bytes: &[u8]) {
    data_set("createml", "images", &[], "annotations/labels.json", bytes);
}

pub fn via(bytes: &[u8]) {
    form("via", "json", "multi_label: true, ", bytes);
}

pub fn vott(bytes: &[u8]) {
    data_set("vott", "images", &[], "annotations/labels.json", bytes);
}

pub fn label_studio(bytes: &[u8]) {
    form("label_studio", "json", "", bytes);
}

pub fn datumaro(bytes: &[u8]) {
    form("datumaro", "json", "", bytes);
}

/// A file of many images with boxes and classes, declared and by itself.
fn form(word: &'static str, ending: &str, flag: &str, bytes: &[u8]) {
    let file = format!("annotations/labels.{ending}");
    let from = format!("{{{word}: {file}}}");
    let declared = format!(
        "train: images\ntasks:\n  objects: {{type: detect, from: {from}}}\n  kind: {{type: classify, {flag}from: {from}}}\n"
    );
    data_set(word, "images", &[("data.yaml", &declared)], &file, bytes);
    let alone: &'static str = match word {
        "cvat" => "cvat-alone",
        "via" => "via-alone",
        "datumaro" => "datumaro-alone",
        _ => "label_studio-alone",
    };
    data_set(alone, "images", &[], &file, bytes);
}

pub fn kitti(bytes: &[u8]) {
    data_set("kitti", "image_2", &[("label_2/2.txt", KITTI)], "label_2/1.txt", bytes);
}

pub fn box_rows(bytes: &[u8]) {
    data_set("box_rows", "images", &[], "boxes.csv", bytes);
}

pub fn table(bytes: &[u8]) {
    data_set("table", "images", &[("data.yaml", TASKS)], "labels.csv", bytes);
}

pub fn metadata(bytes: &[u8]) {
    match bytes.first() {
        Some(b'{') => data_set("metadata-jsonl", "train", &[], "train/metadata.jsonl", bytes),
        _ => data_set("metadata-csv", "train", &[], "train/metadata.csv", bytes),
    }
}

pub fn classes(bytes: &[u8]) {
    data_set("classes", "train", &[], "train/_classes.csv", bytes);
}

/// A table of labels that is found without a data.yaml.
pub fn label_table(bytes: &[u8]) {
    data_set("label_table", "images", &[], "labels.csv", bytes);
}

/// Darknet's declaration, with a list of images and the names of classes beside it.
pub fn darknet(bytes: &[u8]) {
    if leaves_the_folder(bytes) {
        return;
    }
    let others = [
        ("obj.names", "cat\ndog\n"),
        ("train.txt", "data\\images\\1.png\ndata/images/2.png\n"),
        ("valid.txt", "images/3.png\n"),
        ("labels/1.txt", "0 0.5 0.5 0.5 0.5\n"),
    ];
    data_set("darknet", "images", &others, "obj.data", bytes);
}

/// VOC's file beside its picture.
pub fn voc_beside(bytes: &[u8]) {
    data_set("voc_beside", "train", &[("train/2.xml", VOC)], "train/1.xml", bytes);
}

/// A file that may name any of the label files beside it.
pub fn data_yaml(bytes: &[u8]) {
    if leaves_the_folder(bytes) {
        return;
    }
    let others = [
        ("labels.csv", TABLE),
        ("boxes.csv", BOXES),
        ("images/1.txt", "0 0.5 0.5 0.5 0.5\n"),
        ("labels/1.txt", "0 0.5 0.5 0.5 0.5\n1 0.1 0.1 0.9 0.1 0.9 0.9\n"),
        ("voc/1.xml", VOC),
        ("coco.json", COCO),
        ("bdd.json", BDD),
        ("train.txt", "images/1.png\nimages/2.png\n"),
        ("val.txt", "./images/3.png\n"),
    ];
    data_set("data_yaml", "images", &others, "data.yaml", bytes);
}

pub fn image_list(bytes: &[u8]) {
    let declared = ("data.yaml", "train: train.txt\nnames: [a, b, c]\n");
    let others = [declared, ("labels/1.txt", "0 0.5 0.5 0.5 0.5\n")];
    data_set("image_list", "images", &others, "train.txt", bytes);
}

/// Whether the text may name a folder elsewhere, such as `/`, whose images would all be listed.
fn leaves_the_folder(bytes: &[u8]) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let begins_with_slash = |at: usize| bytes[at] == b'/' && (at == 0 || !is_word(bytes[at - 1]));
    (0..bytes.len()).any(begins_with_slash) || bytes.windows(2).any(|pair| pair == b".." || pair[0] == b'\\')
}
