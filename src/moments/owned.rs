//! Moments in memory: the sums with what they are of and the names of their targets; written, read, put together by name.

use super::code::{self, Trees};
use super::error::{Error, Field, ensure};
use super::header::{Directions, Header};
use super::read::{CONTEXT, MAGIC, PREAMBLE_BYTES, SIGNED, VERSION, View, identity_of};
use super::small::{possible, work};
use super::sums::{Shape, Sums, Target, VALUE_MAX};
use crate::delta::range::Encoder;
use crate::delta::{KeptPreprocessing, KeyPair, Task, signature_of};
use std::collections::BTreeSet;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

/// What moments are of. Those of equal ones can be put together.
#[derive(Debug, Clone, PartialEq)]
pub struct About {
    /// Hash of the base whose features were summed up.
    pub base: [u8; 32],
    /// Hash that names centre, directions and steps.
    pub basis: [u8; 32],
    /// Where the directions come from.
    pub directions: Directions,
    /// Name of the model's output that a head takes the place of, or reads.
    pub output: String,
    /// Whether the head is appended to the output instead of taking the place of its last layer.
    pub appended: bool,
    /// Numbers of a sample's features.
    pub features: u32,
    /// Coordinates that they become.
    pub coordinates: u32,
    /// Bits of a coordinate.
    pub bits: u8,
    /// What the targets are.
    pub task: Task,
    /// What a target's step of 1 stands for; 1 for classes.
    pub target_step: f32,
    /// What was done to samples before the model saw them.
    pub preprocessing: KeptPreprocessing,
}

/// Moments with the names of their targets. Of classes these are in the order of their bytes, and each has a sample, so that equal
/// sums are equal bytes whatever way they came.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    about: About,
    labels: Vec<String>,
    sums: Sums<Vec<i64>>,
}

impl Moments {
    /// Of no sample yet. `labels`: the names of the targets; for regression they may be left out, with `targets` saying how many there are.
    ///
    /// # Errors
    /// [`Error::Wrong`] for what the format refuses.
    pub fn new(about: About, targets: usize, labels: &[String]) -> Result<Self, Error> {
        let shape = Shape::new(about.task, about.coordinates as usize, targets)?;
        ensure(labels.is_empty() || labels.len() == targets, Error::Wrong(Field::Labels))?;
        let sums = Sums::zero(shape, vec![0; shape.cells()])?;
        Ok(Self { about, labels: labels.to_vec(), sums }.sorted())
    }

    /// What they are of.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Names of the targets, in their order.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The sums.
    pub fn sums(&self) -> &Sums<Vec<i64>> {
        &self.sums
    }

    /// Samples.
    pub fn samples(&self) -> u64 {
        self.sums.samples() as u64
    }

    /// Adds samples, their classes as places in [`Moments::labels`]: see [`Sums::add_all`].
    ///
    /// # Errors
    /// As [`Sums::add_all`].
    pub fn add_all(&mut self, rows: &[i16], samples: &[(u32, Target<'_>)]) -> Result<(), Error> {
        self.sums.add_all(rows, samples)
    }

    /// Adds other moments; classes that only they have come in at their places.
    ///
    /// # Errors
    /// [`Error::Unlike`] with what differs, [`Error::TooMany`].
    pub fn merge(&mut self, other: &Self) -> Result<(), Error> {
        self.refuse_unlike(other)?;
        let names = self.union(other)?;
        let mut sums = self.placed(&names)?;
        sums.merge(&other.placed(&names)?)?;
        (self.labels, self.sums) = (names, sums);
        Ok(())
    }

    /// Takes other moments away that were added; classes that have no sample then are gone.
    ///
    /// # Errors
    /// [`Error::Unlike`], [`Error::NotContained`]; nothing is changed then.
    pub fn subtract(&mut self, other: &Self) -> Result<(), Error> {
        self.refuse_unlike(other)?;
        let names = self.union(other)?;
        ensure(names.len() == self.labels.len(), Error::NotContained(Field::Labels))?;
        self.sums.subtract(&other.placed(&names)?)?;
        self.drop_empty();
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn sums_mut(&mut self) -> &mut Sums<Vec<i64>> {
        &mut self.sums
    }

    fn refuse_unlike(&self, other: &Self) -> Result<(), Error> {
        let (a, b) = (&self.about, &other.about);
        let same = |same: bool, field: Field| ensure(same, Error::Unlike(field));
        same(a.base == b.base, Field::Base)?;
        same(a.output == b.output && a.appended == b.appended, Field::Output)?;
        same(a.features == b.features, Field::Features)?;
        same(a.coordinates == b.coordinates, Field::Coordinates)?;
        same(a.bits == b.bits, Field::Bits)?;
        same(a.basis == b.basis && a.directions == b.directions, Field::Basis)?;
        same(a.task == b.task, Field::Task)?;
        same(a.target_step == b.target_step, Field::TargetStep)?;
        same(a.preprocessing == b.preprocessing, Field::Preprocessing)?;
        let free = a.task == Task::Classification;
        same(free || self.labels == other.labels, Field::Labels)?;
        same(free || self.sums.shape() == other.sums.shape(), Field::Targets)
    }

    /// The labels of both.
    fn union(&self, other: &Self) -> Result<Vec<String>, Error> {
        if self.about.task != Task::Classification {
            return Ok(self.labels.clone());
        }
        let names: BTreeSet<&String> = self.labels.iter().chain(&other.labels).collect();
        Shape::new(self.about.task, self.about.coordinates as usize, names.len())?;
        Ok(names.into_iter().cloned().collect())
    }

    /// The sums with a column for each of these names, which hold all of the own ones in their order.
    fn placed(&self, names: &[String]) -> Result<Sums<Vec<i64>>, Error> {
        let old = self.sums.shape();
        if names.len() == old.targets || self.labels.is_empty() && old.targets > 0 {
            return Ok(self.sums.clone());
        }
        let shape = Shape::new(old.task, old.coordinates, names.len())?;
        let (products, rows) = (old.mixed_at(0, 0), old.rows());
        let mut cells = self.sums.cells()[..products].to_vec();
        for name in names {
            match self.labels.iter().position(|own| own == name) {
                Some(own) => cells.extend(&self.sums.cells()[old.mixed_at(0, own)..][..rows]),
                None => cells.extend(std::iter::repeat_n(0, rows)),
            }
        }
        cells.push(self.sums.clipped());
        Sums::from_cells(shape, cells, VALUE_MAX)
    }

    /// Classes in the order of their names.
    fn sorted(mut self) -> Self {
        if self.about.task == Task::Classification {
            self.labels.sort_unstable();
        }
        self
    }

    /// Leaves out the classes that have no sample.
    fn drop_empty(&mut self) {
        let shape = self.sums.shape();
        let kept: Vec<usize> = (0..shape.targets).filter(|class| self.sums.count(*class) > 0).collect();
        if shape.task != Task::Classification || kept.len() == shape.targets {
            return;
        }
        let mut cells = self.sums.cells()[..shape.mixed_at(0, 0)].to_vec();
        kept.iter().for_each(|class| cells.extend(&self.sums.cells()[shape.mixed_at(0, *class)..][..shape.rows()]));
        cells.push(self.sums.clipped());
        self.labels = kept.iter().map(|class| self.labels[*class].clone()).collect();
        let shape = Shape { targets: kept.len(), ..shape };
        self.sums = Sums::from_cells(shape, cells, VALUE_MAX).expect("what is left out is zero");
    }

    /// The file. Equal moments give equal bytes.
    ///
    /// # Errors
    /// Moments without a sample, names that the format refuses.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let mut filled = self.clone();
        filled.drop_empty();
        let (about, sums) = (&filled.about, &filled.sums);
        let header = Header {
            base: about.base,
            basis: about.basis,
            directions: about.directions,
            output: &about.output,
            appended: about.appended,
            features: about.features,
            coordinates: about.coordinates,
            bits: about.bits,
            task: about.task,
            target_step: about.target_step,
            preprocessing: about.preprocessing.get(),
            samples: sums.samples() as u32,
            clipped: sums.clipped() as u64,
            targets: sums.shape().targets as u32,
            labels: filled.labels.len() as u32,
        };
        header.check()?;
        let mut head = postcard::to_extend(&header, Vec::new()).map_err(|_| Error::Header)?;
        for label in &filled.labels {
            head = postcard::to_extend(label.as_str(), head).map_err(|_| Error::Header)?;
        }
        let mut numbers = (Encoder::new(), Trees::NEW);
        let mut cells = sums.cells().to_vec();
        code::walk(sums.shape(), sums.samples(), &mut cells, &mut numbers).ok_or(Error::Payload)?;
        let payload = numbers.0.finish();
        let mut bytes = Vec::with_capacity(PREAMBLE_BYTES + head.len() + payload.len() + 32);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend([0; 2]);
        bytes.extend((head.len() as u32).to_le_bytes());
        bytes.extend((payload.len() as u32).to_le_bytes());
        bytes.extend(head);
        bytes.extend(payload);
        bytes.extend(identity_of(&bytes));
        View::parse(&bytes)?;
        Ok(bytes)
    }

    /// Reads a file and checks everything, what takes a matrix included.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let view = View::parse(bytes)?;
        let header = view.header();
        let cells = header.shape()?.cells();
        let sums = view.sums(vec![0; cells])?;
        possible(&sums, &mut vec![0.0; work(header.coordinates as usize)])?;
        let about = About {
            base: header.base,
            basis: header.basis,
            directions: header.directions,
            output: header.output.into(),
            appended: header.appended,
            features: header.features,
            coordinates: header.coordinates,
            bits: header.bits,
            task: header.task,
            target_step: header.target_step,
            preprocessing: (&header.preprocessing).into(),
        };
        Ok(Self { about, labels: view.labels().map(|label| label.to_string()).collect(), sums })
    }
}

/// The moments with a signature of `key`; one that they had is replaced. Their identity stays the same.
///
/// # Errors
/// Bytes that are no moments.
pub fn sign(bytes: &[u8], key: &KeyPair) -> Result<Vec<u8>, Error> {
    let view = View::parse(bytes)?;
    let seal = if view.signer().is_some() { 96 } else { 0 };
    let mut signed = bytes[..bytes.len() - seal].to_vec();
    signed[6..8].copy_from_slice(&SIGNED.to_le_bytes());
    signed.extend(key.public());
    signed.extend(signature_of(CONTEXT, view.identity(), key));
    View::parse(&signed)?;
    Ok(signed)
}
