"""Speaker similarity and DNSMOS: what they do to a clip before and after their networks."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from speechllm.audio.clip import Clip
from speechllm.errors import AudioError
from speechllm.evaluation.dnsmos import DNSMOS, WINDOW
from speechllm.evaluation.speakers import SpeakerEncoder, mel_power


@pytest.fixture(scope="module")
def encoder() -> SpeakerEncoder:
    torch.manual_seed(0)
    return SpeakerEncoder().eval()


def tone(hertz: float, seconds: float, rate: int = 16_000, level: float = 0.01) -> Clip:
    time = np.arange(round(seconds * rate)) / rate
    return Clip((level * np.sin(2 * np.pi * hertz * time)).astype(np.float32), rate)


@pytest.mark.parametrize("seconds", [0.01, 1.0, 1.6, 3.2, 7.3])
def test_an_embedding_is_a_unit_vector_whatever_the_length(encoder: SpeakerEncoder, seconds: float) -> None:
    found = encoder.embed(tone(200, seconds))
    assert found.shape == (256,)
    assert found.norm().item() == pytest.approx(1, abs=1e-5)


def test_soft_clips_are_made_as_loud_as_others(encoder: SpeakerEncoder) -> None:
    assert encoder.similarity(tone(200, 2, level=0.02), tone(200, 2, level=0.0001)) == pytest.approx(1, abs=1e-5)


def test_any_rate_is_heard(encoder: SpeakerEncoder) -> None:
    assert encoder.similarity(tone(200, 2), tone(200, 2, rate=48_000)) > 0.999


@pytest.mark.parametrize("samples", [np.zeros(0), np.zeros(16_000), np.full(16_000, np.nan)])
def test_a_clip_without_a_voice_is_refused(encoder: SpeakerEncoder, samples: np.ndarray) -> None:
    with pytest.raises(AudioError, match="silent"):
        encoder.embed(Clip(samples.astype(np.float32), 16_000))


def test_a_tone_lies_in_its_band() -> None:
    low, high = (mel_power(torch.from_numpy(tone(hertz, 1.0).samples)).mean(0).argmax() for hertz in (300, 3000))
    assert low < high


def quality(given: list[float], heard: list[np.ndarray]) -> DNSMOS:
    """With a network that gives the same for every window."""
    made = DNSMOS.__new__(DNSMOS)

    def run(_: None, inputs: dict) -> list[np.ndarray]:
        heard.append(inputs["input_1"])
        return [np.array([given], np.float32)]

    made.session = SimpleNamespace(run=run)
    return made


def test_scores_follow_the_published_curves() -> None:
    found = quality([3.0, 4.0, 2.0], []).score(tone(200, 10))
    assert found.speech == pytest.approx(-0.08397278 * 9 + 1.22083953 * 3 + 0.0052439, abs=1e-4)
    assert found.background == pytest.approx(-0.13166888 * 16 + 1.60915514 * 4 - 0.39604546, abs=1e-4)
    assert found.overall == pytest.approx(-0.06766283 * 4 + 1.11546468 * 2 + 0.04602535, abs=1e-4)


@pytest.mark.parametrize(("seconds", "windows"), [(0.1, 1), (9.01, 1), (10.5, 2), (20, 11)])
def test_windows_of_nine_seconds_every_second(seconds: float, windows: int) -> None:
    heard: list[np.ndarray] = []
    quality([3.0, 3.0, 3.0], heard).score(tone(200, seconds))
    assert [each.shape for each in heard] == [(1, WINDOW)] * windows


def test_an_empty_clip_is_refused() -> None:
    with pytest.raises(AudioError, match="empty"):
        quality([1.0, 1.0, 1.0], []).score(Clip(np.zeros(0, np.float32), 16_000))
