//! A run that can be killed: everything a step depends on, in one file written atomically.
//!
//! ```text
//! 8 bytes   magic "EDCKPT01"
//! 32 bytes  BLAKE3 of what follows
//! …         postcard of [`Checkpoint`]
//! ```

use super::error::Error;
use super::evaluate::Metrics;
use super::optimizer::{Optimizer, State};
use super::prepare::Bundle;
use crate::atomic::write_atomically;
use serde::{Deserialize, Serialize};
use std::io::{BufWriter, Write};
use std::path::Path;

const MAGIC: &[u8; 8] = b"EDCKPT01";

/// The state of a run between two steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Hash of base, data, split and settings: a checkpoint goes on only in the run that it was made by.
    pub fingerprint: [u8; 32],
    /// The epoch in progress, from 0.
    pub epoch: u32,
    /// Optimiser steps done in it.
    pub step: u32,
    /// Optimiser steps done in all.
    pub steps_total: u64,
    /// Sum of the losses of this epoch's steps so far, and their number.
    pub loss_sum: f64,
    /// Parameters, in the bundle's order.
    pub parameters: Vec<Vec<f32>>,
    /// The optimiser's state, in the same order.
    pub states: Vec<State>,
    /// Finished epochs.
    pub history: Vec<EpochRecord>,
    /// What the first values measured, where they count as a result.
    pub start: Option<Metrics>,
    /// The best epoch so far, by validation loss.
    pub best: Option<Best>,
}

/// One finished epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Mean loss of the epoch's steps.
    pub train_loss: f64,
    /// Loss on the validation samples, with the values that would ship.
    pub validation_loss: Option<f64>,
    /// Accuracy on the validation samples.
    pub validation_accuracy: Option<f64>,
    /// For a language model: perplexity on the validation samples.
    pub validation_perplexity: Option<f64>,
    /// Seconds for steps and validation.
    pub seconds: f64,
}

/// The parameters of the best epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The epoch, from 1; 0 for the first values.
    pub epoch: u32,
    /// Its validation loss.
    pub loss: f64,
    /// Parameters, in the bundle's order.
    pub parameters: Vec<Vec<f32>>,
}

/// A run before its first step.
pub fn fresh(bundle: &Bundle, optimizer: &Optimizer, fingerprint: [u8; 32]) -> Checkpoint {
    let parameters: Vec<Vec<f32>> = bundle.parameters.iter().map(|parameter| parameter.initial.clone()).collect();
    Checkpoint {
        fingerprint,
        epoch: 0,
        step: 0,
        steps_total: 0,
        loss_sum: 0.0,
        states: parameters.iter().map(|values| State::new(optimizer, values.len())).collect(),
        parameters,
        history: Vec::new(),
        start: None,
        best: None,
    }
}

/// Writes a checkpoint over the previous one.
///
/// # Errors
/// The system's, with the file's name.
pub fn write(path: &Path, checkpoint: &Checkpoint) -> Result<(), Error> {
    // Encoded twice, once for the hash: in memory it would be as large as parameters, moments and best values together.
    let hashing = BufWriter::with_capacity(1 << 16, blake3::Hasher::new());
    let hashing = postcard::to_io(checkpoint, hashing).expect("plain values always encode, and hashing cannot fail");
    let hasher = hashing.into_inner().expect("hashing cannot fail");
    write_atomically(path, |writer| {
        writer.write_all(MAGIC)?;
        writer.write_all(hasher.finalize().as_bytes())?;
        let mut telling = Telling { writer, error: None };
        let encoded = postcard::to_io(checkpoint, &mut telling).map(|_| ()).map_err(std::io::Error::other);
        telling.error.map_or(encoded, Err)
    })
    .map_err(|source| Error::io(path, source))
}

/// Keeps the error of a write: postcard says of each that its buffer is full.
struct Telling<'w, W> {
    writer: &'w mut W,
    error: Option<std::io::Error>,
}

impl<W> Telling<'_, W> {
    fn keep(&mut self, error: std::io::Error) -> std::io::Error {
        let kind = error.kind();
        self.error = Some(error);
        kind.into()
    }
}

impl<W: Write> Write for Telling<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.writer.write(bytes).map_err(|error| self.keep(error))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.writer.flush().map_err(|error| self.keep(error))
    }
}

/// Reads a checkpoint of the run with that fingerprint; `None` if there is no file.
///
/// # Errors
/// A damaged file, or one of another run.
pub fn read(path: &Path, fingerprint: &[u8; 32]) -> Result<Option<Checkpoint>, Error> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Unreadable { path: path.into(), source }),
    };
    let refuse = |problem: &str| Error::Checkpoint { path: path.into(), problem: problem.into() };
    let damaged = || refuse("the checkpoint is damaged; delete it, or run without setting `resume`");
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(damaged)?;
    let (hash, body) = rest.split_at_checked(32).ok_or_else(damaged)?;
    if blake3::hash(body).as_bytes() != hash {
        return Err(damaged());
    }
    let checkpoint: Checkpoint = postcard::from_bytes(body).map_err(|_| damaged())?;
    if checkpoint.fingerprint != *fingerprint {
        let problem = "the checkpoint is of a run with another base, data or settings; repeat that command to go on, or \
                       run without setting `resume` to begin anew";
        return Err(refuse(problem));
    }
    Ok(Some(checkpoint))
}

/// Removes a checkpoint, if there is one.
///
/// # Errors
/// The system's, with the file's name.
pub fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, source)),
        _ => Ok(()),
    }
}
