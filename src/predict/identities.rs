//! Who is enrolled: vectors of known identities in a file beside a delta, and the nearest of them.
//!
//! Takes vectors that a delta's model has given for samples of known identity; gives a file that belongs to that base and that delta, and for
//! another vector the nearest identity, or that it is nobody known. Bytes are hostile until they have been checked.
//!
//! The file, all numbers little-endian:
//!
//! ```text
//! 8   EDGEKNN1
//! 32  BLAKE3 of the base
//! 32  BLAKE3 of the delta's file
//! 4   numbers of a vector            4  vectors            4  identities            4  threshold, f32
//!     for each identity: 2 bytes of length, its name as UTF-8
//!     for each vector: 4 bytes, the place of its identity
//!     for each vector its numbers, fp16; its length is 1
//! 32  BLAKE3 of all before
//! ```

use crate::order::Order;
use crate::recipe::{Error, refuse};
use crate::task::{cosine, unit};
use half::f16;
use serde::Serialize;
use std::io::Read;
use std::path::Path;

/// First bytes of the file.
pub const MAGIC: [u8; 8] = *b"EDGEKNN1";
/// Bytes of the file, numbers of a vector and vectors, at most.
const BYTES_MAX: u64 = 64 << 20;
const WIDTH_MAX: usize = 1 << 16;
const VECTORS_MAX: usize = 1 << 20;
/// Bytes of a name, at most.
const NAME_MAX: usize = 256;
/// Bytes of a BLAKE3.
const HASH: usize = 32;

/// Vectors of known identities.
#[derive(Debug, Clone, PartialEq)]
pub struct Identities {
    /// The base that made the vectors.
    pub base: [u8; HASH],
    /// The delta that made them.
    pub delta: [u8; HASH],
    /// A cosine up to which nobody is recognised.
    pub threshold: f32,
    /// The identities' names.
    pub names: Vec<String>,
    width: usize,
    /// Of each vector its identity.
    places: Vec<u32>,
    vectors: Vec<f32>,
}

/// The nearest of those who are known.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Nearest {
    /// Who it is; nothing where the nearest is not near enough.
    pub identity: Option<String>,
    /// Who is nearest, near enough or not.
    pub nearest: String,
    /// The cosine of both vectors.
    pub similarity: f32,
}

/// What enrolled samples show of each other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Enrolled {
    /// Samples.
    pub samples: usize,
    /// Of those with another sample of the same identity, the share that is recognised by the others.
    pub recognised: f64,
    /// The share that is taken for another identity while its own is left out.
    pub false_accepts: f64,
}

impl Identities {
    /// Enrols samples, each with the place of its identity among `names`. The threshold is the given one, or that at which a share of `rate` of
    /// them is taken for another identity while its own is left out.
    ///
    /// # Errors
    /// One identity alone, where the threshold is to be found; names or numbers beyond the format.
    pub fn enrol(
        (base, delta): ([u8; HASH], [u8; HASH]),
        names: Vec<String>,
        samples: &[(u32, Vec<f32>)],
        (threshold, rate): (Option<f32>, f64),
    ) -> Result<(Self, Enrolled), Error> {
        let width = samples.first().map_or(0, |(_, vector)| vector.len());
        if let Some(name) = names.iter().find(|name| name.len() > NAME_MAX) {
            refuse!("identity `{name}`: a name has at most {NAME_MAX} bytes; rename its folder");
        }
        let bytes = samples.len() as u64 * (2 * width as u64 + 4);
        if samples.is_empty() || width == 0 || width > WIDTH_MAX || samples.len() > VECTORS_MAX || bytes > BYTES_MAX / 2
        {
            refuse!(
                "{} samples of {width} numbers: a file of identities holds 1 to {VECTORS_MAX} samples and {} MiB; enrol fewer of each identity",
                samples.len(),
                BYTES_MAX >> 21
            );
        }
        if let Some((place, _)) = samples.iter().enumerate().find(|(_, (_, v))| v.iter().any(|x| !x.is_finite())) {
            refuse!(
                "sample {place} of the data, counted from 0: the model gives infinity or no number (NaN) for it; remove it"
            );
        }
        let places = samples.iter().map(|(place, _)| *place).collect();
        let shipped =
            |vector: &Vec<f32>| unit(vector).into_iter().map(|value| f16::from_f32(value).to_f32()).collect::<Vec<_>>();
        let vectors = samples.iter().flat_map(|(_, vector)| shipped(vector)).collect();
        let mut known = Self { base, delta, threshold: 0.0, names, width, places, vectors };
        let (own, mut others) = known.compared();
        others.order_by(|one, other| other.total_cmp(one));
        known.threshold = match (threshold, others.first()) {
            (Some(threshold), _) => threshold,
            (None, None) => refuse!(
                "one identity alone: nothing tells from which cosine on another would be taken for it; enrol another, or give setting `threshold`"
            ),
            // As many as may be are above it.
            (None, Some(_)) => others[((rate * others.len() as f64) as usize).min(others.len() - 1)],
        };
        let share =
            |of: &[f32]| of.iter().filter(|near| **near > known.threshold).count() as f64 / of.len().max(1) as f64;
        let enrolled = Enrolled { samples: samples.len(), recognised: share(&own), false_accepts: share(&others) };
        Ok((known, enrolled))
    }

    fn vector(&self, place: usize) -> &[f32] {
        &self.vectors[place * self.width..(place + 1) * self.width]
    }

    /// The cosine of a unit vector and an enrolled one, which fp16 has left a little longer or shorter.
    fn near(&self, unit: &[f32], place: usize) -> f32 {
        let vector = self.vector(place);
        (cosine(unit, vector) / cosine(vector, vector).sqrt().max(1e-6)) as f32
    }

    /// For each sample the cosine of the nearest other of its own identity, where there is one and nobody else is nearer (else −1), and that
    /// of the nearest of another.
    fn compared(&self) -> (Vec<f32>, Vec<f32>) {
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for row in 0..self.places.len() {
            let (vector, mut nearest) = (unit(self.vector(row)), [None::<f32>; 2]);
            for place in (0..self.places.len()).filter(|place| *place != row) {
                let near = self.near(&vector, place);
                let of = &mut nearest[usize::from(self.places[place] == self.places[row])];
                *of = Some(of.map_or(near, |most| most.max(near)));
            }
            let [other, mine] = nearest;
            own.extend(mine.map(|mine| if other.is_some_and(|other| other > mine) { -1.0 } else { mine }));
            others.extend(other);
        }
        (own, others)
    }

    /// The nearest to a vector, whose length need not be 1.
    ///
    /// # Errors
    /// A vector of another size.
    pub fn nearest(&self, vector: &[f32]) -> Result<Nearest, Error> {
        if vector.len() != self.width {
            refuse!("the identities have vectors of {} numbers, and the model gives {}", self.width, vector.len());
        }
        let vector = unit(vector);
        let near = |place: usize| (place, self.near(&vector, place));
        let most = (0..self.places.len()).map(near).max_by(|one, other| one.1.total_cmp(&other.1));
        let (place, similarity) = most.expect("a file of identities holds a vector");
        let nearest = self.names[self.places[place] as usize].clone();
        Ok(Nearest { identity: (similarity > self.threshold).then(|| nearest.clone()), nearest, similarity })
    }

    /// The file.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = [&MAGIC[..], &self.base, &self.delta].concat();
        let counts = [self.width, self.places.len(), self.names.len()].map(|count| count as u32);
        counts.iter().for_each(|count| bytes.extend(count.to_le_bytes()));
        bytes.extend(self.threshold.to_le_bytes());
        for name in &self.names {
            bytes.extend((name.len() as u16).to_le_bytes());
            bytes.extend(name.as_bytes());
        }
        self.places.iter().for_each(|place| bytes.extend(place.to_le_bytes()));
        self.vectors.iter().for_each(|value| bytes.extend(f16::from_f32(*value).to_le_bytes()));
        let hash = blake3::hash(&bytes);
        bytes.extend(hash.as_bytes());
        bytes
    }

    /// Reads a file.
    ///
    /// # Errors
    /// One that cannot be read, is too large, damaged, or no such file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(|source| Error::Io { path: path.into(), source })?;
        file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|source| Error::Io { path: path.into(), source })?;
        Self::parse(&bytes).map_err(|problem| {
            let remedy = "make it anew with `edgetune enroll-identity`";
            Error::Refused(format!("{}: {problem}; {remedy}", path.display()))
        })
    }

    /// Checks bytes.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        const SHORT: &str = "a file of identities that ends early";
        const WRONG: &str = "a file of identities with numbers that do not go together";
        if bytes.len() as u64 > BYTES_MAX {
            return Err("larger than a file of identities may be");
        }
        if !bytes.starts_with(&MAGIC) {
            return Err("no file of identities");
        }
        let (content, hash) = bytes.split_at_checked(bytes.len().saturating_sub(HASH)).ok_or(SHORT)?;
        if blake3::hash(content).as_bytes()[..] != *hash {
            return Err("a damaged file of identities (its checksum does not fit)");
        }
        let mut rest = &content[MAGIC.len()..];
        let mut take = |count: usize| {
            let (part, after) = rest.split_at_checked(count).ok_or(SHORT)?;
            rest = after;
            Ok::<_, &'static str>(part)
        };
        let base = *take(HASH)?.first_chunk().ok_or(SHORT)?;
        let delta = *take(HASH)?.first_chunk().ok_or(SHORT)?;
        let mut number = || Ok::<_, &'static str>(u32::from_le_bytes(*take(4)?.first_chunk().ok_or(SHORT)?));
        let [width, vectors, identities] = [number()? as usize, number()? as usize, number()? as usize];
        let threshold = f32::from_bits(number()?);
        if width == 0
            || width > WIDTH_MAX
            || vectors == 0
            || vectors > VECTORS_MAX
            || identities > vectors
            || !threshold.is_finite()
        {
            return Err(WRONG);
        }
        let mut names = Vec::new();
        for _ in 0..identities {
            let length = u16::from_le_bytes(*take(2)?.first_chunk().ok_or(SHORT)?).into();
            let name = std::str::from_utf8(take(length)?).map_err(|_| WRONG)?;
            names.push(name.to_string());
        }
        let places: Vec<u32> =
            take(4 * vectors)?.as_chunks::<4>().0.iter().map(|place| u32::from_le_bytes(*place)).collect();
        let values = take(vectors.checked_mul(2 * width).ok_or(WRONG)?)?.as_chunks::<2>().0.iter();
        let values: Vec<f32> = values.map(|value| f16::from_le_bytes(*value).to_f32()).collect();
        let is_known = |place: &u32| (*place as usize) < identities;
        if !rest.is_empty() || !places.iter().all(is_known) || !values.iter().all(|value| value.is_finite()) {
            return Err(WRONG);
        }
        Ok(Self { base, delta, threshold, names, width, places, vectors: values })
    }

    /// Whether they were made by that base and that delta.
    ///
    /// # Errors
    /// The sentence that says which of them is another.
    pub fn refuse_other(&self, path: &Path, base: [u8; HASH], delta: [u8; HASH]) -> Result<(), Error> {
        let what = match (self.base == base, self.delta == delta) {
            (true, true) => return Ok(()),
            (false, _) => "model",
            (true, false) => "adapter",
        };
        refuse!(
            "{}: these identities were enrolled with another {what}, whose vectors are not to be compared with this one's; enrol them anew",
            path.display()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> (Identities, Enrolled) {
        let names = vec!["ann".to_string(), "bob".into()];
        let samples = [(0, vec![2.0, 0.0]), (0, vec![1.0, 0.1]), (1, vec![0.0, 1.0]), (1, vec![0.1, 1.0])];
        Identities::enrol(([1; 32], [2; 32]), names, &samples, (None, 0.0)).unwrap()
    }

    #[test]
    fn the_nearest_is_told_and_strangers_are_nobody() {
        let (known, enrolled) = two();
        assert_eq!((enrolled.recognised, enrolled.false_accepts), (1.0, 0.0));
        let found = known.nearest(&[5.0, 0.2]).unwrap();
        assert_eq!((found.identity.as_deref(), found.nearest.as_str()), (Some("ann"), "ann"));
        assert!((found.similarity - 0.9983).abs() < 1e-3, "{found:?}");
        let stranger = known.nearest(&[-1.0, 0.1]).unwrap();
        assert_eq!((stranger.identity, stranger.nearest.as_str()), (None, "bob"));
        assert!(known.nearest(&[1.0]).unwrap_err().to_string().contains("2 numbers"));
    }

    #[test]
    fn the_threshold_lets_so_many_through() {
        let names = (0..20).map(|name| name.to_string()).collect();
        let samples: Vec<(u32, Vec<f32>)> = (0..20).map(|name| (name, vec![1.0, name as f32 * 0.02])).collect();
        for rate in [0.0, 0.1, 0.5] {
            let (_, enrolled) =
                Identities::enrol(([0; 32], [0; 32]), Vec::clone(&names), &samples, (None, rate)).unwrap();
            assert!(enrolled.false_accepts <= rate, "{enrolled:?} at {rate}");
        }
        let one = [(0, vec![1.0, 0.0]), (0, vec![1.0, 0.1])];
        let alone = Identities::enrol(([0; 32], [0; 32]), vec!["a".into()], &one, (None, 0.01));
        assert!(alone.unwrap_err().to_string().contains("one identity alone"));
        let given = Identities::enrol(([0; 32], [0; 32]), vec!["a".into()], &one, (Some(0.5), 0.01)).unwrap();
        assert_eq!(given.0.threshold, 0.5);
    }

    #[test]
    fn a_file_comes_back_and_no_damaged_byte_is_believed() {
        let (known, _) = two();
        let bytes = known.encode();
        assert_eq!(Identities::parse(&bytes).unwrap(), known);
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1;
            assert!(Identities::parse(&damaged).is_err(), "byte {place}");
            assert!(Identities::parse(&bytes[..place]).is_err(), "{place} bytes");
        }
        // Numbers beyond what the file holds, with a checksum that fits.
        let mut longer = bytes[..bytes.len() - HASH].to_vec();
        longer[MAGIC.len() + 2 * HASH] = 3;
        let hash = blake3::hash(&longer);
        longer.extend(hash.as_bytes());
        assert!(Identities::parse(&longer).is_err());
        assert!(known.refuse_other(Path::new("p.knn"), [1; 32], [2; 32]).is_ok());
        assert!(
            known
                .refuse_other(Path::new("p.knn"), [1; 32], [3; 32])
                .unwrap_err()
                .to_string()
                .contains("another adapter")
        );
        assert!(
            known.refuse_other(Path::new("p.knn"), [9; 32], [2; 32]).unwrap_err().to_string().contains("another model")
        );
    }
}
