//! Augmentation and sampling from the command line: flags, notes, a preview, repeatable runs; and the loss of mixed labels on
//! every device.

use crate::cli::{digits, path, run, succeed, text, train};
use crate::cuda::devices;
use crate::step::{Folder, Probe, cpu, labels, three_tasks};
use polyhead::device::cuda::Precision;
use polyhead::executor::DeviceChoice;
use polyhead::graph::fuse::Fusion;
use polyhead::model::{self, Architecture, Backbone, Freeze, TrainingNetwork, weights};
use polyhead::tasks::classify::{Class, MixedClass};
use polyhead::tasks::{Label, LabelFeatures, Mixing};
use std::path::Path;

/// Two classes of plain pictures, each with six training and two validation images.
pub fn classes(folder: &Folder) -> String {
    let root = folder.path.join("classes");
    for (class, colour) in [("red", [200, 60, 60]), ("blue", [60, 60, 200])] {
        for (split, count) in [("train", 6), ("val", 2)] {
            let dir = root.join(split).join(class);
            std::fs::create_dir_all(&dir).unwrap();
            for i in 0..count {
                let shade = colour.map(|c: u8| c + 8 * i as u8);
                image::RgbImage::from_pixel(48 + i, 40, image::Rgb(shade)).save(dir.join(format!("{i}.png"))).unwrap();
            }
        }
    }
    root.to_string_lossy().into_owned()
}

const STRONG: [&str; 24] = [
    "--degrees",
    "10",
    "--translate",
    "0.1",
    "--shear",
    "5",
    "--perspective",
    "0.0005",
    "--hsv-h",
    "0.02",
    "--hsv-s",
    "0.5",
    "--hsv-v",
    "0.3",
    "--erasing",
    "0.4",
    "--blur",
    "0.3",
    "--jpeg",
    "0.3",
    "--mosaic",
    "0.5",
    "--close-mosaic",
    "1",
];

#[test]
fn a_run_with_all_augmentations_repeats_itself_with_any_number_of_workers() {
    let folder = Folder::new("augment");
    let data = classes(&folder);
    let tensors = |name: &str, workers: &str, mixup: &str| {
        let sampling = ["--epochs", "3", "--workers", workers, "--sampling", "class-balanced", "--mixup", mixup];
        let run_folder = train(&folder, &data, name, &[&sampling[..], &STRONG[..]].concat());
        let log = std::fs::read_to_string(Path::new(&run_folder).join("log.txt")).unwrap();
        assert!(log.contains("--mosaic skips 12 of 12 training images"), "{log}");
        weights::read(&Path::new(&run_folder).join("weights/last.safetensors")).unwrap().tensors
    };
    let bits = |t: &candle_core::Tensor| -> Vec<u32> {
        t.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
    };
    let (one, three, other) = (tensors("one", "1", "0.6"), tensors("three", "3", "0.6"), tensors("other", "1", "0"));
    assert!(one.iter().all(|(name, tensor)| bits(tensor) == bits(&three[name])));
    assert!(one.iter().any(|(name, tensor)| bits(tensor) != bits(&other[name])), "mix-up changes nothing");
    let said = run(&["train", "--resume", &path(&folder, "runs/train/one"), "--mosaic", "1", "--sampling", "uniform"]);
    let said = text(&said.stderr);
    assert!(said.contains("--mosaic is ignored") && said.contains("--sampling is ignored"), "{said}");
}

#[test]
fn a_preview_is_a_picture_of_the_batch() {
    let folder = Folder::new("preview");
    let (data, out) = (digits(&folder, 12), path(&folder, "preview.png"));
    let preview = ["data", "preview", &data, "--out", &out, "--imgsz", "64", "--batch", "5"];
    succeed(&[&preview[..], &["--augmented", "--hsv-v", "0.5", "--erasing", "1"]].concat());
    // Five pictures of 64 px, shown at 384 px or larger, in rows of three, and as many rows as that needs.
    let shown = image::open(&out).unwrap();
    assert!(shown.width() > 3 * 384 && shown.height() > 2 * 384, "{} × {}", shown.width(), shown.height());
    assert!(shown.width() <= 2400 && shown.height() < shown.width(), "{} × {}", shown.width(), shown.height());
}

/// Labels of the three tasks; every other image's class is mixed with another.
fn mixed_labels(image: usize) -> Vec<Label> {
    let mixed = |label: Label| match label.get() {
        Some(Class::One(class)) if image.is_multiple_of(2) => {
            let share = 0.25 + 0.1 * image as f32;
            Label::of(Class::Mixed(MixedClass { classes: [*class, (class + 1) % 4], share }))
        }
        _ => label,
    };
    labels(image).into_iter().map(mixed).collect()
}

#[test]
fn mixed_labels_have_the_same_loss_on_every_device() {
    let architecture = Architecture::new(Backbone::Tiny, three_tasks(), 64, 0.0);
    let losses = |device: &DeviceChoice, labels: fn(usize) -> Vec<Label>| {
        let kinds = LabelFeatures { mixing: Mixing::Possible, ..LabelFeatures::default() };
        let network =
            TrainingNetwork::for_labels(&architecture, [4, 64, 64], &Freeze::default(), kinds, model::Probe::None)
                .unwrap();
        Probe::of(device, None, network, &architecture, [4, 64], Fusion::On, labels).losses()
    };
    let (mixed, single) = (losses(&cpu(2), mixed_labels), losses(&cpu(2), labels));
    // The second task is the classification; the others are not affected.
    assert!((mixed[1] - single[1]).abs() > 1e-3 && mixed[0] == single[0] && mixed[2] == single[2]);
    for device in devices(Precision::F32) {
        let there = losses(&device, mixed_labels);
        assert!(
            there.iter().zip(&mixed).all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs()),
            "{device}: {there:?}, {mixed:?}"
        );
    }
}
