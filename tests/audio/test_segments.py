"""Speech detection on real clips and the cutting of long recordings, by the network and by a stand-in."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechllm import weights
from speechllm.audio import Clip, load, stream
from speechllm.audio.segments import WINDOW, SpeechDetector, cut_at_pauses
from speechllm.errors import AudioError, WeightsError

HZ = 16_000
CLIPS = Path(__file__).parents[2] / "demos" / "clips"


@pytest.fixture(scope="module")
def detector() -> SpeechDetector:
    return SpeechDetector(weights.get("silero-vad", progress=False) / "silero_vad.onnx")


@pytest.fixture(scope="module")
def spoken() -> list[Clip]:
    rows = [json.loads(line) for line in (CLIPS / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    return [load(CLIPS / row["audio"]) for row in rows]


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * HZ), np.float32)


class Loudness:
    """A stand-in for the network: the probability of a window is the mean of its samples."""

    def listen(self):
        return lambda samples: samples.reshape(-1, WINDOW).mean(axis=1)


def test_real_clips_hold_speech_and_silence_does_not(detector: SpeechDetector, spoken: list[Clip]) -> None:
    for clip in spoken:
        spans = detector.segments(clip)
        assert sum(end - start for start, end in spans) > 0.4 * clip.seconds
        assert all(0 <= start < end <= clip.seconds for start, end in spans)
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    hiss = 0.05 * np.random.default_rng(0).standard_normal(5 * HZ).astype(np.float32)
    hum = (0.3 * np.sin(2 * np.pi * 50 * np.arange(5 * HZ) / HZ)).astype(np.float32)
    for samples in (silence(5), hiss, hum, silence(1)[:1], silence(0)):
        assert detector.segments(Clip(samples, HZ)) == []


def test_speech_is_found_where_it_was_put(detector: SpeechDetector, spoken: list[Clip]) -> None:
    clip = spoken[0]
    (start, *_), (*_, end) = detector.segments(clip)[0], detector.segments(clip)[-1]
    moved = detector.segments(Clip(np.concatenate([silence(2.048), clip.samples, silence(2)]), HZ))
    assert moved[0][0] == pytest.approx(2.048 + start, abs=0.25)
    assert moved[-1][1] == pytest.approx(2.048 + end, abs=0.25)


def test_probabilities_are_one_a_window_whatever_the_pieces(detector: SpeechDetector, spoken: list[Clip]) -> None:
    clip = spoken[1]
    whole = detector.probabilities(clip)
    assert whole.shape == (-(-len(clip.samples) // WINDOW),)
    assert whole.dtype == np.float32
    listener = detector.listen()
    padded = np.pad(clip.samples, (0, -len(clip.samples) % WINDOW))
    pieces = np.split(padded, [3 * WINDOW, 3 * WINDOW, 40 * WINDOW])
    assert np.array_equal(np.concatenate([listener(piece) for piece in pieces]), whole)
    at_48k = detector.probabilities(clip.resampled(48_000))
    assert np.abs(at_48k - whole).mean() < 0.05


def test_a_long_recording_is_cut_between_the_clips(detector: SpeechDetector, spoken: list[Clip]) -> None:
    parts, begins, at = [], [], 0
    for index in range(12):
        clip = spoken[index % len(spoken)].samples
        begins.append(at / HZ)
        parts += [clip, silence(2)]
        at += len(clip) + 2 * HZ
    samples = np.concatenate(parts)
    cut = list(cut_at_pauses(stream((samples, HZ), block_seconds=7), detector))
    assert len(cut) == 12
    for (offset, piece), begin in zip(cut, begins, strict=True):
        first = round(offset * HZ)
        assert np.array_equal(piece.samples, samples[first : first + len(piece.samples)])
        assert begin - 0.2 < offset < begin + 1


def test_silence_gives_nothing(detector: SpeechDetector) -> None:
    assert list(cut_at_pauses(stream((silence(40), HZ)), detector)) == []
    assert list(cut_at_pauses(iter([]), detector)) == []


def bursts(lengths: list[tuple[int, int]]) -> np.ndarray:
    """Windows of speech (1) and silence (0) in turn, for the stand-in."""
    flags = np.concatenate([np.repeat([1.0, 0.0], pair) for pair in lengths]) if lengths else np.zeros(0)
    return np.repeat(flags, WINDOW).astype(np.float32)


@settings(max_examples=60)
@given(
    lengths=st.lists(st.tuples(st.integers(3, 700), st.integers(0, 200)), max_size=8),
    longest=st.sampled_from([5.0, 10.0, 28.0]),
    block=st.integers(100, 60_000),
    ragged=st.integers(0, 511),
)
def test_nothing_spoken_is_lost_and_blocks_do_not_matter(
    lengths: list[tuple[int, int]], longest: float, block: int, ragged: int
) -> None:
    samples = np.concatenate([bursts(lengths), silence(ragged / HZ)])
    whole = list(cut_at_pauses([Clip(samples, HZ)], Loudness(), longest))  # type: ignore[arg-type]
    blocks = [Clip(samples[start : start + block], HZ) for start in range(0, len(samples), block)]
    again = list(cut_at_pauses(blocks, Loudness(), longest))  # type: ignore[arg-type]
    assert [offset for offset, _ in whole] == [offset for offset, _ in again]
    covered = np.zeros(len(samples), bool)
    for (offset, piece), (_, same) in zip(whole, again, strict=True):
        first = round(offset * HZ)
        part = slice(first, first + len(piece.samples))
        assert np.array_equal(piece.samples, same.samples)
        assert np.array_equal(piece.samples, samples[part])
        assert 0 < piece.seconds <= longest
        assert piece.samples.any()
        assert not covered[part].any()
        covered[part] = True
    assert covered[samples > 0].all()
    assert (samples[covered] > 0).mean() > 0.1 if whole else not (samples > 0).any()


def test_the_longest_pause_of_the_second_half_is_the_cut() -> None:
    samples = bursts([(400, 40), (200, 10), (120, 30), (400, 0)])  # pauses at 12.8, 20.5 and 24.6 s
    first, *rest = cut_at_pauses([Clip(samples, HZ)], Loudness())  # type: ignore[arg-type]
    assert first[0] == 0
    assert first[1].seconds == pytest.approx((400 + 40 + 200 + 10 + 120 + 6) * 0.032)
    assert rest[0][0] == pytest.approx((400 + 40 + 200 + 10 + 120 + 30 - 6) * 0.032)


def test_without_a_pause_the_least_likely_window_is_the_cut_and_nothing_is_lost() -> None:
    flags = np.full(2_000, 0.9, np.float32)
    flags[700:730] = 0.4  # speech goes on, barely
    samples = np.repeat(flags, WINDOW)
    cut = list(cut_at_pauses([Clip(samples, HZ)], Loudness()))  # type: ignore[arg-type]
    assert cut[0][1].seconds == pytest.approx(701 * 0.032)
    assert sum(len(piece.samples) for _, piece in cut) == len(samples)


def test_memory_stays_bounded_while_somebody_speaks_without_end() -> None:
    import tracemalloc

    tracemalloc.start()
    blocks = (Clip(np.full(HZ * 10, 0.9, np.float32), HZ) for _ in range(60))
    seconds = sum(piece.seconds for _, piece in cut_at_pauses(blocks, Loudness()))  # type: ignore[arg-type]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds == pytest.approx(600)
    assert peak < 20e6


def test_what_is_refused(tmp_path: Path, detector: SpeechDetector) -> None:
    with pytest.raises(AudioError, match="16000 Hz"):
        list(cut_at_pauses([Clip(np.zeros(10, np.float32), 8_000)], detector))
    with pytest.raises(AudioError, match="too short"):
        list(cut_at_pauses([], detector, longest=1))
    with pytest.raises(WeightsError, match="no such file"):
        SpeechDetector(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_text("not a network")
    with pytest.raises(WeightsError, match="not a readable"):
        SpeechDetector(tmp_path / "bad.onnx")
