//! Weights files of other programs: recognised by their content, found under keys and behind prefixes, and refused if they are of
//! another architecture. The files are built here, byte by byte.

use crate::cli::{fail, path, run, text};
use crate::hostile_pickle as pickles;
use crate::step::Folder;
use candle_core::{DType, Device, Tensor};
use polyhead::executor::{ParameterSet, Store};
use polyhead::ir::{Graph, Mode};
use polyhead::model::start::{Started, start_from};
use polyhead::model::weights::{self, Slot, Tensors};
use polyhead::model::{Architecture, Backbone, ModelFile, init};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Tensors of f32 as a pickled dict, with the numbers of each storage.
fn pickled(tensors: &Tensors) -> (Vec<u8>, Vec<(String, Vec<u8>)>) {
    let (mut entries, mut numbers) = (Vec::new(), Vec::new());
    for (index, (name, tensor)) in tensors.iter().enumerate() {
        let shape: Vec<i64> = tensor.dims().iter().map(|&side| side as i64).collect();
        let strides: Vec<i64> = (0..shape.len()).map(|i| shape[i + 1..].iter().product()).collect();
        let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let storage = pickles::storage("FloatStorage", &index.to_string(), values.len() as i64);
        entries.push((name.as_str(), pickles::tensor(storage, 0, &shape, &strides)));
        numbers.push((index.to_string(), values.into_iter().flat_map(f32::to_le_bytes).collect()));
    }
    (pickles::dict(&entries), numbers)
}

/// A file of today's PyTorch with `tensors` under `keys`, the outermost first.
fn zip(tensors: &Tensors, keys: &[&str]) -> Vec<u8> {
    let (dict, numbers) = pickled(tensors);
    let value =
        keys.iter().rev().fold(dict, |value, key| pickles::dict(&[("epoch", pickles::text("9")), (*key, value)]));
    let pickle = pickles::pickle(value);
    let names: Vec<String> = numbers.iter().map(|(key, _)| format!("data/{key}")).collect();
    let storages = names.iter().map(String::as_str).zip(numbers.iter().map(|(_, bytes)| bytes.as_slice()));
    let entries: Vec<(&str, &[u8])> = std::iter::once(("data.pkl", pickle.as_slice())).chain(storages).collect();
    pickles::archive(&entries)
}

/// A file of PyTorch before 1.6.
fn legacy(tensors: &Tensors) -> Vec<u8> {
    let (dict, numbers) = pickled(tensors);
    let counted = |bytes: &Vec<u8>| [&(bytes.len() as u64 / 4).to_le_bytes()[..], bytes].concat();
    let keys: Vec<&str> = numbers.iter().map(|(key, _)| key.as_str()).collect();
    pickles::legacy(dict, &keys, &numbers.iter().flat_map(|(_, bytes)| counted(bytes)).collect::<Vec<u8>>())
}

fn graph(backbone: Backbone) -> (Architecture, Graph) {
    let architecture = Architecture::new(backbone, Vec::new(), 64, 0.0);
    let graph = architecture.network([1, 64, 64], Mode::Evaluate).unwrap().graph;
    (architecture, graph)
}

/// The trunk of a tiny network that starts from `seed`.
fn store(seed: u64) -> (Architecture, Store) {
    let (architecture, graph) = graph(Backbone::Tiny);
    let mut store = Store::new(&graph.parameters, &graph.buffers).unwrap();
    init::initialise(&mut store, seed);
    (architecture, store)
}

fn tensors(store: &Store) -> Tensors {
    let set = ParameterSet::Current;
    let mut tensors = weights::export_parameters(store, Slot::Set(set), "").unwrap();
    tensors.append(&mut weights::export_buffers(store, set, "").unwrap());
    tensors
}

fn trunk() -> Tensors {
    tensors(&store(7).1)
}

fn values(tensors: &Tensors) -> Vec<(String, Vec<u32>)> {
    let bits = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect();
    tensors.iter().map(|(name, tensor)| (name.clone(), bits(tensor))).collect()
}

fn with_prefix(tensors: &Tensors, prefix: &str) -> Tensors {
    tensors.iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor.clone())).collect()
}

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
}

fn written(folder: &Folder, name: &str, bytes: &[u8]) -> PathBuf {
    let file = folder.path.join(name);
    std::fs::write(&file, bytes).unwrap();
    file
}

/// Starts a tiny trunk from a file, and returns what it then has.
fn started(file: &Path) -> Result<(Started, Tensors), String> {
    let (architecture, mut store) = store(0);
    let read = weights::read(file).map_err(|e| e.to_string())?;
    let started = start_from(&mut store, &architecture, read, file).map_err(|e| e.to_string())?;
    Ok((started, tensors(&store)))
}

#[test]
fn a_file_is_recognised_by_its_content_whatever_its_name() {
    let folder = Folder::new("endings");
    let whole = trunk();
    let safetensors = folder.path.join("a.safetensors");
    weights::write(&safetensors, &whole, HashMap::new()).unwrap();
    for (format, bytes) in
        [("zip", zip(&whole, &[])), ("legacy", legacy(&whole)), ("safetensors", std::fs::read(&safetensors).unwrap())]
    {
        for name in ["w.pth.tar", "w.ckpt", "w.PTH", "w.pth", "w.pt", "w.bin", "w", "w.safetensors", "w.SafeTensors"] {
            let read =
                weights::read(&written(&folder, name, &bytes)).unwrap_or_else(|e| panic!("{format} {name}: {e}"));
            assert!(values(&read.tensors) == values(&whole), "{format} {name}");
        }
    }
    for (name, bytes, expected) in [
        ("page.ckpt", &b"<!DOCTYPE html>"[..], "page.ckpt: not a weights file (it begins neither as safetensors"),
        ("empty", b"", "empty: not a weights file"),
        ("page.safetensors", b"<!DOCTYPE html>", "page.safetensors: not a complete safetensors file"),
    ] {
        let error = weights::read(&written(&folder, name, bytes)).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn weights_are_found_under_keys_and_behind_prefixes_and_a_note_says_so() {
    let folder = Folder::new("prefixes");
    let whole = trunk();
    let under = |keys: &str| vec![format!("the weights are taken from {keys} of the weights file")];
    for (keys, expected) in [
        (&["model_state_dict"][..], "`model_state_dict`"),
        (&["state_dict"], "`state_dict`"),
        (&["model"], "`model`"),
        (&["net"], "`net`"),
        (&["ema"], "`ema`"),
        (&["model_ema"], "`model_ema`"),
        (&["ema", "state_dict"], "`state_dict` in `ema`"),
    ] {
        let (said, got) = started(&written(&folder, "w.ckpt", &zip(&whole, keys))).unwrap();
        assert!(values(&got) == values(&whole), "{keys:?}");
        assert_eq!(said, Started { notes: under(expected), ..Started::default() }, "{keys:?}");
    }
    for prefix in ["module.", "_orig_mod.", "model.", "backbone.", "encoder.", "model.backbone.", "module._orig_mod."] {
        let mut prefixed = with_prefix(&whole, prefix);
        // The head is often outside the trunk's module, and a name without the prefix may be in its way.
        prefixed.extend([("head.weight".to_owned(), zeros(&[2, 64])), ("bn1.bias".to_owned(), zeros(&[8]))]);
        let note = format!(
            "the names in the weights file begin with `{prefix}`, which is left out; `bn1.bias` without it is not used"
        );
        let expected = Started { missing: Vec::new(), unexpected: vec!["head.weight".into()], notes: vec![note] };
        let plain = folder.path.join("w.safetensors");
        weights::write(&plain, &prefixed, HashMap::new()).unwrap();
        for file in [plain, written(&folder, "w.pth", &zip(&prefixed, &[]))] {
            let (said, got) = started(&file).unwrap();
            assert!(values(&got) == values(&whole), "{prefix}");
            assert_eq!(said, expected, "{prefix}");
        }
    }
    // Lightning has both.
    let (said, got) =
        started(&written(&folder, "l.ckpt", &zip(&with_prefix(&whole, "model."), &["state_dict"]))).unwrap();
    assert!(values(&got) == values(&whole) && said.notes.len() == 2, "{said:?}");
    // Names with another prefix are not guessed at.
    let error = started(&written(&folder, "o.pth", &zip(&with_prefix(&whole, "other."), &[]))).unwrap_err();
    assert!(error.contains("holds no tensor of this model"), "{error}");
}

#[test]
fn training_does_not_start_from_a_trunk_with_other_parts() {
    let folder = Folder::new("other-trunk");
    let start = |name: &str| {
        let mut tensors = trunk();
        tensors.insert(name.to_owned(), zeros(&[2]));
        started(&written(&folder, "w.pth", &zip(&tensors, &[])))
    };
    for part in [
        "layer1.0.se.fc1.weight",
        "layer5.0.conv1.weight",
        "layer1.1.conv1.weight",
        "conv1.0.weight",
        "bn2.bias",
        "norm.weight",
    ] {
        let error = start(part).unwrap_err();
        assert!(error.contains(&format!("w.pth: its trunk has `{part}`, which --backbone tiny lacks")), "{error}");
    }
    let mut less = trunk();
    less.remove("layer4.0.conv2.weight").unwrap();
    let error = started(&written(&folder, "w.pth", &zip(&less, &[]))).unwrap_err();
    assert!(error.contains("its trunk lacks `layer4.0.conv2.weight`, which --backbone tiny has"), "{error}");
    for other in ["fc.weight", "head.fc.bias", "classifier.0.weight", "projector.weight", "bn1.num_batches_tracked"] {
        let unexpected = if other.ends_with("tracked") { Vec::new() } else { vec![other.to_owned()] };
        assert_eq!(start(other).unwrap().0, Started { unexpected, ..Started::default() });
    }
}

/// A ResNet-18 whose tensors repeat one number, so that its files are small. `change` replaces shapes, or adds tensors.
fn resnet18(prefix: &str, keys: &[&str], change: &[(&str, &[i64])]) -> Vec<u8> {
    let (_, graph) = graph(Backbone::Resnet18);
    let shapes = graph.parameters.iter().map(|p| (p.name.clone(), &p.shape));
    let shapes = shapes.chain(graph.buffers.iter().map(|b| (b.name.clone(), &b.shape)));
    let in_file = |shape: &Vec<usize>| match shape[..] {
        [k, r, s, c] => [k, c, r, s].map(|side| side as i64).to_vec(),
        _ => shape.iter().map(|&side| side as i64).collect(),
    };
    let mut shapes: HashMap<String, Vec<i64>> = shapes.map(|(name, shape)| (name, in_file(shape))).collect();
    shapes.extend([("fc.weight".into(), vec![3, 512]), ("fc.bias".into(), vec![3])]);
    shapes.insert("bn1.num_batches_tracked".into(), Vec::new());
    shapes.extend(change.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())));
    let repeated =
        |shape: &Vec<i64>| pickles::tensor(pickles::storage("ByteStorage", "0", 1), 0, shape, &vec![0; shape.len()]);
    let tensors: Vec<(String, Vec<u8>)> =
        shapes.iter().map(|(name, shape)| (format!("{prefix}{name}"), repeated(shape))).collect();
    let entries: Vec<(&str, Vec<u8>)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect();
    let value = keys.iter().rev().fold(pickles::dict(&entries), |value, key| pickles::dict(&[(*key, value)]));
    pickles::archive(&[("data.pkl", &pickles::pickle(value)), ("data/0", &[0])])
}

#[test]
fn variants_of_a_resnet_are_not_used_as_a_plain_one() {
    let folder = Folder::new("variants");
    let read = |bytes: &[u8]| ModelFile::read(&written(&folder, "w.ckpt", bytes), None);
    let plain = read(&resnet18("", &[], &[])).unwrap();
    assert_eq!((plain.card.architecture.backbone, plain.notes), (Backbone::Resnet18, Vec::new()));
    let wrapped = read(&resnet18("model.module.", &["state_dict"], &[])).unwrap();
    assert_eq!(wrapped.card.architecture.backbone, Backbone::Resnet18);
    assert_eq!(
        wrapped.notes,
        [
            "the weights are taken from `state_dict` of the weights file",
            "the names in the weights file begin with `model.module.`, which is left out",
        ]
    );
    for (change, expected) in [
        ([("layer1.0.se.fc1.weight", &[8, 64, 1, 1][..])], "`layer1.0.se.fc1.weight` is not a part of a resnet18"),
        ([("layer5.0.conv1.weight", &[64, 64, 3, 3])], "`layer5.0.conv1.weight` is not a part"),
        ([("layer2.2.conv1.weight", &[128, 128, 3, 3])], "`layer2.2.conv1.weight` is not a part"),
        ([("conv1.0.weight", &[32, 3, 3, 3])], "`conv1.0.weight` is not a part"),
        ([("aux.weight", &[2])], "`aux.weight` is not a part"),
        (
            [("layer1.0.conv2.weight", &[64, 2, 3, 3])],
            "`layer1.0.conv2.weight` has shape [64, 2, 3, 3] in the file and [64, 64, 3, 3] in the model",
        ),
    ] {
        let error = read(&resnet18("", &[], &change)).err().unwrap().to_string();
        let whole =
            error.contains("w.ckpt: ") && error.contains("another architecture than ResNet-18, -34, -50 or -101");
        assert!(whole && error.contains(expected) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn commands_refuse_a_variant_and_say_what_they_read() {
    let folder = Folder::new("variant-commands");
    let data = crate::cli::digits(&folder, 8);
    let write = |name: &str, bytes: &[u8]| written(&folder, name, bytes).to_string_lossy().into_owned();
    let variant = write("se.pth.tar", &resnet18("", &[], &[("layer1.0.se.fc1.weight", &[8, 64, 1, 1])]));
    let (images, out, project) = (format!("{data}/val"), path(&folder, "out"), path(&folder, "runs/train"));
    let words = ["se.pth.tar", "layer1.0.se.fc1.weight", "another architecture"];
    fail(&["predict", &variant, &images, "--out", &out], 1, &words);
    fail(&["evaluate", &variant, &data], 1, &words);
    let wrapped = write("wrapped.pth.tar", &resnet18("model.", &["state_dict"], &[]));
    let output = run(&["predict", &wrapped, &images, "--out", &out, "--no-images", "--imgsz", "32"]);
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("note: the weights are taken from `state_dict`"), "{said}");
    assert!(said.contains("note: the names in the weights file begin with `model.`"), "{said}");
    let mut tensors = with_prefix(&trunk(), "module.");
    let file = write("wrapped.ckpt", &zip(&tensors, &["state_dict"]));
    let args = |file: &str| {
        let own = ["train", &data, "--project", &project, "--weights", file, "--epochs", "1", "--dry-run"];
        run(&[&own, &crate::cli::SMALL[..]].concat())
    };
    let said = text(&args(&file).stderr);
    assert!(said.contains("dry run passed"), "{said}");
    assert!(said.contains("note: the weights are taken from `state_dict` of the weights file"), "{said}");
    assert!(said.contains("note: the names in the weights file begin with `module.`"), "{said}");
    tensors.insert("module.layer1.0.se.fc1.weight".into(), zeros(&[8, 8, 1, 1]));
    let refused = args(&write("variant.ckpt", &zip(&tensors, &[])));
    let said = text(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains("its trunk has `layer1.0.se.fc1.weight`"), "{said}");
}
