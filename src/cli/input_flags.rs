//! The flags of `polyhead train` that say how images come in.

use crate::config::{CacheChoice, TrainConfig};
use clap::Args;

#[derive(Args)]
pub struct InputArgs {
    /// Keep decoded images for the next epochs: in memory, or on disk below --project, for other runs too [default: none]
    #[arg(long, value_enum, value_name = "WHERE")]
    cache: Option<CacheChoice>,
    /// As much as --cache may take; the images beyond it are decoded every time [default: 8]
    #[arg(long, value_name = "GIB")]
    cache_gib: Option<f64>,
}

impl InputArgs {
    pub fn apply(&self, config: &mut TrainConfig) {
        config.cache = self.cache.unwrap_or(config.cache);
        config.cache_gib = self.cache_gib.unwrap_or(config.cache_gib);
    }

    /// Those given that a resumed run does not heed.
    pub fn ignored(&self) -> impl Iterator<Item = &'static str> {
        let given = [(self.cache.is_some(), "--cache"), (self.cache_gib.is_some(), "--cache-gib")];
        given.into_iter().filter(|g| g.0).map(|g| g.1)
    }
}
