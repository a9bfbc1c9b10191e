//! The fuzz targets without libFuzzer: every kept input of `tests/fuzz/corpus`, and changes of them that are made from a seed. More
//! changes per input: `POLYHEAD_CHANGES=100 cargo test -p polyhead --test main fuzz::`.

#[path = "../fuzz/targets/mod.rs"]
mod targets;

use polyhead::data::random::Random;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use targets::{TARGETS, Target};

/// Far more time than any input takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// Changes of each input, unless POLYHEAD_CHANGES says otherwise.
const CHANGES: u64 = 2;

/// The inputs of a target with their names: the files with names, the archive of those that libFuzzer found, and files of other
/// tests.
fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let files = |folder: PathBuf, ending: &str| {
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let paths = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
        let paths = paths.filter(|path| path.to_string_lossy().ends_with(ending));
        paths.map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())).collect::<Vec<_>>()
    };
    let mut all = files(tests.join("fuzz/corpus").join(target), "");
    match target {
        "image" | "jpeg" => all.extend(files(tests.join("golden/images"), "")),
        "pickle" => all.extend(files(tests.join("golden"), ".pth")),
        _ => {}
    }
    // A new target has no archive until libFuzzer has run on it.
    let Ok(archive) = std::fs::File::open(tests.join(format!("fuzz/corpus/{target}.zip"))) else {
        all.sort();
        return all;
    };
    let mut archive = zip::ZipArchive::new(archive).unwrap();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        all.push((format!("input {index} of {target}.zip"), bytes));
    }
    all.sort();
    all
}

/// Calls the target and says which input it fails on. A changed input is kept beside the temporary files.
fn call(name: &str, target: Target, bytes: &[u8], origin: &str) {
    let start = Instant::now();
    let outcome = std::panic::catch_unwind(|| target(bytes));
    let took = start.elapsed();
    if outcome.is_err() || took > PATIENCE {
        let kept = std::env::temp_dir().join(format!("polyhead-fuzz-{name}-failed"));
        std::fs::write(&kept, bytes).unwrap();
        panic!("{name}: {origin} fails after {took:?}; the input is {}", kept.display());
    }
}

#[test]
fn every_kept_input_is_read_or_refused() {
    let mut count = 0;
    for (name, target) in TARGETS {
        for (origin, bytes) in inputs(name) {
            call(name, *target, &bytes, &origin);
            count += 1;
        }
    }
    assert!(count > 100, "only {count} inputs are kept");
}

#[test]
fn changed_inputs_are_read_or_refused() {
    let changes = std::env::var("POLYHEAD_CHANGES").map_or(CHANGES, |text| text.parse().unwrap());
    let mut count = 0;
    for (number, (name, target)) in TARGETS.iter().enumerate() {
        let start = Instant::now();
        let all = inputs(name);
        for (index, (origin, bytes)) in all.iter().enumerate() {
            for change in 0..changes {
                let mut random = Random::new(&[number as u64, index as u64, change]);
                let other = &all[random.below(all.len())];
                let changed = changed(bytes, &other.1, &mut random);
                call(name, *target, &changed, &format!("change {change} of {origin}"));
                count += 1;
            }
        }
        println!("{name}: {} inputs, {changes} changes of each in {:.1?}", all.len(), start.elapsed());
    }
    println!("{count} changed inputs");
}

/// Texts at which readers may stumble, in place of a number or a word.
const ABSURD: [&str; 16] = [
    "-1",
    "1e999",
    "NaN",
    "inf",
    "99999999999999999999",
    "0",
    "",
    "\0",
    "'",
    "{",
    "[",
    "\u{feff}",
    "é",
    "*a",
    "\r",
    "\"",
];

/// One to four changes: bits, bytes, cuts, repetitions, absurd words, and parts of another input.
fn changed(bytes: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(4) {
        let len = bytes.len();
        let at = random.below(len + 1);
        let end = (at + random.below(32)).min(len);
        match random.below(8) {
            0 => bytes.truncate(at),
            1 if at < len => bytes[at] ^= 1 << random.below(8),
            2 if at < len => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'9', b'-', b' '][random.below(8)],
            3 => drop(bytes.drain(at..end)),
            4 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part.repeat(1 + random.below(4)));
            }
            5 => drop(bytes.splice(at..end, ABSURD[random.below(ABSURD.len())].bytes())),
            6 => {
                let from = random.below(other.len() + 1);
                let part = &other[from..(from + random.below(64)).min(other.len())];
                bytes.splice(at..at, part.iter().copied());
            }
            _ => {
                // A word made of digits becomes absurd.
                let digits: Vec<usize> = (0..len).filter(|&i| bytes[i].is_ascii_digit()).collect();
                if !digits.is_empty() {
                    let at = digits[random.below(digits.len())];
                    bytes.splice(at..at + 1, ABSURD[random.below(ABSURD.len())].bytes());
                }
            }
        }
    }
    bytes
}
