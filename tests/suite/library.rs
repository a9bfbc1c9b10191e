//! The network as a library: load, ask for features, save.

use candle_core::{DType, Device, Tensor};
use polyhead::executor::{DeviceChoice, Executor, ParameterSet};
use polyhead::ir::Mode;
use polyhead::model::weights::{self, Slot};
use polyhead::model::{Architecture, Backbone, Card, Model, init};
use polyhead::tasks::Task;
use polyhead::tasks::classify::Classify;

const CPU: DeviceChoice = DeviceChoice::Cpu { threads: 2 };

fn tiny_model() -> Model {
    let task = Task::new("paper", Classify::new(vec!["plain".into(), "ruled".into()]));
    let card = Card::new(Architecture::new(Backbone::Tiny, vec![task], 64, 0.0), 64);
    let network = card.architecture.network([1, 64, 64], Mode::Evaluate).unwrap();
    let mut executor = Executor::new(&CPU, &network.graph.parameters, &network.graph.buffers).unwrap();
    executor.edit_store(|store| init::initialise(store, 3)).unwrap();
    let mut tensors =
        weights::export_parameters(executor.store().unwrap(), Slot::Set(ParameterSet::Current), "").unwrap();
    tensors.append(&mut weights::export_buffers(executor.store().unwrap(), ParameterSet::Current, "").unwrap());
    Model { card, tensors }
}

#[test]
fn features_have_the_documented_shapes_and_do_not_depend_on_the_batch() {
    let model = tiny_model();
    let pixels: Vec<u8> = (0..2 * 64 * 96 * 3u32).map(|i| (i * 7 % 251) as u8).collect();
    let both = Tensor::from_vec(pixels, (2, 64, 96, 3), &Device::Cpu).unwrap();
    let features = model.features(&both, &CPU).unwrap();
    let shapes: Vec<&[usize]> = features.iter().map(|f| f.dims()).collect();
    assert_eq!(shapes, [&[2, 8, 12, 16], &[2, 4, 6, 32], &[2, 2, 3, 64]]);
    let second = model.features(&both.narrow(0, 1, 1).unwrap(), &CPU).unwrap();
    for (both, alone) in features.iter().zip(&second) {
        let both: Vec<f32> = both.narrow(0, 1, 1).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let alone: Vec<f32> = alone.flatten_all().unwrap().to_vec1().unwrap();
        let largest = alone.iter().fold(0f32, |m, v| m.max(v.abs()));
        assert!(largest > 0.0);
        // Row tiles fall elsewhere in another batch, so sums may be ordered otherwise: rounding of ~600 terms.
        assert!(both.iter().zip(&alone).all(|(a, b)| (a - b).abs() <= 1e-5 * largest));
    }
}

#[test]
fn images_of_another_type_are_refused_in_a_sentence() {
    let images = Tensor::zeros((1, 64, 64, 3), DType::F32, &Device::Cpu).unwrap();
    let error = tiny_model().features(&images, &CPU).unwrap_err().to_string();
    assert!(error.contains("U8") || error.contains("u8"), "{error}");
}

#[test]
fn a_saved_model_answers_as_before() {
    let folder = std::env::temp_dir().join(format!("polyhead-library-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (model, path) = (tiny_model(), folder.join("model.safetensors"));
    model.save(&path).unwrap();
    let loaded = Model::load(&path, None).unwrap();
    assert_eq!(loaded.card, model.card);
    let images: Vec<u8> = (0..64 * 64 * 3u32).map(|i| (i * 13 % 256) as u8).collect();
    let answer = |model: &Model| format!("{:?}", model.start(&CPU).unwrap().run([1, 64, 64], &images).unwrap());
    assert_eq!(answer(&loaded), answer(&model));
    std::fs::remove_dir_all(&folder).unwrap();
}
