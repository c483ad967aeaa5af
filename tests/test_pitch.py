"""Pitch: of tones it is known; letters take the mean of their frames; the predictor learns it."""

import math

import pytest
import torch
from torch import Tensor

from speechllm.pitch import REFERENCE_HZ, PitchPredictor, heights, mean_height, of_letters

RATE, HOP = 16_000, 320


def tone(hz: float, seconds: float = 1.0, rate: int = RATE) -> Tensor:
    """A buzz whose second harmonic is its loudest."""
    time = torch.arange(round(seconds * rate)) / rate
    return sum((size * torch.sin(2 * math.pi * hz * k * time) for k, size in ((1, 0.2), (2, 0.5), (3, 0.3))), time * 0)


@pytest.mark.parametrize("rate", [16_000, 24_000])
@pytest.mark.parametrize("hz", [70.0, 110.0, 150.0, 233.0, 390.0])
def test_the_pitch_of_a_tone_is_found_within_two_per_cent(hz: float, rate: int) -> None:
    found = heights(tone(hz, rate=rate), rate, rate // 50)
    assert found.shape == (50,)
    inside = REFERENCE_HZ * 2 ** found[3:-3]
    assert inside.isfinite().all()
    assert (inside / hz - 1).abs().max() < 0.02


def test_noise_silence_and_what_is_quiet_beside_it_have_none() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(RATE, generator=generator) * 0.1
    assert heights(noise, RATE, HOP).isfinite().float().mean() < 0.05
    assert heights(torch.zeros(RATE), RATE, HOP).isnan().all()
    assert heights(torch.zeros(0), RATE, HOP).shape == (0,)
    faint = torch.cat([tone(120.0), 0.001 * tone(120.0)])
    found = heights(faint, RATE, HOP)
    assert found[3:47].isfinite().all() and found[55:].isnan().all()


def test_loudness_and_length_change_nothing() -> None:
    whole = heights(tone(130.0, 3.0), RATE, HOP)
    assert torch.allclose(heights(tone(130.0, 3.0) * 1000, RATE, HOP), whole, equal_nan=True)
    assert len(heights(tone(130.0)[:-1], RATE, HOP)) == 50 == len(heights(tone(130.0)[: -HOP + 1], RATE, HOP))


def test_letters_have_the_mean_of_their_frames() -> None:
    nan = math.nan
    frames = torch.tensor([0.5, 1.5, nan, nan, 0.25, nan, 9.0])
    places = torch.tensor([0, 0, 0, 1, 3, 3, -1])
    found = of_letters(frames, places, 5)
    assert torch.allclose(found[:, 0], torch.tensor([2 / 3, 0.0, -1.0, 0.5, -1.0]))
    assert found[:, 1].tolist() == [1.0, 0.0, 0.0, 0.25, 0.0]
    assert mean_height(frames[:4]) == 1.0 and mean_height(frames[2:4]) == 0.0


def test_the_predictor_learns_pitch_beside_the_voices_mean() -> None:
    torch.manual_seed(0)
    model, vectors = PitchPredictor(8, 16), torch.randn(2, 6, 8)
    heights = torch.tensor([0.2, -0.3, 0.0, 0.1, 9.0, 9.0])
    share = torch.tensor([1.0, 0.5, 1.0, 0.25, 0.0, -1.0])  # the last letters tell nothing of their height
    known = torch.stack([share, heights], -1).repeat(2, 1, 1)
    mean = torch.tensor([0.0, 0.7])
    known[1, :, 1] += 0.7
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        loss = model.loss(vectors, known, mean)
        loss.backward()
        optimizer.step()
    assert loss < 1e-3
    found = model(vectors).detach()
    assert torch.allclose(found[:, :3, 1], heights[:3].expand(2, 3), atol=0.05)
    assert torch.allclose(found[:, :5, 0], share[:5].expand(2, 5), atol=0.05)
