//! CSV files with one row per box in the common variants, and Roboflow's multi-label table.

use super::{Folder, assert_note, boxes_of, label, of_boxes, of_classes, one_box};
use crate::tasks::Label;
use crate::tasks::multi_label::MultiLabel;

#[test]
fn tensorflows_and_roboflows_columns() {
    let folder = Folder::new();
    folder.images(&["train/a.png", "train/b.png", "valid/a.png"]);
    let header = "filename,width,height,class,xmin,ymin,xmax,ymax\n";
    folder.text(
        "train/_annotations.csv",
        &format!("{header}a.png,40,20,dog,4,2,14,8\na.png,40,20,cat,30,2,44,8\na.png,40,20,cat,3,3,3,8\n"),
    );
    folder.text("valid/_annotations.csv", &format!("{header}a.png,40,20,cat,0,0,5,5\n"));
    let dataset = folder.open();
    assert_eq!((dataset.train.len(), dataset.val.len()), (2, 1));
    assert_eq!(dataset.tasks[0].classes(), ["cat", "dog"]);
    assert_eq!(
        boxes_of(label(&dataset, "train/a.png", 0)),
        [(1, [4.0, 2.0, 14.0, 8.0], false), (0, [30.0, 2.0, 44.0, 8.0], false)]
    );
    assert_eq!(*label(&dataset, "train/b.png", 0), Label::UNLABELLED);
    assert_eq!(*label(&dataset, "valid/a.png", 0), one_box(0, [0.0, 0.0, 5.0, 5.0]));
    for words in [
        "1 box without width or height left out (train/_annotations.csv:4)",
        "1 box reaching beyond the stated image size, clipped to the picture (train/_annotations.csv:3)",
        "1 of 3 images not mentioned in train/_annotations.csv taken as unlabelled",
    ] {
        assert_note(&dataset, words);
    }
    // The same files declared in a data.yaml, with images without a row as background.
    folder.text(
        "data.yaml",
        "train: train\nval: valid\ntasks:\n  pets: {type: detect, from: {csv: [train/_annotations.csv, valid/_annotations.csv]}, missing: background}\n",
    );
    let dataset = folder.open();
    assert_eq!(boxes_of(label(&dataset, "train/a.png", 0)).len(), 2);
    assert_eq!(*label(&dataset, "train/b.png", 0), of_boxes(vec![]));
}

fn retinanet(rows: &str) -> Folder {
    let folder = Folder::new();
    folder.images(&["images/a.png", "images/b.png", "images/c.png", "images/d.png"]);
    folder.text("train.csv", rows).text("val.csv", "images/d.png,1,1,5,5,cat\n");
    folder
}

#[test]
fn keras_retinanets_rows_without_a_header() {
    let rows = "images/a.png,4,2,14,8,dog\nimages/a.png,1,1,5,5,cat\nimages/b.png,,,,,\n";
    let folder = retinanet(rows);
    let dataset = folder.open();
    // The files define the splits; c.png is in none of them.
    assert_eq!((dataset.train.len(), dataset.val.len()), (2, 1));
    assert_eq!(boxes_of(label(&dataset, "images/a.png", 0)).len(), 2);
    assert_eq!(*label(&dataset, "images/b.png", 0), of_boxes(vec![]));
    assert_eq!(dataset.tasks[0].classes(), ["cat", "dog"]);
    folder.text("classes.csv", "dog,0\ncat,1\n");
    assert_eq!(folder.open().tasks[0].classes(), ["dog", "cat"]);
    // An empty first row is a row too.
    let folder = retinanet(&format!("images/c.png,,,,,\n{rows}"));
    assert_eq!(*label(&folder.open(), "images/c.png", 0), of_boxes(vec![]));
}

#[test]
fn open_images_in_parts_with_groups_ignored() {
    let folder = Folder::new();
    folder.images(&["train/0a1b.png", "val/2c3d.png"]);
    let header = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n";
    folder.text(
        "train-annotations-bbox.csv",
        &format!(
            "{header}0a1b,xclick,/m/01g317,1,0.25,0.5,0.1,0.6,0,0,0,0,0\n0a1b,xclick,/m/0c9ph5,1,0,1,0,0.5,0,0,1,0,0\n"
        ),
    );
    folder.text("validation-annotations-bbox.csv", &format!("{header}2c3d,xclick,/m/01g317,1,0,1,0,1,0,0,0,0,0\n"));
    let dataset = folder.open();
    assert_eq!(
        boxes_of(label(&dataset, "train/0a1b.png", 0)),
        [(0, [10.0, 2.0, 20.0, 12.0], false), (1, [0.0, 0.0, 40.0, 10.0], true)]
    );
    assert_eq!(dataset.val.len(), 1);
}

#[test]
fn wrong_rows_say_where_and_what_to_do() {
    let cases = [
        (
            "images/a.png,4,2,14,8,dog\nimages/b.png,4,two,14,8,dog\n",
            ":2: column `y1` holds `two`: expected a number of pixels",
        ),
        (
            "images/a.png,4,2,14,8,dog\nimages/b.png,4,2,14,8,\n",
            ":2: column `class_name` is blank: fill it, or leave all of class and edges blank where nothing is there",
        ),
        (
            "images/a.png,4,2,14,8,dog\nimages/b.png,4,2,14\n",
            ":2: 4 cells, but path,x1,y1,x2,y2,class has 6: quote cells that hold a comma",
        ),
        (
            "images/a.png,4,2,14,8,dog\nimages/b.png,4,2,14,8,cat\nimages/a.png,,,,,\n",
            ":3: `images/a.png` has a row without a box and a row with one (first: line 1): remove one of them",
        ),
        (
            "images/a.png,4,2,14,8,dog\n,4,2,14,8,dog\n",
            ":2: no file name in column `path`: name the image or remove the row",
        ),
    ];
    for (rows, expected) in cases {
        assert_eq!(retinanet(rows).error(), format!("DIR/train.csv{expected}"));
    }
    let folder = retinanet("images/a.png,4,2,14,8,dog\n");
    folder.text("val.csv", "images/d.png,1,1,5,5,bird\n");
    assert_eq!(
        folder.error(),
        "DIR/val.csv:1: class `bird` is not known; task `objects` knows dog; the training split does not contain it: correct it, or list all classes in `names:`"
    );
    folder.text("t.csv", "file,n\nimages/a.png,1\n");
    folder.text("data.yaml", "train: images\ntasks:\n  o: {type: detect, from: {csv: t.csv}}\n");
    assert_eq!(
        folder.error(),
        "DIR/t.csv:1: no table of boxes: expected the columns filename, class, xmin, ymin, xmax, ymax (or x, y, w, h, or bbox), or rows of path,x1,y1,x2,y2,class"
    );
}

#[test]
fn roboflows_table_of_several_labels() {
    let folder = Folder::new();
    folder.images(&["train/a.png", "train/b.png", "train/c.png", "valid/d.png"]);
    folder.text("train/_classes.csv", "filename, sun, rain\na.png, 1, 0\nb.png, 1, 1\n");
    folder.text("valid/_classes.csv", "filename, rain, sun\nd.png, 1, 0\n");
    let dataset = folder.open();
    assert!(dataset.layout.starts_with("several labels per image from train/_classes.csv in"), "{}", dataset.layout);
    let classes = vec!["sun".to_string(), "rain".to_string()];
    assert_eq!(dataset.tasks[0].spec.get(), Some(&MultiLabel::new(classes)));
    assert_eq!(*label(&dataset, "train/a.png", 0), of_classes(vec![Some(true), Some(false)]));
    assert_eq!(*label(&dataset, "train/c.png", 0), Label::UNLABELLED);
    // Columns are matched by name, not by position.
    assert_eq!(*label(&dataset, "valid/d.png", 0), of_classes(vec![Some(false), Some(true)]));
    folder.text("valid/_classes.csv", "filename,rain,sun\nd.png,1,maybe\n");
    assert_eq!(
        folder.error(),
        "DIR/valid/_classes.csv:2: column `sun` holds `maybe`; expected 1 (present) or 0 (absent), or a blank cell for unlabelled"
    );
}

#[test]
fn left_top_width_and_height_in_columns_or_in_one_cell() {
    let of_images = |folder: &Folder| {
        let dataset = folder.open();
        let boxes: Vec<_> =
            ["train/a.png", "train/b.png"].map(|name| boxes_of(label(&dataset, name, 0))).into_iter().collect();
        (boxes, dataset)
    };
    let expected = [vec![(0, [4.0, 2.0, 14.0, 8.0], false)], vec![(1, [1.0, 1.5, 5.0, 5.0], false)]];
    for (header, columns) in [
        ("image,label,x,y,w,h", "`x`, `y`, `w`, `h`"),
        ("filename,class,x,y,width,height", "`x`, `y`, `width`, `height`"),
        ("file_name,category,bbox_x,bbox_y,bbox_width,bbox_height", "`bbox_x`, `bbox_y`, `bbox_width`, `bbox_height`"),
    ] {
        let folder = Folder::new();
        folder.images(&["train/a.png", "train/b.png", "val/c.png"]);
        folder.text("train.csv", &format!("{header}\na.png,cat,4,2,10,6\nb.png,dog,1,1.5,4,3.5\n"));
        folder.text("val.csv", &format!("{header}\nc.png,cat,1,1,2,2\n"));
        let (boxes, dataset) = of_images(&folder);
        assert_eq!(boxes, expected, "{header}");
        assert_note(&dataset, &format!("train.csv: {columns} are read as left, top, width and height of a box"));
    }
    // One cell, names without endings, and no column of classes.
    let folder = Folder::new();
    folder.images(&["train/a.png", "train/b.png"]);
    folder.text(
        "train.csv",
        "image_id,width,height,bbox,source\na,40,20,\"[4.0, 2.0, 10.0, 6.0]\",x\nb,40,20,\"1 1.5 4 3.5\",y\n",
    );
    let dataset = folder.open();
    assert_eq!(dataset.tasks[0].classes(), ["object"]);
    assert_eq!(boxes_of(label(&dataset, "train/a.png", 0)), [(0, [4.0, 2.0, 14.0, 8.0], false)]);
    assert_note(&dataset, "so every box is of the class `object`");
    folder.text("train.csv", "image_id,bbox\na,\"[4.0, NaN, 10.0, 6.0]\"\nb,\"1 1 4 3\"\n");
    assert_eq!(
        folder.error(),
        "DIR/train.csv:2: column `bbox` holds `[4.0, NaN, 10.0, 6.0]`: expected [left, top, width, height] in pixels"
    );
}

#[test]
fn open_images_codes_have_names_in_another_table() {
    let folder = Folder::new();
    folder.images(&["train/a.png", "train/b.png"]);
    let header = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax";
    folder.text(
        "train-boxes.csv",
        &format!("{header}\na,x,/m/01yrx,1,0.1,0.5,0.2,0.9\nb,x,/m/0bt9lr,1,0.1,0.5,0.2,0.9\n"),
    );
    assert_note(
        &folder.open(),
        "train-boxes.csv: classes are called by their codes; to name them, put class-descriptions-boxable.csv beside this file",
    );
    folder.text("oidv7-class-descriptions.csv", "LabelName,DisplayName\n/m/01yrx,Cat\n/m/0bt9lr,Dog\n");
    let dataset = folder.open();
    assert_eq!(dataset.tasks[0].classes(), ["Cat", "Dog"]);
    assert_note(&dataset, "train-boxes.csv: the names of classes are those of oidv7-class-descriptions.csv");
}
