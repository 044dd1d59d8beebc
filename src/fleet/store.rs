//! Where deltas lie: a folder by default, S3 by URL.
//!
//! Takes and gives bytes under keys that the server makes of hashes and numbers alone; nothing that a device says becomes a part
//! of a path. What was put is on the disk (or in the store) when `put` comes back. Each call fails with [`Error`] where the folder
//! or the store cannot be reached, or refuses.

use axum::body::{Body, Bytes};
use axum::http::Method;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, ObjectStoreScheme, PutPayload};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// A folder or a bucket.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    root: Path,
    /// Signs addresses that others may fetch from, for a time.
    direct: Option<Arc<AmazonS3>>,
}

/// Bytes on their way out of the store.
pub struct Pieces {
    /// How many there are.
    pub length: u64,
    /// They.
    pub body: Body,
}

/// How long an address of a body holds: long enough to fetch the largest over a slow line.
const ADDRESS_LIFE: Duration = Duration::from_secs(15 * 60);

/// Why the folder or the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("the store of deltas: {0}")]
pub struct Error(String);

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        Self(error.to_string())
    }
}

/// A result of the store.
pub type Result<T> = std::result::Result<T, Error>;

impl Store {
    /// A folder, which is there.
    ///
    /// # Errors
    /// No such folder.
    pub fn folder(folder: &std::path::Path) -> Result<Self> {
        let inner = LocalFileSystem::new_with_prefix(folder)?.with_automatic_cleanup(true).with_fsync(true);
        Ok(Self { inner: Arc::new(inner), root: Path::default(), direct: None })
    }

    /// `s3://BUCKET/PREFIX`, with options such as `aws_access_key_id`, `aws_endpoint` and `aws_region`; what is no option of S3 is passed
    /// over. `is_direct`: [`Store::address`] gives addresses.
    ///
    /// # Errors
    /// A URL or an option that is none.
    pub fn at(url: &str, options: &[(String, String)], is_direct: bool) -> Result<Self> {
        super::tls::choose_cryptography();
        let parsed = url.parse().map_err(|error| Error(format!("`{url}` is no URL: {error}")))?;
        let (scheme, root) = ObjectStoreScheme::parse(&parsed).map_err(object_store::Error::from)?;
        if !matches!(scheme, ObjectStoreScheme::AmazonS3) {
            return Err(Error(format!("`{url}` is no address of S3; give s3://BUCKET/PREFIX")));
        }
        let known = options.iter().filter_map(|(name, value)| Some((name.parse().ok()?, value)));
        let builder = AmazonS3Builder::new().with_url(url);
        let s3 = Arc::new(known.fold(builder, |builder, (key, value)| builder.with_config(key, value)).build()?);
        Ok(Self { direct: is_direct.then(|| s3.clone()), inner: s3, root })
    }

    /// Where the bytes under a key can be fetched for a time, by whoever has the address; none where they come from here.
    pub async fn address(&self, key: &str) -> Result<Option<String>> {
        let Some(direct) = &self.direct else { return Ok(None) };
        Ok(Some(direct.signed_url(Method::GET, &self.path(key), ADDRESS_LIFE).await?.into()))
    }

    fn path(&self, key: &str) -> Path {
        self.root.parts().chain(Path::from(key).parts()).collect()
    }

    /// Puts bytes under a key; what lay there is replaced.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        self.inner.put(&self.path(key), PutPayload::from_bytes(bytes)).await?;
        Ok(())
    }

    /// The bytes under a key; none where there are none.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        match self.inner.get(&self.path(key)).await {
            Ok(found) => Ok(Some(found.bytes().await?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What lies under a key, or a part of it, piece by piece; none where nothing does. Nothing of it is held but the piece on its way.
    pub async fn read(&self, key: &str, part: Option<Range<u64>>) -> Result<Option<Pieces>> {
        let options = GetOptions { range: part.map(GetRange::Bounded), ..GetOptions::default() };
        match self.inner.get_opts(&self.path(key), options).await {
            Ok(found) => {
                let length = found.range.end - found.range.start;
                Ok(Some(Pieces { length, body: Body::from_stream(found.into_stream()) }))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes what lies under a key, if anything does.
    pub async fn delete(&self, key: &str) -> Result<()> {
        match self.inner.delete(&self.path(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Where a chunk of a device's delta lies.
pub fn chunk_key(device: &str, hash: &str, offset: u64) -> String {
    format!("deltas/{device}/{hash}/{offset}")
}

/// Where a released adapter lies.
pub fn adapter_key(hash: &str) -> String {
    format!("adapters/{hash}")
}
