//! Lists the images of the three splits, and decides whether validation is to be split off training.

use super::faults::Faults;
use super::held_out::Division;
use super::leftovers::left_out;
use super::{OpenOptions, listing};
use crate::data::declaration::{Declaration, LabelsFrom, Source, Split};
use crate::data::formats::{Images, Listed};
use crate::data::images::decode::EXTENSIONS;
use crate::data::progress::Progress;
use crate::data::walk::{Alias, relative_name};
use crate::error::{Error, Result, shown};
use crate::reading::{count_of, list_some};
use std::collections::HashSet;
use std::path::Path;

pub(crate) const DEFAULT_VAL_FRACTION: f32 = 0.2;

/// The images of the three splits, one after another. If validation is to be split off, its images are still among those of
/// training.
///
/// # Errors
/// A split without images, or an invalid image list.
pub fn list_images(
    declared: &mut Declaration,
    options: &OpenOptions,
    faults: &mut Faults,
    progress: &Progress,
) -> Result<(Images, Division)> {
    // Also where it is not used: a wrong number would otherwise be noticed with another data set only.
    options.val_fraction.map_or(Ok(()), check_fraction)?;
    let mut splits = Vec::new();
    for split in Split::ALL {
        let sources = &declared.splits[split as usize];
        let (found, names) = listing::list(&declared.root, sources, faults, &mut declared.notes, progress)?;
        report_aliases(declared, split, &names.aliases, faults)?;
        declared.notes.extend(
            names
                .own
                .iter()
                .map(|(folder, what)| left_out(&format!("{}/", relative_name(folder, &declared.root)), what)),
        );
        if found.is_empty()
            && let Some(source) = declared.splits[split as usize].first()
        {
            let may_be_empty = split == Split::Test || options.undivided;
            // The lines of a list that name no image say more than that there is none.
            if !may_be_empty && let Some(fault) = faults.take_first_of(source.path()) {
                return Err(fault);
            }
            let named = match source {
                Source::Labels(file) => listing::none_named(&declared.root, file),
                Source::Folder(_) | Source::List(_) => None,
            };
            let message = match named {
                Some(message) => message,
                None => {
                    let empty =
                        format!("the {} split holds no image ({} are read)", split.word(), EXTENSIONS.join(", "));
                    let ask = if may_be_empty { "" } else { ": put images there or correct the declaration" };
                    format!("{empty}{ask}")
                }
            };
            if !may_be_empty {
                return Err(Error::data(source.path(), None, message));
            }
            let reason = format!("{}: {message}", shown(source.path()));
            declared.notes.push(format!("{reason}; it is left out"));
            declared.no_test = declared.no_test.take().or_else(|| (split == Split::Test).then_some(reason));
            declared.splits[split as usize].clear();
        }
        splits.push(found);
    }
    if splits.iter().all(Vec::is_empty) {
        return Err(declared.place.error(format!("no split holds an image ({} are read)", EXTENSIONS.join(", "))));
    }
    let [mut train, val, test]: [Vec<Listed>; 3] =
        splits.try_into().map_err(|_| Error::Other("three splits go in, three come out".into()))?;
    let division = division(declared, options)?;
    if division != Division::Declared {
        // If training is the whole folder, the test split may lie within it.
        let tested: HashSet<&str> = test.iter().map(|image| image.name.as_str()).collect();
        train.retain(|image| !tested.contains(image.name.as_str()));
    }
    note_overlap(&train, &val, "val", &mut declared.notes);
    note_overlap(&train, &test, "test", &mut declared.notes);
    let ends = [train.len(), train.len() + val.len(), train.len() + val.len() + test.len()];
    let mut all = train;
    all.extend(val);
    all.extend(test);
    Ok((Images { all, ends }, division))
}

/// The way in which the data set is divided into training and validation.
///
/// # Errors
/// A fold is asked of a data set that has its own validation split.
fn division(declared: &mut Declaration, options: &OpenOptions) -> Result<Division> {
    let given = options.val_fraction.is_some();
    match (&declared.splits[Split::Val as usize][..], options.fold) {
        ([source, ..], Some(fold)) => {
            return Err(Error::Usage(format!(
                "--fold {fold}: the data set has its own validation split, {}: leave --fold out, or take that split out of the declaration",
                shown(source.path())
            )));
        }
        ([_, ..], None) => {
            if given {
                declared.notes.push("val_fraction is ignored: the data set has its own validation split".into());
            }
            return Ok(Division::Declared);
        }
        ([], _) => {}
    }
    if options.undivided {
        return Ok(Division::None);
    }
    if let Some(fold) = options.fold {
        if given {
            return Err(Error::Usage(format!(
                "--fold {fold} and --val-fraction exclude each other: a fold is one {}th of the images",
                fold.count()
            )));
        }
        return Ok(Division::Fold(fold));
    }
    let fraction = options.val_fraction.or(declared.val_fraction).unwrap_or(DEFAULT_VAL_FRACTION);
    check_fraction(fraction)?;
    if fraction == 0.0 {
        declared.notes.push("no validation split, and none is made (val_fraction 0)".into());
        return Ok(Division::None);
    }
    Ok(Division::Fraction(fraction))
}

/// Reports folders that a split reaches under two names: a fault if they are two classes, otherwise a note.
fn report_aliases(declared: &mut Declaration, split: Split, aliases: &[Alias], faults: &mut Faults) -> Result<()> {
    let by_folder = declared.tasks.iter().find(|task| task.from == LabelsFrom::Folders);
    for alias in aliases {
        let [name, same_as] = [&alias.path, &alias.same_as].map(|path| relative_name(path, &declared.root));
        let class = |path: &Path| {
            let sources = &declared.splits[split as usize];
            let below = sources.iter().find_map(|source| path.strip_prefix(source.path()).ok())?;
            below.components().next().map(|class| class.as_os_str().to_os_string())
        };
        match by_folder.filter(|_| class(&alias.path) != class(&alias.same_as)) {
            Some(task) => {
                let message = format!(
                    "the same folder as {same_as}/, which is another class of task `{}`: remove one of the two",
                    task.name
                );
                faults.take(Error::data(&alias.path, None, message))?;
            }
            None => declared.notes.push(format!(
                "{name}/ is {same_as}/ under another name: its images are listed twice; remove the name that the labels do not use"
            )),
        }
    }
    Ok(())
}

fn check_fraction(fraction: f32) -> Result<()> {
    match (0.0..1.0).contains(&fraction) {
        true => Ok(()),
        false => Err(Error::Usage(format!(
            "the validation fraction is {fraction}: expected a number from 0 to less than 1, such as 0.2"
        ))),
    }
}

fn note_overlap(train: &[Listed], other: &[Listed], word: &str, notes: &mut Vec<String>) {
    let names: HashSet<&str> = train.iter().map(|image| image.name.as_str()).collect();
    let both: Vec<&str> = other.iter().map(|image| image.name.as_str()).filter(|name| names.contains(name)).collect();
    if !both.is_empty() {
        notes.push(format!(
            "{} in both train and {word} ({}): {word} metrics will be too optimistic",
            count_of(both.len(), "image"),
            list_some(&both, 3)
        ));
    }
}
