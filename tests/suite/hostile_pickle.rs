//! Malicious .pth files, and PyTorch's own files with missing or changed bytes: each is read or refused with one error
//! message, within limits of time and memory. The malicious files are built here, byte by byte.

use crate::step::Folder;
use polyhead::model::weights::{self, Tensors};
use std::io::{Cursor, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// Instructions of a pickle; each function returns those that leave one value on the stack.
fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

pub fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

fn int(value: i64) -> Vec<u8> {
    match i32::try_from(value) {
        Ok(value) => [b"J", &value.to_le_bytes()[..]].concat(),
        Err(_) => [b"\x8a\x08", &value.to_le_bytes()[..]].concat(),
    }
}

fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(", items.concat().as_slice(), b"t"].concat()
}

fn ints(values: &[i64]) -> Vec<u8> {
    tuple(&values.iter().map(|&value| int(value)).collect::<Vec<_>>())
}

fn call(callable: Vec<u8>, arguments: Vec<u8>) -> Vec<u8> {
    [callable, arguments, b"R".to_vec()].concat()
}

pub fn storage(class: &str, key: &str, len: i64) -> Vec<u8> {
    let reference = tuple(&[text("storage"), global("torch", class), text(key), text("cpu"), int(len)]);
    [reference, b"Q".to_vec()].concat()
}

pub fn tensor(storage: Vec<u8>, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let hooks = call(global("collections", "OrderedDict"), b")".to_vec());
    let arguments = [storage, int(offset), ints(shape), ints(strides), b"\x89".to_vec(), hooks];
    call(global("torch._utils", "_rebuild_tensor_v2"), tuple(&arguments))
}

pub fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<u8> = entries.iter().flat_map(|(name, value)| [text(name), value.clone()].concat()).collect();
    [b"}(", entries.as_slice(), b"u"].concat()
}

pub fn pickle(value: Vec<u8>) -> Vec<u8> {
    [b"\x80\x02", value.as_slice(), b"."].concat()
}

/// A zip archive of uncompressed entries below `x/`.
pub fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    zip_of(entries, CompressionMethod::Stored)
}

fn zip_of(entries: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        writer.start_file(format!("x/{name}"), SimpleFileOptions::default().compression_method(method)).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A zip file whose state dict has one tensor `w` of f32 on storage 0, which holds 1, 2, 3, ….
fn one_tensor(held: usize, stated: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let numbers: Vec<u8> = (0..held).flat_map(|i| (i as f32 + 1.0).to_le_bytes()).collect();
    let value = tensor(storage("FloatStorage", "0", stated), offset, shape, strides);
    archive(&[("data.pkl", &pickle(dict(&[("w", value)]))), ("data/0", &numbers)])
}

/// The older format: the numbers follow the list of storage keys.
pub fn legacy(value: Vec<u8>, keys: &[&str], numbers: &[u8]) -> Vec<u8> {
    let keys: Vec<u8> = keys.iter().flat_map(|key| text(key)).collect();
    [
        b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec(),
        pickle(b"M\xe9\x03".to_vec()),
        pickle(b"}".to_vec()),
        pickle(value),
        pickle([b"](", keys.as_slice(), b"e"].concat()),
        numbers.to_vec(),
    ]
    .concat()
}

struct Scratch(Folder);

impl Scratch {
    fn read(&self, bytes: &[u8]) -> Result<Tensors, String> {
        let path = self.0.path.join("w.pth");
        // Overwriting a file is slow on some file systems, which matters for thousands of files.
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, bytes).unwrap();
        weights::read(&path).map(|file| file.tensors).map_err(|e| e.to_string())
    }

    /// Asserts that a file is refused with one error message that names it and contains `expected`.
    fn refuses(&self, bytes: &[u8], expected: &str) {
        let error = self.read(bytes).err().unwrap_or_else(|| panic!("read, where `{expected}` is wrong"));
        assert!(error.contains("w.pth: not a ") && error.contains(expected), "{error}\nlacks `{expected}`");
        assert!(!error.contains('\n') && error.len() < 700, "{error}");
        assert!(["use another copy", "save it with torch.save"].iter().any(|advice| error.contains(advice)), "{error}");
    }
}

fn values(tensors: &Tensors, name: &str) -> Vec<f32> {
    tensors[name].flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn valid_files_built_here_are_read() {
    let scratch = Scratch(Folder::new("pickle-whole"));
    let read = |bytes: &[u8]| values(&scratch.read(bytes).unwrap(), "w");
    assert_eq!(read(&one_tensor(6, 6, 0, &[2, 3], &[3, 1])), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(read(&one_tensor(6, 6, 1, &[2, 2], &[1, 3])), [2.0, 5.0, 3.0, 6.0]);
    // A parameter, and a tensor with attributes.
    let parts = [storage("FloatStorage", "0", 1), int(0), ints(&[1]), ints(&[1])];
    let rebuild = global("torch._utils", "_rebuild_tensor_v2");
    let attributes = [rebuild, global("torch", "Tensor"), tuple(&parts), b"}".to_vec()];
    for value in [
        call(global("torch._utils", "_rebuild_parameter"), tuple(&[tensor(parts[0].clone(), 0, &[1], &[1])])),
        call(global("torch._tensor", "_rebuild_from_type_v2"), tuple(&attributes)),
    ] {
        let file = archive(&[("data.pkl", &pickle(dict(&[("w", value)]))), ("data/0", &3_f32.to_le_bytes())]);
        assert_eq!(read(&file), [3.0]);
    }
    let value = dict(&[("w", tensor(storage("FloatStorage", "a", 1), 0, &[1], &[1]))]);
    let numbers = [&1_u64.to_le_bytes()[..], &7_f32.to_le_bytes()].concat();
    assert_eq!(read(&legacy(value, &["a"], &numbers)), [7.0]);
}

/// Each value contains the previous one twice: 2^60 values if each were copied.
#[test]
fn doubling_by_the_memo_costs_nothing() {
    let scratch = Scratch(Folder::new("pickle-memo"));
    let levels: Vec<u8> = (0..60_u8).flat_map(|i| [b'h', i, b'h', i, 0x86, b'q', i + 1]).collect();
    let value = [b"Nq\x00".as_slice(), &levels].concat();
    scratch.refuses(&archive(&[("data.pkl", &pickle(value.clone()))]), "it holds no tensors");
    scratch.refuses(&legacy(value, &[], &[]), "it holds no tensors");
}

#[test]
fn a_short_tuple_is_not_a_tensor() {
    let scratch = Scratch(Folder::new("pickle-short"));
    for callable in ["_rebuild_tensor_v2", "_rebuild_tensor"] {
        let value = call(global("torch._utils", callable), tuple(&[int(0)]));
        scratch.refuses(
            &archive(&[("data.pkl", &pickle(dict(&[("w", value)])))]),
            "`w` is described by fewer than four parts",
        );
    }
    for callable in ["_rebuild_parameter", "_rebuild_from_type_v2"] {
        let value = call(global("torch._utils", callable), b")".to_vec());
        scratch.refuses(&archive(&[("data.pkl", &pickle(dict(&[("w", value)])))]), "it holds no tensors");
    }
}

#[test]
fn impossible_sizes_are_refused() {
    let scratch = Scratch(Folder::new("pickle-sizes"));
    let most = i64::MAX;
    let large = (1 << 31) - 1;
    for (stated, offset, shape, strides, expected) in [
        (6, 0, vec![large], vec![1], "reaches past the 6 numbers"),
        (large, 0, vec![large], vec![1], "bytes of memory, while the file has"),
        (large, 0, vec![6], vec![1], "more than the file holds"),
        (most, 0, vec![most], vec![1], "impossible shape"),
        (most, 0, vec![2], vec![1], "would have 9223372036854775807 numbers"),
        (6, 1 << 62, vec![1], vec![1], "reaches past"),
        (6, most, vec![2, 2], vec![most, most], "reaches past"),
        (6, 0, vec![2; 64], vec![1; 64], "impossible shape"),
        (6, 0, vec![1; 65], vec![1; 65], "65 dimensions"),
        (6, 0, vec![0, most, most], vec![1, 1, 1], "impossible shape"),
        (6, 0, vec![2, 3], vec![1], "has 2 dimensions and 1 strides"),
        (6, 0, vec![7], vec![1], "reaches past"),
        (6, 6, vec![1], vec![1], "reaches past"),
        (6, -1, vec![1], vec![1], "does not begin at an element"),
        (6, 5, vec![2], vec![-1], "has -1 in its strides"),
        (6, 0, vec![-6], vec![1], "has -6 in its shape"),
        (-6, 0, vec![6], vec![1], "no name or no length"),
        (5, 0, vec![5], vec![1], "holds 24 bytes, its pickle states 20"),
        (7, 0, vec![6], vec![1], "holds 24 bytes, its pickle states 28"),
        (6, 0, vec![1 << 30], vec![0], "more than 67"),
        (6, 0, vec![1 << 40, 4], vec![0, 1], "more than 67"),
    ] {
        scratch.refuses(&one_tensor(6, stated, offset, &shape, &strides), expected);
    }
    // Many tensors that are each below the limit.
    let repeated = || tensor(storage("FloatStorage", "0", 1), 0, &[1 << 22], &[0]);
    let names: Vec<String> = (0..8).map(|i| i.to_string()).collect();
    let entries: Vec<(&str, Vec<u8>)> = names.iter().map(|name| (name.as_str(), repeated())).collect();
    let file = archive(&[("data.pkl", &pickle(dict(&entries))), ("data/0", &[0; 4])]);
    scratch.refuses(&file, "more than 67");
    // An empty tensor reads nothing, and a dimension of size 1 may have any stride.
    assert_eq!(scratch.read(&one_tensor(6, 6, 9, &[2, 0], &[1, 1])).unwrap()["w"].dims(), [2, 0]);
    assert_eq!(values(&scratch.read(&one_tensor(6, 6, 0, &[1, 2], &[most, 1])).unwrap(), "w"), [1.0, 2.0]);
}

/// Reading, searching and dropping must not recurse at any depth of nesting, and a value that contains itself must be
/// harmless.
#[test]
fn deep_nesting_and_cycles_do_not_overflow_the_stack() {
    let scratch = Scratch(Folder::new("pickle-deep"));
    let w = tensor(storage("FloatStorage", "0", 1), 0, &[1], &[1]);
    let tuples = [b"N".as_slice(), &[0x85; 2_000_000]].concat();
    let lists = [&[b']'; 500_000][..], &[b'a'; 499_999]].concat();
    let calls = {
        let wrapper = global("torch._tensor", "_rebuild_from_type_v2");
        [wrapper.repeat(50_000), b")".to_vec(), b"\x85R".repeat(50_000)].concat()
    };
    let cycle = b"]q\x00h\x00a".to_vec();
    for deep in [tuples, lists, calls, cycle] {
        let value = dict(&[("deep", deep), ("w", w.clone())]);
        let file = archive(&[("data.pkl", &pickle(value)), ("data/0", &1_f32.to_le_bytes())]);
        assert_eq!(values(&scratch.read(&file).unwrap(), "w"), [1.0]);
    }
}

#[test]
fn pickles_with_too_many_instructions_are_refused() {
    let scratch = Scratch(Folder::new("pickle-long"));
    let long = [b"(".as_slice(), &[b']'; 4_000_000], b"t"].concat();
    scratch.refuses(&archive(&[("data.pkl", &pickle(long))]), "more than 4000000 instructions");
    let one = [tensor(storage("FloatStorage", "0", 1), 0, &[1], &[1]), b"q\x00".to_vec()].concat();
    let names: Vec<u8> = (0..100_000).flat_map(|i| [text(&i.to_string()), b"h\x00".to_vec()].concat()).collect();
    let many = [b"}(", text("w").as_slice(), &one, &names, b"u"].concat();
    scratch.refuses(&archive(&[("data.pkl", &pickle(many)), ("data/0", &[0; 4])]), "more than 100000 tensors");
    // Python 2's OrderedDict of pairs, copied repeatedly from one list.
    let pairs = [b"](".as_slice(), &b"NN\x86".repeat(10_000), b"eq\x00"].concat();
    let ordered = global("collections", "OrderedDict");
    let copies = [ordered.as_slice(), b"q\x01", &b"0h\x01h\x00\x85R".repeat(10_000)].concat();
    scratch.refuses(&archive(&[("data.pkl", &pickle([pairs, copies].concat()))]), "more than 4000000 instructions");
}

#[test]
fn invalid_instructions_give_an_error() {
    let scratch = Scratch(Folder::new("pickle-steps"));
    for (instructions, expected) in [
        (&b""[..], "it ends early"),
        (b".", "takes more values than there are"),
        (b"(.", "takes more values than there are"),
        (b"N(\x85.", "takes more values than there are"),
        (b"R.", "takes more values than there are"),
        (b"(q\x00.", "takes more values than there are"),
        (b"t.", "a group ends that never began"),
        (b"h\x07.", "was not stored"),
        (b"j\xff\xff\xff\xff.", "was not stored"),
        (b"}(Nu.", "a key has no value"),
        (b"NNa.", "appended to a value that is not a list"),
        (b"NNNs.", "set on a value that is not a dict"),
        (b"NN\x93.", "a class name is not text"),
        (b"NQ.", "a reference is not to a storage"),
        (b")Q.", "a reference is not to a storage"),
        (b"P1\n.", "instruction 0x50"),
        (b"\x97.", "instruction 0x97"),
        (b"\x80\x06.", "protocol 6"),
        (b"X\xff\xff\xff\xffab", "it ends early"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", "it ends early"),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff", "it ends early"),
        (b"\x8b\xff\xff\xff\xff\x01", "it ends early"),
        (b"cos\nsystem", "a line has no end"),
        (b"cos\nsystem\nX\x02\x00\x00\x00ls\x85R.", "it holds no tensors"),
    ] {
        let file = archive(&[("data.pkl", &[b"\x80\x02", instructions].concat())]);
        scratch.refuses(&file, expected);
    }
    let other =
        [tensor(storage("FloatStorage", "0", 1), 0, &[1], &[1]), tensor(storage("LongStorage", "0", 1), 0, &[1], &[1])];
    let other = pickle(dict(&[("a", other[0].clone()), ("b", other[1].clone())]));
    scratch.refuses(&archive(&[("data.pkl", &other), ("data/0", &[0; 4])]), "`0` is described in another way");
}

#[test]
fn an_archive_that_contradicts_its_pickle_gives_an_error() {
    let scratch = Scratch(Folder::new("pickle-zip"));
    let w = || tensor(storage("FloatStorage", "0", 1), 0, &[1], &[1]);
    let whole = pickle(dict(&[("w", w())]));
    let one = &1_f32.to_le_bytes()[..];
    scratch.refuses(&archive(&[("data/0", one)]), "without a data.pkl");
    scratch.refuses(&archive(&[("data.pkl", &whole)]), "no `x/data/0` in the archive");
    scratch.refuses(&archive(&[("data.pkl", &whole), ("y/data.pkl", &whole)]), "more than one data.pkl");
    scratch.refuses(&archive(&[("data.pkl", &whole), ("constants.pkl", b"")]), "TorchScript");
    scratch.refuses(
        &archive(&[("data.pkl", &whole), ("data/0", one), ("byteorder", b"middle")]),
        "neither little nor big",
    );
    let twice = pickle(dict(&[("w", w()), ("w", w())]));
    scratch.refuses(&archive(&[("data.pkl", &twice), ("data/0", one)]), "`w` appears twice");
    // Bytes of the archive itself: two entries with the same name, a wrong size or position, compression.
    let good = archive(&[("data.pkl", &whole), ("data/0", one), ("data/1", one)]);
    let renamed = |from: &[u8], to: &[u8]| {
        let mut bytes = good.clone();
        while let Some(at) = bytes.windows(from.len()).position(|window| window == from) {
            bytes[at..at + from.len()].copy_from_slice(to);
        }
        bytes
    };
    scratch.refuses(&renamed(b"x/data/1", b"x/data/0"), "two entries");
    let central = good.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    let central = good[..central].windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    for (field, value, expected) in [
        (10, [8, 0, 0, 0], "compressed"),
        (20, [0, 0, 0, 0x40], "states two sizes"),
        (16, [1, 2, 3, 4], "checksum"),
        (42, [0, 0, 0, 0x40], "as a zip archive"),
    ] {
        let mut bytes = good.clone();
        let len = if field == 10 { 2 } else { 4 };
        bytes[central + field..central + field + len].copy_from_slice(&value[..len]);
        scratch.refuses(&bytes, expected);
    }
    let mut bytes = good.clone();
    for field in [20, 24] {
        bytes[central + field..central + field + 4].copy_from_slice(&0x4000_0000_u32.to_le_bytes());
    }
    scratch.refuses(&bytes, "holds 1073741824 bytes");
    scratch.refuses(b"<!DOCTYPE html><html>no such file</html>", "begins neither as");
    scratch.refuses(b"", "begins neither as");
}

#[test]
fn an_older_file_that_contradicts_its_pickle_gives_an_error() {
    let scratch = Scratch(Folder::new("pickle-legacy"));
    let w = dict(&[("w", tensor(storage("FloatStorage", "a", 1), 0, &[1], &[1]))]);
    let numbers = |count: u64| [&count.to_le_bytes()[..], &1_f32.to_le_bytes()].concat();
    for (keys, numbers, expected) in [
        (&["a"][..], numbers(2), "has 2 numbers, its pickle states 1"),
        (&["a"], numbers(u64::MAX), "has 18446744073709551615 numbers"),
        (&["a"], numbers(1)[..11].to_vec(), "it ends early"),
        (&["a"], Vec::new(), "it ends early"),
        (&["a", "a"], numbers(1).repeat(2), "lists storage `a` twice"),
        (&["b"], numbers(1), "that nothing refers to"),
        (&[], Vec::new(), "lists no storage `a`"),
    ] {
        scratch.refuses(&legacy(w.clone(), keys, &numbers), expected);
    }
    let version = legacy(w, &["a"], &numbers(1)).iter().map(|&b| if b == 0xe9 { 0xe8 } else { b }).collect::<Vec<u8>>();
    scratch.refuses(&version, "not numbered 1001");
    let view = |offset: i64, len: i64| {
        let view = tuple(&[text("v"), int(offset), int(1)]);
        let reference =
            tuple(&[text("storage"), global("torch", "FloatStorage"), text("a"), text("cpu"), int(len), view]);
        dict(&[("w", tensor([reference, b"Q".to_vec()].concat(), 0, &[1], &[1]))])
    };
    let two = [&2_u64.to_le_bytes()[..], &1_f32.to_le_bytes(), &2_f32.to_le_bytes()].concat();
    assert_eq!(values(&scratch.read(&legacy(view(1, 2), &["a"], &two)).unwrap(), "w"), [2.0]);
    scratch.refuses(&legacy(view(i64::MAX, 2), &["a"], &two), "reaches past");
    scratch.refuses(&legacy(view(2, 2), &["a"], &two), "reaches past");
}

/// Python 2 wrote names as byte strings, an OrderedDict as a call with pairs, and PyTorch below 0.4 parameters as calls.
#[test]
fn a_python_2_file_is_read() {
    let scratch = Scratch(Folder::new("pickle-python-2"));
    let arguments = tuple(&[storage("FloatStorage", "a", 1), int(0), ints(&[1]), ints(&[1])]);
    let data = call(global("torch._utils", "_rebuild_tensor"), arguments);
    let parameter =
        [call(global("torch.nn.parameter", "Parameter"), tuple(&[data])), tuple(&[]), b"b".to_vec()].concat();
    let pair = [b"](U\x01w".as_slice(), &parameter, b"e"].concat();
    let pairs = [b"](".as_slice(), &pair, b"e"].concat();
    let state = call(global("collections", "OrderedDict"), tuple(&[pairs]));
    let optimizer = dict(&[("state", b"I140234234000000\n".to_vec())]);
    let checkpoint = dict(&[("optimizer", optimizer), ("state_dict", state)]);
    let numbers = [&1_u64.to_le_bytes()[..], &7_f32.to_le_bytes()].concat();
    assert_eq!(values(&scratch.read(&legacy(checkpoint, &["a"], &numbers)).unwrap(), "w"), [7.0]);
}

/// A file from a machine with the other byte order.
#[test]
fn big_endian_numbers_are_converted() {
    let scratch = Scratch(Folder::new("pickle-endian"));
    let value = dict(&[
        ("w", tensor(storage("FloatStorage", "0", 2), 0, &[2], &[1])),
        ("n", tensor(storage("LongStorage", "1", 1), 0, &[1], &[1])),
    ]);
    let floats = [1.5_f32.to_be_bytes(), (-2_f32).to_be_bytes()].concat();
    let entries: [(&str, &[u8]); 4] =
        [("data.pkl", &pickle(value)), ("byteorder", b"big"), ("data/0", &floats), ("data/1", &5_i64.to_be_bytes())];
    let tensors = scratch.read(&archive(&entries)).unwrap();
    assert_eq!(values(&tensors, "w"), [1.5, -2.0]);
    assert_eq!(tensors["n"].to_vec1::<i64>().unwrap(), [5]);
}

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)).unwrap()
}

/// Whether `bytes` can be read. If not, they must be refused with one error message, and quickly.
fn is_read(scratch: &Scratch, bytes: &[u8], what: &str) -> bool {
    let start = Instant::now();
    let read = scratch.read(bytes);
    assert!(start.elapsed() < Duration::from_secs(5), "{what}: {:?}", start.elapsed());
    if let Err(error) = &read {
        // Changed bytes may also make numbers that are no weights.
        let is_refused =
            ["w.pth: not a ", "numbers that are NaN or infinite"].iter().any(|words| error.contains(words));
        assert!(is_refused && !error.contains('\n') && error.len() < 5000, "{what}: {error}");
    }
    read.is_ok()
}

#[test]
fn cut_files_are_refused() {
    let scratch = Scratch(Folder::new("pickle-cut"));
    for (name, step) in [("channels_last.pth", 1), ("legacy.pth", 1), ("training.pth", 31), ("training_legacy.pth", 13)]
    {
        let whole = golden(name);
        for len in (0..whole.len()).step_by(step) {
            let what = format!("{len} bytes of {name}");
            assert!(!is_read(&scratch, &whole[..len], &what), "{what} are read");
        }
    }
}

/// The entries of a zip file, to be changed and repacked with correct checksums.
fn unpacked(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).unwrap();
    let read = |i| {
        let mut entry = archive.by_index(i).unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (entry.name().unwrap().split_once('/').unwrap().1.to_owned(), content)
    };
    (0..ZipArchive::new(Cursor::new(bytes)).unwrap().len()).map(read).collect()
}

#[test]
fn changed_bytes_are_read_or_refused() {
    let scratch = Scratch(Folder::new("pickle-changed"));
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for name in ["plain.pth", "views.pth", "types.pth", "training.pth", "legacy.pth", "training_legacy.pth"] {
        let whole = golden(name);
        let entries = (!name.contains("legacy")).then(|| unpacked(&whole));
        let mut read = 0;
        for round in 0..1000 {
            // Every second zip file is changed within its pickle and has a correct checksum.
            let mut changed = whole.clone();
            let mut inner = entries.clone().filter(|_| round % 2 == 0);
            let target = match &mut inner {
                Some(entries) => &mut entries.iter_mut().find(|(name, _)| name == "data.pkl").unwrap().1,
                None => &mut changed,
            };
            for _ in 0..1 + random(3) {
                let at = random(target.len());
                target[at] = [0, 0xff, 0x7f, 0x80, random(256) as u8, target[at] ^ 1 << random(8)][random(6)];
            }
            if let Some(entries) = &inner {
                let entries: Vec<(&str, &[u8])> =
                    entries.iter().map(|(name, b)| (name.as_str(), b.as_slice())).collect();
                changed = archive(&entries);
            }
            read += usize::from(is_read(&scratch, &changed, &format!("round {round} of {name}")));
        }
        // Many bytes do not affect the tensors, so both outcomes occur.
        assert!((50..950).contains(&read), "{read} of 1000 changes of {name} are read");
    }
}
