//! Small models and data files, made for one test each.

use super::Place;
use edgetune::graph::{Attr, Builder, DType, Dim, Graph, Tensor, TensorType, Val};
use edgetune::onnx::{self, Weights};

/// Repeatable numbers between −0.5 and 0.5.
pub fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..count).map(|_| random.f32() - 0.5).collect()
}

fn input<'b>(b: &'b Builder, name: &str, dtype: DType, sizes: &[u64]) -> Val<'b> {
    let shape = std::iter::once(Dim::Named("batch".into())).chain(sizes.iter().map(|size| Dim::Fixed(*size)));
    b.input(name, TensorType::new(dtype, shape.collect()))
}

fn weight<'b>(b: &'b Builder, seed: u64, shape: &[u64]) -> Val<'b> {
    b.constant(Tensor::from_f32(shape, &noise(seed, shape.iter().product::<u64>() as usize)))
}

fn dense<'b>(b: &'b Builder, x: Val<'b>, seed: u64, from: u64, to: u64) -> Val<'b> {
    b.op("Gemm", &[x, weight(b, seed, &[from, to]), weight(b, seed + 1, &[to])], &[])
}

/// `x` [batch, 4] → dense 8 → ReLU → dense `width` → `y`.
pub fn perceptron(width: u64) -> Vec<u8> {
    let b = Builder::new(Graph::new("perceptron", 17), "");
    let hidden = dense(&b, input(&b, "x", DType::Float, &[4]), 1, 4, 8).unary("Relu");
    b.output("y", dense(&b, hidden, 3, 8, width));
    onnx::encode(&b.finish(), &Weights::Embedded)
}

/// `x` [batch, 4] → dense 8 → ReLU → dense 1 → sigmoid → `y`.
pub fn one_sigmoid() -> Vec<u8> {
    let b = Builder::new(Graph::new("binary", 17), "");
    let hidden = dense(&b, input(&b, "x", DType::Float, &[4]), 1, 4, 8).unary("Relu");
    b.output("y", dense(&b, hidden, 3, 8, 1).unary("Sigmoid"));
    onnx::encode(&b.finish(), &Weights::Embedded)
}

/// `x` [batch, 4] → `embedding` [batch, 8] and `other` [batch, 3].
pub fn two_outputs() -> Vec<u8> {
    let b = Builder::new(Graph::new("two", 17), "");
    let x = input(&b, "x", DType::Float, &[4]);
    let hidden = dense(&b, x, 1, 4, 8).tanh();
    b.output("embedding", hidden);
    b.output("other", dense(&b, hidden, 3, 8, 3));
    onnx::encode(&b.finish(), &Weights::Embedded)
}

/// `x` [batch, 6, 4] → matrix product → LSTM that clips → dense 5 → ReLU → dense 2: a gradient reaches the two dense layers only.
pub fn recurrent() -> Vec<u8> {
    let b = Builder::new(Graph::new("recurrent", 17), "");
    let x = input(&b, "x", DType::Float, &[6, 4]).matmul(weight(&b, 1, &[4, 4]));
    let steps_first = x.transpose(&[1, 0, 2]);
    let (w, r) = (weight(&b, 2, &[1, 12, 4]), weight(&b, 3, &[1, 12, 3]));
    let hidden = [("hidden_size", Attr::Int(3)), ("clip", Attr::Float(3.0))];
    let last = b.node("LSTM", &[Some(steps_first), Some(w), Some(r)], 2, &hidden)[1].squeeze(&[0]);
    b.output("logits", dense(&b, dense(&b, last, 4, 3, 5).unary("Relu"), 6, 5, 2));
    onnx::encode(&b.finish(), &Weights::Embedded)
}

/// `x` [batch, 5, 4] → matrix product → GRU → matrix product → LSTM → dense 2, the recurrent ones clip and are named `lower` and `upper`.
pub fn twice_recurrent() -> Vec<u8> {
    let b = Builder::new(Graph::new("twice", 17), "");
    let steps = input(&b, "x", DType::Float, &[5, 4]).matmul(weight(&b, 1, &[4, 4])).transpose(&[1, 0, 2]);
    let hidden = [("hidden_size", Attr::Int(3)), ("clip", Attr::Float(3.0))];
    let (w, r) = (weight(&b, 2, &[1, 9, 4]), weight(&b, 3, &[1, 9, 3]));
    let lower = b.node("GRU", &[Some(steps), Some(w), Some(r)], 1, &hidden)[0].squeeze(&[1]);
    let (w, r) = (weight(&b, 4, &[1, 12, 3]), weight(&b, 5, &[1, 12, 3]));
    let between = lower.matmul(weight(&b, 6, &[3, 3]));
    let last = b.node("LSTM", &[Some(between), Some(w), Some(r)], 2, &hidden)[1].squeeze(&[0]);
    b.output("logits", dense(&b, last, 7, 3, 2));
    let mut graph = b.finish();
    for node in &mut graph.nodes {
        match node.op.as_str() {
            "GRU" => node.name = "lower".into(),
            "LSTM" => node.name = "upper".into(),
            _ => {}
        }
    }
    onnx::encode(&graph, &Weights::Embedded)
}

/// `x` [batch, 6, 4] → GRU in both directions → LSTM, both with biases → the last state → dense 2, all of which learns.
pub fn sequences() -> Vec<u8> {
    let b = Builder::new(Graph::new("sequences", 17), "");
    let steps = input(&b, "x", DType::Float, &[6, 4]).transpose(&[1, 0, 2]);
    let weights = |seed: u64, shapes: [&[u64]; 3]| {
        let [w, r, bias] = shapes;
        [Some(weight(&b, seed, w)), Some(weight(&b, seed + 1, r)), Some(weight(&b, seed + 2, bias))]
    };
    let hidden = ("hidden_size", Attr::Int(3));
    let both =
        [hidden.clone(), ("direction", Attr::Str("bidirectional".into())), ("linear_before_reset", Attr::Int(1))];
    let inputs = [&[Some(steps)][..], &weights(1, [&[2, 9, 4], &[2, 9, 3], &[2, 18]])].concat();
    let lower = b.node("GRU", &inputs, 1, &both)[0].transpose(&[0, 2, 1, 3]).reshape_to(&[0, 0, 6]);
    let inputs = [&[Some(lower)][..], &weights(4, [&[1, 12, 6], &[1, 12, 3], &[1, 24]])].concat();
    let last = b.node("LSTM", &inputs, 2, &[hidden])[1].squeeze(&[0]);
    b.output("logits", dense(&b, last, 7, 3, 2));
    onnx::encode(&b.finish(), &Weights::Embedded)
}

/// `x` [batch, 4] → dense 8 → ReLU → matrix product 3 without a bias → `y`.
pub fn without_bias() -> Vec<u8> {
    let b = Builder::new(Graph::new("without_bias", 17), "");
    let hidden = dense(&b, input(&b, "x", DType::Float, &[4]), 1, 4, 8).unary("Relu");
    b.output("y", hidden.matmul(weight(&b, 3, &[8, 3])));
    onnx::encode(&b.finish(), &Weights::Embedded)
}

/// `x` [batch, 4] → dense 8 → ReLU → dense 3 → whole numbers → `y`: looks linear above its last layer, and is not.
pub fn rounded() -> Vec<u8> {
    let b = Builder::new(Graph::new("rounded", 17), "");
    let hidden = dense(&b, input(&b, "x", DType::Float, &[4]), 1, 4, 8).unary("Relu");
    b.output("y", dense(&b, hidden, 3, 8, 3).cast(DType::Int32).cast(DType::Float));
    onnx::encode(&b.finish(), &Weights::Embedded)
}

/// `x` [batch, 2, 3, 3] → convolution 8 → ReLU → convolution 3 of that kernel, its mean over the image → `y`.
pub fn convolutional(kernel: u64) -> Vec<u8> {
    let b = Builder::new(Graph::new("convolutional", 17), "");
    let image = input(&b, "x", DType::Float, &[2, 3, 3]);
    let hidden = b.op("Conv", &[image, weight(&b, 1, &[8, 2, 1, 1]), weight(&b, 2, &[8])], &[]).unary("Relu");
    let maps = b.op("Conv", &[hidden, weight(&b, 3, &[3, 8, kernel, kernel]), weight(&b, 4, &[3])], &[]);
    b.output("y", maps.unary("GlobalAveragePool").unary("Flatten"));
    onnx::encode(&b.finish(), &Weights::Embedded)
}

/// `x` [batch, `channels`, `rows`] → convolution of 5 to 24 channels → ReLU → convolution → ReLU → mean over time → dense 5.
pub fn series(channels: u64, rows: Option<u64>) -> Vec<u8> {
    let b = Builder::new(Graph::new("series", 17), "");
    let rows = rows.map_or(Dim::Named("time".into()), Dim::Fixed);
    let shape = vec![Dim::Named("batch".into()), Dim::Fixed(channels), rows];
    let x = b.input("x", TensorType::new(DType::Float, shape));
    let first = b.op("Conv", &[x, weight(&b, 1, &[24, channels, 5]), weight(&b, 2, &[24])], &[]).unary("Relu");
    let second = b.op("Conv", &[first, weight(&b, 3, &[24, 24, 3]), weight(&b, 4, &[24])], &[]).unary("Relu");
    b.output("y", dense(&b, second.unary("GlobalAveragePool").unary("Flatten"), 5, 24, 5));
    onnx::encode(&b.finish(), &Weights::Embedded)
}

/// `x` [batch, 4] → matrix product → the place of its largest value → rows of a table → dense 3.
pub fn choice() -> Vec<u8> {
    let b = Builder::new(Graph::new("choice", 17), "");
    let scores = input(&b, "x", DType::Float, &[4]).matmul(weight(&b, 1, &[4, 6]));
    let place = b.op("ArgMax", &[scores], &[("axis", Attr::Int(1)), ("keepdims", Attr::Int(0))]);
    let row = weight(&b, 2, &[6, 5]).gather(place, 0);
    b.output("logits", dense(&b, row, 3, 5, 3));
    onnx::encode(&b.finish(), &Weights::Embedded)
}

/// `x` [batch, 4] → dense 8 → two rows a sample → ReLU → matrix product 4 → one row a sample → ReLU → dense 3: below its
/// middle layer there is no row a sample, which is found out only when it runs.
pub fn regrouped() -> Vec<u8> {
    let b = Builder::new(Graph::new("regrouped", 17), "");
    let lower = dense(&b, input(&b, "x", DType::Float, &[4]), 1, 4, 8);
    let halves = lower.reshape(b.ints(&[-1, 4])).unary("Relu").matmul(weight(&b, 3, &[4, 4]));
    b.output("y", dense(&b, halves.reshape(b.ints(&[-1, 8])).unary("Relu"), 4, 8, 3));
    onnx::encode(&b.finish(), &Weights::Embedded)
}

/// A `.npy` file of float32.
pub fn npy(shape: &[u64], values: &[f32]) -> Vec<u8> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    numpy("<f4", shape, &bytes)
}

/// A `.npy` file of int64.
pub fn npy_i64(shape: &[u64], values: &[i64]) -> Vec<u8> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    numpy("<i8", shape, &bytes)
}

fn numpy(descr: &str, shape: &[u64], bytes: &[u8]) -> Vec<u8> {
    let shape: String = shape.iter().map(|size| format!("{size},")).collect();
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}\n");
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), bytes].concat()
}

impl Place {
    /// A folder with `recurrent.onnx` and forty labelled sequences in `sequences`.
    pub fn with_sequences() -> Place {
        let place = Place::new();
        place.write("recurrent.onnx", recurrent());
        place.write("sequences/x.npy", npy(&[40, 6, 4], &noise(9, 40 * 24)));
        place.write("sequences/y.npy", npy_i64(&[40], &(0..40).map(|row| row % 2).collect::<Vec<_>>()));
        place
    }

    /// A folder with `base.onnx`, a perceptron of that width, and 64 rows of a table: columns `a` to `d`, and what the
    /// label columns are by `labels(row)`.
    pub fn with_table(width: u64, columns: &str, labels: impl Fn(&[f32]) -> String) -> Place {
        let place = Place::new();
        place.write("base.onnx", perceptron(width));
        let mut table = format!("a,b,c,d,{columns}\n");
        for row in noise(5, 64 * 4).chunks_exact(4) {
            table += &format!("{},{},{},{},{}\n", row[0], row[1], row[2], row[3], labels(row));
        }
        place.write("table.csv", table);
        place
    }
}

/// `input_ids` [batch, sequence] → rows of a table → matrix product 16 → ReLU → `hidden` → dense `width` → `logits`, a row each token.
pub fn tagger(vocabulary: u64, width: u64) -> Vec<u8> {
    let b = Builder::new(Graph::new("tagger", 17), "");
    let shape = ["batch", "sequence"].map(|name| Dim::Named(name.into())).to_vec();
    let ids = b.input("input_ids", TensorType::new(DType::Int64, shape));
    let rows = weight(&b, 1, &[vocabulary, 16]).gather(ids, 0);
    let hidden = rows.matmul(weight(&b, 2, &[16, 16])).unary("Relu");
    b.output("hidden", hidden);
    b.output("logits", hidden.matmul(weight(&b, 3, &[16, width])) + weight(&b, 4, &[width]));
    onnx::encode(&b.finish(), &Weights::Embedded)
}

/// `x` [batch, 3, height, width] → convolution 6, stride 2 → ReLU `hidden` → 1×1 convolution of `width` scores `scores`, of half the size.
/// `moved`: a sigmoid and channels last, as a model of TensorFlow ends.
pub fn segmenter(width: u64, moved: bool) -> Vec<u8> {
    let b = Builder::new(Graph::new("segmenter", 17), "");
    let open = ["batch", "height", "width"].map(|name| Dim::Named(name.into()));
    let [batch, height, across] = open;
    let x = b.input("x", TensorType::new(DType::Float, vec![batch, Dim::Fixed(3), height, across]));
    let pads = [("pads", Attr::Ints(vec![1, 1, 1, 1])), ("strides", Attr::Ints(vec![2, 2]))];
    let hidden = b.op("Conv", &[x, weight(&b, 1, &[6, 3, 3, 3]), weight(&b, 2, &[6])], &pads).unary("Relu");
    let scores = b.op("Conv", &[hidden, weight(&b, 3, &[width, 6, 1, 1]), weight(&b, 4, &[width])], &[]);
    let last = if moved { scores.sigmoid().transpose(&[0, 2, 3, 1]) } else { scores };
    b.output("scores", last);
    let mut graph = b.finish();
    let relu = graph.nodes.iter().find(|node| node.op == "Relu").and_then(|node| node.outputs[0]).unwrap();
    graph.values[relu.index()].name = "hidden".into();
    onnx::encode(&graph, &Weights::Embedded)
}

/// `image` [batch, 3, 32, 32] → two convolutions of 32 channels → at 8 × 8 cells one convolution that is split, at 4 × 4 two: for each
/// level `scores` [batch, cells, `classes`] behind a sigmoid and `edges` [batch, cells, 4 · 5].
pub fn detector(classes: u64) -> Vec<u8> {
    const EDGES: u64 = 20;
    let b = Builder::new(Graph::new("detector", 17), "");
    let convolution = |x: Val<'_>, seed: u64, [to, from, kernel]: [u64; 3], stride: i64, pad: i64| {
        let attributes = [("strides", Attr::Ints(vec![stride; 2])), ("pads", Attr::Ints(vec![pad; 4]))];
        b.op(
            "Conv",
            &[b.val(x.id()), weight(&b, seed, &[to, from, kernel, kernel]), weight(&b, seed + 1, &[to])],
            &attributes,
        )
    };
    let cells = |x: Val<'_>, width: u64| b.val(x.id()).reshape_to(&[0, width as i64, -1]).transpose(&[0, 2, 1]);
    let fine = convolution(input(&b, "image", DType::Float, &[3, 32, 32]), 1, [32, 3, 12], 4, 4).unary("Relu");
    let coarse = convolution(fine, 3, [32, 32, 3], 2, 1).unary("Relu");
    let joint = convolution(fine, 5, [classes + EDGES, 32, 1], 1, 0);
    let sizes = b.ints(&[classes as i64, EDGES as i64]);
    let parts = b.node("Split", &[Some(joint), Some(sizes)], 2, &[("axis", Attr::Int(1))]);
    b.output("scores_4", cells(parts[0].sigmoid(), classes));
    b.output("scores_8", cells(convolution(coarse, 7, [classes, 32, 1], 1, 0).sigmoid(), classes));
    b.output("edges_4", cells(parts[1], EDGES));
    b.output("edges_8", cells(convolution(coarse, 9, [EDGES, 32, 1], 1, 0), EDGES));
    onnx::encode(&b.finish(), &Weights::Embedded)
}

/// A photograph as BMP of 24 bits, by the colour (red, green, blue) of each pixel.
pub fn bmp(width: u32, height: u32, colour: impl Fn(u32, u32) -> [u8; 3]) -> Vec<u8> {
    let row = (width * 3).div_ceil(4) * 4;
    let mut bytes = b"BM".to_vec();
    for number in [54 + row * height, 0, 54, 40, width, height, 1 | 24 << 16, 0, row * height, 0, 0, 0, 0] {
        bytes.extend(number.to_le_bytes());
    }
    for y in (0..height).rev() {
        let before = bytes.len();
        (0..width).for_each(|x| bytes.extend(colour(x, y).into_iter().rev()));
        bytes.resize(before + row as usize, 0);
    }
    bytes
}

/// As [`detector`], with two convolutions at each level and one output of decoded boxes above the scores, `[batch, 4 + classes, cells]`:
/// the form of YOLOv8.
pub fn decoding_detector(classes: u64) -> Vec<u8> {
    const BINS: u64 = 5;
    let b = Builder::new(Graph::new("decoding", 17), "");
    let convolution = |x: Val<'_>, seed: u64, [to, from, kernel]: [u64; 3], stride: i64, pad: i64| {
        let attributes = [("strides", Attr::Ints(vec![stride; 2])), ("pads", Attr::Ints(vec![pad; 4]))];
        let weights = [weight(&b, seed, &[to, from, kernel, kernel]), weight(&b, seed + 1, &[to])];
        b.op("Conv", &[b.val(x.id()), weights[0], weights[1]], &attributes)
    };
    let concat = |parts: &[Val<'_>], axis: i64| {
        let parts: Vec<Val<'_>> = parts.iter().map(|part| b.val(part.id())).collect();
        b.op("Concat", &parts, &[("axis", Attr::Int(axis))])
    };
    let fine = convolution(input(&b, "images", DType::Float, &[3, 32, 32]), 1, [32, 3, 12], 4, 4).unary("Relu");
    let coarse = convolution(fine, 3, [32, 32, 3], 2, 1).unary("Relu");
    let level = |x: Val<'_>, seed: u64| {
        let (edges, scores) =
            (convolution(x, seed, [4 * BINS, 32, 1], 1, 0), convolution(x, seed + 2, [classes, 32, 1], 1, 0));
        concat(&[edges, scores], 1).reshape_to(&[0, (4 * BINS + classes) as i64, -1])
    };
    let all = concat(&[level(fine, 5), level(coarse, 9)], 2);
    let sizes = b.ints(&[4 * BINS as i64, classes as i64]);
    let parts = b.node("Split", &[Some(all), Some(sizes)], 2, &[("axis", Attr::Int(1))]);
    let spread = parts[0].reshape_to(&[0, 4, BINS as i64, -1]).transpose(&[0, 2, 1, 3]);
    let shares = b.op("Softmax", &[spread], &[("axis", Attr::Int(1))]);
    let bins = b.constant(Tensor::from_f32(&[1, BINS, 1, 1], &[0.0, 1.0, 2.0, 3.0, 4.0]));
    let told = b.op("Conv", &[shares, bins], &[]).reshape_to(&[0, 4, -1]);
    let centres = |axis: usize| {
        [(8u32, 4u32), (4, 8)]
            .into_iter()
            .flat_map(move |(side, _)| (0..side * side).map(move |cell| [cell % side, cell / side][axis] as f32 + 0.5))
    };
    let centres: Vec<f32> = centres(0).chain(centres(1)).collect();
    let centres = b.constant(Tensor::from_f32(&[1, 2, 80], &centres));
    let strides: Vec<f32> = [vec![4.0; 64], vec![8.0; 16]].concat();
    let strides = b.constant(Tensor::from_f32(&[1, 1, 80], &strides));
    let (first, last) = (told.slice(&[0], &[2], &[1]), told.slice(&[2], &[4], &[1]));
    let corners = concat(&[centres - first, centres + last], 1) * strides;
    b.output("output0", concat(&[corners, parts[1].sigmoid()], 1));
    onnx::encode(&b.finish(), &Weights::Embedded)
}

/// `x` [batch, 3, 8, width] → convolution over the whole height, 2 across → `steps` [batch, width / 2, 24] → dense 32 → ReLU `hidden` →
/// dense `width` → softmax `texts`, as PaddleOCR's readers of lines end. `metadata`: what stands in the file beside the graph.
pub fn reader(width: u64, metadata: &[(&str, &str)]) -> Vec<u8> {
    let b = Builder::new(Graph::new("reader", 17), "");
    let [batch, across] = ["batch", "width"].map(|name| Dim::Named(name.into()));
    let x = b.input("x", TensorType::new(DType::Float, vec![batch, Dim::Fixed(3), Dim::Fixed(8), across]));
    let strides = [("strides", Attr::Ints(vec![8, 2]))];
    let columns = b.op("Conv", &[x, weight(&b, 1, &[24, 3, 8, 2]), weight(&b, 2, &[24])], &strides).unary("Relu");
    let steps = columns.squeeze(&[2]).transpose(&[0, 2, 1]);
    let hidden = (steps.matmul(weight(&b, 3, &[24, 32])) + weight(&b, 4, &[32])).unary("Relu");
    let scores = hidden.matmul(weight(&b, 5, &[32, width])) + weight(&b, 6, &[width]);
    b.output("texts", b.op("Softmax", &[scores], &[("axis", Attr::Int(2))]));
    let graph = b.finish();
    let metadata = metadata.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    onnx::encode_described(&graph, &Weights::Embedded, &metadata)
}
