//! Composes one training picture from a sample and from the partners that mosaic and mix-up add to it.

use super::framing::{Augment, PADDING, covered};
use super::protection::Allowed;
use super::transforms::{Transforms, hit};
use super::{erasing, mixup, mosaic, perspective};
use crate::data::dataset::Sample;
use crate::data::images::cache::Cache;
use crate::data::images::{Image, Part, decode};
use crate::data::random::{Random, hash_text};
use crate::error::Result;
use crate::geometry::Geometry;
use crate::tasks::{Invariances, Label};
use std::collections::HashMap;
use std::sync::Arc;

/// The settings for composing training pictures.
#[derive(Clone, Debug)]
pub struct ComposerOptions {
    /// The framing, mirroring and colour jitter of each image.
    pub augment: Augment,
    /// The transformations other than framing, each with its probability or strength.
    pub transforms: Transforms,
    /// The transformations that do not change the labels of each task.
    pub invariances: Vec<Invariances>,
    /// The number of the first batch without mosaics.
    pub mosaic_batches: u64,
    /// The possible sides of a batch's canvases, at least one.
    pub sides: Vec<usize>,
    /// Chooses the side of each batch, together with the batch's number.
    pub seed: u64,
    /// The cache of decoded images.
    pub cache: Option<Arc<Cache>>,
}

/// Reads samples and draws them for training. Without transforms, it only applies [`Augment`].
pub struct Composer {
    samples: Arc<[Sample]>,
    options: ComposerOptions,
    /// The seed for drawing each batch's side.
    side_seed: u64,
    /// Images grouped by the set of tasks they are labelled for. Only images of the same group are joined or mixed.
    alike: HashMap<Vec<bool>, Vec<u32>>,
}

/// A picture on its canvas.
pub struct Drawn {
    /// The geometry of the sample itself, before it was joined into a mosaic or moved with its canvas.
    pub geometry: Geometry,
    /// In network pixels.
    pub labels: Vec<Label>,
    /// Whether every object left the picture while another task's label still describes them.
    pub emptied: bool,
}

impl Composer {
    /// A composer for these samples. Mosaic and mix-up combine samples that are labelled for the same tasks.
    pub fn new(samples: Arc<[Sample]>, options: ComposerOptions) -> Composer {
        debug_assert!(!options.sides.is_empty());
        let mut alike: HashMap<Vec<bool>, Vec<u32>> = HashMap::new();
        if options.transforms.mosaic > 0.0 || options.transforms.mixup > 0.0 {
            for (index, sample) in samples.iter().enumerate() {
                alike.entry(pattern(sample)).or_default().push(index as u32);
            }
        }
        let side_seed = hash_text(options.seed, "side");
        Composer { samples, options, side_seed, alike }
    }

    /// The side of batch number `batch`'s canvases, drawn uniformly from the possible sides.
    pub fn side(&self, batch: u64) -> usize {
        let sides = &self.options.sides;
        sides[Random::new(&[self.side_seed, batch]).below(sides.len())]
    }

    /// Decodes the image of sample `index`: the part that [`Composer::draw`] uses with the same `random`, or the whole
    /// image if it is cached.
    ///
    /// # Errors
    /// The errors of [`decode::decode`].
    pub fn decode(&self, index: usize, batch: u64, random: &Random) -> Result<Arc<Image>> {
        self.read(index, |source| self.reach(index, source, batch, random))
    }

    /// The pixels that [`Composer::draw`] uses with the same `random`, for a picture of `source` pixels. Framing can be
    /// drawn before the picture is decoded, and colour changes and erasing stay within it. Mosaic, mix-up and movements
    /// may need the whole picture.
    pub fn reach(&self, index: usize, source: [usize; 2], batch: u64, random: &Random) -> Part {
        let allowed = Allowed::of(&self.samples[index].labels, &self.options.invariances);
        let joins = self.joins(allowed, batch) && self.transforms().mosaic > 0.0;
        let mixes = allowed.mixup && self.transforms().mixup > 0.0;
        let moves = allowed.hiding && self.transforms().moves(allowed.reshaping).is_some();
        match joins || mixes || moves {
            true => Part::whole(source),
            false => self.options.augment.reach(source, self.side(batch), &mut random.clone()),
        }
    }

    /// Draws `image`, which must be the image of sample `index`, for batch number `batch`.
    ///
    /// Shapes: `canvas` is `[side, side, 3]` of [`Composer::side`], overwritten whole.
    pub fn draw(&self, index: usize, image: &Image, batch: u64, random: &mut Random, canvas: &mut [u8]) -> Drawn {
        let allowed = Allowed::of(&self.samples[index].labels, &self.options.invariances);
        let (geometry, mut labels) = self.laid_out(index, image, allowed, batch, random, canvas);
        if allowed.mixup && hit(self.transforms().mixup, random) {
            let other = self.partner(index, random);
            if let Ok(other_image) = self.read(other, Part::whole) {
                let mut behind = vec![0; canvas.len()];
                let (_, others) = self.laid_out(other, &other_image, allowed, batch, random, &mut behind);
                let share = mixup::share(random);
                mixup::blend(canvas, &behind, share);
                mixup::mix(&mut labels, &others, share);
            }
        }
        let emptied = is_emptied(&self.samples[index].labels, &labels);
        Drawn { geometry, labels, emptied }
    }

    fn transforms(&self) -> &Transforms {
        &self.options.transforms
    }

    /// Applies everything that concerns a single canvas: mosaic or framing, movement and erasing.
    fn laid_out(
        &self,
        index: usize,
        image: &Image,
        allowed: Allowed,
        batch: u64,
        random: &mut Random,
        canvas: &mut [u8],
    ) -> (Geometry, Vec<Label>) {
        let (size, transforms) = (self.side(batch), self.transforms());
        let joined = self.joins(allowed, batch) && hit(transforms.mosaic, random);
        let mosaic = if joined { self.mosaic(index, image, size, random, canvas) } else { None };
        let (geometry, mut labels) = mosaic.unwrap_or_else(|| self.alone(index, image, size, random, canvas));
        if allowed.hiding
            && let Some(map) = transforms.movement(allowed.reshaping, size, random)
        {
            let before = canvas.to_vec();
            perspective::warp(&map, &before, size, canvas);
            perspective::move_labels(&map, size, &mut labels);
        }
        if allowed.hiding
            && hit(transforms.erasing, random)
            && let Some(place) = erasing::place(size, random)
        {
            erasing::erase(canvas, size, place, &mut labels);
        }
        (geometry, labels)
    }

    fn alone(
        &self,
        index: usize,
        image: &Image,
        size: usize,
        random: &mut Random,
        canvas: &mut [u8],
    ) -> (Geometry, Vec<Label>) {
        let geometry = self.options.augment.draw(image, size, random, canvas);
        self.transforms().recolour(random, canvas, size, covered(&geometry));
        let labels = self.samples[index].labels.iter().map(|label| label.moved(&geometry));
        (geometry, labels.collect())
    }

    /// `None` if a partner cannot be read; that image is reported when it is drawn itself.
    fn mosaic(
        &self,
        index: usize,
        image: &Image,
        size: usize,
        random: &mut Random,
        canvas: &mut [u8],
    ) -> Option<(Geometry, Vec<Label>)> {
        let others = [(); 3].map(|()| self.partner(index, random));
        let [Ok(b), Ok(c), Ok(d)] = others.map(|other| self.read(other, Part::whole)) else { return None };
        let images = [image, &*b, &*c, &*d];
        let flip = hit(self.options.augment.flip, random);
        let places = mosaic::places(images, size, flip, random);
        canvas.fill(PADDING);
        let indices = [index, others[0], others[1], others[2]];
        let mut tiles = indices.iter().zip(images).zip(&places).map(|((&index, image), place)| {
            self.options.augment.paint(image, place, random, canvas);
            self.transforms().recolour(random, canvas, size, covered(place));
            self.samples[index].labels.iter().map(|label| label.moved(place)).collect::<Vec<Label>>()
        });
        let mut next = || tiles.next().unwrap_or_default();
        let labels = [next(), next(), next(), next()];
        Some((places[0], mosaic::join(labels)))
    }

    /// A random image labelled for the same tasks, possibly the same image.
    fn partner(&self, index: usize, random: &mut Random) -> usize {
        let alike = &self.alike[&pattern(&self.samples[index])];
        alike[random.below(alike.len())] as usize
    }

    fn joins(&self, allowed: Allowed, batch: u64) -> bool {
        allowed.mosaic && batch < self.options.mosaic_batches
    }

    fn read(&self, index: usize, part: impl FnOnce([usize; 2]) -> Part) -> Result<Arc<Image>> {
        let path = &self.samples[index].image;
        match &self.options.cache {
            Some(cache) => cache.decode(path, part),
            None => decode::decode_part(path, part).map(Arc::new),
        }
    }
}

fn pattern(sample: &Sample) -> Vec<bool> {
    sample.labels.iter().map(Label::is_labelled).collect()
}

/// Whether all objects have left the picture while a label that describes the whole picture remains.
fn is_emptied(before: &[Label], after: &[Label]) -> bool {
    let objects =
        |labels: &[Label]| labels.iter().filter_map(|label| label.value()?.objects()).any(|objects| objects > 0);
    let speaks = |label: &Label| label.value().is_some_and(|value| value.objects().is_none());
    before.iter().any(speaks) && objects(before) && !objects(after)
}
