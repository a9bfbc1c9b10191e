//! Files of weights, and what a checkpoint's metadata says about the network and the run.

use super::folder::{folder, refused, write};
use candle_core::{Device, Tensor};
use polyhead::executor::DeviceChoice;
use polyhead::model::weights::{self, Tensors};
use polyhead::model::{Card, ModelFile};
use polyhead::train::checkpoint::{self, RunState};
use std::collections::HashMap;
use std::io::{Cursor, Write};
use std::path::Path;
use zip::write::SimpleFileOptions;

/// Tensors in any of the formats. The name of a checksum is changed, so that changed files reach the reader.
pub fn safetensors(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    let name = b"polyhead.checksum";
    if let Some(at) = bytes.windows(name.len()).position(|part| part == name) {
        bytes[at + name.len() - 1] = b'n';
    }
    read(&write(&folder("safetensors", |_| ()), "w.safetensors", bytes));
}

/// A file of PyTorch: a zip archive with its checksums, or the older format without any.
pub fn pickle(bytes: &[u8]) {
    read(&write(&folder("pickle", |_| ()), "w.pth", bytes));
}

/// The pickle of PyTorch's zip archives, with the archive's checksum made anew.
pub fn torch_zip(bytes: &[u8]) {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let numbers: Vec<u8> = (0..64u8).flat_map(|i| f32::from(i).to_le_bytes()).collect();
    for (name, content) in [("data.pkl", bytes), ("data/0", &numbers), ("data/1", &numbers[..16]), ("version", b"3\n")]
    {
        let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        archive.start_file(format!("x/{name}"), options).unwrap();
        archive.write_all(content).unwrap();
    }
    pickle(&archive.finish().unwrap().into_inner());
}

/// Tensors that were read are written and read again. They start a network or are refused.
fn read(file: &Path) {
    let state = match weights::read(file) {
        Ok(state) => state,
        Err(error) => return refused(&error),
    };
    let copy = file.with_file_name("copy.safetensors");
    weights::write(&copy, &state.tensors, HashMap::new()).unwrap();
    let again = weights::read(&copy).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(content(&again.tensors), content(&state.tensors));
    match ModelFile::read(file, None) {
        Ok(model) => start(&model),
        Err(error) => refused(&error),
    }
    checkpoint::load(file).map_or_else(|error| refused(&error), drop);
}

fn content(tensors: &Tensors) -> Vec<(&str, &[usize], candle_core::DType)> {
    tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.dims(), tensor.dtype())).collect()
}

fn start(model: &ModelFile) {
    let device = DeviceChoice::parse("cpu", 1).unwrap();
    model.start(&device).map_or_else(|error| refused(&error), drop);
}

/// The text of a card: read, and its network built up to the tensors, of which there are none.
pub fn card(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Card::from_json(text, Path::new("w.safetensors")) {
        Err(error) => refused(&error),
        Ok(card) => {
            let again = Card::from_json(&card.to_json(), Path::new("w.safetensors")).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(again.to_json(), card.to_json());
            start(&ModelFile { card, tensors: Tensors::new(), notes: Vec::new(), path: None });
        }
    }
}

/// A checkpoint's card and state as texts, with a NUL in between.
pub fn state(bytes: &[u8]) {
    let Some(at) = bytes.iter().position(|&byte| byte == 0) else { return };
    let [Ok(card), Ok(state)] = [&bytes[..at], &bytes[at + 1..]].map(std::str::from_utf8) else { return };
    let file = folder("state", |_| ()).join("last.safetensors");
    let tensors = Tensors::from([("w".to_owned(), Tensor::new(&[1f32], &Device::Cpu).unwrap())]);
    let metadata = [(Card::KEY, card), ("polyhead.run", state)].map(|(key, text)| (key.to_owned(), text.to_owned()));
    weights::write(&file, &tensors, HashMap::from(metadata)).unwrap();
    match checkpoint::load(&file) {
        Err(error) => refused(&error),
        Ok(loaded) => {
            let text = serde_json::to_string(&loaded.state).unwrap();
            assert!(serde_json::from_str::<RunState>(&text).unwrap() == loaded.state, "{text}");
            loaded.state.config.check_resumed().map_or_else(|error| refused(&error), drop);
        }
    }
}
