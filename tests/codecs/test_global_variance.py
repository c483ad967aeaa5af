"""Spectra that vary as a voice's do (Silén et al. 2012): its mean and deviation in every bin, within limits."""

import pytest
import torch

from speechllm.codecs import global_variance
from speechllm.codecs.global_variance import MOST_SHIFT, MOST_WIDER, GlobalVariance


@pytest.fixture(autouse=True)
def the_whole_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(global_variance, "STRENGTH", 1.0)


def drawn(seed: int, mean: float, deviation: float) -> torch.Tensor:
    return mean + deviation * torch.randn(400, 6, generator=torch.Generator().manual_seed(seed)).clamp(-2, 2)


def test_mean_and_deviation_become_those_of_the_voice() -> None:
    flat, real = drawn(0, 1.0, 0.5), drawn(1, 1.5, 0.6)
    found = GlobalVariance.between(flat, real)(flat)
    assert torch.allclose(found.mean(0), real.mean(0), atol=1e-5)
    assert torch.allclose(found.std(0), real.std(0), rtol=1e-3)


def test_what_is_right_stays() -> None:
    real = drawn(0, 0.0, 0.5)
    assert torch.allclose(GlobalVariance.between(real, real)(real), real, atol=1e-6)


def test_frames_without_speech_do_not_count() -> None:
    flat, real = drawn(0, 1.0, 0.5), drawn(1, 1.5, 0.6)
    pause = torch.full((300, 6), -9.0)
    bare, padded = GlobalVariance.between(flat, real), GlobalVariance.between(torch.cat([flat, pause]), real)
    assert torch.equal(bare.mean, padded.mean) and torch.equal(bare.wider, padded.wider)


def test_it_goes_only_so_far() -> None:
    """Whatever it is given, one frame too; of a bin that is far off it moves no more."""
    far = GlobalVariance.between(drawn(0, 0.0, 0.1), drawn(1, 5.0, 2.0))
    assert torch.equal(far.shift, torch.full((6,), MOST_SHIFT)) and torch.equal(far.wider, torch.full((6,), MOST_WIDER))
    moved = far(torch.full((1, 6), 40.0)) - 40.0
    assert (moved <= MOST_SHIFT + global_variance.MOST_MOVE * (MOST_WIDER - 1) + 1e-4).all()
    one = GlobalVariance.between(drawn(0, 0.0, 0.1)[:1], drawn(1, 5.0, 2.0)[:1])
    assert torch.isfinite(one(drawn(0, 0.0, 0.1))).all()
