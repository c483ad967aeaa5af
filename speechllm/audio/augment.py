"""SpecAugment (Park et al. 2019): masks over time and features.

Deterministic: chance enters only through the generator that is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


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
