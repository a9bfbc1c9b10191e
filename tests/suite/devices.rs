//! Choosing a device: predictions are the same on all devices, and a missing device or library gives one error message.

use crate::cli::{SMALL, digits, fail, path, polyhead, text};
use crate::cuda::devices;
use crate::step::{Folder, images, three_tasks};
use polyhead::device::cpu::{Isa, IsaName};
use polyhead::device::cuda::{Driver, Precision, compiler};
use polyhead::executor::DeviceChoice;
use polyhead::model::{Architecture, Backbone, Card, Model, ModelFile};
use polyhead::tasks::HeadOutput;

fn model() -> ModelFile {
    ModelFile::untrained(Card::new(Architecture::new(Backbone::Tiny, three_tasks(), 64, 0.0), 64), 3).unwrap()
}

/// All numbers of the outputs, head by head.
fn numbers(answer: &[HeadOutput]) -> Vec<Vec<f32>> {
    answer.iter().flat_map(|output| output.values.clone()).collect()
}

#[test]
fn prediction_on_the_gpus_kernels_matches_the_cpu() {
    let (model, pixels) = (model(), images(2, 64));
    let others: Vec<u8> = pixels.iter().rev().copied().collect();
    let answer = |device: &DeviceChoice| {
        let mut model = model.start(device).unwrap();
        // Another size in between, so that plans share the arena.
        model.forward([1, 96, 64], &images(2, 64)[..96 * 64 * 3]).unwrap();
        let shape = [2, 64, 64];
        let answers = numbers(&model.forward(shape, &pixels).unwrap());
        // A batch copied to the device while another computes does not change either result.
        let other = numbers(&model.forward(shape, &others).unwrap());
        model.load_batch(shape, &pixels).unwrap();
        model.start_batch(shape).unwrap();
        model.load_batch(shape, &others).unwrap();
        assert!(numbers(&model.batch_outputs(shape).unwrap()) == answers && other != answers, "{device}");
        model.start_batch(shape).unwrap();
        assert!(numbers(&model.batch_outputs(shape).unwrap()) == other, "{device}");
        // Released plans leave the others unchanged, and can be made again.
        for rows in 1..=Model::PLANS {
            model.forward([1, 32 * rows, 32], &pixels[..32 * rows * 32 * 3]).unwrap();
        }
        assert!(numbers(&model.forward(shape, &pixels).unwrap()) == answers, "{device}");
        answers
    };
    let cpu = answer(&DeviceChoice::Cpu { threads: 2 });
    // f32 orders sums differently; bf16 rounds about a dozen maps in sequence, each by 2⁻⁹.
    for (precision, bound) in [(Precision::F32, 1e-4), (Precision::Bf16, 12.0 / 512.0)] {
        for device in devices(precision) {
            for (ours, theirs) in answer(&device).iter().zip(&cpu) {
                let squares = |v: &mut dyn Iterator<Item = f32>| v.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
                let apart = squares(&mut ours.iter().zip(theirs).map(|(a, b)| a - b));
                let size = squares(&mut theirs.iter().copied());
                assert!(size > 0.0 && apart <= bound * size, "{device} in {precision:?}: {apart:.2e} of {size:.2e}");
            }
        }
    }
}

#[test]
fn a_missing_device_is_named_with_advice() {
    if Driver::is_present() {
        fail(&["bench", "infer", "--device", "cuda:99"], 2, &["cuda:99", "numbered from 0"]);
        eprintln!("skipped: the message for a missing driver, because this machine has one");
        return;
    }
    let said = Driver::open(0, Precision::Bf16).err().unwrap().to_string();
    assert!(said.contains("libcuda.so.1") && said.contains("--device cpu"), "{said}");
    for work in ["train", "infer", "ops"] {
        fail(&["bench", work, "--device", "cuda"], 2, &["libcuda.so.1", "--device cpu"]);
    }
    let output = polyhead().args(["train", "--device", "cuda:1", "--project"]).arg(std::env::temp_dir()).output();
    assert!(text(&output.unwrap().stderr).contains("libcuda.so.1"));
}

#[test]
fn a_missing_nvrtc_is_named_with_advice() {
    match compiler::version() {
        Ok((major, _)) => assert!(major >= 11),
        Err(e) => {
            let said = e.to_string();
            assert!(said.contains("libnvrtc.so") && said.contains("pip install"), "{said}");
        }
    }
}

#[test]
fn the_environment_names_the_instruction_set_of_a_bench_and_of_a_run() {
    let folder = Folder::new("isa");
    let (figures, project) = (path(&folder, "figures.json"), path(&folder, "runs/train"));
    let data = digits(&folder, 16);
    let with = |word: &str, args: &[&str]| {
        let output = polyhead().args(args).env(Isa::VARIABLE, word).output().unwrap();
        assert!(output.status.success(), "{word}: {}", text(&output.stderr));
        text(&output.stdout) + &text(&output.stderr)
    };
    let bench = ["bench", "infer", "--backbone", "tiny", "--imgsz", "32", "--batch", "1", "--repeats", "1"];
    let bench = [&bench[..], &["--device", "cpu", "--json", &figures]].concat();
    let run = ["train", &data, "--project", &project, "--epochs", "1", "--device", "cpu"];
    for isa in Isa::available() {
        let printed = with(isa.name().word(), &bench);
        assert!(printed.contains(&format!(", {isa}): ")), "{printed}");
        let read: serde_json::Value = serde_json::from_slice(&std::fs::read(&figures).unwrap()).unwrap();
        assert_eq!(read["isa"], isa.name().word());
        with(isa.name().word(), &[&run[..], &SMALL, &["--name", isa.name().word()]].concat());
        let args =
            std::fs::read_to_string(folder.path.join("runs/train").join(isa.name().word()).join("args.yaml")).unwrap();
        assert!(args.contains(&format!("\nisa: {isa}\n")), "{args}");
    }
    // An empty variable counts as unset.
    let widest = Isa::detect();
    assert!(with("", &bench).contains(&format!(", {widest}): ")));
    // A run that is resumed with another instruction set reports it; with the same set it does not.
    let first = path(&folder, "runs/train/portable");
    for isa in [Isa::PORTABLE, widest] {
        let printed = with(isa.name().word(), &["train", "--resume", &first]);
        assert_eq!(printed.contains("began with portable and goes on with"), isa != Isa::PORTABLE, "{printed}");
    }
}

#[test]
fn an_unknown_or_missing_instruction_set_is_refused_before_anything_is_written() {
    let folder = Folder::new("no-isa");
    let project = path(&folder, "runs/train");
    let lacking = [IsaName::Neon, IsaName::Avx512]
        .into_iter()
        .find(|name| Isa::available().iter().all(|isa| isa.name() != *name));
    for (word, said) in std::iter::once(("sse", "expected one of portable, neon"))
        .chain(lacking.map(|name| (name.word(), "this machine has no")))
    {
        for args in [&["train", "--project", &project][..], &["bench", "infer", "--imgsz", "32"]] {
            let output = polyhead().args(args).env(Isa::VARIABLE, word).output().unwrap();
            let error = text(&output.stderr);
            assert_eq!((output.status.code(), error.lines().count()), (Some(2), 1), "{error}");
            assert!(error.starts_with(&format!("error: POLYHEAD_ISA={word}: {said}")), "{error}");
        }
        assert!(!folder.path.join("runs").exists());
    }
}
