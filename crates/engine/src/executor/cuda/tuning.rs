//! Chooses the tile that each convolution of a plan uses on a GPU. Each shape is measured once per kind of GPU; the choice is
//! kept in a file and read from there afterwards. Deleting the file makes the next run measure again.
//!
//! Two of the choices change numbers: the splits of weight gradients, which change the order of a sum, and cuDNN, which rounds
//! before an epilogue. Two runs therefore compute the same numbers only with the same choices, and a run records their hash.
//!
//! cuDNN is one of the choices if it is present. Another algorithm for convolutions (Hopper's TMA and wgmma) would be one more
//! [`Choice`], which [`candidates`] returns if the GPU supports it.
//!
//! No choice has been measured on a GPU yet: neither what wins, nor by how much, nor how long measuring takes. Inputs that no
//! node has written yet are zeros, which cost a GPU less power than other numbers; that holds for all candidates alike. If a
//! kernel ends before the CPU has launched the next one, the CPU is measured, the candidates look alike and the estimate is kept.

use super::layout::Layout;
use super::lower;
use super::memory::{Block, DeviceStore};
use crate::device::cuda::{self, Cuda, Memory, Precision, Work};
use crate::error::{Error, Result};
use crate::executor::store::ParameterSet;
use crate::ir::Node;
use crate::ops::conv2d::cuda::{Choice, TILED};
use crate::ops::operation;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The number of times each candidate is measured, after one warm-up run.
const REPEATS: usize = 5;
/// Another candidate is chosen only if it takes at most this share of the estimate's time. A smaller gain is noise, which must
/// not decide the numbers that a run computes.
const GAIN: f64 = 0.97;

/// Where the tiles of a GPU's convolutions come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tiles {
    /// From the sizes alone. The default for f32, which has no tiles, and for the shim, whose times mean nothing.
    Estimated,
    /// From measurements, kept on disk. The default on a GPU.
    Measured,
    /// The last of all candidates, each run once: for tests of what a choice may change.
    Last,
    /// cuDNN wherever it can be chosen, on the shim a plain loop in its place: for tests of the code around it.
    Cudnn,
}

/// All of our own choices for `node`, the estimate first; empty if it is not a convolution.
pub fn candidates(layout: &Layout, precision: Precision, node: &Node) -> Vec<Choice> {
    layout.tunable(node).map_or(Vec::new(), |tunable| tunable.candidates(precision, layout.processors))
}

/// The choice of cuDNN for `node`, if cuDNN is present and supports it.
fn by_cudnn(cuda: &mut Cuda, layout: &Layout, node: &Node) -> Result<Option<Choice>> {
    let tunable = layout.tunable(node).filter(|tunable| tunable.suits_cudnn);
    let asked = tunable.and_then(|tunable| tunable.question(cuda.precision()));
    let Some((direction, sizes)) = asked else { return Ok(None) };
    let workspace_bytes = cuda.cudnn_workspace(direction, &sizes)?;
    Ok(workspace_bytes.map(|workspace_bytes| Choice::Cudnn { workspace_bytes }))
}

/// The choices for all convolutions met so far.
pub struct Tuning {
    tiles: Tiles,
    file: Option<PathBuf>,
    /// By a description of the computation and its sizes, which is only compared, never parsed.
    choices: BTreeMap<String, Choice>,
    /// The times that this process measured, in the form of [`Kept::milliseconds`].
    milliseconds: Measured,
}

impl Tuning {
    /// The default choices of a device.
    pub fn of(cuda: &Cuda) -> Tuning {
        let tiles = match cuda {
            Cuda::Driver(_) if cuda.precision() == Precision::Bf16 => Tiles::Measured,
            _ => Tiles::Estimated,
        };
        Tuning::new(cuda, tiles)
    }

    /// Choices from `tiles`. A file that cannot be read or parsed is treated as missing.
    pub fn new(cuda: &Cuda, tiles: Tiles) -> Tuning {
        let file = if tiles == Tiles::Measured { cuda.measurements(&TILED) } else { None };
        let choices = file.as_deref().and_then(read).unwrap_or_default().choices;
        Tuning { tiles, file, choices, milliseconds: Measured::new() }
    }

    /// The choice for `node`, measured or estimated; `None` if it is not a convolution.
    pub fn choice(&self, layout: &Layout, precision: Precision, node: &Node) -> Option<Choice> {
        self.known(layout, node).or_else(|| candidates(layout, precision, node).first().copied())
    }

    fn known(&self, layout: &Layout, node: &Node) -> Option<Choice> {
        let tunable = layout.tunable(node)?;
        self.choices.get(&key(layout, node)?).copied().filter(|choice| tunable.suits(choice))
    }

    /// Chooses for every convolution of a plan that has no choice yet. This overwrites the arena and the workspace, but nothing
    /// that outlives a step.
    ///
    /// # Errors
    /// A device with too little memory, or one that refuses a launch.
    pub fn complete(
        &mut self,
        cuda: &mut Cuda,
        memory: &mut DeviceStore,
        layout: &Layout,
        batch: Memory,
    ) -> Result<()> {
        if self.tiles == Tiles::Estimated {
            return Ok(());
        }
        let precision = cuda.precision();
        let mut news = false;
        for (index, node) in layout.physical.nodes.iter().enumerate() {
            if let Some(choice @ Choice::Cudnn { .. }) = self.known(layout, node)
                && by_cudnn(cuda, layout, node)? != Some(choice)
            {
                // cuDNN is missing now, or needs another amount of scratch memory than the file says.
                self.choices.retain(|other, _| Some(other) != key(layout, node).as_ref());
            }
            let Some(key) = key(layout, node).filter(|_| self.known(layout, node).is_none()) else { continue };
            let mut named = candidates(layout, precision, node);
            if self.tiles != Tiles::Last {
                named.extend(by_cudnn(cuda, layout, node)?);
            }
            let mut candidates = Vec::new();
            for choice in named {
                if self.runs(cuda, memory, layout, (index, choice), batch)? {
                    candidates.push(choice);
                }
            }
            let trial = |&choice: &Choice| lower::trial(layout, memory, precision, index, choice);
            let trials: Vec<Vec<Work>> = candidates.iter().map(trial).collect();
            let blocks = memory.table(ParameterSet::Current, batch);
            let chosen = match self.tiles {
                Tiles::Last | Tiles::Cudnn => candidates.len() - 1,
                _ => {
                    let medians = medians(&measure(cuda, &trials, &blocks)?, trials.len());
                    let named = candidates.iter().map(Choice::to_string).zip(medians.iter().copied());
                    self.milliseconds.insert(key.clone(), named.collect());
                    fastest(&medians)
                }
            };
            self.choices.insert(key, candidates[chosen]);
            news = true;
        }
        if news && let Some(file) = &self.file {
            save(file, &self.choices, &self.milliseconds);
        }
        Ok(())
    }

    /// Runs a node by `choice` once, alone, so that a failure can be attributed to it; `false` if cuDNN does not support it.
    fn runs(
        &self,
        cuda: &mut Cuda,
        memory: &mut DeviceStore,
        layout: &Layout,
        (index, choice): (usize, Choice),
        batch: Memory,
    ) -> Result<bool> {
        let node = &layout.physical.nodes[index];
        memory.reserve(cuda, Block::Workspace, lower::trial_bytes(layout, node, choice))?;
        let work = lower::trial(layout, memory, cuda.precision(), index, choice);
        let blocks = memory.table(ParameterSet::Current, batch);
        let ran = cuda.attempt(&work, &blocks);
        ran.map_err(|e| {
            let what = key(layout, node).unwrap_or_default();
            let without = match choice {
                Choice::Cudnn { .. } => "; to run without cuDNN, remove it from LD_LIBRARY_PATH",
                Choice::Tile(_) | Choice::Wgrad(_) => "",
            };
            Error::Other(format!("{what} by {choice}: {e}{without}"))
        })
    }

    /// The hash of the choices for the convolutions of `layouts`: 16 hexadecimal digits, or `None` if all of them are estimates.
    pub fn hash<'a>(&self, layouts: impl Iterator<Item = &'a Layout>) -> Option<String> {
        let nodes = layouts.flat_map(|layout| layout.physical.nodes.iter().map(move |node| (layout, node)));
        let used = nodes.filter_map(|(layout, node)| {
            let choice = self.known(layout, node)?;
            Some((key(layout, node)?, format!("{choice:?}")))
        });
        let used: BTreeMap<String, String> = used.collect();
        let words = used.iter().flat_map(|(key, choice)| [key.as_str(), choice.as_str()]);
        (!used.is_empty()).then(|| format!("{:016x}", cuda::fingerprint(words)))
    }
}

/// The description of a convolution: its op, the ops fused into it, and all its sizes in memory.
fn key(layout: &Layout, node: &Node) -> Option<String> {
    let (name, p) = (operation(&node.op).name(), layout.tunable(node)?.problem);
    Some(format!("{name}, {}×{}×{}×{} → {}, padding {}", p.n, p.h, p.w, p.c, p.k, p.padding))
}

/// Milliseconds `[repeat, trial]`; the first repeat is the warm-up. Trials are interleaved, so that a changing clock affects all
/// of them alike.
fn measure(cuda: &mut Cuda, trials: &[Vec<Work>], blocks: &[Memory]) -> Result<Vec<f64>> {
    let groups: Vec<Vec<Work>> = (0..=REPEATS).flat_map(|_| trials.iter().cloned()).collect();
    cuda.time(&groups, blocks)
}

/// The median time of each trial, without the warm-up.
fn medians(milliseconds: &[f64], trials: usize) -> Vec<f64> {
    let median = |trial: usize| {
        let mut own: Vec<f64> = milliseconds.iter().skip(trials + trial).step_by(trials).copied().collect();
        own.sort_by(f64::total_cmp);
        own[own.len() / 2]
    };
    (0..trials).map(median).collect()
}

/// The trial that took least time. The first, which is the estimate, is kept unless another is clearly faster.
fn fastest(milliseconds: &[f64]) -> usize {
    let least = (0..milliseconds.len()).min_by(|&a, &b| milliseconds[a].total_cmp(&milliseconds[b])).unwrap_or(0);
    if milliseconds[least] < GAIN * milliseconds[0] { least } else { 0 }
}

/// The median time of every candidate of every convolution that was measured.
type Measured = BTreeMap<String, BTreeMap<String, f64>>;

/// The file's contents.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Kept {
    choices: BTreeMap<String, Choice>,
    /// For people who want to compare the candidates; nothing reads it. Older files do not have it.
    #[serde(default)]
    milliseconds: Measured,
}

fn read(file: &Path) -> Option<Kept> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

/// Merges these into the file, which another process may have changed meanwhile.
fn save(file: &Path, choices: &BTreeMap<String, Choice>, milliseconds: &Measured) {
    let mut kept = read(file).unwrap_or_default();
    kept.choices.extend(choices.iter().map(|(key, &choice)| (key.clone(), choice)));
    kept.milliseconds.extend(milliseconds.iter().map(|(key, times)| (key.clone(), times.clone())));
    if let Ok(text) = serde_json::to_vec_pretty(&kept) {
        cuda::keep(file, &text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::conv2d::cuda::{Tile, WgradPlan, WgradTile};

    fn choices() -> BTreeMap<String, Choice> {
        let plan = WgradPlan { tile: WgradTile::Small, splits: 12 };
        BTreeMap::from([("a".into(), Choice::Tile(Tile::Wide)), ("b".into(), Choice::Wgrad(plan))])
    }

    fn file(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("polyhead-tuning-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        folder.join("gpu.json")
    }

    fn times(key: &str) -> Measured {
        BTreeMap::from([(
            key.to_owned(),
            BTreeMap::from([("tile 128x64".to_owned(), 0.25), ("cuDNN".to_owned(), 0.3)]),
        )])
    }

    #[test]
    fn choices_and_times_are_kept_beside_those_of_others() {
        let file = file("kept");
        save(&file, &choices(), &times("a"));
        assert_eq!(read(&file), Some(Kept { choices: choices(), milliseconds: times("a") }));
        let other = BTreeMap::from([("c".to_owned(), Choice::Tile(Tile::Narrow))]);
        save(&file, &other, &times("c"));
        let mut all = Kept { choices: choices(), milliseconds: times("a") };
        all.choices.extend(other);
        all.milliseconds.extend(times("c"));
        assert_eq!(read(&file), Some(all));
        let folder = file.parent().unwrap();
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1, "no temporary file is left");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn files_without_times_keep_their_choices() {
        let file = file("old");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, r#"{"choices": {"a": {"Tile": "Wide"}}}"#).unwrap();
        assert_eq!(read(&file).unwrap().choices, BTreeMap::from([("a".to_owned(), Choice::Tile(Tile::Wide))]));
        std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
    }

    #[test]
    fn unreadable_files_are_ignored_and_rewritten() {
        let file = file("broken");
        assert_eq!(read(&file), None);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        for text in ["", "{", "[]", r#"{"choices": {"a": {"Tile": "Enormous"}}}"#] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(read(&file), None, "{text}");
            save(&file, &choices(), &times("a"));
            assert_eq!(read(&file).unwrap().choices, choices(), "{text}");
        }
        std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
    }

    #[test]
    fn trials_take_turns_after_a_warm_up() {
        let turns = [[90.0, 80.0], [1.0, 6.0], [5.0, 7.0], [2.0, 70.0], [3.0, 8.0], [4.0, 9.0]];
        assert_eq!(turns.len(), REPEATS + 1);
        assert_eq!(medians(turns.as_flattened(), 2), [3.0, 8.0]);
    }

    #[test]
    fn the_estimate_stays_unless_another_is_clearly_faster() {
        assert_eq!(fastest(&[1.0]), 0);
        assert_eq!(fastest(&[1.0, 0.99, 1.2]), 0);
        assert_eq!(fastest(&[1.0, 0.96, 0.5, 0.9]), 2);
        // A convolution without rows takes no time.
        assert_eq!(fastest(&[0.0, 0.0]), 0);
    }
}
