//! Finds pictures that occur more than once, within a split and across splits.

use super::pixels::Seen;
use super::{Problem, ProblemKind};
use crate::data::dataset::Sample;
use crate::data::declaration::Split;

/// Groups of images with the same pixels, as indices in the order of the data set. Unreadable images are in no group.
pub fn groups(seen: &[Result<Seen, String>]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..seen.len()).filter(|i| seen[*i].is_ok()).collect();
    let content = |i: &usize| seen[*i].as_ref().map_or((0, 0, 0), |s| (s.content, s.width, s.height));
    order.sort_by_key(content);
    let alike = order.chunk_by(|a, b| content(a) == content(b)).filter(|group| group.len() > 1);
    let mut groups: Vec<Vec<usize>> = alike.map(<[usize]>::to_vec).collect();
    groups.sort_unstable();
    groups
}

/// A problem for each repeated image. It is a leak if one copy is in the training split and the other evaluates.
pub fn repeated(samples: &[(Split, &Sample)], seen: &[Result<Seen, String>]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for group in groups(seen) {
        let (split, first) = samples[group[0]];
        for &again in &group[1..] {
            let (other, sample) = samples[again];
            let labels = if sample.labels == first.labels { "" } else { ", with other labels" };
            let message = format!("the same picture as {} of {}{labels}", first.name, split.word());
            let leaks = split == Split::Train && other != Split::Train;
            let kind = if leaks { ProblemKind::Leak } else { ProblemKind::Duplicate };
            problems.push(Problem { kind, file: sample.image.clone(), line: None, message });
        }
    }
    problems
}
