//! Labels from BDD100K's JSON: a list of frames, each with attributes of the picture and a list of labels. A `labels`
//! that is null or absent means *unlabelled*, an empty list *labelled, nothing there*; the attribute value "undefined"
//! means unlabelled.

use super::bdd_file::{BddFile, FrameBox};
use super::columns::class_word;
use super::corners::Found;
use super::listed::Images;
use super::matching::{Matches, Names, check_unused, match_images};
use super::{Cache, Raw, RawBox, RawClass, Reading, Word};
use crate::data::declaration::{LabelFile, TaskDeclaration};
use crate::error::{Error, Result};
use crate::reading::{List, Place, Spot, did_you_mean, list_some};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

pub struct BddReader {
    paths: Vec<Arc<Path>>,
    files: Vec<(LabelFile, Arc<BddFile>)>,
    matches: Matches,
    attribute: Option<String>,
    pub notes: Vec<String>,
}

impl BddReader {
    pub fn open(
        task: &TaskDeclaration,
        files: &[LabelFile],
        attribute: Option<&str>,
        root: &Path,
        images: &Images,
        cache: &mut Cache,
    ) -> Result<Self> {
        let files: Vec<(LabelFile, Arc<BddFile>)> =
            files.iter().map(|file| Ok((file.clone(), cache.bdd(&file.path)?))).collect::<Result<_>>()?;
        let entry_of = |path: &Path, file: &BddFile, frame: usize| {
            (file.frames[frame].name.to_string(), Place { file: path.into(), spot: Spot::entry(List::Frames, frame) })
        };
        let entries: Vec<_> = files.iter().map(|(at, file)| move |i: usize| entry_of(&at.path, file, i)).collect();
        let names = files.iter().zip(&entries).map(|((at, file), entry)| Names {
            file: at,
            noun: "frame",
            by_name: &file.by_name,
            entry,
            count: file.frames.len(),
        });
        let names: Vec<Names> = names.collect();
        let matches = match_images(&names, root, images)?;
        let notes = check_unused(&names, &matches, root, &images.all)?;
        match attribute {
            None if !files.iter().any(|(_, file)| file.has_boxes()) => {
                let message =
                    "no label has a `box2d`: lanes and areas (`poly2d`) are no boxes; name the file with boxes";
                return Err(Error::data(&files[0].0.path, None, message));
            }
            Some(wanted) => {
                let known: BTreeSet<&str> = files.iter().flat_map(|(_, file)| file.attributes().into_keys()).collect();
                if !known.contains(wanted) {
                    let message = format!(
                        "task `{}` reads the attribute `{wanted}`, which no frame of {} has; they have {}{}",
                        task.name,
                        files[0].0.path.display(),
                        list_some(&known.iter().collect::<Vec<_>>(), 12),
                        did_you_mean(wanted, known.iter().copied())
                    );
                    return Err(task.place.error(message));
                }
            }
            None => {}
        }
        let paths = files.iter().map(|(file, _)| Arc::from(file.path.as_path())).collect();
        Ok(BddReader { paths, matches, attribute: attribute.map(str::to_string), notes, files })
    }

    pub fn read(&self, task: &TaskDeclaration, index: usize) -> Result<Reading> {
        let Some((f, i)) = self.matches[index] else {
            return Ok(super::not_mentioned(task, &self.paths[0]));
        };
        let (path, file) = (&self.paths[f], &self.files[f].1);
        let frame = &file.frames[i];
        let place = Place::at(path, Spot::entry(List::Frames, i));
        let mut reading = Reading::at(Raw::Unlabelled, place);
        if let Some(attribute) = &self.attribute {
            if let Some(value) = file.attribute(frame, attribute) {
                let word = class_word(attribute, value, &reading.place)?;
                reading.raw = Raw::Class(RawClass { word, spot: reading.place.spot });
            }
            return Ok(reading);
        }
        let Some(written) = &frame.boxes else {
            return Ok(super::not_mentioned(task, path));
        };
        let mut boxes = Found::default();
        for found @ &FrameBox { label, xyxy, ignore, .. } in written {
            let Some(category) = file.category(found).filter(|name| !name.is_empty()) else {
                let message = format!("labels[{label}] has a box and no `category`: give its class");
                reading.faults.push(reading.place.error(message));
                continue;
            };
            let Some(xyxy) = boxes.in_order(xyxy, reading.place.spot, &mut reading) else { continue };
            let class = RawClass { word: Word::Name(category.into()), spot: reading.place.spot };
            boxes.boxes.push(RawBox { class, xyxy, ignore });
        }
        boxes.finish(&mut reading);
        Ok(reading)
    }
}
