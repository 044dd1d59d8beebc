//! One sample of a data set → the model's inputs, read when it is asked for.

use super::names::Names;
use super::rows::{bytes_of, row_key};
use super::{Dataset, Error, Limits, Samples, filesystem, fitting, image, npy, sound};
use crate::graph::Tensor;
use bytes::Bytes;

impl Dataset {
    /// A photograph's width and height in pixels; `None` where a sample is none, or cannot be read any more.
    pub fn pixels(&self, sample: usize) -> Option<[u32; 2]> {
        match (&self.samples, &self.names) {
            (Samples::Images { limits, .. }, Names::Files(files)) => {
                let bytes = filesystem::read_limited(&files.path(sample), limits).ok()?;
                image::size(&bytes, limits).ok()
            }
            _ => self.part(sample).and_then(|(part, sample)| part.pixels(sample)),
        }
    }

    /// A sample's tensors, one a model input by name, without a batch axis. May be called from several threads.
    ///
    /// # Errors
    /// A file that has gone or changed since it was opened, or whose pixels cannot be decoded.
    pub fn load(&self, sample: usize) -> Result<Vec<(String, Tensor)>, Error> {
        match &self.samples {
            Samples::Joined { first, both } => match sample.checked_sub(*first) {
                Some(sample) => both[1].load(sample),
                None => both[0].load(sample),
            },
            Samples::Tokens(tokens) => Ok(tokens.load(sample)),
            Samples::Kept(_) => {
                Err(Error::content(self.names.file(sample), "holds features and not the samples that they are of"))
            }
            Samples::Tensors(inputs) => {
                // Out of the file, which may change, and aligned.
                let rows = inputs.iter().map(|(name, tensor)| {
                    let data = Bytes::copy_from_slice(bytes_of(tensor, sample));
                    (name.clone(), Tensor { dtype: tensor.dtype, shape: tensor.shape[1..].to_vec(), data })
                });
                let rows: Vec<(String, Tensor)> = rows.collect();
                let key =
                    row_key(rows.iter().zip(inputs).map(|((name, row), (_, all))| (&name[..], all, &row.data[..])));
                if key != self.keys[sample] {
                    return Err(self.changed(sample));
                }
                Ok(rows)
            }
            Samples::Images { input, preprocessing, limits } => {
                let bytes = self.read(sample, limits)?;
                let tensor = image::load(&bytes, preprocessing, limits).map_err(|reason| {
                    let problem = format!("cannot be decoded ({reason}); replace or remove the file");
                    Error::content(self.names.file(sample), problem)
                })?;
                Ok(vec![(input.clone(), tensor)])
            }
            Samples::Windows { input, windows } => Ok(vec![(input.clone(), windows.load(sample))]),
            Samples::Clips { input, clips } => {
                let path = self.names.file(sample);
                let decode = || {
                    let bytes = self.read(sample, &clips.limits)?.into();
                    sound::decode(&bytes, &clips.limits).map_err(|reason| {
                        Error::content(&path, format!("cannot be decoded ({reason}); replace or remove the file"))
                    })
                };
                Ok(vec![(input.clone(), clips.load(&path, sample, decode)?)])
            }
            Samples::Arrays { input, dtype, shape, limits } => {
                let bytes = self.read(sample, limits)?.into();
                let failed = |reason| Error::content(self.names.file(sample), reason);
                let mut tensor = npy::sample(&bytes, *dtype, None).map_err(failed)?;
                let wanted = shape.as_deref().map(|wanted| fitting::fitted(&tensor.shape, wanted));
                if let Some(shape) = wanted.transpose().map_err(failed)?.flatten() {
                    tensor.shape = shape;
                }
                Ok(vec![(input.clone(), tensor)])
            }
        }
    }

    /// The file that a sample is.
    pub(super) fn read(&self, sample: usize, limits: &Limits) -> Result<Vec<u8>, Error> {
        let path = &self.names.file(sample);
        let bytes = filesystem::read_limited(path, limits).map_err(|source| Error::io(path, source))?;
        let hash = *blake3::hash(&bytes).as_bytes();
        let key = match &self.samples {
            Samples::Clips { clips, .. } => clips.key(hash, sample),
            _ => hash,
        };
        if key == self.keys[sample] { Ok(bytes) } else { Err(self.changed(sample)) }
    }

    /// A changed file under the old key would poison the feature cache.
    fn changed(&self, sample: usize) -> Error {
        Error::content(self.names.file(sample), "changed while it was in use; start again")
    }
}
