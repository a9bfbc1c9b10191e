//! Decides which transformations an image may undergo, from the tasks it is labelled for.

use super::transforms::Transforms;
use crate::data::dataset::Sample;
use crate::reading::list_some;
use crate::tasks::{Invariances, Label, Task};

/// The transformations that an image may undergo: they do not change the label of any task it is labelled for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Allowed {
    pub mosaic: bool,
    pub mixup: bool,
    /// Rotation, shift and erasing: objects may become hidden.
    pub hiding: bool,
    /// Shear and tilt.
    pub reshaping: bool,
}

impl Allowed {
    /// The transformations allowed by one task.
    fn by(invariances: &Invariances) -> Allowed {
        Allowed {
            mosaic: invariances.joining && invariances.crop && invariances.scale,
            mixup: invariances.mixing,
            hiding: invariances.crop,
            reshaping: invariances.crop && invariances.scale,
        }
    }

    pub fn of(labels: &[Label], invariances: &[Invariances]) -> Allowed {
        let mut allowed = Allowed { mosaic: false, mixup: false, hiding: true, reshaping: true };
        let mut first = true;
        for (_, invariances) in labels.iter().zip(invariances).filter(|(label, _)| label.is_labelled()) {
            let of_task = Allowed::by(invariances);
            // An image without labels has nothing to join or mix.
            allowed.mosaic = (first || allowed.mosaic) && of_task.mosaic;
            allowed.mixup = (first || allowed.mixup) && of_task.mixup;
            allowed.hiding &= of_task.hiding;
            allowed.reshaping &= of_task.reshaping;
            first = false;
        }
        allowed
    }
}

/// Notes about the flags that do not apply to some of the images.
pub fn remarks(
    transforms: &Transforms,
    tasks: &[Task],
    invariances: &[Invariances],
    samples: &[Sample],
) -> Vec<String> {
    type Rule = fn(&Allowed) -> bool;
    let t = transforms;
    let rules: [(bool, &str, Rule, &str); 6] = [
        (t.mosaic > 0.0, "--mosaic", |a| a.mosaic, "it only joins boxes, of tasks that allow crops"),
        (t.mixup > 0.0, "--mixup", |a| a.mixup, "it only mixes labels of one class per image"),
        (t.degrees > 0.0, "--degrees", |a| a.hiding, CROPS),
        (t.translate > 0.0, "--translate", |a| a.hiding, CROPS),
        (t.shear > 0.0 || t.perspective > 0.0, "--shear and --perspective", |a| a.reshaping, RESHAPES),
        (t.erasing > 0.0, "--erasing", |a| a.hiding, CROPS),
    ];
    let mut remarks = Vec::new();
    for (_, flag, allows, why) in rules.into_iter().filter(|rule| rule.0) {
        let labelled = |s: &&Sample| s.labels.iter().any(Label::is_labelled);
        let kept = |s: &&Sample| !allows(&Allowed::of(&s.labels, invariances));
        let skipped: Vec<&Sample> = samples.iter().filter(labelled).filter(kept).collect();
        if skipped.is_empty() {
            continue;
        }
        let forbids =
            |i: &usize| !allows(&Allowed::by(&invariances[*i])) && skipped.iter().any(|s| s.labels[*i].is_labelled());
        let names: Vec<&str> = (0..tasks.len()).filter(forbids).map(|i| tasks[i].name.as_str()).collect();
        let (count, all) = (skipped.len(), samples.len());
        let names = list_some(&names, 6);
        remarks.push(format!("{flag} skips {count} of {all} training images, labelled for {names}: {why}"));
    }
    remarks
}

const CROPS: &str = "it may hide what the labels describe (`crop_safe: true` in data.yaml allows it)";
const RESHAPES: &str = "they may hide or reshape what the labels describe (`crop_safe: true` and `scale_invariant: true` in data.yaml allow it)";
