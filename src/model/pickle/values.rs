//! The values of a pickle, as far as tensors need them. They refer to each other by number, so that sharing costs
//! nothing, a cycle is harmless, and dropping them never recurses.

use super::Fault;
use candle_core::DType;
use std::collections::HashMap;

/// A value's index in [`Pickle::values`].
pub type Id = u32;

/// Stands for every value that tensors do not need: floats, bytes, sets, objects of unknown classes.
pub const OPAQUE: Id = 0;

#[derive(Debug)]
pub enum Value {
    Opaque,
    None,
    Int(i64),
    Text(Box<str>),
    Tuple(Box<[Id]>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(StorageView),
    /// The arguments of `torch._utils._rebuild_tensor_v2`, a tuple, which is checked when the tensor is built.
    Tensor(Id),
}

/// The callables that a pickle may name, by the result of calling them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Global {
    Dict,
    RebuildTensor,
    /// `_rebuild_from_type_v2(rebuild, type, arguments, state)`: a tensor with attributes.
    RebuildFromType,
    /// A wrapper that is ignored; the call yields its first argument.
    First,
    Storage(Element),
    /// Any other name. It is not looked up, and its result is opaque.
    Other,
}

impl Global {
    pub fn named(module: &str, name: &str) -> Global {
        match (module, name) {
            ("collections", "OrderedDict" | "defaultdict") => Global::Dict,
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Global::RebuildTensor,
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Global::First,
            ("torch.nn.parameter", "Parameter") | ("torch", "Size") => Global::First,
            ("torch._tensor", "_rebuild_from_type_v2") => Global::RebuildFromType,
            ("torch" | "torch.cuda" | "torch.storage", _) => {
                Element::of_storage(name).map_or(Global::Other, Global::Storage)
            }
            _ => Global::Other,
        }
    }
}

/// The type of a storage's elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Element {
    /// A type that candle supports.
    As(DType),
    /// Read as 0 and 1.
    Bool,
    /// candle has no such type; stored as 16 bits.
    Int8,
    /// Complex and quantized numbers. They are skipped, so only their size matters.
    Other { bytes: usize },
}

impl Element {
    fn of_storage(class: &str) -> Option<Element> {
        Some(match class {
            "FloatStorage" => Element::As(DType::F32),
            "DoubleStorage" => Element::As(DType::F64),
            "HalfStorage" => Element::As(DType::F16),
            "BFloat16Storage" => Element::As(DType::BF16),
            "ByteStorage" => Element::As(DType::U8),
            "ShortStorage" => Element::As(DType::I16),
            "IntStorage" => Element::As(DType::I32),
            "LongStorage" => Element::As(DType::I64),
            "BoolStorage" => Element::Bool,
            "CharStorage" => Element::Int8,
            "UntypedStorage" | "QInt8Storage" | "QUInt8Storage" | "QUInt4x2Storage" | "QUInt2x4Storage" => {
                Element::Other { bytes: 1 }
            }
            "QInt32Storage" => Element::Other { bytes: 4 },
            "ComplexFloatStorage" => Element::Other { bytes: 8 },
            "ComplexDoubleStorage" => Element::Other { bytes: 16 },
            _ => return None,
        })
    }

    /// Size of an element in the file.
    pub fn bytes(self) -> usize {
        match self {
            Element::As(dtype) => dtype.size_in_bytes(),
            Element::Bool | Element::Int8 => 1,
            Element::Other { bytes } => bytes,
        }
    }

    /// The type of its tensors in candle.
    pub fn dtype(self) -> Option<DType> {
        match self {
            Element::As(dtype) => Some(dtype),
            Element::Bool => Some(DType::U8),
            Element::Int8 => Some(DType::I16),
            Element::Other { .. } => None,
        }
    }
}

/// A block of numbers that is stored outside the pickle under `key`.
#[derive(Debug)]
pub struct Storage {
    pub key: Box<str>,
    pub element: Element,
    /// Number of elements.
    pub len: u64,
}

impl Storage {
    pub fn bytes(&self) -> Result<u64, Fault> {
        let bytes = self.len.checked_mul(self.element.bytes() as u64);
        bytes.ok_or_else(|| Fault::Damaged(format!("storage `{}` would have {} numbers", self.key, self.len)))
    }
}

/// A storage with a start offset; PyTorch before 0.4 wrote views of storages.
#[derive(Clone, Copy, Debug)]
pub struct StorageView {
    pub storage: usize,
    pub offset: u64,
}

/// A completely read pickle.
#[derive(Debug)]
pub struct Pickle {
    pub values: Vec<Value>,
    pub root: Id,
    pub storages: Vec<Storage>,
    pub storage_of: HashMap<Box<str>, usize>,
}

impl Pickle {
    pub fn value(&self, id: Id) -> &Value {
        // An Id is only made by pushing a value, so the index is valid.
        &self.values[id as usize]
    }

    /// A tuple's or a list's items; empty for other values.
    pub fn items(&self, id: Id) -> &[Id] {
        match self.value(id) {
            Value::Tuple(items) => items,
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The entry of a dict; the last one if a key appears twice, as in Python.
    pub fn entry(&self, dict: Id, key: &str) -> Option<Id> {
        let Value::Dict(entries) = self.value(dict) else { return None };
        let is_key = |&&(name, _): &&(Id, Id)| matches!(self.value(name), Value::Text(text) if **text == *key);
        entries.iter().rev().find(is_key).map(|&(_, value)| value)
    }
}
