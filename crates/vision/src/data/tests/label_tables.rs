//! CSV files with one row per image, read without a data.yaml: which table, which column names the images, what the others hold.

use super::{Folder, assert_note, label, of_class, of_classes};
use crate::data::describe::data_yaml;
use crate::data::{OpenOptions, Progress};

/// Images `images/00.png` to `images/11.png` in these folders.
fn images(folder: &str) -> Folder {
    let names: Vec<String> = (0..12).map(|i| format!("{folder}/i{i:02}.png")).collect();
    let made = Folder::new();
    made.images(&names.iter().map(String::as_str).collect::<Vec<_>>());
    made
}

fn rows(header: &str, row: impl Fn(usize) -> String) -> String {
    format!("{header}\n{}", (0..12).map(|i| format!("{}\n", row(i))).collect::<String>())
}

fn kinds(folder: &Folder) -> Vec<(String, String)> {
    let dataset = folder.open();
    let text = data_yaml(folder.path(), &OpenOptions::default(), &Progress::default()).unwrap();
    folder.text("data.yaml", &text);
    let again = folder.open();
    assert_eq!((&again.train, &again.val), (&dataset.train, &dataset.val), "{text}");
    std::fs::remove_file(folder.path().join("data.yaml")).unwrap();
    dataset.tasks.iter().map(|task| (task.name.clone(), task.kind_word().to_string())).collect()
}

fn of(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, kind)| (name.to_string(), kind.to_string())).collect()
}

#[test]
fn names_with_and_without_endings_and_words_and_numbers() {
    let folder = images("images");
    folder.text("train.csv", &rows("id,breed,age", |i| format!("i{i:02},{},{}.5", ["collie", "pug"][i % 2], i)));
    folder.text("sample_submission.csv", "id,breed\ni00,pug\n");
    assert_eq!(kinds(&folder), of(&[("breed", "classification"), ("age", "regression")]));
    let dataset = folder.open();
    assert!(
        dataset
            .layout
            .starts_with("CSV with one row per image (train.csv: breed as classification, age as regression) in "),
        "{}",
        dataset.layout
    );
    assert_eq!(*label(&dataset, "images/i03.png", 0), of_class(1));
    // Few whole numbers may be classes.
    let folder = images("train_images");
    folder.text("grades.csv", &rows("photo,grade", |i| format!("train_images/i{i:02}.png,{}", i % 3)));
    assert_eq!(kinds(&folder), of(&[("grade", "regression")]));
    assert_note(
        &folder.open(),
        "grades.csv: the numbers in `grade` are read as values, not as classes; if they are classes, add a data.yaml with `tasks: {grade: {type: classify, from: {csv: grades.csv, column: grade, key: photo}}}`",
    );
}

#[test]
fn one_table_for_each_split() {
    let folder = images("pictures");
    let part = |from: usize, to: usize| {
        let rows: String = (from..to).map(|i| format!("i{i:02}.png,{}\n", ["a", "b"][i % 2])).collect();
        format!("image,kind\n{rows}")
    };
    folder.text("train.csv", &part(0, 6)).text("val.csv", &part(6, 9)).text("test.csv", &part(9, 12));
    assert_eq!(kinds(&folder), of(&[("kind", "classification")]));
    let dataset = folder.open();
    assert_eq!((dataset.train.len(), dataset.val.len(), dataset.test.len()), (6, 3, 3));
}

#[test]
fn several_labels_in_columns_of_0_and_1_and_in_cells_of_words() {
    let folder = images("images");
    folder.text("labels.csv", &rows("image_id,rust,scab", |i| format!("i{i:02},{},{}", i % 2, i / 6)));
    assert_eq!(kinds(&folder), of(&[("labels", "multi-label")]));
    let tags = ["clear road", "clear", "haze road water", "haze", "clear water", "road water clear", "haze water"];
    for (separator, note) in [(" ", "blanks"), ("|", "`|`")] {
        let folder = images("images");
        folder.text(
            "labels.csv",
            &rows("image_name,tags", |i| format!("i{i:02},{}", tags[i % 7].replace(' ', separator))),
        );
        assert_eq!(kinds(&folder), of(&[("tags", "multi-label")]));
        assert_note(&folder.open(), &format!("tags: the cells of `tags` are lists of classes separated by {note}"));
        let dataset = folder.open();
        assert_eq!(dataset.tasks[0].classes(), ["clear", "haze", "road", "water"]);
        assert_eq!(
            *label(&dataset, "images/i00.png", 0),
            of_classes(vec![Some(true), Some(false), Some(true), Some(false)])
        );
    }
    // Names of several words are classes.
    let folder = images("images");
    let breeds = ["golden retriever", "labrador retriever", "pug", "border collie"];
    folder.text("labels.csv", &rows("image,breed", |i| format!("i{i:02}.png,{}", breeds[i % 4])));
    assert_eq!(kinds(&folder), of(&[("breed", "classification")]));
}

#[test]
fn doubtful_tables_are_left_to_the_user() {
    let table = rows("image,kind", |i| format!("i{i:02}.png,{}", ["a", "b"][i % 2]));
    // Two tables.
    let folder = images("images");
    folder.text("one.csv", &table).text("two.csv", &table);
    assert!(folder.error().contains("one.csv has rows for them"), "{}", folder.error());
    // More columns than anybody means.
    let folder = images("images");
    let columns: Vec<String> = (0..40).map(|i| format!("c{i}")).collect();
    folder.text(
        "labels.csv",
        &rows(&format!("image,{}", columns.join(",")), |i| format!("i{i:02}.png{}", format!(",{i}.5").repeat(40))),
    );
    assert!(folder.error().contains("labels.csv has rows for them"), "{}", folder.error());
    // Class folders name a class, too.
    let folder = Folder::new();
    folder.images(&["cat/i00.png", "dog/i01.png", "cat/i02.png", "dog/i03.png"]);
    folder.text("labels.csv", "image,kind\ni00.png,a\ni01.png,b\ni02.png,a\ni03.png,b\n");
    let said = folder.error();
    assert!(said.contains("labels.csv looks like labels of these images"), "{said}");
    assert!(said.contains("{kind: {type: classify, from: {csv: labels.csv, column: kind}}}"), "{said}");
}
