"""Pitch: what it is in a recording, of each frame and of each letter, and what it will be in a sentence.

A regression over many pitches is a sound of none. So the acoustic model is told the pitch of each letter (Łańcucki
2021, "FastPitch", §2.1), in training that of the recording, in speaking one that is predicted from the letters and
moved to where the voice speaks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LOWEST_HZ, HIGHEST_HZ = 60.0, 400.0
REFERENCE_HZ = 150.0  # heights are octaves above it
WINDOW_SECONDS = 0.064
CLEAR = 0.6  # least similarity of a voiced frame with itself a period later
FIRST = 0.9  # of the best similarity: the shortest period that has so much counts, not its double
QUIET_DB = 40.0  # below the loudest frame nothing is voiced
_BLOCK = 2048  # frames at a time


def heights(samples: Tensor, rate: int, hop: int) -> Tensor:
    """Octaves above `REFERENCE_HZ` of each frame of `hop` samples (T,) float32; NaN where it is not voiced.

    The period is where the normalised square difference is smallest (McLeod and Wyvill 2005, "A smarter way to find
    pitch", §4).

    Args:
        samples: (N,) float; T = ceil(N / hop).
    """
    assert samples.ndim == 1, tuple(samples.shape)
    count, size = -(-len(samples) // hop), round(WINDOW_SECONDS * rate)
    if not count:
        return samples.new_zeros(0)
    before = size // 2 - hop // 2
    padded = F.pad(samples.float(), (before, size + hop))
    frames = padded.unfold(0, size, hop)[:count]
    found = [_similarity(block, rate) for block in frames.split(_BLOCK)]
    similar, periods = (torch.cat(each) for each in zip(*found, strict=True))
    power = frames.square().mean(1)
    is_voiced = (similar >= CLEAR) & (power > power.max() * 10 ** (-QUIET_DB / 10))
    return torch.where(is_voiced, (rate / periods / REFERENCE_HZ).log2(), torch.nan)


def _similarity(frames: Tensor, rate: int) -> tuple[Tensor, Tensor]:
    """Of frames (T, W): the similarity (T,) with themselves a period later, and the period (T,) in samples."""
    size = frames.shape[1]
    shortest, longest = round(rate / HIGHEST_HZ), round(rate / LOWEST_HZ)
    frames = frames - frames.mean(1, keepdim=True)
    longer = size + longest + 2  # so that no lag wraps around
    spectrum = torch.fft.rfft(frames, longer)
    same = torch.fft.irfft(spectrum.abs().square(), longer)[:, : longest + 2]
    energy = F.pad(frames.square().cumsum(1), (1, 0))
    lags = torch.arange(longest + 2, device=frames.device)
    both = energy[:, size - lags] + energy[:, -1:] - energy[:, lags]
    curve = 2 * same / both.clamp(min=1e-9)
    inner = curve[:, shortest : longest + 1]
    is_peak = (inner >= curve[:, shortest - 1 : longest]) & (inner >= curve[:, shortest + 1 : longest + 2])
    best = inner.masked_fill(~is_peak, -1.0).amax(1)
    first = (is_peak & (inner >= FIRST * best[:, None])).float().argmax(1)
    return best, (first + shortest).float()


def of_letters(heights: Tensor, places: Tensor, count: int) -> Tensor:
    """Of each letter (L, 2): the share of its frames that are voiced, -1 without any frame, and their mean height.

    Args:
        heights: (T,) of frames; places: (T,) which letter each says, -1: none; count: L.
    """
    said = places >= 0
    places, heights = places[said], heights[said]
    voiced = heights.isfinite()
    frames, sung = (torch.zeros(count, device=heights.device) for _ in range(2))
    frames.index_add_(0, places, torch.ones_like(heights))
    sung.index_add_(0, places, voiced.float())
    total = torch.zeros_like(sung).index_add_(0, places, heights.nan_to_num(0.0))
    share = torch.where(frames > 0, sung / frames.clamp(min=1), -1.0)
    return torch.stack([share, total / sung.clamp(min=1)], 1)


def mean_height(heights: Tensor) -> float:
    """Mean of the voiced frames; 0 where there are none."""
    voiced = heights[heights.isfinite()]
    return float(voiced.mean()) if len(voiced) else 0.0


class PitchPredictor(nn.Module):
    """The pitch of letters from their vectors: two convolutions, five letters wide."""

    def __init__(self, size: int, width: int = 128) -> None:
        super().__init__()
        self.first = nn.Conv1d(size, width, 5, padding=2)
        self.second = nn.Conv1d(width, width, 5, padding=2)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, 2)

    def forward(self, letters: Tensor) -> Tensor:
        """(B, L, 2) from vectors (B, L, H): the share of voiced frames, and the height over the voice's mean."""
        hidden = F.gelu(self.first(letters.transpose(1, 2)))
        hidden = F.gelu(self.second(hidden)).transpose(1, 2)
        share, height = self.out(self.norm(hidden)).float().unbind(-1)
        return torch.stack([share.sigmoid(), height], -1)

    def loss(self, letters: Tensor, known: Tensor, mean: Tensor) -> Tensor:
        """Squared errors of shares, and of heights in octaves by the voiced share; () over letters that are said.

        Args:
            letters: (B, L, H); known: (B, L, 2) of `of_letters`; mean: (B,) height of each row's voice.
        """
        found, (share, height) = self(letters), known.unbind(-1)
        is_said = share >= 0
        weight = share.clamp(min=0)
        wrong_share = ((found[..., 0] - share).square() * is_said).sum() / is_said.sum().clamp(min=1)
        wrong_height = (found[..., 1] - (height - mean[:, None])).square() * weight
        return wrong_share + wrong_height.sum() / weight.sum().clamp(min=1)
