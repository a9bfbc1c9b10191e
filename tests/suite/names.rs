//! Unusual names of files, folders and classes: control sequences, the longest names, and names that are not Unicode.

use crate::cli::{SMALL, fail, path, polyhead, succeed, text};
use crate::step::Folder;
use polyhead::draw::{Canvas, write_png};
use polyhead::error::is_hidden;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Six pictures of two classes below `data`; each class has the pictures of these names, too.
fn classes(data: &Path, names: [&OsStr; 2], more: &[&OsStr]) {
    for (class, name) in names.into_iter().enumerate() {
        let folder = data.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let own = [OsStr::new("a.png"), OsStr::new("b.png"), OsStr::new("c.png")];
        for (number, file) in own.iter().chain(more).enumerate() {
            let rgb = (0..40 * 30 * 3).map(|i| ((i * (number + 2) + 90 * class) % 251) as u8).collect();
            write_png(&folder.join(file), &Canvas::new(40, 30, rgb).unwrap()).unwrap();
        }
    }
}

fn output(args: &[impl AsRef<OsStr>]) -> (Option<i32>, String) {
    let output = polyhead().args(args).stdin(std::process::Stdio::null()).output().unwrap();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

fn words<'a>(words: &'a [&'a str]) -> Vec<&'a OsStr> {
    words.iter().map(OsStr::new).collect()
}

#[test]
fn no_name_reaches_the_terminal_as_a_command() {
    let folder = Folder::new("control");
    let bad = "x\u{1b}[31m\r\u{9b}2J\u{202e}gpj\n";
    let data = folder.path.join(format!("data{bad}"));
    let [one, broken] = [format!("one{bad}.png"), format!("broken{bad}.png")];
    classes(&data, [OsStr::new("cat"), OsStr::new(bad)], &[OsStr::new(&one)]);
    std::fs::write(data.join("cat").join(&broken), "no picture").unwrap();
    let runs = folder.path.join(format!("runs{bad}"));
    let (run, images) = (runs.join("run"), data.join("cat"));
    let place = |name: &str| folder.path.join(format!("{name}{bad}"));
    // Words of a command, then paths.
    let args = |words: &str, paths: &[&Path]| -> Vec<OsString> {
        words.split(' ').map(OsString::from).chain(paths.iter().map(OsString::from)).collect()
    };
    let train = args(&format!("train --epochs 1 --max-broken 1 {}", SMALL.join(" ")), &[&data]);
    let train = [train, args("--project", &[&runs])].concat();
    let commands = [
        (train.clone(), 0),
        (train, 0),
        (args("train --resume", &[&run]), 0),
        (args("data check --max-broken 1", &[&data]), 0),
        (args("data describe", &[&data]), 0),
        (args("data preview --out", &[&folder.path.join(format!("preview{bad}.png")), &data]), 0),
        (args("data convert --to jsonl --out", &[&place("list"), &data]), 0),
        (args("data convert --to voc --out", &[&place("voc"), &data]), 2),
        (args("evaluate --max-broken 1", &[&run, &data]), 0),
        (args("predict --max-broken 1 --out", &[&place("out"), &run, &images]), 0),
        (args("train", &[&place("absent")]), 2),
        (args("train --config", &[&place("absent")]), 2),
        (args("predict", &[&run, &place("absent")]), 2),
        (args("train --epochs", &[&place("7")]), 2),
        (args("train", &[Path::new(&format!("--epochs{bad}"))]), 2),
        (args(&format!("word{bad}"), &[]), 2),
    ];
    let mut named = 0;
    for (args, code) in commands {
        let (got, said) = output(&args);
        assert_eq!(got, Some(code), "{args:?}: {said}");
        assert!(said.chars().all(|c| matches!(c, '\n' | '\t') || !is_hidden(c)), "{args:?}: {said:?}");
        named += usize::from(said.contains("\\u{1b}[31m"));
        // A line end in a name makes no line of its own.
        assert!(said.lines().all(|line| !line.starts_with(".png") && !line.starts_with("/run")), "{args:?}: {said}");
    }
    assert!(named > 10, "only {named} commands named a file");
    let log = std::fs::read_to_string(run.join("log.txt")).unwrap();
    assert!(log.chars().all(|c| c == '\n' || !is_hidden(c)), "{log:?}");
}

#[test]
fn names_of_247_bytes_work_everywhere() {
    let folder = Folder::new("long");
    let (file, class) = ("f".repeat(243) + ".png", "é".repeat(123));
    let data = folder.path.join("d".repeat(247));
    classes(&data, [OsStr::new("cat"), OsStr::new(&class)], &[OsStr::new(&file)]);
    let (data, project) = (data.to_str().unwrap(), path(&folder, &"p".repeat(247)));
    let name = "r".repeat(247);
    succeed(&[&["train", data, "--project", &project, "--name", &name, "--epochs", "1"], &SMALL[..]].concat());
    let run = format!("{project}/{name}");
    assert!(Path::new(&run).join("weights/best.safetensors").is_file());
    let out = path(&folder, &"o".repeat(247));
    succeed(&["predict", &run, data, "--out", &out, "--format", "jsonl,csv", "--image-format", "png"]);
    assert!(Path::new(&out).join("cat").join(&file).is_file());
    for to in ["jsonl", "again"] {
        // The second one reads what the first one wrote.
        let from = if to == "jsonl" { data.to_owned() } else { path(&folder, &("c".repeat(241) + "_jsonl")) };
        let out = path(&folder, &format!("{}_{to}", "c".repeat(241)));
        succeed(&["data", "convert", &from, "--to", "jsonl", "--out", &out]);
        let images = polyhead::data::walk(Path::new(&out)).unwrap();
        assert_eq!(images.len(), 8, "{images:?}");
    }
    let digits = path(&folder, &"g".repeat(247));
    succeed(&["data", "digits", &digits]);
    let task = format!("path: .\ntasks:\n  {}: {{type: classify, from: folders}}\n", "t".repeat(300));
    std::fs::write(Path::new(data).join("data.yaml"), task).unwrap();
    fail(&["data", "check", data], 1, &["data.yaml:3: the name of task", "is 300 bytes long: give it at most 200"]);
}

#[test]
fn paths_that_are_not_unicode_work_and_stay_apart() {
    let folder = Folder::new("bytes");
    let name = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let [one, two] = [name(b"x\xff.png"), name(b"x\xfe.png")];
    let data = folder.path.join(name(b"data\xff"));
    classes(&data, [OsStr::new("cat"), OsStr::new("dog")], &[&one, &two]);
    let runs = folder.path.join(name(b"runs\xfe"));
    let train = [
        &[OsStr::new("train"), data.as_os_str(), OsStr::new("--project"), runs.as_os_str()],
        &words(&["--epochs", "1"])[..],
        &words(&SMALL),
    ]
    .concat();
    let (code, said) = output(&train);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("data\\xff: "), "{said}");
    let run = runs.join("run");
    let args = std::fs::read_to_string(run.join("args.yaml")).unwrap();
    assert!(
        args.lines().any(|line| line.starts_with("data: ") && line.contains("bytes:/") && line.contains("data%FF")),
        "{args}"
    );
    let more = [OsStr::new("train"), OsStr::new("--resume"), run.as_os_str(), OsStr::new("--epochs"), OsStr::new("2")];
    let (code, said) = output(&more);
    assert!(code == Some(0) && said.contains("resumed after epoch 1"), "{said}");
    // The same choices again, from the file.
    let again =
        [OsStr::new("train"), OsStr::new("--config"), run.as_os_str(), OsStr::new("--project"), runs.as_os_str()];
    let (code, said) = output(&again);
    assert!(code == Some(0) && runs.join("run-2").is_dir(), "{said}");
    let weights = [OsStr::new("--weights"), run.as_os_str()];
    let (code, said) = output(&[&train[..], &weights].concat());
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = output(&[OsStr::new("evaluate"), run.as_os_str(), data.as_os_str()]);
    assert_eq!(code, Some(0), "{said}");
    let (cats, out) = (data.join("cat"), folder.path.join("out"));
    let single = [cats.join(&one), folder.path.join("single")];
    let predict =
        [OsStr::new("predict"), run.as_os_str(), single[0].as_os_str(), OsStr::new("--out"), single[1].as_os_str()];
    let (code, said) = output(&predict);
    assert!(code == Some(0) && said.starts_with("predicted 1 image; "), "{said}");
    let predict = [OsStr::new("predict"), run.as_os_str(), cats.as_os_str(), OsStr::new("--out"), out.as_os_str()];
    let (code, said) = output(&[&predict[..], &words(&["--format", "jsonl,csv", "--image-format", "png"])].concat());
    assert_eq!(code, Some(0), "{said}");
    for file in ["predictions.jsonl", "predictions.csv"] {
        let answers = std::fs::read_to_string(out.join(file)).unwrap();
        let escape = if file.ends_with("csv") { "\\" } else { "\\\\" };
        for end in ["ff", "fe"] {
            let named = format!("x{escape}x{end}.png");
            assert_eq!(answers.matches(&named).count(), 1, "{named}: {answers}");
        }
    }
    let pictures: Vec<PathBuf> = [one, two].iter().map(|name| out.join(name)).collect();
    assert!(pictures.iter().all(|picture| picture.is_file()), "{pictures:?}");
    assert_ne!(pictures[0].as_os_str().as_bytes(), pictures[1].as_os_str().as_bytes());
}
