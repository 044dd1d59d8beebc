"""The size of the checkpoint that ONNX Runtime Training 1.19.2 makes of a model: `ort_checkpoint.py MODEL CLASSES PATTERN...`,
where the patterns name the initializers that learn; a classifier among them gets CLASSES classes, 0 leaves it. The checkpoint
holds the frozen parameters too. Prints bytes."""

import fnmatch
import os
import sys
import tempfile
import types

import numpy
import onnxruntime

# As in benches/peers/ort_training.py: the package's own __init__ imports PyTorch, which is not used here.
package = types.ModuleType("onnxruntime.training")
package.__path__ = [os.path.join(os.path.dirname(onnxruntime.__file__), "training")]
sys.modules["onnxruntime.training"] = package

import onnx  # noqa: E402
import onnx.numpy_helper  # noqa: E402
from onnxruntime.training import artifacts  # noqa: E402

model = onnx.load(sys.argv[1])
names = [i.name for i in model.graph.initializer if i.dims and i.data_type == onnx.TensorProto.FLOAT]
learns = [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in sys.argv[3:])]
if not learns:
    raise SystemExit(f"no initializer is called {sys.argv[3:]}")
del model.graph.output[:-1]
del model.graph.value_info[:]
classes, width = int(sys.argv[2]), model.graph.output[0].type.tensor_type.shape.dim[-1]
if classes:
    for tensor in model.graph.initializer:
        if tensor.name in learns and width.dim_value in tensor.dims:
            sizes = [classes if size == width.dim_value else size for size in tensor.dims]
            tensor.CopyFrom(onnx.numpy_helper.from_array(numpy.zeros(sizes, numpy.float32), tensor.name))
    width.dim_value = classes
with tempfile.TemporaryDirectory() as folder:
    # The optimiser's and the training graph are beside it; only the checkpoint is what learns and what is kept.
    artifacts.generate_artifacts(model, requires_grad=learns, frozen_params=[n for n in names if n not in learns],
                                 artifact_directory=folder, loss=artifacts.LossType.MSELoss,
                                 optimizer=artifacts.OptimType.AdamW)
    print(os.path.getsize(os.path.join(folder, "checkpoint")))
