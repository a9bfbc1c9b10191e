//! The fuzz targets: for every reader of the user's files, a function that takes the bytes of such a file. It may refuse them with
//! an error, but must not panic. `tests/suite/fuzz.rs` calls them with the kept inputs, `tests/fuzz/src/main.rs` from libFuzzer.

mod archives;
mod folder;
mod images;
mod labels;
mod runs;
mod weights;

/// A function that reads the bytes of a file.
pub type Target = fn(&[u8]);

/// The targets, each under the name of its folder in `tests/fuzz/corpus/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("parquet", archives::parquet),
    ("tar", archives::tar),
    ("zip", archives::zip),
    ("bdd", labels::bdd),
    ("box_rows", labels::box_rows),
    ("classes", labels::classes),
    ("coco", labels::coco),
    ("darknet", labels::darknet),
    ("createml", labels::createml),
    ("cvat", labels::cvat),
    ("data_yaml", labels::data_yaml),
    ("datumaro", labels::datumaro),
    ("image_list", labels::image_list),
    ("label_table", labels::label_table),
    ("kitti", labels::kitti),
    ("label_studio", labels::label_studio),
    ("labelme", labels::labelme),
    ("metadata", labels::metadata),
    ("table", labels::table),
    ("via", labels::via),
    ("voc", labels::voc),
    ("voc_beside", labels::voc_beside),
    ("vott", labels::vott),
    ("yolo", labels::yolo),
    ("cache", images::cache),
    ("image", images::image),
    ("jpeg", images::jpeg),
    ("card", weights::card),
    ("pickle", weights::pickle),
    ("safetensors", weights::safetensors),
    ("state", weights::state),
    ("torch_zip", weights::torch_zip),
    ("args", runs::args),
    ("coco_results", runs::coco_results),
    ("results", runs::results),
];
