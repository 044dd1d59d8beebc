//! Why moments are refused. Flat and without strings: it exists without an allocator.

use core::fmt;

/// What of a moments file, or of two that are to be put together, something is wrong with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Field {
    Base,
    Basis,
    Value,
    Output,
    Features,
    Coordinates,
    Bits,
    Task,
    TargetStep,
    Preprocessing,
    Targets,
    Labels,
    Samples,
    Clipped,
    Counts,
    Sums,
    Products,
    Mixed,
    Squares,
    Scatter,
}

impl Field {
    fn name(self) -> &'static str {
        match self {
            Field::Base => "base",
            Field::Basis => "basis",
            Field::Value => "value",
            Field::Output => "output",
            Field::Features => "features",
            Field::Coordinates => "coordinates",
            Field::Bits => "bits",
            Field::Task => "task",
            Field::TargetStep => "target_step",
            Field::Preprocessing => "preprocessing",
            Field::Targets => "targets",
            Field::Labels => "labels",
            Field::Samples => "samples",
            Field::Clipped => "clipped",
            Field::Counts => "counts",
            Field::Sums => "sums",
            Field::Products => "products",
            Field::Mixed => "mixed",
            Field::Squares => "squares",
            Field::Scatter => "scatter",
        }
    }
}

/// Why moments are refused, or cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// Shorter than the file says it is.
    TooShort,
    /// Longer than moments can be, or bytes follow that belong to nothing.
    TooLong,
    /// The first bytes are not those of moments.
    Magic,
    /// A format version that this reader does not know.
    Version(u16),
    /// A flag that this reader does not know.
    Flags(u16),
    /// The hash behind the sums is not that of the bytes before it.
    Checksum,
    /// The signature is not one of the key that stands beside it.
    Signature,
    /// There is no signature, and one was demanded.
    Unsigned,
    /// Signed, but by another key than the one that was demanded.
    OtherKey,
    /// The header does not decode, or has bytes left over.
    Header,
    /// A text or number of the header that cannot be.
    Wrong(Field),
    /// A label is empty, too long, has control characters, or does not stand behind the one before it.
    Label(u32),
    /// The sums do not decode, or leave something over.
    Payload,
    /// Sums that no data can give.
    Impossible(Field),
    /// There would be 2³² samples or more.
    TooMany,
    /// What is to be put together differs.
    Unlike(Field),
    /// What is to be taken away was never added.
    NotContained(Field),
    /// Numbers for other sizes than these sums have.
    Shape,
    /// A target that is not one of these sums.
    Target,
    /// A feature is infinite or not a number.
    NotFinite,
    /// Bytes that are no basis file: another kind, damaged, cut off or falsely signed.
    BasisFile,
    /// Another basis, or one of another base.
    OtherBasis,
    /// There is no classifier of the base to take directions from.
    NoClassifier,
    /// More coordinates than there are directions, of which there are at most so many.
    Coordinates(u32),
    /// A penalty of zero or less, or one that is too small for these sums.
    Penalty,
}

impl Error {
    /// The message, where it has no number or name in it.
    fn words(self) -> Option<&'static str> {
        Some(match self {
            Error::TooShort => "the moments are cut off; fetch them again",
            Error::TooLong => {
                "the moments are longer than their header says or than moments can be; do not trust their source"
            }
            Error::Magic => {
                "not moments (the file does not begin with EMOM); give a file that `edgetune moments` wrote"
            }
            Error::Checksum => "the checksum of the moments differs: they were damaged; fetch them again",
            Error::Signature => "the signature of the moments is wrong; do not trust them, fetch them again",
            Error::Unsigned => "the moments are not signed; add them with setting `key`, or do not trust them",
            Error::OtherKey => "the moments are signed by another key; do not trust them, or give its key",
            Error::Header => "the header of the moments does not decode; update edgetune, or write them again",
            Error::Payload => "the sums of the moments do not decode; do not trust their source",
            Error::TooMany => "2^32 samples or more are over the limit of moments; begin new ones",
            Error::Shape => "the numbers are for moments of another size; use one basis and one set of labels",
            Error::Target => "a target is not one of these moments, or is out of range; add its label first",
            Error::NotFinite => {
                "the model gives infinity or no number (NaN) for a sample; remove the sample, or check the preprocessing"
            }
            Error::BasisFile => {
                "not a basis, or a damaged or falsely signed one; write it again with `edgetune moments basis`"
            }
            Error::OtherBasis => {
                "the basis is another one, or of another model; give the model and the basis of the moments"
            }
            Error::NoClassifier => {
                "the model has no linear classifier of floats to take directions from; choose setting `directions = orthogonal` or identity"
            }
            Error::Penalty => "the penalty is too small for these moments: their sums are singular; give a larger one",
            _ => return None,
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Error::Version(version) => {
                write!(f, "the moments have format version {version}, known is 1; update edgetune on this device")
            }
            Error::Flags(flags) => {
                write!(f, "the moments have unknown flags {flags:#06x}; update edgetune on this device")
            }
            Error::Wrong(field) => write!(
                f,
                "the `{}` of the moments is impossible (empty, zero, or over its limit); write them again",
                field.name()
            ),
            Error::Label(index) => write!(
                f,
                "label {index} of the moments is empty, over 256 bytes, has control characters or is out of order; rename the class"
            ),
            Error::Impossible(field) => write!(
                f,
                "the `{}` of the moments are such as no data can give; do not trust their source",
                field.name()
            ),
            Error::Unlike(field) => write!(
                f,
                "the moments differ in `{}`; put together those of one model, one basis and one task",
                field.name()
            ),
            Error::NotContained(field) => write!(
                f,
                "what is to be removed was never added: the `{}` would be negative or impossible; give what was added",
                field.name()
            ),
            Error::Coordinates(most) => write!(
                f,
                "there are not so many coordinates: these directions have at most {most}; give fewer by setting `coordinates`"
            ),
            other => f.write_str(other.words().unwrap_or_default()),
        }
    }
}

impl core::error::Error for Error {}

/// Refuses unless it holds.
pub(super) fn ensure(holds: bool, otherwise: Error) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(otherwise) }
}
