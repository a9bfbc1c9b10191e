//! Implements an op that polyhead does not have: hard-swish, x · clamp(x + 3, 0, 6) / 6 (Howard 2019,
//! arXiv:1905.02244), and its gradient. It is checked against plain loops in f64 on every instruction set, then timed
//! against the measured rate of a copy.
//!
//! ```sh
//! cargo run --release --example new_op
//! ```
//!
//! The kernels use the same interface as polyhead's own: `Cpu` distributes a closure over the threads and compiles it
//! for the instruction set. To use an op in networks, give it a folder in `crates/engine/src/ops` and a row in
//! `ops::operation`: the list of ops is closed, so that no op can lack its backward rule, its cost or its GPU kernels.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use polyhead::device::cpu::{Cpu, Isa};
use polyhead::error::{Error, Result};
use std::process::ExitCode;
use std::time::Instant;

/// The number of elements that one thread takes at a time. With the result they take 32 KiB, which fits into L1.
const PIECE: usize = 4096;
/// The number used in the measured copy, far more than fit into the caches.
const FLOATS: usize = 1 << 25;
const REPEATS: usize = 15;

/// Shapes: `x` and `y` have the same length; the order of elements does not matter.
fn hard_swish(cpu: &Cpu, x: &[f32], y: &mut [f32]) {
    cpu.parallel_chunks(
        y,
        PIECE,
        #[inline(always)]
        |piece, y| {
            let x = &x[piece * PIECE..][..y.len()];
            for (y, &x) in y.iter_mut().zip(x) {
                *y = x * (x + 3.0).clamp(0.0, 6.0) * (1.0 / 6.0);
            }
        },
    );
}

/// Converts the gradient of y, `[len]`, to that of x in place: multiplies by (2x + 3) / 6 within ±3, outside by 0 or 1.
fn hard_swish_backward(cpu: &Cpu, x: &[f32], gradient: &mut [f32]) {
    cpu.parallel_chunks(
        gradient,
        PIECE,
        #[inline(always)]
        |piece, gradient| {
            let x = &x[piece * PIECE..][..gradient.len()];
            for (gradient, &x) in gradient.iter_mut().zip(x) {
                let inside = (2.0 * x + 3.0) * (1.0 / 6.0);
                *gradient *= if x <= -3.0 {
                    0.0
                } else if x >= 3.0 {
                    1.0
                } else {
                    inside
                };
            }
        },
    );
}

/// Compares both kernels with f64. The bound allows a few roundings of 2⁻²⁴ each, for numbers up to `largest`.
fn check(cpu: &Cpu) -> Result<()> {
    // An odd length, so that the last vector is not full; values from −6 to 6, to include both kinks.
    let x: Vec<f32> = (0..3 * PIECE + 7).map(|i| (i as f32 * 0.618).fract() * 12.0 - 6.0).collect();
    let (mut y, mut gradient) = (vec![f32::NAN; x.len()], vec![0.7; x.len()]);
    hard_swish(cpu, &x, &mut y);
    hard_swish_backward(cpu, &x, &mut gradient);
    for ((&x, &y), &gradient) in x.iter().zip(&y).zip(&gradient) {
        let wide = f64::from(x);
        let expected = wide * (wide + 3.0).clamp(0.0, 6.0) / 6.0;
        let inside = (2.0 * wide + 3.0) / 6.0;
        let slope = if wide.abs() < 3.0 { inside } else { wide.signum().max(0.0) };
        for (got, expected, largest) in [(y, expected, expected.abs()), (gradient, f64::from(0.7f32) * slope, 1.5)] {
            let bound = 5.0 * largest / f64::from(1 << 24);
            if (f64::from(got) - expected).abs() > bound {
                let isa = cpu.isa();
                return Err(Error::Other(format!("{isa}: at x = {x} the kernel says {got}, f64 says {expected}")));
            }
        }
    }
    Ok(())
}

/// Prints the median of `REPEATS` passes after a warm-up, and the rate for the bytes that must be moved at least.
fn time(name: &str, bytes: usize, ceiling: f64, mut pass: impl FnMut()) {
    pass();
    let mut seconds = [0.0; REPEATS];
    for seconds in &mut seconds {
        let start = Instant::now();
        pass();
        *seconds = start.elapsed().as_secs_f64();
    }
    seconds.sort_by(f64::total_cmp);
    let (median, rate) = (seconds[REPEATS / 2], bytes as f64 / seconds[REPEATS / 2]);
    let (ms, gigabytes, share) = (median * 1e3, rate / 1e9, 100.0 * rate / ceiling);
    println!("{name}: median of {REPEATS} {ms:.2} ms, {gigabytes:.1} GB/s, {share:.0} % of a copy's rate");
}

fn run() -> Result<()> {
    for isa in Isa::available() {
        for threads in [1, 3] {
            check(&Cpu::with_isa(threads, isa)?)?;
        }
        println!("{isa}: agrees with f64");
    }
    let cpu = Cpu::new(0)?;
    let ceiling = cpu.copy_ceiling();
    println!("{} threads, {}, a copy moves {:.1} GB/s", cpu.threads(), cpu.isa(), ceiling / 1e9);
    let (x, mut y) = (vec![1.5f32; FLOATS], vec![0f32; FLOATS]);
    time("hard_swish", 2 * 4 * FLOATS, ceiling, || hard_swish(&cpu, &x, &mut y));
    time("hard_swish backward", 3 * 4 * FLOATS, ceiling, || hard_swish_backward(&cpu, &x, &mut y));
    Ok(())
}

fn main() -> ExitCode {
    let said = |error: Error| eprintln!("error: {error}");
    run().map_err(said).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}
