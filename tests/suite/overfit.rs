//! Sixteen images can be memorised, which shows that all parts of training and evaluation fit together.

use crate::step::{Folder, cpu, encoder, optimizer};
use polyhead::data::built_in::digits::{DigitsOptions, write_digits};
use polyhead::data::{Augment, Dataset, EvalLoader, LoaderOptions, OpenOptions, Sample, Variety};
use polyhead::evaluate::{Settings, validate};
use polyhead::model::{Architecture, Backbone, Card, ValidationPlan, init};
use polyhead::optim::OptimizerConfig;
use polyhead::tasks::classify::metric::ClassificationSummary;
use polyhead::tasks::detect::DetectionFigures;
use polyhead::tasks::regress::ColumnFigures;
use polyhead::tasks::{DecodeOptions, Encoder, Encoders, Label, LabelFeatures, Target};
use polyhead::train::step::Trainer;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

#[test]
fn sixteen_images_can_be_memorised() {
    let folder = Folder::new("overfit");
    let data = folder.path.join("digits");
    let options = DigitsOptions { train: 40, val: 2, test: 2, ..DigitsOptions::default() };
    write_digits(&data, &options).unwrap();
    let dataset = Dataset::open(&data, &OpenOptions::default()).unwrap();
    let labelled = |s: &&Sample| s.labels.iter().all(Label::is_labelled);
    let samples: Arc<[Sample]> = dataset.train.iter().filter(labelled).take(16).cloned().collect();
    assert_eq!(samples.len(), 16);

    let architecture = Architecture::new(Backbone::Tiny, dataset.tasks.clone(), 96, 0.0);
    let mut card = Card::new(architecture.clone(), 96);
    for (index, task) in dataset.tasks.iter().enumerate() {
        card.standardisation[index] = task.spec.fit(&mut samples.iter().map(|s| &s.labels[index]));
    }
    let encoder = Encoder { standardisation: card.standardisation.clone(), ..encoder(&architecture, 96) };
    let options = LoaderOptions {
        batch: 16,
        imgsz: 96,
        workers: 1,
        seed: 0,
        augment: Augment::NONE,
        variety: Variety::default(),
        max_broken: 0.0,
        prefetch: 1,
        cache: None,
        encoders: Some(Arc::new(Encoders::new([(96, encoder)]))),
    };
    let batch = EvalLoader::new(Arc::clone(&samples), options).unwrap().next().unwrap().unwrap();
    let targets: Vec<Vec<Target>> = batch.items.into_iter().map(|i| i.targets).collect();

    let steps = 600;
    let config = OptimizerConfig { weight_decay: 0.0, ..optimizer(1e-2, steps) };
    let balance = crate::balance::balance("uncertainty", &architecture.tasks, &[]);
    let mut trainer = Trainer::new(&architecture, [16, 96, 96], &cpu(2), config, balance).unwrap();
    trainer.executor.edit_store(|store| init::initialise(store, 0)).unwrap();
    for _ in 0..steps {
        trainer.step(&batch.images, &targets).unwrap();
    }
    let mut validated = |batch: usize| {
        let (executor, labels) = (&mut trainer.executor, LabelFeatures::default());
        let plan = ValidationPlan::prepare(executor, &card, [batch, 96], labels, vec![1.0; 3]).unwrap();
        let boxes = DecodeOptions::default();
        let settings = Settings { batch, imgsz: 96, workers: 1, max_broken: 0.0, cache: None, boxes };
        validate(executor, &plan, &card, &samples, &settings, &AtomicBool::new(false)).unwrap()
    };
    let validation = validated(16);
    // A padded batch has the losses of its images; a mean over several batches differs only where a loss is not a sum over images.
    let [padded, several] = [20, 5].map(|batch| validated(batch).losses.into_iter().map(Option::unwrap));
    let losses: Vec<f64> = validation.losses.iter().map(|loss| loss.unwrap()).collect();
    for (task, ((whole, padded), several)) in losses.iter().zip(padded).zip(several).enumerate() {
        assert!(*whole > 0.0 && (padded / whole - 1.0).abs() < 1e-5, "task {task}: {whole}, padded {padded}");
        let allowed = if task == 0 { 0.2 } else { 1e-5 };
        assert!((several / whole - 1.0).abs() < allowed, "task {task}: {whole}, in batches of 5 {several}");
    }
    let [digits, paper, sum] = &validation.results[..] else { panic!("the digits have three tasks") };
    let boxes = &digits.summary.get::<DetectionFigures>().unwrap().boxes;
    assert!(boxes.ap50 >= Some(0.99), "AP50 {:?}", boxes.ap50);
    assert_eq!(paper.summary.get::<ClassificationSummary>().unwrap().top1, Some(1.0));
    let sums = &sum.summary.get::<ColumnFigures>().unwrap().columns[0];
    assert!(sums.r2 >= Some(0.99), "R² {:?}", sums.r2);
}
