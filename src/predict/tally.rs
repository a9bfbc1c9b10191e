//! Counts lines and unreadable images, and limits the latter.

use super::Ended;
use crate::data::feed::broken_allowed;
use crate::error::{Error, Result};
use crate::reading::count_of;

/// Counts lines and unreadable images, and limits the latter.
pub struct Tally {
    /// Number of lines so far.
    pub lines: u64,
    /// Number of those for unreadable images.
    pub broken: u64,
    /// Whether there are more unreadable images than allowed.
    pub is_exceeded: bool,
    first_broken: Option<String>,
    share: f32,
}

impl Tally {
    /// Until the number of images is known, the share of unreadable ones is computed for at least this many images.
    const EXPECTED: u64 = 1000;

    pub fn new(share: f32) -> Tally {
        Tally { lines: 0, broken: 0, is_exceeded: false, first_broken: None, share }
    }

    /// # Errors
    /// The unreadable images exceed the share of the images seen, or of a thousand.
    pub fn count(&mut self, broken: Option<String>) -> Result<()> {
        self.lines += 1;
        self.broken += u64::from(broken.is_some());
        self.first_broken = self.first_broken.take().or(broken);
        self.check(self.lines.max(Tally::EXPECTED))
    }

    /// The final check on all images.
    pub fn verdict(&mut self, ended: Ended) -> Result<()> {
        match ended {
            // There are no predictions, so older files are kept.
            Ended::Interrupted if self.lines == 0 => return Err(Error::Interrupted),
            Ended::Interrupted | Ended::Unread => return Ok(()),
            Ended::Whole => {}
        }
        match &self.first_broken {
            _ if self.lines == 0 => Err(Error::Usage("no images: the sources are empty".into())),
            Some(first) if self.broken == self.lines => Err(Error::Other(match self.lines {
                1 => format!("the only image could not be read: {first}"),
                n => format!("none of the {n} images could be read; the first: {first}"),
            })),
            _ => self.check(self.lines),
        }
    }

    fn check(&mut self, images: u64) -> Result<()> {
        if self.broken <= broken_allowed(self.share, images as usize) as u64 {
            return Ok(());
        }
        self.is_exceeded = true;
        let first = self.first_broken.as_deref().unwrap_or_default();
        let share = self.share;
        if self.broken == self.lines {
            let problem = match self.lines {
                1 => "the first image could not be read".to_owned(),
                n => format!("none of the first {n} images could be read"),
            };
            return Err(Error::Other(format!(
                "{problem}, more than --max-broken {share} allows; the first is {first}; repair or remove them, or raise --max-broken"
            )));
        }
        Err(Error::Other(format!(
            "{} of {} cannot be read, more than --max-broken {share} allows; the first is {first}; repair or remove them, or raise --max-broken",
            self.broken,
            count_of(self.lines as usize, "image"),
        )))
    }
}
