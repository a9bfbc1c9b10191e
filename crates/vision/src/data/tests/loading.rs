//! The loaders: batches do not depend on the number of threads, every image occurs equally often, broken images are
//! counted and replaced.

use super::{Folder, of_boxes, of_class};
use crate::data::augment::Augment;
use crate::data::dataset::Sample;
use crate::data::feed::{Batch, EvalLoader, Item, LoaderOptions, TrainLoader, Variety, broken_allowed};
use crate::data::images::Part;
use crate::data::images::cache::Cache;
use crate::ir::Level;
use crate::tasks::detect::Detect;
use crate::tasks::{Encoder, Encoders, Label, LabelledBox, Target, TargetArray, Task};
use std::fs;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

fn options(workers: usize) -> LoaderOptions {
    LoaderOptions {
        batch: 6,
        imgsz: 32,
        workers,
        seed: 3,
        augment: Augment::training(true, true),
        variety: Variety::default(),
        max_broken: 0.0,
        prefetch: 2,
        cache: None,
        encoders: None,
    }
}

/// `count` pictures with a box, each in a different grey.
fn samples(folder: &Folder, count: usize) -> Arc<[Sample]> {
    let sample = |i: usize| {
        let image = folder.path().join(format!("{i}.png"));
        let grey = image::Rgb([(i * 9) as u8; 3]);
        image::RgbImage::from_pixel(40 + i as u32, 30, grey).save(&image).unwrap();
        let xyxy = [4.0, 5.0, 20.0, 25.0];
        let boxes = vec![LabelledBox { class: i, xyxy, ignore: false }];
        Sample { image, name: format!("{i}.png"), labels: vec![of_boxes(boxes), Label::UNLABELLED] }
    };
    (0..count).map(sample).collect()
}

/// Makes targets with as many cells as a canvas has at stride 8.
fn encoders(sides: &[usize]) -> Option<Arc<Encoders>> {
    let encoder = |&side: &usize| {
        let levels = vec![Level { stride: 8, h: side / 8, w: side / 8 }];
        let classes = (0..10).map(|i| i.to_string()).collect();
        (side, Encoder { tasks: vec![Task::new("objects", Detect::new(classes))], levels, standardisation: vec![None] })
    };
    Some(Arc::new(Encoders::new(sides.iter().map(encoder))))
}

/// The content of a batch, comparable.
type Content = (Vec<u8>, Vec<(usize, Vec<Label>, Vec<Target>)>);

fn content(batch: &Batch) -> Content {
    let items = batch.items.iter().map(|item| (item.index, item.labels.clone(), item.targets.clone()));
    (batch.images.clone(), items.collect())
}

#[test]
fn threads_change_nothing_and_any_batch_can_be_the_first() {
    let folder = Folder::new();
    let samples = samples(&folder, 10);
    let take = |workers, start, count| -> Vec<_> {
        let options = LoaderOptions { encoders: encoders(&[32]), ..options(workers) };
        let mut loader = TrainLoader::new(samples.clone(), options, start).unwrap();
        (0..count)
            .map(|_| {
                let batch = loader.next().unwrap();
                let content = content(&batch);
                loader.recycle(batch.images);
                content
            })
            .collect()
    };
    let expected = take(1, 0, 9);
    assert_eq!(take(2, 0, 9), expected);
    assert_eq!(take(5, 0, 9), expected);
    assert_eq!(take(2, 4, 5), expected[4..]);
    assert!(expected.iter().all(|(images, items)| items.len() == 6 && images.len() == 6 * 32 * 32 * 3));
}

/// Every batch has one side and is encoded for it, whichever thread makes it and wherever the stream begins.
#[test]
fn each_batch_has_a_side_by_the_seed_and_its_number() {
    let folder = Folder::new();
    let samples = samples(&folder, 10);
    let take = |workers, seed, start, count| -> Vec<_> {
        let variety = Variety { sides: vec![32, 64, 96], ..Variety::default() };
        let encoders = encoders(&[32, 64, 96]);
        let options = LoaderOptions { variety, seed, encoders, ..options(workers) };
        let mut loader = TrainLoader::new(samples.clone(), options, start).unwrap();
        let mut next = || {
            let batch = loader.next().unwrap();
            assert_eq!((batch.count(), batch.images.len()), (6, 6 * batch.side * batch.side * 3));
            let cells = |item: &Item| match &item.targets[0].arrays[0] {
                TargetArray::I32(numbers) => numbers.len(),
                TargetArray::F32(numbers) => numbers.len(),
            };
            let side = batch.side;
            assert!(batch.items.iter().all(|item| item.geometry.size == side && cells(item) == (side / 8).pow(2)));
            let content = content(&batch);
            // A buffer can be reused for any side.
            loader.recycle(batch.images);
            (side, content)
        };
        (0..count).map(|_| next()).collect()
    };
    let expected = take(1, 3, 0, 30);
    assert!(take(4, 3, 0, 30) == expected);
    assert!(take(2, 3, 7, 5) == expected[7..12]);
    // In 30 draws from three sides, each occurs 10 times on average; the bound is three standard deviations of 2.6.
    for side in [32, 64, 96] {
        let came = expected.iter().filter(|batch| batch.0 == side).count();
        assert!((3..=17).contains(&came), "{side}: {came} times");
    }
    let sides = |seed| take(2, seed, 0, 30).into_iter().map(|batch| batch.0).collect::<Vec<_>>();
    assert_ne!(sides(3), sides(4));
    // The choice of images does not depend on the side.
    let mut plain = TrainLoader::new(samples.clone(), options(1), 0).unwrap();
    for (_, (_, items)) in &expected[..5] {
        let indices: Vec<usize> = plain.next().unwrap().items.iter().map(|item| item.index).collect();
        assert_eq!(items.iter().map(|item| item.0).collect::<Vec<_>>(), indices);
    }
}

/// Exactly the backlog is made while nobody takes a batch. Here every worker's piece is a whole fraction of a batch.
#[test]
fn the_backlog_is_what_is_made_ahead() {
    let folder = Folder::new();
    let options = LoaderOptions { batch: 8, ..options(2) };
    let loader = TrainLoader::new(samples(&folder, 10), options, 0).unwrap();
    let expected = 8 * loader.backlog() as u64;
    let deadline = Instant::now() + Duration::from_secs(20);
    while loader.made() < expected && Instant::now() < deadline {
        sleep(Duration::from_millis(5));
    }
    sleep(Duration::from_millis(50));
    assert_eq!(loader.made(), expected);
}

#[test]
fn each_image_comes_equally_often() {
    let folder = Folder::new();
    let mut loader = TrainLoader::new(samples(&folder, 10), options(2), 0).unwrap();
    let mut drawn = Vec::new();
    for _ in 0..5 {
        drawn.extend(loader.next().unwrap().items.iter().map(|item| item.index));
    }
    let epochs: Vec<Vec<usize>> = drawn.chunks(10).map(<[usize]>::to_vec).collect();
    assert_ne!(epochs[0], epochs[1]);
    for mut epoch in epochs {
        epoch.sort();
        assert_eq!(epoch, (0..10).collect::<Vec<_>>());
    }
}

#[test]
fn labels_are_in_network_pixels() {
    let folder = Folder::new();
    let plain = LoaderOptions { augment: Augment::NONE, encoders: encoders(&[32]), ..options(1) };
    let mut loader = EvalLoader::new(samples(&folder, 1), plain).unwrap();
    let batch = loader.next().unwrap().unwrap();
    let Some(boxes) = batch.items[0].labels[0].boxes() else { panic!() };
    // A 40 × 30 image letterboxed to 32: scale 0.8, four rows of padding.
    assert_eq!(boxes[0].xyxy, [3.2, 8.0, 16.0, 24.0]);
    assert!(batch.items[0].targets[0].active);
    assert!(loader.next().is_none());
}

#[test]
fn evaluation_goes_in_order_and_pads_the_last_batch() {
    let folder = Folder::new();
    let samples = samples(&folder, 10);
    for workers in [1, 3] {
        let plain = LoaderOptions { augment: Augment::NONE, ..options(workers) };
        let loader = EvalLoader::new(samples.clone(), plain).unwrap();
        let batches: Vec<_> = loader.map(Result::unwrap).collect();
        assert_eq!(batches.iter().map(Batch::count).collect::<Vec<_>>(), [6, 4]);
        let order: Vec<usize> = batches.iter().flat_map(|b| b.items.iter().map(|i| i.index)).collect();
        assert_eq!(order, (0..10).collect::<Vec<_>>());
        assert_eq!(batches[1].images.len(), 6 * 32 * 32 * 3);
        assert!(batches[1].images[4 * 32 * 32 * 3..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn broken_images_are_named_once_and_replaced_alike() {
    let folder = Folder::new();
    let samples = samples(&folder, 10);
    fs::write(&samples[3].image, b"no image").unwrap();
    let take = |workers| {
        let tolerant = LoaderOptions { max_broken: 0.01, ..options(workers) };
        let mut loader = TrainLoader::new(samples.clone(), tolerant, 0).unwrap();
        let mut broken = Vec::new();
        let drawn: Vec<usize> = (0..6)
            .flat_map(|_| {
                let batch = loader.next().unwrap();
                assert_eq!(batch.count(), 6);
                broken.extend(batch.broken.clone());
                batch.items.into_iter().map(|item| item.index)
            })
            .collect();
        assert_eq!(broken.len(), 1);
        assert_eq!((broken[0].index, broken[0].name.as_str()), (3, "3.png"));
        assert!(!drawn.contains(&3));
        drawn
    };
    assert_eq!(take(1), take(4));
}

#[test]
fn too_many_broken_images_stop_the_run_and_are_named() {
    let folder = Folder::new();
    let samples = samples(&folder, 10);
    fs::write(&samples[3].image, b"no image").unwrap();
    fs::write(&samples[7].image, b"").unwrap();
    let run = |max_broken| {
        let tolerant = LoaderOptions { max_broken, ..options(2) };
        let mut loader = TrainLoader::new(samples.clone(), tolerant, 0).unwrap();
        (0..4).map(|_| loader.next()).find_map(Result::err).map(|e| e.to_string())
    };
    assert_eq!(run(0.2), None);
    let message = run(0.1).unwrap();
    assert!(
        message.starts_with("2 of 10 images cannot be read, more than --max-broken 0.1 allows: 3.png (cannot decode"),
        "{message}"
    );
    assert!(message.contains("7.png (the file is empty); repair or remove them, or raise --max-broken"), "{message}");

    // In evaluation, broken images leave a gap and are not replaced.
    let plain = LoaderOptions { augment: Augment::NONE, max_broken: 0.2, ..options(2) };
    let batches: Vec<_> = EvalLoader::new(samples.clone(), plain).unwrap().map(Result::unwrap).collect();
    assert_eq!(batches.iter().map(Batch::count).collect::<Vec<_>>(), [5, 3]);
    for sample in samples.iter() {
        fs::write(&sample.image, b"").unwrap();
    }
    assert_eq!(run(1.0).unwrap(), "none of 10 images can be read");
}

#[test]
fn a_panicking_encoder_is_an_error_and_dropping_is_clean() {
    let folder = Folder::new();
    let samples = samples(&folder, 10);
    let other_side = LoaderOptions { encoders: encoders(&[64]), ..options(3) };
    let mut loader = TrainLoader::new(samples.clone(), other_side, 0).unwrap();
    assert!(loader.next().unwrap_err().to_string().contains("a data worker panicked"));
    assert!(loader.next().is_err());
    // Dropped without taking a batch, while threads work ahead.
    drop(TrainLoader::new(samples.clone(), options(3), 0).unwrap());
    assert!(TrainLoader::new(samples, LoaderOptions { batch: 0, ..options(1) }, 0).is_err());
}

/// JPEGs, which are decoded in part unless they are cached, and a broken one.
fn photographs(folder: &Folder) -> Arc<[Sample]> {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/images");
    let names = ["baseline-420.jpg", "restart-422.jpg", "turned.jpg", "progressive.jpg", "plain.png", "broken.jpg"];
    let sample = |name: &&str| {
        let image = folder.path().join(name);
        let bytes = fs::read(golden.join(name)).unwrap_or_else(|_| b"no image".to_vec());
        fs::write(&image, bytes).unwrap();
        Sample { image, name: name.to_string(), labels: vec![of_class(1)] }
    };
    names.iter().map(sample).collect()
}

#[test]
fn a_cache_changes_no_batch() {
    let folder = Folder::new();
    let samples = photographs(&folder);
    let take = |cache: Option<Cache>| -> Vec<_> {
        let augment =
            Augment { framing: crate::data::Framing::Crop { least_area: 0.1 }, ..Augment::training(true, true) };
        let options = LoaderOptions { augment, max_broken: 0.2, cache: cache.map(Arc::new), ..options(2) };
        let mut loader = TrainLoader::new(samples.clone(), options, 0).unwrap();
        (0..6).map(|_| loader.next().unwrap()).map(|batch| (content(&batch), batch.broken)).collect()
    };
    let expected = take(None);
    assert_eq!(expected.iter().map(|(_, broken)| broken.len()).sum::<usize>(), 1);
    let kept = folder.path().join("cache");
    let on_disk = |limit| Some(Cache::in_folder(&kept, limit).unwrap());
    let files = || fs::read_dir(&kept).unwrap().count();
    // An image of 61 × 43 takes 7,869 bytes and a header.
    for (limit, files_then) in [(8000, 1), (8000, 1), (1 << 20, 5), (1 << 20, 5)] {
        assert!(take(on_disk(limit)) == expected, "{limit}");
        assert_eq!(files(), files_then);
    }
    for limit in [0, 20_000, 1 << 20] {
        assert!(take(Some(Cache::in_memory(limit))) == expected, "{limit}");
    }
    // The image of a truncated cache file is decoded again, and a changed image gets a new entry.
    for entry in fs::read_dir(&kept).unwrap() {
        let file = entry.unwrap().path();
        let bytes = fs::read(&file).unwrap();
        fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
    }
    assert!(take(on_disk(1 << 20)) == expected);
    fs::copy(&samples[3].image, &samples[4].image).unwrap();
    let changed = take(on_disk(1 << 20));
    assert!(changed != expected && changed == take(None));
}

#[test]
fn a_cached_image_is_what_was_decoded_whatever_bit_of_its_file_changes() {
    let folder = Folder::new();
    let image = folder.path().join("a.png");
    image::RgbImage::from_fn(5, 4, |x, y| image::Rgb([x as u8, y as u8, 9])).save(&image).unwrap();
    let kept = folder.path().join("cache");
    let cache = Cache::in_folder(&kept, 1000).unwrap();
    let decode = || cache.decode(&image, Part::whole).unwrap();
    let expected = decode();
    let files = || fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let [file] = &files()[..] else { panic!("one file") };
    let bytes = fs::read(file).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        fs::write(file, &damaged).unwrap();
        assert!(decode() == expected, "bit {bit}");
        assert_eq!((cache.take_damaged(), fs::read(file).unwrap() == bytes), (1, true), "bit {bit}");
    }
    assert_eq!((cache.take_damaged(), decode() == expected), (0, true));
    // The file of another image under this name, and a file of an older version.
    let other = folder.path().join("b.png");
    image::RgbImage::from_pixel(5, 4, image::Rgb([7; 3])).save(&other).unwrap();
    cache.decode(&other, Part::whole).unwrap();
    let of_other = files().into_iter().find(|path| path != file).unwrap();
    fs::copy(&of_other, file).unwrap();
    assert_eq!((decode() == expected, cache.take_damaged()), (true, 1));
    fs::write(file, [b"polyhd01", &[5, 0, 0, 0, 4, 0, 0, 0][..], &[1; 60]].concat()).unwrap();
    assert_eq!((decode() == expected, cache.take_damaged()), (true, 0));
    assert_eq!(fs::read(file).unwrap(), bytes);
    // Replaced files do not count twice: there is still room for another image of the same size.
    assert_eq!(bytes.len(), 92);
    let small = Cache::in_folder(&kept, 2 * 92).unwrap();
    for _ in 0..3 {
        fs::write(file, [0; 92]).unwrap();
        assert!(*small.decode(&image, Part::whole).unwrap() == *expected);
        assert_eq!(fs::read(file).unwrap(), bytes);
    }
}

#[test]
fn a_file_deleted_during_training_is_broken() {
    let folder = Folder::new();
    let samples = samples(&folder, 10);
    let tolerant = LoaderOptions { max_broken: 0.1, ..options(1) };
    let mut loader = TrainLoader::new(samples.clone(), tolerant, 0).unwrap();
    loader.next().unwrap();
    fs::remove_file(&samples[5].image).unwrap();
    let broken: Vec<_> = (0..10).flat_map(|_| loader.next().unwrap().broken).collect();
    assert_eq!(broken.len(), 1);
    assert!(broken[0].to_string().starts_with("5.png: cannot read: No such file"), "{}", broken[0]);
}

#[test]
fn a_share_is_counted_as_it_was_written() {
    for images in 1..2000 {
        assert_eq!(broken_allowed(0.01, images), (images / 100).max(1), "{images}");
        assert_eq!(broken_allowed(0.29, images), (images * 29 / 100).max(1), "{images}");
        assert_eq!([broken_allowed(0.0, images), broken_allowed(1.0, images)], [0, images]);
    }
}
