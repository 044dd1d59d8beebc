"""Writes ../tasks/ctc.npz and ../tasks/transcripts.json: texts of lines, as PyTorch and jiwer have them.

ctc.npz: for each of `cases` (0, 1, ...) `output{case}` (float32, [samples, steps, classes]), `texts{case}` (int64, one behind the other) and
`lengths{case}`, `blank{case}`; `loss{case}` (float64) and `gradient{case}` (for the output) of torch.nn.CTCLoss(reduction="mean"), and
`each{case}`, the losses without reduction. Among the texts are repeats, an empty one, one that needs every step, and outputs of one step.

transcripts.json: 200 random texts and answers of one to four lines each, with jiwer's character and word error rate of all lines together.

Usage: python transcription.py
"""

import json
import pathlib

import jiwer
import numpy as np
import torch
import torch.nn.functional as F

OUT = pathlib.Path(__file__).resolve().parent.parent / "tasks"


def case(rng, steps, classes, blank, texts, spread=2.0):
    output = rng.normal(0, spread, (len(texts), steps, classes)).astype(np.float32)
    lengths = torch.tensor([len(text) for text in texts])
    flat = torch.tensor([character for text in texts for character in text], dtype=torch.int64)
    given = torch.tensor(output.astype(np.float64), requires_grad=True)
    log = given.log_softmax(2).transpose(0, 1)
    sizes = torch.full((len(texts),), steps)
    loss = F.ctc_loss(log, flat, sizes, lengths, blank=blank, reduction="mean")
    loss.backward()
    each = F.ctc_loss(log.detach(), flat, sizes, lengths, blank=blank, reduction="none")
    return {"output": output, "texts": flat.numpy(), "lengths": lengths.numpy(), "blank": np.int64(blank),
            "loss": np.float64(loss.item()), "gradient": given.grad.numpy(), "each": each.numpy()}


def cases():
    rng = np.random.default_rng(41)
    yield case(rng, 12, 6, 0, [[1, 2, 3], [4, 4, 4, 5], [], [2]])
    # Every step is needed: five characters with two repeats in seven steps.
    yield case(rng, 7, 4, 0, [[1, 1, 2, 2, 3], [3, 1, 3, 1, 3, 1, 3]])
    yield case(rng, 1, 5, 0, [[3], [], [1]])
    yield case(rng, 9, 5, 4, [[0, 1, 2, 3], [0, 0], [3, 3, 3]])
    # Sure answers, right and wrong, and long lines.
    yield case(rng, 80, 30, 0, [list(rng.integers(1, 30, 40)), list(rng.integers(1, 30, 5))], 12.0)
    yield case(rng, 3, 2, 0, [[1, 1], [1], []], 0.5)


def transcripts():
    rng = np.random.default_rng(42)
    letters = list("abcdefg äß.,  ")
    for _ in range(200):
        given, answered = [], []
        while len(given) < rng.integers(1, 5):
            text = "".join(rng.choice(letters, rng.integers(1, 30)))
            if not text.strip():
                continue
            other = [letter for letter in text if rng.random() > 0.1]
            other = [rng.choice(letters) if rng.random() < 0.15 else letter for letter in other]
            other = [part for letter in other for part in ([letter, rng.choice(letters)] if rng.random() < 0.1 else [letter])]
            given.append(text)
            answered.append("".join(other))
        yield {"given": given, "answered": answered, "cer": jiwer.cer(given, answered), "wer": jiwer.wer(given, answered)}


def main():
    torch.set_num_threads(1)
    OUT.mkdir(exist_ok=True)
    found = {f"{name}{number}": value for number, one in enumerate(cases()) for name, value in one.items()}
    np.savez_compressed(OUT / "ctc.npz", cases=np.int64(6), **found)
    (OUT / "transcripts.json").write_text("[\n" + ",\n".join(json.dumps(one, ensure_ascii=False) for one in transcripts()) + "\n]\n")


if __name__ == "__main__":
    main()
