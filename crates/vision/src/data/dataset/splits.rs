//! Lists the images of the three splits; splits validation off training if the data set has no validation split.

use super::faults::Faults;
use super::leftovers::left_out;
use super::{OpenOptions, listing};
use crate::data::declaration::{Declaration, LabelsFrom, Split};
use crate::data::formats::{Images, Listed};
use crate::data::images::decode::EXTENSIONS;
use crate::data::progress::Progress;
use crate::data::random::hash_text;
use crate::data::walk::{Alias, relative_name};
use crate::error::{Error, Result, shown};
use crate::reading::{Place, count_of, list_some};
use std::collections::HashSet;
use std::path::Path;

pub(crate) const DEFAULT_VAL_FRACTION: f32 = 0.2;

/// The images of the three splits, one after another.
///
/// # Errors
/// A split without images, or an invalid image list.
pub fn list_images(
    declared: &mut Declaration,
    options: &OpenOptions,
    faults: &mut Faults,
    progress: &Progress,
) -> Result<Images> {
    // Also where it is not used: a wrong number would otherwise be noticed with another data set only.
    options.val_fraction.map_or(Ok(()), check_fraction)?;
    let mut splits = Vec::new();
    for split in Split::ALL {
        let (found, names) = listing::list(&declared.root, &declared.splits[split as usize], faults, progress)?;
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
            // Training would stop at the first line that names no image.
            if split != Split::Test
                && let Some(fault) = faults.take_first()
            {
                return Err(fault);
            }
            let message = format!("the {} split holds no image ({} are read)", split.word(), EXTENSIONS.join(", "));
            if split != Split::Test {
                let message = format!("{message}: put images there or correct the declaration");
                return Err(Error::data(source.path(), None, message));
            }
            let reason = format!("{}: {message}", shown(source.path()));
            declared.notes.push(format!("{reason}; it is left out"));
            declared.no_test = Some(reason);
            declared.splits[split as usize].clear();
        }
        splits.push(found);
    }
    let [mut train, mut val, test]: [Vec<Listed>; 3] =
        splits.try_into().map_err(|_| Error::Other("three splits go in, three come out".into()))?;
    let seeded_split = declared.splits[1].is_empty();
    if seeded_split {
        // If training is the whole folder, the test split may lie within it.
        let tested: HashSet<&str> = test.iter().map(|image| image.name.as_str()).collect();
        train.retain(|image| !tested.contains(image.name.as_str()));
        let fraction = options.val_fraction.or(declared.val_fraction).unwrap_or(DEFAULT_VAL_FRACTION);
        (train, val) = split_off(train, fraction, options.seed, &declared.place)?;
        declared.notes.push(match fraction {
            0.0 => "no validation split, and none is made (val_fraction 0)".into(),
            _ => format!(
                "no validation split: {} of {} held out by path (val_fraction {fraction}, seed {})",
                count_of(val.len(), "image"),
                train.len() + val.len(),
                options.seed
            ),
        });
    } else if options.val_fraction.is_some() {
        declared.notes.push("val_fraction is ignored: the data set has its own validation split".into());
    }
    note_overlap(&train, &val, "val", &mut declared.notes);
    note_overlap(&train, &test, "test", &mut declared.notes);
    let ends = [train.len(), train.len() + val.len(), train.len() + val.len() + test.len()];
    let mut all = train;
    all.extend(val);
    all.extend(test);
    Ok(Images { all, ends, seeded_split })
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

/// Splits by a seeded hash of each path, so that adding images does not move others. Neither side is left empty, unless
/// the fraction is 0.
fn split_off(images: Vec<Listed>, fraction: f32, seed: u64, place: &Place) -> Result<(Vec<Listed>, Vec<Listed>)> {
    check_fraction(fraction)?;
    if fraction == 0.0 {
        return Ok((images, Vec::new()));
    }
    if images.len() < 2 {
        let message =
            format!("{} found: training and validation need at least one each", count_of(images.len(), "image"));
        return Err(place.error(message));
    }
    let hash = |image: &Listed| hash_text(seed, &image.name);
    let bound = (f64::from(fraction) * u64::MAX as f64) as u64;
    let least = images.iter().map(hash).min().unwrap_or(0);
    let greatest = images.iter().map(hash).max().unwrap_or(0);
    let (val, train) = images.into_iter().partition(|image| {
        let hash = hash(image);
        hash == least || (hash < bound && hash != greatest)
    });
    Ok((train, val))
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
