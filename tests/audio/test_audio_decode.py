"""load and stream: every container, every kind of source, the same samples block by block."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from made_recordings import by_av, by_soundfile, main_pitch, tone

from speechllm.audio import AudioLimits, Clip, load, stream
from speechllm.errors import AudioError, AudioLimitError

CANNOT_BREAK_OFF = {"ipod aac", "mp4 aac", "mp4 alac", "mov pcm_s16le"}  # their index lies at the end


def test_every_container_gives_the_tone(recordings: dict[str, bytes]) -> None:
    for name, data in recordings.items():
        clip = load(data)
        assert clip.rate == 16_000, name
        assert clip.samples.dtype == np.float32, name
        assert clip.seconds == pytest.approx(3.0, abs=0.05), name
        assert main_pitch(clip.samples, clip.rate) == pytest.approx(440, abs=1), name
        assert np.abs(clip.samples[8_000:-8_000]).max() == pytest.approx(0.3, abs=0.05), name


def test_a_recording_that_breaks_off_gives_what_is_there(recordings: dict[str, bytes]) -> None:
    for name, data in recordings.items():
        half = data[: len(data) * 3 // 5]
        if name in CANNOT_BREAK_OFF:
            with pytest.raises(AudioError):
                load(half)
        elif name != "ogg vorbis":  # three seconds are one page of it: tested with more below
            assert 0.5 < load(half).seconds < 2.5, name


def test_a_longer_vorbis_breaks_off_too() -> None:
    data = by_soundfile("OGG", "VORBIS", tone(16_000, 20), 16_000)
    assert 2 < load(data[: len(data) // 2]).seconds < 18


def test_damage_in_the_middle_costs_that_place_only(recordings: dict[str, bytes]) -> None:
    for name in ("mp4 aac", "adts aac", "mp3 mpeg_layer_iii"):
        data = bytearray(recordings[name])
        middle = len(data) // 2
        data[middle : middle + 300] = bytes(300)
        assert load(bytes(data)).seconds > 2, name


@pytest.mark.parametrize("hz", [8_000, 11_025, 22_050, 44_100, 96_000, 192_000])
@pytest.mark.parametrize("channels", [1, 2, 6, 8])
def test_rates_and_channels(hz: int, channels: int) -> None:
    samples = tone(hz, 0.5, channels=channels)
    samples[:, -1] *= 0.5
    clip = load(by_soundfile("WAV", "FLOAT", samples, hz))
    expected = soxr.resample(samples.mean(axis=1), hz, 16_000)
    np.testing.assert_allclose(clip.samples, expected, atol=1e-6)
    np.testing.assert_allclose(load((samples, hz)).samples, expected, atol=1e-6)


def test_surround_sound_in_m4a(tmp_path: Path) -> None:
    data = by_av(tmp_path / "a.m4a", "ipod", "aac", tone(48_000, 1, channels=6), 48_000)
    assert main_pitch(load(data).samples, 16_000) == pytest.approx(440, abs=2)


def test_a_film_gives_its_sound(tmp_path: Path) -> None:
    import av

    path = tmp_path / "film.webm"
    with av.open(str(path), "w") as film:
        picture = film.add_stream("libvpx", rate=10)
        picture.width = picture.height = 64
        picture.pix_fmt = "yuv420p"
        sound = film.add_stream("libopus", rate=48_000, layout="mono")
        image = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        frame = av.AudioFrame.from_ndarray(tone(48_000, 1).T.copy(), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48_000, 0
        packets = [*picture.encode(image), *picture.encode(None), *sound.encode(frame), *sound.encode(None)]
        for packet in packets:
            film.mux(packet)
    assert load(path).seconds == pytest.approx(1, abs=0.05)


def test_all_sources_of_one_recording_agree(tmp_path: Path, recordings: dict[str, bytes]) -> None:
    data = recordings["flac pcm_16"]
    path = tmp_path / "Straße im Regen.mp3"  # the extension lies
    path.write_bytes(data)
    expected = load(data).samples
    at_its_end = io.BytesIO()
    at_its_end.write(data)
    with path.open("rb") as file:
        for source in (
            path,
            str(path),
            file,
            at_its_end,
            bytearray(data),
            memoryview(data),
            Unseekable(data),
        ):
            assert np.array_equal(load(source).samples, expected)  # type: ignore[arg-type]
    assert np.array_equal(load(Clip(expected, 16_000)).samples, expected)


class Unseekable(io.RawIOBase):
    """A pipe's half: it can only be read."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self._data.read(size)


def test_a_pipe_that_is_open_is_read() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as file, os.fdopen(writer, "wb") as out:
        out.write(by_soundfile("WAV", "PCM_16", tone(8_000, 0.5), 8_000))
        out.close()
        assert load(file).seconds == 0.5


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([16_384, -32_768], np.int16), [0.5, -1]),
        (np.array([16_384, -32_768], ">i2"), [0.5, -1]),
        (np.array([1 << 30, -(1 << 31)], np.int32), [0.5, -1]),
        (np.array([192, 0], np.uint8), [0.5, -1]),
        (np.array([0.5, -1], np.float64), [0.5, -1]),
        (np.array([0.5, -1], np.float16), [0.5, -1]),
        ([0.5, -1.0], [0.5, -1]),
        (np.array([[0.5, 0.1], [0.3, 0.1], [0, 0]]), [0.3, 0.2, 0]),  # (N, C)
        (np.array([[0.5, 0.3, 0], [0.1, 0.1, 0]]), [0.3, 0.2, 0]),  # (C, N)
        (np.array([[0.5, 0.1], [0.3, 0.1]]), [0.3, 0.2]),  # either: read as (N, C)
        (np.array([[0.5]]), [0.5]),
        (np.array([0.25]), [0.25]),
        (np.zeros(3), [0, 0, 0]),
    ],
)
def test_arrays(array: object, expected: list[float]) -> None:
    np.testing.assert_allclose(load((array, 16_000)).samples, expected, atol=1e-6)


@settings(max_examples=25)
@given(
    count=st.integers(200, 60_000),
    hz=st.sampled_from([8_000, 16_000, 22_050, 44_100, 48_000]),
    block=st.floats(0.001, 3),
    seed=st.integers(0, 99),
)
def test_joined_blocks_equal_load(count: int, hz: int, block: float, seed: int) -> None:
    samples = np.random.default_rng(seed).uniform(-1, 1, count).astype(np.float32)
    whole = load((samples, hz)).samples
    blocks = list(stream((samples, hz), block_seconds=block))
    assert np.array_equal(np.concatenate([clip.samples for clip in blocks]), whole)
    assert {len(clip.samples) for clip in blocks[:-1]} <= {round(block * 16_000)}
    np.testing.assert_allclose(whole, soxr.resample(samples, hz, 16_000) if hz != 16_000 else samples, atol=1e-6)


def test_joined_blocks_of_every_container_equal_load(recordings: dict[str, bytes]) -> None:
    for name, data in recordings.items():
        joined = np.concatenate([clip.samples for clip in stream(data, block_seconds=0.7)])
        assert np.array_equal(joined, load(data).samples), name


def test_headers_of_recorders_that_never_came_back(recordings: dict[str, bytes]) -> None:
    for size in (0, 0x7FFFFFFF, 0xFFFFFFFF):  # what recorders leave that write to a pipe
        data = bytearray(recordings["wav pcm_16"])
        data[40:44] = size.to_bytes(4, "little")
        assert load(bytes(data)).seconds == pytest.approx(3, abs=0.01)


def test_other_target_rates() -> None:
    clip = load((tone(16_000, 1)[:, 0], 16_000), rate=24_000)
    assert (clip.rate, len(clip.samples)) == (24_000, 24_000)
    with pytest.raises(AudioError, match="rate"):
        load(clip, rate=100)
    with pytest.raises(AudioError, match="blocks"):
        next(stream(clip, block_seconds=0))


def test_limits_are_met_before_all_is_decoded(recordings: dict[str, bytes]) -> None:
    for name, data in recordings.items():
        with pytest.raises(AudioLimitError, match="limit of 2 s"):
            load(data, AudioLimits(seconds=2))
        with pytest.raises(AudioLimitError, match="MB"):
            load(data, AudioLimits(bytes=1_000))
        assert load(data, AudioLimits(seconds=3.2)).seconds < 3.2, name


def test_limits_hold_where_the_header_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream of aac declares nothing: the seconds are counted, and decoding ends there."""
    counted = []
    plain = AudioLimits.check_seconds
    monkeypatch.setattr(AudioLimits, "check_seconds", lambda *given: (counted.append(given[1]), plain(*given))[1])
    samples = tone(16_000, 30)
    data = by_av_in_memory(samples)
    with pytest.raises(AudioLimitError):
        load(data, AudioLimits(seconds=5))
    assert 5 < max(counted) < 6


def by_av_in_memory(samples: np.ndarray) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return by_av(Path(folder) / "a.aac", "adts", "aac", samples, 16_000)


def test_limits_of_arrays_pipes_and_clips() -> None:
    silence = np.zeros(32_000, np.float32)
    for source in ((silence, 16_000), Clip(silence, 16_000)):
        with pytest.raises(AudioLimitError, match="limit of 1 s"):
            load(source, AudioLimits(seconds=1))
        with pytest.raises(AudioLimitError, match="MB"):
            load(source, AudioLimits(bytes=1_000))
    endless = Unseekable(b"")
    endless.read = lambda size=-1: bytes(size)  # type: ignore[method-assign]
    with pytest.raises(AudioLimitError, match="MB"):
        load(endless, AudioLimits(bytes=5_000_000))  # type: ignore[arg-type]


def test_stream_holds_one_block(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", 16_000, 1, "PCM_16") as file:
        for _ in range(20):
            file.write(np.zeros(16_000 * 30, np.float32))
    tracemalloc.start()
    seconds = sum(clip.seconds for clip in stream(path, block_seconds=5))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds == 600
    assert peak < 4e6
