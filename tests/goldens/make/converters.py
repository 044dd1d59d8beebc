"""Writes models of other frameworks' converters into ../families/: `keras.onnx` by tf2onnx, `paddle.onnx` by
paddle2onnx, `sklearn_mlp.onnx` and `sklearn_logistic.onnx` by skl2onnx. families.py trains the first three in PyTorch.

TensorFlow and Paddle want virtual environments of their own, with requirements-keras.txt and requirements-paddle.txt.

Usage: python converters.py keras | paddle | sklearn
"""

import os
import pathlib
import sys

import numpy as np
import onnx

OUT = pathlib.Path(__file__).resolve().parent.parent / "families"
CLASSES = 5


def keras():
    """Channels last, "same" padding, a strided and a depthwise convolution, SELU, a mean over space, two layers."""
    import tensorflow as tf
    import tf2onnx

    layers = tf.keras.layers
    tf.keras.utils.set_random_seed(1)
    biases = {"bias_initializer": "random_normal"}
    model = tf.keras.Sequential([
        layers.Input((32, 32, 3)),
        layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False),
        layers.BatchNormalization(beta_initializer="random_normal", gamma_initializer="random_uniform"),
        layers.ReLU(6.0),
        layers.DepthwiseConv2D(3, padding="same", **biases), layers.LeakyReLU(negative_slope=0.1),
        layers.MaxPooling2D(2, padding="same"),
        layers.Conv2D(16, 3, padding="valid", activation="selu", **biases),
        layers.GlobalAveragePooling2D(),
        layers.Dense(12, activation="swish", **biases), layers.Dense(CLASSES, **biases),
    ])
    signature = [tf.TensorSpec((None, 32, 32, 3), tf.float32, name="input")]
    function = tf.function(lambda x: model(x, training=False), input_signature=signature)
    tf2onnx.convert.from_function(function, input_signature=signature, opset=17, output_path=OUT / "keras.onnx")


def paddle():
    """A PP-LCNet-like block: hard-swish, depthwise, squeeze and excitation by two linear layers, pooling, classifier."""
    os.environ["POLYGRAPHY_AUTOINSTALL_DEPS"] = "0"  # paddle2onnx's optimiser would call pip
    import paddle
    from paddle.nn import functional as F

    nn = paddle.nn
    paddle.seed(1)

    class Model(nn.Layer):
        def __init__(self):
            super().__init__()
            self.stem, self.norm = nn.Conv2D(3, 8, 3, 2, 1), nn.BatchNorm2D(8)
            self.depth, self.depth_norm = nn.Conv2D(8, 8, 3, 1, 1, groups=8), nn.BatchNorm2D(8)
            self.squeeze, self.excite = nn.Linear(8, 4), nn.Linear(4, 8)
            self.point, self.classifier = nn.Conv2D(8, 16, 1), nn.Linear(16, CLASSES)

        def forward(self, x):
            x = F.hardswish(self.norm(self.stem(x)))
            x = F.relu6(self.depth_norm(self.depth(x)))
            gate = F.hardsigmoid(self.excite(F.relu(self.squeeze(x.mean([2, 3])))))
            x = self.point(x * gate.unsqueeze([2, 3]))
            x = F.max_pool2d(F.relu(x), 2)
            return self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1))

    model = Model()
    random = np.random.default_rng(2)
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if len(value.shape) == 1:  # no two alike, and none a whole number
            off = 0.0 if name.endswith("bias") or name.endswith("mean") else 1.0
            value.set_value((off + random.uniform(-0.2, 0.2, value.shape)).astype(np.float32))
    model.eval()
    spec = [paddle.static.InputSpec([None, 3, 32, 32], "float32", "input")]
    paddle.onnx.export(paddle.jit.to_static(model, spec), str(OUT / "paddle"), spec, opset_version=17)


def sklearn():
    """A scaled network of two hidden layers, and a logistic regression, on 8 numbers a sample and 3 classes."""
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    random = np.random.default_rng(3)
    x = random.normal(1.0, 2.0, (64, 8)).astype(np.float32)
    y = np.argmax(x[:, :3] + random.normal(0, 0.5, (64, 3)), 1)
    network = make_pipeline(StandardScaler(), MLPClassifier((12, 8), max_iter=3, random_state=1))
    for name, model in (("sklearn_mlp", network), ("sklearn_logistic", LogisticRegression())):
        converted = to_onnx(model.fit(x, y), x[:1], options={"zipmap": False})
        onnx.save(converted, OUT / f"{name}.onnx")


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    {"keras": keras, "paddle": paddle, "sklearn": sklearn}[sys.argv[1]]()
