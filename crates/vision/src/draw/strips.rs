//! A strip plot: one row per group with its values along a common axis, so that groups can be compared. The caller
//! chooses the data.

use super::plot::{
    DEEP, DIAGONAL, FAINT, GROUND, INK, LINE, LONGEST_NAME, LONGEST_TITLE, MARGIN, TEXT, cut, line_around, range,
    signed, ticks,
};
use super::{Canvas, font};

/// The length of the axis in pixels.
const AXIS: usize = 480;
const ROW: usize = 36;
/// A point's radius and opacity.
const RADIUS: f32 = 5.0;
const OPACITY: f32 = 0.55;
/// Half the size of the bar at the mean, along and across the axis.
const BAR: [usize; 2] = [1, 12];

/// One group with its name and values.
#[derive(Clone, Debug, PartialEq)]
pub struct Strip {
    /// The text beside the row.
    pub label: String,
    /// One point each; NaN values are left out.
    pub values: Vec<f64>,
}

impl Strip {
    fn known(&self) -> impl Iterator<Item = f64> {
        self.values.iter().copied().filter(|value| value.is_finite())
    }

    fn mean(&self) -> Option<f64> {
        let count = self.known().count();
        (count > 0).then(|| self.known().sum::<f64>() / count as f64)
    }
}

/// A panel with one row per group: a point per value, and a bar at the mean, which is also printed beside the row. A
/// thin line through all rows marks the mean of group `reference`.
pub fn strips(title: &str, axis: &str, groups: &[Strip], reference: Option<usize>) -> Canvas {
    let (low, high) = range(groups.iter().flat_map(Strip::known));
    let ticks = ticks(low, high);
    let labels: Vec<String> = groups.iter().map(|group| cut(&group.label, LONGEST_NAME)).collect();
    let means: Vec<String> =
        groups.iter().map(|group| group.mean().map_or("–".into(), |mean| format!("{mean:.3}"))).collect();
    let widest = |texts: &[String]| texts.iter().map(|text| font::text_width(text, TEXT)).max().unwrap_or(0);
    let title = &cut(title, LONGEST_TITLE);
    let (left, top, height) = (2 * MARGIN + widest(&labels), 2 * MARGIN + LINE, groups.len() * ROW);
    let width = (left + AXIS + 2 * MARGIN + widest(&means)).max(2 * MARGIN + font::text_width(title, TEXT));
    let mut canvas = Canvas::filled(width + MARGIN, top + height + 2 * LINE + 2 * MARGIN, GROUND);
    font::text(&mut canvas, signed([MARGIN; 2]), TEXT, INK, title);
    let along = |value: f64| left + ((value - low) / (high - low) * AXIS as f64).round() as usize;
    let below = top + height;
    let apart = ticks.windows(2).map(|pair| along(pair[1].0) - along(pair[0].0)).min().unwrap_or(AXIS);
    let texts: Vec<String> = ticks.iter().map(|tick| tick.1.clone()).collect();
    // Wide labels would overlap, so only every n-th tick gets one.
    let every = (widest(&texts) + MARGIN).div_ceil(apart.max(1)).max(1);
    for (number, (value, text)) in ticks.iter().enumerate() {
        let x = along(*value);
        fill(&mut canvas, [x, top, x + 1, below], FAINT);
        if number % every == 0 {
            let corner = [x.saturating_sub(font::text_width(text, TEXT) / 2), below + MARGIN / 2];
            font::text(&mut canvas, signed(corner), TEXT, INK, text);
        }
    }
    fill(&mut canvas, [left, below, left + AXIS + 1, below + 1], INK);
    let middle = left + AXIS.saturating_sub(font::text_width(axis, TEXT)) / 2;
    font::text(&mut canvas, signed([middle, below + MARGIN / 2 + LINE]), TEXT, INK, axis);
    if let Some(mean) = reference.and_then(|index| groups.get(index)).and_then(Strip::mean) {
        let x = along(mean);
        fill(&mut canvas, [x, top, x + 1, below], DIAGONAL);
    }
    for (row, ((group, label), mean)) in groups.iter().zip(&labels).zip(&means).enumerate() {
        let y = top + row * ROW + ROW / 2;
        let line = line_around(y, TEXT);
        let before = (left - MARGIN / 2 - font::text_width(label, TEXT)) as i64;
        font::text(&mut canvas, [before, line], TEXT, INK, label);
        font::text(&mut canvas, [(left + AXIS + MARGIN) as i64, line], TEXT, INK, mean);
        group.known().for_each(|value| point(&mut canvas, [along(value), y]));
        if let Some(mean) = group.mean() {
            let x = along(mean);
            fill(&mut canvas, [x - BAR[0], y - BAR[1], x + BAR[0] + 1, y + BAR[1]], DIAGONAL);
        }
    }
    canvas
}

fn fill(canvas: &mut Canvas, corners: [usize; 4], colour: super::Rgb) {
    canvas.fill(corners.map(|v| v as i64), colour);
}

/// A disc with a soft edge.
fn point(canvas: &mut Canvas, centre: [usize; 2]) {
    let ([x, y], reach) = (signed(centre), RADIUS as i64 + 1);
    for dy in -reach..=reach {
        for dx in -reach..=reach {
            let cover = (RADIUS + 0.5 - (dx as f32).hypot(dy as f32)).clamp(0.0, 1.0);
            canvas.blend([x + dx, y + dy], DEEP, cover * OPACITY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(label: &str, values: &[f64]) -> Strip {
        Strip { label: label.into(), values: values.to_vec() }
    }

    /// The columns in which two pictures differ within the row of one group.
    fn differing(a: &Canvas, b: &Canvas, row: usize) -> Vec<usize> {
        let top = 2 * MARGIN + LINE + row * ROW;
        (0..a.width).filter(|&x| (top..top + ROW).any(|y| a.pixel(x, y) != b.pixel(x, y))).collect()
    }

    #[test]
    fn a_point_lies_where_its_value_says_in_its_groups_row() {
        let base = [group("one", &[0.0, 1.0]), group("two", &[0.0, 1.0])];
        let more = [base[0].clone(), group("two", &[0.0, 1.0, 0.5])];
        let [a, b] = [&base, &more].map(|groups| strips("task", "AP", groups, Some(0)));
        assert!(differing(&a, &b, 0).is_empty());
        let columns = differing(&a, &b, 1);
        // The mean does not change: the only difference is the new point, in the middle of the axis.
        assert!(columns.len() <= 2 * RADIUS as usize + 2, "{columns:?}");
        let left = 2 * MARGIN + font::text_width("one", TEXT).max(font::text_width("two", TEXT));
        assert!(columns.iter().all(|x| x.abs_diff(left + AXIS / 2) <= RADIUS as usize + 1), "{columns:?}");
    }

    #[test]
    fn any_groups_make_a_picture_of_bounded_width() {
        for values in [vec![], vec![f64::NAN], vec![3.0], vec![-1e300, 1e300], vec![1e-12, 2e-12]] {
            for count in [0, 1, 30] {
                let groups: Vec<Strip> =
                    (0..count).map(|i| group(&format!("{} {i}", "long name".repeat(9)), &values)).collect();
                let canvas = strips(&"title".repeat(99), "metric", &groups, Some(0));
                assert!(canvas.width < 1300 && canvas.height >= count * ROW, "{values:?}: {}", canvas.width);
            }
        }
    }
}
