//! Folders that look like class folders: which of them are classes, and which are refused with what was seen.

use super::{Folder, assert_note};
use crate::data::dataset::{Dataset, OpenOptions};
use std::fs;

fn gray(folder: &Folder, names: &[&str]) {
    for name in names {
        let file = folder.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        image::GrayImage::from_pixel(40, 20, image::Luma([1])).save(file).unwrap();
    }
}

/// Opens the folder again with the line of a data.yaml that the message gives.
fn with_line(folder: &Folder, message: &str) -> Dataset {
    let line = message.split('`').find(|part| part.starts_with('{')).unwrap_or_else(|| panic!("{message}"));
    folder.text("data.yaml", line);
    Dataset::open(folder.path(), &OpenOptions::default()).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn pictures_and_their_masks_are_no_classes() {
    let pairs: [(&[&str], &str); 4] = [
        (
            &["images/0.png", "images/1.png", "images/2.png", "masks/0.png", "masks/1.png", "masks/2.png"],
            "is named like",
        ),
        (&["photo/0.png", "photo/1.png", "photo/2.png", "gt_png/0_mask.png", "gt_png/1_mask.png"], "is named like"),
        (&["images/x/0.png", "images/y/0.png", "labels/x/0.png", "labels/y/0.png"], "is named like"),
        (&["train/img/0.png", "train/img/1.png", "train/seg/0.png", "train/seg/1.png"], "is named like"),
    ];
    for (names, why) in pairs {
        let folder = Folder::new();
        folder.images(names);
        // YOLO would be looked for in `labels`, which holds no text.
        let said = folder.error();
        assert!(said.contains("have the same names, and ") && said.contains(why), "{said}");
        assert!(said.contains("pictures and their masks rather than two classes"), "{said}");
        assert_eq!(with_line(&folder, &said).tasks[0].classes().len(), 2, "{said}");
    }
    // By their pictures: one of two folders holds grey files.
    let folder = Folder::new();
    folder.images(&["left/0.png", "left/1.png", "left/2.png"]);
    gray(&folder, &["right/0.png", "right/1.png", "right/2.png"]);
    let said = folder.error();
    assert!(
        said.contains("3 pictures of left/ and right/ have the same names, and right/ holds grey or palette"),
        "{said}"
    );
}

#[test]
fn classes_numbered_from_the_same_number_stay_classes() {
    let folder = Folder::new();
    folder.images(&["cat/0001.png", "cat/0002.png", "dog/0001.png", "dog/0002.png"]);
    assert_eq!(folder.open().tasks[0].classes(), ["cat", "dog"]);
    let folder = Folder::new();
    gray(&folder, &["3/0001.png", "3/0002.png", "7/0001.png", "7/0002.png"]);
    assert_eq!(folder.open().tasks[0].classes(), ["3", "7"]);
    let folder = Folder::new();
    folder.images(&["face/a.png", "face/b.png", "mask/c.png", "mask/d.png"]);
    assert_eq!(folder.open().tasks[0].classes(), ["face", "mask"]);
}

#[test]
fn a_single_split_word_among_classes_is_a_class() {
    for word in ["train", "test", "Validation"] {
        let folder = Folder::new();
        let inner = format!("{word}/steam/0.png");
        folder.images(&["bus/0.png", "bus/1.png", "car/0.png", "car/1.png", &inner, &inner.replace('0', "1")]);
        let dataset = folder.open();
        let mut classes = dataset.tasks[0].classes().to_vec();
        classes.sort_by_key(|class| class.to_lowercase());
        let mut expected = vec!["bus", "car", word];
        expected.sort_by_key(|class| class.to_lowercase());
        assert_eq!(classes, expected);
        assert_eq!(dataset.train.len() + dataset.val.len(), 6);
        assert_note(&dataset, "count as the class above them");
    }
    // With two of them, they are splits, and the others are left over.
    let folder = Folder::new();
    folder.images(&["bus/0.png", "car/0.png", "train/x/0.png", "train/y/0.png", "test/x/0.png"]);
    let dataset = folder.open();
    assert_eq!(dataset.tasks[0].classes(), ["x", "y"]);
    assert_note(&dataset, "2 images are in no split, so not used: 1 in bus/, 1 in car/");
}

#[test]
fn splits_below_the_classes_are_splits() {
    let folder = Folder::new();
    folder.images(&["bottle/train/0.png", "bottle/train/1.png", "bottle/test/0.png", "screw/train/0.png"]);
    folder.images(&["screw/train/1.png", "screw/test/0.png"]);
    let dataset = folder.open();
    assert_eq!(dataset.tasks[0].classes(), ["bottle", "screw"]);
    assert_eq!((dataset.train.len() + dataset.val.len(), dataset.test.len()), (4, 2));
    let screw = dataset.test.iter().find(|sample| sample.name == "screw/test/0.png").unwrap();
    assert_eq!(screw.labels[0], super::of_class(1));
    // The same in a data.yaml.
    folder.text(
        "data.yaml",
        "{train: [bottle/train, screw/train], test: [bottle/test, screw/test], tasks: {class: {type: classify, from: folders}}}",
    );
    let declared = folder.open();
    assert_eq!((&declared.tasks, &declared.test), (&dataset.tasks, &dataset.test));
    // Folders below the splits may be the classes, so nothing is guessed.
    let folder = Folder::new();
    folder.images(&[
        "bottle/train/good/0.png",
        "bottle/test/bad/0.png",
        "screw/train/good/1.png",
        "screw/test/bad/1.png",
    ]);
    let said = folder.error();
    assert!(
        said.contains("folders of splits are in bottle, screw, and they hold further folders, such as bottle/"),
        "{said}"
    );
    // Only one of the classes has splits.
    let folder = Folder::new();
    folder.images(&["bottle/train/0.png", "bottle/test/1.png", "screw/0.png"]);
    let said = folder.error();
    assert!(said.contains("folders of splits are in bottle, but screw have other images, too"), "{said}");
}

#[test]
fn only_splits_and_a_copy_within_are_refused() {
    let folder = Folder::new();
    folder.images(&["val/0.png", "test/0.png"]);
    let said = folder.error();
    assert!(said.contains("test/, val/ are named like splits rather than classes"), "{said}");
    assert_eq!(with_line(&folder, &said).tasks[0].classes(), ["test", "val"]);
    let folder = Folder::new();
    folder.images(&["train2017/0.png", "val2017/0.png"]);
    assert!(folder.error().contains("train2017/, val2017/ are named like splits"), "{}", folder.error());
    let folder = Folder::new();
    folder.images(&["cat/0.png", "dog/0.png", "pets/cat/0.png", "pets/dog/0.png"]);
    let said = folder.error();
    assert!(said.contains("pets/ holds folders with the names of those beside it (cat, dog)"), "{said}");
    let folder = Folder::new();
    folder.images(&["cat/0.png", "dog/0.png", "test/cat/0.png", "test/dog/0.png"]);
    let said = folder.error();
    let line = "{train: ., test: test, tasks: {class: {type: classify, from: folders}}}";
    assert!(said.contains(&format!("if test/ is the test split, write `{line}`")), "{said}");
    folder.text("data.yaml", line);
    let dataset = folder.open();
    assert_eq!((dataset.tasks[0].classes().len(), dataset.test.len()), (2, 2));
}

#[test]
fn label_files_beside_class_folders_are_not_passed_over() {
    let cases = [("json", "{\"shapes\": []}", "4 .json label files such as cat/0.json would not be read")];
    for (ending, text, words) in cases {
        let folder = Folder::new();
        folder.images(&["cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png"]);
        for name in ["cat/0", "cat/1", "dog/0", "dog/1"] {
            folder.text(&format!("{name}.{ending}"), text);
        }
        let said = folder.error();
        assert!(said.contains(words) && said.contains("while the folders cat, dog would be the classes"), "{said}");
        assert_eq!(with_line(&folder, &said).tasks[0].classes(), ["cat", "dog"]);
    }
    // A table of the images and a COCO file of another name; captions and a readme say nothing about classes.
    let folder = Folder::new();
    folder.images(&["cat/0.png", "cat/1.png", "dog/2.png", "dog/3.png"]);
    folder.text("cat/0.txt", "a cat on a mat\n").text("readme.txt", "").text("names.json", "{}");
    assert_note(&folder.open(), "label files that are not read: 1 .json file (such as names.json)");
    folder.text("labels.csv", "image,price\n0.png,1.5\n1.png,2.5\n2.png,3.5\n3.png,4.5\n");
    let said = folder.error();
    assert!(said.contains("labels.csv looks like labels of these images and would not be read"), "{said}");
    assert!(said.contains("price: {type: regress, from: {csv: labels.csv, column: price}}"), "{said}");
}

#[test]
fn folder_names_match_regardless_of_case() {
    let row = "0 0.5 0.5 0.5 0.5\n";
    for [images, labels] in [["Images", "Labels"], ["IMAGES", "LABELS"], ["images", "Labels"], ["Images", "labels"]] {
        let folder = Folder::new();
        folder.images(&[&format!("{images}/a.png"), &format!("{images}/b.png")]);
        folder.text(&format!("{labels}/a.txt"), row).text(&format!("{labels}/b.txt"), row);
        let dataset = folder.open();
        assert!(dataset.layout.starts_with("YOLO"), "{}", dataset.layout);
        assert!(dataset.train.iter().chain(&dataset.val).all(|sample| sample.labels[0].boxes().unwrap().len() == 1));
    }
    let folder = Folder::new();
    folder.images(&["jpegimages/a.png", "jpegimages/b.png"]);
    let voc = "<annotation><object><name>cat</name><bndbox><xmin>5</xmin><ymin>3</ymin><xmax>19</xmax><ymax>9</ymax></bndbox></object></annotation>";
    folder.text("annotations/a.xml", voc).text("annotations/b.xml", voc).text("imagesets/main/train.txt", "a\n");
    folder.text("imagesets/main/val.txt", "b\n");
    let dataset = folder.open();
    assert_eq!((dataset.train.len(), dataset.val.len()), (1, 1));
}
