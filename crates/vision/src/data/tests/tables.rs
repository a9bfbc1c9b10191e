//! Faults in CSV tables: the line they are on, and what the message says about the cell, the header and the names.

use super::{Folder, label, of_values};

/// Two images, and a data.yaml with the task `price` from labels.csv.
fn priced(table: &str) -> Folder {
    let folder = Folder::new();
    folder.images(&["images/a.png", "images/b.png"]).text("labels.csv", table);
    folder.text(
        "data.yaml",
        "train: images\ntasks:\n  price: {type: regress, from: {csv: labels.csv, column: price}, range: [0, 9]}\n",
    );
    folder
}

#[test]
fn lines_are_counted_with_any_line_end() {
    let not_a_number = "column `price` holds `x`; expected a number, or a blank cell for unlabelled";
    let outside = "12 is outside the declared `range: [0, 9]`: correct the value or the range";
    let cells = "2 cells, but the header has 3: quote cells that hold a comma";
    for (table, line, message) in [
        ("file,price,note\na.png,1,\nb.png,x,\n", 3, not_a_number),
        ("file,price,note\na.png,1,\nb.png,12,\n", 3, outside),
        ("file,price,note\na.png,1,\nb.png,1\n", 3, cells),
        // Blank lines count, and so do those within quoted cells.
        ("file,price,note\n\n\na.png,1,\n\nb.png,x,", 6, not_a_number),
        ("file,price,note\na.png,1,\"two\n\nlines\n\"\nb.png,x,\n", 6, not_a_number),
        ("file,price,\"note\n\"\n\na.png,1,\"\n\n\"\n\nb.png,x,\"\n\n\"\n", 8, not_a_number),
    ] {
        for end in ["\n", "\r\n", "\r"] {
            let said = priced(&table.replace('\n', end)).error();
            assert_eq!(said, format!("DIR/labels.csv:{line}: {message}"), "{table:?} with {end:?}");
        }
    }
}

#[test]
fn lines_are_counted_where_a_line_end_lies_between_two_reads() {
    // The reader's buffers hold a few thousand bytes, so over these lengths every one of them ends between `\r` and `\n`.
    for extra in 0..24 {
        let rows: String = (0..1500).map(|i| format!("{i:016},1\r\n\r\n")).collect();
        let table = format!("file,price\r\n{},1\r\n{rows}a.png,1\r\nb.png,x\r\n", "x".repeat(1 + extra));
        let said = priced(&table).error();
        assert!(said.starts_with("DIR/labels.csv:3004: column `price` holds `x`"), "{extra}: {said}");
    }
}

#[test]
fn the_separator_may_be_named_before_the_header() {
    for end in ["\n", "\r\n"] {
        let said = priced(&"sep=;\nfile;price\na.png;1.5\nb.png;x\n".replace('\n', end)).error();
        assert!(said.starts_with("DIR/labels.csv:4: column `price` holds `x`"), "{said}");
        let folder = priced(&"\nSEP=|\nfile|price\na.png|1.5\nb.png|x\n".replace('\n', end));
        assert!(folder.error().starts_with("DIR/labels.csv:5: column `price` holds `x`"), "{}", folder.error());
        // A header after a blank line names the separator, too.
        let folder = priced(&"\nfile;price\na.png;1.5\nb.png;y\n".replace('\n', end));
        assert!(folder.error().starts_with("DIR/labels.csv:4: column `price` holds `y`"), "{}", folder.error());
    }
}

#[test]
fn a_table_in_utf_16_is_read() {
    let folder = priced("");
    let table: Vec<u8> =
        "\u{feff}file,price\r\na.png,1.5\r\nb.png,2\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    std::fs::write(folder.path().join("labels.csv"), table).unwrap();
    assert_eq!(*label(&folder.open(), "images/a.png", 0), of_values(vec![1.5]));
}

#[test]
fn lines_of_box_tables_are_counted_with_any_line_end() {
    for end in ["\n", "\r\n", "\r"] {
        let folder = Folder::new();
        let table = "filename,class,xmin,ymin,xmax,ymax\na.png,cat,1,1,9,9\n\nb.png,cat,1,1,x,9\n";
        folder.images(&["a.png", "b.png"]).text("boxes.csv", &table.replace('\n', end));
        let said = folder.error();
        assert_eq!(said, "DIR/boxes.csv:4: column `xmax` holds `x`: expected a number of pixels", "{end:?}");
    }
    let folder = Folder::new();
    folder.images(&["a.png", "b.png"]);
    std::fs::write(
        folder.path().join("boxes.csv"),
        b"filename,class,xmin,ymin,xmax,ymax\r\na.png,cat,1,1,9,9\r\n\r\nb.png,\xff,1,1,2,9\r\n",
    )
    .unwrap();
    let said = folder.error();
    assert!(said.starts_with("DIR/boxes.csv:4: the text in cell 2 is not UTF-8: save the file as UTF-8"), "{said}");
}

#[test]
fn words_among_numbers_are_an_error_with_their_line() {
    let table = |stray: &str, more: &str| {
        let folder = Folder::new();
        let names: Vec<String> = (0..30).map(|i| format!("train/{i:02}.png")).collect();
        folder.images(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let cell = |i: usize| if i == 2 || i % 11 == 10 { stray.to_string() } else { format!("{i}.5") };
        let rows: String = (0..30).map(|i| format!("{i:02}.png,{}{more}\n", cell(i))).collect();
        folder.text("train/metadata.csv", &format!("file_name,price{more}\n{rows}"));
        folder
    };
    let expected = "DIR/train/metadata.csv:4: 27 of 30 cells of column `price` are numbers, but this one holds `n.a.`: leave the cell blank for an unlabelled image, or declare the tasks in a data.yaml, as in `tasks: {price: {type: classify, from: price}}`";
    // The column alone, and beside another that could be a task.
    assert_eq!(table("n.a.", "").error(), expected);
    assert_eq!(table("n.a.", ",extra").error(), expected);
    let dataset = table("", "").open();
    assert_eq!((dataset.tasks.len(), dataset.tasks[0].kind_word()), (1, "regression"));
    // The line that the message names is a data.yaml.
    let folder = table("n.a.", "");
    folder.text("data.yaml", "{train: train, tasks: {price: {type: classify, from: price}}}");
    assert_eq!(folder.open().tasks[0].kind_word(), "classification");
}

#[test]
fn ranks_of_cards_are_classes() {
    let ranks = ["2", "3", "4", "5", "6", "7", "8", "9", "10", "J", "Q", "K", "A"];
    let folder = Folder::new();
    let mut table = "file_name,rank\n".to_owned();
    for i in 0..52 {
        folder.images(&[&format!("train/{i}.png")]);
        table += &format!("{i}.png,{}\n", ranks[i % 13]);
    }
    folder.text("train/metadata.csv", &table);
    assert_eq!(folder.open().tasks[0].classes().len(), 13);
}

#[test]
fn a_table_of_very_many_columns_is_asked_about_in_a_short_message() {
    let many = |key: &str| {
        let names: String = (0..5000).map(|i| format!(",c{i}")).collect();
        let row = |image: &str, value: &str| format!("{image}{}\n", format!(",{value}").repeat(5000));
        format!("{key}{names}\n{}{}", row("a.png", "1.5"), row("b.png", "2.5"))
    };
    let folder = Folder::new();
    folder.images(&["a.png", "b.png"]).text("metadata.csv", &many("file_name"));
    assert_eq!(
        folder.error(),
        "DIR/metadata.csv:1: 5000 columns could be tasks (c0, c1, c2, …): declare those to train in a data.yaml, as in `{tasks: {c0: {type: regress, from: c0}}}`"
    );
    let folder = Folder::new();
    folder.images(&["a.png", "b.png"]).text("labels.csv", &many("file"));
    let said = folder.error();
    assert!(said.ends_with("; the table has 4996 columns more, which can be declared in the same way"), "{said}");
    assert!(said.len() < 800, "{said}");
}

#[test]
fn a_table_without_a_header_is_asked_about() {
    assert_eq!(
        priced("a.png,1\nb.png,2\n").error(),
        "DIR/labels.csv:1: is the first row a header? It holds a.png, 1: add a row above it with the columns' names, the one of the file names called file, file_name, filename or image"
    );
    let folder = priced("a.png,1\nb.png,2\n");
    folder.text("data.yaml", "train: images\ntasks:\n  price: {type: regress, from: {csv: labels.csv, key: name}}\n");
    let said = folder.error();
    assert!(said.ends_with("the one of the file names called `name` (`key:`)"), "{said}");
}

#[test]
fn only_a_name_that_is_nearly_the_same_is_given_as_what_is_not_matched() {
    let said = |row: &str, image: &str| {
        let folder = Folder::new();
        folder.images(&[&format!("images/{image}"), "images/other.png"]);
        folder.text("labels.csv", &format!("file,price\n{row},1\n"));
        folder.text("data.yaml", "train: images\ntasks:\n  price: {type: regress, from: {csv: labels.csv}}\n");
        folder.error()
    };
    for (row, image, first) in [
        ("x/IMG_2385.jpeg", "IMG_2385.png", "`x/IMG_2385.jpeg` does not match `images/IMG_2385.png`"),
        ("IMX_2385.png", "IMG_2385.png", "`IMX_2385.png` does not match `images/IMG_2385.png`"),
        ("IMX_2385.png", "IMG_2386.png", "the first names `IMX_2385.png`, and an image here is `images/IMG_2386.png`"),
        ("IMG_2385.png", "IMG_2386.png", "the first names `IMG_2385.png`, and an image here is `images/IMG_2386.png`"),
        ("a.png", "b.png", "the first names `a.png`, and an image here is `images/b.png`"),
    ] {
        let expected = format!(
            "DIR/labels.csv:2: no row names an image of this data set: {first}; write paths relative to the images"
        );
        assert_eq!(said(row, image), expected);
    }
}

/// The rows describe each image, whatever splits it is in.
#[test]
fn a_table_serves_images_that_are_for_training_and_for_validation() {
    let folder = Folder::new();
    folder.images(&["images/a.png", "images/b.png"]).text("labels.csv", "file,price\na.png,1\nb.png,2\n");
    let tasks = "tasks: {price: {type: regress, from: {csv: labels.csv, column: price}}}\n";
    folder.text("data.yaml", &format!("train: images\nval: images\n{tasks}"));
    let dataset = folder.open();
    assert_eq!((dataset.train.len(), dataset.val.len()), (2, 2));
    assert!(dataset.val.iter().all(|sample| sample.labels[0].is_labelled()));
    let note = "2 images in both train and val (images/a.png, images/b.png): val metrics will be too optimistic";
    assert!(dataset.notes.iter().any(|n| n == note), "{:?}", dataset.notes);
    // Two images of one name are still an error, and count once each.
    folder.images(&["images/more/a.png"]);
    let said = folder.error();
    assert_eq!(said, "DIR/labels.csv:2: `a.png` is the name of 2 images: write the path relative to DIR");
}

#[test]
fn lines_of_text_files_are_counted_with_any_line_end() {
    for end in ["\n", "\r\n"] {
        let text = |lines: &str| lines.replace('\n', end);
        let folder = Folder::new();
        folder.images(&["images/a.png"]).text("labels/a.txt", &text("0 0.5 0.5 0.5 0.5\n\n0 x 0.5 0.5 0.5\n"));
        folder.text("data.yaml", &text("train: images\nval: images\nnames: [thing]\n"));
        let said = folder.error();
        assert!(said.starts_with("DIR/labels/a.txt:3: "), "{end:?}: {said}");
        folder.text("data.yaml", &text("train: images\nval: images\nnames: [thing]\nnc: x\n"));
        let said = folder.error();
        assert!(said.starts_with("DIR/data.yaml:4: "), "{end:?}: {said}");
        let folder = Folder::new();
        let rows = "{\"file_name\": \"a.png\", \"k\": 1}\n\n{\"file_name\": \"b.png\" \"k\": 2}\n";
        folder.images(&["a.png", "b.png"]).text("metadata.jsonl", &text(rows));
        let said = folder.error();
        assert!(said.starts_with("DIR/metadata.jsonl:3: "), "{end:?}: {said}");
    }
}
