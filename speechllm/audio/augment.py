"""Changes to a recording that keep its words: noise and rooms (Ko et al. 2017), speed (Ko et al. 2015),
SpecAugment (Park et al. 2019).

All of it is deterministic: chance enters only through the generators that are given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import soxr

from speechllm.audio.clip import Clip
from speechllm.errors import AudioError

if TYPE_CHECKING:
    import torch


def mix(speech: Clip, noise: Clip, snr_db: float, generator: np.random.Generator | None = None) -> Clip:
    """`speech` with `noise` under it, `snr_db` quieter in mean power; as long as the speech.

    The noise is repeated where it is shorter and begins at a place drawn from `generator` (at its start
    without one). A sum that passes full scale is turned down as a whole. Where one of the two is silent,
    the speech comes back as it is.
    """
    other = noise.resampled(speech.rate).samples
    if not len(other) or not len(speech.samples):
        return speech
    start = int(generator.integers(len(other))) if generator is not None else 0
    other = np.resize(np.roll(other, -start), len(speech.samples))
    speech_power, noise_power = _power(speech.samples), _power(other)
    if speech_power == 0 or noise_power == 0:
        return speech
    gain = np.sqrt(speech_power / noise_power) * 10 ** (-snr_db / 20)
    return Clip(_within_full_scale(speech.samples + gain * other), speech.rate)


def reverberate(clip: Clip, response: Clip) -> Clip:
    """The clip as heard in the room whose impulse response is given; same length, start and mean power.

    The response is shifted so that its strongest sample, the direct path, falls at zero: words keep
    their times.
    """
    impulse = response.resampled(clip.rate).samples
    if not len(clip.samples) or not np.any(impulse):
        return clip
    impulse = impulse[int(np.abs(impulse).argmax()) :][: len(clip.samples)]
    length = 1 << (len(clip.samples) + len(impulse) - 1).bit_length()
    wet = np.fft.irfft(np.fft.rfft(clip.samples, length) * np.fft.rfft(impulse, length), length)
    wet = wet[: len(clip.samples)]
    power = _power(wet)
    if power > 0:
        wet *= np.sqrt(_power(clip.samples) / power)
    return Clip(_within_full_scale(wet), clip.rate)


def change_speed(clip: Clip, factor: float) -> Clip:
    """The clip played `factor` times as fast (0.5 to 2), tempo and pitch together, at the same rate."""
    if not 0.5 <= factor <= 2:
        raise AudioError(f"a speed factor of {factor} is outside 0.5 to 2")
    if factor == 1 or not len(clip.samples):
        return clip
    return Clip(soxr.resample(clip.samples, clip.rate * factor, clip.rate), clip.rate)


def spec_augment(
    features: torch.Tensor,
    generator: torch.Generator,
    time_masks: int = 2,
    longest_share: float = 0.1,
    mel_masks: int = 2,
    widest: int = 16,
) -> torch.Tensor:
    """A copy of `features` (T, F) with random stretches of time and bands of mels set to its mean.

    Each of the `time_masks` covers at most `longest_share` of the frames, each of the `mel_masks` at most
    `widest` mels; widths and places are uniform. The paper's time warp is left out: it mattered least.
    """
    import torch

    assert features.ndim == 2, f"features must be (T, F), not {tuple(features.shape)}"
    frames, mels = features.shape
    masked = features.clone()
    mean = features.mean() if features.numel() else 0.0
    along_time = (masked, frames, int(longest_share * frames))
    along_mels = (masked.T, mels, min(widest, mels))
    for view, size, longest in [along_time] * time_masks + [along_mels] * mel_masks:
        width = int(torch.randint(longest + 1, (), generator=generator))
        start = int(torch.randint(size - width + 1, (), generator=generator))
        view[start : start + width] = mean
    return masked


def _power(samples: np.ndarray) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64)))


def _within_full_scale(samples: np.ndarray) -> np.ndarray:
    return (samples / max(1.0, float(np.abs(samples).max()))).astype(np.float32)
