"""What is no recording is refused in one line, with AudioError, at once; nothing else is ever opened."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_recordings import by_soundfile, tone

from speechllm.audio import AudioLimits, load
from speechllm.errors import AudioError


def refused(source: object, words: str, **options: object) -> None:
    """Assert that `source` raises AudioError within a second, in one line that holds `words`."""
    start = time.monotonic()
    with pytest.raises(AudioError) as caught:
        load(source, **options)  # type: ignore[arg-type]
    assert time.monotonic() - start < 1
    message = str(caught.value)
    assert words in message, message
    assert "\n" not in message, message


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("/nowhere/at all.wav", "no such file"),
        ("", "no such file"),
        ("a\0b.wav", "null byte"),
        ("x" * 5_000, "too long"),
        ("two\nlines.wav", "two?lines.wav: no such file"),
        ("https://example.org/a.wav", "download"),
        ("HTTP://example.org/a.wav", "download"),
        ("file:///etc/hostname", "download"),
        (Path("https://example.org/a.wav"), "download"),
        ("concat:a.wav|b.wav", "no such file"),
        (b"", "no bytes"),
        (b"R", "no sound"),
        (b"RIFF\x24\0\0\0WAVE", "no sound"),
        (b"hello, this is a letter\n" * 400, "no sound"),
        (io.StringIO("text"), "binary mode"),
        (None, "not audio"),
        (16_000, "not audio"),
        (np.zeros(10), "without its rate"),
        ((np.zeros(0), 16_000), "no samples"),
        ((np.zeros((0, 2)), 16_000), "no samples"),
        ((np.ones(1), 192_000), "no samples at 16000 Hz"),
        ((np.zeros((9, 9)), 16_000), "shape"),
        ((np.zeros((2, 3, 4)), 16_000), "shape"),
        ((np.float32(1), 16_000), "shape"),
        ((np.zeros(10), 4_000), "rate"),
        ((np.zeros(10), 384_000), "rate"),
        ((np.zeros(10), "fast"), "rate"),
        ((16_000, np.zeros((100, 2))), "rate"),
        ((np.zeros(10, np.int64), 16_000), "int64"),
        ((np.zeros(10, bool), 16_000), "bool"),
        ((np.zeros(10, complex), 16_000), "complex"),
        ((["a", "b"], 16_000), "samples"),
        (([[0.1], [0.1, 0.2]], 16_000), "array"),
        ((np.array([0.1, np.nan]), 16_000), "not finite"),
        ((np.array([0.1, -np.inf]), 16_000), "not finite"),
        ((np.array([1e300, 0]), 16_000), "not finite"),
        ((np.array([[np.inf, -np.inf], [0, 0], [0, 0]]), 16_000), "not finite"),
        ((np.array([12_000.0, 5]), 16_000), "full scale"),
    ],
)
def test_refused_in_one_line(source: object, words: str) -> None:
    refused(source, words)


def test_folders_pipes_devices_and_empty_files(tmp_path: Path) -> None:
    refused(tmp_path, "a folder")
    (tmp_path / "empty.wav").touch()
    refused(tmp_path / "empty.wav", "empty")
    (tmp_path / "readme.wav").write_text("This is a text file.\n" * 100)
    refused(tmp_path / "readme.wav", "no sound")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.wav")
        refused(tmp_path / "pipe.wav", "regular")
        refused("/dev/zero", "regular")
        with open("/dev/zero", "rb") as zeros:
            refused(zeros, "device")


def test_broken_file_objects() -> None:
    closed = io.BytesIO(b"abc")
    closed.close()
    refused(closed, "closed")

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError("the disk\nis on fire")

    refused(Failing(b"RIFF" * 100), "the disk?is on fire")

    class Texts(io.BytesIO):
        def read(self, size: int | None = -1) -> str:  # type: ignore[override]
            return "RIFF"

    refused(Texts(b"RIFF" * 100), "cannot be read")


def test_values_in_files_that_are_not_finite() -> None:
    samples = tone(16_000, 1)
    samples[9_000] = np.nan
    refused(by_soundfile("WAV", "FLOAT", samples, 16_000), "not finite")
    refused(by_soundfile("WAV", "FLOAT", tone(16_000, 1) * 30_000, 16_000), "full scale")


def test_odd_headers() -> None:
    data = bytearray(by_soundfile("WAV", "PCM_16", tone(16_000, 1), 16_000))
    for rate in (1, 4_000, 400_000, 0x7FFFFFFF):
        data[24:28] = struct.pack("<I", rate)
        refused(bytes(data), "rate")
    data[24:28] = struct.pack("<I", 16_000)
    data[22:24] = struct.pack("<H", 9)
    data[32:34] = struct.pack("<H", 18)
    refused(bytes(data), "channels")


def test_a_header_that_promises_hours_is_refused_at_once() -> None:
    data = bytearray(by_soundfile("FLAC", "PCM_16", tone(16_000, 1), 16_000))
    assert data[:4] == b"fLaC"
    data[22:26] = struct.pack(">I", 0xFFFFFFFF)  # the lower 32 bits of the number of samples: 74 hours
    refused(bytes(data), "limit of 3600 s")


def test_what_is_refused_is_not_called_damaged_too(
    recordings: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("flac pcm_16", "mp3 mpeg_layer_iii", "mp4 aac", "ogg opus", "webm libopus"):
        data = bytearray(recordings[name])
        data[200:] = np.random.default_rng(0).integers(0, 256, len(data) - 200, np.uint8).tobytes()
        try:
            load(bytes(data))
        except AudioError:
            assert not caplog.records, name
        caplog.clear()


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{file}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{file}'\n",
        "<?xml version='1.0'?><MPD><Period><AdaptationSet><BaseURL>{file}</BaseURL></AdaptationSet></Period>",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
        "[playlist]\nFile1={file}\nNumberOfEntries=1\n",
        "{file}\n",
    ],
)
def test_no_list_makes_another_file_open(text: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(by_soundfile("WAV", "PCM_16", tone(16_000, 3), 16_000))
    opened: list[str] = []
    watching = [True]

    def watch(event: str, arguments: tuple) -> None:
        if watching[0] and event in ("open", "socket.connect"):
            opened.append(str(arguments[0]))

    sys.addaudithook(watch)
    for name in ("list.m3u8", "list.txt", "list.wav"):
        path = tmp_path / name
        path.write_text(text.format(file=secret))
        refused(path, "no sound")
    watching[0] = False
    assert not [name for name in opened if "secret" in name]


FUZZED = settings(max_examples=150)
LIMITS = AudioLimits(bytes=10_000_000, seconds=60)


def clip_or_audio_error(data: bytes) -> None:
    with contextlib.suppress(AudioError):  # any other exception fails the test
        clip = load(data, LIMITS)
        assert len(clip.samples)
        assert np.isfinite(clip.samples).all()
        assert clip.seconds <= LIMITS.seconds


@FUZZED
@given(
    head=st.sampled_from(
        [
            b"",
            b"RIFF",
            b"fLaC",
            b"OggS",
            b"ID3",
            b"\xff\xfb",
            b"\0\0\0\x20ftypM4A ",
            b"\x1aE\xdf\xa3",
            b"FORM",
        ]
    ),
    rest=st.binary(max_size=600),
)
def test_random_bytes_give_a_clip_or_an_audio_error(head: bytes, rest: bytes) -> None:
    clip_or_audio_error(head + rest)


@pytest.mark.parametrize(
    "name",
    [
        "wav pcm_16",
        "flac pcm_16",
        "ogg opus",
        "ogg vorbis",
        "mp3 mpeg_layer_iii",
        "mp4 aac",
        "webm libopus",
        "aiff pcm_16",
    ],
)
def test_damaged_recordings_give_a_clip_or_an_audio_error(name: str, recordings: dict[str, bytes]) -> None:
    generator = np.random.default_rng(len(name))
    for _ in range(15):
        data = bytearray(recordings[name][: int(generator.integers(100, len(recordings[name])))])
        reach = len(data) if generator.random() < 0.5 else min(len(data), 300)  # half of the time only the headers
        for place in generator.integers(0, reach, size=int(generator.integers(1, 20))):
            data[place] = generator.integers(256)
        clip_or_audio_error(bytes(data))
