//! A network as a file: a card and tensors, read from a weights file and written to one. Nothing here runs the network.

use super::card::Card;
use super::library::Model;
use super::weights::{self, Tensors};
use super::{init, published};
use crate::error::{Error, Result, shown};
use crate::executor::{DeviceChoice, Executor, ParameterSet, Store};
use crate::ir::{Graph, Mode};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The content of a weights file. [`ModelFile::start`] turns it into a [`Model`], which can predict.
#[derive(Clone)]
pub struct ModelFile {
    /// The architecture, and the size and framing of input images.
    pub card: Card,
    /// Parameters and running statistics under torchvision's names and in its order (KCRS for convolutions).
    pub tensors: Tensors,
    /// Notes for the user on choices that were made in reading the file.
    pub notes: Vec<String>,
    /// The file that it was read from, for messages; `None` for a network that was made here.
    pub path: Option<PathBuf>,
}

impl ModelFile {
    /// Reads a weights file of polyhead, or a ResNet with torchvision's or timm's names as a plain classifier. `classes`
    /// names the classes of a plain classifier, in the order of its outputs; without names they are numbered from 0.
    ///
    /// # Errors
    /// The file is damaged, not a ResNet or a variant of one, the number of `classes` differs from the file's, or `classes` are given for
    /// a file that has its own names.
    pub fn read(path: &Path, classes: Option<Vec<String>>) -> Result<ModelFile> {
        let file = weights::read(path)?;
        match file.metadata.get(Card::KEY) {
            Some(_) if classes.is_some() => Err(Error::Usage(format!(
                "--classes is for a plain ResNet file; {} carries its own class names: leave --classes out",
                shown(path)
            ))),
            Some(text) => {
                let card = Card::from_json(text, path)?;
                let notes = file.notes.into_iter().chain(stands_in_for_best(path)).collect();
                Ok(ModelFile { card, tensors: prediction_tensors(file.tensors), notes, path: Some(path.to_path_buf()) })
            }
            None => published::plain_classifier(file, path, classes),
        }
    }

    /// The weights file at `path`: the file itself, or in a run's folder `best`, else `last`.
    ///
    /// # Errors
    /// There is no such file.
    pub fn locate(path: &Path) -> Result<PathBuf> {
        if path.is_file() {
            return Ok(path.to_path_buf());
        }
        // A run that still tries methods has no best weights; those of its best trial are next.
        let candidates = ["best", "trial", "last"].map(|n| path.join("weights").join(format!("{n}.safetensors")));
        candidates.into_iter().find(|c| c.is_file()).ok_or_else(|| {
            Error::Usage(format!(
                "{}: expected a weights file, or a run's folder with weights/best.safetensors or weights/last.safetensors",
                shown(path)
            ))
        })
    }

    /// The folder of the run that the model at `path` belongs to, as a whole path: `path` itself if it is a folder, or the one whose
    /// `weights` holds the file; `None` if the file lies elsewhere.
    pub fn run_folder(path: &Path) -> Option<PathBuf> {
        // The path may be a bare file name, without the folders that tell.
        let whole = std::path::absolute(path).ok()?;
        if path.is_dir() {
            return Some(whole);
        }
        let weights = whole.parent().filter(|folder| folder.ends_with("weights"))?;
        weights.parent().map(Path::to_path_buf)
    }

    /// An untrained network with the initial parameters that training with this seed uses.
    ///
    /// # Errors
    /// The card's network cannot be built.
    pub fn untrained(card: Card, seed: u64) -> Result<ModelFile> {
        let graph = evaluation_graph(&card)?;
        let mut store = Store::new(&graph.parameters, &graph.buffers)?;
        init::initialise(&mut store, seed);
        ModelFile::of_store(card, &store, ParameterSet::Current)
    }

    /// The network in a Store, so that a training program can save it.
    ///
    /// # Errors
    /// candle refuses a shape.
    pub fn of_store(card: Card, store: &Store, set: ParameterSet) -> Result<ModelFile> {
        let mut tensors = weights::export_parameters(store, weights::Slot::Set(set), "")?;
        tensors.append(&mut weights::export_buffers(store, set, "")?);
        Ok(ModelFile { card, tensors, notes: Vec::new(), path: None })
    }

    /// Writes the file under another name and renames it, so that an older file stays complete until then.
    ///
    /// # Errors
    /// Writing fails; an older file is unchanged.
    pub fn save(&self, path: &Path) -> Result<()> {
        weights::write(path, &self.tensors, HashMap::from([(Card::KEY.to_owned(), self.card.to_json())]))
    }

    /// Loads the network onto a device.
    ///
    /// # Errors
    /// The device is not available, or tensors are missing or have another shape than the card says.
    pub fn start(&self, device: &DeviceChoice) -> Result<Model> {
        let checked = evaluation_graph(&self.card).and_then(|graph| self.check(&graph).map(|()| graph));
        let graph = checked.map_err(|error| match &self.path {
            Some(path) => Error::checkpoint(path, error.reason()),
            None => error,
        })?;
        let mut executor = Executor::new(device, &graph.parameters, &graph.buffers)?;
        executor.edit_store(|store| self.fill(store))??;
        Ok(Model::new(self.card.clone(), executor))
    }

    /// Compares the tensors with the network of the card before memory is taken for it.
    ///
    /// # Errors
    /// Tensors are missing or have another shape.
    fn check(&self, graph: &Graph) -> Result<()> {
        let parameters = graph.parameters.iter().map(|p| (&p.name, &p.shape));
        let mut missing = Vec::new();
        for (name, shape) in parameters.chain(graph.buffers.iter().map(|b| (&b.name, &b.shape))) {
            match self.tensors.get(name) {
                Some(tensor) => weights::check_shape(tensor, name, shape)?,
                None => missing.push(name),
            }
        }
        match missing.first() {
            None => Ok(()),
            Some(first) => Err(Error::Other(format!(
                "the weights lack {} of the model's tensors, `{first}` first: the file is not whole",
                missing.len()
            ))),
        }
    }

    fn fill(&self, store: &mut Store) -> Result<()> {
        weights::import_parameters(store, weights::Slot::Set(ParameterSet::Current), &self.tensors, "")?;
        weights::import_buffers(store, ParameterSet::Current, &self.tensors, "")?;
        Ok(())
    }
}

/// A note if the file is the `last` of a run that has no `best`.
fn stands_in_for_best(path: &Path) -> Option<String> {
    let is_of_run = ModelFile::run_folder(path).is_some_and(|_| path.is_file());
    let is_last = is_of_run && path.ends_with("last.safetensors") && !path.with_file_name("best.safetensors").exists();
    is_last.then(|| format!("{}: the run has no best.safetensors, so its last weights are used", shown(path)))
}

/// A graph with all of the network's parameters.
pub(super) fn evaluation_graph(card: &Card) -> Result<Graph> {
    let size = card.image_size.next_multiple_of(32);
    Ok(card.architecture.network([1, size, size], Mode::Evaluate)?.graph)
}

/// The moving averages of a checkpoint, or all tensors of a file without averages.
pub(super) fn prediction_tensors(tensors: Tensors) -> Tensors {
    let averaged: Tensors =
        tensors.iter().filter_map(|(k, v)| Some((k.strip_prefix("ema.")?.to_owned(), v.clone()))).collect();
    if averaged.is_empty() { tensors } else { averaged }
}
