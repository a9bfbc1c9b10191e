//! Balancing with signals of the step itself: methods that read its losses, or the Gramian of the tasks' gradients at the shared
//! features or at the last shared convolution, between the heads' backward and the trunk's.

use crate::balance::balance;
use crate::cuda::devices;
use crate::step::{assert_same_bits, cpu, current, encoder, images, labels, optimizer, three_tasks};
use polyhead::balance::{Balance, Needs, Signals, Weights};
use polyhead::device::cuda::Precision;
use polyhead::error::Result;
use polyhead::executor::DeviceChoice;
use polyhead::graph::fuse::Fusion;
use polyhead::model::weights::Tensors;
use polyhead::model::{Architecture, Backbone, Freeze, Probe, TrainingNetwork, init};
use polyhead::optim::OptimizerConfig;
use polyhead::tasks::{Label, LabelFeatures, Target};
use polyhead::train::step::{StepReport, Trainer};
use std::sync::{Arc, Mutex};

/// The signals of one step.
#[derive(Clone, Debug, Default)]
struct Seen {
    losses: Option<Vec<f32>>,
    gramian: Option<Vec<f64>>,
    /// Known after the step.
    cross: Option<Vec<f64>>,
    excess: Option<Vec<f64>>,
}

/// A stateless method that records its signals.
struct Recorder {
    needs: Needs,
    weigh: fn(&Signals) -> Vec<f32>,
    seen: Arc<Mutex<Seen>>,
}

impl Balance for Recorder {
    fn needs(&self) -> Needs {
        self.needs
    }

    fn weights(&self, signals: &Signals) -> Weights {
        let mut seen = self.seen.lock().unwrap();
        seen.losses = signals.losses.map(<[f32]>::to_vec);
        seen.gramian = signals.gramian.map(<[f64]>::to_vec);
        let heads = signals.active.iter().map(|&active| f32::from(u8::from(active))).collect();
        Weights { seam: (self.weigh)(signals), heads }
    }

    fn observe(&mut self, signals: &Signals) {
        let mut seen = self.seen.lock().unwrap();
        seen.cross = signals.cross.map(<[f64]>::to_vec);
        seen.excess = signals.excess.map(<[f64]>::to_vec);
    }

    fn log_variances(&self) -> Vec<f32> {
        vec![f32::NAN; 3]
    }

    fn state(&self) -> Vec<f64> {
        Vec::new()
    }

    fn restore(&mut self, _state: &[f64]) -> Result<()> {
        Ok(())
    }
}

/// A method that records the losses after an update.
struct LossRecorder(Arc<Mutex<Vec<Vec<f32>>>>);

impl Balance for LossRecorder {
    fn needs(&self) -> Needs {
        Needs::State
    }

    fn weights(&self, signals: &Signals) -> Weights {
        Weights::of_losses(signals.active.iter().map(|&active| f32::from(u8::from(active))).collect())
    }

    fn observe(&mut self, _: &Signals) {}

    fn needs_losses_after_update(&self) -> bool {
        true
    }

    fn after_update(&mut self, _: &Signals, losses: &[f32]) {
        self.0.lock().unwrap().push(losses.to_vec());
    }

    fn log_variances(&self) -> Vec<f32> {
        vec![f32::NAN; 3]
    }

    fn state(&self) -> Vec<f64> {
        Vec::new()
    }

    fn restore(&mut self, _: &[f64]) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_method_receives_the_losses_after_an_update_only_if_they_are_finite() {
    for (masked, rate, shown) in [(false, 1e-3, 1), (true, 1e-3, 1), (false, f32::INFINITY, 0)] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut trainer = trainer(&cpu(2), Box::new(LossRecorder(Arc::clone(&seen))), Probe::None);
        trainer.config = OptimizerConfig { clip_norm: None, ..optimizer(rate, 20) };
        trainer.step(&images(4, 64), &targets(masked)).unwrap();
        let seen = seen.lock().unwrap();
        assert_eq!(seen.len(), shown, "rate {rate}: {seen:?}");
        for losses in seen.iter() {
            assert!(losses[..2].iter().all(|loss| loss.is_finite()) && losses[2].is_nan() == masked, "{losses:?}");
        }
    }
}

/// The weights, which sum to one, of the shortest vector in the convex hull of the active tasks' gradients (Désidéri 2012;
/// Sener & Koltun 2018, algorithm 2).
fn min_norm(signals: &Signals) -> Vec<f32> {
    let (gramian, tasks) = (signals.gramian.unwrap(), signals.active.len());
    let active: Vec<usize> = (0..tasks).filter(|&task| signals.active[task]).collect();
    let mut weights = vec![0.0; tasks];
    active.iter().for_each(|&task| weights[task] = 1.0 / active.len() as f64);
    for _ in 0..1000 {
        let along: Vec<f64> =
            (0..tasks).map(|i| (0..tasks).map(|j| gramian[i * tasks + j] * weights[j]).sum()).collect();
        let best = active.iter().copied().min_by(|&a, &b| along[a].total_cmp(&along[b])).unwrap();
        let own: f64 = (0..tasks).map(|i| weights[i] * along[i]).sum();
        let apart = own - 2.0 * along[best] + gramian[best * tasks + best];
        let share = if apart > 0.0 { ((own - along[best]) / apart).clamp(0.0, 1.0) } else { 0.0 };
        weights.iter_mut().for_each(|w| *w *= 1.0 - share);
        weights[best] += share;
    }
    weights.iter().map(|&w| w as f32).collect()
}

/// A trainer whose steps compare gradients at `probe`.
fn trainer(device: &DeviceChoice, balance: Box<dyn Balance>, probe: Probe) -> Trainer {
    with_dropout(0.2, device, balance, probe)
}

fn with_dropout(dropout: f32, device: &DeviceChoice, balance: Box<dyn Balance>, probe: Probe) -> Trainer {
    let architecture = Architecture::new(Backbone::Tiny, three_tasks(), 64, dropout);
    // No clipping, because its norm includes the heads' factors.
    let config = OptimizerConfig { clip_norm: None, ..optimizer(3e-3, 20) };
    let (freeze, labels) = (Freeze::default(), LabelFeatures::default());
    let network = TrainingNetwork::for_labels(&architecture, [4, 64, 64], &freeze, labels, probe).unwrap();
    let mut trainer = Trainer::of(network, &architecture.tasks, device, config, balance, Fusion::On).unwrap();
    trainer.executor.edit_store(|store| init::initialise(store, 5)).unwrap();
    trainer
}

/// Targets of four images; if `masked`, the last task has none.
fn targets(masked: bool) -> Vec<Vec<Target>> {
    let encoder = encoder(&Architecture::new(Backbone::Tiny, three_tasks(), 64, 0.2), 64);
    let of_image = |image| {
        let mut labels = labels(image);
        if masked {
            labels[2] = Label::UNLABELLED;
        }
        encoder.encode(&labels)
    };
    (0..4).map(of_image).collect()
}

/// Runs one step with a method; returns the report, the method's signals, and the state afterwards.
fn step_with(
    device: &DeviceChoice,
    (needs, probe): (Needs, Probe),
    weigh: fn(&Signals) -> Vec<f32>,
    masked: bool,
) -> (StepReport, Seen, Tensors) {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let mut trainer = trainer(device, Box::new(Recorder { needs, weigh, seen: Arc::clone(&seen) }), probe);
    let report = trainer.step(&images(4, 64), &targets(masked)).unwrap();
    let seen = seen.lock().unwrap().clone();
    (report, seen, current(&mut trainer))
}

fn fixed(weights: &[f32], masked: bool) -> Tensors {
    let mut trainer = trainer(&cpu(2), balance("fixed", &three_tasks(), weights), Probe::None);
    trainer.step(&images(4, 64), &targets(masked)).unwrap();
    current(&mut trainer)
}

const AT_FEATURES: (Needs, Probe) = (Needs::Gramian, Probe::Features);
const AT_THE_LAYER: (Needs, Probe) = (Needs::Gramian, Probe::Layer);

fn part(state: &Tensors, of_heads: bool) -> Tensors {
    state.iter().filter(|(name, _)| name.contains("heads.") == of_heads).map(|(n, t)| (n.clone(), t.clone())).collect()
}

#[test]
fn the_shortest_common_gradient_is_found_and_applied_to_the_trunk_only() {
    let (report, seen, state) = step_with(&cpu(2), AT_FEATURES, min_norm, false);
    let (gramian, weights) = (seen.gramian.unwrap(), report.weights);
    assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{weights:?}");
    let combined: f64 = (0..9).map(|i| gramian[i] * f64::from(weights[i / 3]) * f64::from(weights[i % 3])).sum();
    for task in 0..3 {
        assert!(gramian[4 * task] > 0.0, "{gramian:?}");
        assert!(combined <= gramian[4 * task] * 1.001, "{weights:?} give {combined}, {gramian:?}");
        for other in 0..3 {
            let (product, mirrored) = (gramian[3 * task + other], gramian[3 * other + task]);
            assert_eq!(product.to_bits(), mirrored.to_bits());
            // The Cauchy–Schwarz inequality, for products rounded to f32.
            assert!(product * product <= gramian[4 * task] * gramian[4 * other] * (1.0 + 1e-6), "{gramian:?}");
        }
    }
    // The trunk moves by the weights at the seam, each head by its factor of one.
    assert_same_bits(&part(&fixed(&weights, false), false), &part(&state, false));
    assert_same_bits(&part(&fixed(&[1.0; 3], false), true), &part(&state, true));
}

#[test]
fn a_method_receives_only_the_signals_it_needs() {
    let equal = |signals: &Signals| vec![1.0; signals.active.len()];
    let (_, seen, state) = step_with(&cpu(2), (Needs::State, Probe::None), equal, false);
    assert!(seen.losses.is_none() && seen.gramian.is_none(), "{seen:?}");
    let (report, seen, by_losses) = step_with(&cpu(2), (Needs::Losses, Probe::None), equal, false);
    assert_eq!(seen.losses.as_deref(), Some(&report.losses[..]));
    assert!(seen.gramian.is_none());
    // Requesting signals changes nothing.
    assert_same_bits(&state, &by_losses);
    assert_same_bits(&state, &fixed(&[1.0; 3], false));
}

/// Comparing gradients, at either place, must not change a step's results.
#[test]
fn comparing_gradients_does_not_change_a_step() {
    let equal = |signals: &Signals| vec![1.0; signals.active.len()];
    for device in all_devices() {
        let (_, _, state) = step_with(&device, (Needs::State, Probe::None), equal, false);
        // Also with a probe that is not used.
        for needs in [AT_FEATURES, AT_THE_LAYER, (Needs::State, Probe::Layer)] {
            let (report, seen, compared) = step_with(&device, needs, equal, false);
            assert_eq!(seen.gramian.is_some(), needs.0 == Needs::Gramian);
            assert!(seen.losses.is_none_or(|losses| losses == report.losses));
            assert_same_bits(&state, &compared);
        }
    }
}

#[test]
fn a_task_without_labels_does_not_affect_the_signals() {
    for needs in [AT_FEATURES, AT_THE_LAYER] {
        let (report, seen, state) = step_with(&cpu(2), needs, min_norm, true);
        let (losses, gramian) = (seen.losses.unwrap(), seen.gramian.unwrap());
        assert!(losses[2].is_nan() && report.losses[2].is_nan());
        for other in 0..3 {
            assert_eq!([gramian[6 + other], gramian[3 * other + 2]], [0.0; 2]);
        }
        assert!(gramian[0] > 0.0 && gramian[4] > 0.0, "{gramian:?}");
        assert_eq!(report.weights[2], 0.0);
        assert_same_bits(&part(&fixed(&report.weights, true), false), &part(&state, false));
    }
}

#[test]
fn accumulated_batches_are_refused_if_the_method_uses_the_step_itself() {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let recorder = Recorder { needs: Needs::Losses, weigh: min_norm, seen };
    let mut trainer = trainer(&cpu(1), Box::new(recorder), Probe::None);
    let (images, targets) = (images(4, 64), targets(false));
    let error = trainer.accumulated_step(&[(&images, &targets), (&images, &targets)]).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("one batch"), "{error}");
}

#[test]
fn gradients_on_a_gpu_match_the_cpu() {
    for needs in [AT_FEATURES, AT_THE_LAYER] {
        let (_, seen, _) = step_with(&cpu(2), needs, min_norm, false);
        let expected = seen.gramian.unwrap();
        for device in devices(Precision::F32) {
            let (_, seen, _) = step_with(&device, needs, min_norm, false);
            for (index, (ours, cpu)) in seen.gramian.unwrap().iter().zip(&expected).enumerate() {
                let scale = (expected[4 * (index / 3)] * expected[4 * (index % 3)]).sqrt();
                assert!((ours - cpu).abs() <= 1e-3 * scale, "{needs:?} {index}: {ours}, {cpu} on the CPU");
            }
        }
    }
}

fn all_devices() -> Vec<DeviceChoice> {
    let gpus = [Precision::F32, Precision::Bf16].into_iter().flat_map(devices);
    std::iter::once(cpu(2)).chain(gpus).collect()
}

/// With two batches of the same images, the products are those of one batch with itself.
#[test]
fn products_between_equal_batches_are_those_of_one_batch() {
    let equal = |signals: &Signals| signals.active.iter().map(|&active| f32::from(u8::from(active))).collect();
    for device in all_devices() {
        for masked in [false, true] {
            let (images, targets) = (images(4, 64), targets(masked));
            let step = |needs, probe, batches: &[(&[u8], &[Vec<Target>])]| {
                let seen = Arc::new(Mutex::new(Seen::default()));
                let recorder = Recorder { needs, weigh: equal, seen: Arc::clone(&seen) };
                let mut trainer = with_dropout(0.0, &device, Box::new(recorder), probe);
                trainer.accumulated_step(batches).unwrap();
                seen.lock().unwrap().clone()
            };
            let batch: (&[u8], &[Vec<Target>]) = (&images, &targets);
            let one = step(Needs::Gramian, Probe::Layer, &[batch]).gramian.unwrap();
            // Batches after the second do not count. Halves and quarters are exact in bf16, too.
            for batches in [vec![batch; 2], vec![batch; 4]] {
                let two = step(Needs::Cross, Probe::LayerGradients, &batches);
                assert!(two.losses.is_none() && two.gramian.is_none() && two.excess.is_none(), "{two:?}");
                for (index, (cross, one_here)) in two.cross.unwrap().iter().zip(&one).enumerate() {
                    let scale = (one[4 * (index / 3)] * one[4 * (index % 3)]).sqrt();
                    assert!((cross - one_here).abs() <= 1e-5 * scale, "{device} {index}: {cross}, {one_here}");
                }
            }
            assert_eq!(one[8] == 0.0, masked);
        }
    }
}

/// After one step the squared gradients are its own, so the risks are sums of absolute values over the elements.
#[test]
fn excess_risks_depend_on_all_gradients_so_far() {
    let equal = |signals: &Signals| signals.active.iter().map(|&active| f32::from(u8::from(active))).collect();
    for device in all_devices() {
        for masked in [false, true] {
            let seen = Arc::new(Mutex::new(Seen::default()));
            let recorder = Recorder { needs: Needs::Excess, weigh: equal, seen: Arc::clone(&seen) };
            let mut trainer = trainer(&device, Box::new(recorder), Probe::LayerGradients);
            trainer.step(&images(4, 64), &targets(masked)).unwrap();
            let first = seen.lock().unwrap().clone();
            let (risks, gramian) = (first.excess.unwrap(), first.gramian.unwrap());
            let squares = trainer.squares.clone();
            assert_eq!(squares.0[2].is_empty(), masked);
            for task in 0..3 {
                let squares = &squares.0[task];
                let sum: f64 = squares.iter().map(|&square| f64::from(square)).sum();
                let lengths: f64 = squares.iter().map(|&square| f64::from(square).sqrt()).sum();
                assert!((sum - gramian[4 * task]).abs() <= 1e-5 * sum, "{device} {task}: {sum}, {gramian:?}");
                assert!((risks[task] - lengths).abs() <= 1e-5 * lengths, "{device} {task}: {lengths}, {risks:?}");
            }
            trainer.step(&images(4, 64), &targets(true)).unwrap();
            assert_eq!(trainer.squares.0[2], squares.0[2], "moved without labels");
            assert!(trainer.squares.0[0].iter().zip(&squares.0[0]).all(|(after, before)| after >= before));
        }
    }
}
