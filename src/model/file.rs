//! A network as a file: a card and tensors, read from a weights file and written to one. Nothing here runs the network.

use super::card::{Card, Framing};
use super::library::Model;
use super::weights::{self, StateFile, Tensors};
use super::{Architecture, Backbone, init};
use crate::error::{Error, Result};
use crate::executor::{DeviceChoice, Executor, ParameterSet, Store};
use crate::ir::{Graph, Mode};
use crate::tasks::classifier;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The content of a weights file. [`ModelFile::start`] turns it into a [`Model`], which can predict.
#[derive(Clone)]
pub struct ModelFile {
    /// The architecture, and the size and framing of input images.
    pub card: Card,
    /// Parameters and running statistics under torchvision's names and in its order (KCRS for convolutions).
    pub tensors: Tensors,
}

impl ModelFile {
    /// Reads a weights file of polyhead, or a ResNet with torchvision's or timm's names as a plain classifier. `classes`
    /// names the classes of a plain classifier, in the order of its outputs; without names they are numbered from 0.
    ///
    /// # Errors
    /// The file is damaged or not a ResNet, the number of `classes` differs from the file's, or `classes` are given for
    /// a file that has its own names.
    pub fn read(path: &Path, classes: Option<Vec<String>>) -> Result<ModelFile> {
        let file = weights::read(path)?;
        match file.metadata.get(Card::KEY) {
            Some(_) if classes.is_some() => Err(Error::Usage(format!(
                "--classes is for a plain ResNet file; {} carries its own class names: leave --classes out",
                path.display()
            ))),
            Some(text) => {
                let card = Card::from_json(text, path)?;
                Ok(ModelFile { card, tensors: prediction_tensors(file.tensors) })
            }
            None => plain_classifier(file, path, classes),
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
                path.display()
            ))
        })
    }

    /// An untrained network with the initial parameters that training with this seed uses.
    ///
    /// # Errors
    /// The card's network cannot be built.
    pub fn untrained(card: Card, seed: u64) -> Result<ModelFile> {
        let graph = evaluation_graph(&card)?;
        let mut store = Store::new(&graph.parameters, &graph.buffers);
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
        Ok(ModelFile { card, tensors })
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
        let graph = evaluation_graph(&self.card)?;
        self.check(&graph)?;
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

/// A graph with all of the network's parameters.
fn evaluation_graph(card: &Card) -> Result<Graph> {
    let size = card.image_size.next_multiple_of(32);
    Ok(card.architecture.network([1, size, size], Mode::Evaluate)?.graph)
}

/// The moving averages of a checkpoint, or all tensors of a file without averages.
fn prediction_tensors(tensors: Tensors) -> Tensors {
    let averaged: Tensors =
        tensors.iter().filter_map(|(k, v)| Some((k.strip_prefix("ema.")?.to_owned(), v.clone()))).collect();
    if averaged.is_empty() { tensors } else { averaged }
}

/// Makes a card for a ResNet file with torchvision's names: one classification task on `fc`.
fn plain_classifier(file: StateFile, path: &Path, names: Option<Vec<String>>) -> Result<ModelFile> {
    let mut tensors = file.tensors;
    let strange = |what: &str| {
        Error::checkpoint(
            path,
            format!("{what}: expected a polyhead file, or a ResNet-18, -34, -50 or -101 with torchvision's names"),
        )
    };
    let blocks = (0..).take_while(|i| tensors.contains_key(&format!("layer3.{i}.conv1.weight"))).count();
    let backbone = match (tensors.contains_key("layer1.0.conv3.weight"), blocks) {
        (true, 6) => Backbone::Resnet50,
        (true, 23) => Backbone::Resnet101,
        (false, 6) => Backbone::Resnet34,
        (false, 2) if tensors.contains_key("layer4.1.conv2.weight") => Backbone::Resnet18,
        _ => return Err(strange("the layers match no known network")),
    };
    let (Some(weight), Some(bias)) = (tensors.remove("fc.weight"), tensors.remove("fc.bias")) else {
        return Err(strange("there is no final layer `fc`"));
    };
    let count = match *weight.dims() {
        [count, _] if count > 0 => count,
        _ => return Err(strange("`fc.weight` is not a matrix")),
    };
    let classes = names.unwrap_or_else(|| (0..count).map(|i| i.to_string()).collect());
    if classes.len() != count {
        return Err(Error::Usage(format!(
            "--classes names {} classes and {} has {count}: give one name per line, in the order of the outputs",
            classes.len(),
            path.display()
        )));
    }
    let task = classifier("class", classes);
    tensors.insert("heads.class.linear.weight".into(), weight);
    tensors.insert("heads.class.linear.bias".into(), bias);
    let mut card = Card::new(Architecture::new(backbone, vec![task], 224, 0.0), 224);
    card.framing = Framing::ResizeCenterCrop;
    Ok(ModelFile { card, tensors })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Tensor};

    #[test]
    fn a_final_layer_that_is_not_a_matrix_is_refused() {
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        for shape in [&[][..], &[512], &[3, 512, 1], &[0, 512]] {
            let names = ["layer3.0.conv1.weight", "layer3.1.conv1.weight", "layer4.1.conv2.weight", "fc.bias"];
            let mut tensors: Tensors = names.iter().map(|name| ((*name).to_owned(), zeros(&[1]))).collect();
            tensors.insert("fc.weight".into(), zeros(shape));
            let file = StateFile { tensors, metadata: HashMap::new() };
            let error = plain_classifier(file, Path::new("resnet18.pth"), None).err().unwrap().to_string();
            assert!(
                error.contains("resnet18.pth") && error.contains("`fc.weight` is not a matrix"),
                "{shape:?}: {error}"
            );
        }
    }
}
