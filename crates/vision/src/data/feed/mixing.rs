//! The order of images of several sources, so that every batch has the share of each.

use crate::data::dataset::Mixture;
use crate::data::random::Random;

/// The sources' shares and images.
pub struct Mixing {
    /// The source of each place of an epoch.
    sources: Vec<u32>,
    /// The images of each source.
    images: Vec<Vec<u32>>,
    /// How many places of an epoch each source has.
    places: Vec<u64>,
}

/// Part of the key of random numbers, so that they differ from those of other orders.
const MIXING: u64 = 0x6d69_7869_6e67;

impl Mixing {
    pub fn new(mixture: &Mixture) -> Mixing {
        let mut images = vec![Vec::new(); mixture.shares.len()];
        (0..).zip(&mixture.source_of).for_each(|(image, &source)| images[source as usize].push(image));
        let mut places = vec![0u64; mixture.shares.len()];
        let source = |place: usize| {
            // The source that lacks most: after every place each has its share within one image.
            let lack = |source: usize| mixture.shares[source] * (place + 1) as f64 - places[source] as f64;
            let with_images = (0..images.len()).filter(|&source| !images[source].is_empty());
            let most = with_images.reduce(|best, source| if lack(source) > lack(best) { source } else { best });
            let most = most.unwrap_or_default();
            places[most] += 1;
            most as u32
        };
        let sources = (0..mixture.source_of.len()).map(source).collect();
        Mixing { sources, images, places }
    }

    /// The images of an epoch, in order. Each source shows all its images before it shows one again, also from epoch to epoch.
    pub fn epoch(&self, seed: u64, epoch: u64) -> Vec<u32> {
        let mut rounds: Vec<Option<(u64, Vec<u32>)>> = vec![None; self.images.len()];
        let mut shown: Vec<u64> = self.places.iter().map(|places| places * epoch).collect();
        let image = |&source: &u32| {
            let at = source as usize;
            let own = &self.images[at];
            let (round, place) = (shown[at] / own.len() as u64, shown[at] % own.len() as u64);
            shown[at] += 1;
            let order = match &mut rounds[at] {
                Some((known, order)) if *known == round => order,
                other => {
                    let mut order = own.clone();
                    Random::new(&[seed, MIXING, u64::from(source), round]).shuffle(&mut order);
                    &mut other.insert((round, order)).1
                }
            };
            order[place as usize]
        };
        self.sources.iter().map(image).collect()
    }
}
