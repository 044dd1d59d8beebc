//! Entropy stage: an adaptive binary range coder, order 0, bit by bit through binary trees.
//!
//! Takes symbols of up to 8 bits and gives as many bits as they carry information, or back. It learns the probabilities as
//! it goes, so there are no tables in the file and no buffer: a decoder holds its trees and gives one symbol at a time,
//! and never more of them than it is asked for. (Carry-less range coder after G. N. N. Martin, 1979, in the form of
//! M. Mahoney's lpaq; bit trees as in LZMA.)

/// Adaptive probabilities of one symbol: a node for each prefix of its bits, most significant first.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    /// Probability that the next bit is 1, in 1/65,536.
    one: [u16; 256],
    /// How often the node was seen, up to [`SEEN_MAX`].
    seen: [u8; 256],
}

/// From here on a node follows an average over about this many of its last bits.
const SEEN_MAX: u8 = 60;
/// No bit is ever certain, so that both remain codable.
const CERTAIN: u16 = 32;

/// A bit of which nothing is known.
const EVEN: u16 = 1 << 15;

/// For a node that was seen n times, 2³² / (n + 2), rounded up: a product with it, shifted by 32, is a quotient of up to 65,536 by
/// n + 2, to the last bit (T. Granlund and P. Montgomery, "Division by Invariant Integers using Multiplication", 1994).
const STEPS: [u32; SEEN_MAX as usize + 1] = {
    let mut steps = [0; SEEN_MAX as usize + 1];
    let mut seen = 0;
    while seen < steps.len() {
        steps[seen] = (1u64 << 32).div_ceil(seen as u64 + 2) as u32;
        seen += 1;
    }
    steps
};

impl Tree {
    pub(crate) const NEW: Self = Self { one: [1 << 15; 256], seen: [0; 256] };

    fn learn(&mut self, node: usize, bit: bool) {
        let seen = self.seen[node];
        let one = u32::from(self.one[node]);
        // A step towards the bit that came, without a branch that nobody can foretell.
        let came = 0u32.wrapping_sub(u32::from(bit));
        let way = (one & !came) | ((65_536 - one) & came);
        let step = ((u64::from(way) * u64::from(STEPS[usize::from(seen)])) >> 32) as u32;
        let moved = (one.wrapping_sub(step) & !came) | ((one + step) & came);
        self.one[node] = (moved.min(65_535) as u16).clamp(CERTAIN, u16::MAX - CERTAIN);
        self.seen[node] = (seen + 1).min(SEEN_MAX);
    }
}

/// Where the range is divided for a bit that is 1 with `one` / 65,536; always inside of it.
fn middle(low: u32, high: u32, one: u16) -> u32 {
    low + ((u64::from(high - low) * u64::from(one)) >> 16) as u32
}

/// Whether low and high agree in their first byte, which can then be written.
fn settled(low: u32, high: u32) -> bool {
    (low ^ high) >> 24 == 0
}

/// Bytes that a coded stream ends with, and as many that a decoder reads at first.
const TAIL_BYTES: usize = 4;

#[derive(Debug, Clone)]
pub(crate) struct Decoder<'a> {
    bytes: &'a [u8],
    low: u32,
    high: u32,
    code: u32,
}

impl<'a> Decoder<'a> {
    /// `None` where there are fewer bytes than any stream has.
    pub(crate) fn new(bytes: &'a [u8]) -> Option<Self> {
        let (code, bytes) = bytes.split_first_chunk::<TAIL_BYTES>()?;
        Some(Self { bytes, low: 0, high: u32::MAX, code: u32::from_be_bytes(*code) })
    }

    /// The next symbol of `bits` (1…8) bits; `None` behind the end.
    pub(crate) fn symbol(&mut self, bits: u32, tree: &mut Tree) -> Option<u8> {
        let mut node = 1;
        for _ in 0..bits {
            let bit = self.bit(tree.one[node])?;
            tree.learn(node, bit);
            node = node * 2 + usize::from(bit);
        }
        Some((node - (1 << bits)) as u8)
    }

    /// The next symbol of 8 bits of which nothing was known: a byte of the stream, as it is.
    pub(crate) fn plain(&mut self) -> Option<u8> {
        let (byte, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*byte)
    }

    /// The next number of so many bits (at most 63), each as likely 0 as 1.
    pub(crate) fn even(&mut self, bits: u32) -> Option<u64> {
        let mut number = 0;
        for _ in 0..bits {
            number = number << 1 | u64::from(self.bit(EVEN)?);
        }
        Some(number)
    }

    fn bit(&mut self, one: u16) -> Option<bool> {
        let middle = middle(self.low, self.high, one);
        let bit = self.code <= middle;
        let upper = 0u32.wrapping_sub(u32::from(bit));
        self.high = (middle & upper) | (self.high & !upper);
        self.low = (self.low & upper) | (middle.wrapping_add(1) & !upper);
        while settled(self.low, self.high) {
            let (next, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            self.low <<= 8;
            self.high = self.high << 8 | 0xff;
            self.code = self.code << 8 | u32::from(*next);
        }
        Some(bit)
    }

    /// Whether all bytes are used and the last are those that a writer ends with, so that nothing hides there.
    pub(crate) fn finished(&self) -> bool {
        self.bytes.is_empty() && self.code == self.low
    }
}

#[cfg(feature = "std")]
pub(crate) struct Encoder {
    bytes: std::vec::Vec<u8>,
    /// Bytes that are not coded, each with how many of the others had been written.
    plain: std::vec::Vec<(usize, u8)>,
    low: u32,
    high: u32,
}

#[cfg(feature = "std")]
impl Encoder {
    pub(crate) fn new() -> Self {
        Self { bytes: std::vec::Vec::new(), plain: std::vec::Vec::new(), low: 0, high: u32::MAX }
    }

    pub(crate) fn symbol(&mut self, symbol: u8, bits: u32, tree: &mut Tree) {
        let mut node = 1;
        for place in (0..bits).rev() {
            let bit = symbol >> place & 1 == 1;
            self.bit(bit, tree.one[node]);
            tree.learn(node, bit);
            node = node * 2 + usize::from(bit);
        }
    }

    pub(crate) fn plain(&mut self, symbol: u8) {
        self.plain.push((self.bytes.len(), symbol));
    }

    pub(crate) fn even(&mut self, number: u64, bits: u32) {
        (0..bits).rev().for_each(|place| self.bit(number >> place & 1 == 1, EVEN));
    }

    fn bit(&mut self, bit: bool, one: u16) {
        let middle = middle(self.low, self.high, one);
        if bit {
            self.high = middle
        } else {
            self.low = middle + 1
        }
        while settled(self.low, self.high) {
            self.bytes.push((self.high >> 24) as u8);
            self.low <<= 8;
            self.high = self.high << 8 | 0xff;
        }
    }

    pub(crate) fn finish(mut self) -> std::vec::Vec<u8> {
        self.bytes.extend(self.low.to_be_bytes());
        // A decoder comes to a plain byte when it has read its first bytes and one for each that had been written.
        let mut stream = std::vec::Vec::with_capacity(self.bytes.len() + self.plain.len());
        let mut taken = 0;
        for (written, byte) in self.plain {
            stream.extend_from_slice(&self.bytes[taken..written + TAIL_BYTES]);
            stream.push(byte);
            taken = written + TAIL_BYTES;
        }
        stream.extend_from_slice(&self.bytes[taken..]);
        stream
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_the_quotient() {
        for (seen, step) in STEPS.iter().enumerate() {
            for way in 0..=65_536u64 {
                assert_eq!((way * u64::from(*step)) >> 32, way / (seen as u64 + 2), "{way} / {}", seen + 2);
            }
        }
    }
}
