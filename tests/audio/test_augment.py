"""Augmentation: levels, lengths, times and determinism."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from speechllm.audio import Clip
from speechllm.audio.augment import change_speed, mix, reverberate, spec_augment
from speechllm.errors import AudioError

HZ = 16_000


def noise(count: int, seed: int = 0, loudness: float = 0.05) -> Clip:
    return Clip((loudness * np.random.default_rng(seed).standard_normal(count)).astype(np.float32), HZ)


def power(samples: np.ndarray) -> float:
    return float(np.mean(samples.astype(np.float64) ** 2))


@given(snr=st.floats(-5, 30), speech_count=st.integers(1_000, 30_000), noise_count=st.integers(1_000, 30_000))
def test_mix_hits_the_ratio_and_keeps_the_length(snr: float, speech_count: int, noise_count: int) -> None:
    speech, under = noise(speech_count), noise(noise_count, seed=1, loudness=0.3)
    mixed = mix(speech, under, snr, np.random.default_rng(2))
    assert len(mixed.samples) == speech_count
    assert np.abs(mixed.samples).max() <= 1
    if np.abs(mixed.samples).max() < 0.999:  # not turned down
        added = mixed.samples - speech.samples
        assert 10 * np.log10(power(speech.samples) / power(added)) == pytest.approx(snr, abs=0.1)


def test_mix_is_deterministic_and_leaves_silence_alone() -> None:
    speech, under = noise(8_000), noise(3_000, seed=1)
    again = [mix(speech, under, 10, np.random.default_rng(3)).samples for _ in range(2)]
    assert np.array_equal(*again)
    silence = Clip(np.zeros(8_000, np.float32), HZ)
    assert mix(speech, silence, 10) is speech
    assert mix(silence, under, 10) is silence
    assert mix(speech, Clip(np.zeros(0, np.float32), HZ), 10) is speech


def test_mix_resamples_the_noise() -> None:
    assert mix(noise(8_000), Clip(noise(8_000).samples, 44_100), 5).rate == HZ


def test_reverberation_is_the_convolution_from_the_direct_path_on() -> None:
    dry = noise(2_000)
    response = np.zeros(900, np.float32)
    response[100], response[350], response[800] = 1.0, -0.4, 0.2
    expected = np.convolve(dry.samples, response[100:])[:2_000]
    expected *= np.sqrt(power(dry.samples) / power(expected))
    np.testing.assert_allclose(reverberate(dry, Clip(response, HZ)).samples, expected, atol=1e-6)


def test_reverberation_by_a_single_spike_changes_nothing() -> None:
    dry = noise(2_000)
    np.testing.assert_allclose(
        reverberate(dry, Clip(np.eye(1, 50, 20, dtype=np.float32)[0], HZ)).samples, dry.samples, atol=1e-6
    )
    assert reverberate(dry, Clip(np.zeros(50, np.float32), HZ)) is dry


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.1, 2.0])
def test_speed_changes_duration_and_pitch_together(factor: float) -> None:
    clip = Clip((0.3 * np.sin(2 * np.pi * 440 * np.arange(HZ) / HZ)).astype(np.float32), HZ)
    changed = change_speed(clip, factor)
    assert changed.seconds == pytest.approx(1 / factor, abs=1e-3)
    assert changed.rate == HZ
    peak = np.abs(np.fft.rfft(changed.samples)).argmax() / changed.seconds
    assert peak == pytest.approx(440 * factor, abs=2)


def test_speed_refuses_what_is_no_speed() -> None:
    assert change_speed(noise(10), 1.0).seconds == noise(10).seconds
    for factor in (0, -1, 2.1, float("nan")):
        with pytest.raises(AudioError, match="speed"):
            change_speed(noise(10), factor)


@given(frames=st.integers(0, 200), seed=st.integers(0, 1000))
def test_spec_augment_masks_whole_frames_and_bands_within_their_bounds(frames: int, seed: int) -> None:
    features = torch.randn(frames, 80, generator=torch.Generator().manual_seed(seed))
    before = features.clone()
    masked = spec_augment(features, torch.Generator().manual_seed(seed))
    assert torch.equal(features, before)
    assert torch.equal(masked, spec_augment(features, torch.Generator().manual_seed(seed)))
    changed = masked != features
    if frames:
        whole_frames = int(changed.all(1).sum())
        whole_bands = int(changed.all(0).sum())
        assert whole_frames <= 2 * int(0.1 * frames)
        assert whole_bands <= 32
        rest = changed[~changed.all(1)][:, ~changed.all(0)]
        assert not rest.any()
