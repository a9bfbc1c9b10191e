//! Single-precision numbers as JSON, with the digits a person would write.

use crate::boxes::Xyxy;
use serde_json::Value;

/// Writes 0.1 rather than 0.10000000149011612, and whole numbers without a decimal point.
pub fn written_number(value: f32) -> Value {
    match value.fract() == 0.0 && value.abs() < 1e7 {
        true => (value as i64).into(),
        false => digits(value).into(),
    }
}

/// A box as left, top, width, height.
pub fn written_xywh(&[x1, y1, x2, y2]: &Xyxy) -> [Value; 4] {
    [x1, y1, side(x1, x2), side(y1, y2)].map(written_number)
}

/// The number a person would write for `value`.
fn digits(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// The side length that gives exactly `to` when added to `from` in single precision, if there is one.
fn side(from: f32, to: f32) -> f32 {
    let side = to - from;
    let written = (digits(to) - digits(from)) as f32;
    [written, side, side.next_up(), side.next_down()].into_iter().find(|side| from + side == to).unwrap_or(side)
}
