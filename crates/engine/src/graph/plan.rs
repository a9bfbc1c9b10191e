//! Divides a graph's nodes, which are in running order, into segments and places their values in one arena. Two values share
//! bytes only if they are never alive at once.

use crate::ir::{Graph, Node, Place, Segment, ValueId};

/// Every buffer starts at a multiple of this many bytes: a cache line, and the widest vector.
pub const ALIGNMENT: usize = 64;

/// Where each arena value lies and which nodes each segment runs.
#[derive(Debug)]
pub struct Plan {
    /// Byte offset of each value in the arena; `None` for values elsewhere and for those that no node reads or writes.
    pub offsets: Vec<Option<usize>>,
    /// Bytes of the arena that the plan needs.
    pub arena_bytes: usize,
    /// Bytes that the arena would need if no values shared memory.
    pub unshared_bytes: usize,
    /// By [`Segment`].
    segments: [std::ops::Range<usize>; Segment::ALL.len()],
}

impl Plan {
    /// Indices into `graph.nodes` of one segment, in running order.
    pub fn nodes(&self, segment: Segment) -> std::ops::Range<usize> {
        self.segments[segment as usize].clone()
    }
}

struct Life {
    value: usize,
    bytes: usize,
    first: usize,
    last: usize,
}

/// Plans `graph`, whose nodes are in running order.
pub fn plan(graph: &Graph) -> Plan {
    debug_assert!(graph.nodes.is_sorted_by_key(|n| n.segment), "segments are contiguous");
    let lives = lives(graph);
    let mut offsets = vec![None; graph.values.len()];
    let arena_bytes = place(&lives, &mut offsets);
    // The CPU's executor relies on these two checks to hand out mutable slices.
    if let Some([a, b]) = overlap(&lives, &offsets) {
        unreachable!("{} and {} live at the same time in the same bytes", graph.values[a].name, graph.values[b].name);
    }
    if let Some(node) = graph.nodes.iter().find(|node| writes_twice_or_what_it_reads(node)) {
        unreachable!("{node:?} writes a value twice, or one that it reads");
    }
    let before = |segment: Segment| graph.nodes.partition_point(|n| n.segment < segment);
    let until = |segment: Segment| graph.nodes.partition_point(|n| n.segment <= segment);
    Plan {
        offsets,
        arena_bytes,
        unshared_bytes: lives.iter().map(|l| l.bytes).sum(),
        segments: Segment::ALL.map(|segment| before(segment)..until(segment)),
    }
}

fn lives(graph: &Graph) -> Vec<Life> {
    let mut of_value: Vec<Option<Life>> = graph.values.iter().map(|_| None).collect();
    for (step, node) in graph.nodes.iter().enumerate() {
        for &ValueId(v) in node.inputs.iter().chain(&node.outputs) {
            if graph.values[v].place != Place::Arena {
                continue;
            }
            let life = of_value[v].get_or_insert(Life {
                value: v,
                bytes: graph.values[v].bytes().next_multiple_of(ALIGNMENT),
                first: step,
                last: step,
            });
            life.last = step;
        }
    }
    for &ValueId(v) in &graph.outputs {
        if let Some(life) = &mut of_value[v] {
            life.last = graph.nodes.len();
        }
    }
    of_value.into_iter().flatten().collect()
}

/// Two values that live at the same time and share bytes, if there are any.
fn overlap(lives: &[Life], offsets: &[Option<usize>]) -> Option<[usize; 2]> {
    let mut by_offset: Vec<(usize, &Life)> =
        lives.iter().filter_map(|life| Some((offsets[life.value]?, life))).collect();
    by_offset.sort_unstable_by_key(|&(offset, life)| (offset, life.value));
    by_offset.iter().enumerate().find_map(|(index, &(offset, life))| {
        let mut behind = by_offset[index + 1..].iter().take_while(|(other, _)| *other < offset + life.bytes);
        let meet = behind.find(|(_, other)| other.first <= life.last && life.first <= other.last);
        meet.map(|(_, other)| [life.value, other.value])
    })
}

fn writes_twice_or_what_it_reads(node: &Node) -> bool {
    let seen =
        |(index, output): (usize, &ValueId)| node.inputs.contains(output) || node.outputs[..index].contains(output);
    node.outputs.iter().enumerate().any(seen)
}

/// Places the largest values first, each at the lowest offset that is free for its whole life.
fn place(lives: &[Life], offsets: &mut [Option<usize>]) -> usize {
    let mut order: Vec<&Life> = lives.iter().collect();
    order.sort_by_key(|l| (std::cmp::Reverse(l.bytes), l.value));
    let mut placed: Vec<(usize, &Life)> = Vec::new();
    let mut arena = 0;
    for life in order {
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .filter(|(_, other)| other.first <= life.last && life.first <= other.last)
            .map(|(offset, other)| (*offset, offset + other.bytes))
            .collect();
        taken.sort_unstable();
        let mut offset = 0;
        for (start, end) in taken {
            if offset + life.bytes <= start {
                break;
            }
            offset = offset.max(end);
        }
        offsets[life.value] = Some(offset);
        arena = arena.max(offset + life.bytes);
        placed.push((offset, life));
    }
    arena
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{DType, Mode, Op};

    #[test]
    fn values_alive_together_never_overlap_and_dead_ones_are_reused() {
        let mut graph = Graph::new(Mode::Train);
        let input = graph.input("x", &[1, 100], DType::F32);
        let mut values = vec![input];
        for i in 0..20 {
            let shape = [1, 10 + 37 * (i % 5)];
            let out = graph.arena(format!("v{i}"), &shape, DType::F32);
            let (a, b) = (values[values.len() - 1], values[values.len() / 2]);
            graph.push(Op::Add, &[a, b], &[out]);
            values.push(out);
        }
        graph.outputs.push(values[3]);
        let plan = plan(&graph);
        let lives = lives(&graph);
        assert_eq!(overlap(&lives, &plan.offsets), None);
        assert!(plan.arena_bytes < plan.unshared_bytes);
        // The check notices a value that is placed on another.
        for a in &lives {
            for b in lives.iter().filter(|b| b.value != a.value && a.first <= b.last && b.first <= a.last) {
                let mut wrong = plan.offsets.clone();
                wrong[a.value] = wrong[b.value].map(|offset| offset + b.bytes - ALIGNMENT);
                assert!(overlap(&lives, &wrong).is_some(), "{} upon {}", a.value, b.value);
            }
        }
    }

    #[test]
    fn a_node_that_writes_a_value_twice_or_one_that_it_reads_is_detected() {
        let mut graph = Graph::new(Mode::Train);
        let [a, b, c] = ["a", "b", "c"].map(|name| graph.arena(name, &[4], DType::F32));
        graph.push(Op::Add, &[a, a], &[b]);
        graph.push(Op::Add, &[a, b], &[b]);
        graph.push(Op::Add, &[a, b], &[c, c]);
        assert_eq!(graph.nodes.iter().map(writes_twice_or_what_it_reads).collect::<Vec<_>>(), [false, true, true]);
    }
}
