//! Draws predictions onto a picture: outlined boxes with labels, and a strip below with a line for every other task.
//! The caller chooses the texts and the detections; `mod.rs` handles pixels.

use super::{Canvas, Rgb, font};
use crate::boxes::Xyxy;

/// Ten colours that colour-blind people can tell apart (Petroff 2021, arXiv:2107.02270, the ten-colour cycle).
const PALETTE: [Rgb; 10] = [
    [0x3f, 0x90, 0xda],
    [0xff, 0xa9, 0x0e],
    [0xbd, 0x1f, 0x01],
    [0x94, 0xa4, 0xa2],
    [0x83, 0x2d, 0xb6],
    [0xa9, 0x6b, 0x59],
    [0xe7, 0x63, 0x00],
    [0xb9, 0xac, 0x70],
    [0x71, 0x75, 0x81],
    [0x92, 0xda, 0xdd],
];

const CAPTION_GROUND: Rgb = [24; 3];
const CAPTION_INK: Rgb = [240; 3];

/// Margins of plates and captions in pixels, per step of text size. A plate is as high as its line of text, which
/// leaves room for accents and descenders.
const PLATE_SIDE: usize = 2;
const CAPTION_MARGIN: usize = 4;

/// A box to draw.
///
/// Units: `xyxy` in pixels of the canvas it is drawn on.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledFrame {
    /// The corners of the outline.
    pub xyxy: Xyxy,
    /// The index of its class, which decides its colour.
    pub class: usize,
    /// The text on the plate, such as `RBC 0.93`; no plate is drawn if it is empty.
    pub label: String,
}

impl LabelledFrame {
    /// The same frame on a canvas scaled by `scale`.
    pub fn scaled(self, scale: f32) -> LabelledFrame {
        LabelledFrame { xyxy: self.xyxy.map(|v| v * scale), ..self }
    }
}

/// Draws several boxes: outlines first, then plates, so that no outline crosses a label. The plate of the first box is
/// placed first and drawn on top; detections are sorted by score, so this is the most certain one.
pub fn frames(canvas: &mut Canvas, frames: &[LabelledFrame]) {
    let sizes = Sizes::of(canvas);
    for frame in frames.iter().rev() {
        if let Some(outline) = visible_outline(canvas, &sizes, &frame.xyxy) {
            draw_outline(canvas, &sizes, outline, class_colour(frame.class));
        }
    }
    let mut plates: Vec<([i64; 4], &LabelledFrame)> = Vec::new();
    for frame in frames.iter().filter(|f| !f.label.is_empty()) {
        if let Some(outline) = visible_outline(canvas, &sizes, &frame.xyxy) {
            plates.push((plate(canvas, &sizes, outline, &frame.label, &plates), frame));
        }
    }
    for (plate, frame) in plates.into_iter().rev() {
        draw_plate(canvas, &sizes, plate, frame);
    }
}

/// Draws one box with its label on a plate above it, or inside if there is no room above. Edges outside the canvas are
/// not drawn. A box wholly outside, or with a NaN coordinate, draws nothing; an empty box is drawn as a dot.
///
/// Units: `xyxy` in canvas pixels.
pub fn frame(canvas: &mut Canvas, xyxy: &Xyxy, class: usize, label: &str) {
    frames(canvas, &[LabelledFrame { xyxy: *xyxy, class, label: label.to_owned() }]);
}

/// Adds a strip with `lines` below the picture. Lines wider than the picture are wrapped. Without lines there is no
/// strip.
pub fn caption(canvas: &mut Canvas, lines: &[String]) {
    caption_sized(canvas, lines, Sizes::of(canvas).text);
}

/// The same with text of `scale` of the font's steps, whatever the picture's size.
pub fn caption_sized(canvas: &mut Canvas, lines: &[String], scale: usize) {
    if lines.is_empty() {
        return;
    }
    let margin = CAPTION_MARGIN * scale;
    let width = canvas.width.saturating_sub(2 * margin);
    let rows: Vec<String> = lines.iter().flat_map(|line| wrapped(line, scale, width)).collect();
    let line_height = font::ROWS * scale;
    let top = canvas.height;
    canvas.extend_below(2 * margin + rows.len() * line_height, CAPTION_GROUND);
    for (index, row) in rows.iter().enumerate() {
        let corner = [margin as i64, (top + margin + index * line_height) as i64];
        font::text(canvas, corner, scale, CAPTION_INK, row);
    }
}

/// The colour of a class; the palette repeats after ten classes.
pub fn class_colour(class: usize) -> Rgb {
    PALETTE[class % PALETTE.len()]
}

/// Line width and text size, derived from the picture's shorter side.
struct Sizes {
    /// Outline thickness, pixels.
    line: usize,
    /// The size of text, in the font's steps.
    text: usize,
}

impl Sizes {
    fn of(canvas: &Canvas) -> Self {
        let side = canvas.width.min(canvas.height) as f32;
        // Chosen by eye at 384 to 1080 pixels: lines 2 to 5 pixels thick, capitals 14 to 28 high.
        Sizes { line: (side / 200.0).round().max(2.0) as usize, text: (side / 256.0).round().max(1.0) as usize }
    }
}

/// The box on the pixel grid, at least one line thick, or `None` if none of its pixels is on the canvas. Edges outside
/// the canvas are moved close to it so that integer arithmetic cannot overflow.
fn visible_outline(canvas: &Canvas, sizes: &Sizes, xyxy: &Xyxy) -> Option<[i64; 4]> {
    if xyxy.iter().any(|v| v.is_nan()) {
        return None;
    }
    let (width, height, line) = (canvas.width as i64, canvas.height as i64, sizes.line as i64);
    let near = |v: f32, side: i64| (v.round() as i64).clamp(-line, side + line);
    let (x1, y1) = (near(xyxy[0], width), near(xyxy[1], height));
    let (x2, y2) = (near(xyxy[2], width).max(x1 + line), near(xyxy[3], height).max(y1 + line));
    (x2 > 0 && y2 > 0 && x1 < width && y1 < height).then_some([x1, y1, x2, y2])
}

/// Draws the line inside the box, so that a box clipped to the picture still shows all four edges.
fn draw_outline(canvas: &mut Canvas, sizes: &Sizes, [x1, y1, x2, y2]: [i64; 4], colour: Rgb) {
    let line = sizes.line as i64;
    canvas.fill([x1, y1, x2, y1 + line], colour);
    canvas.fill([x1, y2 - line, x2, y2], colour);
    canvas.fill([x1, y1, x1 + line, y2], colour);
    canvas.fill([x2 - line, y1, x2, y2], colour);
}

fn draw_plate(canvas: &mut Canvas, sizes: &Sizes, plate: [i64; 4], frame: &LabelledFrame) {
    let colour = class_colour(frame.class);
    canvas.fill(plate, colour);
    let corner = [plate[0] + (PLATE_SIDE * sizes.text) as i64, plate[1]];
    font::text(canvas, corner, sizes.text, ink_on(colour), &frame.label);
}

/// The position of a plate, within the canvas as far as it fits. Candidates are above the box's top edge, below that
/// edge, and inside or below the bottom edge; the first that overlaps none of the plates in `placed` is used.
fn plate(
    canvas: &Canvas,
    sizes: &Sizes,
    [x1, y1, _, y2]: [i64; 4],
    label: &str,
    placed: &[([i64; 4], &LabelledFrame)],
) -> [i64; 4] {
    let width = (font::text_width(label, sizes.text) + 2 * PLATE_SIDE * sizes.text) as i64;
    let height = (font::ROWS * sizes.text) as i64;
    let left = x1.min(canvas.width as i64 - width).max(0);
    let lowest = (canvas.height as i64 - height).max(0);
    let tops = [y1 - height, y1, y2 - height, y2];
    let mut places = tops.into_iter().filter(|&top| top >= 0 && top <= lowest);
    let is_clear = |&top: &i64| {
        let plate = [left, top, left + width, top + height];
        placed.iter().all(|(other, _)| !overlap(&plate, other))
    };
    let first = places.clone().next().unwrap_or_else(|| y1.clamp(0, lowest));
    let top = places.find(is_clear).unwrap_or(first);
    [left, top, left + width, top + height]
}

fn overlap(a: &[i64; 4], b: &[i64; 4]) -> bool {
    a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}

/// Black or white, whichever has more contrast with `ground`. Both have equal contrast at a relative luminance of 0.179
/// (WCAG 2.1, contrast ratio; its piecewise curve is approximated by the power 2.2).
fn ink_on(ground: Rgb) -> Rgb {
    let [r, g, b] = ground.map(|v| (f32::from(v) / 255.0).powf(2.2));
    if 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 { [0; 3] } else { [255; 3] }
}

/// Splits a line into rows of at most `width` pixels and at least one character, at a space if there is one.
fn wrapped(line: &str, scale: usize, width: usize) -> Vec<String> {
    let mut rest: Vec<char> = line.chars().collect();
    let mut rows = Vec::new();
    loop {
        let columns = font::fitting(&String::from_iter(&rest), scale, width).max(1);
        if rest.len() <= columns {
            break;
        }
        let space = rest[..=columns].iter().rposition(|&c| c == ' ').filter(|&at| at > 0);
        let cut = space.unwrap_or(columns);
        rows.push(rest[..cut].iter().collect());
        rest.drain(..space.map_or(cut, |at| at + 1));
    }
    rows.push(rest.into_iter().collect());
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const GROUND: Rgb = [1, 2, 3];

    fn inside([x1, y1, x2, y2]: [i64; 4], x: usize, y: usize) -> bool {
        (x1..x2).contains(&(x as i64)) && (y1..y2).contains(&(y as i64))
    }

    #[test]
    fn a_frame_changes_its_outline_and_its_plate_and_nothing_else() {
        let boxes = [[60.0, 80.0, 200.0, 180.0], [3.0, 4.0, 90.0, 60.0], [300.0, 250.0, 500.0, 400.0]];
        for (xyxy, label) in boxes.into_iter().flat_map(|b| [(b, "RBC 0.93"), (b, "")]) {
            let mut canvas = Canvas::filled(400, 300, GROUND);
            let sizes = Sizes::of(&canvas);
            let [x1, y1, x2, y2] = xyxy.map(|v: f32| v as i64);
            let line = sizes.line as i64;
            let hole = [x1 + line, y1 + line, x2 - line, y2 - line];
            let plate = if label.is_empty() { [0; 4] } else { plate(&canvas, &sizes, [x1, y1, x2, y2], label, &[]) };
            frame(&mut canvas, &xyxy, 4, label);
            for (x, y) in (0..300).flat_map(|y| (0..400).map(move |x| (x, y))) {
                let on_outline = inside([x1, y1, x2, y2], x, y) && !inside(hole, x, y);
                let expected = on_outline || inside(plate, x, y);
                assert_eq!(canvas.pixel(x, y) != GROUND, expected, "({x}, {y}) of {xyxy:?} {label}");
            }
        }
    }

    #[test]
    fn a_plate_without_room_above_lies_inside_the_picture() {
        let canvas = Canvas::filled(400, 300, GROUND);
        for outline in [[10, 100, 50, 150], [10, 3, 50, 40], [390, 299, 410, 310], [-2, -2, 402, 302]] {
            let [x1, y1, x2, y2] = plate(&canvas, &Sizes::of(&canvas), outline, "WBC 0.50", &[]);
            assert!(x1 >= 0 && y1 >= 0 && x2 <= 400 && y2 <= 300, "{outline:?}");
        }
    }

    #[test]
    fn no_box_panics_and_what_is_outside_draws_nothing() {
        let far = f32::MAX;
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        let cases = [
            ([-20.0, -20.0, 30.0, 30.0], true),
            ([50.0, 40.0, 900.0, 900.0], true),
            ([-far, -far, far, far], false),
            ([-inf, 10.0, inf, 20.0], true),
            ([10.0, 10.0, 10.0, 10.0], true),
            ([0.0, 0.0, 0.0, 0.0], true),
            ([30.0, 30.0, 10.0, 10.0], true),
            ([-50.0, 10.0, -10.0, 30.0], false),
            ([70.0, 10.0, 90.0, 30.0], false),
            ([10.0, 48.0, 20.0, 60.0], false),
            ([nan, 10.0, 20.0, 20.0], false),
        ];
        for (xyxy, drawn) in cases {
            let mut canvas = Canvas::filled(64, 48, GROUND);
            frame(&mut canvas, &xyxy, usize::MAX, "");
            assert_eq!(canvas != Canvas::filled(64, 48, GROUND), drawn, "{xyxy:?}");
            frame(&mut canvas, &xyxy, 0, "a label wider than the picture is");
        }
        for (width, height) in [(0, 0), (1, 1), (5, 1), (0, 4)] {
            frame(&mut Canvas::filled(width, height, GROUND), &[0.0, 0.0, 1.0, 1.0], 0, "x");
        }
    }

    #[test]
    fn plates_avoid_those_placed_before_and_are_drawn_below_them() {
        let at = |class| LabelledFrame { xyxy: [50.0, 50.0, 90.0, 90.0], class, label: "A".into() };
        let mut canvas = Canvas::filled(400, 300, GROUND);
        frames(&mut canvas, &[at(0), at(1), at(2), at(3), at(4)]);
        // Four places are tried: above, inside at the top, inside at the bottom, below. The fifth plate has no free
        // place.
        for (y, class) in [(49, 0), (55, 1), (89, 2), (91, 3)] {
            assert_eq!(canvas.pixel(50, y), class_colour(class), "row {y}");
        }
    }

    #[test]
    fn a_caption_adds_rows_below_and_leaves_the_picture() {
        let mut canvas = Canvas::filled(64, 48, GROUND);
        caption(&mut canvas, &[]);
        assert_eq!(canvas, Canvas::filled(64, 48, GROUND));
        caption(&mut canvas, &["a: b".into(), "no room for this in one row".into()]);
        assert_eq!((canvas.width, canvas.height), (64, 48 + 2 * CAPTION_MARGIN + 4 * font::ROWS));
        assert_eq!(canvas.rgb.len(), canvas.width * canvas.height * 3);
        assert_eq!(canvas.rgb[..64 * 48 * 3], Canvas::filled(64, 48, GROUND).rgb);
        // The strokes of small letters are thinner than a pixel.
        assert!(canvas.rgb[64 * 48 * 3..].iter().any(|v| *v > CAPTION_INK[0] / 2));
        caption(&mut Canvas::filled(0, 0, GROUND), &["abc".into()]);
    }

    #[test]
    fn wrapping_loses_no_word() {
        // The width fits exactly the first row.
        let cases: [(&str, &[&str]); 7] = [
            ("", &[""]),
            ("one two", &["one two"]),
            ("one two", &["one", "two"]),
            ("aaaaaaa", &["aaa", "aaa", "a"]),
            ("кошка и", &["кошка", "и"]),
            ("猫猫", &["猫", "猫"]),
            (" ab", &[" ", "a", "b"]),
        ];
        for (line, rows) in cases {
            let width = font::text_width(rows[0], 2);
            assert_eq!(wrapped(line, 2, width), rows, "{line:?} in {width}");
        }
        assert_eq!(wrapped("猫 a", 1, 0), ["猫", "a"]);
    }

    #[test]
    fn ink_is_readable_on_every_class_colour() {
        let luminance = |c: Rgb| {
            let [r, g, b] = c.map(|v| (f32::from(v) / 255.0).powf(2.2));
            0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05
        };
        for ground in PALETTE {
            let (a, b) = (luminance(ground), luminance(ink_on(ground)));
            // WCAG 2.1 requires 4.5 for body text.
            assert!(a.max(b) / a.min(b) >= 4.5, "{ground:?}");
        }
        assert_eq!(HashSet::from(PALETTE).len(), PALETTE.len());
        assert_eq!(class_colour(13), class_colour(3));
    }
}
