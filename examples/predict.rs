//! Typed predictions for image files: a class with its probability, boxes in pixels of the image, values in their
//! units.
//!
//! ```sh
//! cargo run --release --example predict -- runs/train/first photo.jpg other.png
//! ```
//!
//! The first argument is a run's folder or a weights file; a published ResNet works too. The numbers equal those of
//! `polyhead predict`.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use polyhead::error::{Error, Result};
use polyhead::executor::DeviceChoice;
use polyhead::model::Model;
use polyhead::predict::{Answer, Settings};
use polyhead::tasks::{classify::Probabilities, detect::FoundBoxes, multi_label::LabelProbabilities, regress::Amounts};
use std::process::ExitCode;

fn main() -> ExitCode {
    let said = |error: Error| eprintln!("error: {error}");
    run().map_err(said).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((weights, files)) = arguments.split_first() else {
        return Err(Error::Usage("expected a run's folder or a weights file, and images".into()));
    };
    // `threads: 0` uses one per core; `DeviceChoice::parse("cuda", 0)` selects a GPU.
    let mut model = Model::load(weights, &DeviceChoice::Cpu { threads: 0 })?;
    for (file, answer) in files.iter().zip(model.predict_files(files, &Settings::default())?) {
        match answer {
            Ok(answer) => print(file, &answer),
            // Errors concern single images; the others have predictions.
            Err(error) => println!("{error}"),
        }
    }
    Ok(())
}

fn print(file: &str, answer: &Answer) {
    let [width, height] = answer.size;
    println!("{file}: {width} × {height} pixels");
    for (name, _) in &answer.tasks {
        if let Some(class) = answer.get::<Probabilities>(name) {
            let (class, probability) = class.likeliest();
            println!("  {name}: {class} ({probability:.3})");
        } else if let Some(labels) = answer.get::<LabelProbabilities>(name) {
            println!("  {name}: {:?}", labels.present().collect::<Vec<_>>());
        } else if let Some(found) = answer.get::<FoundBoxes>(name) {
            println!("  {name}: {} boxes", found.boxes.len());
            for (class, score, [x1, y1, x2, y2]) in found.named() {
                println!("    {class} ({score:.3}) from {x1:.1}, {y1:.1} to {x2:.1}, {y2:.1}");
            }
        } else if let Some(amounts) = answer.get::<Amounts>(name) {
            for (value, unit) in amounts.values.iter().zip(&amounts.units[..]) {
                println!("  {name}: {value:.2} {unit}");
            }
        }
    }
}
