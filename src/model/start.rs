//! Starts a new model from the weights in a file: the trunk and the heads by the names of their tensors, and the outputs of
//! a head by the names of their classes or columns, if the file says what they are.

use super::Architecture;
use super::card::Card;
use super::file::prediction_tensors;
use super::published;
use super::weights::{self, Slot, StateFile, Tensors, of_candle};
use crate::error::{Error, Result};
use crate::executor::{ParameterSet, Store};
use crate::ir::{Group, Parameter, ParameterId};
use crate::reading::list_some;
use crate::tasks::Task;
use candle_core::{DType, Device, Tensor};
use std::path::Path;

/// Messages name at most this many tensors or classes.
pub(crate) const SHOWN: usize = 8;

/// The result of starting a model from a weights file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Started {
    /// Parameters and running statistics of the model that the file lacks.
    pub missing: Vec<String>,
    /// Tensors of the file that the model lacks.
    pub unexpected: Vec<String>,
    /// Notes on names that were read in another way than they are written, and on heads that do not continue whole.
    pub notes: Vec<String>,
}

/// Initialises a model from a file: loads the tensors that both have and lists the others. The Store holds the initial
/// values, which new classes keep.
///
/// # Errors
/// The file has no tensor of this model, one with another shape, or a part of a trunk that the model lacks.
pub fn start_from(store: &mut Store, architecture: &Architecture, mut file: StateFile, path: &Path) -> Result<Started> {
    let mut new_heads: Vec<String> = Vec::new();
    match file.metadata.get(Card::KEY) {
        Some(text) => {
            let theirs = Card::from_json(text, path)?.architecture;
            check_backbone(architecture, &theirs, path)?;
            // A run's state has the averages, which prediction uses, beside the last step's weights.
            file.tensors = prediction_tensors(file.tensors);
            for (index, task) in architecture.tasks.iter().enumerate() {
                let Some(before) = theirs.tasks.iter().find(|before| before.name == task.name) else { continue };
                let head = match_head(store, before, (index, task), &mut file.tensors)?;
                match head {
                    Head::Same => {}
                    Head::Renamed(note) => file.notes.push(note),
                    Head::New(note) => {
                        file.notes.push(note);
                        let of_head = store.parameters.iter().filter(|p| p.group == Group::Head(index));
                        new_heads.extend(of_head.map(|p| p.name.clone()));
                    }
                }
            }
        }
        None => published::remove_prefix(&mut file),
    }
    file.tensors.retain(|name, _| !new_heads.contains(name));
    let mut missing = import(store, &file.tensors, path)?;
    let known =
        |name: &str| store.parameters.iter().any(|p| p.name == name) || store.buffers.iter().any(|b| b.name == name);
    let unexpected: Vec<String> =
        file.tensors.keys().filter(|name| !known(name) && !published::is_bookkeeping(name)).cloned().collect();
    if missing.len() == store.parameters.len() + store.buffers.len() {
        return Err(Error::checkpoint(
            path,
            format!(
                "holds no tensor of this model (its first is `{}`, the model's `{}`): expected torchvision's or timm's ResNet names",
                file.tensors.keys().next().map_or("none", String::as_str),
                store.parameters[0].name
            ),
        ));
    }
    if let Some(part) = unexpected.iter().find(|name| published::is_of_trunk(name)) {
        let backbone = architecture.backbone.name();
        return Err(Error::checkpoint(
            path,
            format!(
                "its trunk has `{part}`, which --backbone {backbone} lacks, so the trunk would not compute what it was trained for: give the --backbone of the file, or weights of a {backbone}"
            ),
        ));
    }
    if let Some(part) = missing.iter().find(|name| published::is_of_trunk(name)) {
        let backbone = architecture.backbone.name();
        return Err(Error::checkpoint(
            path,
            format!(
                "its trunk lacks `{part}`, which --backbone {backbone} has, so parts of the trunk would start at random: give the --backbone of the file, or weights of a {backbone}"
            ),
        ));
    }
    // A note has said already that these heads start anew.
    missing.retain(|name| !new_heads.contains(name));
    missing.sort();
    store.start_average();
    Ok(Started { missing, unexpected, notes: file.notes })
}

fn check_backbone(ours: &Architecture, theirs: &Architecture, path: &Path) -> Result<()> {
    let [ours, theirs] = [ours, theirs].map(|architecture| architecture.backbone.name());
    match ours == theirs {
        true => Ok(()),
        false => Err(Error::checkpoint(
            path,
            format!(
                "its trunk is a {theirs}, and this model's is a {ours}: give --backbone {theirs}, or other weights"
            ),
        )),
    }
}

/// Copies all tensors that the model has. Returns the names of the others.
fn import(store: &mut Store, tensors: &Tensors, path: &Path) -> Result<Vec<String>> {
    let current = ParameterSet::Current;
    weights::import_parameters(store, Slot::Set(current), tensors, "")
        .and_then(|mut missing| {
            missing.extend(weights::import_buffers(store, current, tensors, "")?);
            Ok(missing)
        })
        .map_err(|e| {
            let hint = match e.to_string().contains("`heads.") {
                true => "the task's head is another one in the file: give the task another name in data.yaml, and its head starts at random",
                false => "is this file for another --backbone, or of a variant such as ResNeXt?",
            };
            Error::checkpoint(path, format!("{e}; {hint}"))
        })
}

/// A task's head, compared with that of the file's task of the same name.
enum Head {
    /// All its outputs have the same names in the same order.
    Same,
    /// Its outputs have other names or another order. The file's tensors are now in the order of this model.
    Renamed(String),
    /// It cannot use the file's tensors, for the reason in the note.
    New(String),
}

/// The names of a head's outputs, in their order, and the word for them.
fn outputs(task: &Task) -> (&[String], &'static str) {
    match task.spec.columns() {
        Some(columns) if task.classes().is_empty() => (columns, "columns"),
        _ => (task.classes(), "classes"),
    }
}

/// Orders the outputs in the file's tensors of a head by name as in `task`. New ones have the initial values in the Store.
fn match_head(store: &Store, before: &Task, (index, task): (usize, &Task), tensors: &mut Tensors) -> Result<Head> {
    let name = &task.name;
    if before.spec.kind() != task.spec.kind() {
        let (before, now) = (before.kind_word(), task.kind_word());
        return Ok(Head::New(format!("{name}: its head starts anew: the task is {now}, and {before} in the file")));
    }
    let ((then, _), (now, noun)) = (outputs(before), outputs(task));
    let layer = format!("heads.{name}.{}.", task.spec.output_layer());
    let places: Vec<Option<usize>> = now.iter().map(|output| then.iter().position(|other| other == output)).collect();
    let mut ordered = Vec::new();
    for (i, parameter) in store.parameters.iter().enumerate() {
        if parameter.group != Group::Head(index) {
            continue;
        }
        let Some(tensor) = tensors.get(&parameter.name) else { continue };
        let is_by_output = parameter.name.starts_with(&layer);
        let outputs = if is_by_output { then.len() } else { parameter.shape[0] };
        let expected = [&[outputs][..], &parameter.shape[1..]].concat();
        if let Err(e) = weights::check_shape(tensor, &parameter.name, &expected) {
            return Ok(Head::New(format!("{name}: its head starts anew: {}", e.reason())));
        }
        if is_by_output {
            let tensor = by_output(store, i, parameter, tensor, &places)?;
            ordered.push((parameter.name.clone(), tensor));
        }
    }
    if then == now {
        return Ok(match other_units(before, task) {
            None => Head::Same,
            Some(note) => Head::Renamed(format!("{name}: {note}")),
        });
    }
    tensors.extend(ordered);
    Ok(Head::Renamed(format!("{name}: {}", continued(then, now, noun))))
}

/// A parameter with the rows of `tensor` at `places`, and initial values in the other rows.
fn by_output(
    store: &Store,
    index: usize,
    parameter: &Parameter,
    tensor: &Tensor,
    places: &[Option<usize>],
) -> Result<Tensor> {
    let flat = |tensor: &Tensor| {
        let values = tensor.to_dtype(DType::F32).and_then(|t| t.flatten_all()).and_then(|t| t.to_vec1::<f32>());
        values.map_err(of_candle)
    };
    let initial = weights::to_tensor(&store.values.f32()[store.range(ParameterId(index))], &parameter.shape)?;
    let (mut values, taken) = (flat(&initial)?, flat(tensor)?);
    let width = parameter.shape[1..].iter().product::<usize>();
    for (row, place) in values.chunks_exact_mut(width).zip(places) {
        if let Some(place) = place {
            row.copy_from_slice(&taken[place * width..(place + 1) * width]);
        }
    }
    Tensor::from_vec(values, initial.dims(), &Device::Cpu).map_err(of_candle)
}

/// Says which units differ, if columns continue whose values were measured in another one.
fn other_units(before: &Task, now: &Task) -> Option<String> {
    let (columns, then, now) = (now.spec.columns()?, before.spec.units()?, now.spec.units()?);
    let named = |unit: &str| if unit.is_empty() { "none".to_owned() } else { format!("`{unit}`") };
    let (column, (old, new)) = columns.iter().zip(then.iter().zip(now)).find(|(_, (old, new))| old != new)?;
    Some(format!(
        "the unit of `{column}` is {} and was {} in the file: its head continues, and learns the values in the new unit",
        named(new),
        named(old)
    ))
}

/// Says which outputs continue by name, which are new and which are gone.
fn continued(then: &[String], now: &[String], noun: &str) -> String {
    let only = |names: &[String], others: &[String], there: bool| -> Vec<String> {
        names.iter().filter(|name| others.contains(name) == there).cloned().collect()
    };
    let (both, new, gone) = (only(now, then, true), only(now, then, false), only(then, now, false));
    if new.is_empty() && gone.is_empty() {
        return format!("all {} {noun} continue by name; the file has them in another order", now.len());
    }
    let mut said = match both.is_empty() {
        true => format!("none of the {} {noun} has the same name in the file", now.len()),
        false => format!("{} of {} {noun} continue by name ({})", both.len(), now.len(), list_some(&both, SHOWN)),
    };
    for (word, names) in [("new", new), ("gone", gone)] {
        if !names.is_empty() {
            said += &format!("; {word}: {}", list_some(&names, SHOWN));
        }
    }
    said
}
