//! A bitmap font of printable ASCII, drawn here as a picture of itself, and text in whole multiples of its size.
//! Not here: where text goes and in which colour.

use super::{Canvas, Rgb};

/// From one character to the next, before scaling: five columns of glyph and one of space.
pub const ADVANCE: usize = 6;
/// Seven rows above the baseline and two for descenders, before scaling.
pub const ROWS: usize = 9;

const GLYPHS_PER_BLOCK: usize = 16;

/// Characters 32 to 127 in six blocks of sixteen. The last, 127, is the box that stands for everything without a glyph.
const GLYPHS: [[&str; ROWS]; 6] = [
    [
        "..... ..#.. .#.#. .#.#. ..#.. ##... .##.. ..#.. ...#. .#... ..... ..... ..... ..... ..... ....#",
        "..... ..#.. .#.#. .#.#. .#### ##..# #..#. ..#.. ..#.. ..#.. ..#.. ..#.. ..... ..... ..... ....#",
        "..... ..#.. .#.#. ##### #.#.. ...#. #.#.. ..#.. .#... ...#. #.#.# ..#.. ..... ..... ..... ...#.",
        "..... ..#.. ..... .#.#. .###. ..#.. .#... ..... .#... ...#. .###. ##### ..... ##### ..... ..#..",
        "..... ..#.. ..... ##### ..#.# .#... #.#.# ..... .#... ...#. #.#.# ..#.. ..... ..... ..... .#...",
        "..... ..... ..... .#.#. ####. #..## #..#. ..... ..#.. ..#.. ..#.. ..#.. .##.. ..... .##.. #....",
        "..... ..#.. ..... .#.#. ..#.. ...## .##.# ..... ...#. .#... ..... ..... .##.. ..... .##.. #....",
        "..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..#.. ..... ..... .....",
        "..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... .#... ..... ..... .....",
    ],
    [
        ".###. ..#.. .###. ##### ...#. ##### ..##. ##### .###. .###. ..... ..... ...#. ..... .#... .###.",
        "#...# .##.. #...# ...#. ..##. #.... .#... ....# #...# #...# ..... ..... ..#.. ..... ..#.. #...#",
        "#..## ..#.. ....# ..#.. .#.#. ####. #.... ...#. #...# #...# .##.. .##.. .#... ##### ...#. ....#",
        "#.#.# ..#.. ...#. ...#. #..#. ....# ####. ..#.. .###. .#### .##.. .##.. #.... ..... ....# ...#.",
        "##..# ..#.. ..#.. ....# ##### ....# #...# .#... #...# ....# ..... ..... .#... ##### ...#. ..#..",
        "#...# ..#.. .#... #...# ...#. #...# #...# .#... #...# ...#. .##.. .##.. ..#.. ..... ..#.. .....",
        ".###. .###. ##### .###. ...#. .###. .###. .#... .###. .##.. .##.. .##.. ...#. ..... .#... ..#..",
        "..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..#.. ..... ..... ..... .....",
        "..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... .#... ..... ..... ..... .....",
    ],
    [
        ".###. .###. ####. .###. ###.. ##### ##### .###. #...# .###. ..### #...# #.... #...# #...# .###.",
        "#...# #...# #...# #...# #..#. #.... #.... #...# #...# ..#.. ...#. #..#. #.... ##.## #...# #...#",
        "#.### #...# #...# #.... #...# #.... #.... #.... #...# ..#.. ...#. #.#.. #.... #.#.# ##..# #...#",
        "#.#.# #...# ####. #.... #...# ####. ####. #.### ##### ..#.. ...#. ##... #.... #.#.# #.#.# #...#",
        "#.### ##### #...# #.... #...# #.... #.... #...# #...# ..#.. ...#. #.#.. #.... #...# #..## #...#",
        "#.... #...# #...# #...# #..#. #.... #.... #...# #...# ..#.. #..#. #..#. #.... #...# #...# #...#",
        ".###. #...# ####. .###. ###.. ##### #.... .#### #...# .###. .##.. #...# ##### #...# #...# .###.",
        "..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... .....",
        "..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... .....",
    ],
    [
        "####. .###. ####. .#### ##### #...# #...# #...# #...# #...# ##### .###. #.... .###. ..#.. .....",
        "#...# #...# #...# #.... ..#.. #...# #...# #...# #...# #...# ....# .#... #.... ...#. .#.#. .....",
        "#...# #...# #...# #.... ..#.. #...# #...# #...# .#.#. #...# ...#. .#... .#... ...#. #...# .....",
        "####. #...# ####. .###. ..#.. #...# #...# #.#.# ..#.. .#.#. ..#.. .#... ..#.. ...#. ..... .....",
        "#.... #.#.# #.#.. ....# ..#.. #...# #...# #.#.# .#.#. ..#.. .#... .#... ...#. ...#. ..... .....",
        "#.... #..#. #..#. ....# ..#.. #...# .#.#. #.#.# #...# ..#.. #.... .#... ....# ...#. ..... .....",
        "#.... .##.# #...# ####. ..#.. .###. ..#.. .#.#. #...# ..#.. ##### .###. ....# .###. ..... .....",
        "..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... #####",
        "..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... .....",
    ],
    [
        ".#... ..... #.... ..... ....# ..... ..##. ..... #.... ..#.. ...#. #.... .##.. ..... ..... .....",
        "..#.. ..... #.... ..... ....# ..... .#..# ..... #.... ..... ..... #.... ..#.. ..... ..... .....",
        "...#. .###. #.##. .###. .##.# .###. .#... .#### #.##. .##.. ..##. #..#. ..#.. ##.#. #.##. .###.",
        "..... ....# ##..# #...# #..## #...# ###.. #...# ##..# ..#.. ...#. #.#.. ..#.. #.#.# ##..# #...#",
        "..... .#### #...# #.... #...# ##### .#... #...# #...# ..#.. ...#. ##... ..#.. #.#.# #...# #...#",
        "..... #...# #...# #...# #...# #.... .#... #...# #...# ..#.. ...#. #.#.. ..#.. #.#.# #...# #...#",
        "..... .#### ####. .###. .#### .###. .#... .#### #...# .###. ...#. #..#. .###. #.#.# #...# .###.",
        "..... ..... ..... ..... ..... ..... ..... ....# ..... ..... #..#. ..... ..... ..... ..... .....",
        "..... ..... ..... ..... ..... ..... ..... .###. ..... ..... .##.. ..... ..... ..... ..... .....",
    ],
    [
        "..... ..... ..... ..... .#... ..... ..... ..... ..... ..... ..... ...#. ..#.. .#... ..... #####",
        "..... ..... ..... ..... .#... ..... ..... ..... ..... ..... ..... ..#.. ..#.. ..#.. ..... #...#",
        "####. .#### #.##. .#### ###.. #...# #...# #...# #...# #...# ##### ..#.. ..#.. ..#.. .#... #...#",
        "#...# #...# ##..# #.... .#... #...# #...# #...# .#.#. #...# ...#. .#... ..#.. ...#. #.#.# #...#",
        "#...# #...# #.... .###. .#... #...# #...# #.#.# ..#.. #...# ..#.. ..#.. ..#.. ..#.. ...#. #...#",
        "#...# #...# #.... ....# .#..# #..## .#.#. #.#.# .#.#. #...# .#... ..#.. ..#.. ..#.. ..... #...#",
        "####. .#### #.... ####. ..##. .##.# ..#.. .#.#. #...# .#### ##### ...#. ..#.. .#... ..... #####",
        "#.... ....# ..... ..... ..... ..... ..... ..... ..... ....# ..... ..... ..#.. ..... ..... .....",
        "#.... ....# ..... ..... ..... ..... ..... ..... ..... .###. ..... ..... ..... ..... ..... .....",
    ],
];

/// Draws one line of text, its cell's top left corner at `(x, y)`; what falls outside the canvas is cut off.
///
/// Units: canvas pixels; a glyph's dot is `scale` pixels wide and high.
pub fn text(canvas: &mut Canvas, [x, y]: [i64; 2], scale: usize, colour: Rgb, line: &str) {
    let dot = scale as i64;
    for [along, row] in dots(line) {
        let (left, top) = (x + along * dot, y + row * dot);
        canvas.fill([left, top, left + dot, top + dot], colour);
    }
}

/// As [`text`], turned so that it reads from bottom to top: its cell's bottom left corner at `(x, y)`.
pub fn text_upwards(canvas: &mut Canvas, [x, y]: [i64; 2], scale: usize, colour: Rgb, line: &str) {
    let dot = scale as i64;
    for [along, row] in dots(line) {
        let (left, bottom) = (x + row * dot, y - along * dot);
        canvas.fill([left, bottom - dot, left + dot, bottom], colour);
    }
}

/// The dots of a line that are lit: how far along it, and in which row.
fn dots(line: &str) -> impl Iterator<Item = [i64; 2]> {
    line.chars().enumerate().flat_map(|(position, character)| {
        let cell = (0..ROWS).flat_map(|row| (0..ADVANCE - 1).map(move |column| (row, column)));
        let lit = cell.filter(move |&(row, column)| is_lit(character, row, column));
        lit.map(move |(row, column)| [(position * ADVANCE + column) as i64, row as i64])
    })
}

/// How many pixels `line` takes from its first dot to the space behind its last.
pub fn text_width(line: &str, scale: usize) -> usize {
    line.chars().count() * ADVANCE * scale
}

fn is_lit(character: char, row: usize, column: usize) -> bool {
    let code = if (' '..='~').contains(&character) { character as usize } else { 127 };
    let (block, place) = ((code - 32) / GLYPHS_PER_BLOCK, (code - 32) % GLYPHS_PER_BLOCK);
    GLYPHS[block][row].as_bytes()[place * ADVANCE + column] == b'#'
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn glyph_of(character: char) -> Vec<bool> {
        (0..ROWS * (ADVANCE - 1)).map(|i| is_lit(character, i / (ADVANCE - 1), i % (ADVANCE - 1))).collect()
    }

    #[test]
    fn the_table_is_whole() {
        for line in GLYPHS.iter().flatten() {
            assert_eq!(line.len(), GLYPHS_PER_BLOCK * ADVANCE - 1);
            for (i, byte) in line.bytes().enumerate() {
                let expected: &[u8] = if i % ADVANCE == ADVANCE - 1 { b" " } else { b"#." };
                assert!(expected.contains(&byte), "column {i} of {line}");
            }
        }
    }

    #[test]
    fn every_glyph_is_distinct_and_only_space_is_empty() {
        let mut seen = HashMap::new();
        for character in (32u8..=127).map(char::from) {
            let glyph = glyph_of(character);
            assert_eq!(glyph.iter().all(|&lit| !lit), character == ' ', "{character:?}");
            if let Some(other) = seen.insert(glyph, character) {
                panic!("{other:?} and {character:?} look the same");
            }
        }
    }

    #[test]
    fn what_has_no_glyph_is_a_box() {
        for character in ['é', '細', '\n', '\u{7f}'] {
            assert_eq!(glyph_of(character), glyph_of('\u{7f}'), "{character:?}");
        }
    }

    #[test]
    fn text_upwards_is_text_turned() {
        let (length, height) = (text_width("Ly", 2), ROWS * 2);
        let mut across = Canvas::filled(length, height, [0; 3]);
        text(&mut across, [0, 0], 2, [255; 3], "Ly");
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
            text(&mut Canvas::filled(16, 16, [0; 3]), corner, 3, [255; 3], "Wg@");
            text_upwards(&mut Canvas::filled(16, 16, [0; 3]), corner, 3, [255; 3], "Wg@");
        }
    }
}
