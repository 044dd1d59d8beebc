//! The file of identities that predictions are made with.

use crate::delta::Task;
use crate::predict::{Identities, Prediction};
use crate::train::artifact::Adapter;
use crate::train::prepare::Base;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};

/// Who is known.
#[derive(Debug, clap::Args)]
pub struct IdentitiesArgs {
    /// Tell the nearest of these identities, which `edgetune enroll-identity` has written
    #[arg(long, value_name = "FILE", requires = "adapter")]
    pub identities: Option<PathBuf>,
}

/// The hash of a delta's file.
pub fn delta_hash(path: &Path) -> Result<[u8; 32]> {
    let bytes = std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    Ok(*blake3::hash(&bytes).as_bytes())
}

/// Only what was trained for likeness gives vectors that are compared.
pub fn refuse_without_vectors(adapter: &Adapter) -> Result<()> {
    ensure!(
        adapter.task == Task::Likeness,
        "{}: it was not trained for likeness, so its answers are no vectors to compare; train with --loss multiple-negatives",
        adapter.path.display()
    );
    Ok(())
}

/// The answers with the nearest identity in the place of a vector.
pub fn recognise(
    args: &IdentitiesArgs,
    (base, adapter): (&Base, &Adapter),
    predictions: &mut [Prediction],
) -> Result<()> {
    let Some(path) = &args.identities else { return Ok(()) };
    refuse_without_vectors(adapter)?;
    let known = Identities::read(path)?;
    known.refuse_other(path, base.hash, delta_hash(&adapter.path)?)?;
    for prediction in predictions {
        prediction.nearest = Some(known.nearest(&std::mem::take(&mut prediction.answer.values))?);
    }
    Ok(())
}
