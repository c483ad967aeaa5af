"""log_mel against the feature extractor of transformers on the clip padded to 30 s."""

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor

from speechllm.audio import Clip
from speechllm.audio.features import frame_count, log_mel


@pytest.fixture(scope="module")
def oracle() -> WhisperFeatureExtractor:
    return WhisperFeatureExtractor()


def noise(count: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    loudness = np.interp(np.arange(count), [0, count / 2, count], [1e-3, 0.5, 1e-4])
    return (loudness * generator.standard_normal(count)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 159, 160, 161, 200, 399, 400, 401, 4_321, 16_000, 79_999, 400_000])
def test_every_frame_is_the_one_of_the_padded_clip(oracle: WhisperFeatureExtractor, count: int) -> None:
    samples = noise(count, seed=count)
    expected = oracle(samples, sampling_rate=16_000, return_tensors="pt").input_features[0].T
    features = log_mel(Clip(samples, 16_000))
    assert features.shape == (-(-count // 160), 80)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, expected[: len(features)], rtol=0, atol=1e-5)


def test_the_loudest_value_may_lie_in_the_last_sample(oracle: WhisperFeatureExtractor) -> None:
    samples = np.zeros(1_600, np.float32)
    samples[0], samples[-1] = 1e-4, 1.0
    expected = oracle(samples, sampling_rate=16_000, return_tensors="pt").input_features[0].T[:10]
    torch.testing.assert_close(log_mel(Clip(samples, 16_000)), expected, rtol=0, atol=1e-5)


def test_tail_is_silence_put_behind() -> None:
    samples = noise(5_000)
    with_tail = log_mel(Clip(samples, 16_000), tail_seconds=0.25)
    padded = log_mel(Clip(np.pad(samples, (0, 4_000)), 16_000))
    assert torch.equal(with_tail, padded)
    assert len(padded) == frame_count(9_000)


def test_empty_silent_and_other_rates() -> None:
    assert log_mel(Clip(np.zeros(0, np.float32), 16_000)).shape == (0, 80)
    assert torch.equal(log_mel(Clip(np.zeros(800, np.float32), 16_000)), torch.full((5, 80), -1.5))
    clip = Clip(noise(48_000), 48_000)
    assert torch.equal(log_mel(clip), log_mel(clip.resampled(16_000)))
