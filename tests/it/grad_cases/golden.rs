//! Reads the gradient goldens; `tests/goldens/README.md` has their format.

use edgetune::graph::{Attr, DType, Tensor};
use ndarray::{ArrayD, OwnedRepr};
use ndarray_npy::{NpzReader, ReadNpzError, ReadableElement};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;
use std::sync::OnceLock;

/// One row of `grad.json`.
#[derive(Deserialize)]
pub struct Case {
    pub name: String,
    pub op: String,
    pub domain: String,
    pub opset: i64,
    attributes: BTreeMap<String, serde_json::Value>,
    pub inputs: Vec<Input>,
    pub outputs: usize,
    /// The outputs do not change as the gradient says.
    #[serde(default)]
    pub kink: bool,
}

/// One input of a case's node.
#[derive(Deserialize)]
pub struct Input {
    pub kind: String,
    pub needs_grad: bool,
    #[serde(default)]
    pub dynamic_axes: Vec<usize>,
}

impl Case {
    /// The node's attributes.
    pub fn attributes(&self) -> BTreeMap<String, Attr> {
        self.attributes.iter().map(|(name, value)| (name.clone(), attribute(value))).collect()
    }
}

fn attribute(value: &serde_json::Value) -> Attr {
    match value {
        serde_json::Value::Array(items) if items.first().is_some_and(|item| item.is_string()) => {
            Attr::Strs(items.iter().map(|item| item.as_str().unwrap().into()).collect())
        }
        serde_json::Value::Array(items) => Attr::Ints(items.iter().map(|item| item.as_i64().unwrap()).collect()),
        serde_json::Value::String(text) => Attr::Str(text.clone()),
        number => number.as_i64().map_or_else(|| Attr::Float(number.as_f64().unwrap() as f32), Attr::Int),
    }
}

/// An array of `grad.npz`.
pub enum Array {
    Float(ArrayD<f64>),
    Int(ArrayD<i64>),
    Bool(ArrayD<bool>),
}

impl Array {
    /// The numbers of an array of them.
    pub fn floats(&self) -> Vec<f64> {
        match self {
            Array::Float(array) => array.iter().copied().collect(),
            Array::Int(array) => array.iter().map(|index| *index as f64).collect(),
            Array::Bool(_) => panic!("not an array of numbers"),
        }
    }

    /// As the model takes it: floats, and integers if it is `Int32`, narrowed to `dtype`.
    pub fn tensor(&self, dtype: DType) -> Tensor {
        let sizes = |shape: &[usize]| shape.iter().map(|size| *size as u64).collect::<Vec<u64>>();
        match self {
            Array::Float(array) => float_tensor(dtype, &sizes(array.shape()), &self.floats()),
            Array::Int(array) if dtype == DType::Int32 => {
                Tensor::from_vec(&sizes(array.shape()), array.iter().map(|index| *index as i32).collect())
            }
            Array::Int(array) => Tensor::from_i64(&sizes(array.shape()), &array.iter().copied().collect::<Vec<i64>>()),
            Array::Bool(array) => {
                let data = array.iter().map(|flag| u8::from(*flag)).collect();
                Tensor { dtype: DType::Bool, shape: sizes(array.shape()), data }
            }
        }
    }
}

/// A tensor of that type: of floats, or of what is quantised.
pub fn float_tensor(dtype: DType, shape: &[u64], values: &[f64]) -> Tensor {
    match dtype {
        DType::Double => Tensor::from_vec(shape, values.to_vec()),
        DType::Uint8 => Tensor::from_vec(shape, values.iter().map(|value| *value as u8).collect::<Vec<u8>>()),
        DType::Int8 => Tensor::from_vec(shape, values.iter().map(|value| *value as i8).collect::<Vec<i8>>()),
        // Both hold their numbers modulo 65,536.
        DType::Uint16 | DType::Int16 => {
            let bytes: Vec<u8> = values.iter().flat_map(|value| (*value as i32 as u16).to_le_bytes()).collect();
            Tensor { dtype, shape: shape.to_vec(), data: bytes.into() }
        }
        _ => Tensor::from_vec(shape, values.iter().map(|value| *value as f32).collect::<Vec<f32>>()),
    }
}

/// The whole table, read once.
pub struct Golden {
    pub cases: Vec<Case>,
    pub arrays: HashMap<String, Array>,
}

/// The committed goldens: every `grad*.json` with the `.npz` beside it.
pub fn golden() -> &'static Golden {
    static GOLDEN: OnceLock<Golden> = OnceLock::new();
    GOLDEN.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
        let entries =
            std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> =
            entries.filter(|name| name.starts_with("grad") && name.ends_with(".json")).collect();
        names.sort_unstable();
        let mut all = Golden { cases: vec![], arrays: HashMap::new() };
        for name in names {
            let table = folder.join(name);
            let cases: Vec<Case> = serde_json::from_str(&std::fs::read_to_string(&table).unwrap()).unwrap();
            all.cases.extend(cases);
            all.arrays.extend(arrays(&table.with_extension("npz")));
        }
        all
    })
}

/// All arrays of an archive, by name.
fn arrays(archive: &Path) -> HashMap<String, Array> {
    let mut npz = NpzReader::new(File::open(archive).unwrap()).unwrap();
    let names = npz.names().unwrap();
    let array = |name: String| {
        let array = read(&mut npz, &name).map(Array::Float);
        let array = array.or_else(|_| read(&mut npz, &name).map(Array::Int));
        let array = array.or_else(|_| read(&mut npz, &name).map(Array::Bool)).unwrap();
        (name.trim_end_matches(".npy").to_owned(), array)
    };
    names.into_iter().map(array).collect()
}

fn read<T: ReadableElement>(npz: &mut NpzReader<File>, name: &str) -> Result<ArrayD<T>, ReadNpzError> {
    npz.by_name::<OwnedRepr<T>, _>(name)
}
