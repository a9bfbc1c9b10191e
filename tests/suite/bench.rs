//! `polyhead bench` from the command line: its results, its output files, and what it refuses.

use crate::cli::{digits, fail, path, run, session, succeed, text};
use crate::step::Folder;
use polyhead::bench::{Heads, Options, ops};
use polyhead::data::{Dataset, OpenOptions};
use polyhead::ir::{DType, Graph, LinearBackward, Mode, Op, ValueId};
use polyhead::model::{Architecture, Backbone};
use polyhead::ops::operation;
use serde_json::Value;
use std::path::Path;

const TINY: [&str; 6] = ["--backbone", "tiny", "--imgsz", "32", "--threads", "2"];

fn json(file: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn number(of: &Value, key: &str) -> f64 {
    of[key].as_f64().unwrap_or_else(|| panic!("no number {key} in {of}"))
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * b.abs()
}

#[test]
fn one_batch_is_an_object_and_several_are_a_list() {
    let folder = Folder::new("bench-list");
    let (figures, table, timm) = (path(&folder, "figures.json"), path(&folder, "table.md"), path(&folder, "timm.csv"));
    for work in ["train", "infer"] {
        let to = ["--json", &figures, "--markdown", &table];
        let more = ["--batch", "2,4", "--repeats", "1", "--csv", &timm];
        let printed = succeed(&[&["bench", work], &TINY[..], &more, &to].concat());
        assert_eq!(printed.matches(" images/s; ").count(), 2, "{printed}");
        let list = json(&figures);
        let sizes: Vec<u64> = list.as_array().unwrap().iter().map(|m| m["batch_size"].as_u64().unwrap()).collect();
        assert_eq!(sizes, [2, 4]);
        for one in list.as_array().unwrap() {
            assert_eq!(one["work"], work);
            let rate = number(one, "batch_size") / number(one, "step_time") * 1e3;
            assert!(near(number(one, "samples_per_sec"), rate), "{one}");
            // A CPU's clocks are not read and nothing is tuned on it; synthetic images have no input pipeline.
            assert!(number(one, "base_memory_bytes") < number(one, "peak_memory_bytes"), "{one}");
            assert!(["clocks", "tuning", "input"].iter().all(|key| one.get(key).is_none()), "{one}");
        }
        let table = std::fs::read_to_string(&table).unwrap();
        let rows: Vec<&str> = table.lines().filter(|l| l.starts_with("| 2 |") || l.starts_with("| 4 |")).collect();
        assert_eq!(rows.len(), 2, "{table}");
        assert!(rows[1].contains(&format!("| {:.1} |", number(&list[1], "samples_per_sec"))), "{table}");
        let csv = std::fs::read_to_string(&timm).unwrap();
        let columns = "model,W_samples_per_sec,W_step_time,W_batch_size,W_img_size,param_count".replace('W', work);
        let row = |m: &Value| {
            let [rate, time, parameters] = ["samples_per_sec", "step_time", "param_count"].map(|key| number(m, key));
            format!("tiny,{rate:.2},{time:.3},{},32,{:.2}", m["batch_size"], parameters / 1e6)
        };
        assert_eq!(csv.lines().collect::<Vec<_>>(), [columns, row(&list[0]), row(&list[1])]);
        succeed(&[&["bench", work], &TINY[..], &["--batch", "2", "--repeats", "1", "--json", &figures]].concat());
        assert_eq!(json(&figures)["batch_size"], 2);
    }
}

/// A store reserves memory for gradients, two moments and averages, which prediction never touches. ResNet-18 has 47 MB of
/// parameters. They are held about three times (as values, packed, and as loaded tensors); with the whole store it would be
/// seven times.
#[test]
fn inference_does_not_use_the_memory_of_training() {
    let folder = Folder::new("bench-memory");
    let figures = path(&folder, "figures.json");
    let small = ["--backbone", "resnet18", "--imgsz", "32", "--batch", "1", "--repeats", "1", "--device", "cpu"];
    succeed(&[&["bench", "infer"], &small[..], &["--json", &figures]].concat());
    let measured = json(&figures);
    if measured["peak_memory_bytes"].is_null() {
        eprintln!("skipped: this system does not say how much memory is resident");
        return;
    }
    let taken = number(&measured, "peak_memory_bytes") - number(&measured, "base_memory_bytes");
    assert!(taken < 5.0 * 4.0 * number(&measured, "param_count"), "{taken} bytes");
}

#[test]
fn the_update_has_its_own_row_with_its_bytes() {
    let folder = Folder::new("bench-ops");
    let (figures, table) = (path(&folder, "figures.json"), path(&folder, "table.md"));
    let to = ["--json", &figures, "--markdown", &table];
    let small = ["--batch", "2", "--repeats", "1"];
    let printed = succeed(&[&["bench", "ops"], &TINY[..], &small, &to].concat());
    assert_eq!(std::fs::read_to_string(&table).unwrap(), printed);
    let all = json(&figures);
    let ops = all["ops"].as_array().unwrap();
    let (update, nodes) = ops.split_last().unwrap();
    assert_eq!((&update["op"], &update["count"]), (&Value::from("update"), &Value::from(1)));
    assert!(nodes.iter().all(|op| op["op"] != "update"));
    // Includes every convolution of the trunk with its norm, and none for training.
    assert!(number(&all, "inference") > 0.0);
    let convolutions = |list: &str, what: &str| -> f64 {
        let named = nodes.iter().filter(|op| op["list"] == list && op["op"].as_str().unwrap().contains(what));
        named.map(|op| number(op, "count")).sum()
    };
    assert_eq!(convolutions("inference", " + norm"), convolutions("fused", " + statistics"));
    assert_eq!(convolutions("inference", " + statistics"), 0.0);
    assert!(near(number(update, "total"), number(&all, "update")));
    let short = [&["bench", "train"], &TINY[..], &small, &["--json", &figures]].concat();
    succeed(&short);
    let parameters = number(&json(&figures), "param_count");
    assert_eq!(update["sizes"], format!("{parameters} parameters"));
    // SGD reads gradients for their norm, then reads and writes gradients, values, moment and average, in f32. Running
    // statistics are small.
    let (bytes, least) = (number(update, "gb_per_second") * number(update, "time") * 1e6, 4.0 * 9.0 * parameters);
    assert!(bytes > least && bytes < 1.05 * least, "{bytes} of at least {least}");
}

#[test]
fn a_data_set_feeds_the_steps_and_determines_the_heads() {
    let folder = Folder::new("bench-data");
    let data = digits(&folder, 10);
    let figures = path(&folder, "figures.json");
    let dataset = Dataset::open(Path::new(&data), &OpenOptions::default()).unwrap();
    let heads = Architecture::new(Backbone::Tiny, dataset.tasks, 32, 0.0).parameter_count(32).unwrap();
    for work in ["train", "infer"] {
        let more = ["--data", &data, "--workers", "1", "--repeats", "2", "--json", &figures];
        let printed = succeed(&[&["bench", work], &TINY[..], &["--batch", "4"], &more].concat());
        let measured = json(&figures);
        assert_eq!((&measured["heads"], &measured["param_count"]), (&Value::from("data"), &Value::from(heads)));
        let input = &measured["input"];
        assert_eq!((&input["data"], &input["workers"]), (&Value::from(data.clone()), &Value::from(1)));
        assert!(number(input, "loader_samples_per_sec") > 0.0);
        let (with, without) = (number(&measured, "samples_per_sec"), number(input, "step_samples_per_sec"));
        let supply = if with >= 0.95 * without { "fed" } else { "starved" };
        assert_eq!(input["supply"], supply, "{with} with the loader, {without} without");
        assert!(printed.contains(&format!("{supply}: ")), "{printed}");
        // With two repeats, the mean is the middle of fastest and slowest.
        let mean = (number(&measured, "step_time_min") + number(&measured, "step_time_max")) / 2.0;
        assert!(near(with, 4.0 / mean * 1e3), "{measured}");
    }
}

#[test]
fn the_input_pipeline_is_timed_by_stage_and_compared_with_a_rate() {
    let folder = Folder::new("bench-pipeline");
    let data = digits(&folder, 6);
    let figures = path(&folder, "figures.json");
    let images = polyhead::data::walk(&folder.path.join("digits/train")).unwrap();
    std::fs::write(&images[1], "no picture").unwrap();
    let measure = |rate: &str| {
        let args = ["bench", "data", &data, "--imgsz", "64", "--workers", "2", "--images", "40"];
        succeed(&[&args[..], &["--images-per-second", rate, "--json", &figures]].concat())
    };
    let printed = measure("0.5");
    let measured = json(&figures);
    let stages = ["read", "decode", "resize", "augment", "encode"];
    let total: f64 = stages.iter().map(|s| number(&measured["stages"], s)).sum();
    assert!(total > 0.0 && near(number(&measured, "samples_per_sec_per_core"), 1e3 / total), "{measured}");
    assert_eq!((&measured["images"], &measured["unreadable"]), (&Value::from(40), &Value::from(1)));
    assert!(number(&measured["stages"], "convert") > 0.0);
    assert!(number(&measured, "loader_samples_per_sec") > 0.0);
    // Images are only framed here.
    assert!(printed.contains("  augment       none: ") && number(&measured["stages"], "augment") == 0.0, "{printed}");
    for stage in ["read", "decode", "crop, resize", "encode", "convert"] {
        let row = printed.lines().find(|line| line.trim_start().starts_with(stage));
        assert!(row.is_some_and(|row| row.contains(" ms ") && row.contains(" images/s ")), "{stage}: {printed}");
        assert!(!printed.contains("inf images/s"), "{printed}");
    }
    assert_eq!((&measured["wanted"]["supply"], &measured["wanted"]["cores"]), (&Value::from("fed"), &Value::from(1)));
    assert!(
        printed.contains("fed: steps of 0.5 images/s need 1 core") && printed.contains("1 unreadable"),
        "{printed}"
    );
    // No pipeline reaches a thousand million images per second.
    let printed = measure("1e9");
    assert_eq!(json(&figures)["wanted"]["supply"], "starved");
    assert!(number(&json(&figures)["wanted"], "cores") > 1e3 && printed.contains("starved: "), "{printed}");
    // Augmentation is timed with the stage: blurring all of a canvas takes longer than no jitter.
    let augment = |flags: &[&str]| {
        let args = ["bench", "data", &data, "--imgsz", "64", "--images", "100", "--json", &figures];
        succeed(&[&args[..], flags].concat());
        number(&json(&figures)["stages"], "augment")
    };
    assert!(augment(&["--blur", "1", "--jpeg", "1"]) > augment(&[]));
    for image in &images {
        std::fs::write(image, "no picture").unwrap();
    }
    fail(&["bench", "data", &data], 1, &["none of 6 images can be read"]);
}

#[test]
fn unreadable_images_are_named_and_too_many_stop_the_bench() {
    let folder = Folder::new("bench-broken");
    let data = digits(&folder, 6);
    let images = polyhead::data::walk(&folder.path.join("digits/train")).unwrap();
    std::fs::write(&images[1], "no picture").unwrap();
    let args = [&["bench", "train"], &TINY[..], &["--batch", "4", "--repeats", "1", "--data", &data]].concat();
    let output = run(&args);
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("unreadable, left out: "), "{said}");
    std::fs::write(&images[2], "no picture").unwrap();
    fail(&args, 1, &["cannot be read"]);
}

#[test]
fn a_bench_refuses_what_it_cannot_measure_before_it_starts() {
    let folder = Folder::new("bench-refused");
    session(&folder, "bench");
    assert_eq!(std::fs::read_dir(&folder.path).unwrap().count(), 0, "a refused bench left a file behind");
}

/// An op that is in no list would not be timed.
#[test]
fn every_kind_of_node_is_timed() {
    let options = Options {
        imgsz: 64,
        batch: 2,
        device: crate::step::cpu(2),
        backbone: Backbone::Tiny,
        heads: Heads::All,
        repeats: 1,
        source: None,
    };
    let rows = ops(&options).unwrap().ops;
    // Norms of eight channels after maps of two sizes merge different numbers of partial sums, so each has its own row.
    for name in ["batch_norm_finish", "batch_norm_backward_finish"] {
        let mut sizes: Vec<&str> = rows.iter().filter(|row| row.op == name).map(|row| row.sizes.as_str()).collect();
        sizes.retain(|sizes| sizes.ends_with("×8"));
        sizes.sort_unstable();
        assert_eq!(sizes, ["16×2×8", "4×2×8"], "{name}");
    }
    let timed: Vec<String> = rows.into_iter().map(|op| op.op).collect();
    for kind in crate::layout::op_kinds() {
        let name = match kind.as_str() {
            "Conv2d" => "conv2d fprop".to_owned(),
            "Conv2dDgrad" => "conv2d dgrad".to_owned(),
            "Conv2dWgrad" => "conv2d wgrad".to_owned(),
            "BatchNormApply" => "batch_norm apply".to_owned(),
            other => other.chars().fold(String::new(), |name, c| match c.is_uppercase() && !name.is_empty() {
                true => name + "_" + &c.to_lowercase().to_string(),
                false => name + &c.to_lowercase().to_string(),
            }),
        };
        let own =
            |timed: &String| timed.strip_prefix(&name).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
        assert!(timed.iter().any(own), "`bench ops` times no {kind}");
    }
}

/// The bytes of a node of `op` with f32 values of these shapes.
fn bytes(op: Op, inputs: &[&[usize]], outputs: &[&[usize]]) -> u64 {
    let mut graph = Graph::new(Mode::Train);
    let mut values = |shapes: &[&[usize]]| -> Vec<ValueId> {
        shapes.iter().map(|shape| graph.arena("value", shape, DType::F32)).collect()
    };
    let (inputs, outputs) = (values(inputs), values(outputs));
    graph.push(op, &inputs, &outputs);
    let node = &graph.nodes[0];
    operation(&node.op).check(&graph, &node.inputs).unwrap();
    operation(&node.op).cost(&graph, node).bytes
}

/// Some inputs are only used for their shape, and some are read for only one of the outputs.
#[test]
fn a_nodes_bytes_are_those_it_reads_and_writes() {
    let (map, vector, partials): (&[usize], &[usize], &[usize]) = (&[64, 28, 28, 8], &[8], &[392, 2, 8]);
    // Partial sums; four vectors, two of which are also written; moments and affine parameters.
    let finish = bytes(Op::BatchNormFinish, &[partials, vector, vector, vector, vector, map], &[&[2, 8], &[2, 8]]);
    assert_eq!(finish, 4 * (392 * 2 * 8 + 6 * 8 + 2 * 16));
    let backward = bytes(Op::BatchNormBackwardFinish, &[partials, &[2, 8], vector, map], &[&[3, 8], vector, vector]);
    assert_eq!(backward, 4 * (392 * 2 * 8 + 16 + 8 + 24 + 2 * 8));

    // Only the input's gradient needs the weight.
    let inputs: [&[usize]; 3] = [&[32, 10], &[32, 512], &[10, 512]];
    let [frozen, whole] = [false, true].map(|input_gradient| {
        let outputs: [&[usize]; 3] = [&[10, 512], &[10], &[32, 512]];
        let linear = LinearBackward { input_gradient };
        bytes(Op::LinearBackward(linear), &inputs, &outputs[..2 + usize::from(input_gradient)])
    });
    assert_eq!(frozen, 4 * (32 * 10 + 32 * 512 + 10 * 512 + 10));
    assert_eq!(whole, frozen + 4 * (10 * 512 + 32 * 512));

    // Only a scale's gradient needs the maps.
    let levels: [&[usize]; 2] = [&[2, 4, 4, 8], &[2, 2, 2, 8]];
    let (gathered, elements): (&[usize], u64) = (&[2, 20, 8], 2 * 20 * 8);
    let plain = bytes(Op::ConcatLevelsBackward, &[gathered, levels[0], levels[1]], &levels);
    assert_eq!(plain, 4 * 2 * elements);
    let scale: &[usize] = &[1];
    let scaled = bytes(
        Op::ConcatLevelsBackward,
        &[gathered, levels[0], levels[1], scale, scale],
        &[levels[0], levels[1], scale, scale],
    );
    assert_eq!(scaled, 4 * (3 * elements + 4));
}
