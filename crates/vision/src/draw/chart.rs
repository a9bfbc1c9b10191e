//! Two plots: lines over the course of a run, and a matrix of numbers from −1 to 1. The caller chooses the data.

use super::plot::{
    AXES, FAINT, GROUND, INK, LINE, MARGIN, TEXT, axis_words, cut, line_around, outline, range, signed, square, ticks,
};
use super::{Canvas, Rgb, font, mix};

/// Line colours that colour-blind people can tell apart (Okabe & Ito 2008), darkest first.
const COLOURS: [Rgb; 8] = [
    [0, 114, 178],
    [213, 94, 0],
    [0, 158, 115],
    [204, 121, 167],
    [86, 180, 233],
    [230, 159, 0],
    [0, 0, 0],
    [153, 153, 153],
];
const THICKNESS: usize = 3;
const LONGEST_TITLE: usize = 768;
const LONGEST_NAME: usize = 240;

/// The colours of −1 (`OPPOSITE`) and 1 (`ALIKE`).
const OPPOSITE: Rgb = [0xbd, 0x1f, 0x01];
const ALIKE: Rgb = [8, 64, 129];
const CELL: usize = 96;

/// One line of a plot.
pub struct Line {
    /// The name in the legend.
    pub name: String,
    /// The (x, y) points in order; a NaN leaves a gap.
    pub points: Vec<(f64, f64)>,
}

/// Lines with a legend on the right. `words` are the labels of the horizontal and the vertical axis.
pub fn lines(title: &str, words: [&str; 2], lines: &[Line]) -> Canvas {
    let finite = || lines.iter().flat_map(|line| &line.points).filter(|(x, y)| x.is_finite() && y.is_finite());
    let (left_end, right_end) = range(finite().map(|point| point.0));
    let (low, high) = range(finite().map(|point| point.1));
    let (across, up) = (ticks(left_end, right_end), ticks(low, high));
    let title = &cut(title, LONGEST_TITLE);
    let names: Vec<String> = lines.iter().map(|line| cut(&line.name, LONGEST_NAME)).collect();
    let label = up.iter().map(|(_, text)| font::text_width(text, TEXT)).max().unwrap_or(0) + MARGIN / 2;
    let legend = names.iter().map(|name| font::text_width(name, TEXT)).max().unwrap_or(0) + 4 * MARGIN;
    let (left, top) = (2 * MARGIN + LINE + label, 2 * MARGIN + LINE);
    let width = (left + AXES + legend).max(MARGIN + font::text_width(title, TEXT)) + MARGIN;
    let height = (top + AXES + 2 * LINE + 3 * MARGIN).max(top + names.len() * LINE + MARGIN);
    let mut canvas = Canvas::filled(width, height, GROUND);
    font::text(&mut canvas, [MARGIN as i64; 2], TEXT, INK, title);
    let place = |value: f64, [low, high]: [f64; 2]| ((value - low) / (high - low) * (AXES - 1) as f64).round() as usize;
    let x_of = |x: f64| left + place(x, [left_end, right_end]);
    let y_of = |y: f64| top + AXES - 1 - place(y, [low, high]);
    for (value, text) in &across {
        let x = x_of(*value);
        canvas.fill([x as i64, top as i64, x as i64 + 1, (top + AXES) as i64], FAINT);
        let length = font::text_width(text, TEXT);
        font::text(&mut canvas, signed([x.saturating_sub(length / 2), top + AXES + MARGIN / 2]), TEXT, INK, text);
    }
    for (value, text) in &up {
        let y = y_of(*value);
        canvas.fill([left as i64, y as i64, (left + AXES) as i64, y as i64 + 1], FAINT);
        let length = font::text_width(text, TEXT);
        font::text(&mut canvas, [(left - MARGIN / 2 - length) as i64, line_around(y, TEXT)], TEXT, INK, text);
    }
    for (index, line) in lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let points = line.points.iter().map(|&(x, y)| (x.is_finite() && y.is_finite()).then(|| [x_of(x), y_of(y)]));
        let points: Vec<Option<[usize; 2]>> = points.collect();
        for pair in points.windows(2) {
            if let [Some(from), Some(to)] = pair {
                stroke(&mut canvas, *from, *to, colour);
            }
        }
        points
            .iter()
            .flatten()
            .for_each(|&[x, y]| square(&mut canvas, [x.saturating_sub(3), y.saturating_sub(3)], 7, colour));
        let y = top + index * LINE;
        square(&mut canvas, [left + AXES + 2 * MARGIN, y + LINE / 2 - MARGIN / 2], MARGIN, colour);
        font::text(&mut canvas, signed([left + AXES + 3 * MARGIN + MARGIN / 2, y]), TEXT, INK, &names[index]);
    }
    outline(&mut canvas, [left, top], AXES);
    axis_words(&mut canvas, [left, top], AXES, LINE + MARGIN / 2, words);
    canvas
}

fn stroke(canvas: &mut Canvas, from: [usize; 2], to: [usize; 2], colour: Rgb) {
    let steps = from[0].abs_diff(to[0]).max(from[1].abs_diff(to[1])).max(1);
    let at = |a: usize, b: usize, step: usize| {
        (a as f64 + (b as f64 - a as f64) * step as f64 / steps as f64).round() as usize
    };
    for step in 0..=steps {
        let corner = [0, 1].map(|axis| at(from[axis], to[axis], step).saturating_sub(THICKNESS / 2));
        square(canvas, corner, THICKNESS, colour);
    }
}

/// A symmetric matrix of numbers from −1 (red) to 1 (blue), with each number written into its cell; NaN cells stay
/// blank.
///
/// Shapes: `values` `[K, K]`, row by row, where K is the number of `names`.
pub fn matrix(title: &str, names: &[String], values: &[f64]) -> Canvas {
    let count = names.len();
    let title = &cut(title, LONGEST_TITLE);
    let names: Vec<String> = names.iter().map(|name| cut(name, LONGEST_NAME)).collect();
    let label = names.iter().map(|name| font::text_width(name, TEXT)).max().unwrap_or(0) + MARGIN / 2;
    let (left, top, side) = (MARGIN + label, 2 * MARGIN + LINE, count * CELL);
    let width = (left + side).max(MARGIN + font::text_width(title, TEXT)) + MARGIN;
    let mut canvas = Canvas::filled(width, top + side + label + MARGIN, GROUND);
    font::text(&mut canvas, [MARGIN as i64; 2], TEXT, INK, title);
    for (index, &value) in values.iter().enumerate().filter(|(_, value)| value.is_finite()) {
        let corner = [left + index % count * CELL, top + index / count * CELL];
        let share = value.clamp(-1.0, 1.0).abs() as f32;
        square(&mut canvas, corner, CELL, mix(GROUND, if value < 0.0 { OPPOSITE } else { ALIKE }, share));
        let text = format!("{value:.2}");
        let ink = if share > 0.5 { GROUND } else { INK };
        let x = corner[0] + CELL.saturating_sub(font::text_width(&text, TEXT)) / 2;
        font::text(&mut canvas, [x as i64, line_around(corner[1] + CELL / 2, TEXT)], TEXT, ink, &text);
    }
    outline(&mut canvas, [left, top], side);
    for (index, name) in names.iter().enumerate() {
        let middle = index * CELL + CELL / 2;
        let length = font::text_width(name, TEXT);
        let [y, x] = [top, left].map(|start| line_around(start + middle, TEXT));
        font::text(&mut canvas, [(left - MARGIN / 2 - length) as i64, y], TEXT, INK, name);
        font::text_upwards(&mut canvas, [x, (top + side + MARGIN / 2 + length) as i64], TEXT, INK, name);
    }
    canvas
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shows(canvas: &Canvas, colour: Rgb) -> usize {
        (0..canvas.height)
            .flat_map(|y| (0..canvas.width).map(move |x| (x, y)))
            .filter(|&(x, y)| canvas.pixel(x, y) == colour)
            .count()
    }

    #[test]
    fn every_line_is_drawn_and_a_gap_stays_a_gap() {
        let line = |name: &str, points: &[(f64, f64)]| Line { name: name.into(), points: points.to_vec() };
        let whole = line("whole", &[(1.0, 0.0), (2.0, 1.0), (3.0, 0.5)]);
        let broken = line("broken", &[(1.0, 0.2), (2.0, f64::NAN), (3.0, 0.2)]);
        let canvas = lines("weights", ["epoch", "weight"], &[whole, broken]);
        let [solid, gap] = [shows(&canvas, COLOURS[0]), shows(&canvas, COLOURS[1])];
        assert!(solid > 2 * AXES, "{solid} pixels of a line across the plot");
        // The line's two points and its entry in the legend.
        assert_eq!(gap, 2 * 7 * 7 + MARGIN * MARGIN);
        for none in [lines("", ["", ""], &[]), lines("", ["", ""], &[line("", &[(f64::NAN, 1.0)])])] {
            assert!(none.width > AXES && none.height > AXES);
        }
    }

    #[test]
    fn a_matrix_shows_signs_and_leaves_out_what_is_not_known() {
        let names = ["a".to_owned(), "b".to_owned()];
        let canvas = matrix("cosine", &names, &[1.0, -1.0, f64::NAN, 1.0]);
        let [opposite, alike] = [shows(&canvas, OPPOSITE), shows(&canvas, ALIKE)];
        assert!(opposite > CELL * CELL / 2 && opposite < CELL * CELL, "{opposite}");
        assert!(alike > CELL * CELL && alike < 2 * CELL * CELL, "{alike}");
    }
}
