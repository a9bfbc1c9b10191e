//! Checks the rules of ARCHITECTURE.md by reading the source: import order (`components`), the places of unsafe code and
//! printing, file sizes, and that every op has a test.

mod components;
mod sources;

use sources::{files, imports, place, root, sources, trees};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Printing can panic or end a run if nobody reads. The lints in Cargo.toml see only the macros.
#[test]
fn only_the_console_prints() {
    let ways = ["println!(", "print!(", "dbg!(", "io::stdout", "io::stderr", "stdout()", "stderr()", "indicatif::"];
    for source in sources() {
        let name = &source.name;
        let prints = source.lines().any(|l| ways.iter().any(|way| l.contains(way)));
        let tests = source.is_test() || name.starts_with("ops/testing");
        // clap prints messages about wrong flags itself, and never panics.
        let allowed = name == "console.rs" || name == "main.rs" || tests;
        assert!(!prints || allowed, "{name} prints");
    }
}

#[test]
fn unsafe_code_is_only_where_it_is_allowed() {
    for source in sources() {
        let name = &source.name;
        let is_unsafe = source.text.lines().any(|l| {
            !l.trim_start().starts_with("//")
                && (l.contains("unsafe {") || l.contains("unsafe fn") || l.contains("unsafe impl"))
        });
        let allowed = name.starts_with("device/")
            || (name.starts_with("ops/") && name.contains("/cpu"))
            || name.starts_with("executor/cpu")
            || name == "executor/store.rs";
        assert!(!is_unsafe || allowed, "{name} holds unsafe");
    }
}

#[test]
fn files_are_small_and_have_a_description_and_a_meaningful_name() {
    for file in trees().into_iter().chain([root().join("tests")]).flat_map(|folder| files(&folder)) {
        let name = file.strip_prefix(root()).unwrap().display().to_string();
        let text = std::fs::read_to_string(&file).unwrap();
        let lines = text.lines().count();
        let head: String = text.lines().take_while(|l| l.starts_with("//!")).collect();
        assert!(!head.is_empty(), "{name} does not open with what it holds");
        assert!(lines <= 500 || head.contains("Long because"), "{name} has {lines} lines and no reason in its head");
        let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(!["utils", "util", "helpers", "common", "misc"].contains(&stem.as_str()), "{name}");
    }
}

#[test]
fn every_op_has_its_tests() {
    for entry in std::fs::read_dir(place("ops")).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.is_dir() || folder.ends_with("testing") {
            continue;
        }
        let tests = std::fs::read_to_string(folder.join("tests.rs")).unwrap_or_default();
        assert!(tests.contains("#[test]"), "{} has no tests.rs with a test in it", folder.display());
    }
}

#[test]
fn every_kernel_is_launched_and_checked_by_its_op() {
    let mut kernels = 0;
    for entry in std::fs::read_dir(root().join("kernels")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "cu") {
            continue;
        }
        // A large op has more than one file, `<op>_<part>.cu`.
        let mut op = path.file_stem().unwrap().to_string_lossy().into_owned();
        while !place("ops").join(&op).is_dir() {
            op.truncate(op.rfind('_').unwrap_or_else(|| panic!("{} belongs to no op", path.display())));
        }
        let folder = place("ops").join(&op);
        let files = files(&folder).into_iter().filter(|f| f.to_string_lossy().contains("cuda"));
        let rust: String = files.map(|f| std::fs::read_to_string(f).unwrap()).collect();
        assert!(rust.contains("check_kernels("), "ops/{op} does not check its kernels");
        for head in std::fs::read_to_string(&path).unwrap().split("\nPH_KERNEL").skip(1) {
            let kernel = head.split(['(', ',']).nth(1).unwrap();
            assert!(rust.contains(&format!("\"{kernel}\"")), "nobody starts {kernel} of {op}.cu");
            kernels += 1;
        }
    }
    assert!(kernels > 20, "{kernels} kernels");
}

#[test]
fn only_cuda_files_name_cuda() {
    for source in sources() {
        let name = &source.name;
        let named = imports(&source, &BTreeSet::new()).iter().any(|i| i.contains("cuda"));
        assert!(
            !named
                || name.contains("cuda")
                || source.is_test()
                || name.starts_with("ops/testing")
                || name == "executor/mod.rs",
            "{name}"
        );
    }
}

/// The kinds of task: the folders of `tasks` that contain a kind.
fn kinds_of_task() -> Vec<String> {
    let folder = place("tasks");
    let holds_one = |path: &PathBuf| {
        std::fs::read_to_string(path.join("mod.rs")).is_ok_and(|text| text.contains("\npub static KIND: Kind "))
    };
    let folders = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(holds_one);
    folders.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

/// Whether `word` appears in the text as a whole word.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part))
}

/// Whether a text names the folder of a kind of task. Code has no other way to reach it.
fn reaches(text: &str, kind: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let path = format!("{kind}::");
    let module = format!("tasks::{kind}");
    text.match_indices(&path).any(|(at, _)| !text[..at].ends_with(is_part))
        || text.match_indices(&module).any(|(at, _)| !text[at + module.len()..].starts_with(is_part))
}

#[test]
fn a_path_into_a_kind_is_found() {
    for text in ["regress::Regress", "use crate::tasks::regress;", "tasks::regress as r", "super::regress::KIND"] {
        assert!(reaches(text, "regress"), "{text}");
    }
    for text in ["progress::Bar", "tasks::regression", "let regress = 1;"] {
        assert!(!reaches(text, "regress"), "{text}");
    }
}

#[test]
fn only_tasks_names_a_kind() {
    let kinds = kinds_of_task();
    let list = std::fs::read_to_string(place("tasks/mod.rs")).unwrap();
    let listed = |kind: &String| list.contains(&format!("&{kind}::KIND"));
    assert!(kinds.len() >= 4 && kinds.iter().all(listed), "KINDS lacks some of {kinds:?}");
    let mut wrong = Vec::new();
    for source in sources() {
        let name = &source.name;
        if name.starts_with("tasks/") || source.is_test() {
            continue;
        }
        let code = source.lines().collect::<Vec<_>>().join("\n");
        let reached = kinds.iter().filter(|kind| reaches(&code, kind));
        wrong.extend(reached.map(|kind| format!("{name} looks into tasks::{kind}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The word after each `type:` in a text.
fn types_written(text: &str) -> impl Iterator<Item = &str> {
    let word = |(at, start): (usize, &str)| {
        let rest = text[at + start.len()..].trim_start_matches(' ');
        &rest[..rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())]
    };
    text.match_indices("type:").map(word).filter(|word| !word.is_empty())
}

#[test]
fn only_tasks_writes_a_kinds_word_for_data_yaml() {
    assert_eq!(types_written("`type: a`, {{type:  b_c}} {type: {word}} type:").collect::<Vec<_>>(), ["a", "b_c"]);
    let words: BTreeSet<&str> = polyhead::tasks::KINDS.iter().map(|kind| kind.yaml_word).collect();
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !source.name.starts_with("tasks/") && !source.is_test()) {
        let written = source.lines().flat_map(types_written).filter(|word| words.contains(word));
        wrong.extend(
            written.map(|word| format!("{} writes `type: {word}`: ask the kind for its yaml_word", source.name)),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// All kinds of node, read from the enum.
pub fn op_kinds() -> Vec<String> {
    let ir = std::fs::read_to_string(place("ir/op.rs")).unwrap();
    let body = ir.split("pub enum Op {").nth(1).unwrap().split("\n}").next().unwrap().to_owned();
    let variant = |line: &str| {
        let name: String = line.strip_prefix("    ")?.chars().take_while(|c| c.is_alphanumeric()).collect();
        name.starts_with(|c: char| c.is_uppercase()).then_some(name)
    };
    body.lines().filter_map(variant).collect()
}

#[test]
fn every_kind_of_node_is_created_and_has_one_row() {
    let read_all = |files: Vec<PathBuf>| -> String {
        files.iter().map(|f| std::fs::read_to_string(f).unwrap()).collect::<Vec<_>>().join("\n")
    };
    let rows = std::fs::read_to_string(place("ops/mod.rs")).unwrap();
    let makers: Vec<PathBuf> = ["ops", "graph", "ir"].iter().flat_map(|component| files(&place(component))).collect();
    let made = read_all(makers.into_iter().filter(|file| !file.ends_with("ops/mod.rs")).collect());
    let kinds = op_kinds();
    assert!(kinds.len() > 25, "{kinds:?}");
    let count = |text: &str, kind: &str| {
        let name = format!("Op::{kind}");
        let ends = |at: usize| !text[at + name.len()..].starts_with(|c: char| c.is_alphanumeric());
        text.match_indices(&name).filter(|&(at, _)| ends(at)).count()
    };
    for kind in kinds {
        assert_eq!(count(&rows, &kind), 1, "rows of {kind} in ops::operation");
        assert!(count(&made, &kind) > 0, "nobody makes {kind}");
    }
}

#[test]
fn only_ops_and_fusion_distinguish_ops() {
    for source in sources() {
        let name = &source.name;
        let names_an_op =
            source.lines().any(|l| l.match_indices("Op::").any(|(at, _)| !l[..at].ends_with(char::is_alphanumeric)));
        let allowed =
            name.starts_with("ops/") || name.starts_with("ir/") || name == "graph/fuse.rs" || source.is_test();
        assert!(!names_an_op || allowed, "{name} names an op: what is an op's property belongs to its folder");
    }
}

#[test]
fn code_uses_the_chosen_instruction_set() {
    for source in sources() {
        let name = &source.name;
        let widest = source.code().contains("Isa::detect()");
        // The description of a machine states the widest set it has.
        assert!(!widest || name == "device/cpu/isa.rs" || name == "train/run.rs", "{name} takes the widest");
    }
}

#[test]
fn no_test_is_ignored() {
    let ignored = concat!("#[", "ignore");
    for file in trees().into_iter().chain([root().join("tests")]).flat_map(|folder| files(&folder)) {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains(ignored), "{} ignores a test", file.display());
    }
}
