//! One NumPy array: the bytes of a `.npy` file (NumPy Enhancement Proposal 1, formats 1.0 to 3.0) → a tensor.
//!
//! Takes bytes that may lie in a memory map and gives a tensor over the same bytes where the model takes such elements, so
//! an array costs no memory of the process; else a converted copy. The header is checked against the bytes that are there
//! before anything is allocated.

use crate::graph::{DType, Tensor};
use crate::mapped;
use bytes::Bytes;

/// So many bytes are looked at before their pages are given back.
const BLOCK_BYTES: usize = 1 << 20;

/// An array of numbers, row-major.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Array {
    pub shape: Vec<u64>,
    element: Element,
    /// Little-endian, as many as the shape says.
    data: Bytes,
}

/// Element types that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    Uint8,
    Int8,
    Uint16,
    Int16,
    Uint32,
    Int32,
    Int64,
    Float16,
    Float,
    Double,
    /// So many characters of UTF-32 each, zeros behind a shorter text.
    Unicode(usize),
    /// So many bytes each, zeros behind a shorter text.
    Text(usize),
}

impl Element {
    /// From what follows the byte order in a header's `descr`.
    fn parse(code: &str) -> Option<Self> {
        Some(match code {
            "b1" | "u1" => Self::Uint8,
            "i1" => Self::Int8,
            "u2" => Self::Uint16,
            "i2" => Self::Int16,
            "u4" => Self::Uint32,
            "i4" => Self::Int32,
            "i8" => Self::Int64,
            "f2" => Self::Float16,
            "f4" => Self::Float,
            "f8" => Self::Double,
            _ => {
                let length = code.get(1..)?.parse().ok().filter(|length| (1..=1 << 20).contains(length))?;
                match code.as_bytes()[0] {
                    b'U' => Self::Unicode(length),
                    b'S' => Self::Text(length),
                    _ => return None,
                }
            }
        })
    }

    fn bytes(self) -> usize {
        match self {
            Self::Uint8 | Self::Int8 => 1,
            Self::Uint16 | Self::Int16 | Self::Float16 => 2,
            Self::Uint32 | Self::Int32 | Self::Float => 4,
            Self::Int64 | Self::Double => 8,
            Self::Unicode(length) => 4 * length,
            Self::Text(length) => length,
        }
    }

    fn is_float(self) -> bool {
        matches!(self, Self::Float16 | Self::Float | Self::Double)
    }
}

impl Array {
    /// Reads a `.npy` file's bytes.
    ///
    /// # Errors
    /// The reason, with what to do about it.
    pub fn parse(bytes: &Bytes) -> Result<Self, String> {
        let (header, start) = split_header(bytes).ok_or("no .npy array, or one that is cut off")?;
        let descr = field(header, "descr").ok_or("the header has no `descr`")?;
        let kind = descr.trim_matches(|c| c == '\'' || c == '"');
        let columns_first = field(header, "fortran_order") != Some("False");
        let shape = field(header, "shape").ok_or("the header has no `shape`")?;
        let sizes = shape.trim_matches(['(', ')']).split(',').map(str::trim).filter(|size| !size.is_empty());
        let shape: Vec<u64> =
            sizes.map(str::parse).collect::<Result<_, _>>().map_err(|_| "the header's `shape` is damaged")?;
        if kind.starts_with('>') {
            return Err("big-endian numbers; save array.astype('<f4')".into());
        }
        let code = kind.trim_start_matches(['<', '|', '=']);
        let element = Element::parse(code).ok_or_else(|| match code {
            "O" => {
                "Python objects, which are not read; save numbers as float32, and labels as array.astype(str)".into()
            }
            _ => format!("elements of type `{code}` are not read; save float32 or int64"),
        })?;
        let data = bytes.slice(start..);
        let size = shape.iter().try_fold(element.bytes() as u64, |size, side| size.checked_mul(*side));
        if size != Some(data.len() as u64) {
            return Err(format!("{} bytes of data do not fill shape {shape:?}", data.len()));
        }
        let array = Self { shape, element, data };
        Ok(if columns_first && array.shape.len() > 1 { array.rows_first() } else { array })
    }

    /// The same array with the last axis running fastest, where the first did (Fortran order).
    fn rows_first(self) -> Self {
        let each = self.element.bytes();
        let mut data = Vec::with_capacity(self.data.len());
        let mut at = vec![0u64; self.shape.len()];
        for _ in 0..self.len() {
            let place = at.iter().zip(&self.shape).rev().fold(0, |place, (at, side)| place * side + at) as usize;
            data.extend_from_slice(&self.data[place * each..(place + 1) * each]);
            for (at, side) in at.iter_mut().zip(&self.shape).rev() {
                *at += 1;
                if *at < *side {
                    break;
                }
                *at = 0;
            }
        }
        Self { data: data.into(), ..self }
    }

    /// Whether the elements are texts.
    pub fn is_text(&self) -> bool {
        matches!(self.element, Element::Unicode(_) | Element::Text(_))
    }

    /// An element as text.
    pub fn text(&self, place: usize) -> String {
        let each = self.element.bytes();
        let bytes = &self.data[place * each..(place + 1) * each];
        let text: String = match self.element {
            Element::Unicode(_) => bytes
                .chunks_exact(4)
                .map(|unit| u32::from_le_bytes([unit[0], unit[1], unit[2], unit[3]]))
                .map(|unit| char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect(),
            Element::Text(_) => String::from_utf8_lossy(bytes).into_owned(),
            _ => return self.number(place).to_string(),
        };
        text.trim_end_matches('\0').into()
    }

    /// Numbers that were read from elsewhere.
    pub fn of_floats(shape: Vec<u64>, values: Vec<f32>) -> Self {
        let data = Tensor::from_vec(&shape, values).data;
        Self { shape, element: Element::Float, data }
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.data.len() / self.element.bytes()
    }

    fn at<const N: usize>(&self, place: usize) -> [u8; N] {
        std::array::from_fn(|byte| self.data[place * N + byte])
    }

    /// An element of integers, widened.
    fn integer(&self, place: usize) -> i64 {
        match self.element {
            Element::Uint8 => self.data[place].into(),
            Element::Int8 => i8::from_le_bytes(self.at(place)).into(),
            Element::Uint16 => u16::from_le_bytes(self.at(place)).into(),
            Element::Int16 => i16::from_le_bytes(self.at(place)).into(),
            Element::Uint32 => u32::from_le_bytes(self.at(place)).into(),
            Element::Int32 => i32::from_le_bytes(self.at(place)).into(),
            Element::Int64 => i64::from_le_bytes(self.at(place)),
            Element::Float16 | Element::Float | Element::Double => self.float(place) as i64,
            // `tensor` refuses texts.
            Element::Unicode(_) | Element::Text(_) => 0,
        }
    }

    /// An element as what models compute with.
    fn float(&self, place: usize) -> f32 {
        match self.element {
            Element::Float16 => half::f16::from_le_bytes(self.at(place)).to_f32(),
            Element::Float => f32::from_le_bytes(self.at(place)),
            Element::Double => f64::from_le_bytes(self.at(place)) as f32,
            _ => self.integer(place) as f32,
        }
    }

    /// An element as a label: floats as fp32 has them, integers as they are.
    pub fn number(&self, place: usize) -> f64 {
        if self.element.is_float() { self.float(place).into() } else { self.integer(place) as f64 }
    }

    /// The first element that is not finite.
    fn not_finite(&self) -> Option<usize> {
        if !self.element.is_float() {
            return None;
        }
        let block = BLOCK_BYTES / self.element.bytes();
        (0..self.len()).step_by(block).find_map(|start| {
            let end = self.len().min(start + block);
            let found = (start..end).find(|place| !self.float(*place).is_finite());
            mapped::forget_pages(&self.data[start * self.element.bytes()..end * self.element.bytes()]);
            found
        })
    }

    /// The array as the element type that the model's input has; without one, f32 or i64.
    ///
    /// # Errors
    /// A number that is not finite or does not fit, and numbers of another kind than the model takes.
    pub fn tensor(self, dtype: Option<DType>) -> Result<Tensor, String> {
        if self.is_text() {
            return Err("texts where the model takes numbers; save numbers, or texts as .csv or .jsonl".into());
        }
        if let Some(place) = self.not_finite() {
            let each: u64 = self.shape[1..].iter().product();
            let value = self.float(place);
            return Err(format!("row {} holds {value}; correct or remove it", place as u64 / each.max(1)));
        }
        let wanted = dtype.unwrap_or(if self.element.is_float() { DType::Float } else { DType::Int64 });
        let as_is = matches!(
            (self.element, wanted),
            (Element::Float, DType::Float)
                | (Element::Float16, DType::Float16)
                | (Element::Int64, DType::Int64)
                | (Element::Int32, DType::Int32)
        );
        let places = 0..self.len();
        let shape = &self.shape[..];
        match wanted {
            _ if as_is => Ok(Tensor { dtype: wanted, shape: self.shape, data: self.data }),
            DType::Float => Ok(Tensor::from_vec(shape, places.map(|place| self.float(place)).collect())),
            DType::Float16 | DType::Double if self.element.is_float() => {
                let values: Vec<f32> = places.map(|place| self.float(place)).collect();
                Ok(Tensor::from_floats(wanted, shape, &values))
            }
            _ if self.element.is_float() => {
                Err(format!("fractions for an input of type {wanted}; save them as {wanted} in an .npz file"))
            }
            DType::Int64 => Ok(Tensor::from_vec(shape, places.map(|place| self.integer(place)).collect())),
            DType::Int32 => {
                let narrowed: Result<Vec<i32>, _> = places.map(|place| i32::try_from(self.integer(place))).collect();
                Ok(Tensor::from_vec(shape, narrowed.map_err(|_| "a number beyond 32 bits for an int32 input")?))
            }
            _ => Err(format!("integers for an input of type {wanted}; save them as float32")),
        }
    }
}

/// The largest number whose square is finite in `float`, rounded down.
const SQUARE_FINITE: f32 = 1e19;

/// Whether all numbers can be computed with.
///
/// # Errors
/// The first one that cannot, with what to do about it.
pub(super) fn not_huge(bytes: &Bytes) -> Result<(), String> {
    let array = Array::parse(bytes)?;
    let huge = (0..array.len()).map(|place| array.number(place)).find(|value| value.abs() > SQUARE_FINITE.into());
    match huge {
        Some(value) => Err(format!("it holds {:e}, whose square is beyond float32; correct the number", value as f32)),
        None => Ok(()),
    }
}

/// The bytes of a `.npy` file, format 1.0.
pub(super) fn of_floats(shape: &[u64], values: &[f32]) -> Vec<u8> {
    let sizes: String = shape.iter().map(|size| format!("{size},")).collect();
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({sizes}), }}");
    // The data begin at a multiple of 64 bytes; ten bytes come before the header, which ends with a line.
    while !(header.len() + 11).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    file
}

/// A file that is one sample, without a batch axis, as the element type that the model's input has.
///
/// # Errors
/// The reason, with what to do about it; another shape than `shape`.
pub(super) fn sample(bytes: &Bytes, dtype: Option<DType>, shape: Option<&[u64]>) -> Result<Tensor, String> {
    let array = Array::parse(bytes)?;
    if array.shape.is_empty() || array.shape.contains(&0) {
        return Err(format!("an array of shape {:?} holds no numbers along an axis", array.shape));
    }
    match shape {
        Some(shape) if *shape != array.shape[..] => {
            Err(format!("an array of shape {:?}, where {shape:?} is expected; each file is one sample", array.shape))
        }
        _ => {
            let tensor = array.tensor(dtype)?;
            // Behind a header of any length the numbers need not lie as their type asks.
            Ok(Tensor { data: Bytes::copy_from_slice(&tensor.data), ..tensor })
        }
    }
}

/// The header's text, and where the data begin.
fn split_header(bytes: &[u8]) -> Option<(&str, usize)> {
    let rest = bytes.strip_prefix(b"\x93NUMPY")?;
    let (version, rest) = rest.split_at_checked(2)?;
    let (length, rest) = match version[0] {
        1 => (usize::from(u16::from_le_bytes(rest.get(..2)?.try_into().ok()?)), &rest[2..]),
        2 | 3 => (u32::from_le_bytes(rest.get(..4)?.try_into().ok()?) as usize, &rest[4..]),
        _ => return None,
    };
    let (header, data) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(header).ok()?, bytes.len() - data.len()))
}

/// The text of one value in the header, a Python dictionary as `repr` writes it.
fn field<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = header.split_once(&format!("'{name}':"))?;
    let rest = rest.trim_start();
    let end = match rest.starts_with('(') {
        true => rest.find(')')? + 1,
        false => rest.find([',', '}'])?,
    };
    Some(rest[..end].trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn npy(descr: &str, shape: &str, data: &[u8]) -> Bytes {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        let length = header.len() as u16;
        [b"\x93NUMPY\x01\x00", &length.to_le_bytes()[..], header.as_bytes(), data].concat().into()
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_array_or_an_error(
            version in 0u8..5, descr in "[<>|=]?[a-zA-Z]?[0-9]{0,2}", shape in "\\(?[0-9, -]{0,24}\\)?",
            data in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
            let length = header.len() as u32;
            let length = if version == 1 { &length.to_le_bytes()[..2] } else { &length.to_le_bytes()[..] };
            let bytes = [b"\x93NUMPY", &[version, 0][..], length, header.as_bytes(), &data].concat();
            if let Ok(array) = Array::parse(&bytes.into()) {
                prop_assert_eq!(array.shape.iter().product::<u64>(), array.len() as u64);
            }
            let _ = Array::parse(&data.into());
        }
    }

    #[test]
    fn what_the_model_takes_is_not_copied() {
        for (descr, dtype, bytes) in
            [("<f4", DType::Float, 4), ("<f2", DType::Float16, 2), ("<i8", DType::Int64, 8), ("<i4", DType::Int32, 4)]
        {
            let file = npy(descr, "(3, 1)", &vec![1; 3 * bytes]);
            let tensor = Array::parse(&file).unwrap().tensor(Some(dtype)).unwrap();
            assert_eq!((tensor.dtype, tensor.shape, tensor.data.len()), (dtype, vec![3, 1], 3 * bytes), "{descr}");
            assert!(file.as_ptr_range().contains(&tensor.data.as_ptr()), "{descr}");
        }
    }

    #[test]
    fn elements_are_widened_or_narrowed_to_what_the_model_takes() {
        let tensor = |descr, data: &[u8], dtype| Array::parse(&npy(descr, "(2,)", data)).unwrap().tensor(dtype);
        for (descr, data, expected) in [
            ("|u1", vec![1, 255], [1, 255]),
            ("|b1", vec![1, 0], [1, 0]),
            ("|i1", vec![1, 255], [1, -1]),
            ("<u2", vec![1, 0, 0, 255], [1, 65280]),
            ("<i2", vec![1, 0, 0, 255], [1, -256]),
            ("<u4", vec![1, 0, 0, 0, 0, 0, 0, 255], [1, 4_278_190_080]),
            ("<i4", vec![1, 0, 0, 0, 0, 0, 0, 255], [1, -16_777_216]),
        ] {
            assert_eq!(tensor(descr, &data, None).unwrap().to_i64().unwrap(), expected, "{descr}");
            let floats = expected.map(|value| value as f32);
            assert_eq!(tensor(descr, &data, Some(DType::Float)).unwrap().to_f32().unwrap(), floats, "{descr}");
        }
        let doubles = [0.1f64.to_le_bytes(), (-2.5f64).to_le_bytes()].concat();
        assert_eq!(tensor("<f8", &doubles, None).unwrap().to_f32().unwrap(), [0.1, -2.5]);
        let wide = [1i64 << 40, 0].map(i64::to_le_bytes).concat();
        assert!(tensor("<i8", &wide, Some(DType::Int32)).unwrap_err().contains("beyond 32 bits"));
    }
}
