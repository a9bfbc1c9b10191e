//! The library: loading a network, computing features and predictions, saving.

use crate::predict::{Place, model};
use crate::step::three_tasks;
use candle_core::{DType, Device, Tensor};
use polyhead::data::images::decode::decode;
use polyhead::executor::DeviceChoice;
use polyhead::model::Model;
use polyhead::predict::Settings;
use polyhead::tasks::DecodeOptions;
use polyhead::tasks::classify::Probabilities;
use polyhead::tasks::detect::FoundBoxes;
use polyhead::tasks::regress::Amounts;
use serde_json::Value;

const CPU: DeviceChoice = DeviceChoice::Cpu { threads: 2 };

fn images(n: usize, height: usize, width: usize) -> Tensor {
    let pixels: Vec<u8> = (0..n * height * width * 3).map(|i| (i * 7 % 251) as u8).collect();
    Tensor::from_vec(pixels, (n, height, width, 3), &Device::Cpu).unwrap()
}

fn numbers(features: &[Tensor; 3]) -> Vec<Vec<f32>> {
    features.iter().map(|f| f.flatten_all().unwrap().to_vec1().unwrap()).collect()
}

#[test]
fn features_have_the_documented_shapes_and_do_not_depend_on_the_batch() {
    let mut model = model(three_tasks()).start(&CPU).unwrap();
    let both = images(2, 64, 96);
    let features = model.features(&both).unwrap();
    let shapes: Vec<&[usize]> = features.iter().map(|f| f.dims()).collect();
    assert_eq!(shapes, [&[2, 8, 12, 16], &[2, 4, 6, 32], &[2, 2, 3, 64]]);
    let second = model.features(&both.narrow(0, 1, 1).unwrap()).unwrap();
    for (both, alone) in features.iter().zip(&second) {
        let both: Vec<f32> = both.narrow(0, 1, 1).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let alone: Vec<f32> = alone.flatten_all().unwrap().to_vec1().unwrap();
        let largest = alone.iter().fold(0f32, |m, v| m.max(v.abs()));
        assert!(largest > 0.0);
        // In another batch, row tiles start elsewhere, so sums may be ordered differently: rounding of ~600 terms.
        assert!(both.iter().zip(&alone).all(|(a, b)| (a - b).abs() <= 1e-5 * largest));
    }
}

#[test]
fn a_model_gives_the_same_results_after_any_other_calls() {
    let file = model(three_tasks());
    let mut model = file.start(&CPU).unwrap();
    let asked = images(1, 64, 64);
    let first = numbers(&model.features(&asked).unwrap());
    assert!(numbers(&model.features(&asked).unwrap()) == first);
    // More shapes than plans that are kept, including larger ones and the heads.
    for rows in 1..=Model::PLANS {
        model.features(&images(2, 32 * rows, 96)).unwrap();
    }
    model.predict(&images(3, 50, 70), &Settings::default()).unwrap();
    assert!(numbers(&model.features(&asked).unwrap()) == first);
    assert!(numbers(&file.start(&CPU).unwrap().features(&asked).unwrap()) == first);
}

#[test]
fn invalid_batches_of_images_are_refused() {
    let mut model = model(three_tasks()).start(&CPU).unwrap();
    let settings = Settings::default();
    let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::Cpu).unwrap();
    for (images, words) in [
        (zeros(&[1, 64, 64, 3], DType::F32), "U8"),
        (zeros(&[64, 64, 3], DType::U8), "[64, 64, 3]: expected [N, H, W, 3]"),
        (zeros(&[1, 3, 64, 64], DType::U8), "expected [N, H, W, 3]"),
        (zeros(&[0, 64, 64, 3], DType::U8), "expected at least one pixel"),
    ] {
        for error in [model.features(&images).map(drop), model.predict(&images, &settings).map(drop)] {
            let said = error.unwrap_err().to_string();
            assert!(said.contains(words), "{said}");
        }
    }
    let none = Settings { batch: 0, ..settings };
    assert!(model.predict(&images(1, 8, 8), &none).unwrap_err().to_string().contains("batch of 0"));
    assert!(model.predict_files(&[] as &[&str], &settings).unwrap().is_empty());
    assert!(model.forward([1, 64, 64], &[0; 7]).unwrap_err().to_string().contains("7 bytes: expected 12288"));
    assert!(model.load_batch([1, 64, 64], &[]).unwrap_err().to_string().contains("0 bytes"));
    let odd = Settings { image_size: Some(33), ..settings };
    assert!(model.predict(&images(1, 8, 8), &odd).unwrap_err().to_string().contains("33"));
}

#[test]
fn only_a_loaded_batch_can_be_started_and_read() {
    let mut model = model(three_tasks()).start(&CPU).unwrap();
    let (shape, pixels) = ([1, 64, 64], images(1, 64, 64).flatten_all().unwrap().to_vec1::<u8>().unwrap());
    let refused = |outcome: polyhead::error::Result<()>| {
        assert_eq!(outcome.unwrap_err().to_string(), "no batch of [1, 64, 64] was loaded");
    };
    refused(model.start_batch(shape));
    refused(model.batch_outputs(shape).map(drop));
    model.load_batch(shape, &pixels).unwrap();
    model.start_batch(shape).unwrap();
    let outputs = format!("{:?}", model.batch_outputs(shape).unwrap());
    assert_eq!(outputs, format!("{:?}", model.forward(shape, &pixels).unwrap()));
    // Other sizes replace the plan, and the batch is lost with it.
    model.load_batch(shape, &pixels).unwrap();
    for rows in 1..=Model::PLANS {
        model.features(&images(2, 32 * rows, 96)).unwrap();
    }
    refused(model.start_batch(shape));
    refused(model.batch_outputs(shape).map(drop));
}

#[test]
fn a_saved_model_predicts_as_before() {
    let place = Place::new("library-saved");
    let (file, path) = (model(three_tasks()), place.path("model.safetensors"));
    let answer = |mut model: Model| {
        let [a, b, c] = model.features(&images(1, 64, 64)).unwrap();
        format!("{:?} {:?}", numbers(&[a, b, c]), model.predict(&images(1, 64, 64), &Settings::default()).unwrap())
    };
    let loaded = Model::load(&path, &CPU).unwrap();
    assert_eq!(*loaded.card(), file.card);
    assert_eq!(answer(loaded), answer(file.start(&CPU).unwrap()));
}

/// The command and the library round numbers in the same way, so that their output is the same text.
#[test]
fn a_program_gets_the_predictions_of_the_command() {
    let place = Place::new("library-answers");
    let names = ["a.png", "b.png", "broken.png", "c.png", "d.png"];
    names.iter().filter(|name| **name != "broken.png").for_each(|name| place.image(name));
    std::fs::write(place.path("broken.png"), b"no image").unwrap();
    let output = place.run(&[&names[..], &["--batch", "2", "--out", "-"]].concat(), b"");
    let lines: Vec<Value> =
        output.stdout.split(|b| *b == b'\n').filter_map(|l| serde_json::from_slice(l).ok()).collect();
    assert_eq!(lines.len(), names.len());

    let mut model = Model::load(place.path("model.safetensors"), &CPU).unwrap();
    let boxes =
        DecodeOptions { score_threshold: 0.0, iou_threshold: 1.0, max_detections: 5, ..DecodeOptions::default() };
    let settings = Settings { batch: 2, boxes, ..Settings::default() };
    let files: Vec<_> = names.iter().map(|name| place.path(name)).collect();
    let answers = model.predict_files(&files, &settings).unwrap();
    for ((line, answer), file) in lines.iter().zip(&answers).zip(&files) {
        match answer {
            Ok(answer) => {
                assert_eq!(line["tasks"], answer.to_json());
                let image = decode(file).unwrap();
                assert_eq!(answer.size, [image.width, image.height]);
                // The same picture as an array.
                let shape = (1, image.height, image.width, 3);
                let array = Tensor::from_vec(image.rgb, shape, &Device::Cpu).unwrap();
                let alone = Settings { batch: 1, ..settings };
                let of_array = model.predict(&array, &alone).unwrap().remove(0);
                let of_file = model.predict_files(&[file], &alone).unwrap().remove(0).unwrap();
                assert_eq!(of_array.to_json(), of_file.to_json());
            }
            Err(error) => assert!(line["error"].is_string() && error.to_string().contains("broken.png"), "{error}"),
        }
    }

    let first = answers[0].as_ref().unwrap();
    let (found, class): (&FoundBoxes, &Probabilities) = (first.get("things").unwrap(), first.get("kind").unwrap());
    let sum: &Amounts = first.get("amount").unwrap();
    let [width, height] = first.size.map(|side| side as f32);
    assert_eq!(found.named().count(), 5);
    assert!(found.named().all(|(_, _, [x1, y1, x2, y2])| 0.0 <= x1
        && x1 < x2
        && x2 <= width
        && y1 < y2
        && y2 <= height));
    assert_eq!(lines[0]["tasks"]["kind"]["class"], class.likeliest().0);
    assert_eq!(sum.units.len(), sum.values.len());
    assert!(first.get::<Amounts>("kind").is_none() && first.get::<Amounts>("none").is_none());
}
