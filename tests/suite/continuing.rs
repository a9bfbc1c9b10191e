//! `train --weights` with weights of an earlier run: the outputs of a head continue by the names of its classes or columns.

use crate::cli::{SMALL, digits, fail, path, run, text, train};
use crate::step::Folder;
use candle_core::Tensor;
use polyhead::executor::{ParameterSet, Store};
use polyhead::ir::Mode;
use polyhead::model::start::{Started, start_from};
use polyhead::model::weights::{self, Slot, Tensors};
use polyhead::model::{Architecture, Backbone, Card, HeadSize, ModelFile, init};
use polyhead::tasks::Task;
use polyhead::tasks::classify::Classify;
use polyhead::tasks::detect::Detect;
use polyhead::tasks::multi_label::MultiLabel;
use polyhead::tasks::regress::Regress;
use std::path::Path;

/// The bits of each output's numbers.
fn rows(tensor: &Tensor) -> Vec<Vec<u32>> {
    let row = |i| tensor.get(i).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    (0..tensor.dims()[0]).map(|i| row(i).into_iter().map(f32::to_bits).collect()).collect()
}

/// Asserts that a tensor has the `before` rows at `places`, and the `initial` ones where there is no place.
fn assert_rows(name: &str, after: &Tensors, [before, initial]: [&Tensors; 2], places: &[Option<usize>]) {
    let [after, before, initial] = [after, before, initial].map(|tensors| rows(&tensors[name]));
    assert_eq!(after.len(), places.len(), "{name}");
    for (row, place) in places.iter().enumerate() {
        assert!(after[row] == place.map_or(&initial[row], |place| &before[place])[..], "{name}: row {row}, {place:?}");
    }
    // Without this, a row that did not continue would look like one that did.
    assert!(name.ends_with("bias") || before.iter().all(|row| !initial.contains(row)), "{name}");
}

fn assert_same(prefix: &str, a: &Tensors, b: &Tensors) {
    let names: Vec<&String> = a.keys().filter(|name| name.starts_with(prefix)).collect();
    assert!(!names.is_empty());
    for name in names {
        assert!(rows(&a[name]) == rows(&b[name]), "{name}");
    }
}

#[test]
fn a_run_continues_the_classes_that_both_have_by_name() {
    let folder = Folder::new("class-names");
    let data = digits(&folder, 16);
    let first = train(&folder, &data, "first", &["--epochs", "1", "--lr0", "0.01"]);
    let change = |file: &str, pairs: &[(&str, &str)]| {
        let file = Path::new(&data).join(file);
        let mut text = std::fs::read_to_string(&file).unwrap();
        for (old, new) in pairs {
            assert!(text.contains(old), "{text}");
            text = text.replace(old, new);
        }
        std::fs::write(&file, text).unwrap();
    };
    change("labels.csv", &[("squared", "dotted")]);
    let ten = |words: [usize; 10]| words.map(|word| format!("'{word}'")).join(", ");
    let [digits_before, digits_now] = [ten([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), ten([9, 8, 7, 6, 5, 4, 3, 2, 1, 0])];
    let papers = ("plain, ruled, squared, speckled", "speckled, dotted, plain, lined, ruled");
    change("data.yaml", &[papers, (digits_before.as_str(), digits_now.as_str())]);
    let project = path(&folder, "runs/train");
    let own = ["train", &data, "--project", &project, "--name", "second", "--weights", &first, "--epochs", "1"];
    let output = run(&[&own, &SMALL[..]].concat());
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    for note in [
        "note: paper: 3 of 5 classes continue by name (speckled, plain, ruled); new: dotted, lined; gone: squared\n",
        "note: digits: all 10 classes continue by name; the file has them in another order\n",
    ] {
        assert!(said.contains(note), "{said}");
    }
    assert!(!said.contains("start at random") && !said.contains("not used") && !said.contains("note: sum:"), "{said}");

    // The state before the last one is that before the first step.
    let read = |run: &str, name: &str| weights::read(&Path::new(run).join("weights").join(name)).unwrap();
    let before = read(&first, "best.safetensors").tensors;
    let second = read(&path(&folder, "runs/train/second"), "previous.safetensors");
    let (after, card) = (second.tensors, &second.metadata[Card::KEY]);
    let card = Card::from_json(card, Path::new("previous.safetensors")).unwrap();
    let initial = ModelFile::untrained(card, 0).unwrap().tensors;
    for part in ["weight", "bias"] {
        let paper = format!("heads.paper.linear.{part}");
        assert_rows(&paper, &after, [&before, &initial], &[Some(3), None, Some(0), None, Some(1)]);
        let logits = format!("heads.digits.class.logits.{part}");
        assert_rows(&logits, &after, [&before, &initial], &(0..10).rev().map(Some).collect::<Vec<_>>());
    }
    for prefix in ["conv1.", "layer4.", "bn1.running_mean", "heads.sum.", "heads.digits.fpn.", "heads.digits.box."] {
        assert_same(prefix, &before, &after);
    }
    // The backbone is in the card.
    let other = [&own[..], &SMALL[2..], &["--backbone", "resnet18"]].concat();
    fail(&other, 1, &["best.safetensors: its trunk is a tiny, and this model's is a resnet18: give --backbone tiny"]);
}

fn words(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

struct Start {
    started: Started,
    before: Tensors,
    initial: Tensors,
    after: Tensors,
}

/// Starts a model of `now` from the file of a model of `then`.
fn start(folder: &Folder, then: Architecture, now: Architecture) -> Start {
    let file = folder.path.join("then.safetensors");
    let then = ModelFile::untrained(Card::new(then, 64), 5).unwrap();
    then.save(&file).unwrap();
    let graph = now.network([1, 64, 64], Mode::Evaluate).unwrap().graph;
    let mut store = Store::new(&graph.parameters, &graph.buffers).unwrap();
    init::initialise(&mut store, 0);
    let saved = |store: &Store| weights::export_parameters(store, Slot::Set(ParameterSet::Current), "").unwrap();
    let initial = saved(&store);
    let started = start_from(&mut store, &now, weights::read(&file).unwrap(), &file).unwrap();
    // The moving average starts with the same values.
    let average = weights::export_parameters(&store, Slot::Set(ParameterSet::Average), "").unwrap();
    assert_same("", &saved(&store), &average);
    Start { started, before: then.tensors, initial, after: saved(&store) }
}

fn tiny(task: Task) -> Architecture {
    Architecture::new(Backbone::Tiny, vec![task], 64, 0.0)
}

#[test]
fn outputs_of_every_kind_of_head_continue_by_name() {
    let folder = Folder::new("output-names");
    let (then, now) = (words(&["a", "b", "d"]), words(&["b", "c", "a"]));
    let places = [Some(1), None, Some(0)];
    let of = |names: &Vec<String>| {
        let names = || names.clone();
        [
            (Task::new("t", Classify::new(names())), "linear", "classes"),
            (Task::new("t", MultiLabel::new(names())), "linear", "classes"),
            (Task::new("t", Detect::new(names())), "class.logits", "classes"),
            (Task::new("t", Regress::new(names())), "linear", "columns"),
        ]
    };
    for ((then, ..), (now, layer, noun)) in of(&then).into_iter().zip(of(&now)) {
        let Start { started, before, initial, after } = start(&folder, tiny(then), tiny(now));
        let note = format!("t: 2 of 3 {noun} continue by name (b, a); new: c; gone: d");
        assert_eq!(started, Started { notes: vec![note], ..Started::default() });
        for part in ["weight", "bias"] {
            assert_rows(&format!("heads.t.{layer}.{part}"), &after, [&before, &initial], &places);
        }
    }
    // Columns in another unit continue, which is said.
    let of = |units: [&str; 2]| {
        let units = words(&units).into();
        Task::new("t", Regress { units, ..Regress::new(words(&["w", "h"])) })
    };
    let Start { started, before, after, .. } = start(&folder, tiny(of(["kg", ""])), tiny(of(["kg", "cm"])));
    let note = "t: the unit of `h` is `cm` and was none in the file: its head continues, and learns the values in the new unit";
    assert_eq!(started, Started { notes: vec![note.into()], ..Started::default() });
    assert_same("heads.t.", &before, &after);
    assert!(start(&folder, tiny(of(["kg", ""])), tiny(of(["kg", ""]))).started.notes.is_empty());
    // Without a common name only the rest of the head continues.
    let [then, now] = [&["a"][..], &["b", "c"]].map(|names| Task::new("t", Detect::new(words(names))));
    let Start { started, before, initial, after } = start(&folder, tiny(then), tiny(now));
    assert_eq!(started.notes, ["t: none of the 2 classes has the same name in the file; new: b, c; gone: a"]);
    assert_rows("heads.t.class.logits.weight", &after, [&before, &initial], &[None, None]);
    assert_same("heads.t.class.tower.", &before, &after);
}

#[test]
fn a_head_that_cannot_continue_starts_anew_and_a_note_says_why() {
    let folder = Folder::new("new-heads");
    let names = || words(&["a", "b"]);
    // Another kind of task with the same shapes.
    let [then, now] = [Task::new("t", Classify::new(names())), Task::new("t", Regress::new(names()))];
    let Start { started, initial, after, before } = start(&folder, tiny(then), tiny(now));
    let note = "t: its head starts anew: the task is regression, and classification in the file";
    assert_eq!(started, Started { notes: vec![note.into()], ..Started::default() });
    assert_same("heads.t.", &initial, &after);
    assert_same("layer1.", &after, &before);
    // Another size of the towers. A task whose name continues that of the first one is not affected.
    let tasks = |name: &str| vec![Task::new("t", Detect::new(names())), Task::new(name, Classify::new(names()))];
    let [mut then, now] =
        [tasks("t.more"), tasks("t.more")].map(|tasks| Architecture::new(Backbone::Tiny, tasks, 64, 0.0));
    then.detection = HeadSize::Full.on(Backbone::Tiny);
    let Start { started, initial, after, before } = start(&folder, then, now);
    let [note] = &started.notes[..] else { panic!("{started:?}") };
    assert!(note.starts_with("t: its head starts anew: `heads.t.") && note.contains("in the file and"), "{note}");
    assert!(started.missing.is_empty(), "{started:?}");
    let of_detector = |tensors: &Tensors| -> Tensors {
        tensors.iter().filter(|(name, _)| !name.contains("more")).map(|(name, t)| (name.clone(), t.clone())).collect()
    };
    assert_same("heads.t.", &of_detector(&initial), &after);
    assert_same("heads.t.more.", &before, &after);
}
