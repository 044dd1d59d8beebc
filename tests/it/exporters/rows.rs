//! The sentences of `docs/exporters.md` that no file says by itself: what is special about a golden.

/// A row of the page: the goldens of a folder whose names begin so.
pub struct Row {
    pub golden: &'static str,
    /// What the exporter wrote.
    pub pattern: &'static str,
    /// What edgetune does besides what is told for every model; may be empty.
    pub does: &'static str,
    /// What one would have guessed otherwise; may be empty.
    pub otherwise: &'static str,
}

const fn row(golden: &'static str, pattern: &'static str, does: &'static str, otherwise: &'static str) -> Row {
    Row { golden, pattern, does, otherwise }
}

pub const ROWS: &[Row] = &[
    row("exporters/cnn", "`Reshape` to `[B, C, -1]`", "", ""),
    row(
        "exporters/attention",
        "`nn.MultiheadAttention`: the batch second, then `[S, 2·B, 4]`, then `[S·B, 8]`",
        "",
        "with B = 1 the numbers alone do not say where the batch is: `[6, 8]` may be `[6·B, 8]` or `[6, 8·B]`. Every way that reaches the \
         outputs is right, so ways are tried until one does",
    ),
    row("exporters/attention_second", "the same for `batch_first=False`", "", ""),
    row(
        "exporters/encoder",
        "`nn.TransformerEncoder`",
        "",
        "the older exporter computes the head's size by `Shape` even where every size is a number",
    ),
    row(
        "exporters/vit",
        "a class token, repeated for the batch and put before the patches",
        "the token is repeated for as many samples as there are",
        "with B = 1 the exporter leaves the repetition out, so nothing in the file says that there should be one",
    ),
    row("exporters/windows", "windows folded into the batch (`[B·4, 4, 8]`), pixel shuffle", "", ""),
    row(
        "exporters/lstm",
        "`nn.LSTM` with first states `[directions, B, hidden]` of zeros",
        "W, R and B are one layer; zeros are what the operator begins with by itself",
        "a layer of `nn.LSTM(num_layers=2)` is a layer of its own, called `NAME` and `NAME_2`",
    ),
    row("exporters/gru", "the same for `nn.GRU`", "", ""),
    row(
        "exporters/rnn",
        "`nn.RNN`; the default exporter writes it out step by step, one product a step",
        "the weight of all steps is one layer",
        "the default exporter folds the first step, whose state is zero, into a constant: a copy of the bias that learns by itself",
    ),
    row(
        "exporters/grouped",
        "`nn.GroupNorm` as an InstanceNormalization by ones and zeros, then `Mul` and `Add` (every opset before 21, so by default)",
        "the `Mul` and `Add` are one layer, which `--adapter norm` learns",
        "ones and zeros that nobody learned are no layer: nor is `nn.InstanceNorm2d`",
    ),
    row(
        "exporters/einsum",
        "`torch.einsum` with parameters, and a bias behind it",
        "each `Einsum` is a layer, with its bias",
        "",
    ),
    row(
        "exporters/causal",
        "`F.pad` before a convolution; the older exporter computes the pads by eight nodes from constants",
        "what is computed from constants alone is computed once",
        "",
    ),
    row(
        "exporters/cosine",
        "`F.linear(F.normalize(x), F.normalize(w))`: the weight's rows are brought to length 1 inside of the graph",
        "a head for other classes reads what the cosines are made from and, merged, stands in their place",
        "the weight that learns is not the one that is multiplied",
    ),
    row(
        "exporters/bert",
        "positions and token types `[B, S]` as constants; the mask widened by `GatherND` over the numbers of all rows, or flattened and picked by \
         `sample · length + place`; at opset 14 a mask of two constants, of which no sizes are inferred",
        "one row of what is the same in all, `Gather` along the sequence for the mask; sizes that are not inferred are measured",
        "the rows' numbers are constants, so a batch of 4 would have read the mask of the first sample four times",
    ),
    row(
        "exporters/llama_classes",
        "the scores of a sample's last token, picked by pairs of sample and place, or from the flattened scores by `sample · length + place`",
        "picks by the place within each sample",
        "with a fixed sequence the angles of rotary embeddings are tables, which are multiplied as weights are and are none",
    ),
    row(
        "exporters/swin",
        "`SwinForImageClassification`: pads to whole windows, and a mask for each shifted window of each sample, by `Shape` of the samples",
        "computes the pads, which are the same for every batch; the masks are repeated for as many samples as there are",
        "with B = 1 nothing but the arithmetic of sizes tells which of the mask's rows are of samples",
    ),
    row(
        "exporters/mixes",
        "the batch's mean is taken away",
        "",
        "no number of samples but the file's own would give the same",
    ),
    row(
        "exporters/second_lstm",
        "`[time, batch, features]`, `nn.LSTM`'s default, the batch open",
        "takes a sample a row, `[batch, time, features]`, by the dimension's name (`batch`, `N`, or the one that the outputs begin with), else by `--batch-axis`",
        "a merged model takes its input as the base does",
    ),
    row("exporters/second_encoder", "the same for `nn.TransformerEncoderLayer`, time and batch open", "the same", ""),
    row(
        "exporters/packed_lstm",
        "`pack_padded_sequence`: a length for each sample (`sequence_lens`)",
        "gradients end where a sequence ends",
        "the default exporter refuses the function, the older one `enforce_sorted=False`",
    ),
    row(
        "exporters/llama_names",
        "no biases: the default exporter calls all weights `val_…` and has modules in the metadata of nodes alone \
         (`pkg.torch.onnx.name_scopes`), the older one has them in the names of nodes",
        "`--targets q_proj`, `--train '*mlp*'`, import from and export to PEFT go by the module",
        "a member of an `nn.Sequential` repeats the container's path in the older exporter's names (`/features/features.0/Conv` is `features.0`)",
    ),
    row(
        "newest/turned",
        "`RotaryEmbedding` with angles `[1, positions, half]`",
        "repeats them for the samples by an `Expand`; a merged model has it, too",
        "ONNX Runtime 1.32 takes the file for one sample and refuses it for two",
    ),
    row(
        "newest/masked_bool",
        "`Attention` with the mask of keys alone, `[batch, 1, 1, keys]`",
        "repeats it for the queries",
        "the standard \
         spreads such a mask, ONNX Runtime 1.32 refuses it, also for one sample (`findings/onnxruntime-attention-mask-of-keys.sh`)",
    ),
    row("newest/masked_float", "the same with a mask that is added", "repeats it, too", ""),
    row(
        "genai/llama_fp32",
        "`-p fp32 -e cpu`: `GroupQueryAttention` over one product `qkv_proj`; a past that is always taken, whose head size has no number",
        "learns without the past, which is empty then; generates through it, with the head size of `qkv_proj`'s width; asked for `q_proj`, it \
         names `qkv_proj`",
        "a head size that is no multiple of 16 is built and then refused by ONNX Runtime",
    ),
    row("genai/qwen2_fp32", "the same", "", ""),
    row("genai/qwen3_fp32", "the same, with norms of queries and keys", "", ""),
    row(
        "genai/llama_int4",
        "`-p int4 -e cpu`: `MatMulNBits` with `accuracy_level` 4",
        "LoRA learns beside packed weights; `export --to onnx` leaves its two small products there",
        "by default what is multiplied is quantised to eight bits as well, so the answers are not those of the dequantised weights (0.3 % of the \
         loss here)",
    ),
    row(
        "genai/qwen2_int4",
        "the same with `accuracy_level=1`: packed weights are multiplied with floats",
        "the same",
        "the former name, `int4_accuracy_level`, which the builder's help calls an alias that still works, is ignored without a word \
         (`findings/genai-builder-former-options.sh`)",
    ),
    row("genai/qwen3_int4", "the same, with norms of queries and keys", "the same", ""),
    row("quantised/decoder_4_bits", "`MatMulNBitsQuantizer`, 4 bits", "LoRA learns beside packed weights", ""),
    row("quantised/decoder_8_bits", "the same with 8 bits", "the same", ""),
    row(
        "quantised/decoder_qdq_4_bits",
        "the same with `QuantFormat.QDQ`: a `DequantizeLinear` by blocks before each product",
        "what is dequantised learns as floats",
        "with 8 bits in this format the quantiser leaves floats without a word",
    ),
    row(
        "quantised/encoder_dynamic",
        "`quantize_dynamic`: `MatMulInteger` behind a `DynamicQuantizeLinear`",
        "LoRA learns beside packed weights",
        "a `DynamicQuantizeLSTM` of the same function rounds a batch together in one thread and sample by sample in several",
    ),
    row(
        "quantised/mobilenet_qdq",
        "`quantize_static` with `QuantFormat.QDQ`",
        "what is dequantised learns as floats",
        "",
    ),
    row(
        "quantised/mobilenet_qoperator",
        "`quantize_static` with `QuantFormat.QOperator`: `QLinearConv`, `QLinearMatMul`",
        "each is taken apart into a product and its roundings when read",
        "",
    ),
    row(
        "sklearn/logistic",
        "`LogisticRegression` by default: `LinearClassifier` and `ZipMap`",
        "taken apart into a product and a bias",
        "",
    ),
    row(
        "sklearn/logistic_names",
        "the same with names as classes",
        "the names are the classes",
        "the label is an output of strings, the \
         probabilities a sequence of maps: neither is learned by",
    ),
    row("sklearn/logistic_binary", "the same for two classes, behind a `StandardScaler`", "", ""),
    row("sklearn/scaled", "`StandardScaler` before it", "the scaler's mean and deviation are settings, not layers", ""),
    row("sklearn/min_max", "`MinMaxScaler` before it, as `Mul` and `Add`", "the same", ""),
    row("sklearn/normalised", "`Normalizer` before it", "", "ONNX Runtime infers no shape behind it"),
    row("sklearn/perceptron", "`MLPClassifier` behind a `StandardScaler`", "", ""),
    row(
        "sklearn/perceptron_binary",
        "the same for two classes: `Concat(1 − p, p)`",
        "the one column is the second class's",
        "",
    ),
    row(
        "sklearn/sgd",
        "`SGDClassifier(loss=\"log_loss\")`: a sigmoid that is written out, 1 / (1 + e⁻ˣ)",
        "the gradient is 0 where e⁻ˣ is infinite",
        "its weights are large enough for that on ordinary data",
    ),
    row("sklearn/linear_svc", "`LinearSVC`: scores without probabilities", "", ""),
    row("sklearn/linear_regression", "`LinearRegression`", "", ""),
    row("sklearn/forest", "`RandomForestClassifier`", "the trees stay as they are", "a head reads the trees' answer"),
    row("sklearn/forest_regression", "`RandomForestRegressor`", "the same", ""),
];
