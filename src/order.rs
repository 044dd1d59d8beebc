//! Sorting where speed does not matter and size does.
//!
//! Each `sort_by` of the standard library is an algorithm of its own in the program, 2 kB of a device's storage for each kind of element and each
//! comparison; ninety of them were 200 kB. Here places are sorted, by one algorithm for all, and then the elements are moved. What sorts
//! in a loop over samples stays with the standard library.

use std::cmp::Ordering;

/// Sorts a slice, in one algorithm for all kinds of elements. What is equal keeps its order.
pub trait Order<T> {
    /// As [`slice::sort_by`].
    fn order_by(&mut self, compare: impl Fn(&T, &T) -> Ordering);

    /// As [`slice::sort_by_key`].
    fn order_by_key<K: Ord>(&mut self, key: impl Fn(&T) -> K);
}

impl<T> Order<T> for [T] {
    fn order_by(&mut self, compare: impl Fn(&T, &T) -> Ordering) {
        let mut targets = targets(self.len(), &|one, other| compare(&self[one], &self[other]));
        for place in 0..self.len() {
            while targets[place] != place {
                let target = targets[place];
                self.swap(place, target);
                targets.swap(place, target);
            }
        }
    }

    fn order_by_key<K: Ord>(&mut self, key: impl Fn(&T) -> K) {
        self.order_by(|one, other| key(one).cmp(&key(other)));
    }
}

/// As `collect` into an ordered map or set, which sorts by an algorithm of its own for each kind of element first.
pub fn gathered<C: Default + Extend<T>, T>(elements: impl IntoIterator<Item = T>) -> C {
    let mut gathered = C::default();
    gathered.extend(elements);
    gathered
}

/// Where each element belongs, by comparing the elements at two places.
fn targets(count: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Vec<usize> {
    let mut places: Vec<usize> = (0..count).collect();
    places.sort_by(|one, other| compare(*one, *other));
    let mut targets = vec![0; count];
    places.into_iter().enumerate().for_each(|(target, place)| targets[place] = target);
    targets
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn elements_are_where_the_standard_library_puts_them(values in prop::collection::vec(0u8..20, 0..60)) {
            let numbered: Vec<(u8, usize)> = values.iter().copied().zip(0..).collect();
            let (mut ours, mut expected) = (numbered.clone(), numbered);
            let descending = |one: &(u8, usize), other: &(u8, usize)| other.0.cmp(&one.0);
            ours.order_by(descending);
            expected.sort_by(descending);
            prop_assert_eq!(&ours, &expected);
            ours.order_by_key(|one| one.0 / 3);
            expected.sort_by_key(|one| one.0 / 3);
            prop_assert_eq!(ours, expected);
        }
    }
}
