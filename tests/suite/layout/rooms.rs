//! The order of the rooms, as ARCHITECTURE.md and the library's head draw it: who may import whom, that no circle of imports
//! joins two rooms, and the way of an image that ARCHITECTURE.md describes.

use super::has_word;
use super::sources::{circles, graph, imports, root, sources};
use std::collections::BTreeSet;

/// The drawing of rooms in a text: the names between arrows.
fn order_in(text: &str) -> Vec<String> {
    let lines = text.lines().map(|l| l.trim_start_matches("//!").trim());
    let drawing: Vec<&str> = lines.filter(|l| l.starts_with("error → ") || l.starts_with("→ ")).collect();
    drawing.join(" ").split('→').map(|room| room.trim().to_owned()).filter(|room| !room.is_empty()).collect()
}

fn map() -> String {
    std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap()
}

fn rooms() -> Vec<String> {
    order_in(&std::fs::read_to_string(root().join("src/lib.rs")).unwrap())
}

/// The room a module path belongs to: the longest name in the drawing that it starts with.
fn rank(rooms: &[String], module: &str) -> Option<usize> {
    let fits = |room: &&String| module == room.as_str() || module.starts_with(&format!("{room}::"));
    let room = rooms.iter().filter(fits).max_by_key(|r| r.len())?;
    rooms.iter().position(|r| r == room)
}

#[test]
fn the_map_and_the_library_draw_the_same_rooms() {
    assert!(rooms().len() > 30, "{:?}", rooms());
    assert_eq!(order_in(&map()), rooms());
}

#[test]
fn a_room_looks_only_into_those_before_it() {
    let (rooms, sources) = (rooms(), sources());
    let modules: BTreeSet<String> = sources.iter().map(|source| source.module.clone()).collect();
    let mut wrong = Vec::new();
    for source in sources.iter().filter(|source| !source.is_test()) {
        let name = &source.name;
        let Some(own) = rank(&rooms, &source.module) else { panic!("{name} is in no room of the drawing") };
        for import in imports(source, &modules) {
            let Some(other) = rank(&rooms, &import) else { continue };
            if other > own {
                wrong.push(format!("{name} of {} looks into {import} of {}", rooms[own], rooms[other]));
            }
            let vectors = import.starts_with("device::cpu::");
            let of_data = |room: &str| room.split("::").next() == Some("data");
            if of_data(&rooms[own])
                && !vectors
                && !of_data(&rooms[other])
                && !["error", "files", "boxes", "random", "geometry", "reading", "tasks"]
                    .contains(&rooms[other].as_str())
            {
                wrong.push(format!(
                    "{name}: data knows error, files, boxes, random, geometry, reading, tasks and the CPU's vectors only, not {import}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Within a room files may import each other; a circle through two rooms would make them one.
#[test]
fn no_circle_of_imports_joins_two_rooms() {
    let (rooms, sources) = (rooms(), sources());
    let graph = graph(&sources);
    assert!(graph.len() > 300, "{} files", graph.len());
    let joins = |circle: &&BTreeSet<&str>| {
        circle.iter().map(|module| rank(&rooms, module)).collect::<BTreeSet<Option<usize>>>().len() > 1
    };
    let circles = circles(&graph);
    let wrong: Vec<String> = circles.iter().filter(joins).map(|circle| format!("{circle:?}")).collect();
    assert!(wrong.is_empty(), "files of several rooms import each other in a circle:\n{}", wrong.join("\n"));
}

/// Each line of the walk names a file and the word that leads a reader to it: the word stands in that file and in an earlier one.
#[test]
fn the_way_of_an_image_is_as_it_is_described() {
    let map = map();
    let walk = map.split("## The way of an image\n").nth(1).expect("the section").split("\n## ").next().unwrap();
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
    assert!((10..=16).contains(&texts.len()), "the way of an image is through {} files", texts.len());
}
