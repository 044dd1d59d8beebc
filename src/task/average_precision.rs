//! Mean average precision of boxes, as COCO defines it and pycocotools computes it: over 101 recalls, at ten overlaps, of all areas, with
//! at most 100 boxes of a class in a photograph; objects in a crowd are neither found nor missed.

use super::corners::{Corners, area};
use crate::order::Order;
use std::cmp::Ordering;

/// Overlaps from which a box counts as found: 0.5, 0.55, …, 0.95.
const OVERLAPS: usize = 10;
/// Recalls at which the precision is read: 0, 0.01, …, 1.
const RECALLS: usize = 101;
/// Boxes of one class in one photograph that count, the surest ones.
const BOXES_MAX: usize = 100;

/// A box that was found, with its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// Its corners.
    pub corners: Corners,
    /// How sure it is.
    pub score: f32,
}

/// An object that is there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wanted {
    /// Its corners.
    pub corners: Corners,
    /// Whether it is many objects that nobody has told apart.
    pub crowd: bool,
}

/// What photographs have shown of one class.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OfClass {
    /// Objects that are to be found.
    wanted: usize,
    /// The score of each box, with a bit for each overlap at which it is right and at which it does not count.
    boxes: Vec<(f32, u16, u16)>,
}

impl OfClass {
    /// Adds the boxes of the class that were found in a photograph, and the objects of it that are there.
    pub fn add(&mut self, found: &[Scored], there: &[Wanted]) {
        self.wanted += there.iter().filter(|wanted| !wanted.crowd).count();
        let mut found: Vec<&Scored> = found.iter().collect();
        found.order_by(|one, other| descending(one.score, other.score));
        found.truncate(BOXES_MAX);
        // What counts comes before what does not.
        let mut there: Vec<&Wanted> = there.iter().collect();
        there.order_by_key(|wanted| wanted.crowd);
        let mut marks = vec![(0u16, 0u16); found.len()];
        for place in 0..OVERLAPS {
            let mut taken = vec![false; there.len()];
            for (mark, scored) in marks.iter_mut().zip(&found) {
                let Some(object) = matched(scored, &there, &taken, overlap_min(place)) else { continue };
                taken[object] = true;
                let bit = 1 << place;
                if there[object].crowd { mark.1 |= bit } else { mark.0 |= bit }
            }
        }
        self.boxes.extend(found.iter().zip(marks).map(|(scored, (right, passed))| (scored.score, right, passed)));
    }

    /// The average precision at each overlap; none where there is no object to be found.
    fn precisions(&self) -> Option<[f64; OVERLAPS]> {
        if self.wanted == 0 {
            return None;
        }
        let mut order: Vec<&(f32, u16, u16)> = self.boxes.iter().collect();
        order.order_by(|one, other| descending(one.0, other.0));
        Some(std::array::from_fn(|place| {
            let bit = 1u16 << place;
            let (mut right, mut wrong) = (0usize, 0usize);
            let mut curve: Vec<(f64, f64)> = Vec::with_capacity(order.len());
            for (_, rights, passed) in &order {
                right += usize::from(rights & bit != 0);
                wrong += usize::from((rights | passed) & bit == 0);
                let precision = right as f64 / ((right + wrong) as f64 + f64::EPSILON);
                curve.push((right as f64 / self.wanted as f64, precision));
            }
            // Precision never rises with recall.
            for at in (1..curve.len()).rev() {
                curve[at - 1].1 = curve[at - 1].1.max(curve[at].1);
            }
            let read = |number: usize| {
                let recall = if number + 1 == RECALLS { 1.0 } else { number as f64 * 0.01 };
                let at = curve.partition_point(|(reached, _)| *reached < recall);
                curve.get(at).map_or(0.0, |(_, precision)| *precision)
            };
            (0..RECALLS).map(read).sum::<f64>() / RECALLS as f64
        }))
    }
}

/// A descending order that leaves equals as they are.
fn descending(one: f32, other: f32) -> Ordering {
    other.total_cmp(&one)
}

/// The overlap at a place among the ten.
fn overlap_min(place: usize) -> f64 {
    let step = (0.95 - 0.5) / 9.0;
    if place + 1 == OVERLAPS { 0.95 } else { 0.5 + place as f64 * step }
}

/// The object that a box is: of those not taken yet the one with the largest overlap, the last of equals; one in a crowd only where it
/// is no other, and as often as there are boxes.
fn matched(scored: &Scored, there: &[&Wanted], taken: &[bool], overlap_min: f64) -> Option<usize> {
    let (mut best, mut found): (f64, Option<usize>) = (overlap_min.min(1.0 - 1e-10), None);
    for (object, wanted) in there.iter().enumerate() {
        if taken[object] && !wanted.crowd {
            continue;
        }
        if found.is_some_and(|found| !there[found].crowd) && wanted.crowd {
            break;
        }
        let overlap = overlap(&scored.corners, wanted);
        if overlap >= best {
            (best, found) = (overlap, Some(object));
        }
    }
    found
}

/// Intersection over union; of a crowd, over the box alone.
fn overlap(found: &Corners, wanted: &Wanted) -> f64 {
    let other = &wanted.corners;
    let across = found[2].min(other[2]) - found[0].max(other[0]);
    let down = found[3].min(other[3]) - found[1].max(other[1]);
    if across <= 0.0 || down <= 0.0 {
        return 0.0;
    }
    let both = across * down;
    both / if wanted.crowd { area(found) } else { area(found) + area(other) - both }
}

/// The means over the classes that have objects: at an overlap of 0.5, and over all ten. 0 where no class has any.
pub fn mean_average_precision(classes: &[OfClass]) -> [f64; 2] {
    let each: Vec<[f64; OVERLAPS]> = classes.iter().filter_map(OfClass::precisions).collect();
    let count = each.len().max(1) as f64;
    let half: f64 = each.iter().map(|precisions| precisions[0]).sum();
    let all: f64 = each.iter().flatten().sum();
    [half / count, all / (count * OVERLAPS as f64)]
}
