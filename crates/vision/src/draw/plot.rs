//! Two plots that compare predictions with the truth: a confusion matrix and a scatter plot. The caller chooses the
//! data.

use super::{Canvas, Rgb, font, mix};

pub(super) const GROUND: Rgb = [255; 3];
pub(super) const INK: Rgb = [32; 3];
pub(super) const FAINT: Rgb = [216; 3];
/// The colour of a cell with its row's full share, and of dense points.
pub(super) const DEEP: Rgb = [8, 64, 129];
pub(super) const DIAGONAL: Rgb = [0xbd, 0x1f, 0x01];

/// The size of titles and labels, in the font's steps.
pub(super) const TEXT: usize = 2;
pub(super) const LINE: usize = font::ROWS * TEXT;
pub(super) const MARGIN: usize = 14;
/// Names and titles wider than this are cut, in pixels.
pub(super) const LONGEST_NAME: usize = 240;
pub(super) const LONGEST_TITLE: usize = 768;

/// Approximate side of the matrix in pixels; with more classes than this, neighbours share a cell.
const MATRIX_SIDE: usize = 960;
const LARGEST_CELL: usize = 72;

/// The side of the scatter plot's square, in pixels.
pub(super) const AXES: usize = 480;
const POINT: usize = 5;
const MOST_TICKS: usize = 6;

/// A confusion matrix, true classes down and predicted classes across. A cell is as dark as its share of its row, and
/// shows its count if the count fits.
///
/// Shapes: `counts[truth][prediction]`, both as long as `classes`.
pub fn confusion(title: &str, classes: &[String], counts: &[Vec<u64>]) -> Canvas {
    let together = classes.len().div_ceil(MATRIX_SIDE).max(1);
    let cells = classes.len().div_ceil(together);
    let cell = (MATRIX_SIDE / cells.max(1)).clamp(1, LARGEST_CELL);
    // Lines may overlap where they only hold accents and descenders.
    let named = together == 1 && cell > font::TIGHT_ROWS * TEXT;
    let names: Vec<String> = classes.iter().map(|c| cut(c, LONGEST_NAME)).collect();
    let title = &cut(title, LONGEST_TITLE);
    let label = if named { names.iter().map(|n| font::text_width(n, TEXT)).max().unwrap_or(0) + MARGIN / 2 } else { 0 };
    let (left, top) = (2 * MARGIN + LINE + label, 2 * MARGIN + LINE);
    let side = cells * cell;
    let width = (left + side).max(MARGIN + font::text_width(title, TEXT)) + MARGIN;
    let mut canvas = Canvas::filled(width, top + side + label + LINE + 2 * MARGIN, GROUND);
    font::text(&mut canvas, [MARGIN as i64; 2], TEXT, INK, title);
    for row in 0..cells {
        let rows = row * together..((row + 1) * together).min(classes.len());
        let of_row: u64 = counts[rows.clone()].iter().flatten().sum();
        for column in 0..cells {
            let columns = column * together..((column + 1) * together).min(classes.len());
            let count: u64 = counts[rows.clone()].iter().flat_map(|r| &r[columns.clone()]).sum();
            let share = count as f32 / of_row.max(1) as f32;
            let corner = [left + column * cell, top + row * cell];
            square(&mut canvas, corner, cell, mix(GROUND, DEEP, share));
            let ink = if share > 0.5 { GROUND } else { INK };
            write_count(&mut canvas, corner, cell, ink, count);
        }
    }
    outline(&mut canvas, [left, top], side);
    if named {
        for (i, name) in names.iter().enumerate() {
            let middle = i * cell + cell / 2;
            let length = font::text_width(name, TEXT);
            let [y, x] = [top, left].map(|start| line_around(start + middle, TEXT));
            font::text(&mut canvas, [(left - MARGIN / 2 - length) as i64, y], TEXT, INK, name);
            font::text_upwards(&mut canvas, [x, (top + side + MARGIN / 2 + length) as i64], TEXT, INK, name);
        }
    }
    axis_words(&mut canvas, [left, top], side, label, ["predicted", "true"]);
    canvas
}

/// Predictions against true values, with the diagonal of equality; both axes have the same scale.
///
/// Shapes: `pairs` are `(prediction, truth)`; pairs with a NaN are left out.
pub fn scatter(title: &str, pairs: &[(f64, f64)]) -> Canvas {
    let pairs = || pairs.iter().filter(|(value, truth)| value.is_finite() && truth.is_finite());
    let (low, high) = range(pairs().flat_map(|(value, truth)| [*value, *truth]));
    let ticks = ticks(low, high);
    let title = &cut(title, LONGEST_TITLE);
    let label = ticks.iter().map(|(_, text)| font::text_width(text, TEXT)).max().unwrap_or(0) + MARGIN / 2;
    let (left, top) = (2 * MARGIN + LINE + label, 2 * MARGIN + LINE);
    // Leave room for half of the last tick's label.
    let width = (left + AXES + label / 2).max(MARGIN + font::text_width(title, TEXT)) + MARGIN;
    let mut canvas = Canvas::filled(width, top + AXES + 2 * LINE + 3 * MARGIN, GROUND);
    font::text(&mut canvas, [MARGIN as i64; 2], TEXT, INK, title);
    let along = |value: f64| ((value - low) / (high - low) * AXES as f64).round() as usize;
    let apart = ticks.windows(2).map(|pair| along(pair[1].0) - along(pair[0].0)).min().unwrap_or(AXES);
    // Wide labels would overlap below the axis, so only every n-th tick gets one.
    let every = (label + MARGIN / 2).div_ceil(apart.max(1));
    for (i, (value, text)) in ticks.iter().enumerate() {
        let (x, y) = (left + along(*value), top + AXES - along(*value));
        canvas.fill([x as i64, top as i64, x as i64 + 1, (top + AXES) as i64], FAINT);
        canvas.fill([left as i64, y as i64, (left + AXES) as i64, y as i64 + 1], FAINT);
        let length = font::text_width(text, TEXT);
        font::text(&mut canvas, [(left - MARGIN / 2 - length) as i64, line_around(y, TEXT)], TEXT, INK, text);
        if i % every == 0 {
            font::text(&mut canvas, signed([x.saturating_sub(length / 2), top + AXES + MARGIN / 2]), TEXT, INK, text);
        }
    }
    for i in 0..AXES {
        square(&mut canvas, [left + i, top + AXES - 1 - i], 2, DIAGONAL);
    }
    // The more points there are, the fainter each is drawn, so that dense regions keep their shape.
    let opacity = (40.0 / (pairs().count().max(1) as f32).sqrt()).clamp(0.15, 0.7);
    for (value, truth) in pairs() {
        blend(&mut canvas, [left + along(*truth), top + AXES - along(*value)], opacity);
    }
    outline(&mut canvas, [left, top], AXES);
    axis_words(&mut canvas, [left, top], AXES, LINE + MARGIN / 2, ["true", "predicted"]);
    canvas
}

/// The axis names: one below the tick labels, one upwards at the left edge.
pub(super) fn axis_words(
    canvas: &mut Canvas,
    [left, top]: [usize; 2],
    side: usize,
    label: usize,
    [across, up]: [&str; 2],
) {
    let before = |word: &str| side.saturating_sub(font::text_width(word, TEXT)) / 2;
    font::text(canvas, signed([left + before(across), top + side + label + MARGIN / 2]), TEXT, INK, across);
    font::text_upwards(canvas, signed([MARGIN, top + side - before(up)]), TEXT, INK, up);
}

/// The smallest and largest value with a small margin; never an empty range.
pub(super) fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low > high {
        return (0.0, 1.0);
    }
    let largest = low.abs().max(high.abs());
    let room = if high - low > largest * 1e-12 { (high - low) * 0.04 } else { largest * 0.1 };
    if room > 0.0 { (low - room, high + room) } else { (-1.0, 1.0) }
}

/// Ticks at 1, 2 or 5 times a power of ten, as text with enough digits to tell them apart.
pub(super) fn ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    let rough = (high - low) / MOST_TICKS as f64;
    let power = rough.log10().floor();
    let unit = 10f64.powf(power);
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|s| s * unit).find(|s| *s >= rough).unwrap_or(10.0 * unit);
    let decimals = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
    let largest = low.abs().max(high.abs());
    // With an exponent, the last digit is that of the step.
    let digits = (largest.log10().floor() - step.log10().floor()).clamp(3.0, 16.0) as usize;
    let text = |v: f64| match largest >= 1e7 || step < 1e-9 {
        true => format!("{v:.digits$e}"),
        false => format!("{v:.decimals$}"),
    };
    let first = (low / step).ceil() as i64;
    let values = (0..=MOST_TICKS as i64).map(|i| (first + i) as f64 * step).filter(|v| *v <= high);
    values.map(|v| (v, text(v))).collect()
}

/// Writes the count in the middle of its cell if it fits.
fn write_count(canvas: &mut Canvas, [x, y]: [usize; 2], cell: usize, ink: Rgb, count: u64) {
    let text = count.to_string();
    let scale = if cell >= LARGEST_CELL / 2 { TEXT } else { 1 };
    let length = font::text_width(&text, scale);
    if count > 0 && length < cell && font::TIGHT_ROWS * scale < cell {
        let corner = [(x + (cell - length) / 2) as i64, line_around(y + cell / 2, scale)];
        font::text(canvas, corner, scale, ink, &text);
    }
}

/// The top of a text line whose capitals and digits are centred at `middle`.
pub(super) fn line_around(middle: usize, scale: usize) -> i64 {
    middle as i64 - (font::ROWS * scale / 2) as i64
}

/// The name, cut off if it is wider than `most` pixels.
pub(super) fn cut(name: &str, most: usize) -> String {
    if font::text_width(name, TEXT) <= most {
        return name.to_owned();
    }
    let room = most - font::text_width("…", TEXT);
    name.chars().take(font::fitting(name, TEXT, room)).chain(['…']).collect()
}

pub(super) fn square(canvas: &mut Canvas, [x, y]: [usize; 2], side: usize, colour: Rgb) {
    let [x, y] = signed([x, y]);
    canvas.fill([x, y, x + side as i64, y + side as i64], colour);
}

pub(super) fn outline(canvas: &mut Canvas, [x, y]: [usize; 2], side: usize) {
    let ([x, y], side) = (signed([x, y]), side as i64);
    for edge in [[-1, -1, side + 1, 0], [-1, side, side + 1, side + 1], [-1, 0, 0, side], [side, 0, side + 1, side]] {
        canvas.fill([x + edge[0], y + edge[1], x + edge[2], y + edge[3]], INK);
    }
}

/// Draws a translucent point.
fn blend(canvas: &mut Canvas, [x, y]: [usize; 2], opacity: f32) {
    let near = |v: usize, side: usize| v.saturating_sub(POINT / 2)..(v + POINT / 2 + 1).min(side);
    for y in near(y, canvas.height) {
        for x in near(x, canvas.width) {
            square(canvas, [x, y], 1, mix(canvas.pixel(x, y), DEEP, opacity));
        }
    }
}

pub(super) fn signed(corner: [usize; 2]) -> [i64; 2] {
    corner.map(|v| v as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of pixels with this colour.
    fn area(canvas: &Canvas, colour: Rgb) -> usize {
        canvas.rgb.chunks(3).filter(|p| *p == colour).count()
    }

    #[test]
    fn a_cell_is_as_dark_as_its_share_of_its_row() {
        let classes = ["cat", "dog"].map(String::from);
        let canvas = confusion("kind", &classes, &[vec![8, 0], vec![1, 1]]);
        let cell = LARGEST_CELL * LARGEST_CELL;
        // The cells hold all, half (twice) and none of a row's images; the ink of the counts covers some pixels.
        for (colour, cells) in [(DEEP, 1), (mix(GROUND, DEEP, 0.5), 2)] {
            let pixels = area(&canvas, colour);
            assert!(pixels > cells * cell * 9 / 10 && pixels < cells * cell, "{pixels} of {cells} cells");
        }
    }

    #[test]
    fn any_number_of_classes_makes_a_picture_of_bounded_size() {
        for number in [0, 1, 2, 21, 500, 2000] {
            let classes: Vec<String> = (0..number).map(|i| format!("class with a long name {i}")).collect();
            let mut counts = vec![vec![0; number]; number];
            (0..number).for_each(|i| counts[i][i] = 3);
            let canvas = confusion("many", &classes, &counts);
            assert!(canvas.width < 1500 && canvas.height < 1500, "{number}: {}×{}", canvas.width, canvas.height);
            assert!(number == 0 || area(&canvas, DEEP) > 0, "{number}: nothing on the diagonal");
        }
    }

    #[test]
    fn points_lie_where_their_values_say() {
        let canvas = scatter("one", &[(0.0, 0.0), (10.0, 10.0), (10.0, 0.0)]);
        let bare = scatter("one", &[(0.0, 0.0), (10.0, 10.0), (f64::NAN, 3.0)]);
        assert_eq!((canvas.width, canvas.height), (bare.width, bare.height));
        let differing: Vec<[usize; 2]> = (0..canvas.height)
            .flat_map(|y| (0..canvas.width).map(move |x| [x, y]))
            .filter(|&[x, y]| bare.pixel(x, y) != canvas.pixel(x, y))
            .collect();
        // A prediction of 10 for a truth of 0 lies at the top left, above the start of the diagonal.
        assert_eq!(differing.len(), POINT * POINT);
        let [x, y] = differing[0];
        assert!(x < canvas.width / 3 && y < canvas.height / 4, "{x}, {y}");
    }

    #[test]
    fn ticks_are_round_and_few_whatever_the_range() {
        for (low, high, expected) in [
            (0.0, 10.0, vec!["0", "2", "4", "6", "8", "10"]),
            (-0.3, 0.31, vec!["-0.2", "0.0", "0.2"]),
            (99.0, 105.0, vec!["99", "100", "101", "102", "103", "104", "105"]),
            (
                1.7e9 - 10.0,
                1.7e9 + 110.0,
                vec!["1.70000000e9", "1.70000002e9", "1.70000004e9", "1.70000006e9", "1.70000008e9", "1.70000010e9"],
            ),
        ] {
            let texts: Vec<String> = ticks(low, high).into_iter().map(|t| t.1).collect();
            assert_eq!(texts, expected);
        }
        for values in
            [vec![], vec![0.0], vec![5.0, 5.0], vec![1e12, 1.0000001e12], vec![1e-12, 3e-12], vec![-1e300, 1e300]]
        {
            let (low, high) = range(values.iter().copied());
            let ticks = ticks(low, high);
            assert!(low < high && !ticks.is_empty() && ticks.len() <= MOST_TICKS + 1, "{values:?}: {ticks:?}");
            let pairs: Vec<(f64, f64)> = values.iter().map(|v| (*v, *v)).collect();
            assert!(scatter("extreme", &pairs).width < 1000);
        }
    }
}
