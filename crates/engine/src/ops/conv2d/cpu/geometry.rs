//! The source pixels that a pixel of the written matrix reads for each tap, forward and transposed, and the best order for a
//! block's pixels. No data, no kernels.

use super::winograd::Side;
use crate::ops::conv2d::Problem;
use std::ops::Range;

/// With fewer channels than this, a whole kernel row `[S, C]` counts as one tap: it is contiguous in x, and single taps are too
/// short.
const MERGE_BELOW: usize = 16;

/// A class with fewer pixels than this gets no tile of its own: loading the panel would take longer than its sums.
const CLASS_ROWS: usize = 6;

/// The number of f32 in 4 KB, after which addresses fall into the same set of L1 again.
const ALIAS: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    /// The written pixel y reads pixel `y · stride + r − padding`.
    Forward,
    /// The written pixel h reads pixel `(h + padding − r) / stride` if that is an integer: with `r = phase + i · stride`, it
    /// is `⌊(h + padding) / stride⌋ − i`.
    Transposed,
}

/// A convolution as a matrix product: `written [images · height · width, columns]` computed from the source's pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    direction: Direction,
    images: usize,
    height: usize,
    width: usize,
    pub source_height: usize,
    pub source_width: usize,
    /// The number of channels of the source.
    pub channels: usize,
    /// The number of columns of the written matrix.
    pub columns: usize,
    pub r: usize,
    pub s: usize,
    stride: usize,
    padding: usize,
    /// Whether a whole kernel row counts as one tap.
    pub merged: bool,
    /// The side of its tiles, if it is computed by minimal filtering.
    pub filtered: Option<Side>,
}

impl Geometry {
    pub fn fprop(problem: &Problem) -> Geometry {
        Geometry {
            direction: Direction::Forward,
            images: problem.n,
            height: problem.p(),
            width: problem.q(),
            source_height: problem.h,
            source_width: problem.w,
            channels: problem.c,
            columns: problem.k,
            r: problem.r,
            s: problem.s,
            stride: problem.stride,
            padding: problem.padding,
            merged: problem.c < MERGE_BELOW && problem.s > 1,
            filtered: Side::of(problem),
        }
    }

    pub fn dgrad(problem: &Problem) -> Geometry {
        Geometry {
            direction: Direction::Transposed,
            height: problem.h,
            width: problem.w,
            source_height: problem.p(),
            source_width: problem.q(),
            channels: problem.k,
            columns: problem.c,
            merged: false,
            ..Geometry::fprop(problem)
        }
    }

    /// Whether the weight is read transposed, with its taps in reverse order.
    pub fn transposed(&self) -> bool {
        self.direction == Direction::Transposed
    }

    /// Number, height and width of the written images.
    pub fn images(&self) -> [usize; 3] {
        [self.images, self.height, self.width]
    }

    pub fn rows(&self) -> usize {
        self.images * self.height * self.width
    }

    pub fn taps(&self) -> usize {
        if self.merged { self.r } else { self.r * self.s }
    }

    /// The number of contiguous values that a tap reads per pixel.
    pub fn depth(&self) -> usize {
        if self.merged { self.s * self.channels } else { self.channels }
    }

    /// The source position that tap 0 of a written position reads, ignoring the remainder of the division by the stride.
    fn base(&self, position: usize) -> isize {
        match self.direction {
            Direction::Forward => (position * self.stride) as isize - self.padding as isize,
            Direction::Transposed => ((position + self.padding) / self.stride) as isize,
        }
    }

    /// The distance from the base at which a tap reads.
    fn step(&self, tap: usize) -> isize {
        match self.direction {
            Direction::Forward => tap as isize,
            Direction::Transposed => -((tap / self.stride) as isize),
        }
    }

    /// The stride of a transposed convolution; 1 for a forward one.
    fn phase_stride(&self) -> usize {
        match self.direction {
            Direction::Forward => 1,
            Direction::Transposed => self.stride,
        }
    }

    /// The class of a written position along one axis with `taps` taps. With phases, it is the first tap of the phase, which has
    /// every `stride`-th tap. Without phases, it is 1 if the first taps fall in the padding, 2 if the last do, else 0.
    fn axis_class(&self, position: usize, taps: usize, limit: usize) -> usize {
        if self.phase_stride() > 1 {
            return (position + self.padding) % self.stride;
        }
        let (first, last) = (self.base(position), self.base(position) + self.step(taps - 1));
        let inside = |position: isize| (0..limit as isize).contains(&position);
        match (inside(first), inside(last)) {
            (true, true) => 0,
            (false, _) => 1,
            (true, false) => 2,
        }
    }

    /// The number of classes along one axis.
    fn axis_classes(&self) -> usize {
        if self.phase_stride() > 1 { self.stride } else { 3 }
    }

    /// Whether the rows that a tile reads are a multiple of 4 KB apart and therefore all fall into one set of L1, which has fewer
    /// ways than a tile has rows. They are then copied, which costs little compared with the sums of all panels: without copies,
    /// 3×3 with stride 2 from 512 channels took 1.2 to 1.4 times as long (maps of 14² and 4²).
    pub fn copies(&self) -> bool {
        let step = match self.direction {
            Direction::Forward => self.stride,
            Direction::Transposed => 1,
        };
        !self.merged && (step * self.channels).is_multiple_of(ALIAS)
    }

    /// The taps of a class, and how far from the base pixel each reads: `(tap, rows, columns)`.
    pub fn class_taps(&self, class: usize) -> impl Iterator<Item = (usize, isize, isize)> + use<'_> {
        let stride = self.phase_stride();
        let (vertical, horizontal) = match stride {
            1 => (0, 0),
            _ => (class / stride, class % stride),
        };
        (vertical..self.r).step_by(stride).flat_map(move |r| {
            let taps = (horizontal..self.s).step_by(stride);
            taps.map(move |s| (r * self.s + s, self.step(r), self.step(s)))
        })
    }

    /// Lists the pixels `rows` in order.
    pub fn pixels(&self, rows: Range<usize>, pixels: &mut Vec<Pixel>) {
        let per_image = self.height * self.width;
        let line = (self.source_width * self.channels) as isize;
        let source_len = self.source_height as isize * line;
        let within = rows.start % per_image;
        let (mut h, mut w) = (within / self.width, within % self.width);
        let mut image = (rows.start / per_image) as isize * source_len;
        pixels.resize(rows.len(), Pixel::default());
        let mut pixels = pixels.iter_mut();
        let mut row = rows.start;
        while row < rows.end {
            let y = self.base(h);
            let start = image + y * line;
            let vertical = self.axis_class(h, self.r, self.source_height) * self.axis_classes();
            let end = rows.end.min(row + self.width - w);
            for (row, pixel) in (row..end).zip(&mut pixels) {
                let x = self.base(w);
                let offset = start + x * self.channels as isize;
                let class = vertical + self.axis_class(w, self.s, self.source_width);
                *pixel = Pixel { row, offset, y, x, class };
                w += 1;
            }
            row = end;
            (w, h) = (0, h + 1);
            if h == self.height {
                (h, image) = (0, image + source_len);
            }
        }
    }

    /// Merges classes that have too few pixels for tiles of their own. Pixels at the border leave out the taps that fall in the
    /// padding if there are enough of them; otherwise a corner joins the upper or lower border, and a border joins the inside.
    pub fn merge_classes(&self, pixels: &mut [Pixel]) {
        if self.phase_stride() > 1 || pixels.iter().all(|pixel| pixel.class == 0) {
            return;
        }
        let corner = |class: usize| class > 3 && !class.is_multiple_of(3);
        let counts = count(pixels);
        for pixel in pixels.iter_mut().filter(|p| corner(p.class) && counts[p.class] < CLASS_ROWS) {
            pixel.class -= pixel.class % 3;
        }
        let counts = count(pixels);
        for pixel in pixels.iter_mut().filter(|p| counts[p.class] < CLASS_ROWS) {
            pixel.class = 0;
        }
    }

    /// Whether no tap of a forward convolution falls in the padding.
    pub fn is_inner(&self, pixel: &Pixel) -> bool {
        let inside = |first: isize, taps: usize, limit: usize| first >= 0 && first as usize + taps <= limit;
        inside(pixel.y, self.r, self.source_height) && inside(pixel.x, self.s, self.source_width)
    }

    /// The part of kernel row `r`'s `[S, C]` values that lies in the image, and the number of values missing before it.
    #[inline(always)]
    pub fn run<'a>(&self, pixel: &Pixel, r: usize, source: &'a [f32]) -> Option<(usize, &'a [f32])> {
        let (channels, width, s) = (self.channels, self.source_width as isize, self.s as isize);
        let line = pixel.offset + r as isize * width * channels as isize;
        if !(0..self.source_height as isize).contains(&(pixel.y + r as isize)) {
            return None;
        }
        if pixel.x >= 0 && pixel.x + s <= width {
            return Some((0, &source[line as usize..][..self.s * channels]));
        }
        let (left, right) = ((-pixel.x).clamp(0, s) as usize, (width - pixel.x).clamp(0, s) as usize);
        let start = (line + (left * channels) as isize) as usize;
        (left < right).then(|| (left * channels, &source[start..start + (right - left) * channels]))
    }

    /// An upper bound on the number of classes.
    pub fn classes(&self) -> usize {
        self.axis_classes().pow(2)
    }
}

/// The number of pixels of each class.
fn count(pixels: &[Pixel]) -> [usize; 9] {
    let mut counts = [0; 9];
    pixels.iter().for_each(|pixel| counts[pixel.class] += 1);
    counts
}

/// A pixel of the written matrix.
#[derive(Clone, Copy, Default)]
pub(super) struct Pixel {
    pub row: usize,
    /// The offset of its base pixel in the source; the base may lie outside, even before the first image.
    pub offset: isize,
    /// The position of the base pixel in its image.
    pub y: isize,
    pub x: isize,
    /// Pixels of one class have the same taps, except for padding.
    pub class: usize,
}
