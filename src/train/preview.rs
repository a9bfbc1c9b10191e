//! The first batch of a run as the network sees it: its pictures after framing and augmentation, with boxes and labels drawn
//! on them.

use super::setup::Data;
use crate::config::TrainConfig;
use crate::data::{Image, TrainLoader};
use crate::draw::Canvas;
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
    let layout = preview::Layout::of(batch.items.len());
    let pictures = batch.items.iter().zip(batch.images.chunks_exact(side * side * 3)).map(|(item, rgb)| {
        let image = Image { width: side, height: side, rgb: rgb.to_vec() };
        preview::labelled(&layout, &data.tasks, &data.train[item.index].name, image, &item.labels)
    });
    let sheet = preview::sheet(&layout, pictures.collect());
    let mut notes = std::mem::take(&mut data.notes);
    notes.extend(batch.broken.iter().map(|b| format!("unreadable, left out: {b}")));
    Ok((sheet, notes))
}
