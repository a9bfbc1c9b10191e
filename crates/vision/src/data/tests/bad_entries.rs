//! One bad entry is one fault: it is named with its place, its image is unlabelled, and everything else is read.

use super::{Folder, boxes_of, label};
use crate::data::check::{CheckOptions, Examined, check, fix};
use crate::data::convert::Transfer;
use crate::data::{Dataset, OpenOptions, Progress};

fn examined(folder: &Folder) -> Examined {
    let options = CheckOptions { open: OpenOptions::default(), max_broken: 0.01 };
    check(folder.path(), &options, &Progress::default()).unwrap()
}

/// The messages of all problems, each with its kind.
fn problems(examined: &Examined) -> Vec<String> {
    examined.check.problems.iter().map(|one| format!("{:?} {}", one.kind, one.message)).collect()
}

/// A file of COCO annotations of the images 0 to 3 with these annotations.
fn coco(annotations: &str) -> Folder {
    let folder = Folder::new();
    for (number, name) in ["0", "1", "2", "3", "v"].iter().enumerate() {
        let file = folder.path().join(format!("images/{}/{name}.png", if *name == "v" { "val" } else { "train" }));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        image::RgbImage::from_pixel(40, 20, image::Rgb([50 * number as u8, 0, 90])).save(file).unwrap();
    }
    let categories = r#""categories": [{"id": 1, "name": "cat"}]"#;
    let images: Vec<String> = (0..4).map(|i| format!(r#"{{"id": "{i}", "file_name": "{i}.png"}}"#)).collect();
    let train = format!(r#"{{"images": [{}], "annotations": [{annotations}], {categories}}}"#, images.join(", "));
    let val = format!(
        r#"{{"images": [{{"id": 1, "file_name": "v.png"}}], "annotations": [{{"image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2]}}], {categories}}}"#
    );
    folder.text("annotations/train.json", &train).text("annotations/val.json", &val);
    folder
}

const GOOD: &str = r#"{"image_id": 1.0, "category_id": "1", "bbox": [1, 2, 3, 4], "iscrowd": false}"#;

#[test]
fn a_bad_annotation_leaves_its_image_unlabelled_and_the_others_as_they_are() {
    for (bad, message) in [
        (r#""bbox": null"#, "no `bbox` and no polygon: give the left, top, width and height in pixels"),
        (r#""area": 3"#, "no `bbox` and no polygon: give the left, top, width and height in pixels"),
        (r#""bbox": [1, NaN, 3, 4]"#, "`bbox` holds `NaN`: expected the left, top, width and height in pixels"),
        (r#""bbox": [1, 2, 3, 4, 0.5]"#, "`bbox` has 5 numbers: expected the left, top, width and height in pixels"),
        (r#""bbox": "none""#, "`bbox` holds `none`: expected the left, top, width and height in pixels"),
        (r#""bbox": [1, 2, 3, 4], "iscrowd": "x""#, "`iscrowd` holds `x`: expected 0 or 1"),
    ] {
        let folder = coco(&format!(
            r#"{GOOD}, {{"image_id": 2, "category_id": 1, {bad}}}, {{"image_id": "2", "category_id": 1, "bbox": [1, 1, 2, 2]}}"#
        ));
        let found = examined(&folder);
        assert_eq!(problems(&found), [format!("Label annotations[1]: {message}")]);
        let coverage = &found.check.coverage.tasks[0].splits[0];
        assert_eq!((coverage.labelled, coverage.empty, coverage.unlabelled), (1, 2, 1), "{bad}");
        assert_eq!(folder.error(), format!("DIR/annotations/train.json: annotations[1]: {message}"));
    }
    let folder = coco(&format!("{GOOD}, 7"));
    assert_eq!(problems(&examined(&folder)), ["Label annotations[1]: expected an object, `{…}`"]);
}

#[test]
fn a_polygon_gives_the_box_if_there_is_none() {
    let folder = coco(&format!(
        r#"{GOOD}, {{"image_id": 2, "category_id": 1, "segmentation": [[5, 6, 9, 6, 9, 8], [7, 3, 8, 4]]}}, {{"image_id": 3, "category_id": 1, "bbox": [], "segmentation": [5, 6, 9, 8]}}"#
    ));
    let dataset = folder.open();
    assert_eq!(boxes_of(label(&dataset, "images/train/2.png", 0)), [(0, [5.0, 3.0, 9.0, 8.0], false)]);
    assert_eq!(boxes_of(label(&dataset, "images/train/3.png", 0)), [(0, [5.0, 6.0, 9.0, 8.0], false)]);
    super::assert_note(
        &dataset,
        "2 annotations without `bbox`, for which the bounds of the polygon are used (first: annotations[1])",
    );
}

#[test]
fn the_name_may_stand_in_a_url_and_images_without_annotations_may_be_a_test_split() {
    let folder = coco(GOOD);
    let train = std::fs::read_to_string(folder.path().join("annotations/train.json")).unwrap();
    let urls = train
        .replace(r#""file_name": ""#, r#""coco_url": "http://localhost/train2017/"#)
        .replace(".png", ".png?size=full");
    folder.text("annotations/train.json", &urls);
    folder.images(&["images/test/t.png"]);
    folder.text("annotations/test.json", r#"{"images": [{"id": 1, "file_name": "t.png"}]}"#);
    let dataset = folder.open();
    assert_eq!(boxes_of(label(&dataset, "images/train/1.png", 0)), [(0, [1.0, 2.0, 4.0, 6.0], false)]);
    assert_eq!((dataset.test.len(), dataset.test[0].labels[0].is_labelled()), (1, false));
    super::assert_note(&dataset, "annotations/test.json: no `annotations`, so its image is unlabelled");
    folder.text("annotations/val.json", r#"{"images": [{"id": 1, "file_name": "v.png"}], "categories": []}"#);
    let error = folder.error();
    assert!(error.contains("val.json: no `annotations`: list the boxes of all images there"), "{error}");
}

/// Opens the repaired copy of the data set.
fn repaired(folder: &Folder) -> (String, Dataset) {
    let out = Folder::new();
    let target = out.path().join("copy");
    let fixed = fix(&examined(folder), &target, Transfer::Copy, &Progress::default()).unwrap();
    (fixed.to_string(), Dataset::open(&target, &OpenOptions::default()).unwrap())
}

#[test]
fn swapped_corners_are_named_and_put_right_in_a_copy() {
    let voc = |corners: [u8; 4]| {
        let [x1, y1, x2, y2] = corners;
        format!(
            "<annotation><object><name>cat</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object></annotation>"
        )
    };
    let of_voc = coco(GOOD);
    std::fs::remove_dir_all(of_voc.path().join("annotations")).unwrap();
    of_voc.text("Annotations/0.xml", &voc([20, 11, 9, 4])).text("Annotations/1.xml", &voc([9, 11, 20, 4]));
    of_voc.text("Annotations/2.xml", &voc([9, 4, 9, 11])).text("Annotations/3.xml", &voc([9, 4, 20, 11]));
    of_voc.text("Annotations/v.xml", &voc([9, 4, 20, 11]));
    of_voc.text(
        "data.yaml",
        "train: images/train\nval: images/val\ntasks: {objects: {type: detect, from: {voc: Annotations}}}\n",
    );

    let of_coco = coco(
        r#"{"image_id": 0, "category_id": 1, "bbox": [20, 11, -12, -8]}, {"image_id": 1, "category_id": 1, "bbox": [8, 11, 12, -8]},
        {"image_id": 2, "category_id": 1, "bbox": [8, 3, 0, 8]}, {"image_id": 3, "category_id": 1, "bbox": [8, 3, 12, 8]}"#,
    );
    let of_table = coco(GOOD);
    std::fs::remove_dir_all(of_table.path().join("annotations")).unwrap();
    of_table.text("boxes.csv", "filename,class,xmin,ymin,xmax,ymax\n0.png,cat,20,11,8,3\n1.png,cat,8,11,20,3\n2.png,cat,8,3,8,11\n3.png,cat,8,3,20,11\nv.png,cat,8,3,20,11\n");
    for folder in [of_voc, of_coco, of_table] {
        let found = examined(&folder);
        let problems = problems(&found);
        for words in [
            "SwappedCorners xmax is left of xmin, so the image is unlabelled",
            "SwappedCorners ymax is above ymin, so the image is unlabelled",
        ] {
            let [kind, sentence] = [&words[..14], &words[15..]];
            let is_said = |problem: &&String| problem.starts_with(kind) && problem.ends_with(sentence);
            assert_eq!(problems.iter().filter(is_said).count(), 1, "{problems:?}");
        }
        // The flat box is the only one of its picture, which is not background for that.
        let coverage = &found.check.coverage.tasks[0].splits[0];
        assert_eq!((coverage.labelled, coverage.empty, coverage.unlabelled), (1, 0, 3));
        super::assert_note(&folder.open(), "objects: 1 box whose xmax is left of xmin, so the image is unlabelled");
        let (said, copy) = repaired(&folder);
        assert!(said.contains("2 boxes with swapped corners put right"), "{said}");
        let boxes: Vec<_> =
            copy.train.iter().map(|sample| sample.labels[0].boxes().map(|boxes| boxes[0].xyxy)).collect();
        let whole = Some([8.0, 3.0, 20.0, 11.0]);
        assert_eq!(boxes, [whole, whole, None, whole]);
    }
}

#[test]
fn a_class_that_yaml_takes_for_a_flag_or_a_number_keeps_its_name() {
    let folder = Folder::new();
    folder.images(&["images/a.png", "images/b.png", "images/c.png", "images/d.png"]);
    let yaml = |names: &str| {
        format!("train: images\nval: images\ntasks:\n  c: {{type: classify, from: {{csv: c.csv}}, names: {names}}}\n")
    };
    for names in [["True", "False"], ["007", "1e3"], ["1.50", "null"], ["~", "NO"]] {
        let [one, other] = names;
        folder.text("c.csv", &format!("file,c\na.png,{one}\nb.png,{other}\nc.png,{one}\nd.png,{other}\n"));
        for written in [format!("[{one}, {other}]"), format!("{{0: {one}, 1: {other}}}")] {
            folder.text("data.yaml", &yaml(&written));
            assert_eq!(folder.open().tasks[0].classes(), names);
        }
    }
}
