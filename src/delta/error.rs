//! Why bytes are not a delta, or values cannot become one. Flat and without strings: it exists without an allocator.

use core::fmt;

/// Where in the header something is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Field {
    Tool,
    Device,
    GateReason,
    Licence,
    Notes,
    Loss,
    Output,
    HeadValue,
    HeadFeatures,
    HeadClasses,
    Method,
    ImageSize,
    ImageResize,
    ImageScale,
    ImageMean,
    ImageStd,
    SoundLength,
    SoundScale,
    LogMel,
    SeriesRows,
    SeriesHop,
    SeriesRate,
    SeriesTime,
    SeriesChannels,
    SeriesScaler,
    Metrics,
    Recipe,
}

impl Field {
    fn name(self) -> &'static str {
        match self {
            Field::Tool => "tool",
            Field::Device => "device",
            Field::GateReason => "gate.reason",
            Field::Licence => "licence",
            Field::Notes => "notes",
            Field::Loss => "loss",
            Field::Output => "output",
            Field::HeadValue => "head.value",
            Field::HeadFeatures => "head.features",
            Field::HeadClasses => "head.classes",
            Field::Method => "method.alpha",
            Field::ImageSize => "preprocessing.width, height",
            Field::ImageResize => "preprocessing.resize",
            Field::ImageScale => "preprocessing.scale",
            Field::ImageMean => "preprocessing.mean",
            Field::ImageStd => "preprocessing.std",
            Field::SoundLength => "preprocessing.samples",
            Field::SoundScale => "preprocessing.scale",
            Field::LogMel => "preprocessing.mel",
            Field::SeriesRows => "preprocessing.rows",
            Field::SeriesHop => "preprocessing.hop",
            Field::SeriesRate => "preprocessing.rate",
            Field::SeriesTime => "preprocessing.time",
            Field::SeriesChannels => "preprocessing.channels",
            Field::SeriesScaler => "preprocessing.scaler",
            Field::Metrics => "metrics",
            Field::Recipe => "recipe_text",
        }
    }
}

/// Why a delta is refused. Tensors and labels are told by their position, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// Shorter than the shortest delta.
    TooShort,
    /// Longer than the longest delta.
    TooLong,
    /// The first bytes are not a delta's.
    Magic,
    /// A format version that this reader does not know.
    Version(u16),
    /// A flag that this reader does not know.
    Flags(u16),
    /// The hash behind the header is not that of the bytes before it.
    Checksum,
    /// The stated header length is over the limit or reaches over the end.
    HeaderLength(u32),
    /// The header does not decode.
    Header,
    /// Bytes of the header are left over.
    HeaderRest,
    /// A text of the header is empty, too long or has control characters.
    Text(Field),
    /// A number of the header is zero, not finite or otherwise impossible.
    Number(Field),
    /// More labels than the limit.
    LabelCount(u32),
    /// No tensors, or more than the limit.
    TensorCount(u32),
    /// A label does not decode, is empty, too long or has control characters.
    Label(u32),
    /// The writer was given a label twice.
    LabelTwice(u32),
    /// A tensor entry does not decode, or has an encoding that this reader does not know.
    Entry(u32),
    /// A tensor's name is empty, too long or has control characters.
    TensorName(u32),
    /// A tensor's name is not behind the name before it.
    TensorOrder(u32),
    /// A shape has too many dimensions, a size of zero, or does not make up the stated bytes.
    Shape(u32),
    /// An encoding, packing or block that the tensor cannot have.
    Encoding(u32),
    /// The tensors have more values together than the limit.
    ValueCount,
    /// Other bytes than the hash in the header is of: damaged, cut off or exchanged.
    Payload(u32),
    /// Values do not decode, or leave something over.
    Values(u32),
    /// A value is infinite or not a number.
    NotFinite(u32),
    /// Bytes follow that belong to no tensor.
    PayloadRest,
    /// There is no signature, and one was demanded.
    Unsigned,
    /// The signature is not one of the key that stands beside it.
    Signature,
    /// Signed, but by another key than the one that was demanded.
    OtherKey,
    /// A key file is not what it should be, or a key is none.
    Key,
    /// A difference was to be applied to a value that is not finite, or the outcome is not.
    Reference,
    /// The delta is a difference, and something needs one that stands alone.
    IsDifference,
    /// The delta is a difference to another delta than the one given.
    OtherParent,
    /// Deltas that are to be merged are of different bases, outputs, labels or tensors.
    Unlike,
    /// DoRA's magnitudes and factors have no exact mean.
    Factors,
    /// The buffer to apply a tensor to has another number of elements.
    ApplyLength,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Error::TooShort => f.write_str("the delta is shorter than any delta; fetch it again"),
            Error::TooLong => f.write_str("the delta is over 256 MiB; train fewer layers"),
            Error::Magic => f.write_str("not a delta (it does not begin with EDLT); give a file that edgetune wrote"),
            Error::Version(version) => {
                write!(f, "the delta has format version {version}, known are 1 and 2; update edgetune on this device")
            }
            Error::Flags(flags) => {
                write!(f, "the delta has unknown flags {flags:#06x}; update edgetune on this device")
            }
            Error::Checksum => f.write_str("the delta's checksum differs: it was damaged or cut off; fetch it again"),
            Error::HeaderLength(length) => {
                write!(f, "the delta states a header of {length} bytes, which cannot be; do not trust its source")
            }
            Error::Header => f.write_str("the delta's header does not decode; update edgetune, or write it again"),
            Error::HeaderRest => f.write_str("the delta's header has bytes left over; do not trust its source"),
            Error::Text(field) => write!(
                f,
                "the delta's `{}` is empty, too long or has control characters; write it again with a plain name",
                field.name()
            ),
            Error::Number(field) => write!(
                f,
                "the delta's `{}` is impossible (zero, not finite, or contradicts the labels); write it again",
                field.name()
            ),
            Error::LabelCount(count) => write!(f, "the delta has {count} labels, at most 4096 can be; merge classes"),
            Error::TensorCount(count) => {
                write!(f, "the delta has {count} tensors, 1 to 4096 can be; train at least one and fewer layers")
            }
            Error::Label(index) => write!(
                f,
                "label {index} of the delta is empty, over 256 bytes or has control characters; rename the class"
            ),
            Error::LabelTwice(index) => {
                write!(f, "label {index} of the delta is there twice; give every class a name of its own")
            }
            Error::Entry(index) => {
                write!(f, "the entry of tensor {index} of the delta does not decode; update edgetune on this device")
            }
            Error::TensorName(index) => write!(
                f,
                "the name of tensor {index} of the delta is empty, over 1024 bytes or has control characters; \
                 rename the initializer"
            ),
            Error::TensorOrder(index) => {
                write!(f, "the name of tensor {index} of the delta is there twice or out of order; write it again")
            }
            Error::Shape(index) => write!(
                f,
                "the shape of tensor {index} of the delta has over 8 dimensions, a size of 0, or does not fit its \
                 values; write it again"
            ),
            Error::Encoding(index) => {
                write!(f, "tensor {index} of the delta has an encoding that it cannot have; do not trust its source")
            }
            Error::ValueCount => f.write_str("the delta has over 2^27 values; train fewer layers"),
            Error::Payload(index) => write!(
                f,
                "the values of tensor {index} of the delta are damaged or cut off: their hash differs; fetch it again"
            ),
            Error::Values(index) => {
                write!(f, "the values of tensor {index} of the delta do not decode; do not trust its source")
            }
            Error::NotFinite(index) => {
                write!(f, "tensor {index} of the delta has an infinite value or NaN; train with a lower learning rate")
            }
            Error::PayloadRest => f.write_str("the delta has bytes that belong to no tensor; do not trust its source"),
            Error::Unsigned => {
                f.write_str("the delta is not signed; sign it with `edgetune delta sign`, or do not trust it")
            }
            Error::Signature => f.write_str("the delta's signature is wrong; do not trust it, fetch it again"),
            Error::OtherKey => f.write_str("the delta is signed by another key; do not trust it, or give its key"),
            Error::Key => f.write_str("not an Ed25519 key in PEM (PKCS#8); make one with `edgetune delta keygen`"),
            Error::Reference => {
                f.write_str("a value that the delta changes is not finite or too large; use the base it was made for")
            }
            Error::IsDifference => f.write_str(
                "the delta is a difference to another; join them first: `edgetune delta apply PARENT DELTA --out FULL`",
            ),
            Error::OtherParent => {
                f.write_str("the delta is a difference to another delta than this one; give the one that it names")
            }
            Error::Unlike => f.write_str(
                "the deltas have different bases, outputs, labels, methods or tensors; merge those of one recipe",
            ),
            Error::Factors => f.write_str(
                "DoRA divides by a norm of its factors, so there is no exact mean; train with setting `adapter.method = lora` or rslora to merge",
            ),
            Error::ApplyLength => {
                f.write_str("the tensor has another number of elements than its target; use the base it was made for")
            }
        }
    }
}

impl core::error::Error for Error {}
