//! Bases of any size with equal tails, made of repeatable random numbers: what memory is measured on. Their weights lie in a
//! file beside the model, as those of every large ONNX model do.

use edgetune::graph::{Attr, Builder, DType, Dim, Graph, Tensor, TensorType, Val};
use edgetune::onnx::{self, Weights, WeightsFile};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// What a body is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Fully connected layers of width 1024.
    Dense,
    /// The same with weights in fp16 behind a `Cast`, as half-precision exports have them.
    Half,
    /// 3×3 convolutions of 256 channels on 4×4 maps.
    Convolution,
    /// Attention blocks on 8 tokens, of width 512; beyond 256 MiB of 1024, as real models have wider blocks and not ever more.
    Transformer,
}

pub const KINDS: [Kind; 4] = [Kind::Dense, Kind::Half, Kind::Convolution, Kind::Transformer];

/// Columns of what the body hands to the tail, and of the tail's hidden layer and output.
const TAIL: [u64; 3] = [64, 32, 4];

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::Half => "half",
            Self::Convolution => "convolution",
            Self::Transformer => "transformer",
        }
    }

    /// One sample's shape.
    fn sample(self, width: u64) -> Vec<u64> {
        match self {
            Self::Dense | Self::Half => vec![64],
            Self::Convolution => vec![16, 4, 4],
            Self::Transformer => vec![8, width],
        }
    }
}

/// Writes a base with about `body_bytes` of weights in its body into a new folder, `base.onnx` and `base.bin`, and as many
/// labelled samples (`data/x.npy`, `data/y.npy`). Gives the base's path.
pub fn write(folder: &Path, kind: Kind, body_bytes: u64, samples: u64) -> io::Result<PathBuf> {
    fs::create_dir_all(folder.join("data"))?;
    let mut random = fastrand::Rng::with_seed(1);
    let width = if body_bytes < 256 << 20 { 512 } else { 1024 };
    let sample = kind.sample(width);
    let count = samples * elements(&sample);
    let values: Vec<u8> = (0..count).flat_map(|_| (random.f32() - 0.5).to_le_bytes()).collect();
    let labels: Vec<u8> = (0..samples).flat_map(|row| ((row % TAIL[2]) as i64).to_le_bytes()).collect();
    let shape: Vec<u64> = std::iter::once(samples).chain(sample.iter().copied()).collect();
    fs::write(folder.join("data/x.npy"), npy("<f4", &shape, &values))?;
    fs::write(folder.join("data/y.npy"), npy("<i8", &[samples], &labels))?;
    let base = Base {
        builder: Builder::new(Graph::new(kind.name(), 17), ""),
        kind,
        width,
        file: RefCell::new(BufWriter::new(File::create(folder.join("base.bin"))?)),
        random: RefCell::new(random),
        places: RefCell::default(),
    };
    base.build(body_bytes)?;
    base.file.into_inner().flush()?;
    let mut graph = base.builder.finish();
    let data = onnx::map_file(&folder.join("base.bin")).map_err(io::Error::other)?;
    let mut tensors = BTreeMap::new();
    for (name, (dtype, shape, start)) in base.places.into_inner() {
        let bytes = shape.iter().product::<u64>() * dtype.bits() as u64 / 8;
        let id = graph.find(&name).expect("a weight that the graph reads");
        graph.inputs.retain(|input| *input != id);
        let slice = data.slice(start as usize..(start + bytes) as usize);
        graph.initializers.insert(id, Tensor { dtype, shape, data: slice });
        tensors.insert(name, start..start + bytes);
    }
    let weights = WeightsFile { file: "base.bin".into(), tensors };
    let path = folder.join("base.onnx");
    fs::write(&path, onnx::encode(&graph, &Weights::External(&weights)))?;
    Ok(path)
}

/// A weight's element type, shape and first byte in the file.
type Place = (DType, Vec<u64>, u64);

struct Base {
    builder: Builder,
    kind: Kind,
    /// Of a transformer's blocks.
    width: u64,
    file: RefCell<BufWriter<File>>,
    random: RefCell<fastrand::Rng>,
    places: RefCell<BTreeMap<String, Place>>,
}

impl Base {
    fn build(&self, body_bytes: u64) -> io::Result<()> {
        let b = &self.builder;
        let dims = std::iter::once(Dim::Named("batch".into()));
        let sample = self.kind.sample(self.width).into_iter().map(Dim::Fixed);
        let x = b.input("x", TensorType::new(DType::Float, dims.chain(sample).collect()));
        let features = match self.kind {
            Kind::Dense | Kind::Half => {
                let mut value = self.dense(x, [64, 1024])?.unary("Relu");
                while self.written() < body_bytes {
                    value = self.dense(value, [1024, 1024])?.unary("Relu");
                }
                self.dense(value, [1024, TAIL[0]])?
            }
            Kind::Convolution => {
                let mut value = self.convolution(x, 16)?;
                while self.written() < body_bytes {
                    value = self.convolution(value, 256)?;
                }
                self.dense(value.unary("GlobalAveragePool").unary("Flatten"), [256, TAIL[0]])?
            }
            Kind::Transformer => {
                let mut value = x;
                while self.written() < body_bytes {
                    value = self.attention(value)?;
                }
                let mean = b.op("ReduceMean", &[value], &[("axes", Attr::Ints(vec![1])), ("keepdims", Attr::Int(0))]);
                self.dense(mean, [self.width, TAIL[0]])?
            }
        };
        let tail = |value, sizes: [u64; 2]| -> io::Result<Val<'_>> {
            let weight = self.weight(&sizes, DType::Float, sizes[0])?;
            Ok(b.op("Gemm", &[value, weight, self.weight(&[sizes[1]], DType::Float, sizes[0])?], &[]))
        };
        let hidden = tail(features.unary("Relu"), [TAIL[0], TAIL[1]])?.unary("Relu");
        b.output("y", tail(hidden, [TAIL[1], TAIL[2]])?);
        Ok(())
    }

    fn written(&self) -> u64 {
        self.places.borrow().values().map(|(dtype, shape, _)| elements(shape) * dtype.bits() as u64 / 8).sum()
    }

    /// Uniform numbers of variance 2 / `fan_in`, which keep the size of what passes a ReLU (He et al. 2015), as a graph
    /// input until all of them are in the file.
    fn weight(&self, shape: &[u64], dtype: DType, fan_in: u64) -> io::Result<Val<'_>> {
        let mut places = self.places.borrow_mut();
        let start =
            places.values().map(|(dtype, shape, start)| start + elements(shape) * dtype.bits() as u64 / 8).max();
        let name = format!("weight{}", places.len());
        let limit = (6.0 / fan_in as f32).sqrt();
        let (mut random, mut file) = (self.random.borrow_mut(), self.file.borrow_mut());
        for _ in 0..elements(shape) {
            let value = (random.f32() * 2.0 - 1.0) * limit;
            match dtype {
                DType::Float16 => file.write_all(&half::f16::from_f32(value).to_le_bytes())?,
                _ => file.write_all(&value.to_le_bytes())?,
            }
        }
        places.insert(name.clone(), (dtype, shape.to_vec(), start.unwrap_or(0)));
        let ty = TensorType::new(dtype, shape.iter().map(|size| Dim::Fixed(*size)).collect());
        Ok(self.builder.input(&name, ty))
    }

    fn dense<'b>(&'b self, value: Val<'b>, sizes: [u64; 2]) -> io::Result<Val<'b>> {
        let dtype = if self.kind == Kind::Half { DType::Float16 } else { DType::Float };
        let weight = self.weight(&sizes, dtype, sizes[0])?;
        let weight = if dtype == DType::Float16 { weight.cast(DType::Float) } else { weight };
        Ok(value.matmul(weight) + self.weight(&[sizes[1]], DType::Float, sizes[0])?)
    }

    fn convolution<'b>(&'b self, value: Val<'b>, channels: u64) -> io::Result<Val<'b>> {
        let kernel = self.weight(&[256, channels, 3, 3], DType::Float, channels * 9)?;
        let bias = self.weight(&[256], DType::Float, channels * 9)?;
        Ok(self.builder.op("Conv", &[value, kernel, bias], &[("pads", Attr::Ints(vec![1; 4]))]).unary("Relu"))
    }

    /// A block that normalises first, with heads of 64 and a hidden layer four times as wide.
    fn attention<'b>(&'b self, value: Val<'b>) -> io::Result<Val<'b>> {
        let (b, width) = (&self.builder, self.width);
        let normed = self.normed(value)?;
        let heads = |projected: Val<'b>| projected.reshape_to(&[0, 8, width as i64 / 64, 64]).transpose(&[0, 2, 1, 3]);
        let query = heads(self.dense(normed, [width, width])?);
        let key = heads(self.dense(normed, [width, width])?).transpose(&[0, 1, 3, 2]);
        let scores = query.matmul(key) * b.scalar(DType::Float, 0.125);
        let weights = b.op("Softmax", &[scores], &[("axis", Attr::Int(-1))]);
        let mixed = weights.matmul(heads(self.dense(normed, [width, width])?)).transpose(&[0, 2, 1, 3]);
        let value = value + self.dense(mixed.reshape_to(&[0, 8, width as i64]), [width, width])?;
        let hidden = self.dense(self.normed(value)?, [width, 4 * width])?.unary("Relu");
        Ok(value + self.dense(hidden, [4 * width, width])?)
    }

    fn normed<'b>(&'b self, value: Val<'b>) -> io::Result<Val<'b>> {
        let (scale, shift) =
            (self.weight(&[self.width], DType::Float, 6)?, self.weight(&[self.width], DType::Float, 6)?);
        Ok(self.builder.op("LayerNormalization", &[value, scale, shift], &[]))
    }
}

fn elements(shape: &[u64]) -> u64 {
    shape.iter().product()
}

fn npy(descr: &str, shape: &[u64], bytes: &[u8]) -> Vec<u8> {
    let shape: String = shape.iter().map(|size| format!("{size},")).collect();
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}\n");
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), bytes].concat()
}
