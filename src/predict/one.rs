//! One sample at a time, by a model with an adapter that stay loaded.

use super::many::pixels;
use crate::data::{
    self, Grid, ImagePreprocessing, Limits, Preprocessing, SeriesPreprocessing, SoundPreprocessing, Target, Texts,
    decode_array, decode_photograph, decode_sound, decode_window, size_of_photograph,
};
use crate::engine;
use crate::graph::{DType, Dim, Tensor, TensorType};
use crate::host::Folders;
use crate::learn::samples::{grid_of, named_types, refuse_other_tokenizer, tokenizer_beside};
use crate::recipe::{Error, refuse};
use crate::task::{self, Answer, Asked};
use crate::train::artifact::Adapter;
use crate::train::single::Single;
use bytes::Bytes;
use std::path::{Path, PathBuf};

/// Bytes of a sample that is fed for a first run: a model may claim any shape.
const BLANK_BYTES_MAX: u64 = 1 << 28;

/// A model with an adapter, loaded.
pub struct Predictor {
    adapter: Adapter,
    takes: Takes,
    single: Single,
    /// Where a detector looks.
    grid: Option<Grid>,
}

/// What a sample is.
pub enum Takes {
    /// A photograph in a file's bytes.
    Photograph(ImagePreprocessing),
    /// A sound in a file's bytes.
    Sound(SoundPreprocessing),
    /// A window of a sensor series in a file's bytes.
    Series(Box<SeriesPreprocessing>),
    /// A text.
    Text(Box<Texts>),
    /// A NumPy array of one sample.
    Array {
        /// The type of its numbers.
        dtype: DType,
        /// Its sizes; `None` where the model leaves one open.
        shape: Option<Vec<u64>>,
    },
}

impl Predictor {
    /// Loads a model's file with an adapter's, and for texts the tokenizer that is named or lies beside one of them. ONNX
    /// Runtime has to be loaded ([`engine::load`]).
    ///
    /// # Errors
    /// A file that cannot be read; a delta of another model; a model whose samples are more than one input.
    pub fn load(
        (model, adapter, tokenizer): (&Path, &Path, Option<&Path>),
        options: &engine::Options,
        folders: &Folders,
    ) -> Result<Self, Error> {
        let adapter = Adapter::read(adapter)?;
        let found = tokenizer.map(PathBuf::from).or_else(|| tokenizer_beside(model));
        if let Some(Err(problem)) = found.map(|file| refuse_other_tokenizer(&file, &adapter.preprocessing)) {
            tracing::warn!("{problem}");
        }
        let base = adapter.base(model)?;
        let (bundle, values) = adapter.bundle(&base, &folders.bundles()?)?;
        let takes = Takes::open(adapter.preprocessing.clone(), &bundle.inputs, (model, tokenizer))?;
        let mut single = Single::new(&bundle, &values, options)?;
        // What only the first run allocates and packs is done before somebody waits.
        if let Some(blank) = takes.blank() {
            single.output(blank)?;
        }
        let boxes = adapter.task == crate::delta::Task::Detection;
        let grid = boxes.then(|| grid_of(&base)).transpose()?;
        Ok(Self { adapter, takes, single, grid })
    }

    /// The answer to a sample in its file's bytes: a photograph, a sound, a text or a NumPy array, as the model takes it. Of classes
    /// that exclude each other, the `top` likeliest are told.
    ///
    /// # Errors
    /// Bytes that are no such sample; what ONNX Runtime refuses.
    pub fn predict_bytes(&mut self, sample: &[u8], top: usize) -> Result<Answer, Error> {
        let task = task::of_wire(self.adapter.task);
        let by_words = |texts: &Texts| texts.by_words(sample);
        let (input, text, words) = match &self.takes {
            Takes::Text(texts) if task.target == Target::Tokens => by_words(texts).map_err(Error::Refused)?,
            takes => (takes.decode(sample).map_err(Error::Refused)?, "", Vec::new()),
        };
        let size = |_: &Grid| size_of_photograph(sample, &Limits::default()).ok();
        let picture = self.grid.as_ref().and_then(|grid| Some((grid, size(grid)?)));
        let output = self.single.tensor(input)?;
        let pixels = pixels(&self.adapter.preprocessing, &output);
        let asked = Asked { names: &self.adapter.labels, top, words: &words, text, pixels, picture };
        Ok((task.answer)(&asked, output.to_f32().unwrap_or_default()))
    }

    /// What was learned.
    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }
}

impl Takes {
    /// For a model's inputs; texts need the model's tokenizer.
    ///
    /// # Errors
    /// A tokenizer that cannot be read; a model whose samples are more than one input.
    pub fn open(
        preprocessing: Preprocessing,
        inputs: &[(String, TensorType)],
        (model, tokenizer): (&Path, Option<&Path>),
    ) -> Result<Self, Error> {
        match (preprocessing, inputs) {
            (Preprocessing::Text { max_length, .. }, inputs) => {
                let options = data::Options {
                    inputs: named_types(inputs),
                    tokenizer: tokenizer.map(Into::into),
                    ..data::Options::default()
                };
                Ok(Self::Text(Box::new(Texts::open(model, max_length, &options)?)))
            }
            (Preprocessing::Image(image), [_]) => Ok(Self::Photograph(image)),
            (Preprocessing::Sound(sound), [_]) => sound.validate().map(|()| Self::Sound(sound)).map_err(Error::from),
            (Preprocessing::Series(series), [_]) => {
                series.validate()?;
                Ok(Self::Series(Box::new(series)))
            }
            (Preprocessing::Plain, [(_, input)]) => Ok(Self::array(input)),
            (_, inputs) => refuse!("{}: it has {} inputs, and a sample is one", model.display(), inputs.len()),
        }
    }

    /// One sample for such an input, whose first axis is the batch's.
    fn array(input: &TensorType) -> Self {
        let sizes = input.shape.as_deref().and_then(|shape| shape.get(1..));
        Self::Array { dtype: input.dtype, shape: sizes.and_then(|sizes| sizes.iter().map(Dim::fixed).collect()) }
    }

    /// A sample of zeros, or a short text; none where the model leaves the shape open.
    fn blank(&self) -> Option<Vec<Tensor>> {
        let (dtype, shape) = match self {
            Self::Photograph(image) => (DType::Float, image.shape().to_vec()),
            Self::Sound(sound) => (DType::Float, sound.shape()),
            Self::Series(series) => (DType::Float, series.shape().to_vec()),
            Self::Text(texts) => return texts.tensors(b"a").ok(),
            Self::Array { dtype, shape } => (*dtype, shape.clone()?),
        };
        let bytes = shape.iter().try_fold(dtype.bits() as u64 / 8, |bytes, size| bytes.checked_mul(*size));
        let bytes = bytes.filter(|bytes| *bytes <= BLANK_BYTES_MAX)?;
        Some(vec![Tensor { dtype, shape, data: vec![0; bytes as usize].into() }])
    }

    /// What the model is fed.
    ///
    /// # Errors
    /// Why the bytes are no sample of this kind.
    pub fn decode(&self, sample: &[u8]) -> Result<Vec<Tensor>, String> {
        match self {
            Self::Photograph(image) => Ok(vec![decode_photograph(sample, image, &Limits::default())?]),
            Self::Sound(sound) => {
                Ok(vec![sound.tensor(&decode_sound(&Bytes::copy_from_slice(sample), &Limits::default())?)])
            }
            Self::Series(series) => Ok(vec![decode_window(sample, series)?]),
            Self::Text(texts) => texts.tensors(sample),
            Self::Array { dtype, shape } => {
                let tensor = decode_array(&Bytes::copy_from_slice(sample), *dtype)?;
                match shape {
                    Some(shape) if *shape != tensor.shape => Err(format!(
                        "an array of shape {:?}, where the model takes {shape:?}; set samples.kind to that",
                        tensor.shape
                    )),
                    _ => Ok(vec![tensor]),
                }
            }
        }
    }
}
