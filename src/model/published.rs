//! Networks in files of other programs: the prefixes that wrappers put before names, and the check that a file is a plain
//! ResNet and not a variant that computes something else.

use super::card::{Card, Framing};
use super::file::{ModelFile, evaluation_graph};
use super::weights::{self, StateFile, Tensors};
use super::{Architecture, Backbone};
use crate::error::{Error, Result, shown};
use crate::tasks::classifier;
use std::path::Path;

/// Prefixes of tensor names that `DataParallel`, `torch.compile`, Lightning, and modules around a trunk add.
const PREFIXES: [&str; 5] = ["module.", "_orig_mod.", "model.", "backbone.", "encoder."];
/// The first convolution, by which a network is found; the second is that of a deep stem.
const FIRST: [&str; 2] = ["conv1.weight", "conv1.0.weight"];

/// Whether a tensor is PyTorch's own count of batches, which no network computes with.
pub(super) fn is_bookkeeping(name: &str) -> bool {
    name.ends_with("num_batches_tracked")
}

/// Whether a name is that of a part of the trunk in a ResNet or one of its variants, and not of a head or anything else.
pub(super) fn is_of_trunk(name: &str) -> bool {
    let first = name.split('.').next().unwrap_or_default().trim_end_matches(|c: char| c.is_ascii_digit());
    ["conv", "bn", "norm", "layer", "stem", "downsample", "maxpool"].contains(&first)
}

/// Removes the prefix that the names of a ResNet have in the file, and notes it. Other names stay as they are.
pub(super) fn remove_prefix(file: &mut StateFile) {
    let is_prefix = |text: &str| {
        let mut rest = text;
        while let Some(shorter) = PREFIXES.iter().find_map(|prefix| rest.strip_prefix(prefix)) {
            rest = shorter;
        }
        rest.is_empty()
    };
    let found = file.tensors.keys().flat_map(|name| FIRST.map(|first| name.strip_suffix(first))).flatten();
    let shortest = found.filter(|prefix| is_prefix(prefix)).min_by_key(|prefix| prefix.len());
    let Some(prefix) = shortest.filter(|prefix| !prefix.is_empty()).map(str::to_owned) else { return };
    let (inside, mut tensors): (Tensors, Tensors) =
        std::mem::take(&mut file.tensors).into_iter().partition(|(name, _)| name.starts_with(&prefix));
    let mut note = format!("the names in the weights file begin with `{prefix}`, which is left out");
    for (name, tensor) in inside {
        let name = name[prefix.len()..].to_owned();
        if tensors.insert(name.clone(), tensor).is_some() {
            note += &format!("; `{name}` without it is not used");
        }
    }
    file.tensors = tensors;
    file.notes.push(note);
}

/// Makes a card for a ResNet file with torchvision's names: one classification task on `fc`.
///
/// # Errors
/// The file is another network, has no final layer, or has another number of classes than `names`.
pub(super) fn plain_classifier(mut file: StateFile, path: &Path, names: Option<Vec<String>>) -> Result<ModelFile> {
    remove_prefix(&mut file);
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
            shown(path)
        )));
    }
    let task = classifier("class", classes);
    tensors.insert("heads.class.linear.weight".into(), weight);
    tensors.insert("heads.class.linear.bias".into(), bias);
    let mut card = Card::new(Architecture::new(backbone, vec![task], 224, 0.0), 224);
    card.framing = Framing::ResizeCenterCrop;
    check_variant(&card, &tensors, path)?;
    Ok(ModelFile { card, tensors, notes: file.notes, path: Some(path.to_path_buf()) })
}

/// Refuses a variant of a ResNet, such as ResNeXt or one with squeeze-and-excitation. Its answers would be those of another network
/// if the parts that are not there were left out.
fn check_variant(card: &Card, tensors: &Tensors, path: &Path) -> Result<()> {
    let graph = evaluation_graph(card)?;
    let other = |what: String| {
        Err(Error::checkpoint(
            path,
            format!("{what}, so it is another architecture than ResNet-18, -34, -50 or -101: only those can be used"),
        ))
    };
    let known =
        |name: &str| graph.parameters.iter().any(|p| p.name == name) || graph.buffers.iter().any(|b| b.name == name);
    if let Some(name) = tensors.keys().find(|name| !known(name) && !is_bookkeeping(name)) {
        return other(format!(
            "`{name}` is not a part of a {}, which its layers resemble",
            card.architecture.backbone.name()
        ));
    }
    let parameters = graph.parameters.iter().map(|p| (&p.name, &p.shape));
    for (name, shape) in parameters.chain(graph.buffers.iter().map(|b| (&b.name, &b.shape))) {
        if let Some(Err(e)) = tensors.get(name).map(|tensor| weights::check_shape(tensor, name, shape)) {
            return other(e.to_string());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Tensor};
    use std::collections::HashMap;

    #[test]
    fn a_final_layer_that_is_not_a_matrix_is_refused() {
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        for shape in [&[][..], &[512], &[3, 512, 1], &[0, 512]] {
            let names = ["layer3.0.conv1.weight", "layer3.1.conv1.weight", "layer4.1.conv2.weight", "fc.bias"];
            let mut tensors: Tensors = names.iter().map(|name| ((*name).to_owned(), zeros(&[1]))).collect();
            tensors.insert("fc.weight".into(), zeros(shape));
            let file = StateFile { tensors, metadata: HashMap::new(), notes: Vec::new() };
            let error = plain_classifier(file, Path::new("resnet18.pth"), None).err().unwrap().to_string();
            assert!(
                error.contains("resnet18.pth") && error.contains("`fc.weight` is not a matrix"),
                "{shape:?}: {error}"
            );
        }
    }
}
