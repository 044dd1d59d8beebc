//! Predictions as an application asks for them.

use super::runtime;
use crate::data::npy_of_floats;
use crate::engine;
use crate::host::Folders;
use crate::learn::Computing;
use crate::learn::samples::tokenizer_beside;
use crate::predict::{self, Answer};
use crate::recipe::Error;
use std::path::Path;

/// A model with what was learned on it, loaded.
///
/// ```no_run
/// use edgetune::prelude::*;
///
/// # fn main() -> Result<(), edgetune::Error> {
/// let mut predictor = Predictor::open("model.onnx", "A.edelta")?;
/// for (class, share) in predictor.predict("cat.jpg")?.top(3) {
///     println!("{class} {share:.2}");
/// }
/// # Ok(())
/// # }
/// ```
pub struct Predictor {
    loaded: predict::Predictor,
}

impl Predictor {
    /// Loads a model and a delta of it, and for texts the `tokenizer.json` that lies beside one of them. ONNX Runtime is loaded
    /// as by [`Trainer::run`](super::Trainer::run).
    ///
    /// # Errors
    /// A file that cannot be read; a delta of another model; a model whose samples are more than one input.
    pub fn open(model: impl AsRef<Path>, delta: impl AsRef<Path>) -> Result<Self, Error> {
        let (model, delta) = (model.as_ref(), delta.as_ref());
        let folders = Folders::new(None)?;
        engine::load(&runtime(None, &folders))?;
        let tokenizer = [model, delta].into_iter().find_map(tokenizer_beside);
        let options = Computing::default().options();
        let loaded = predict::Predictor::load((model, delta, tokenizer.as_deref()), &options, &folders)?;
        Ok(Self { loaded })
    }

    /// The answer to a sample in a file: a photograph, a text or a NumPy array, as the model takes it.
    ///
    /// # Errors
    /// A file that cannot be read, or that holds no such sample.
    pub fn predict(&mut self, file: impl AsRef<Path>) -> Result<Answer, Error> {
        let file = file.as_ref();
        let bytes = std::fs::read(file).map_err(|source| Error::Io { path: file.into(), source })?;
        self.predict_bytes(&bytes).map_err(|error| match error {
            Error::Refused(problem) => Error::Refused(format!("{}: {problem}", file.display())),
            other => other,
        })
    }

    /// The answer to a sample in its file's bytes.
    ///
    /// # Errors
    /// Bytes that are no such sample.
    pub fn predict_bytes(&mut self, sample: &[u8]) -> Result<Answer, Error> {
        self.loaded.predict_bytes(sample, usize::MAX)
    }

    /// The answer to a text.
    ///
    /// # Errors
    /// A model that takes no text; a text of which no token remains.
    pub fn predict_text(&mut self, text: &str) -> Result<Answer, Error> {
        self.predict_bytes(text.as_bytes())
    }

    /// The answer to a sample of numbers, `shape` without the axis of the samples.
    ///
    /// # Errors
    /// A model that takes another shape.
    pub fn predict_numbers(&mut self, shape: &[u64], numbers: &[f32]) -> Result<Answer, Error> {
        self.predict_bytes(&npy_of_floats(shape, numbers))
    }
}
