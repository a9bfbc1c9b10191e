//! PyTorch's files as people have them (tests/golden/state.py): a whole module's state dict, a training checkpoint around
//! one, strides other than row-major, the format before zip files, a file cut in half.

use crate::step::Folder;
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
    let values: Vec<f32> = tensor.to_dtype(candle_core::DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(values, expected(name, values.len()), "{name}");
}

#[test]
fn a_module_s_state_dict_and_a_checkpoint_around_one_are_read() {
    for file in ["plain.pth", "nested.pth", "reference.pth"] {
        let tensors = weights::read(&golden(file)).unwrap().tensors;
        assert_as_written(&tensors, "conv1.weight", &[4, 3, 3, 3]);
        for name in ["bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var"] {
            assert_as_written(&tensors, name, &[4]);
        }
        assert_as_written(&tensors, "fc.weight", &[2, 4]);
        assert_as_written(&tensors, "fc.bias", &[2]);
    }
}

/// Strides other than row-major are not read; the sentence says what to do about it.
#[test]
fn a_channels_last_weight_gets_a_sentence() {
    let error = weights::read(&golden("channels_last.pth")).err().unwrap().to_string();
    assert!(["channels_last.pth", "`conv1.weight`", ".contiguous()"].iter().all(|w| error.contains(w)), "{error}");
}

#[test]
fn the_old_format_and_half_a_file_get_a_sentence() {
    let folder = Folder::new("pytorch");
    let cut = folder.path.join("cut.pth");
    let whole = std::fs::read(golden("plain.pth")).unwrap();
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    for file in [golden("legacy.pth"), cut] {
        let error = weights::read(&file).err().unwrap().to_string();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        assert!(error.contains(&name) && error.contains("not a PyTorch state dict"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}
