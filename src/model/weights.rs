//! Files of named tensors: reads safetensors and PyTorch's .pth, writes complete safetensors files with a checksum, and
//! converts tensors between a file (torchvision's KCRS) and the Store (KRSC).

use crate::error::{Error, Result};
use crate::executor::store::all_finite;
use crate::executor::{ParameterSet, Store};
use crate::files;
use crate::ir::{BufferId, ParameterId};
use crate::model::pickle;
use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::Path;

/// Tensors by their names in torchvision's state dict.
pub type Tensors = BTreeMap<String, Tensor>;

/// A file of tensors and its text metadata.
pub struct StateFile {
    /// All tensors of the file.
    pub tensors: Tensors,
    /// Texts by key; empty for PyTorch's files.
    pub metadata: HashMap<String, String>,
    /// Notes for the user on choices that were made in reading the file.
    pub notes: Vec<String>,
}

/// Reads a safetensors file, or a state dict that PyTorch wrote. The content decides which it is, whatever the file's name.
///
/// # Errors
/// The file is missing, cut short, in neither format, or differs from its checksum, or a number is NaN or infinite.
pub fn read(path: &Path) -> Result<StateFile> {
    let file = match format_of(path)? {
        Format::Pickle => {
            let (tensors, notes) = pickle::read(path)?;
            StateFile { tensors, metadata: HashMap::new(), notes }
        }
        Format::Safetensors => read_safetensors(path)?,
    };
    match file.tensors.iter().find(|(_, tensor)| !is_finite(tensor)) {
        None => Ok(file),
        Some((name, _)) => Err(Error::checkpoint(
            path,
            format!("`{name}` has numbers that are NaN or infinite, so the weights are useless; {OTHERS}"),
        )),
    }
}

/// The formats of weights files.
enum Format {
    Safetensors,
    Pickle,
}

/// The format of a file, from its first bytes. A file that begins as neither counts as safetensors if it is named so, and is then
/// refused as damaged.
fn format_of(path: &Path) -> Result<Format> {
    let mut head = Vec::new();
    let opened = files::open(path).and_then(|file| file.take(pickle::HEAD).read_to_end(&mut head));
    opened.map_err(Error::io("read", path))?;
    if pickle::begins(&head) {
        return Ok(Format::Pickle);
    }
    let is_named_so = path.extension().is_some_and(|extension| extension == "safetensors");
    if is_named_so || head.get(LENGTH) == Some(&b'{') {
        return Ok(Format::Safetensors);
    }
    Err(Error::checkpoint(
        path,
        "not a weights file (it begins neither as safetensors, nor as a zip archive, nor as a file of PyTorch before 1.6); name one that polyhead wrote, or save it with torch.save(model.state_dict(), …)",
    ))
}

/// Whether the numbers are finite as f32, the type that they are used in.
pub fn is_finite(tensor: &Tensor) -> bool {
    let (storage, layout) = tensor.storage_and_layout();
    if let (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) = (&*storage, layout.contiguous_offsets()) {
        return all_finite(&values[start..end]);
    }
    drop(storage);
    if !tensor.dtype().is_float() {
        return true;
    }
    let values = tensor.to_dtype(DType::F32).and_then(|t| t.flatten_all()).and_then(|t| t.to_vec1::<f32>());
    // A type that candle cannot convert is refused where the tensor is used, if it is.
    values.map_or(true, |values| all_finite(&values))
}

fn read_safetensors(path: &Path) -> Result<StateFile> {
    let bytes = files::read(path).map_err(Error::io("read", path))?;
    let broken =
        |e: &dyn std::fmt::Display| Error::checkpoint(path, format!("not a complete safetensors file ({e}); {OTHERS}"));
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).map_err(|e| broken(&e))?;
    if !matches_checksum(&bytes) {
        return Err(Error::checkpoint(
            path,
            format!("its content does not match its checksum, so it is damaged; {OTHERS}"),
        ));
    }
    let mut metadata = header.metadata().clone().unwrap_or_default();
    metadata.remove(CHECKSUM_KEY);
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|e| broken(&e))?;
    Ok(StateFile { tensors: tensors.into_iter().collect(), metadata, notes: Vec::new() })
}

/// Writes a safetensors file under another name, syncs it, and renames it to `path`, which is never incomplete.
///
/// # Errors
/// Writing fails; `path` is then unchanged and no other file is left behind.
pub fn write(path: &Path, tensors: &Tensors, metadata: HashMap<String, String>) -> Result<()> {
    write_with_checksum(path, tensors, metadata, None)
}

/// Writes like [`write`](fn@write), and keeps the old file of `path` as `previous`.
///
/// # Errors
/// The same.
pub fn write_beside(path: &Path, previous: &Path, tensors: &Tensors, metadata: HashMap<String, String>) -> Result<()> {
    write_with_checksum(path, tensors, metadata, Some(previous))
}

/// A file's checksum is the first entry of its metadata, at a fixed place: the [`files::checksum`] of the whole file with zeros for
/// its digits, in hexadecimal. Another program that writes the tensors again writes another header, so a checksum that
/// it copies is not taken for the new file's.
const CHECKSUM_KEY: &str = "polyhead.checksum";
/// The header up to the digits. The space makes the entry 56 bytes long, so that the tensors stay aligned to 8 bytes.
const BEFORE_CHECKSUM: &str = r#"{"__metadata__":{"polyhead.checksum": ""#;
const METADATA: &str = r#"{"__metadata__":{"#;
const DIGITS: usize = 32;
/// The length of the header is in the first bytes of the file.
const LENGTH: usize = 8;

fn write_with_checksum(
    path: &Path,
    tensors: &Tensors,
    metadata: HashMap<String, String>,
    previous: Option<&Path>,
) -> Result<()> {
    let refused = |e: &dyn std::fmt::Display| Error::checkpoint(path, format!("cannot be written: {e}"));
    let bytes = safetensors::serialize(tensors.iter().map(|(k, v)| (k.as_str(), v)), Some(metadata))
        .map_err(|e| refused(&e))?;
    let (length, rest) = bytes.split_first_chunk::<LENGTH>().ok_or_else(|| refused(&"the header is missing"))?;
    let others = rest.strip_prefix(METADATA.as_bytes()).ok_or_else(|| refused(&"the header has no metadata"))?;
    let end: &[u8] = if others.starts_with(b"}") { b"\" " } else { b"\"," };
    let entry = BEFORE_CHECKSUM.len() - METADATA.len() + DIGITS + end.len();
    let length = (u64::from_le_bytes(*length) + entry as u64).to_le_bytes();
    let digits =
        format!("{:032x}", files::checksum(&[&length, BEFORE_CHECKSUM.as_bytes(), &[b'0'; DIGITS], end, others]));
    files::write_parts(path, &[&length, BEFORE_CHECKSUM.as_bytes(), digits.as_bytes(), end, others], previous)
}

/// Whether a safetensors file is as it was written. A file without a checksum, of another program or an older version, cannot be
/// checked and counts as such.
fn matches_checksum(bytes: &[u8]) -> bool {
    let at = LENGTH + BEFORE_CHECKSUM.len();
    let begins = bytes.get(LENGTH..at).is_some_and(|found| found == BEFORE_CHECKSUM.as_bytes());
    match bytes.get(at..at + DIGITS) {
        Some(digits) if begins => {
            let expected = files::checksum(&[&bytes[..at], &[b'0'; DIGITS], &bytes[at + DIGITS..]]);
            format!("{expected:032x}").as_bytes() == digits
        }
        _ => true,
    }
}

/// The checksum stated at the start of a file that polyhead wrote. The rest of the file is not read.
pub fn checksum_in(path: &Path) -> Option<String> {
    let at = LENGTH + BEFORE_CHECKSUM.len();
    let mut head = Vec::new();
    files::open(path).ok()?.take((at + DIGITS) as u64).read_to_end(&mut head).ok()?;
    let begins = head.get(LENGTH..at)? == BEFORE_CHECKSUM.as_bytes();
    let digits = String::from_utf8(head.get(at..at + DIGITS)?.to_vec()).ok()?;
    begins.then_some(digits)
}

/// The advice in a message about a damaged file.
const OTHERS: &str = "use another copy, or for a run the other file under weights/";

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

/// Copies one of the vectors of all parameters from tensors named `prefix` + name. Returns the names of the parameters that have no
/// tensor, which stay as they are.
///
/// # Errors
/// A tensor has another shape than the model's.
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

/// Copies running statistics from tensors named `prefix` + name. Returns the names of those that have no tensor, which stay as they are.
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

/// Converts KRSC (or a vector or matrix) to a tensor in torchvision's order.
pub(crate) fn to_tensor(data: &[f32], shape: &[usize]) -> Result<Tensor> {
    let tensor = Tensor::from_slice(data, shape, &Device::Cpu).map_err(of_candle)?;
    match shape.len() {
        4 => tensor.permute((0, 3, 1, 2)).and_then(|t| t.contiguous()).map_err(of_candle),
        _ => Ok(tensor),
    }
}

/// # Errors
/// The tensor does not have the shape that a file has for a parameter of shape `[N]`, `[N, M]` or KRSC.
pub(crate) fn check_shape(tensor: &Tensor, name: &str, shape: &[usize]) -> Result<()> {
    let expected = match *shape {
        [k, r, s, c] => vec![k, c, r, s],
        _ => shape.to_vec(),
    };
    match tensor.dims() == expected {
        true => Ok(()),
        false => Err(Error::Other(format!(
            "`{name}` has shape {:?} in the file and {expected:?} in the model",
            tensor.dims()
        ))),
    }
}

fn from_tensor(tensor: &Tensor, name: &str, shape: &[usize], out: &mut [f32]) -> Result<()> {
    check_shape(tensor, name, shape)?;
    let ordered = match tensor.rank() {
        4 => tensor.permute((0, 2, 3, 1)),
        _ => Ok(tensor.clone()),
    };
    let values = ordered
        .map_err(of_candle)?
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

    /// A folder of its own for each test, removed at the end.
    struct Place(std::path::PathBuf);

    impl Place {
        fn new() -> Place {
            let of_thread = format!("polyhead-weights-{}-{:?}", std::process::id(), std::thread::current().id());
            let folder = std::env::temp_dir().join(of_thread);
            std::fs::create_dir_all(&folder).unwrap();
            Place(folder)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// Tensors of several types and shapes.
    fn some() -> Tensors {
        let vector = Tensor::new(&[1.0f32, -2.0, 3.5], &Device::Cpu).unwrap();
        let matrix = Tensor::new(&[[0.25f32, 4.0], [5.0, 1e-30]], &Device::Cpu).unwrap();
        let half = matrix.to_dtype(DType::F16).unwrap();
        let count = Tensor::new(7i64, &Device::Cpu).unwrap();
        let named = [("a", vector), ("b.weight", matrix), ("half", half), ("tracked", count)];
        named.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect()
    }

    fn same(a: &StateFile, b: &StateFile) -> bool {
        let text = |file: &StateFile| {
            let tensors: Vec<String> =
                file.tensors.iter().map(|(name, t)| format!("{name} {:?} {t}", t.dtype())).collect();
            (tensors, file.metadata.clone())
        };
        text(a) == text(b)
    }

    #[test]
    fn every_bit_that_changes_in_a_file_is_noticed_or_changes_nothing() {
        let place = Place::new();
        let path = place.0.join("model.safetensors");
        for metadata in [HashMap::new(), HashMap::from([("polyhead".to_owned(), "{\"a\": \"b\"}".to_owned())])] {
            write(&path, &some(), metadata.clone()).unwrap();
            let (bytes, whole) = (std::fs::read(&path).unwrap(), read(&path).unwrap());
            assert_eq!(whole.metadata, metadata);
            assert!(same(&whole, &StateFile { tensors: some(), metadata, notes: Vec::new() }));
            let (mut damaged, mut refused) = (bytes.clone(), 0);
            for bit in 0..bytes.len() * 8 {
                damaged[bit / 8] ^= 1 << (bit % 8);
                std::fs::write(&path, &damaged).unwrap();
                match read(&path) {
                    Err(_) => refused += 1,
                    Ok(mut file) => {
                        // A checksum that has lost its name is one more text of the metadata.
                        file.metadata.retain(|key, _| whole.metadata.contains_key(key));
                        assert!(same(&file, &whole), "bit {bit} changes what is read");
                    }
                }
                damaged[bit / 8] ^= 1 << (bit % 8);
            }
            assert!(refused > bytes.len() * 8 - 200, "{refused} of {} refused", bytes.len() * 8);
            damaged[bytes.len() - 1] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            let said = read(&path).err().unwrap().to_string();
            assert!(said.contains("model.safetensors: its content does not match its checksum"), "{said}");
        }
    }

    #[test]
    fn the_same_tensors_make_the_same_bytes_and_other_programs_read_and_rewrite_them() {
        let place = Place::new();
        let path = place.0.join("model.safetensors");
        let metadata = || HashMap::from([("polyhead".to_owned(), "card".to_owned())]);
        write(&path, &some(), metadata()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        write(&path, &some(), metadata()).unwrap();
        assert!(std::fs::read(&path).unwrap() == bytes);
        let (header, _) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(header % 8, 0);
        // The checksum in the metadata is not that of a file that another program wrote.
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let mut tensors = some();
        tensors.remove("a");
        let copied = header.metadata().clone();
        assert_eq!(copied.as_ref().unwrap()[CHECKSUM_KEY].len(), DIGITS);
        let rewritten = safetensors::serialize(tensors.iter().map(|(k, v)| (k.as_str(), v)), copied).unwrap();
        std::fs::write(&path, rewritten).unwrap();
        let file = read(&path).unwrap();
        assert!(same(&file, &StateFile { tensors, metadata: metadata(), notes: Vec::new() }));
    }

    #[test]
    fn numbers_that_are_not_finite_are_refused_with_the_tensors_name() {
        let place = Place::new();
        let path = place.0.join("model.safetensors");
        let of = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        let huge = Tensor::new(&[1.0f64, 1e300], &Device::Cpu).unwrap();
        let half = of(&[1.0, 1e6]).to_dtype(DType::F16).unwrap();
        for wrong in [of(&[1.0, f32::NAN]), of(&[f32::NEG_INFINITY]), huge, half] {
            let mut tensors = some();
            tensors.insert("layer1.0.bn1.weight".into(), wrong);
            write(&path, &tensors, HashMap::new()).unwrap();
            let said = read(&path).err().unwrap().to_string();
            assert!(
                said.contains("model.safetensors: `layer1.0.bn1.weight` has numbers that are NaN or infinite"),
                "{said}"
            );
        }
    }

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
