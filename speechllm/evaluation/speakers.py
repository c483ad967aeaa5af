"""How alike two voices are: the cosine of their GE2E speaker embeddings (Wan et al. 2018, §2.1).

The network and its weights are those of Resemblyzer (Apache-2.0): three LSTM layers over mel power, the last state
projected, rectified and brought to length 1. A clip's embedding is the mean of those of its windows of 1.6 seconds,
again of length 1. Two clips of one voice come to 0.8 to 0.95, of two voices to 0.45 to 0.7.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechllm import weights
from speechllm.audio.clip import Clip
from speechllm.audio.features import HOP, HZ, WINDOW, mel_filters
from speechllm.errors import AudioError

MELS, SIZE = 40, 256
FRAMES = 160  # of a window: 1.6 s
STEP = 77  # frames between windows: 1.3 a second
QUIETEST = -30.0  # dB below full scale (RMS); softer clips are made as loud


class SpeakerEncoder(nn.Module):
    """A clip to a unit vector (256,) of its speaker."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(MELS, SIZE, 3, batch_first=True)
        self.linear = nn.Linear(SIZE, SIZE)

    @classmethod
    def load(cls) -> SpeakerEncoder:
        """With Resemblyzer's weights; raises WeightsError where they cannot be had."""
        made = cls()
        saved = torch.load(weights.get("resemblyzer") / "pretrained.pt", map_location="cpu", weights_only=True)
        made.load_state_dict({name: each for name, each in saved["model_state"].items() if "similarity" not in name})
        return made.eval().requires_grad_(False)

    @torch.inference_mode()
    def embed(self, clip: Clip) -> Tensor:
        """Unit vector (256,) of a clip of any rate; raises AudioError for one that is silent or empty."""
        samples = clip.resampled(HZ).samples
        level = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0
        if not level or not math.isfinite(level):
            raise AudioError("the clip is silent: it has no voice to compare")
        gain = max(1.0, 10 ** (QUIETEST / 20) / level)
        mels = mel_power(torch.from_numpy(np.ascontiguousarray(samples)) * gain)
        mels = F.pad(mels, (0, 0, 0, max(0, FRAMES - len(mels))))
        windows = mels.unfold(0, FRAMES, STEP).transpose(1, 2)  # (windows, FRAMES, MELS)
        _, (state, _) = self.lstm(windows)
        each = F.normalize(F.relu(self.linear(state[-1])), dim=-1)
        return F.normalize(each.mean(0), dim=-1)

    def similarity(self, one: Clip, other: Clip) -> float:
        """Cosine of two clips' embeddings, 0 to 1."""
        return float(self.embed(one) @ self.embed(other))


def mel_power(samples: Tensor) -> Tensor:
    """Mel power (T, 40) of samples (N,) float32 at 16 kHz, every 10 ms."""
    spectrum = torch.stft(
        samples, WINDOW, HOP, window=torch.hann_window(WINDOW), center=True, pad_mode="constant", return_complex=True
    )
    return torch.view_as_real(spectrum).square().sum(-1).T @ mel_filters(MELS)
