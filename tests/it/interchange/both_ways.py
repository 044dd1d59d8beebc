"""PEFT loads what edgetune has exported, and saves adapters for edgetune to import.

Takes FOLDER/MODEL/ for a MODEL of tests/goldens/make/training.py, with inputs.npz, exported/ (an adapter) and settings.json
(LoraConfig of the adapters to save, by name). Gives base.npz and exported.npz (outputs), and for each setting NAME/ (the
adapter) and NAME.npz.
"""

import json
import pathlib
import sys

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "goldens" / "make"))
import training

for folder in sorted(path for path in pathlib.Path(sys.argv[1]).iterdir() if (path / "settings.json").exists()):
    build = getattr(training, folder.name)
    inputs = {name: torch.tensor(value) for name, value in np.load(folder / "inputs.npz").items()}

    def save(model, name):
        with torch.no_grad():
            values = model(**inputs) if len(inputs) > 1 else model(*inputs.values())
        np.savez(folder / f"{name}.npz", output=values.numpy())

    save(build(), "base")
    save(PeftModel.from_pretrained(build(), folder / "exported"), "exported")
    for name, settings in json.loads((folder / "settings.json").read_text()).items():
        model = get_peft_model(build(), LoraConfig(**settings)).eval()
        torch.manual_seed(7)
        for parameter in (p for p in model.parameters() if p.requires_grad):
            # What fp16 holds, so that importing loses nothing.
            moved = parameter.detach() + 0.2 * (torch.rand(parameter.shape) - 0.5)
            parameter.data = moved.half().float()
        save(model, name)
        model.save_pretrained(folder / name)
