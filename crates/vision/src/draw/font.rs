//! Text in DejaVu Sans, whose licence is next to this file. A character that the font lacks is written as its code
//! point. The caller chooses position and colour.

use super::{Canvas, Rgb};
use ab_glyph::{Font, FontRef, Glyph, Point, PxScaleFont, ScaleFont};

/// Sizes are whole steps. One step is ten pixels of the font's em square, which makes capitals seven pixels high.
const EM: usize = 10;
/// The height of a line per step of size. It leaves room for accents on capitals and for descenders, and centres the
/// capitals.
pub const ROWS: usize = 13;
/// The height from the top of capitals to the bottom of descenders, per step of size.
pub const TIGHT_ROWS: usize = 9;
/// The distance from the top of a line down to the baseline, per step of size.
const BASELINE: usize = 10;

/// Draws `line` with the top left corner of its cell at `(x, y)`. Parts outside the canvas are cut off.
pub fn text(canvas: &mut Canvas, [x, y]: [i64; 2], scale: usize, colour: Rgb, line: &str) {
    let ink = Ink::of(line, scale);
    for (along, row, share) in ink.dots() {
        canvas.blend([x + along, y + row], colour, share);
    }
}

/// Draws like [`text`], but from bottom to top, with the bottom left corner of the cell at `(x, y)`.
pub fn text_upwards(canvas: &mut Canvas, [x, y]: [i64; 2], scale: usize, colour: Rgb, line: &str) {
    let ink = Ink::of(line, scale);
    for (along, row, share) in ink.dots() {
        canvas.blend([x + row, y - 1 - along], colour, share);
    }
}

/// The width of the line's cell in pixels.
pub fn text_width(line: &str, scale: usize) -> usize {
    let font = font(scale);
    advance(&font, line.chars()).ceil() as usize
}

/// The number of leading characters of `line` that fit into `width` pixels.
pub fn fitting(line: &str, scale: usize, width: usize) -> usize {
    let font = font(scale);
    let mut end = 0.0;
    let fits = |c: &char| {
        end += advance(&font, std::iter::once(*c));
        end <= width as f32
    };
    line.chars().take_while(fits).count()
}

type Sized = PxScaleFont<FontRef<'static>>;

fn font(scale: usize) -> Sized {
    let file = dejavu::sans::regular();
    let font = FontRef::try_from_slice(file).expect("the font is part of the program");
    // ab_glyph measures height from ascender to descender.
    let em = font.units_per_em().expect("DejaVu states its em");
    let height = (EM * scale) as f32 * font.height_unscaled() / em;
    font.into_scaled(height)
}

fn advance(font: &Sized, characters: impl Iterator<Item = char>) -> f32 {
    characters.flat_map(|c| shown(font, c)).map(|c| font.h_advance(font.glyph_id(c))).sum()
}

/// The character itself if it has an outline or is a space; otherwise its code point, so that different names look
/// different.
fn shown(font: &Sized, character: char) -> Vec<char> {
    let glyph = font.glyph_id(character);
    let is_drawn = glyph.0 != 0 && font.font.outline(glyph).is_some_and(|outline| !outline.curves.is_empty());
    match character == ' ' || is_drawn {
        true => vec![character],
        false => format!("<U+{:04X}>", u32::from(character)).chars().collect(),
    }
}

/// The share of ink in each pixel of a line's cell.
struct Ink {
    width: usize,
    /// `[ROWS * scale, width]`, each from 0 to 1
    shares: Vec<f32>,
}

impl Ink {
    fn of(line: &str, scale: usize) -> Self {
        let font = font(scale);
        let (width, height) = (text_width(line, scale), ROWS * scale);
        let mut shares = vec![0.0f32; width * height];
        let mut x = 0.0;
        for character in line.chars().flat_map(|c| shown(&font, c)) {
            let id = font.glyph_id(character);
            let position = Point { x, y: (BASELINE * scale) as f32 };
            let glyph = Glyph { id, scale: font.scale(), position };
            x += font.h_advance(id);
            let Some(outline) = font.outline_glyph(glyph) else { continue };
            let corner = outline.px_bounds().min;
            outline.draw(|column, row, share| {
                let [x, y] = [corner.x as i64 + i64::from(column), corner.y as i64 + i64::from(row)];
                // A few marks, such as stacked accents, reach outside the cell and are cut off.
                if (0..width as i64).contains(&x) && (0..height as i64).contains(&y) {
                    let sum = &mut shares[y as usize * width + x as usize];
                    *sum = (*sum + share).min(1.0);
                }
            });
        }
        Ink { width, shares }
    }

    /// The pixels with ink: column, row, and the share of the pixel that is covered.
    fn dots(&self) -> impl Iterator<Item = (i64, i64, f32)> {
        let inked = self.shares.iter().enumerate().filter(|(_, share)| **share > 0.0);
        inked.map(|(at, share)| ((at % self.width) as i64, (at / self.width) as i64, *share))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn drawn(line: &str, scale: usize) -> Canvas {
        let mut canvas = Canvas::filled(text_width(line, scale), ROWS * scale, [0; 3]);
        text(&mut canvas, [0, 0], scale, [255; 3], line);
        canvas
    }

    #[test]
    fn every_character_looks_different_and_only_space_is_empty() {
        let latin = (' '..='~').chain('\u{a0}'..='\u{17f}');
        let others = "ΔΘΛΞΣΨΩαβγδεζηθιλξπρςστυφχψωБГДЖЗИЙЛПУФЦЧШЩЪЫЬЭЮЯбвгджзийлмнптфцчшщъыьэюя";
        // In any font, several characters share one shape.
        let alike = ['\u{ad}', 'Đ'];
        let unknown = "細猫犬🐈\n\t\0\u{7f}\u{200b}\u{fffd}\u{10ffff}";
        let mut seen = HashMap::new();
        for character in latin.chain(others.chars()).chain(unknown.chars()).filter(|c| !alike.contains(c)) {
            let canvas = drawn(&character.to_string(), 2);
            assert_eq!(canvas.rgb.iter().all(|v| *v == 0), character == ' ', "{character:?}");
            if let Some(other) = seen.insert(canvas.rgb, character) {
                panic!("{other:?} and {character:?} look the same");
            }
        }
    }

    #[test]
    fn what_has_no_glyph_is_written_as_its_code_point() {
        for (line, as_if) in [("a猫", "a<U+732B>"), ("\n", "<U+000A>"), ("🐈", "<U+1F408>"), ("a\u{200b}", "a<U+200B>")]
        {
            assert_eq!(drawn(line, 2), drawn(as_if, 2), "{line:?}");
        }
    }

    #[test]
    fn letters_lie_inside_their_cell_and_on_the_baseline() {
        for scale in 1..5 {
            let canvas = drawn("H", scale);
            let rows: Vec<usize> =
                (0..canvas.height).filter(|&y| (0..canvas.width).any(|x| canvas.pixel(x, y)[0] > 127)).collect();
            let [top, bottom] = [(ROWS - BASELINE) * scale, BASELINE * scale];
            assert!(rows[0].abs_diff(top) <= 1 && rows.last() == Some(&(bottom - 1)), "{scale}: {rows:?}");
        }
        let accents = drawn("ÅÉg", 3);
        let lowest = |y: usize| (0..accents.width).map(|x| accents.pixel(x, y)[0]).max();
        assert_eq!((lowest(0), lowest(ROWS * 3 - 1)), (Some(0), Some(0)));
    }

    #[test]
    fn what_fits_is_no_wider_than_the_room() {
        let line = "Ελλάδα 猫 WWW";
        for width in 0..200 {
            let count = fitting(line, 1, width);
            let head = |count| line.chars().take(count).collect::<String>();
            assert!(text_width(&head(count), 1) <= width);
            assert!(count == line.chars().count() || text_width(&head(count + 1), 1) > width);
        }
    }

    #[test]
    fn text_upwards_is_text_turned() {
        let across = drawn("Ly", 2);
        let (length, height) = (across.width, across.height);
        let mut up = Canvas::filled(height, length, [0; 3]);
        text_upwards(&mut up, [0, length as i64], 2, [255; 3], "Ly");
        for y in 0..height {
            for x in 0..length {
                assert_eq!(across.pixel(x, y), up.pixel(y, length - 1 - x), "{x}, {y}");
            }
        }
    }

    #[test]
    fn text_is_cut_off_at_every_side() {
        for corner in [[-9, -9], [-3, 15], [15, -3], [15, 15], [i64::from(i32::MIN), 0], [0, i64::from(i32::MAX)]] {
            for line in ["Wg@", "Ǖ猫", ""] {
                text(&mut Canvas::filled(16, 16, [0; 3]), corner, 3, [255; 3], line);
                text_upwards(&mut Canvas::filled(16, 16, [0; 3]), corner, 3, [255; 3], line);
            }
        }
    }
}
