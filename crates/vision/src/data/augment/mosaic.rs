//! Mosaic: four pictures around a point of the canvas, each running out over the canvas's border (Bochkovskiy 2020).

use crate::data::images::Image;
use crate::data::random::Random;
use crate::geometry::Geometry;
use crate::tasks::Label;

/// The smallest and largest a picture's longer side is drawn, in canvases.
const SCALES: [f32; 2] = [0.5, 1.0];

/// Where four pictures lie: top left, top right, bottom left, bottom right of a point in the canvas's middle half, which each
/// touches with a corner. What runs out over the border is cut off.
pub fn places(images: [&Image; 4], size: usize, flip: bool, random: &mut Random) -> [Geometry; 4] {
    let centre = [(); 2].map(|()| (size / 4 + random.below(size / 2 + 1)) as f32);
    let mut quarter = 0;
    images.map(|image| {
        let scale = size as f32 / image.width.max(image.height) as f32 * random.between(SCALES[0], SCALES[1]);
        // Whole pixels, so that tiles meet without a seam; the true scale follows.
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

/// The four pictures' labels as one picture's. They are of the same tasks, whose labels all join.
pub fn join(labels: [Vec<Label>; 4]) -> Vec<Label> {
    let [first, rest @ ..] = labels;
    let joined = |(task, label): (usize, &Label)| {
        let others: Vec<&Label> = rest.iter().filter_map(|labels| labels.get(task)).collect();
        label.joined(&others)
    };
    first.iter().enumerate().map(joined).collect()
}
