//! Heads and losses other than the default: several labels at once, weighted and smoothed classes, squared errors, the detection
//! towers as published, deeper trunks; each on the CPU, through the GPU's kernels, and from the command line.

use crate::cli::{SMALL, path, succeed};
use crate::cuda::{devices, errors};
use crate::step::{Folder, cpu, encoder, images, norm, open_and_close_gates, optimizer, vector};
use candle_core::{DType, Device, Tensor};
use clap::ValueEnum;
use polyhead::device::cuda::Precision;
use polyhead::executor::DeviceChoice;
use polyhead::ir::Mode;
use polyhead::ir::ValueLossForm;
use polyhead::layers::pyramid::PyramidSize;
use polyhead::model::weights::{self, Slot, Tensors};
use polyhead::model::{Architecture, Backbone, Card, HeadSize, ModelFile, init};
use polyhead::tasks::classify::{Class, Classify};
use polyhead::tasks::detect::Detect;
use polyhead::tasks::multi_label::{Classes, MultiLabel};
use polyhead::tasks::regress::{Regress, Values};
use polyhead::tasks::{Boxes, Label, LabelledBox, Target, Task};
use polyhead::train::step::{StepTargets, Trainer};
use serde_json::Value;
use std::path::Path;

fn words(n: usize) -> Vec<String> {
    (0..n).map(|i| i.to_string()).collect()
}

/// The losses of one step, its gradients, and the parameters after it.
fn step(
    device: &DeviceChoice,
    architecture: &Architecture,
    size: usize,
    labels: &[Vec<Label>],
) -> (Vec<f32>, [Tensors; 2]) {
    let n = labels.len();
    let balance = crate::balance::balance("fixed", &architecture.tasks, &vec![1.0; architecture.tasks.len()]);
    let mut trainer = Trainer::new(architecture, [n, size, size], device, optimizer(1e-3, 20), balance).unwrap();
    trainer.executor.edit_store(|store| init::initialise(store, 1)).unwrap();
    open_and_close_gates(&mut trainer.executor);
    let encoder = encoder(architecture, size);
    let targets: Vec<Vec<Target>> = labels.iter().map(|labels| encoder.encode(labels)).collect();
    let targets = StepTargets::new(&[&targets]);
    trainer.load(&images(n, size), &targets, 0).unwrap();
    trainer.begin(&targets);
    trainer.start().unwrap();
    let gradients = weights::export_parameters(trainer.executor.store().unwrap(), Slot::Gradient, "").unwrap();
    let report = trainer.finish().unwrap();
    let set = Slot::Set(polyhead::executor::ParameterSet::Current);
    (report.losses, [gradients, weights::export_parameters(trainer.executor.store().unwrap(), set, "").unwrap()])
}

/// Asserts that a step in f32 on the GPU's kernels matches the CPU, and that its losses in bf16 are close.
fn same_on_kernels(architecture: &Architecture, size: usize, labels: &[Vec<Label>]) -> (Vec<f32>, [Tensors; 2]) {
    let (cpu_losses, cpu) = step(&cpu(2), architecture, size, labels);
    for device in devices(Precision::F32) {
        let (losses, [gradients, _]) = step(&device, architecture, size, labels);
        for (a, b) in losses.iter().zip(&cpu_losses) {
            assert!(a.is_finite() && (a - b).abs() <= 1e-5 * b.abs(), "{device}: loss {a}, {b} on the CPU");
        }
        for (name, error) in errors(&gradients, &cpu[0]) {
            // Sums are ordered differently. A wrong launch changes a gradient by several per cent.
            assert!(error <= 2e-4, "{device} {name}: {error:.2e}");
        }
    }
    for device in devices(Precision::Bf16) {
        let (losses, _) = step(&device, architecture, size, labels);
        for (a, b) in losses.iter().zip(&cpu_losses) {
            // About a dozen maps are rounded in sequence, each by 2⁻⁹.
            assert!((a - b).abs() <= 12.0 / 512.0 * b.abs(), "{device} in bf16: loss {a}, {b} on the CPU");
        }
    }
    (cpu_losses, cpu)
}

fn with_losses(kind: Classify, amount: ValueLossForm) -> Architecture {
    let amount = Regress { loss: amount, ..Regress::new(words(2)) };
    let tasks = vec![Task::new("sky", MultiLabel::new(words(3))), Task::new("kind", kind), Task::new("amount", amount)];
    Architecture::new(Backbone::Tiny, tasks, 64, 0.0)
}

fn labels() -> Vec<Vec<Label>> {
    let of = |i: usize| {
        let sky: Vec<Option<bool>> = (0..3).map(|c| (i != c).then_some((i + c).is_multiple_of(2))).collect();
        vec![
            Label::of(Classes::from(sky)),
            Label::of(Class::One(i % 3)),
            Label::of(Values::from(&[i as f64 - 1.5, 4.0][..])),
        ]
    };
    (0..4).map(|i| if i == 2 { vec![Label::UNLABELLED; 3] } else { of(i) }).collect()
}

#[test]
fn other_losses_compute_the_same_step_on_the_gpus_kernels() {
    let plain = with_losses(Classify::new(words(4)), ValueLossForm::Huber);
    let (default_losses, [default_gradients, _]) = step(&cpu(2), &plain, 64, &labels());
    let class_weights = Some(vec![0.5, 2.0, 1.0, 1.5]);
    let shares = Classify { class_weights, label_smoothing: 0.1, ..Classify::new(words(4)) };
    let (losses, [gradients, _]) = same_on_kernels(&with_losses(shares, ValueLossForm::Mse), 64, &labels());
    assert_eq!(losses[0], default_losses[0]);
    // Weights, smoothing and squared errors change only the losses that they belong to.
    for (task, name) in [(1, "kind"), (2, "amount")] {
        assert!(
            (losses[task] - default_losses[task]).abs() > 1e-2 * losses[task],
            "{name}: {losses:?} {default_losses:?}"
        );
    }
    let head = |tensors: &Tensors, name: &str| vector(tensors, &format!("heads.{name}.linear.weight"));
    assert_eq!(head(&gradients, "sky"), head(&default_gradients, "sky"));
    assert_ne!(head(&gradients, "kind"), head(&default_gradients, "kind"));
}

/// Weights of one take another path through the loss than no weights, and differ in the last bit at most.
#[test]
fn no_smoothing_is_the_plain_loss() {
    let plain = with_losses(Classify::new(words(4)), ValueLossForm::Huber);
    let ones = Classify { class_weights: Some(vec![1.0; 4]), ..Classify::new(words(4)) };
    let (a, [a_gradients, _]) = step(&cpu(2), &plain, 64, &labels());
    let (b, [b_gradients, _]) = step(&cpu(2), &with_losses(ones, ValueLossForm::Huber), 64, &labels());
    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 2.0 * f32::EPSILON * a), "{a:?} {b:?}");
    for (name, error) in errors(&b_gradients, &a_gradients).iter().filter(|(name, _)| name.starts_with("heads.")) {
        assert!(*error <= 2.0 * f64::from(f32::EPSILON), "{name}: {error:.2e}");
    }
    // The trunk is compared as one vector. In a single tensor, a change of the last bit grows with how much its sums
    // cancel: some hundred times for the weights of a shortcut before its norm.
    let trunk = |gradients: &Tensors| -> Vec<f32> {
        let names = a_gradients.keys().filter(|name| !name.starts_with("heads."));
        names.flat_map(|name| vector(gradients, name)).collect()
    };
    let (plain, other) = (trunk(&a_gradients), trunk(&b_gradients));
    let (apart, size) = (norm(plain.iter().zip(&other).map(|(a, b)| a - b)), norm(plain.iter().copied()));
    assert!(size > 0.0 && apart <= 1e-5 * size, "{apart:.2e} of {size:.2e}");
}

fn detecting(backbone: Backbone, size: PyramidSize, image_size: usize, classes: usize) -> Architecture {
    let tasks = vec![Task::new("things", Detect::new(words(classes)))];
    Architecture { detection: size, ..Architecture::new(backbone, tasks, image_size, 0.0) }
}

#[test]
fn full_towers_have_the_published_structure() {
    let count = |backbone, head: HeadSize, size| {
        detecting(backbone, head.on(backbone), size, 80).parameter_count(size).unwrap()
    };
    // ResNet-50 without its final layer.
    let trunk = 25_557_032 - 2_049_000;
    // Lin 2017 and Li 2020: 1×1 from c3, c4, c5 to 256, a 3×3 for each and two more of stride 2, all with bias.
    let pyramid = 256 * (512 + 1024 + 2048) + 3 * 256 + 5 * (9 * 256 * 256 + 256);
    // Two towers of four 3×3 with group norm and no bias, shared over the levels; a score per class, 17 bins per side, a scale
    // per level.
    let towers = 2 * 4 * (9 * 256 * 256 + 2 * 256);
    let outputs = (9 * 256 * 80 + 80) + (9 * 256 * 68 + 68) + 5;
    assert_eq!(count(Backbone::Resnet50, HeadSize::Full, 640), trunk + pyramid + towers + outputs);
    let lite = 128 * (512 + 1024 + 2048) + 3 * 128 + 5 * (9 * 128 * 128 + 128);
    let lite = lite + 2 * 2 * (9 * 128 * 128 + 2 * 128) + (9 * 128 * 80 + 80) + (9 * 128 * 68 + 68) + 5;
    assert_eq!(count(Backbone::Resnet50, HeadSize::Lite, 640), trunk + lite);
    // Below 416 px the pyramid ends at P5.
    let two_levels = 2 * (9 * 256 * 256 + 256) + 2;
    assert_eq!(count(Backbone::Resnet50, HeadSize::Full, 320), trunk + pyramid + towers + outputs - two_levels);
    // The size that older files without the field were trained with.
    assert_eq!(HeadSize::default().on(Backbone::Tiny), PyramidSize::TINY);
}

#[test]
fn a_step_with_full_towers_matches_on_the_gpus_kernels_and_changes_every_layer() {
    let architecture = detecting(Backbone::Tiny, PyramidSize::FULL, 64, 2);
    let boxed = |i: usize| {
        let xyxy = [2.0, 3.0, 19.0 + i as f32, 24.0];
        vec![Label::of(Boxes::from(vec![LabelledBox { class: i % 2, xyxy, ignore: false }]))]
    };
    let (losses, [gradients, after]) = same_on_kernels(&architecture, 64, &[boxed(0), boxed(1)]);
    assert!(losses[0] > 0.0);
    for tower in ["class", "box"] {
        for i in 0..4 {
            let name = format!("heads.things.{tower}.tower.{i}.conv.weight");
            assert_eq!(gradients[&name].dims(), [256, 256, 3, 3]);
            let moved = vector(&gradients, &name).iter().any(|&g| g != 0.0);
            assert!(moved && vector(&after, &name).iter().all(|v| v.is_finite()), "{name}");
        }
    }
    // The size is restored from the card.
    let card = Card::new(architecture, 64);
    assert_eq!(Card::from_json(&card.to_json(), Path::new("x")).unwrap(), card);
}

/// The network in a plain file is recognised by its tensor names.
#[test]
fn a_plain_file_is_recognised_by_its_names() {
    let folder = Folder::new("names");
    for backbone in [Backbone::Resnet18, Backbone::Resnet34, Backbone::Resnet50, Backbone::Resnet101] {
        let network = Architecture::new(backbone, Vec::new(), 64, 0.0).network([1, 64, 64], Mode::Evaluate).unwrap();
        // Bytes in place of numbers keep the files small.
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::U8, &Device::Cpu).unwrap();
        let of = |shape: &[usize]| match *shape {
            [k, r, s, c] => zeros(&[k, c, r, s]),
            _ => zeros(shape),
        };
        let mut tensors: Tensors = network.graph.parameters.iter().map(|p| (p.name.clone(), of(&p.shape))).collect();
        tensors.extend([("fc.weight".into(), zeros(&[2, backbone.features()])), ("fc.bias".into(), zeros(&[2]))]);
        let file = folder.path.join("plain.safetensors");
        weights::write(&file, &tensors, std::collections::HashMap::new()).unwrap();
        assert_eq!(ModelFile::read(&file, None).unwrap().card.architecture.backbone, backbone);
        assert_eq!(Backbone::from_str(backbone.name(), false).unwrap(), backbone);
    }
}

/// Pictures with a red or grey background, with or without a white square; some labels are blank. The labels are `red`
/// and `square`.
fn squares(folder: &Folder) -> String {
    let data = folder.path.join("squares");
    let mut table = "file,red,square,kind,share\n".to_owned();
    for (split, count) in [("train", 32), ("val", 12)] {
        std::fs::create_dir_all(data.join(split)).unwrap();
        for i in 0..count {
            let (red, square) = (i % 2 == 1, i % 4 >= 2);
            let ground = if red { [200, 30, 30] } else { [90; 3] };
            let inside = |x: u32, y: u32| square && (16..48).contains(&x) && (16..48).contains(&y);
            let pixel = |x, y| image::Rgb(if inside(x, y) { [255; 3] } else { ground.map(|v| v + (i % 7) as u8) });
            image::RgbImage::from_fn(64, 64, pixel).save(data.join(split).join(format!("{split}{i}.png"))).unwrap();
            let cell = |there: bool, blank: bool| if blank { "" } else { ["0", "1"][usize::from(there)] };
            let kind = ["plain", "marked"][usize::from(square)];
            let (red, square) = (cell(red, i % 5 == 4), cell(square, i % 7 == 6));
            table.push_str(&format!("{split}{i}.png,{red},{square},{kind},{}\n", f64::from(i % 4) / 4.0));
        }
    }
    std::fs::write(data.join("labels.csv"), table).unwrap();
    let tasks = "  look: {type: classify, multi_label: true, from: {csv: labels.csv, column: [red, square]}}\n  \
         kind: {type: classify, from: {csv: labels.csv}, class_weights: balanced, label_smoothing: 0.1}\n  \
         share: {type: regress, from: {csv: labels.csv}, loss: mse}\n";
    std::fs::write(data.join("data.yaml"), format!("train: train\nval: val\ntasks:\n{tasks}")).unwrap();
    data.to_string_lossy().into_owned()
}

#[test]
fn multi_label_tasks_are_trained_evaluated_and_predicted() {
    let folder = Folder::new("squares");
    let data = squares(&folder);
    let checked = succeed(&["data", "check", &data]);
    assert!(checked.contains("multi-label") && checked.contains("look: images per class"), "{checked}");
    assert!(checked.contains("look: 13 rows with some of the columns blank"), "{checked}");
    assert!(checked.contains("kind: balanced class weights: marked 1.000, plain 1.000"), "{checked}");

    let project = path(&folder, "runs/train");
    let args = ["train", &data, "--project", &project, "--name", "first", "--epochs", "12", "--lr0", "0.01"];
    succeed(&[&args[..], &SMALL[..], &["--head", "full"]].concat());
    let run = path(&folder, "runs/train/first");
    let card = ModelFile::read(&Path::new(&run).join("weights/best.safetensors"), None).unwrap().card;
    assert_eq!(card.architecture.detection, PyramidSize::FULL);
    let classes = vec!["red".to_owned(), "square".to_owned()];
    assert_eq!(card.architecture.tasks[0].spec.get(), Some(&MultiLabel::new(classes)));
    let tasks = card.architecture.tasks;
    assert_eq!(tasks[1].spec.get::<Classify>().unwrap().label_smoothing, 0.1);
    assert_eq!(tasks[2].spec.get::<Regress>().unwrap().loss, ValueLossForm::Mse);

    let json = path(&folder, "figures.json");
    let said = succeed(&["evaluate", &run, "--json", &json]);
    assert!(said.contains("look (multi-label, 12 labelled): mAP"), "{said}");
    let figures: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let look = &figures["tasks"]["look"];
    // Colour, and a square of a quarter of the picture; chance is about one half.
    assert!(look["metrics"]["mAP"].as_f64().unwrap() > 0.8, "{look}");
    assert_eq!(look["type"], "multi-label");
    assert_eq!(look["per_class"]["red"]["labelled"], 10);
    assert!(look["per_class"]["square"]["AP"].is_number() && look["metrics"]["f1"].is_number());
    let table = std::fs::read_to_string(Path::new(&run).join("results.csv")).unwrap();
    assert!(table.starts_with("epoch,") && table.contains("val/look/mAP"), "{table}");

    let out = path(&folder, "answers");
    succeed(&["predict", &run, &format!("{data}/val"), "--out", &out]);
    let lines = std::fs::read_to_string(Path::new(&out).join("predictions.jsonl")).unwrap();
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let look = &line["tasks"]["look"];
        let probability = |class: &str| look["probabilities"][class].as_f64().unwrap();
        let there: Vec<&str> = ["red", "square"].into_iter().filter(|class| probability(class) >= 0.5).collect();
        assert_eq!(look["labels"], Value::from(there), "{line}");
    }
    assert!(Path::new(&out).join("val3.jpg").is_file());

    // Another loss makes it another run.
    let yaml = Path::new(&data).join("data.yaml");
    let text = std::fs::read_to_string(&yaml).unwrap();
    std::fs::write(&yaml, text.replace("label_smoothing: 0.1", "label_smoothing: 0.2")).unwrap();
    crate::cli::fail(&["train", "--resume", &run], 2, &["losses", "not those this run was started with"]);
    // For evaluation the losses may differ.
    succeed(&["evaluate", &run]);
}
