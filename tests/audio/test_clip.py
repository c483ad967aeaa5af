"""Clip: its arithmetic, and what it refuses."""

import numpy as np
import pytest
import soxr
from hypothesis import given
from hypothesis import strategies as st

from speechllm.audio import Clip
from speechllm.audio.clip import check_rate
from speechllm.errors import AudioError


def ramp(count: int, rate: int = 16_000) -> Clip:
    return Clip(np.arange(count, dtype=np.float32) / max(1, count), rate)


@given(count=st.integers(0, 40_000), start=st.floats(-1, 4), length=st.floats(-1, 4))
def test_cut_stays_inside_and_keeps_the_samples(count: int, start: float, length: float) -> None:
    clip = ramp(count)
    part = clip.cut(start, start + length)
    begin = round(max(0.0, start) * clip.rate)
    assert np.array_equal(part.samples, clip.samples[begin : begin + len(part.samples)])
    assert 0 <= part.seconds <= max(0.0, length) + 2 / clip.rate


def test_resampled_is_soxr_and_keeps_the_duration() -> None:
    clip = ramp(44_100, 44_100)
    assert np.array_equal(clip.resampled(16_000).samples, soxr.resample(clip.samples, 44_100, 16_000))
    assert clip.resampled(16_000).seconds == pytest.approx(clip.seconds, abs=1e-3)
    assert clip.resampled(44_100) is clip
    assert ramp(0).resampled(8_000).seconds == 0


@pytest.mark.parametrize(
    "rate", [0, -1, 7_999, 192_001, 16_000.5, True, "16000", None, float("nan"), float("inf"), [16_000]]
)
def test_rates_that_are_refused(rate: object) -> None:
    with pytest.raises(AudioError, match="rate"):
        check_rate(rate)


def test_clip_refuses_shapes_and_integers() -> None:
    with pytest.raises(AudioError, match="mono"):
        Clip(np.zeros((2, 3), np.float32), 16_000)
    with pytest.raises(AudioError, match="float"):
        Clip(np.zeros(3, np.int16), 16_000)
    assert Clip(np.zeros(3, np.float64), 16_000.0).samples.dtype == np.float32  # type: ignore[arg-type]
