//! Label files of single images in any folder: VOC's XML, YOLO's text files beside the images, and Darknet's declaration; and
//! what is said about label files that fit no image, or two.

use super::{Folder, assert_note, boxes_of, label};
use crate::data::check::{CheckOptions, check};
use crate::data::describe::data_yaml;
use crate::data::{Dataset, OpenOptions, Progress};

fn voc(name: &str) -> String {
    format!(
        "<annotation><object><name>{name}</name><bndbox><xmin>2</xmin><ymin>3</ymin><xmax>11</xmax><ymax>12</ymax></bndbox></object></annotation>"
    )
}

const BOX: [f32; 4] = [1.0, 2.0, 11.0, 12.0];

/// Asserts that every image has its box, and that the description in data.yaml gives the same data set.
fn assert_read(folder: &Folder, layout: &str, expected: f32) -> Dataset {
    let dataset = folder.open();
    assert!(dataset.layout.starts_with(layout), "{}", dataset.layout);
    for sample in dataset.train.iter().chain(&dataset.val).chain(&dataset.test) {
        let boxes = boxes_of(&sample.labels[0]);
        assert!(boxes.len() == 1 && boxes[0].1[0] == expected, "{}: {boxes:?}", sample.name);
    }
    let text = data_yaml(folder.path(), &OpenOptions::default(), &Progress::default()).unwrap();
    folder.text("data.yaml", &text);
    let again = folder.open();
    assert_eq!((&again.train, &again.val, &again.test), (&dataset.train, &dataset.val, &dataset.test), "{text}");
    std::fs::remove_file(folder.path().join("data.yaml")).unwrap();
    dataset
}

#[test]
fn voc_is_read_from_any_folder_and_beside_the_images() {
    for (images, labels, place) in [
        (
            ["images/a.png", "images/b.png", "images/c.png"],
            ["annots/a.xml", "annots/b.xml", "annots/c.xml"],
            "in annots/",
        ),
        (["a.png", "b.png", "c.png"], ["a.xml", "b.xml", "c.xml"], "beside the images"),
        (
            ["train/a.png", "valid/b.png", "test/c.png"],
            ["train/a.xml", "valid/b.xml", "test/c.xml"],
            "beside the images",
        ),
        (
            ["train/images/a.png", "val/images/a.png", "test/images/c.png"],
            ["train/annotations/a.xml", "val/annotations/a.xml", "test/annotations/c.xml"],
            "in folders of its own",
        ),
        (
            ["images/train/a.png", "images/val/a.png", "images/test/c.png"],
            ["annotations/train/a.xml", "annotations/val/a.xml", "annotations/test/c.xml"],
            "in annotations/",
        ),
    ] {
        let folder = Folder::new();
        folder.images(&images);
        for file in &labels {
            folder.text(file, &voc("cat"));
        }
        let dataset = assert_read(&folder, &format!("Pascal VOC (.xml files {place})"), BOX[0]);
        let splits = images[0].contains("train");
        assert_eq!((dataset.val.len(), dataset.test.len()), (1, usize::from(splits)), "{place}");
    }
    // A file of the same name for another image is not taken.
    let folder = Folder::new();
    folder.images(&["images/cat/1.png", "images/dog/1.png", "images/dog/2.png", "images/dog/3.png"]);
    for name in ["1", "2", "3"] {
        folder.text(&format!("annotations/dog/{name}.xml"), &voc("dog"));
    }
    let dataset = folder.open();
    assert!(!label(&dataset, "images/cat/1.png", 0).is_labelled());
    assert!(label(&dataset, "images/dog/1.png", 0).is_labelled());
    // XML files about other things are no labels.
    let folder = Folder::new();
    folder.images(&["cat/a.png", "dog/b.png"]).text("cat/a.xml", "<project></project>");
    assert!(folder.open().layout.starts_with("class folders"));
}

#[test]
fn yolo_is_read_beside_the_images() {
    let row = "1 0.5 0.5 0.25 0.5\n";
    for (images, names) in [
        (["a.png", "b.png", "c.png"], "classes.txt"),
        (["train/a.png", "valid/b.png", "test/c.png"], "train/_darknet.labels"),
        (["images/train/a.png", "images/val/b.png", "images/test/c.png"], "obj.names"),
    ] {
        let folder = Folder::new();
        folder.images(&images).text(names, "\u{feff}cat\r\ndog\r\n");
        for image in &images {
            folder.text(&image.replace(".png", ".txt"), row);
        }
        let dataset = assert_read(&folder, "YOLO (.txt files beside the images)", 15.0);
        assert_eq!(dataset.tasks[0].classes(), ["cat", "dog"]);
        assert_note(&dataset, &format!("objects: the names of classes are those of {names}"));
    }
    // Texts about pictures are no labels.
    let folder = Folder::new();
    folder.images(&["cat/a.png", "dog/b.png"]).text("cat/a.txt", "a cat on 5 1 1 1 1 mats\n");
    assert!(folder.open().layout.starts_with("class folders"));
}

#[test]
fn darknets_declaration_is_read_with_paths_from_elsewhere() {
    let folder = Folder::new();
    folder.images(&["obj_train_data/a.png", "obj_train_data/b.png", "obj_train_data/c.png"]);
    for name in ["a", "b", "c"] {
        folder.text(&format!("obj_train_data/{name}.txt"), "1 0.5 0.5 0.25 0.5\n");
    }
    folder
        .text("obj.names", "cat\ndog\n")
        .text("train.txt", "data/obj_train_data/a.png\ndata\\obj_train_data\\b.png\n");
    folder.text("valid.txt", "/content/obj/c.png\n");
    folder.text(
        "obj.data",
        "classes = 2\ntrain  = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\nbackup = backup/\n",
    );
    let dataset = assert_read(&folder, "Darknet (obj.data)", 15.0);
    assert_eq!((dataset.train.len(), dataset.val.len()), (2, 1));
    assert_eq!(dataset.tasks[0].classes(), ["cat", "dog"]);
    assert_note(
        &dataset,
        "train.txt: no line names a path that is here, so 2 images are found by the last parts of the path (first: `data/obj_train_data/a.png` is obj_train_data/a.png)",
    );
    folder.text("obj.data", "classes = 3\ntrain = train.txt\nnames = obj.names\n");
    assert_eq!(folder.error(), "DIR/obj.data:1: `classes = 3`, but obj.names has 2 names: make them agree");
    folder.text("obj.data", "classes = 2\ntrain = lists/trn.txt\nnames = obj.names\n");
    assert!(folder.error().starts_with("DIR/obj.data:2: `train = lists/trn.txt` is not there"), "{}", folder.error());
}

#[test]
fn lists_may_have_backslashes_and_a_list_of_nothing_names_its_lines() {
    let folder = Folder::new();
    folder.images(&["images/train/a.png", "images/train/b.png", "images/val/c.png"]);
    folder
        .text("data.yaml", "train: train.txt\nval: images/val\nnames: [cat]\n")
        .text("labels/train/a.txt", "0 0.5 0.5 0.25 0.5\n");
    folder.text("train.txt", "images\\train\\a.png\n.\\images\\train\\b.png\n");
    assert_eq!(folder.open().train.len(), 2);
    // If some lines name images that are here, the others are missing, whatever lies elsewhere under their names.
    folder.text("train.txt", "images/train/a.png\nimages/train/c.png\n");
    let error = folder.error();
    assert!(error.starts_with("DIR/train.txt:2: `images/train/c.png` is not there"), "{error}");
    // The check says what training says.
    folder.text("train.txt", "images/train/x.png\nimages/train/y.png\n");
    let options = CheckOptions { open: OpenOptions::default(), max_broken: 0.0 };
    let refused = check(folder.path(), &options, &Progress::default()).err().unwrap().to_string();
    assert!(refused.contains("train.txt:1: `images/train/x.png` is not there"), "{refused}");
    assert!(refused.contains("the first of 2 such lines"), "{refused}");
}

#[test]
fn a_label_file_of_two_images_is_a_fault_and_one_of_none_is_noted() {
    let folder = Folder::new();
    folder.images(&["images/train/0.png", "images/train/1.png", "images/train/B.png", "images/val/2.png"]);
    folder.text("data.yaml", "train: images/train\nval: images/val\nnames: [cat]\n");
    for name in ["train/0", "train/1", "train/b", "train/gone", "val/2"] {
        folder.text(&format!("labels/{name}.txt"), "0 0.5 0.5 0.25 0.5\n");
    }
    folder.text("labels/train/classes.txt", "cat\n");
    assert_note(
        &folder.open(),
        "objects: 2 label files belong to no image of this data set (labels/train/b.txt, labels/train/gone.txt); labels/train/b.txt differs from images/train/B.png only in upper and lower case: rename one of them",
    );
    image::RgbImage::from_pixel(40, 20, image::Rgb([9, 9, 9])).save(folder.path().join("images/train/0.bmp")).unwrap();
    assert_eq!(
        folder.error(),
        "DIR/labels/train/0.txt: is the label file of 2 images (images/train/0.bmp, images/train/0.png): rename or remove all but one, because it may describe either"
    );
    let options = CheckOptions { open: OpenOptions::default(), max_broken: 0.0 };
    let found = check(folder.path(), &options, &Progress::default()).unwrap().check;
    assert_eq!(found.coverage.tasks[0].splits[0].unlabelled, 2);
}

#[test]
fn names_that_match_nothing_stand_beside_one_that_is_there() {
    let folder = Folder::new();
    folder.images(&["pictures/p0.png", "pictures/p1.png"]);
    let image = |id: u8| format!(r#"{{"id": {id}, "file_name": "x{id}.png"}}"#);
    folder.text(
        "annotations/train.json",
        &format!(
            r#"{{"images": [{}, {}], "annotations": [], "categories": [{{"id": 1, "name": "a"}}]}}"#,
            image(1),
            image(2)
        ),
    );
    let error = folder.error();
    assert!(
        error.starts_with("DIR/annotations/train.json: none of the 2 images that it names is in DIR (first: `x1.png`; an image that is there is `pictures/p0.png`)"),
        "{error}"
    );
}
