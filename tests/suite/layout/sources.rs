//! The source code of all packages as one tree of modules, with the imports of each file. Re-exports (`pub use`) are not
//! followed: an import leads to the module that it names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The `src` folders of the product and of the packages under `crates/`. Components have the same names in all of them.
pub fn trees() -> Vec<PathBuf> {
    let mut trees = vec![root().join("src")];
    let packages = std::fs::read_dir(root().join("crates")).into_iter().flatten();
    trees.extend(packages.map(|package| package.unwrap().path().join("src")).filter(|tree| tree.is_dir()));
    trees.sort();
    trees
}

/// The file or folder of this name in whichever `src` has it.
pub fn place(name: &str) -> PathBuf {
    let mut places = trees().into_iter().map(|tree| tree.join(name)).filter(|place| place.exists());
    places.next().unwrap_or_else(|| panic!("no src has {name}"))
}

/// The Rust files of a folder and its subfolders.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A source file.
pub struct Source {
    /// Path relative to `src`, with `/` between its parts.
    pub name: String,
    /// `data::images::jpeg` for `data/images/jpeg/mod.rs`.
    pub module: String,
    pub text: String,
}

impl Source {
    /// The text before its tests.
    pub fn code(&self) -> &str {
        self.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(&self.text)
    }

    /// The lines of [`Source::code`] without comments.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.code().lines().filter(|line| !line.trim_start().starts_with("//"))
    }

    pub fn is_test(&self) -> bool {
        self.name.contains("tests")
    }
}

/// All files except `lib.rs`, which lists the components.
pub fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    for tree in trees() {
        for file in files(&tree) {
            let name = file.strip_prefix(&tree).unwrap().to_string_lossy().replace('\\', "/");
            let module = name.trim_end_matches(".rs").trim_end_matches("/mod").replace('/', "::");
            if module != "lib" {
                sources.push(Source { name, module, text: std::fs::read_to_string(&file).unwrap() });
            }
        }
    }
    sources
}

/// The imports of a file as paths from the root: those of its `use` lines, by `crate`, `super` or the engine's name, and the
/// paths in its code.
pub fn imports(source: &Source, modules: &BTreeSet<String>) -> Vec<String> {
    let (uses, rest) = split_uses(&source.lines().collect::<Vec<_>>().join("\n"));
    let mut found: Vec<String> = uses.iter().flat_map(|tree| paths_of(tree)).collect();
    for start in ["crate::", "super::", "self::", "polyhead_engine::"] {
        for (at, _) in rest.match_indices(start) {
            // A match inside another path or word does not count.
            if !rest[..at].ends_with(|c: char| c.is_alphanumeric() || "_:".contains(c)) {
                found.push(rest[at..].chars().take_while(|c| c.is_alphanumeric() || "_:".contains(*c)).collect());
            }
        }
    }
    found.iter().filter_map(|path| from_root(path, &source.module, modules)).collect()
}

/// The trees of the `use` items, and the code without these items.
fn split_uses(code: &str) -> (Vec<String>, String) {
    let (mut uses, mut rest, mut open) = (Vec::new(), String::new(), None::<String>);
    for line in code.lines() {
        let item = line.trim_start();
        let item = item.strip_prefix("pub(crate) ").or(item.strip_prefix("pub ")).unwrap_or(item);
        match (&mut open, item.strip_prefix("use ")) {
            (Some(tree), _) => tree.push_str(line),
            (None, Some(tree)) => open = Some(tree.to_owned()),
            (None, None) => rest.extend([line, "\n"]),
        }
        if let Some((tree, _)) = open.as_ref().and_then(|tree| tree.split_once(';')) {
            uses.push(tree.to_owned());
            open = None;
        }
    }
    (uses, rest)
}

/// `a::{b, c::{d, e}}` becomes `a::b`, `a::c::d` and `a::c::e`.
fn paths_of(tree: &str) -> Vec<String> {
    let Some((head, body)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or(tree).trim();
        return vec![path.trim_end_matches("::self").to_owned()];
    };
    let body = &body[..body.rfind('}').expect("a brace that is closed")];
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for c in body.chars() {
        match c {
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        parts.last_mut().unwrap().push(c);
    }
    let parts = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty());
    parts.flat_map(|part| paths_of(&format!("{}{part}", head.trim()))).collect()
}

/// The path from the root for a path written in `module`; `None` if it leads outside the project.
fn from_root(path: &str, module: &str, modules: &BTreeSet<String>) -> Option<String> {
    let path = path.trim_end_matches(':');
    let (first, below) = path.split_once("::").unwrap_or((path, ""));
    if first == "crate" || first == "polyhead_engine" {
        return Some(below.to_owned());
    }
    let mut base: Vec<&str> = module.split("::").collect();
    let mut parts: Vec<&str> = path.split("::").collect();
    if first == "super" {
        let ups = parts.iter().take_while(|part| **part == "super").count();
        base.truncate(base.len().saturating_sub(ups));
        parts.drain(..ups);
    } else if first == "self" {
        parts.remove(0);
    } else if !modules.contains(&format!("{module}::{first}")) {
        return None;
    }
    Some([base, parts].concat().join("::"))
}

/// For each module except tests, the modules that it imports.
pub fn graph(sources: &[Source]) -> BTreeMap<&str, BTreeSet<&str>> {
    let modules: BTreeSet<String> = sources.iter().map(|source| source.module.clone()).collect();
    let mut graph = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.is_test()) {
        let edges: &mut BTreeSet<&str> = graph.entry(source.module.as_str()).or_default();
        edges.extend(imports(source, &modules).iter().filter_map(|path| module_of(path, &modules)).map(|module| {
            let at = sources.iter().find(|source| source.module == module).expect("it is one of them");
            at.module.as_str()
        }));
        edges.remove(source.module.as_str());
    }
    graph
}

/// The module of a path: its longest prefix that is a module.
fn module_of(path: &str, modules: &BTreeSet<String>) -> Option<String> {
    let mut module = path;
    loop {
        if modules.contains(module) {
            return Some(module.to_owned());
        }
        module = module.rsplit_once("::")?.0;
    }
}

/// The circles of a graph: groups of nodes that can all reach each other.
pub fn circles<'a>(graph: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Vec<BTreeSet<&'a str>> {
    let reached = |from: &'a str| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(node) = open.pop() {
            open.extend(graph.get(node).into_iter().flatten().copied().filter(|next| seen.insert(*next)));
        }
        seen
    };
    let reached: BTreeMap<&str, BTreeSet<&str>> = graph.keys().map(|&node| (node, reached(node))).collect();
    let circle = |node: &&'a str| -> BTreeSet<&'a str> {
        reached[*node].iter().copied().filter(|other| reached.get(other).is_some_and(|r| r.contains(*node))).collect()
    };
    let circles: BTreeSet<BTreeSet<&str>> = graph.keys().map(circle).filter(|circle| circle.len() > 1).collect();
    circles.into_iter().collect()
}

#[test]
fn a_use_names_all_that_it_imports() {
    let code = "use crate::data::{\n    images::{self, Part},\n    walk,\n};\npub(crate) use super::near::Thing as Other;\nuse std::fmt;\nfn f() { self::own::g(); let x = super::super::far::h; }\n";
    let source = Source { name: "a/b/c.rs".into(), module: "a::b::c".into(), text: code.into() };
    let expected =
        ["data::images", "data::images::Part", "data::walk", "a::b::near::Thing", "a::far::h", "a::b::c::own::g"];
    assert_eq!(imports(&source, &BTreeSet::new()), expected);
}

#[test]
fn a_circle_is_found_and_a_chain_is_none() {
    let graph = |edges: &[(&'static str, &'static str)]| {
        let mut graph: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (from, to) in edges {
            graph.entry(from).or_default().insert(to);
        }
        graph
    };
    assert!(circles(&graph(&[("a", "b"), ("b", "c"), ("a", "c")])).is_empty());
    let round = circles(&graph(&[("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")]));
    assert_eq!(round, [BTreeSet::from(["a", "b", "c"])]);
}
