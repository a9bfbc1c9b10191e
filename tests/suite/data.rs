//! `polyhead data` from the command line: describing a data set, a repaired copy, pictures, other layouts, the full
//! declaration.

use crate::cli::{digits, path, session, succeed};
use crate::step::Folder;
use serde_json::Value;

#[test]
fn a_sound_set_is_checked_described_drawn_and_converted() {
    let folder = Folder::new("data-sound");
    let data = digits(&folder, 24);
    session(&folder, "data");
    assert!(!folder.path.join("refused").exists());
    let found: Value = serde_json::from_slice(&std::fs::read(path(&folder, "check.json")).unwrap()).unwrap();
    assert_eq!(found["coverage"]["images"], serde_json::json!([24, 9, 5]));
    assert_eq!((&found["problems"], &found["stops"]), (&serde_json::json!([]), &serde_json::json!([])));

    let checked = succeed(&["data", "check", &data]);
    let yaml = path(&folder, "elsewhere.yaml");
    std::fs::write(&yaml, succeed(&["data", "describe", &data])).unwrap();
    let again = succeed(&["data", "check", &yaml]);
    assert_eq!(checked.lines().skip(1).collect::<Vec<_>>(), again.lines().skip(1).collect::<Vec<_>>());

    let sheet = path(&folder, "sheet.png");
    for _ in 0..2 {
        succeed(&["data", "preview", &data, "--out", &sheet, "--count", "5", "--split", "val", "--seed", "3"]);
    }
    // An image of the data set is not replaced.
    let image = format!("{data}/val/00000.png");
    let before = std::fs::read(&image).unwrap();
    let words = format!("{image} would be replaced, and polyhead did not write this file");
    crate::cli::fail(&["data", "preview", &data, "--out", &image], 2, &[&words]);
    assert_eq!(std::fs::read(&image).unwrap(), before);
    let drawn = image::open(&sheet).unwrap();
    // Three cells of 640 pixels per row, with gaps of 8.
    assert!(drawn.width() == 3 * 648 + 8 && drawn.height() > 2 * 640, "{} x {}", drawn.width(), drawn.height());

    let converted = succeed(&["data", "check", &path(&folder, "own")]);
    // A row without boxes needs no note about missing files.
    let figures = |said: &str| {
        said.lines()
            .skip(1)
            .filter(|l| !l.is_empty() && !l.starts_with("note: "))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(figures(&checked), figures(&converted));
}

#[test]
fn a_broken_set_is_refused_and_its_repaired_copy_is_accepted() {
    let folder = Folder::new("data-broken");
    let data = digits(&folder, 24);
    std::fs::write(format!("{data}/labels/train/00001.txt"), "3 0.5 0.5 0.2 0.2\n12 0.5 0.5 0.2 0.2\n1 30 30 9 9\n")
        .unwrap();
    std::fs::write(format!("{data}/train/00003.png"), "no picture").unwrap();
    // The second command finds its existing copy and does not overwrite it.
    session(&folder, "data_broken");
    let found: Value = serde_json::from_slice(&std::fs::read(path(&folder, "check.json")).unwrap()).unwrap();
    let kinds: Vec<&str> = found["problems"].as_array().unwrap().iter().map(|p| p["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["label", "label", "unreadable_image"]);
    assert_eq!(found["problems"][0]["line"], 2);
}
