//! Builds tensors from their description in a pickle: checks shapes, strides and offsets against the storage before
//! allocating, and gathers the numbers into row-major order.

use super::Fault;
use super::torch_file::TorchFile;
use super::values::{Element, Id, Pickle, StorageView, Value};
use crate::model::weights::Tensors;
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;

/// PyTorch's own limit.
const MOST_DIMENSIONS: usize = 64;

/// Each takes about 2 kB at worst, plus its numbers.
const MOST_TENSORS: usize = 100_000;

/// Limit on the memory of all tensors together. Tensors may repeat their storage (`expand`) and share it (tied weights), so
/// they may need more memory than the file has bytes: at most this multiple of it, and small files may always use
/// `ALWAYS_ALLOWED`.
const MOST_TIMES_THE_FILE: u64 = 4;
const ALWAYS_ALLOWED: u64 = 64 << 20;

/// The keys under which training programs save the weights, in the order in which they are tried.
const KEYS: [&str; 7] = ["state_dict", "model_state_dict", "model", "net", "model_ema", "ema", "state_dict_ema"];

/// Finds the dict that holds the weights, and the keys that lead to it, the innermost first. A training checkpoint has them under one
/// key or two, sometimes next to a single tensor (`best_acc1` of PyTorch's own ImageNet example), so the keys are tried before
/// the file as a whole.
///
/// # Errors
/// None of them contains a tensor.
pub fn state_dict(pickle: &Pickle) -> Result<(Id, Vec<&'static str>), Fault> {
    let is_tensor = |&(name, value): &(Id, Id)| {
        matches!((pickle.value(name), pickle.value(value)), (Value::Text(_), Value::Tensor(_)))
    };
    let holds_tensors = |&dict: &Id| match pickle.value(dict) {
        Value::Dict(entries) => entries.iter().any(is_tensor),
        _ => false,
    };
    let under = |dict: Id| KEYS.into_iter().filter_map(move |key| Some((pickle.entry(dict, key)?, key)));
    let once = under(pickle.root).map(|(dict, key)| (dict, vec![key]));
    let twice =
        under(pickle.root).flat_map(|(outer, key)| under(outer).map(move |(dict, inner)| (dict, vec![inner, key])));
    let whole = std::iter::once((pickle.root, Vec::new()));
    match once.chain(twice).chain(whole).find(|(dict, _)| holds_tensors(dict)) {
        Some(found) => Ok(found),
        None => Fault::foreign(format!("it holds no tensors, nor does what it has under {}", KEYS.join(", "))),
    }
}

/// A tensor as described in the pickle, checked against its storage. Offset and strides count elements.
struct View {
    storage: usize,
    element: Element,
    dtype: DType,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
    len: usize,
}

/// Reads every tensor of a dict. Skips complex and quantized ones, which no model here has.
///
/// # Errors
/// A tensor does not fit its storage, a name appears twice, or the tensors need too much memory for the file's size.
pub fn read(file: &mut TorchFile, dict: Id) -> Result<Tensors, Fault> {
    let Value::Dict(entries) = file.pickle.value(dict) else { return Ok(Tensors::new()) };
    let mut views = BTreeMap::new();
    let allowed = file.len.saturating_mul(MOST_TIMES_THE_FILE).saturating_add(ALWAYS_ALLOWED);
    let mut left = allowed;
    for &(name, value) in entries {
        let (Value::Text(name), &Value::Tensor(arguments)) = (file.pickle.value(name), file.pickle.value(value)) else {
            continue;
        };
        let view =
            view_of(&file.pickle, arguments).map_err(|what| Fault::Damaged(format!("tensor `{name}` {what}")))?;
        let Some(view) = view else { continue };
        if views.len() == MOST_TENSORS {
            return Fault::foreign(format!("it holds more than {MOST_TENSORS} tensors"));
        }
        match left.checked_sub((view.len * view.dtype.size_in_bytes()) as u64) {
            Some(rest) => left = rest,
            None => {
                let held = file.len;
                return Fault::foreign(format!(
                    "with `{name}` its tensors take more than {allowed} bytes of memory, while the file has {held}"
                ));
            }
        }
        if views.insert(name.to_string(), view).is_some() {
            return Fault::damaged(format!("tensor `{name}` appears twice"));
        }
    }
    let mut views: Vec<(String, View)> = views.into_iter().collect();
    // Sorted so that each storage is read once, whatever the number of its tensors.
    views.sort_by_key(|(_, view)| view.storage);
    let (mut tensors, mut bytes, mut held) = (Tensors::new(), Vec::new(), None);
    for (name, view) in views {
        if held != Some(view.storage) && view.len > 0 {
            file.read_storage(view.storage, &mut bytes)?;
            held = Some(view.storage);
        }
        let tensor = view.tensor(&bytes).map_err(|e| Fault::Foreign(format!("tensor `{name}`: {e}")))?;
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}

/// Checks a tensor's description (storage, offset, shape, strides, …). `None` if the type of its numbers is not supported.
/// The error is the end of a sentence about the tensor.
fn view_of(pickle: &Pickle, arguments: Id) -> Result<Option<View>, String> {
    let &[storage, offset, shape, strides, ref rest @ ..] = pickle.items(arguments) else {
        return Err("is described by fewer than four parts".into());
    };
    let &Value::Storage(StorageView { storage, offset: storage_offset }) = pickle.value(storage) else {
        return Err("has no storage".into());
    };
    let element = pickle.storages[storage].element;
    // The remaining items are: whether gradients are needed, hooks, and bits that are set only for numbers that were
    // complex.
    let has_bits = rest.get(2).is_some_and(|&bits| matches!(pickle.value(bits), Value::Dict(bits) if !bits.is_empty()));
    let Some(dtype) = element.dtype().filter(|_| !has_bits) else { return Ok(None) };
    let offset = match pickle.value(offset) {
        Value::Int(offset) => u64::try_from(*offset).ok().and_then(|offset| offset.checked_add(storage_offset)),
        _ => None,
    };
    let offset = offset.ok_or("does not begin at an element of its storage")?;
    let (shape, strides) = (sizes(pickle, shape, "shape")?, sizes(pickle, strides, "strides")?);
    if shape.len() != strides.len() {
        return Err(format!("has {} dimensions and {} strides", shape.len(), strides.len()));
    }
    // Sizes of 0 count as 1, because later code multiplies an empty tensor's other sizes.
    let product = shape.iter().try_fold(1_u64, |product, &size| product.checked_mul(size.max(1)));
    let bytes = product.and_then(|product| product.checked_mul(dtype.size_in_bytes() as u64));
    if bytes.is_none_or(|bytes| isize::try_from(bytes).is_err()) {
        return Err(format!("has the impossible shape {shape:?}"));
    }
    let len = shape.iter().product::<u64>() as usize;
    let mut dimensions = shape.iter().zip(&strides).filter(|&(&size, _)| size > 1);
    let last = dimensions.try_fold(offset, |last, (&size, &stride)| last.checked_add((size - 1).checked_mul(stride)?));
    let held = pickle.storages[storage].len;
    if len > 0 && last.is_none_or(|last| last >= held) {
        return Err(format!("reaches past the {held} numbers of its storage"));
    }
    let as_usize = |sizes: Vec<u64>| sizes.into_iter().map(|size| size as usize).collect();
    let (shape, strides) = (as_usize(shape), as_usize(strides));
    Ok(Some(View { storage, element, dtype, offset: offset as usize, shape, strides, len }))
}

/// A list of non-negative integers; `what` names it in errors.
fn sizes(pickle: &Pickle, id: Id, what: &str) -> Result<Vec<u64>, String> {
    if !matches!(pickle.value(id), Value::Tuple(_) | Value::List(_)) {
        return Err(format!("has no {what}"));
    }
    let items = pickle.items(id);
    if items.len() > MOST_DIMENSIONS {
        return Err(format!("has {} dimensions, more than the {MOST_DIMENSIONS} of PyTorch", items.len()));
    }
    let size = |&item: &Id| match pickle.value(item) {
        Value::Int(size) => u64::try_from(*size).map_err(|_| format!("has {size} in its {what}")),
        _ => Err(format!("has values other than whole numbers in its {what}")),
    };
    items.iter().map(size).collect()
}

impl View {
    fn tensor(&self, bytes: &[u8]) -> candle_core::Result<Tensor> {
        let width = self.element.bytes();
        let gathered;
        let numbers: &[u8] = if self.len == 0 {
            &[]
        } else if self.is_row_major() {
            &bytes[self.offset * width..(self.offset + self.len) * width]
        } else {
            gathered = match width {
                1 => self.gather::<1>(bytes),
                2 => self.gather::<2>(bytes),
                4 => self.gather::<4>(bytes),
                _ => self.gather::<8>(bytes),
            };
            &gathered
        };
        match self.element {
            Element::Bool => {
                Tensor::from_vec(numbers.iter().map(|&b| u8::from(b != 0)).collect(), &*self.shape, &Device::Cpu)
            }
            Element::Int8 => {
                Tensor::from_vec(numbers.iter().map(|&b| i16::from(b as i8)).collect(), &*self.shape, &Device::Cpu)
            }
            Element::As(_) | Element::Other { .. } => {
                Tensor::from_raw_buffer(numbers, self.dtype, &self.shape, &Device::Cpu)
            }
        }
    }

    /// The sizes and strides of the dimensions with more than one element, starting from the last.
    fn moving(&self) -> impl Iterator<Item = (usize, usize)> {
        self.shape.iter().copied().zip(self.strides.iter().copied()).rev().filter(|&(size, _)| size > 1)
    }

    fn is_row_major(&self) -> bool {
        let mut expected = 1;
        self.moving().all(|(size, stride)| {
            let as_expected = stride == expected;
            expected *= size;
            as_expected
        })
    }

    /// The elements, of `N` bytes each, in row-major order.
    fn gather<const N: usize>(&self, bytes: &[u8]) -> Vec<u8> {
        let (elements, _) = bytes.as_chunks::<N>();
        let dimensions: Vec<(usize, usize)> = self.moving().collect();
        let mut index = vec![0; dimensions.len()];
        let mut at = self.offset;
        let mut gathered = Vec::with_capacity(self.len * N);
        for _ in 0..self.len {
            gathered.extend_from_slice(&elements[at]);
            for (index, &(size, stride)) in index.iter_mut().zip(&dimensions) {
                *index += 1;
                at += stride;
                if *index < size {
                    break;
                }
                *index = 0;
                at -= size * stride;
            }
        }
        gathered
    }
}
