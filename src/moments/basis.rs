//! The basis: which coordinates of the features are summed up. It follows from the base alone, so that every device has the same one
//! without a word, or from data that were seen once, as a small file.

use super::error::{Error, ensure};
use super::header::Directions;
use super::project::Projection;
use super::small::factor;
use super::sums::COORDINATES_MAX;
use crate::delta::{KeyPair, check_signature, signature_of};
use crate::factor::first_values;
use ndarray::{Array2, ArrayView2, Axis, s};
use serde::{Deserialize, Serialize};

/// First bytes of a basis file.
pub const BASIS_MAGIC: [u8; 4] = *b"EBAS";
const BASIS_VERSION: u16 = 1;
const SIGNED: u16 = 1;
const CONTEXT: &str = "edgetune basis 1";
const PREAMBLE_BYTES: usize = 8;

/// Steps of the standard deviation of a coordinate where data tell it.
const STEPS_A_DEVIATION: f32 = 48.0;
/// The step of directions that say nothing of the features' size: features of networks are about 1.
const STEP: f32 = 1.0 / 64.0;
/// The same for a classifier whose rows have the norm 1: its scores are about as large in every network, so what its weights multiply is
/// the larger the smaller they are.
const STEP_BESIDE_NORM: f64 = 1.0 / 32.0;

/// What follows from a base: its hash, how many features it gives, and its own classifier's weight `[outputs, features]`.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The base's hash.
    pub base: &'a [u8; 32],
    /// Numbers of a sample's features.
    pub features: usize,
    /// The classifier's weight, if there is one that reads these features.
    pub classifier: Option<ArrayView2<'a, f32>>,
}

/// Centre, directions and steps of the coordinates.
#[derive(Debug, Clone, PartialEq)]
pub struct Basis {
    stored: Stored,
    /// U `[features, coordinates]` row-major; empty for the identity.
    matrix: Vec<f32>,
    hash: [u8; 32],
}

/// A basis as it lies in its file: all but the directions, which follow from the base.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Stored {
    base: [u8; 32],
    directions: Directions,
    features: u32,
    bits: u8,
    center: Vec<f32>,
    steps: Vec<f32>,
}

impl Basis {
    /// The basis that follows from a base alone.
    ///
    /// # Errors
    /// No classifier, more coordinates than there can be.
    pub fn build(source: Source<'_>, directions: Directions, coordinates: usize, bits: u8) -> Result<Self, Error> {
        let step = match (directions, source.classifier) {
            (Directions::Classifier, Some(weight)) => {
                let squares: f64 = weight.iter().map(|value| f64::from(*value).powi(2)).sum();
                let norm = (squares / weight.nrows().max(1) as f64).sqrt();
                power_of_two(STEP_BESIDE_NORM / if norm > 0.0 { norm } else { 1.0 })
            }
            _ => STEP,
        };
        let stored = Stored {
            base: *source.base,
            directions,
            features: source.features as u32,
            bits,
            center: Vec::new(),
            steps: vec![step; coordinates],
        };
        Self::rebuilt(stored, source)
    }

    /// The same directions with centre and steps from features that were seen: `[samples, features]`, two or more.
    ///
    /// # Errors
    /// Features that are not finite, or of another width.
    pub fn learned(&self, features: ArrayView2<'_, f32>) -> Result<Self, Error> {
        let width = self.stored.features as usize;
        ensure(features.ncols() == width && features.nrows() > 1, Error::Shape)?;
        ensure(features.iter().all(|feature| feature.is_finite()), Error::NotFinite)?;
        let wide = features.mapv(f64::from);
        let center = wide.mean_axis(Axis(0)).ok_or(Error::Shape)?;
        let along = &wide - &center;
        let along = if self.matrix.is_empty() { along } else { along.dot(&self.directions().mapv(f64::from)) };
        let deviation = along.map_axis(Axis(0), |column| (column.dot(&column) / features.nrows() as f64).sqrt());
        let largest = deviation.iter().fold(0.0f64, |largest, value| largest.max(*value));
        // What does not vary here may elsewhere: no step is finer than that of a thousandth of the largest deviation.
        let least = if largest > 0.0 { 1e-3 * largest } else { 1.0 };
        let steps = deviation.iter().map(|deviation| deviation.max(least) as f32 / STEPS_A_DEVIATION).collect();
        let center = center.iter().map(|value| *value as f32).collect();
        let stored = Stored { center, steps, ..self.stored.clone() };
        let hash = hash_of(&stored)?;
        Ok(Self { stored, matrix: self.matrix.clone(), hash })
    }

    /// The basis of a file, its directions made anew from the base.
    ///
    /// # Errors
    /// Bytes that are no basis, or one of another base.
    pub fn parse(bytes: &[u8], source: Source<'_>) -> Result<Self, Error> {
        let (stored, _) = read(bytes)?;
        ensure(stored.base == *source.base && stored.features as usize == source.features, Error::OtherBasis)?;
        Self::rebuilt(stored, source)
    }

    fn rebuilt(stored: Stored, source: Source<'_>) -> Result<Self, Error> {
        let (features, coordinates) = (source.features, stored.steps.len());
        let matrix = match stored.directions {
            Directions::Identity => {
                ensure(coordinates == features, Error::Coordinates(features.min(COORDINATES_MAX) as u32))?;
                Vec::new()
            }
            Directions::Orthogonal { seed } => {
                ensure(coordinates <= features, Error::Coordinates(features as u32))?;
                orthogonal(features, coordinates, seed)
            }
            Directions::Classifier => {
                let weight =
                    source.classifier.filter(|weight| weight.ncols() == features).ok_or(Error::NoClassifier)?;
                let most = features.min(weight.nrows());
                ensure(coordinates <= most, Error::Coordinates(most as u32))?;
                singular(weight, coordinates)
            }
        };
        ensure((1..=COORDINATES_MAX).contains(&coordinates), Error::Coordinates(COORDINATES_MAX as u32))?;
        let hash = hash_of(&stored)?;
        Ok(Self { stored, matrix, hash })
    }

    /// The file. Equal bases give equal bytes.
    ///
    /// # Errors
    /// None that a basis in memory can give.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        Ok([covered(&self.stored)?, self.hash.to_vec()].concat())
    }

    /// BLAKE3 of the file but its signature: names centre, directions and steps, whether there is a file or not.
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// Where the directions come from.
    pub fn kind(&self) -> Directions {
        self.stored.directions
    }

    /// Whether centre and steps are those of data, so that only the file has them.
    pub fn is_learned(&self) -> bool {
        !self.stored.center.is_empty()
    }

    /// Numbers of a sample's features.
    pub fn features(&self) -> usize {
        self.stored.features as usize
    }

    /// Coordinates that they become.
    pub fn coordinates(&self) -> usize {
        self.stored.steps.len()
    }

    /// Bits of a coordinate.
    pub fn bits(&self) -> u8 {
        self.stored.bits
    }

    /// The step of each coordinate.
    pub fn steps(&self) -> &[f32] {
        &self.stored.steps
    }

    /// c, `[features]`; empty for zeros.
    pub fn center(&self) -> &[f32] {
        &self.stored.center
    }

    /// U `[features, coordinates]`; not for the identity.
    pub fn directions(&self) -> ArrayView2<'_, f32> {
        let shape = (self.matrix.len() / self.coordinates(), self.coordinates());
        ArrayView2::from_shape(shape, &self.matrix).expect("a row a feature")
    }

    /// How features become coordinates.
    pub fn projection(&self) -> Projection<'_> {
        let Stored { center, steps, bits, .. } = &self.stored;
        Projection { center, directions: &self.matrix, steps, bits: *bits }
    }
}

/// The basis file with a signature of `key`; one that it had is replaced.
///
/// # Errors
/// Bytes that are no basis.
pub fn sign_basis(bytes: &[u8], key: &KeyPair) -> Result<Vec<u8>, Error> {
    let (stored, _) = read(bytes)?;
    let mut signed = covered(&stored)?;
    let hash = hash_of(&stored)?;
    signed[6..8].copy_from_slice(&SIGNED.to_le_bytes());
    signed.extend(hash);
    signed.extend(key.public());
    signed.extend(signature_of(CONTEXT, &hash, key));
    Ok(signed)
}

/// The key that has signed a basis file, if one has.
///
/// # Errors
/// Bytes that are no basis, a signature that is wrong.
pub fn basis_signer(bytes: &[u8]) -> Result<Option<[u8; 32]>, Error> {
    Ok(read(bytes)?.1)
}

/// Magic, version, no flags, and the basis; what the hash covers, but for the flags.
fn covered(stored: &Stored) -> Result<Vec<u8>, Error> {
    let mut bytes = BASIS_MAGIC.to_vec();
    bytes.extend(BASIS_VERSION.to_le_bytes());
    bytes.extend([0; 2]);
    postcard::to_extend(stored, bytes).map_err(|_| Error::BasisFile)
}

fn hash_of(stored: &Stored) -> Result<[u8; 32], Error> {
    let bytes = covered(stored)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bytes[..6]).update(&bytes[PREAMBLE_BYTES..]);
    Ok(hasher.finalize().into())
}

/// A file's content and its signer. There is one form of each, so what is read is written again and compared.
fn read(bytes: &[u8]) -> Result<(Stored, Option<[u8; 32]>), Error> {
    ensure(bytes.starts_with(&BASIS_MAGIC), Error::BasisFile)?;
    let content = bytes.get(PREAMBLE_BYTES..).ok_or(Error::BasisFile)?;
    let (stored, seal) = postcard::take_from_bytes::<Stored>(content).map_err(|_| Error::BasisFile)?;
    let finite = |value: &f32| value.is_finite();
    let steps = (1..=COORDINATES_MAX).contains(&stored.steps.len())
        && stored.steps.iter().all(|step| *step > 0.0 && finite(step));
    let centered = [0, stored.features as usize].contains(&stored.center.len()) && stored.center.iter().all(finite);
    ensure(steps && centered && super::BITS.contains(&stored.bits), Error::BasisFile)?;
    let hash = hash_of(&stored)?;
    let mut wanted = covered(&stored)?;
    let signed = bytes[6..8] == SIGNED.to_le_bytes();
    wanted[6..8].copy_from_slice(&u16::from(signed).to_le_bytes());
    wanted.extend(hash);
    ensure(bytes.starts_with(&wanted), Error::BasisFile)?;
    let rest = &seal[32..];
    if !signed {
        return if rest.is_empty() { Ok((stored, None)) } else { Err(Error::BasisFile) };
    }
    let (key, signature) = rest.split_first_chunk::<32>().ok_or(Error::BasisFile)?;
    let signature: &[u8; 64] = signature.try_into().map_err(|_| Error::BasisFile)?;
    check_signature(CONTEXT, &hash, key, signature).map_err(|_| Error::BasisFile)?;
    Ok((stored, Some(*key)))
}

/// Passes of the subspace iteration: the span of the largest directions is wanted, not each of them.
const PASSES: usize = 3;

/// An orthonormal basis of next to the span of the right singular vectors of the largest values, `[features, coordinates]` row-major, by
/// subspace iteration from a sketch that is the same everywhere (Halko, Martinsson and Tropp, arXiv 0909.4061, algorithm 4.4). With
/// equal steps a head does not depend on how the span is turned.
fn singular(weight: ArrayView2<'_, f32>, coordinates: usize) -> Vec<f32> {
    let weight = weight.mapv(f64::from);
    let mut along = orthonormal(weight.t().dot(&sketch(weight.nrows(), coordinates, 0)));
    for _ in 0..PASSES {
        along = orthonormal(weight.t().dot(&weight.dot(&along)));
    }
    along.iter().map(|value| *value as f32).collect()
}

/// Columns of an orthogonal matrix that the seed decides, `[features, coordinates]` row-major.
fn orthogonal(features: usize, coordinates: usize, seed: u64) -> Vec<f32> {
    orthonormal(sketch(features, coordinates, seed)).iter().map(|value| *value as f32).collect()
}

fn sketch(rows: usize, columns: usize, seed: u64) -> Array2<f64> {
    let drawn =
        first_values(seed, "edgetune basis", &[rows as u64, columns as u64]).into_iter().map(f64::from).collect();
    Array2::from_shape_vec((rows, columns), drawn).expect("as many values as the shape has")
}

/// What of the largest pivot a column must have that the columns before it do not.
const INDEPENDENT: f64 = 1e-10;

/// Orthonormal columns of the same span, by Cholesky's factor of their products, twice for the sake of rounding (Yamamoto et al.,
/// "Roundoff error analysis of the CholeskyQR2 algorithm", 2015). What depends on the columns before becomes zero: what rounding
/// would make of it differs between machines.
fn orthonormal(mut columns: Array2<f64>) -> Array2<f64> {
    let count = columns.ncols();
    for _ in 0..2 {
        let mut products = columns.t().dot(&columns);
        let largest = products.diag().iter().fold(f64::MIN_POSITIVE, |largest, value| largest.max(*value));
        products.diag_mut().mapv_inplace(|value| value + INDEPENDENT * largest);
        let packed: Vec<f64> = (0..count).flat_map(|i| products.row(i).slice_move(s![..=i]).to_vec()).collect();
        columns = columns.dot(&inverse_factor(packed, count));
        for mut column in columns.columns_mut() {
            if column.dot(&column) < 0.5 {
                column.fill(0.0);
            }
        }
    }
    columns
}

/// Of a positive definite matrix L·D·Lᵀ, packed, (L⁻¹)ᵀ·D^−½ `[n, n]`.
fn inverse_factor(mut packed: Vec<f64>, n: usize) -> Array2<f64> {
    let definite = factor(&mut packed, n);
    debug_assert!(definite, "the diagonal was raised above rounding");
    let row = |i: usize| &packed[i * (i + 1) / 2..][..=i];
    // Row i of L⁻¹ is eᵢ less the rows before, each as often as L says.
    let mut inverse: Vec<Vec<f64>> = Vec::with_capacity(n);
    for i in 0..n {
        let mut own = vec![0.0; i + 1];
        own[i] = 1.0;
        for (share, other) in row(i)[..i].iter().zip(&inverse) {
            own.iter_mut().zip(other).for_each(|(own, other)| *own -= share * other);
        }
        inverse.push(own);
    }
    let root = |i: usize| row(i)[i].max(f64::MIN_POSITIVE).sqrt();
    Array2::from_shape_fn((n, n), |(i, j)| if i <= j { inverse[j][i] / root(j) } else { 0.0 })
}

/// The power of two next to a positive number, on a scale of factors: one that little changes of the last bit do not change.
fn power_of_two(value: f64) -> f32 {
    value.log2().round().exp2() as f32
}
