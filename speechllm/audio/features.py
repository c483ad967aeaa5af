"""Whisper's log-mel spectrogram at the clip's true length (Radford et al. 2022, §2.2; Slaney's mel scale).

Whisper pads every clip with zeros to 30 s and always reads 3000 frames. Here a clip of N samples gives
ceil(N / 160) frames, and each of them has the value it has in the padded 30 s: the left edge is reflected,
the right edge is followed by zeros, and the largest value, from which the floor of 8 decades hangs, is
taken over every frame that touches a sample.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from speechllm.audio.clip import Clip

HZ = 16_000
WINDOW = 400  # samples, 25 ms
HOP = 160  # samples, 10 ms
MELS = 80
FRAMES_PER_SECOND = HZ / HOP


def frame_count(samples: int) -> int:
    """How many frames `samples` samples at 16 kHz give: ceil(samples / 160)."""
    return -(-samples // HOP)


def log_mel(clip: Clip, tail_seconds: float = 0.0) -> torch.Tensor:
    """Log-mel features (T, 80) float32 of the clip followed by `tail_seconds` of silence, T = ceil(N / 160).

    N counts the samples at 16 kHz (other rates are resampled) with the tail. An empty clip gives (0, 80).
    """
    samples = torch.from_numpy(np.ascontiguousarray(clip.resampled(HZ).samples))
    frames = frame_count(len(samples) + round(max(0.0, tail_seconds) * HZ))
    if frames == 0:
        return torch.zeros(0, MELS)
    # Two frames past the end overlap the last samples: they are dropped below, yet count for the maximum.
    computed = frames + 2
    samples = F.pad(samples, (0, HOP * (computed - 1) + WINDOW // 2 - len(samples)))
    samples = torch.cat([samples[1 : WINDOW // 2 + 1].flip(0), samples])
    spectrum = torch.stft(samples, WINDOW, HOP, window=_window(), center=False, return_complex=True)
    power = torch.view_as_real(spectrum).square().sum(-1)  # (201, computed)
    features = (power.T @ mel_filters()).clamp_(min=1e-10).log10_()
    features = torch.maximum(features, features.max() - 8.0)
    return ((features + 4.0) / 4.0)[:frames].contiguous()


@lru_cache(maxsize=1)
def _window() -> torch.Tensor:
    return torch.hann_window(WINDOW)


@lru_cache
def mel_filters(mels: int = MELS) -> torch.Tensor:
    """Triangles (201, mels) of equal area, 0 to 8000 Hz, on Slaney's scale: linear to 1 kHz, then log."""
    bins = np.linspace(0, HZ / 2, WINDOW // 2 + 1)
    corners = _mel_to_hz(np.linspace(0, _hz_to_mel(HZ / 2), mels + 2))
    widths = np.diff(corners)
    slopes = corners[None, :] - bins[:, None]  # (201, mels + 2)
    rising, falling = -slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:]
    filters = np.maximum(0, np.minimum(rising, falling)) * (2.0 / (corners[2:] - corners[:-2]))
    return torch.from_numpy(filters.astype(np.float32))


_HZ_PER_MEL = 200.0 / 3
_KNEE_HZ, _KNEE_MEL, _LOG_STEP = 1000.0, 15.0, np.log(6.4) / 27.0


def _hz_to_mel(hz: float) -> float:
    return hz / _HZ_PER_MEL if hz < _KNEE_HZ else _KNEE_MEL + float(np.log(hz / _KNEE_HZ)) / _LOG_STEP


def _mel_to_hz(mels: np.ndarray) -> np.ndarray:
    return np.where(mels < _KNEE_MEL, mels * _HZ_PER_MEL, _KNEE_HZ * np.exp(_LOG_STEP * (mels - _KNEE_MEL)))
