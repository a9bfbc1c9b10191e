//! The built-in scenes: each split has its own handwriting, all three states occur, and equal seeds give equal scenes.

use super::Folder;
use crate::boxes;
use crate::data::Progress;
use crate::data::built_in::Planted;
use crate::data::built_in::digits::{DigitsOptions, digits_dataset, write_digits, write_planted};
use crate::data::built_in::scene::{PAPERS, Records, draw};
use crate::data::check;
use crate::data::dataset::{Dataset, OpenOptions};
use crate::data::images::decode;
use crate::tasks::regress::Values;
use std::collections::BTreeSet;
use std::fs;

const SMALL: DigitsOptions = DigitsOptions { train: 200, val: 40, test: 20, size: 96, seed: 5 };

#[test]
fn splits_share_no_handwriting() {
    let pools: Vec<BTreeSet<usize>> =
        (0..3).map(|split| crate::data::digits::records_of(split).into_iter().collect()).collect();
    assert_eq!(pools.iter().map(BTreeSet::len).sum::<usize>(), 1797);
    assert!(pools[0].is_disjoint(&pools[1]) && pools[0].is_disjoint(&pools[2]) && pools[1].is_disjoint(&pools[2]));
    let records = Records::load().unwrap();
    let pool: Vec<usize> = pools[1].iter().copied().collect();
    for number in 0..50 {
        assert!(draw(&records, &pool, 96, &[number]).records.iter().all(|r| pools[1].contains(r)));
    }
}

#[test]
fn scenes_are_what_they_say() {
    let records = Records::load().unwrap();
    let pool: Vec<usize> = (0..1797).collect();
    let (mut counts, mut papers) = ([0; 5], [0; PAPERS.len()]);
    for number in 0..400 {
        let scene = draw(&records, &pool, 96, &[7, number]);
        assert_eq!(scene, draw(&records, &pool, 96, &[7, number]));
        counts[scene.digits.len()] += 1;
        papers[scene.paper] += 1;
        for (i, (_, b)) in scene.digits.iter().enumerate() {
            assert!(b[0] >= 0.0 && b[1] >= 0.0 && b[2] <= 96.0 && b[3] <= 96.0);
            assert!((5.0..50.0).contains(&(b[2] - b[0])) && (12.0..50.0).contains(&(b[3] - b[1])), "{b:?}");
            assert!(scene.digits[..i].iter().all(|(_, other)| boxes::iou(b, other) < 0.05));
        }
    }
    assert!((4..=30).contains(&counts[0]) && counts[1..].iter().all(|n| *n > 50), "{counts:?}");
    assert!(papers.iter().all(|n| *n > 60), "{papers:?}");
}

#[test]
fn written_and_read_again() {
    let folder = Folder::new();
    let dirs = ["one", "two"].map(|name| folder.path().join(name));
    for dir in &dirs {
        write_digits(dir, &SMALL).unwrap();
    }
    for file in ["labels.csv", "train/00007.png", "labels/val/00003.txt"] {
        assert_eq!(fs::read(dirs[0].join(file)).unwrap(), fs::read(dirs[1].join(file)).unwrap(), "{file}");
    }
    let dataset = Dataset::open(&dirs[0], &OpenOptions::default()).unwrap();
    assert_eq!([dataset.train.len(), dataset.val.len(), dataset.test.len()], [200, 40, 20]);
    assert!(!dataset.crop_safe && !dataset.flip_safe);
    let report = check::coverage::check(&dataset);
    for task in &report.tasks {
        assert!(task.splits[0].unlabelled > 5 && task.splits[1].unlabelled == 0, "{report}");
    }
    assert!(report.tasks[0].splits[0].empty > 0, "{report}");
    assert!(report.to_string().contains("digits  detection       train       200"), "{report}");
    // The sum is that of the digits with boxes.
    for sample in &dataset.val {
        let (boxes, sum) = (sample.labels[0].boxes().unwrap(), sample.labels[2].get::<Values>().unwrap());
        assert_eq!(boxes.iter().map(|b| b.class).sum::<usize>() as f64, sum[0]);
    }
    // Ink is dark and paper is light: the boxes contain the dark pixels.
    let sample = dataset.val.iter().find(|s| s.labels[0].boxes().is_some_and(|b| b.len() == 1)).unwrap();
    let image = decode::decode(&sample.image).unwrap();
    let Some(boxes) = sample.labels[0].boxes() else { panic!() };
    let [x1, y1, x2, y2] = boxes[0].xyxy.map(|v| v.round() as usize);
    let dark = |x: usize, y: usize| image.rgb[(y * 96 + x) * 3..][..3].iter().all(|b| *b < 150);
    let all = (0..96 * 96).filter(|i| dark(i % 96, i / 96)).count();
    let inside = (0..96 * 96)
        .filter(|i| (x1..x2).contains(&(i % 96)) && (y1..y2).contains(&(i / 96)) && dark(i % 96, i / 96))
        .count();
    assert!(inside > 20 && inside * 10 >= all * 7, "{inside} of {all}");
}

/// A planted task adds a column and a line, and changes nothing else.
#[test]
fn planted_tasks_follow_from_those_of_the_set() {
    let folder = Folder::new();
    let options = DigitsOptions { train: 40, val: 12, test: 0, ..SMALL };
    let open = |name: &str, planted| {
        let dir = folder.path().join(name);
        write_planted(&dir, &options, planted, &Progress::default()).unwrap();
        (Dataset::open(&dir, &OpenOptions::default()).unwrap(), dir)
    };
    let (plain, own) = open("plain", None);
    for planted in [Planted::Negated, Planted::Shuffled, Planted::Kin, Planted::Rivals, Planted::Twins] {
        let (dataset, dir) = open(&format!("{planted:?}"), Some(planted));
        let names: Vec<&str> = dataset.tasks[3..].iter().map(|task| task.name.as_str()).collect();
        assert_eq!(names, planted.tasks());
        for file in ["train/00007.png", "labels/val/00003.txt"] {
            assert_eq!(fs::read(own.join(file)).unwrap(), fs::read(dir.join(file)).unwrap(), "{file}");
        }
        let (mut sums, mut others, mut right) = (Vec::new(), Vec::new(), [0, 0]);
        for (sample, before) in dataset.train.iter().zip(&plain.train) {
            assert_eq!(sample.labels[..3], before.labels[..]);
            if planted.tasks().len() == 2 {
                let said = [1, 3, 4].map(|task| Some(sample.labels[task].value()?.classes()?[0]));
                let [Some(paper), Some(a), Some(b)] = said else {
                    assert_eq!(said, [None; 3]);
                    continue;
                };
                let next = (paper + 1) % PAPERS.len();
                assert!([paper, next].contains(&a) && [paper, next].contains(&b));
                assert_eq!(a == b, planted == Planted::Twins);
                right[usize::from(b == paper)] += 1;
                continue;
            }
            let said = [2, 3].map(|task| sample.labels[task].get::<Values>().map(|values| values[0]));
            let [Some(sum), Some(label)] = said else {
                assert_eq!(said, [None; 2]);
                continue;
            };
            match planted {
                Planted::Negated => assert_eq!(label, -sum),
                Planted::Kin => assert_eq!(label, 2.0 * sum + 5.0),
                Planted::Shuffled | Planted::Rivals | Planted::Twins => {}
            }
            sums.push(sum as i64);
            others.push(label as i64);
        }
        match planted {
            Planted::Rivals | Planted::Twins => assert!(right.iter().all(|count| *count > 5), "{right:?}"),
            Planted::Shuffled => {
                assert_ne!(sums, others);
                [&mut sums, &mut others].into_iter().for_each(|list| list.sort_unstable());
                assert_eq!(sums, others);
            }
            Planted::Negated | Planted::Kin => assert!(sums.len() > 20),
        }
    }
}

#[test]
fn nothing_is_overwritten_or_left_half_made() {
    let folder = Folder::new();
    folder.text("taken/file.txt", "mine");
    let taken = folder.path().join("taken");
    let error = write_digits(&taken, &SMALL).unwrap_err().to_string();
    assert!(error.ends_with("taken: already exists and is not empty: give a new folder"), "{error}");
    assert_eq!(fs::read_dir(&taken).unwrap().count(), 1);
    fs::create_dir(folder.path().join("empty")).unwrap();
    write_digits(&folder.path().join("empty"), &DigitsOptions { train: 2, val: 1, test: 0, ..SMALL }).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    let below_a_file = folder.path().join("taken/file.txt/digits");
    assert!(write_digits(&below_a_file, &SMALL).is_err());
}

#[test]
fn the_cache_is_made_once() {
    let folder = Folder::new();
    let dir = digits_dataset(folder.path()).unwrap();
    let made = fs::metadata(dir.join("data.yaml")).unwrap().modified().unwrap();
    assert_eq!(digits_dataset(folder.path()).unwrap(), dir);
    assert_eq!(fs::metadata(dir.join("data.yaml")).unwrap().modified().unwrap(), made);
}
