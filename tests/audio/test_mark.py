"""The mark of generated speech: unheard, found after what sound goes through, not found where it is not."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechllm import mark_commands as commands
from speechllm.audio import Clip, load
from speechllm.audio.mark import Marker, detect, mark, threshold
from speechllm.audio.save import save
from speechllm.cli import Parser
from speechllm.errors import AudioError

CLIPS = sorted((Path(__file__).parents[2] / "demos" / "clips").glob("*.ogg"))


def spoken(place: int = 0, rate: int = 16_000) -> Clip:
    return load(CLIPS[place], rate=rate)


def mp3(clip: Clip) -> Clip:
    file = io.BytesIO()
    soundfile.write(file, clip.samples, clip.rate, format="MP3", bitrate_mode="CONSTANT", compression_level=0.8)
    return load(file.getvalue(), rate=clip.rate)


@pytest.mark.parametrize("rate", [16_000, 22_050])
@pytest.mark.parametrize("sizes", [(1,), (7, 480, 1, 3_001), (1_920,), (100_000,)])
def test_a_stream_is_marked_as_the_whole_is(rate: int, sizes: tuple[int, ...]) -> None:
    clip = spoken(rate=rate).cut(0.0, 0.1 if sizes == (1,) else 9.0)
    marker, parts, start = Marker(rate), [], 0
    late = 0
    while start < len(clip.samples):
        size = sizes[len(parts) % len(sizes)]
        parts.append(marker.push(clip.samples[start : start + size]))
        start += size
        late = max(late, min(start, len(clip.samples)) - sum(map(len, parts)))
    parts.append(marker.finish())
    assert late <= 0.04 * rate
    np.testing.assert_allclose(np.concatenate(parts), mark(clip).samples, atol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 100, 192, 193, 384, 5_000])
def test_length_is_kept(count: int) -> None:
    clip = Clip(spoken().samples[:count], 16_000)
    marked = mark(clip)
    assert len(marked.samples) == count and marked.rate == clip.rate
    assert not detect(marked).is_marked or count > 4_000


def test_a_marker_can_be_used_again() -> None:
    clip, marker = spoken(), Marker(16_000)
    once, again = (np.concatenate([marker.push(clip.samples), marker.finish()]) for _ in range(2))
    assert np.array_equal(once, again)


def test_the_mark_is_far_below_the_sound() -> None:
    for place in range(len(CLIPS)):
        clip = spoken(place)
        ratio = np.square(clip.samples).sum() / np.square(mark(clip).samples - clip.samples).sum()
        assert 10 * np.log10(ratio) > 19.0


def test_silence_stays_silent() -> None:
    assert not np.any(mark(Clip(np.zeros(16_000, np.float32), 16_000)).samples)
    faint = np.random.default_rng(0).normal(0, 1e-4, 16_000).astype(np.float32)
    assert np.abs(mark(Clip(faint, 16_000)).samples - faint).max() < 1e-4


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 24_000, 44_100])
@pytest.mark.parametrize("place", range(len(CLIPS)))
def test_found_at_each_rate(rate: int, place: int) -> None:
    assert detect(mark(spoken(place, rate))).is_marked


@pytest.mark.parametrize("place", range(len(CLIPS)))
def test_found_after_mp3_telephone_rates_and_a_cut(place: int) -> None:
    clip = mp3(mark(spoken(place, 24_000)))
    clip = clip.resampled(8_000).resampled(22_050).resampled(44_100)
    start = 0.37 * max(0.0, clip.seconds - 3.0)
    assert detect(clip.cut(start, start + 3.0)).is_marked


def test_found_in_a_part_upside_down_louder_or_in_noise() -> None:
    clip = mark(spoken())
    noise = np.random.default_rng(0).normal(0, 0.02 * clip.samples.std(), len(clip.samples)).astype(np.float32)
    for changed in (-clip.samples, 0.1 * clip.samples, clip.samples + noise):
        assert detect(Clip(changed, clip.rate)).is_marked
    around = np.concatenate([spoken(place).samples for place in range(len(CLIPS))])
    assert detect(Clip(np.concatenate([around, clip.samples, around]), clip.rate)).is_marked


@pytest.mark.parametrize("place", range(len(CLIPS)))
def test_not_found_in_recordings(place: int) -> None:
    assert not detect(spoken(place)).is_marked
    assert not detect(spoken(place).cut(0.5, 3.5)).is_marked


def test_not_found_in_noise_tones_clicks_or_nothing() -> None:
    random, seconds = np.random.default_rng(0), np.arange(5 * 16_000) / 16_000
    clicks = np.zeros(80_000)
    clicks[::16_000] = 1.0  # at the mark's own period
    sounds = [random.standard_normal(80_000), np.sin(2 * np.pi * 1000 * seconds), clicks, np.zeros(80_000), np.zeros(0)]
    for sound in sounds:
        assert not detect(Clip(sound, 16_000)).is_marked


def test_threshold_grows_with_the_length_and_chance_keeps_below() -> None:
    assert 5.5 < threshold(1) < threshold(10) < threshold(720) < 8.0
    noise = np.random.default_rng(1).standard_normal(60 * 8_000)
    found = detect(Clip(noise, 8_000))
    assert found.threshold > threshold(1) and found.score < found.threshold


def test_the_command_tells_of_each_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, plain = tmp_path / "made.flac", CLIPS[0]
    save(mark(spoken()), made)
    parser = Parser()
    commands.options(parser)
    assert commands.detect(parser.parse_args([str(made), str(plain)])) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{made}: generated (mark found, score ") and "; tag: generated speech (speechllm" in first
    assert second.startswith(f"{plain}: no mark found (score ")
    assert commands.detect(parser.parse_args([str(tmp_path / "missing.wav"), str(made), "--json"])) == 1
    told = capsys.readouterr()
    row = json.loads(told.out)
    assert row["is_marked"] and row["score"] > row["threshold"] and row["tag"].startswith("generated")
    assert len(told.err.splitlines()) == 1 and "missing.wav" in told.err


def test_rates_that_are_refused() -> None:
    with pytest.raises(AudioError, match="rate"):
        Marker(7_000)
