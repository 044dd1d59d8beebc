"""Goldens for src/data/sound.rs, recording.rs and mel.rs: what soundfile, torchaudio and librosa make of one sound.

The sound is computed here: two tones and noise, 0.12 s at 44,100 Hz, two channels that differ. It is written as each coding that is
read. `sounds.npz` holds, all float32:

| array | what |
|---|---|
| `mono_CODING` | `soundfile.read(sounds/CODING)`, mean of both channels |
| `at_RATE` | `torchaudio.functional.resample(mono, 44100, RATE)` |
| `clip` | 2,000 samples at 16,000 Hz, the input of what follows |
| `torchaudio_htk` | `MelSpectrogram(n_fft=512, win_length=400, hop_length=160, n_mels=40)` and `AmplitudeToDB`, `[mels, frames]` |
| `torchaudio_slaney` | the same with `n_fft=400`, `f_min=100`, `f_max=7000`, `mel_scale="slaney"`, `norm="slaney"`, then ln(x + 1e-6) |
| `librosa_slaney` | `librosa.feature.melspectrogram(n_fft=512, win_length=400, hop_length=160, n_mels=40)`, `power_to_db(top_db=None)` |
| `librosa_htk_open` | the same with `htk=True`, `norm=None` and `center=False` |

    python sounds.py          # with requirements-sounds.txt
"""

import pathlib

import librosa
import numpy as np
import soundfile
import torch
import torchaudio

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE.parent / "sounds"
RATE = 44_100
CODINGS = {
    "pcm8.wav": "PCM_U8",
    "pcm16.wav": "PCM_16",
    "pcm24.wav": "PCM_24",
    "pcm32.wav": "PCM_32",
    "float.wav": "FLOAT",
    "pcm16.flac": "PCM_16",
    "pcm24.flac": "PCM_24",
}


def sound() -> np.ndarray:
    random = np.random.default_rng(0)
    time = np.arange(int(0.12 * RATE)) / RATE
    left = 0.4 * np.sin(2 * np.pi * 440 * time) + 0.05 * random.normal(size=len(time))
    right = 0.3 * np.sin(2 * np.pi * 1500 * time) + 0.05 * random.normal(size=len(time))
    return np.stack([left, right], 1).clip(-1, 1)


def main() -> None:
    OUT.mkdir(exist_ok=True)
    arrays = {}
    for name, coding in CODINGS.items():
        # Few samples: the codings differ in their first ones already.
        soundfile.write(OUT / name, sound()[:600], RATE, subtype=coding)
        arrays[f"mono_{name}"] = soundfile.read(OUT / name, dtype="float32")[0].mean(1)
    mono = torch.tensor(sound().mean(1), dtype=torch.float32)
    arrays["mono"] = mono.numpy()
    for rate in (16_000, 22_050, 48_000, 8_000):
        arrays[f"at_{rate}"] = torchaudio.functional.resample(mono, RATE, rate).numpy()
    clip = torchaudio.functional.resample(mono, RATE, 16_000)
    clip = torch.cat([clip, clip])[:2_000]
    arrays["clip"] = clip.numpy()
    htk = torchaudio.transforms.MelSpectrogram(16_000, n_fft=512, win_length=400, hop_length=160, n_mels=40)
    arrays["torchaudio_htk"] = torchaudio.transforms.AmplitudeToDB()(htk(clip)).numpy()
    slaney = torchaudio.transforms.MelSpectrogram(
        16_000, n_fft=400, win_length=400, hop_length=160, n_mels=40, f_min=100, f_max=7_000, mel_scale="slaney", norm="slaney"
    )
    arrays["torchaudio_slaney"] = (slaney(clip) + 1e-6).log().numpy()
    both = dict(y=clip.numpy(), sr=16_000, n_fft=512, win_length=400, hop_length=160, n_mels=40)
    arrays["librosa_slaney"] = librosa.power_to_db(librosa.feature.melspectrogram(**both), top_db=None)
    opened = librosa.feature.melspectrogram(**both, htk=True, norm=None, center=False)
    arrays["librosa_htk_open"] = librosa.power_to_db(opened, top_db=None)
    np.savez_compressed(OUT / "sounds.npz", **{name: array.astype("f4") for name, array in arrays.items()})


main()
