//! Divides images into parts of given sizes so that every class, and every other property counted here, has its share in each.
//! It knows only numbers: an image has a list of properties.
//!
//! Single images: of all images with the same properties, each part first gets its share, rounded down. Those left over are
//! assigned one by one, starting with the rarest property, to the part that lacks it most (Sechidis 2011, iterative
//! stratification), and swaps then correct what is more than one image off. Groups of images are assigned from the largest to
//! the smallest, each to the part where it fits best, and then moved and swapped. Ties are decided by hashes, never by order.

use crate::data::random::Random;
use std::collections::{BTreeMap, BTreeSet};

/// The images to divide, in order.
pub struct Images<'a> {
    /// For each image, the number of its list in `lists`.
    pub list_of: &'a [u32],
    /// Lists of ascending properties, sorted; no two are equal.
    pub lists: &'a [Vec<u32>],
    /// One more than the greatest property.
    pub properties: usize,
    /// For each image, a number that decides which of equal images are taken first.
    pub hashes: &'a [u64],
}

/// The share of each part; the sum is 1.
pub type Shares<'a> = &'a [f64];

/// A comparison of sums of shares allows for their rounding.
const ROUNDING: f64 = 1e-9;
/// The number of swaps that are tried at most, so that hopeless cases end.
const MOST_TRIES: usize = 2_000_000;

impl Images<'_> {
    fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.properties];
        for &list in self.list_of {
            self.lists[list as usize].iter().for_each(|&property| counts[property as usize] += 1);
        }
        counts
    }

    /// The part of every image. Part `j` gets exactly `sizes[j]` images.
    pub fn divide(&self, sizes: &[usize], shares: Shares) -> Vec<usize> {
        let parts = sizes.len();
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); self.lists.len()];
        (0..self.list_of.len()).for_each(|image| members[self.list_of[image] as usize].push(image));
        members.iter_mut().for_each(|of_list| of_list.sort_unstable_by_key(|&image| (self.hashes[image], image)));
        let mut balance = Balance::new(&self.counts(), shares);
        let mut room: Vec<usize> = sizes.to_vec();
        let mut taken = vec![0; members.len() * parts];
        let mut left = Vec::new();
        for (list, images) in members.iter().enumerate() {
            let mut assigned = 0;
            for part in 0..parts {
                let share = (shares[part] * images.len() as f64 + ROUNDING) as usize;
                let whole = share.min(room[part]).min(images.len() - assigned);
                taken[list * parts + part] = whole;
                balance.add(part, &self.lists[list], whole as f64);
                room[part] -= whole;
                assigned += whole;
            }
            let hash_of = |place: usize| self.hashes[images[place]];
            left.extend((assigned..images.len()).map(|place| (hash_of(place), list)));
        }
        left.sort_unstable();
        for (list, part) in assign_left(&left, self, &mut balance, &mut room) {
            taken[list * parts + part] += 1;
        }
        let mut state = State { taken, balance };
        swap(self.lists, &mut state, parts);
        let taken = state.taken;
        let mut part_of = vec![0; self.list_of.len()];
        for (list, images) in members.iter().enumerate() {
            let mut images = images.iter();
            for part in 0..parts {
                images.by_ref().take(taken[list * parts + part]).for_each(|&image| part_of[image] = part);
            }
        }
        part_of
    }

    /// The part of every group, where `group_of` is the group of each image. The sizes are as near to the shares as whole
    /// groups allow; no part is empty if there are at least as many groups as parts.
    pub fn divide_groups(&self, group_of: &[usize], groups: usize, shares: Shares) -> Vec<usize> {
        let all = self.properties as u32;
        let mut units = vec![Unit::default(); groups];
        let mut counted = vec![BTreeMap::<u32, f64>::new(); groups];
        for (image, &group) in group_of.iter().enumerate() {
            units[group].images += 1;
            units[group].hash = units[group].hash.wrapping_add(self.hashes[image]);
            for &property in self.lists[self.list_of[image] as usize].iter().chain([&all]) {
                *counted[group].entry(property).or_default() += 1.0;
            }
        }
        units.iter_mut().zip(counted).for_each(|(unit, counts)| unit.counts = counts.into_iter().collect());
        let mut counts = self.counts();
        counts.push(self.list_of.len());
        divide_units(&units, Balance::new(&counts, shares), shares.len())
    }
}

/// How many images of each property each part has, less its share.
#[derive(Clone)]
struct Balance {
    properties: usize,
    excess: Vec<f64>,
    counts: Vec<f64>,
}

impl Balance {
    fn new(counts: &[usize], shares: Shares) -> Balance {
        let excess = shares.iter().flat_map(|share| counts.iter().map(move |&count| -share * count as f64)).collect();
        Balance { properties: counts.len(), excess, counts: counts.iter().map(|&count| count as f64).collect() }
    }

    fn of(&self, part: usize, property: u32) -> f64 {
        self.excess[part * self.properties + property as usize]
    }

    fn add(&mut self, part: usize, list: &[u32], images: f64) {
        list.iter().for_each(|&property| self.excess[part * self.properties + property as usize] += images);
    }

    fn add_unit(&mut self, part: usize, unit: &Unit, sign: f64) {
        unit.counts
            .iter()
            .for_each(|(property, n)| self.excess[part * self.properties + *property as usize] += sign * n);
    }
}

/// Assigns the images left over, given as hash and list, to parts that have room.
fn assign_left(
    left: &[(u64, usize)],
    images: &Images,
    balance: &mut Balance,
    room: &mut [usize],
) -> Vec<(usize, usize)> {
    let mut with = BTreeMap::<u32, Vec<usize>>::new();
    for (index, (_, list)) in left.iter().enumerate() {
        images.lists[*list].iter().for_each(|&property| with.entry(property).or_default().push(index));
    }
    let mut remaining: BTreeMap<u32, usize> = with.iter().map(|(property, of)| (*property, of.len())).collect();
    let mut rarest: BTreeSet<(usize, u32)> = remaining.iter().map(|(property, n)| (*n, *property)).collect();
    let mut done = vec![false; left.len()];
    let mut assigned = Vec::with_capacity(left.len());
    let mut give = |index: usize, property: Option<u32>, done: &mut Vec<bool>| {
        let list = left[index].1;
        let lack = |part: usize| {
            let of_all: f64 = images.lists[list].iter().map(|&p| balance.of(part, p)).sum();
            [property.map_or(0.0, |p| balance.of(part, p)), of_all, -(room[part] as f64)]
        };
        let part = (0..room.len()).filter(|&part| room[part] > 0).reduce(|best, part| {
            let differ = lack(best).into_iter().zip(lack(part)).find(|(a, b)| (a - b).abs() > ROUNDING);
            if differ.is_some_and(|(a, b)| b < a) { part } else { best }
        });
        let Some(part) = part else { unreachable!("the parts' sizes add up to the number of images") };
        balance.add(part, &images.lists[list], 1.0);
        room[part] -= 1;
        done[index] = true;
        assigned.push((list, part));
        list
    };
    while let Some((_, property)) = rarest.pop_first() {
        remaining.remove(&property);
        for &index in &with[&property] {
            if done[index] {
                continue;
            }
            let list = give(index, Some(property), &mut done);
            for other in &images.lists[list] {
                if let Some(n) = remaining.get_mut(other) {
                    rarest.remove(&(*n, *other));
                    *n -= 1;
                    rarest.insert((*n, *other));
                }
            }
        }
    }
    for index in 0..left.len() {
        if !done[index] {
            give(index, None, &mut done);
        }
    }
    assigned
}

/// What is more than one image off, squared, and far less important, all that is off.
fn penalty(excess: f64) -> f64 {
    let beyond = (excess.abs() - 1.0 - ROUNDING).max(0.0);
    1e6 * beyond * beyond + excess * excess
}

/// How many images of each list each part has, and the balance that follows.
#[derive(Clone)]
struct State {
    /// `[list, part]`
    taken: Vec<usize>,
    balance: Balance,
}

impl State {
    fn swap(&mut self, lists: &[Vec<u32>], [a, b]: [usize; 2], [part, other]: [usize; 2]) {
        let parts = self.taken.len() / lists.len();
        for (list, from, to) in [(a, part, other), (b, other, part)] {
            self.taken[list * parts + from] -= 1;
            self.taken[list * parts + to] += 1;
            self.balance.add(from, &lists[list], -1.0);
            self.balance.add(to, &lists[list], 1.0);
        }
    }

    fn penalty(&self) -> f64 {
        self.balance.excess.iter().map(|excess| penalty(*excess)).sum()
    }

    fn is_off(&self) -> bool {
        self.balance.excess.iter().any(|excess| excess.abs() > 1.0 + ROUNDING)
    }
}

/// The number of times that the search begins again after a random swap.
const KICKS: u64 = 50;

/// Swaps images of different lists between two parts while that brings properties that are more than one image off closer
/// to their share.
fn swap(lists: &[Vec<u32>], state: &mut State, parts: usize) {
    let mut tries = 0;
    descend(lists, state, parts, &mut tries);
    for kick in 0..KICKS {
        if !state.is_off() || tries > MOST_TRIES {
            return;
        }
        let (mut random, mut other) = (Random::new(&[kick, lists.len() as u64]), state.clone());
        for _ in 0..1 + random.below(3) {
            let there: Vec<usize> = (0..other.taken.len()).filter(|&at| other.taken[at] > 0).collect();
            let [a, b] = [0; 2].map(|_| there[random.below(there.len())]);
            if a / parts != b / parts && a % parts != b % parts {
                other.swap(lists, [a / parts, b / parts], [a % parts, b % parts]);
            }
        }
        descend(lists, &mut other, parts, &mut tries);
        if other.penalty() < state.penalty() - ROUNDING {
            *state = other;
        }
    }
}

fn descend(lists: &[Vec<u32>], state: &mut State, parts: usize, tries: &mut usize) {
    let mut stuck = BTreeSet::new();
    loop {
        let State { taken, balance } = &*state;
        let worst = (0..parts)
            .flat_map(|part| (0..balance.properties as u32).map(move |property| (part, property)))
            .filter(|at| balance.of(at.0, at.1).abs() > 1.0 + ROUNDING && !stuck.contains(at))
            .max_by(|a, b| balance.of(a.0, a.1).abs().total_cmp(&balance.of(b.0, b.1).abs()));
        let Some((part, property)) = worst else { return };
        let gives = balance.of(part, property) > 0.0;
        let has = |list: &usize| lists[*list].binary_search(&property).is_ok();
        let (with, without): (Vec<usize>, Vec<usize>) = (0..lists.len()).partition(has);
        let (out, into) = if gives { (with, without) } else { (without, with) };
        let mut found = None;
        'search: for &a in out.iter().filter(|&&list| taken[list * parts + part] > 0) {
            for &b in &into {
                for other in (0..parts).filter(|&other| other != part && taken[b * parts + other] > 0) {
                    *tries += 1;
                    if gain(lists, balance, [a, b], [part, other]) > ROUNDING {
                        found = Some((a, b, other));
                        break 'search;
                    }
                    if *tries > MOST_TRIES {
                        return;
                    }
                }
            }
        }
        match found {
            Some((a, b, other)) => {
                state.swap(lists, [a, b], [part, other]);
                stuck.clear();
            }
            None => drop(stuck.insert((part, property))),
        }
    }
}

/// The penalty that is saved if an image of list `a` goes from the first part to the second, and one of list `b` back.
fn gain(lists: &[Vec<u32>], balance: &Balance, [a, b]: [usize; 2], [from, to]: [usize; 2]) -> f64 {
    let only = |list: usize, other: usize| lists[list].iter().filter(move |p| lists[other].binary_search(p).is_err());
    let of = |property: u32, change: f64| {
        let saved = |part, change| penalty(balance.of(part, property)) - penalty(balance.of(part, property) + change);
        saved(from, change) + saved(to, -change)
    };
    only(a, b).map(|&p| of(p, -1.0)).sum::<f64>() + only(b, a).map(|&p| of(p, 1.0)).sum::<f64>()
}

/// A group of images that stay together.
#[derive(Clone, Default)]
struct Unit {
    images: usize,
    hash: u64,
    /// The number of its images with each property, the last of which stands for all images.
    counts: Vec<(u32, f64)>,
}

/// With this many groups or fewer, every division into two parts is tried, unless there are more properties than this.
const FEW: usize = 14;
const MOST_PROPERTIES: usize = 1000;

fn divide_units(units: &[Unit], mut balance: Balance, parts: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..units.len()).collect();
    order.sort_unstable_by_key(|&unit| (std::cmp::Reverse(units[unit].images), units[unit].hash));
    if parts == 2 && units.len() <= FEW && balance.properties <= MOST_PROPERTIES {
        return best_of_all(units, &order, &balance);
    }
    let mut part_of = vec![0; units.len()];
    let mut sizes = vec![0usize; parts];
    for (place, &unit) in order.iter().enumerate() {
        // The last groups go to the parts that have none.
        let empty = sizes.iter().filter(|size| **size == 0).count();
        let must = units.len() - place <= empty;
        let open = (0..parts).filter(|&part| !must || sizes[part] == 0);
        let best = open
            .min_by(|&a, &b| added(&balance, a, &units[unit], 1.0).total_cmp(&added(&balance, b, &units[unit], 1.0)));
        let part = best.unwrap_or(0);
        part_of[unit] = part;
        sizes[part] += 1;
        balance.add_unit(part, &units[unit], 1.0);
    }
    improve(units, &order, &mut balance, &mut part_of, &mut sizes);
    part_of
}

/// The weight of a property's excess: rare properties weigh more, and the number of images most.
fn weight(balance: &Balance, property: u32) -> f64 {
    let of_all = if property as usize + 1 == balance.properties { 4.0 } else { 1.0 };
    of_all / balance.counts[property as usize].max(1.0)
}

/// The cost of adding a group to a part, or of taking it out with sign -1.
fn added(balance: &Balance, part: usize, unit: &Unit, sign: f64) -> f64 {
    let of = |(property, n): &(u32, f64)| {
        let excess = balance.of(part, *property);
        let after = excess + sign * n;
        weight(balance, *property) * (after * after - excess * excess)
    };
    unit.counts.iter().map(of).sum()
}

/// Moves and swaps groups while that lowers the cost.
fn improve(units: &[Unit], order: &[usize], balance: &mut Balance, part_of: &mut [usize], sizes: &mut [usize]) {
    let mut tries = 0;
    let mut improved = true;
    while improved && tries < MOST_TRIES {
        improved = false;
        for (place, &a) in order.iter().enumerate() {
            for to in 0..sizes.len() {
                let from = part_of[a];
                tries += 1;
                if to == from || sizes[from] == 1 {
                    continue;
                }
                let cost = added(balance, from, &units[a], -1.0) + added(balance, to, &units[a], 1.0);
                if cost < -ROUNDING {
                    (sizes[from], sizes[to], part_of[a]) = (sizes[from] - 1, sizes[to] + 1, to);
                    balance.add_unit(from, &units[a], -1.0);
                    balance.add_unit(to, &units[a], 1.0);
                    improved = true;
                }
            }
            for &b in &order[place + 1..] {
                let (from, to) = (part_of[a], part_of[b]);
                tries += 1;
                if from == to || tries > MOST_TRIES {
                    continue;
                }
                let before = added(balance, from, &units[a], -1.0) + added(balance, to, &units[b], -1.0);
                balance.add_unit(from, &units[a], -1.0);
                balance.add_unit(to, &units[b], -1.0);
                let cost = before + added(balance, to, &units[a], 1.0) + added(balance, from, &units[b], 1.0);
                let better = cost < -ROUNDING;
                let [at_a, at_b] = if better { [to, from] } else { [from, to] };
                balance.add_unit(at_a, &units[a], 1.0);
                balance.add_unit(at_b, &units[b], 1.0);
                (part_of[a], part_of[b]) = (at_a, at_b);
                improved |= better;
            }
        }
    }
}

/// The division of a few groups into two parts with the least cost; both have a group.
fn best_of_all(units: &[Unit], order: &[usize], empty: &Balance) -> Vec<usize> {
    let part_of = |choice: usize| {
        let mut part_of = vec![0; units.len()];
        order.iter().enumerate().for_each(|(place, &unit)| part_of[unit] = choice >> place & 1);
        part_of
    };
    let cost = |choice: usize| {
        let mut balance = empty.clone();
        part_of(choice).iter().zip(units).for_each(|(&part, unit)| balance.add_unit(part, unit, 1.0));
        let property = |at: usize| (at % balance.properties) as u32;
        balance.excess.iter().enumerate().map(|(at, e)| weight(&balance, property(at)) * e * e).sum::<f64>()
    };
    let last = (1usize << units.len()) - 1;
    let best = (1..last.max(2))
        .map(|choice| (cost(choice), choice))
        .reduce(|best, other| if other.0 < best.0 - ROUNDING { other } else { best });
    part_of(best.map_or(1, |(_, choice)| choice))
}

#[cfg(test)]
mod tests;
