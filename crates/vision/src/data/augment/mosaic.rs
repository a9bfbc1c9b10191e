//! Mosaic: four pictures around a point of the canvas, each extending beyond the canvas's border (Bochkovskiy 2020).

use crate::data::images::Image;
use crate::data::random::Random;
use crate::geometry::Geometry;
use crate::tasks::Label;

/// The smallest and largest longer side of a picture, relative to the canvas.
const SCALES: [f32; 2] = [0.5, 1.0];

/// Places four pictures at the top left, top right, bottom left and bottom right of a random point in the canvas's
/// middle half; each touches the point with a corner. Parts beyond the border are cut off.
pub fn places(images: [&Image; 4], size: usize, flip: bool, random: &mut Random) -> [Geometry; 4] {
    let centre = [(); 2].map(|()| (size / 4 + random.below(size / 2 + 1)) as f32);
    let mut quarter = 0;
    images.map(|image| {
        let scale = size as f32 / image.width.max(image.height) as f32 * random.between(SCALES[0], SCALES[1]);
        // Rounds to whole pixels, so that tiles meet without a seam; the scale is adjusted to match.
        let side = |length: usize| ((length as f32 * scale).round() as usize).clamp(1, size) as f32;
        let sides = [side(image.width), side(image.height)];
        let before = [quarter % 2 == 0, quarter < 2];
        quarter += 1;
        let offset = |axis: usize| if before[axis] { centre[axis] - sides[axis] } else { centre[axis] };
        Geometry {
            source: [image.width, image.height],
            size,
            scale: [sides[0] / image.width as f32, sides[1] / image.height as f32],
            offset: [offset(0), offset(1)],
            flip,
        }
    })
}

/// Joins the labels of four pictures. All have the same tasks, and their labels can be joined.
pub fn join(labels: [Vec<Label>; 4]) -> Vec<Label> {
    let [first, rest @ ..] = labels;
    let joined = |(task, label): (usize, &Label)| {
        let others: Vec<&Label> = rest.iter().filter_map(|labels| labels.get(task)).collect();
        label.joined(&others)
    };
    first.iter().enumerate().map(joined).collect()
}
