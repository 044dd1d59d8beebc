"""Runs each FOLDER/*/model.onnx as it is and with adapter.onnx_adapter active.

Takes inputs.npz; gives plain.npz and active.npz (all outputs by name) and parameters.npz (what the adapter file holds).
"""

import importlib.util
import pathlib
import sys

import numpy as np
import onnxruntime as ort

for folder in sorted(path for path in pathlib.Path(sys.argv[1]).iterdir() if (path / "model.onnx").exists()):
    if importlib.util.find_spec("onnx"):
        from onnx import checker

        checker.check_model(str(folder / "model.onnx"), full_check=True)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    inputs = dict(np.load(folder / "inputs.npz"))
    assert sorted(value.name for value in session.get_inputs()) == sorted(inputs)
    names = [value.name for value in session.get_outputs()]

    file = str(folder / "adapter.onnx_adapter")
    read = ort.AdapterFormat.read_adapter(file)
    assert (read.get_format_version(), read.get_adapter_version(), read.get_model_version()) == (1, 0, 0)
    parameters = {name: value.numpy() for name, value in read.get_parameters().items()}
    optional = {value.name: value.type for value in session.get_overridable_initializers()}
    assert set(parameters) <= set(optional), (parameters.keys(), optional)
    assert all(optional[name] == "tensor(float)" and value.dtype == np.float32 for name, value in parameters.items())
    np.savez(folder / "parameters.npz", **parameters)

    np.savez(folder / "plain.npz", **dict(zip(names, session.run(names, inputs))))
    adapter = ort.LoraAdapter()
    adapter.Load(file)
    active = ort.RunOptions()
    active.add_active_adapter(adapter)
    np.savez(folder / "active.npz", **dict(zip(names, session.run(names, inputs, active))))
