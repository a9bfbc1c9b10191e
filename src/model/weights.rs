//! Files of named tensors: reads safetensors and PyTorch's .pth, writes complete safetensors files, and converts
//! tensors between a file (torchvision's KCRS) and the Store (KRSC).

use crate::error::{Error, Result};
use crate::executor::{ParameterSet, Store};
use crate::files;
use crate::ir::{BufferId, ParameterId};
use crate::model::pickle;
use candle_core::{DType, Device, Tensor};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Tensors by their names in torchvision's state dict.
pub type Tensors = BTreeMap<String, Tensor>;

/// A file of tensors and its text metadata.
pub struct StateFile {
    /// All tensors of the file.
    pub tensors: Tensors,
    /// Texts by key; empty for PyTorch's files.
    pub metadata: HashMap<String, String>,
}

/// Reads a .safetensors file, or a PyTorch .pth/.pt/.bin state dict.
///
/// # Errors
/// The file is missing, cut short, or in neither format.
pub fn read(path: &Path) -> Result<StateFile> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("pth" | "pt" | "bin") => Ok(StateFile { tensors: pickle::read(path)?, metadata: HashMap::new() }),
        _ => read_safetensors(path),
    }
}

fn read_safetensors(path: &Path) -> Result<StateFile> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let broken = |e: &dyn std::fmt::Display| {
        Error::checkpoint(
            path,
            format!(
                "not a complete safetensors file ({e}); use another copy, or for a run the other file under weights/"
            ),
        )
    };
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).map_err(|e| broken(&e))?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|e| broken(&e))?;
    Ok(StateFile { tensors: tensors.into_iter().collect(), metadata })
}

/// Writes a safetensors file under another name, syncs it, and renames it to `path`, which is never incomplete.
///
/// # Errors
/// Writing fails; `path` is then unchanged and no other file is left behind.
pub fn write(path: &Path, tensors: &Tensors, metadata: HashMap<String, String>) -> Result<()> {
    files::write_synced(path, &bytes_of(path, tensors, metadata)?)
}

/// Writes like [`write`](fn@write), and keeps the old file of `path` as `previous`.
///
/// # Errors
/// The same.
pub fn write_beside(path: &Path, previous: &Path, tensors: &Tensors, metadata: HashMap<String, String>) -> Result<()> {
    files::write_and_keep(path, previous, &bytes_of(path, tensors, metadata)?)
}

fn bytes_of(path: &Path, tensors: &Tensors, metadata: HashMap<String, String>) -> Result<Vec<u8>> {
    safetensors::serialize(tensors.iter().map(|(k, v)| (k.as_str(), v)), Some(metadata))
        .map_err(|e| Error::checkpoint(path, format!("cannot be written: {e}")))
}

/// Selects one of the vectors that belong to a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The parameters of a set.
    Set(ParameterSet),
    /// Their gradients.
    Gradient,
    /// The optimizer's first moments.
    FirstMoment,
    /// The optimizer's second moments.
    SecondMoment,
}

fn slot(store: &Store, slot: Slot) -> &[f32] {
    match slot {
        Slot::Set(set) => store.set(set).0.f32(),
        Slot::Gradient => store.gradients.f32(),
        Slot::FirstMoment => store.first_moment.f32(),
        Slot::SecondMoment => store.second_moment.f32(),
    }
}

fn slot_mut(store: &mut Store, slot: Slot) -> &mut [f32] {
    match slot {
        Slot::Set(ParameterSet::Current) => store.values.f32_mut(),
        Slot::Set(ParameterSet::Average) => store.average.f32_mut(),
        Slot::Gradient => store.gradients.f32_mut(),
        Slot::FirstMoment => store.first_moment.f32_mut(),
        Slot::SecondMoment => store.second_moment.f32_mut(),
    }
}

/// One of the vectors of all parameters, as KCRS tensors with `prefix` before each name.
///
/// # Errors
/// candle rejects a shape.
pub fn export_parameters(store: &Store, which: Slot, prefix: &str) -> Result<Tensors> {
    let mut tensors = Tensors::new();
    for (i, parameter) in store.parameters.iter().enumerate() {
        let data = &slot(store, which)[store.range(ParameterId(i))];
        let tensor = to_tensor(data, &parameter.shape)?;
        tensors.insert(format!("{prefix}{}", parameter.name), tensor);
    }
    Ok(tensors)
}

/// Running statistics, with `prefix` before each name.
///
/// # Errors
/// candle rejects a shape.
pub fn export_buffers(store: &Store, set: ParameterSet, prefix: &str) -> Result<Tensors> {
    let mut tensors = Tensors::new();
    for (i, buffer) in store.buffers.iter().enumerate() {
        let data = &store.set(set).1.f32()[store.buffer_range(BufferId(i))];
        tensors.insert(format!("{prefix}{}", buffer.name), to_tensor(data, &buffer.shape)?);
    }
    Ok(tensors)
}

/// Missing and unexpected keys of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyReport {
    /// Parameters of the model that the file lacks.
    pub missing: Vec<String>,
    /// Tensors of the file that the model lacks.
    pub unexpected: Vec<String>,
}

/// Copies one of the vectors of all parameters from tensors named `prefix` + name.
///
/// A tensor has another shape than the model's.
/// A tensor of another shape than the model's.
pub fn import_parameters(store: &mut Store, which: Slot, tensors: &Tensors, prefix: &str) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for i in 0..store.parameters.len() {
        let (name, shape) = (store.parameters[i].name.clone(), store.parameters[i].shape.clone());
        let Some(tensor) = tensors.get(&format!("{prefix}{name}")) else {
            missing.push(name);
            continue;
        };
        let range = store.range(ParameterId(i));
        from_tensor(tensor, &name, &shape, &mut slot_mut(store, which)[range])?;
    }
    Ok(missing)
}

/// Copies running statistics from tensors named `prefix` + name.
///
/// # Errors
/// A tensor has another shape than the model's.
pub fn import_buffers(store: &mut Store, set: ParameterSet, tensors: &Tensors, prefix: &str) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for i in 0..store.buffers.len() {
        let (name, shape) = (store.buffers[i].name.clone(), store.buffers[i].shape.clone());
        let Some(tensor) = tensors.get(&format!("{prefix}{name}")) else {
            missing.push(name);
            continue;
        };
        let range = store.buffer_range(BufferId(i));
        let running = match set {
            ParameterSet::Current => store.running.f32_mut(),
            ParameterSet::Average => store.running_average.f32_mut(),
        };
        from_tensor(tensor, &name, &shape, &mut running[range])?;
    }
    Ok(missing)
}

/// Initialises a model from a published file: loads the tensors that both have and lists the others.
///
/// # Errors
/// The file has no tensor of this model, or one with another shape.
pub fn start_from(store: &mut Store, file: &StateFile, path: &Path) -> Result<KeyReport> {
    let mut missing = import_parameters(store, Slot::Set(ParameterSet::Current), &file.tensors, "")
        .and_then(|mut m| {
            m.extend(import_buffers(store, ParameterSet::Current, &file.tensors, "")?);
            Ok(m)
        })
        .map_err(|e| {
            let hint = match e.to_string().contains("`heads.") {
                true => "the task has other classes or columns in the file: give it another name in data.yaml, and its head starts at random",
                false => "is this file for another --backbone?",
            };
            Error::checkpoint(path, format!("{e}; {hint}"))
        })?;
    let known =
        |name: &str| store.parameters.iter().any(|p| p.name == name) || store.buffers.iter().any(|b| b.name == name);
    // num_batches_tracked is PyTorch's own bookkeeping, not a parameter.
    let unexpected: Vec<String> =
        file.tensors.keys().filter(|k| !known(k) && !k.ends_with("num_batches_tracked")).cloned().collect();
    if missing.len() == store.parameters.len() + store.buffers.len() {
        return Err(Error::checkpoint(
            path,
            format!(
                "holds no tensor of this model (its first is `{}`, the model's `{}`): expected torchvision's or timm's ResNet names",
                file.tensors.keys().next().map_or("none", String::as_str),
                store.parameters[0].name
            ),
        ));
    }
    missing.sort();
    store.start_average();
    Ok(KeyReport { missing, unexpected })
}

/// Converts KRSC (or a vector or matrix) to a tensor in torchvision's order.
pub(crate) fn to_tensor(data: &[f32], shape: &[usize]) -> Result<Tensor> {
    let tensor = Tensor::from_slice(data, shape, &Device::Cpu).map_err(of_candle)?;
    match shape.len() {
        4 => tensor.permute((0, 3, 1, 2)).and_then(|t| t.contiguous()).map_err(of_candle),
        _ => Ok(tensor),
    }
}

fn from_tensor(tensor: &Tensor, name: &str, shape: &[usize], out: &mut [f32]) -> Result<()> {
    let ordered = match tensor.rank() {
        4 => tensor.permute((0, 2, 3, 1)),
        _ => Ok(tensor.clone()),
    };
    let ordered = ordered.map_err(of_candle)?;
    if ordered.dims() != shape {
        let expected = match *shape {
            [k, r, s, c] => vec![k, c, r, s],
            _ => shape.to_vec(),
        };
        return Err(Error::Other(format!(
            "`{name}` has shape {:?} in the file and {expected:?} in the model",
            tensor.dims()
        )));
    }
    let values = ordered
        .to_dtype(DType::F32)
        .and_then(|t| t.flatten_all())
        .and_then(|t| t.to_vec1::<f32>())
        .map_err(of_candle)?;
    out.copy_from_slice(&values);
    Ok(())
}

/// candle's errors are already complete sentences.
pub(crate) fn of_candle(e: candle_core::Error) -> Error {
    Error::Other(e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_shape_is_named_in_torchvisions_order() {
        let refused = |in_file: &[usize], shape: &[usize]| {
            let tensor = Tensor::zeros(in_file, DType::F32, &Device::Cpu).unwrap();
            from_tensor(&tensor, "conv1.weight", shape, &mut []).unwrap_err().to_string()
        };
        assert_eq!(
            refused(&[64, 3, 7, 7], &[64, 3, 3, 3]),
            "`conv1.weight` has shape [64, 3, 7, 7] in the file and [64, 3, 3, 3] in the model"
        );
        let said = refused(&[2, 5, 1, 3], &[2, 1, 4, 5]);
        assert!(said.ends_with("[2, 5, 1, 3] in the file and [2, 5, 1, 4] in the model"), "{said}");
        let said = refused(&[7], &[2, 3]);
        assert!(said.ends_with("[7] in the file and [2, 3] in the model"), "{said}");
    }
}
