//! Which slot of a body's files holds a sample, in a dozen bytes a sample: the keys themselves stay in their file.

use super::Key;
use hashbrown::HashTable;

/// Slots that an index can tell apart; more are never written.
pub(super) const SLOTS_MAX: u64 = u32::MAX as u64;

/// Slots by four bytes of their samples' keys. Whoever asks compares the whole key, which is needed once a sample that is
/// here, and for one of 2³² / n that are not.
#[derive(Debug, Default)]
pub(super) struct Index {
    places: HashTable<Place>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    prefix: u32,
    slot: u32,
}

impl Index {
    /// An empty index with room for so many samples.
    pub fn with_capacity(samples: usize) -> Self {
        Self { places: HashTable::with_capacity(samples) }
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// The slot of a sample; `holds` says whether a slot is that of the whole key.
    pub fn find(&self, sample: &Key, mut holds: impl FnMut(u32) -> bool) -> Option<u32> {
        let prefix = prefix(sample);
        self.places.find(hash(prefix), |place| place.prefix == prefix && holds(place.slot)).map(|place| place.slot)
    }

    /// Notes the slot of a sample that is not here.
    pub fn insert(&mut self, sample: &Key, slot: u32) {
        let prefix = prefix(sample);
        self.places.insert_unique(hash(prefix), Place { prefix, slot }, |place| hash(place.prefix));
    }

    /// Forgets a sample in a slot.
    pub fn remove(&mut self, sample: &Key, slot: u32) {
        let place = Place { prefix: prefix(sample), slot };
        if let Ok(found) = self.places.find_entry(hash(place.prefix), |known| *known == place) {
            found.remove();
        }
    }
}

fn prefix(sample: &Key) -> u32 {
    u32::from_le_bytes([sample[0], sample[1], sample[2], sample[3]])
}

/// Keys are hashes already; this spreads a prefix over the highest bits as well, which the table looks at first
/// (Knuth, The Art of Computer Programming 3, section 6.4: multiplication by the golden ratio).
fn hash(prefix: u32) -> u64 {
    u64::from(prefix).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// Keys of few prefixes: what shares four bytes must still be told apart.
    fn key(number: u8) -> Key {
        std::array::from_fn(|index| {
            if index == 0 {
                number % 3
            } else if index == 31 {
                number
            } else {
                0
            }
        })
    }

    #[test]
    fn it_is_a_map_from_whole_keys_though_it_keeps_their_beginnings() {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut index, mut keys, mut known) = (Index::default(), Vec::new(), HashMap::new());
        for _ in 0..2000 {
            let sample = key(random.u8(..40));
            let found = index.find(&sample, |slot| keys[slot as usize] == sample);
            assert_eq!(found, known.get(&sample).copied());
            match found {
                Some(slot) if random.bool() => {
                    index.remove(&sample, slot);
                    known.remove(&sample);
                }
                Some(_) => {}
                None => {
                    index.insert(&sample, keys.len() as u32);
                    known.insert(sample, keys.len() as u32);
                    keys.push(sample);
                }
            }
            assert_eq!(index.len(), known.len());
        }
    }
}
