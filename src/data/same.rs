//! Which samples have the same content: eight bytes a sample, whatever repeats.

/// How many of `samples` of `others` have a content that is among `keys`.
pub fn count_of_same(keys: &[[u8; 32]], others: &[[u8; 32]], samples: &[usize]) -> usize {
    // The first bytes of a hash tell it apart, and take little of a small device's memory.
    let short = |key: &[u8; 32]| u64::from_le_bytes(key[..8].try_into().expect("eight of 32 bytes"));
    let mut known: Vec<u64> = keys.iter().map(short).collect();
    known.sort_unstable();
    samples.iter().filter(|sample| known.binary_search(&short(&others[**sample])).is_ok()).count()
}

/// Samples of equal content, as chains in ascending order.
pub(super) struct Same {
    /// For each sample, the next of the same content; itself where there is none.
    next: Vec<u32>,
    /// Whether a sample has the same content as one before it.
    repeats: Vec<bool>,
}

impl Same {
    /// `keys` are the samples' content hashes; there are fewer than 2³².
    pub fn new(keys: &[[u8; 32]]) -> Self {
        let mut order: Vec<u32> = (0..keys.len() as u32).collect();
        order.sort_unstable_by_key(|sample| (&keys[*sample as usize], *sample));
        let mut next: Vec<u32> = (0..keys.len() as u32).collect();
        let mut repeats = vec![false; keys.len()];
        for pair in order.windows(2) {
            let [one, other] = [pair[0] as usize, pair[1] as usize];
            if keys[one] == keys[other] {
                next[one] = pair[1];
                repeats[other] = true;
            }
        }
        Self { next, repeats }
    }

    /// The first sample of each content, in ascending order.
    pub fn firsts(&self) -> impl Iterator<Item = u32> {
        (0..).zip(&self.repeats).filter(|(_, repeats)| !**repeats).map(|(sample, _)| sample)
    }

    /// A sample and all after it that have its content.
    pub fn from(&self, first: u32) -> impl Iterator<Item = usize> {
        let after = |sample: &u32| Some(self.next[*sample as usize]).filter(|next| next != sample);
        std::iter::successors(Some(first), after).map(|sample| sample as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_hold_all_samples_of_a_content() {
        let keys = [3, 1, 3, 2, 1, 3].map(|content: u8| [content; 32]);
        let same = Same::new(&keys);
        assert_eq!(same.firsts().collect::<Vec<_>>(), [0, 1, 3]);
        let chains: Vec<Vec<usize>> = same.firsts().map(|first| same.from(first).collect()).collect();
        assert_eq!(chains, [vec![0, 2, 5], vec![1, 4], vec![3]]);
        assert_eq!(Same::new(&[]).firsts().count(), 0);
    }
}
