//! A device's delta before it counts: taken piece by piece, in as much memory as its head and its largest tensor.
//!
//! Takes bytes as they come and what they are expected to be; gives what the delta says of itself, or the first thing that is
//! wrong. Pure: no file, no clock, no database.

use crate::aggregate::{Current, Refusal, RoundForm, Staleness, weight};
use crate::delta::{self, Entry, Head, Located, PREAMBLE_BYTES, head_length};

/// What a delta is to be.
#[derive(Debug, Clone)]
pub struct Expected<'a> {
    /// The key of the device that sends it.
    pub signer: [u8; 32],
    /// Bytes in all.
    pub length: u64,
    /// BLAKE3 of all of them.
    pub hash: [u8; 32],
    /// The form of the channel.
    pub form: &'a RoundForm,
    /// Base and round of the channel.
    pub current: Current,
    /// How old it may be.
    pub staleness: Staleness,
    /// Values that it may have: ranks are free, but not without end.
    pub values_max: usize,
    /// Root of the sum of the squares of all its values, at most.
    pub norm_max: f64,
}

/// What is known of a delta that counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verified {
    /// What the delta is called by.
    pub identity: [u8; 32],
    /// What it says of the samples it learned from.
    pub samples: u64,
    /// How much it counts in the round.
    pub weight: f64,
    /// Root of the sum of the squares of its values.
    pub norm: f64,
}

/// Why a delta does not count.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Fault {
    /// It is no delta, damaged, or not signed by the device.
    #[error("{0}")]
    Delta(delta::Error),
    /// It is of another form than the channel.
    #[error(
        "the delta has another {0} than the channel; train on the channel's base by its recipe, which `edgetune fleet pull --recipe FILE` writes"
    )]
    Form(String),
    /// Another base or round.
    #[error("{0}")]
    Refused(Refusal),
    /// More values than the channel's adapter can do with.
    #[error("the delta has {values} values, at most {values_max} are taken; train with a lower rank")]
    Values {
        /// What it has.
        values: usize,
        /// What is allowed.
        values_max: usize,
    },
    /// Values that have left all bounds.
    #[error("the delta's norm is {norm:.3e}, at most {norm_max:.3e} is taken; train with a lower learning rate")]
    Norm {
        /// What it is.
        norm: f64,
        /// What is allowed.
        norm_max: f64,
    },
    /// Other bytes than were announced.
    #[error("the bytes are not those that were announced (BLAKE3); send the delta again")]
    Hash,
    /// More or fewer bytes than were announced.
    #[error("the delta has another length than was announced; send it again")]
    Length,
}

/// Takes a delta's bytes; see [`Verifier::push`].
pub struct Verifier<'a> {
    expected: Expected<'a>,
    hasher: blake3::Hasher,
    received: u64,
    /// Bytes that nothing has been made of yet.
    pending: Vec<u8>,
    /// Bytes that the next thing takes.
    needed: usize,
    stage: Stage,
    squares: f64,
}

enum Stage {
    Preamble,
    Head,
    /// What is still to come, the next one last.
    Tensors(Verified, Vec<Located<'static>>),
}

impl<'a> Verifier<'a> {
    /// A verifier that has seen nothing.
    pub fn new(expected: Expected<'a>) -> Self {
        let hasher = blake3::Hasher::new();
        let (pending, needed, stage) = (Vec::new(), PREAMBLE_BYTES, Stage::Preamble);
        Self { expected, hasher, received: 0, pending, needed, stage, squares: 0.0 }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// The first thing that is wrong; the delta is then to be forgotten.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        self.received += bytes.len() as u64;
        if self.received > self.expected.length {
            return Err(Fault::Length);
        }
        self.hasher.update(bytes);
        while !bytes.is_empty() {
            if self.needed == 0 {
                return Err(Fault::Delta(delta::Error::PayloadRest));
            }
            let (taken, rest) = bytes.split_at(bytes.len().min(self.needed - self.pending.len()));
            self.pending.extend_from_slice(taken);
            bytes = rest;
            if self.pending.len() == self.needed {
                self.advance()?;
            }
        }
        Ok(())
    }

    /// All bytes have been given.
    ///
    /// # Errors
    /// What can only be told at the end.
    pub fn finish(self) -> Result<Verified, Fault> {
        if self.received != self.expected.length {
            return Err(Fault::Length);
        }
        if self.hasher.finalize() != self.expected.hash {
            return Err(Fault::Hash);
        }
        let (norm, norm_max) = (self.squares.sqrt(), self.expected.norm_max);
        match self.stage {
            Stage::Tensors(_, left) if !left.is_empty() => Err(Fault::Delta(delta::Error::Payload(left.len() as u32))),
            Stage::Tensors(..) if norm > norm_max => Err(Fault::Norm { norm, norm_max }),
            Stage::Tensors(verified, _) => Ok(Verified { norm, ..verified }),
            Stage::Preamble | Stage::Head => Err(Fault::Delta(delta::Error::TooShort)),
        }
    }

    fn advance(&mut self) -> Result<(), Fault> {
        match &mut self.stage {
            Stage::Preamble => {
                let preamble = self.pending.first_chunk().ok_or(Fault::Length)?;
                // The preamble stays: the head includes it.
                self.needed = head_length(preamble).map_err(Fault::Delta)?;
                self.stage = Stage::Head;
                return Ok(());
            }
            Stage::Head => {
                let (verified, left) = head(&self.pending, &self.expected)?;
                self.stage = Stage::Tensors(verified, left);
            }
            Stage::Tensors(_, left) => {
                let located = left.pop().ok_or(Fault::Delta(delta::Error::PayloadRest))?;
                let square = |value: f32| self.squares += f64::from(value).powi(2);
                located.decode(&self.pending, square).map_err(Fault::Delta)?;
            }
        }
        self.pending.clear();
        let Stage::Tensors(_, left) = &mut self.stage else { return Ok(()) };
        // A tensor of no bytes has nothing to wait for.
        while let Some(empty) = left.pop_if(|next| next.entry.length == 0) {
            empty.decode(&[], |_| {}).map_err(Fault::Delta)?;
        }
        self.needed = left.last().map_or(0, |next| next.entry.length as usize);
        Ok(())
    }
}

/// All that can be told before the first value, and the tensors that are to come, the first one last.
fn head(bytes: &[u8], expected: &Expected<'_>) -> Result<(Verified, Vec<Located<'static>>), Fault> {
    let head = Head::parse(bytes).map_err(Fault::Delta)?;
    head.verify(&expected.signer).map_err(Fault::Delta)?;
    let length = head.length() as u64 + head.payload_length() as u64;
    if length != expected.length {
        return Err(Fault::Length);
    }
    let weight = weight(head.header(), &expected.current, &expected.staleness).map_err(Fault::Refused)?;
    let form = RoundForm::from_head(&head).map_err(Fault::Delta)?;
    if let Some(what) = expected.form.difference(&form) {
        return Err(Fault::Form(what));
    }
    let values = head.entries().map(|located| located.entry.count()).sum();
    if values > expected.values_max {
        return Err(Fault::Values { values, values_max: expected.values_max });
    }
    let mut left: Vec<Located<'static>> = head.entries().map(nameless).collect();
    left.reverse();
    let verified = Verified { identity: *head.identity(), samples: head.header().samples, weight, norm: 0.0 };
    Ok((verified, left))
}

/// What is needed to check a tensor's bytes, without the head that its name lies in.
fn nameless(located: Located<'_>) -> Located<'static> {
    let Entry { shape, encoding, packing, difference, length, hash, .. } = located.entry;
    let entry = Entry { name: "", shape, encoding, packing, difference, length, hash };
    Located { entry, index: located.index, offset: located.offset }
}
