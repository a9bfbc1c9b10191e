//! Typical PyTorch files (tests/golden/state.py): a module's state dict, training checkpoints that contain one, views of
//! storages, every type of number, the format before zip files, a truncated file.

use crate::step::Folder;
use candle_core::DType;
use polyhead::model::weights::{self, Tensors};
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The script's values for a tensor of this name and length.
fn expected(name: &str, len: usize) -> Vec<f32> {
    let lift = if name.ends_with("running_var") { 3.0 } else { 0.0 };
    (0..len).map(|i| (7 * i % 64) as f32 / 16.0 - 2.0 + lift).collect()
}

fn assert_as_written(tensors: &Tensors, name: &str, shape: &[usize]) {
    let tensor = tensors.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", tensors.keys()));
    assert_eq!(tensor.dims(), shape, "{name}");
    let values: Vec<f32> = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(values, expected(name, values.len()), "{name}");
}

#[test]
fn a_modules_state_dict_and_a_checkpoint_around_one_are_read() {
    for file in ["plain.pth", "nested.pth", "reference.pth", "legacy.pth"] {
        let tensors = weights::read(&golden(file)).unwrap().tensors;
        assert_as_written(&tensors, "conv1.weight", &[4, 3, 3, 3]);
        for name in ["bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var"] {
            assert_as_written(&tensors, name, &[4]);
        }
        assert_as_written(&tensors, "fc.weight", &[2, 4]);
        assert_as_written(&tensors, "fc.bias", &[2]);
    }
}

#[test]
fn a_channels_last_weight_is_read_in_row_major_order() {
    let tensors = weights::read(&golden("channels_last.pth")).unwrap().tensors;
    assert_as_written(&tensors, "conv1.weight", &[4, 3, 3, 3]);
}

#[test]
fn views_of_storages_are_read() {
    let tensors = weights::read(&golden("views.pth")).unwrap().tensors;
    for (name, shape) in [
        ("offset", &[6][..]),
        ("shared", &[4]),
        ("reshaped", &[2, 3]),
        ("transposed", &[3, 4]),
        ("channels_last", &[2, 3, 4, 5]),
        ("every_second", &[8]),
        ("scalar", &[]),
        ("empty", &[0, 3]),
        ("tied", &[6]),
    ] {
        assert_as_written(&tensors, name, shape);
    }
    assert_eq!(tensors["repeated"].to_vec2::<f32>().unwrap(), [[-2.0; 3]; 2]);
    assert_eq!(tensors.len(), 10);
}

#[test]
fn numbers_of_every_type_are_read() {
    let tensors = weights::read(&golden("types.pth")).unwrap().tensors;
    for name in ["float16", "bfloat16", "float32", "float64"] {
        assert_as_written(&tensors, name, &[2, 5]);
    }
    let whole =
        |name: &str| tensors[name].to_dtype(DType::I64).unwrap().flatten_all().unwrap().to_vec1::<i64>().unwrap();
    for name in ["uint8", "int8", "int16", "int32", "int64"] {
        assert_eq!(whole(name), (0..10).map(|i| 7 * i % 64).collect::<Vec<i64>>(), "{name}");
    }
    assert_eq!(whole("bool"), (0..10).map(|i| i64::from(i % 3 == 0)).collect::<Vec<i64>>());
    for (name, dtype) in
        [("float16", DType::F16), ("bfloat16", DType::BF16), ("float64", DType::F64), ("uint8", DType::U8)]
    {
        assert_eq!(tensors[name].dtype(), dtype);
    }
    // Complex numbers are skipped, because candle has none.
    assert_eq!(tensors.len(), 10);
}

/// The file also contains arguments, optimizers, random states and numpy arrays, which are ignored.
#[test]
fn a_whole_training_checkpoint_is_read() {
    for file in ["training.pth", "training_legacy.pth"] {
        let tensors = weights::read(&golden(file)).unwrap().tensors;
        assert_eq!(tensors.len(), 5, "{file}");
        assert_as_written(&tensors, "conv1.weight", &[4, 3, 3, 3]);
        assert_as_written(&tensors, "bn1.weight", &[4]);
        assert_as_written(&tensors, "fc.weight", &[2, 4]);
    }
}

#[test]
fn half_a_file_gives_an_error() {
    let folder = Folder::new("pytorch");
    let cut = folder.path.join("cut.pth");
    let whole = std::fs::read(golden("plain.pth")).unwrap();
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let error = weights::read(&cut).err().unwrap().to_string();
    assert!(error.contains("cut.pth: not a complete PyTorch file") && error.contains("use another copy"), "{error}");
    assert!(!error.contains('\n'), "{error}");
    let error = weights::read(&folder.path.with_extension("pth")).err().unwrap().to_string();
    assert!(error.contains("cannot read"), "{error}");
}
