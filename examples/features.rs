//! Computes the features that all heads share, as tensors, and the cosine similarity of images by the last of them.
//!
//! ```sh
//! cargo run --release --example features -- runs/train/first a.jpg b.jpg
//! ```
//!
//! The first argument is a run's folder or a weights file; a published ResNet works too.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use candle_core::{Device, Tensor};
use polyhead::data::images::decode::decode;
use polyhead::error::{Error, Result};
use polyhead::executor::DeviceChoice;
use polyhead::model::Model;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let said = |error: Error| eprintln!("error: {error}");
    run().map_err(said).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((weights, files)) = arguments.split_first() else {
        return Err(Error::Usage("expected a run's folder or a weights file, and images".into()));
    };
    let mut model = Model::load(weights, &DeviceChoice::Cpu { threads: 0 })?;
    let mut first: Option<Vec<f32>> = None;
    for file in files {
        // Upright 8-bit RGB. The network accepts any size; the features grow with the image.
        let image = decode(Path::new(file))?;
        let shape = (1, image.height, image.width, 3); // [N, H, W, 3]
        let images = Tensor::from_vec(image.rgb, shape, &Device::Cpu).map_err(sentence)?;
        let start = Instant::now();
        let [c3, c4, c5] = model.features(&images)?;
        // Only the first image of each size needs time for a plan.
        let milliseconds = start.elapsed().as_secs_f64() * 1e3;
        println!("{file}: {:?}, {:?}, {:?} in {milliseconds:.1} ms", c3.dims(), c4.dims(), c5.dims());

        let pooled = c5.mean((1, 2)).and_then(|mean| mean.squeeze(0)?.to_vec1::<f32>()).map_err(sentence)?; // [C]
        match &first {
            Some(first) => println!("  cosine with {}: {:.4}", files[0], cosine(first, &pooled)),
            None => first = Some(pooled),
        }
    }
    Ok(())
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    product(a, b) / (product(a, a) * product(b, b)).sqrt()
}

/// candle's error messages are sentences already.
fn sentence(error: candle_core::Error) -> Error {
    Error::Other(error.to_string())
}
