//! A decoded picture, and a rectangular part of one.

/// An upright RGB picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[height, width, 3]`
    pub rgb: Vec<u8>,
}

/// A rectangle of whole pixels: `left..right` by `top..bottom`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The first column.
    pub left: usize,
    /// The first row.
    pub top: usize,
    /// The column after the last.
    pub right: usize,
    /// The row after the last.
    pub bottom: usize,
}

impl Part {
    /// The whole of a picture of this width and height.
    pub fn whole([width, height]: [usize; 2]) -> Part {
        Part { left: 0, top: 0, right: width, bottom: height }
    }
}
