//! Reads goldens of whole runs; `tests/goldens/README.md` has their format.

use edgetune::adapter::{Kind, Method};
use edgetune::graph::{DType, Tensor};
use edgetune::train::loss::Loss;
use edgetune::train::optimizer::Optimizer;
use ndarray::{ArrayD, Axis, OwnedRepr};
use ndarray_npy::{NpzReader, ReadableElement};
use serde::Deserialize;
use std::fs::File;
use std::path::{Path, PathBuf};

/// A folder of runs: `tests/goldens/NAME/` with `NAME.json`.
pub struct Goldens {
    folder: PathBuf,
    pub models: Vec<Model>,
}

/// A model and what PyTorch made of it.
#[derive(Deserialize)]
pub struct Model {
    pub name: String,
    /// Its ONNX file.
    model: String,
    /// The archive with the batches.
    arrays: String,
    /// What the names of the model's arrays begin with in an archive of several models.
    #[serde(default)]
    prefix: String,
    /// How many batches there are; step *s* takes batch *s* mod that number.
    #[serde(default = "eight")]
    pub batches: usize,
    /// Where the ONNX file has PyTorch's parameters.
    pub parameters: Vec<Place>,
    pub runs: Vec<Run>,
}

fn eight() -> usize {
    8
}

/// A parameter of PyTorch and the initializer that holds it.
#[derive(Deserialize)]
pub struct Place {
    pub parameter: String,
    pub initializer: String,
}

/// The losses of one run, and how it was trained.
#[derive(Deserialize)]
pub struct Run {
    pub name: String,
    /// PyTorch's names of what learns.
    pub trains: Vec<String>,
    /// The method that was put into the model; none where `trains` are weights of the model's own.
    pub adapter: Option<Adapter>,
    optimizer: serde_json::Value,
    /// `next-token`; cross-entropy where nothing is said.
    #[serde(default)]
    loss: String,
    pub learning_rate: f64,
    /// Of every step, before its update.
    pub losses: Vec<f64>,
}

/// A method of `edgetune::adapter`, and where it was put.
#[derive(Deserialize)]
pub struct Adapter {
    method: String,
    rank: u32,
    alpha: f32,
    pub seed: u64,
    pub targets: Vec<String>,
    pub feedforward: Vec<String>,
}

impl Adapter {
    pub fn method(&self) -> Method {
        let kind = match self.method.as_str() {
            "lora" => Kind::Lora,
            "rslora" => Kind::RsLora,
            "dora" => Kind::Dora,
            "lora-fa" => Kind::LoraFa,
            "ia3" => Kind::Ia3,
            "bitfit" => Kind::BitFit,
            "norm" => Kind::Norm,
            other => panic!("no method {other:?}"),
        };
        Method { kind, rank: self.rank, alpha: self.alpha }
    }
}

impl Goldens {
    /// The goldens of a folder.
    pub fn read(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name);
        let text =
            std::fs::read_to_string(folder.join(format!("{name}.json"))).expect("the goldens are in the project");
        Self { models: serde_json::from_str(&text).expect("goldens as README.md tells them"), folder }
    }

    /// The model of a name.
    pub fn model(&self, name: &str) -> &Model {
        self.models.iter().find(|model| model.name == name).unwrap_or_else(|| panic!("no golden `{name}`"))
    }

    /// The model's ONNX file.
    pub fn path(&self, model: &Model) -> PathBuf {
        self.folder.join(&model.model)
    }

    /// The model's batches.
    pub fn arrays(&self, model: &Model) -> Arrays {
        Arrays { prefix: model.prefix.clone(), ..Arrays::open(&self.folder.join(&model.arrays)) }
    }
}

impl Model {
    /// The run of a name.
    pub fn run(&self, name: &str) -> &Run {
        self.runs.iter().find(|run| run.name == name).unwrap_or_else(|| panic!("{}: no run `{name}`", self.name))
    }

    /// The initializers that learn in a run, sorted.
    pub fn learning(&self, run: &Run) -> Vec<&str> {
        let place = |name: &String| self.parameters.iter().find(|place| place.parameter == *name).expect("its place");
        let mut names: Vec<&str> = run.trains.iter().map(|name| place(name).initializer.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl Run {
    pub fn loss(&self) -> Loss {
        match self.loss.as_str() {
            "" => Loss::CrossEntropy { label_smoothing: 0.0, class_weights: None },
            "next-token" => Loss::NextToken,
            other => panic!("no loss {other:?}"),
        }
    }

    pub fn optimizer(&self) -> Optimizer {
        optimizer(&self.optimizer)
    }
}

/// The optimiser that a golden tells.
pub fn optimizer(spec: &serde_json::Value) -> Optimizer {
    let number = |name: &str| spec[name].as_f64().unwrap_or_else(|| panic!("{name} in {spec}"));
    match spec["kind"].as_str() {
        Some("sgd") => Optimizer::Sgd {
            momentum: number("momentum"),
            nesterov: spec["nesterov"].as_bool().expect("true or false"),
            weight_decay: number("weight_decay"),
        },
        Some("adamw") => Optimizer::AdamW {
            beta1: number("beta1"),
            beta2: number("beta2"),
            epsilon: number("epsilon"),
            weight_decay: number("weight_decay"),
        },
        other => panic!("no optimiser {other:?}"),
    }
}

/// The arrays of all batches: `NAME/BATCH`, or `NAME` with the batch as its first axis.
pub struct Arrays {
    archive: NpzReader<File>,
    prefix: String,
}

impl Arrays {
    /// An archive of batches.
    pub fn open(path: &Path) -> Self {
        let file = File::open(path).expect("the archive is in the project");
        Self { archive: NpzReader::new(file).expect("an archive of arrays"), prefix: String::new() }
    }

    fn array<T: ReadableElement + Clone>(&mut self, name: &str, batch: usize) -> ArrayD<T> {
        let names = self.archive.names().expect("names");
        let name = format!("{}{name}", self.prefix);
        let numbered = format!("{name}/{batch}");
        if names.iter().any(|known| known.trim_end_matches(".npy") == numbered) {
            return self.archive.by_name::<OwnedRepr<T>, _>(&numbered).expect("an array of that type");
        }
        let all = self.archive.by_name::<OwnedRepr<T>, _>(&name).unwrap_or_else(|error| panic!("{name}: {error}"));
        let all: ArrayD<T> = all;
        all.index_axis(Axis(0), batch).to_owned()
    }

    /// A batch of an input, in the element type that the model wants.
    pub fn tensor(&mut self, name: &str, batch: usize, dtype: DType) -> Tensor {
        let sizes = |shape: &[usize]| shape.iter().map(|size| *size as u64).collect::<Vec<u64>>();
        match dtype {
            DType::Int64 => {
                let array = self.array::<i64>(name, batch);
                Tensor::from_vec(&sizes(array.shape()), array.iter().copied().collect())
            }
            _ => {
                let array = self.array::<f32>(name, batch);
                Tensor::from_vec(&sizes(array.shape()), array.iter().copied().collect())
            }
        }
    }
}
