//! A decoded picture, and a rectangle of one.

/// An upright RGB picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    pub width: usize,
    pub height: usize,
    /// `[height, width, 3]`
    pub rgb: Vec<u8>,
}

/// A rectangle of whole pixels: from `left` up to `right`, from `top` up to `bottom`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub left: usize,
    pub top: usize,
    pub right: usize,
    pub bottom: usize,
}

impl Part {
    pub fn whole([width, height]: [usize; 2]) -> Part {
        Part { left: 0, top: 0, right: width, bottom: height }
    }
}
