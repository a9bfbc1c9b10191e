//! Checks the order of the components in ARCHITECTURE.md and src/lib.rs: which may import which, that no circle of imports joins
//! two of them, and the path from an image to its loss that ARCHITECTURE.md describes.

use super::has_word;
use super::sources::{circles, graph, imports, root, sources};
use std::collections::BTreeSet;

/// The components in a text's drawing, which are separated by arrows.
fn order_in(text: &str) -> Vec<String> {
    let lines = text.lines().map(|l| l.trim_start_matches("//!").trim());
    let drawing: Vec<&str> = lines.filter(|l| l.starts_with("error → ") || l.starts_with("→ ")).collect();
    drawing
        .join(" ")
        .split('→')
        .map(|component| component.trim().to_owned())
        .filter(|component| !component.is_empty())
        .collect()
}

fn architecture_page() -> String {
    std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap()
}

fn components() -> Vec<String> {
    order_in(&std::fs::read_to_string(root().join("src/lib.rs")).unwrap())
}

/// The index of the component that a module path belongs to: the longest name in the drawing that the path starts with.
fn rank(components: &[String], module: &str) -> Option<usize> {
    let fits = |component: &&String| module == component.as_str() || module.starts_with(&format!("{component}::"));
    let component = components.iter().filter(fits).max_by_key(|r| r.len())?;
    components.iter().position(|r| r == component)
}

#[test]
fn the_architecture_page_and_the_library_draw_the_same_components() {
    assert!(components().len() > 30, "{:?}", components());
    assert_eq!(order_in(&architecture_page()), components());
}

#[test]
fn a_component_imports_only_from_those_before_it() {
    let (components, sources) = (components(), sources());
    let modules: BTreeSet<String> = sources.iter().map(|source| source.module.clone()).collect();
    let mut wrong = Vec::new();
    for source in sources.iter().filter(|source| !source.is_test()) {
        let name = &source.name;
        let Some(own) = rank(&components, &source.module) else { panic!("{name} is in no component of the drawing") };
        for import in imports(source, &modules) {
            let Some(other) = rank(&components, &import) else { continue };
            if other > own {
                wrong.push(format!("{name} of {} looks into {import} of {}", components[own], components[other]));
            }
            let vectors = import.starts_with("device::cpu::");
            let of_data = |component: &str| component.split("::").next() == Some("data");
            if of_data(&components[own])
                && !vectors
                && !of_data(&components[other])
                && !["error", "threads", "files", "boxes", "random", "geometry", "archives", "reading", "tasks"]
                    .contains(&components[other].as_str())
            {
                wrong.push(format!(
                    "{name}: data knows error, threads, files, boxes, random, geometry, archives, reading, tasks and the CPU's vectors only, not {import}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Within a component files may import each other. A circle through two components would make them one.
#[test]
fn no_circle_of_imports_joins_two_components() {
    let (components, sources) = (components(), sources());
    let graph = graph(&sources);
    assert!(graph.len() > 300, "{} files", graph.len());
    let joins = |circle: &&BTreeSet<&str>| {
        circle.iter().map(|module| rank(&components, module)).collect::<BTreeSet<Option<usize>>>().len() > 1
    };
    let circles = circles(&graph);
    let wrong: Vec<String> = circles.iter().filter(joins).map(|circle| format!("{circle:?}")).collect();
    assert!(wrong.is_empty(), "files of several components import each other in a circle:\n{}", wrong.join("\n"));
}

/// Each line names a file, and a word that leads the reader to it: the word is in that file and in an earlier one.
#[test]
fn the_path_from_an_image_to_its_loss_is_as_described() {
    let page = architecture_page();
    let walk = page.split("## From an image to its loss\n").nth(1).expect("the section").split("\n## ").next().unwrap();
    let is_numbered =
        |line: &&str| line.split_once(". `").is_some_and(|(number, _)| number.trim().parse::<usize>().is_ok());
    let mut texts = Vec::<String>::new();
    for line in walk.lines().filter(is_numbered) {
        let quoted: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
        let [file, word] = [quoted[0], quoted[1]];
        let text = std::fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert!(has_word(&text, word), "{file} does not say `{word}`");
        let leads = texts.is_empty() || texts.iter().any(|text| has_word(text, word));
        assert!(leads, "no file before {file} says `{word}`");
        texts.push(text);
    }
    assert!((10..=16).contains(&texts.len()), "the path of an image goes through {} files", texts.len());
}
