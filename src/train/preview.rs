//! The first batch of a run as the network sees it: its pictures after framing and augmentation, with boxes and labels drawn
//! on them.

use super::setup::Data;
use crate::config::TrainConfig;
use crate::data::{Image, TrainLoader};
use crate::draw::{self, Canvas};
use crate::error::Result;
use crate::preview;
use std::sync::Arc;

/// The picture, and notes about the data set and the augmentations, as sentences.
///
/// # Errors
/// The data set cannot be opened, or too many images are unreadable.
pub fn augmented_batch(config: &TrainConfig) -> Result<(Canvas, Vec<String>)> {
    let mut data = Data::open(config)?;
    let mut loader = TrainLoader::new(Arc::clone(&data.train), data.loader_options(config), 0)?;
    let batch = loader.next()?;
    let side = batch.side;
    let pictures = batch.items.iter().zip(batch.images.chunks_exact(side * side * 3)).map(|(item, rgb)| {
        let image = Image { width: side, height: side, rgb: rgb.to_vec() };
        preview::labelled(&data.tasks, &data.train[item.index].name, image, &item.labels)
    });
    let pictures: Vec<Canvas> = pictures.collect();
    let columns = (pictures.len() as f64).sqrt().ceil() as usize;
    let mut notes = std::mem::take(&mut data.notes);
    notes.extend(batch.broken.iter().map(|b| format!("unreadable, left out: {b}")));
    Ok((draw::grid(&pictures, columns), notes))
}
