//! Labels from the files of annotation tools (`data::forms`): boxes, or attributes of the image as classes or numbers. An
//! image that a file mentions without a box is *labelled, nothing there*; one with a wrong entry is unlabelled.

use super::columns;
use super::form_file::{Attribute, FormFile, FormImage};
use super::listed::{Images, Listed};
use super::matching::{Matches, Names, check_unused, match_images};
use super::stems::{Stems, match_stems};
use super::{Cache, Raw, RawBox, RawClass, Reading, Remark, Word};
use crate::data::declaration::{LabelFile, TaskDeclaration};
use crate::data::forms::{Files, Form, Part};
use crate::data::images::decode;
use crate::data::walk::relative_name;
use crate::error::{Error, Result};
use crate::reading::{Missing, Place, count_of, cut, did_you_mean, list_some};
use crate::tasks::Content;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A box may exceed the stated image size by this many pixels without a remark, because of rounding.
const ROUNDING: f32 = 0.5;

pub struct FormReader {
    form: &'static Form,
    files: Vec<(LabelFile, Arc<FormFile>)>,
    matches: Matches,
    /// The attributes of the image that are the task's labels, unless they are boxes.
    attributes: Vec<String>,
    /// The classes of the training images, for regions that count for no class.
    classes: Vec<Arc<str>>,
    pub notes: Vec<String>,
    pub faults: Vec<Error>,
}

impl FormReader {
    pub fn open(
        task: &TaskDeclaration,
        form: &'static Form,
        files: &[LabelFile],
        attributes: &[String],
        root: &Path,
        images: &Images,
        cache: &mut Cache,
    ) -> Result<Self> {
        let files: Vec<(LabelFile, Arc<FormFile>)> =
            files.iter().map(|file| Ok((file.clone(), cache.form(form, &file.path)?))).collect::<Result<_>>()?;
        let entry_of = |file: &FormFile, image: usize| {
            let FormImage { name, file, spot, .. } = &file.images[image];
            (name.to_string(), Place::at(file, *spot))
        };
        let entries: Vec<_> = files.iter().map(|(_, file)| move |i: usize| entry_of(file, i)).collect();
        let mut notes = Vec::new();
        let mut faults: Vec<Error> = Vec::new();
        for (place, message) in files.iter().flat_map(|(_, file)| &file.faults) {
            faults.push(place.error(message.clone()));
        }
        let matches = if form.files == Files::OfOneImage {
            let places: Vec<_> = entries.iter().map(|entry| move |i: usize| entry(i).1).collect();
            let stems = files.iter().zip(&places);
            let stems = stems.map(|((at, file), place)| Stems { folder: at, by_name: &file.by_name, place });
            let (matches, unclear) = match_stems(&stems.collect::<Vec<_>>(), images);
            faults.extend(unclear);
            notes.extend(without_image(form, &files, &matches, root));
            matches
        } else {
            let names = files.iter().zip(&entries).map(|((at, file), entry)| Names {
                file: at,
                noun: "image",
                by_name: &file.by_name,
                entry,
                count: file.images.len(),
            });
            let names: Vec<Names> = names.collect();
            let matches = match_images(&names, root, images)?;
            notes.extend(check_unused(&names, &matches, root, &images.all)?);
            matches
        };
        let is_boxes = task.kind.content == Content::Boxes;
        let mut classes = BTreeSet::new();
        let attributes = match is_boxes {
            true => {
                for (f, i) in matches[..images.class_images()].iter().flatten() {
                    classes.extend(files[*f].1.classes_of(*i).cloned());
                }
                notes.extend(files.iter().flat_map(|(_, file)| file.notes.iter().cloned()));
                Vec::new()
            }
            false => known_attributes(task, form, &files, attributes)?,
        };
        Ok(FormReader { form, matches, attributes, classes: classes.into_iter().collect(), notes, faults, files })
    }

    pub fn read(&self, task: &TaskDeclaration, index: usize, image: &Listed) -> Result<Reading> {
        let Some((f, i)) = self.matches[index] else {
            return Ok(self.not_mentioned(task, image));
        };
        let file = &self.files[f].1;
        let found = &file.images[i];
        let mut reading = Reading::at(Raw::Unlabelled, Place::at(&found.file, found.spot));
        let is_boxes = task.kind.content == Content::Boxes;
        let own = if is_boxes { Part::Boxes } else { Part::Tags };
        for (part, spot, message) in &found.faults {
            if *part == own || *part == Part::Everything {
                reading.faults.push(spot.error(&found.file, message.clone()));
            }
        }
        if !reading.faults.is_empty() {
            return Ok(reading);
        }
        match is_boxes {
            true => self.boxes(task, file, found, image, reading),
            false => self.tags(task, file, found, reading),
        }
    }

    fn boxes(
        &self,
        task: &TaskDeclaration,
        file: &FormFile,
        found: &FormImage,
        image: &Listed,
        mut reading: Reading,
    ) -> Result<Reading> {
        let Some(written) = &found.boxes else {
            return Ok(super::not_mentioned(task, &found.file));
        };
        let mut scale = [1.0; 2];
        if found.fractions && !written.is_empty() {
            let Ok([width, height]) = decode::dimensions(&image.image) else {
                reading.remarks.push((Remark::UnreadableImage, Place::new(&image.image, None)));
                return Ok(reading);
            };
            scale = [width as f32, height as f32];
        }
        let (mut boxes, mut is_less) = (Vec::with_capacity(written.len()), found.has_others);
        for found_box in written {
            let [x1, y1, x2, y2] = found_box.xyxy;
            let place = || Place::at(&found.file, found_box.spot);
            if x2 <= x1 || y2 <= y1 {
                reading.remarks.push((Remark::DegenerateBox, place()));
                is_less = true;
                continue;
            }
            let [width, height] = if found.fractions { [1.0; 2] } else { found.size };
            let beyond = |first: f32, last: f32, size: f32, rounding: f32| {
                size > 0.0 && (first < -rounding || last > size + rounding)
            };
            let rounding = if found.fractions { 0.01 } else { ROUNDING };
            if beyond(x1, x2, width, rounding) || beyond(y1, y2, height, rounding) {
                reading.remarks.push((Remark::BeyondImage, place()));
            }
            let xyxy = [x1 * scale[0], y1 * scale[1], x2 * scale[0], y2 * scale[1]];
            let of_class = |class: &Arc<str>| RawBox {
                class: RawClass { word: Word::Name(class.clone()), spot: found_box.spot },
                xyxy,
                ignore: found_box.ignore,
            };
            match (file.class_of(found_box), &task.names) {
                (Some(class), _) => boxes.push(of_class(class)),
                (None, Some(names)) => boxes.extend(names.iter().map(|name| of_class(&name.as_str().into()))),
                (None, None) => boxes.extend(self.classes.iter().map(of_class)),
            }
        }
        // A picture with nothing but points, say, is not one without objects.
        if !(boxes.is_empty() && is_less) {
            reading.raw = Raw::Boxes(boxes);
        }
        Ok(reading)
    }

    fn tags(
        &self,
        task: &TaskDeclaration,
        file: &FormFile,
        found: &FormImage,
        mut reading: Reading,
    ) -> Result<Reading> {
        let mut cells = Vec::new();
        for attribute in &self.attributes {
            let Some(values) = file.values(found, attribute) else { continue };
            let place = reading.place.clone();
            let word = |value: &&Value| {
                let word = columns::class_word(attribute, value, &place)?;
                Ok(RawClass { word, spot: place.spot })
            };
            match (task.kind.content, values.as_slice()) {
                (Content::Classes, values) => {
                    reading.raw = Raw::Names(values.iter().map(word).collect::<Result<_>>()?);
                }
                (_, []) => {}
                (Content::Class, [one]) => reading.raw = Raw::Class(word(one)?),
                (Content::Values, [one]) => cells.push((attribute.as_str(), *one)),
                (Content::Class | Content::Values | Content::Boxes, several) => {
                    let shown: Vec<String> = several.iter().map(|value| value.to_string()).collect();
                    let message = format!(
                        "`{}` has {} values of `{attribute}` ({}): give it one, or declare the task with `multi_label: true`",
                        cut(&found.name),
                        several.len(),
                        list_some(&shown, 4)
                    );
                    reading.faults.push(place.error(message));
                }
            }
        }
        if cells.is_empty() {
            return Ok(reading);
        }
        if cells.len() < self.attributes.len() {
            reading.remarks.push((Remark::PartlyBlank, reading.place.clone()));
            return Ok(reading);
        }
        match columns::values(&cells, task.range, &reading.place) {
            Ok(values) => reading.raw = Raw::Values(values),
            Err(fault) => reading.faults.push(fault),
        }
        Ok(reading)
    }

    /// The reading of an image without an entry or without a file.
    fn not_mentioned(&self, task: &TaskDeclaration, image: &Listed) -> Reading {
        let folder = &self.files[0].0.path;
        if self.form.files == Files::OfManyImages {
            return super::not_mentioned(task, &folder.as_path().into());
        }
        let is_boxes = task.kind.content == Content::Boxes;
        let background = is_boxes && task.missing == Some(Missing::Background);
        let raw = if background { Raw::Boxes(Vec::new()) } else { Raw::Unlabelled };
        let stem = PathBuf::from(relative_name(&image.image, &image.folder)).with_extension(self.form.ending);
        let mut reading = Reading::at(raw, Place::new(folder.join(stem), None));
        if is_boxes {
            reading.remarks.push((Remark::NoLabelFile, reading.place.clone()));
        }
        reading
    }
}

/// A note about label files whose image is not there. Files that are not of the form may lie in the same folder.
fn without_image(form: &Form, files: &[(LabelFile, Arc<FormFile>)], matches: &Matches, root: &Path) -> Option<String> {
    let used: HashSet<(usize, usize)> = matches.iter().flatten().copied().collect();
    let all = files.iter().enumerate().flat_map(|(f, (_, file))| (0..file.images.len()).map(move |i| (f, i, file)));
    let is_wrong = |image: &FormImage| image.faults.iter().any(|(part, _, _)| *part == Part::Everything);
    let mut left = all.filter(|(f, i, file)| !used.contains(&(*f, *i)) && !is_wrong(&file.images[*i]));
    let (_, first, file) = left.next()?;
    let count = 1 + left.count();
    let first = relative_name(&file.images[first].file, root);
    let belong = if count == 1 { "belongs" } else { "belong" };
    Some(format!(
        "{} of {} {belong} to no image of this data set (first: {first})",
        count_of(count, "file"),
        form.title
    ))
}

/// The attributes that are the labels of a task: those it names, or the one with its name, or the only one.
///
/// # Errors
/// No file has such an attribute.
fn known_attributes(
    task: &TaskDeclaration,
    form: &Form,
    files: &[(LabelFile, Arc<FormFile>)],
    named: &[String],
) -> Result<Vec<String>> {
    let mut known: BTreeMap<String, Attribute> = BTreeMap::new();
    files.iter().for_each(|(_, file)| file.add_attributes(&mut known));
    let wanted: Vec<String> = match named {
        [] if !known.contains_key(&task.name) && known.len() == 1 => return Ok(known.into_keys().collect()),
        [] => vec![task.name.clone()],
        named => named.to_vec(),
    };
    let Some(absent) = wanted.iter().find(|name| !known.contains_key(*name)) else {
        return Ok(wanted);
    };
    let names: Vec<&str> = known.keys().map(String::as_str).collect();
    let there = match names.is_empty() {
        true => "they say nothing about images as a whole".to_string(),
        false => format!("there is {}; choose with `attribute:`", list_some(&names, 12)),
    };
    let message = format!(
        "task `{}` reads `{absent}` of the {} files, but {there}{}",
        task.name,
        form.title,
        did_you_mean(absent, names.iter().copied())
    );
    Err(task.place.error(message))
}
