//! The work of `polyhead bench infer` with candle-transformers' ResNet in float32 on a CPU: u8 `[N, H, W, 3]` in,
//! normalised inside the timed region, logits out; the flags and the JSON of `pytorch.py`.
//!
//! Run `cargo build --release` in this folder (it needs its `.cargo/config.toml`), then `target/release/candle-peer
//! infer --imgsz 224 --batch 8 --threads 2`.

use candle_core::{DType, Device, Module, Result, Tensor, bail};
use candle_nn::{Func, VarBuilder, VarMap};
use candle_transformers::models::resnet;
use clap::Parser;
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];
const WARMUP: usize = 2;

#[derive(Parser)]
struct Args {
    /// `infer`; candle has no gradient for ResNet's max-pool, whose windows overlap, so it cannot train this network
    #[arg(value_parser = ["infer"])]
    work: String,
    #[arg(long, default_value_t = 224)]
    imgsz: usize,
    #[arg(long, default_value_t = 8)]
    batch: usize,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    #[arg(long, default_value_t = 10)]
    repeats: usize,
    #[arg(long, default_value = "resnet50")]
    backbone: String,
    #[arg(long, default_value = "cpu", value_parser = ["cpu"])]
    device: String,
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A ResNet of 1000 classes with random weights, and its number of trainable parameters.
fn network(backbone: &str) -> Result<(Func<'static>, usize)> {
    let build = |vb| match backbone {
        "resnet18" => resnet::resnet18(1000, vb),
        "resnet34" => resnet::resnet34(1000, vb),
        "resnet50" => resnet::resnet50(1000, vb),
        "resnet101" => resnet::resnet101(1000, vb),
        other => bail!("--backbone {other}: expected resnet18, resnet34, resnet50 or resnet101"),
    };
    let variables = VarMap::new();
    build(VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu))?;
    // Rebuilt from plain tensors, because results computed from variables are kept for their gradients.
    let variables = variables.data().lock().unwrap_or_else(|e| e.into_inner());
    let trained = variables.iter().filter(|(name, _)| !name.contains("running_"));
    let parameters = trained.map(|(_, v)| v.elem_count()).sum();
    let tensors = variables.iter().map(|(name, v)| (name.clone(), v.as_detached_tensor())).collect();
    Ok((build(VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu))?, parameters))
}

/// A value from `/proc/self/status` in bytes: `VmRSS` is the resident size, `VmHWM` its maximum.
fn memory(key: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

fn measure(args: &Args) -> Result<serde_json::Value> {
    if args.imgsz == 0 || args.batch == 0 || args.repeats == 0 || args.threads == 0 {
        bail!("--imgsz, --batch, --repeats and --threads: expected at least 1");
    }
    let base = memory("VmRSS");
    let (network, parameters) = network(&args.backbone)?;
    let (n, side) = (args.batch, args.imgsz);
    let pixels: Vec<u8> =
        (0..(n * side * side * 3) as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    let pixels = Tensor::from_vec(pixels, (n, side, side, 3), &Device::Cpu)?;
    let channel = |v: [f32; 3]| Tensor::new(&v.map(|v| v * 255.0), &Device::Cpu)?.reshape((1, 3, 1, 1));
    let (mean, deviation) = (channel(MEAN)?, channel(DEVIATION)?);
    let step = || {
        // [N, H, W, 3] → [N, 3, H, W], the only layout that candle supports.
        let x = pixels.permute((0, 3, 1, 2))?.to_dtype(DType::F32)?;
        let x = x.broadcast_sub(&mean)?.broadcast_div(&deviation)?;
        network.forward(&x)?.to_vec2::<f32>()
    };
    for _ in 0..WARMUP {
        step()?;
    }
    let mut times = Vec::new();
    for _ in 0..args.repeats {
        let start = Instant::now();
        let logits = step()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        assert_eq!((logits.len(), logits[0].len()), (n, 1000));
    }
    times.sort_by(f64::total_cmp);
    let median = (times[(times.len() - 1) / 2] + times[times.len() / 2]) / 2.0;
    Ok(json!({
        "work": args.work, "model": args.backbone, "device": "cpu", "mode": "release", "img_size": side,
        "batch_size": n, "threads": args.threads, "param_count": parameters, "repeats": args.repeats,
        "step_time": median, "step_time_min": times[0], "step_time_max": times[times.len() - 1],
        "samples_per_sec": n as f64 / median * 1e3, "base_memory_bytes": base, "peak_memory_bytes": memory("VmHWM"),
        "candle": "0.11.1",
    }))
}

fn main() {
    let args = Args::parse();
    // SAFETY: nothing else runs yet; candle reads it when it first starts its threads.
    unsafe { std::env::set_var("RAYON_NUM_THREADS", args.threads.to_string()) };
    let result = measure(&args).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        std::process::exit(1)
    });
    println!("{result}");
    if let Some(path) = &args.json
        && let Err(error) = std::fs::write(path, format!("{result:#}\n"))
    {
        eprintln!("error: cannot write {}: {error}", path.display());
        std::process::exit(1);
    }
}
