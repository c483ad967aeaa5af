"""Makers of recordings for the tests of sound: tones, written by soundfile and PyAV."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import soundfile

BY_SOUNDFILE = (
    *(
        "wav pcm_u8",
        "wav pcm_16",
        "wav pcm_24",
        "wav float",
        "wav double",
        "wav ulaw",
        "w64 pcm_16",
        "rf64 pcm_16",
    ),
    *(
        "flac pcm_16",
        "ogg vorbis",
        "ogg opus",
        "mp3 mpeg_layer_iii",
        "aiff pcm_16",
        "caf alac_16",
        "au pcm_16",
    ),
)
BY_AV = (
    *("ipod aac", "mp4 aac", "mp4 alac", "adts aac", "webm libopus", "matroska libopus", "ogg flac"),
    *("mov pcm_s16le", "avi pcm_s16le"),
)
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


def tone(hz: int, seconds: float, pitch: float = 440.0, channels: int = 1) -> np.ndarray:
    """A sine of amplitude 0.3, (N, C) float32."""
    wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(round(hz * seconds)) / hz)
    return np.stack([wave] * channels, axis=1).astype(np.float32)


def by_soundfile(container: str, subtype: str, samples: np.ndarray, hz: int) -> bytes:
    """The samples (N, C) written by libsndfile."""
    file = io.BytesIO()
    soundfile.write(file, samples, hz, format=container, subtype=subtype)
    return file.getvalue()


def by_av(path: Path, container: str, codec: str, samples: np.ndarray, hz: int, **options: str) -> bytes:
    """The samples (N, C) written by FFmpeg into `path`."""
    layout = LAYOUTS[samples.shape[1]]
    with av.open(str(path), "w", format=container, options=options) as file:
        stream = file.add_stream(codec, rate=hz, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = hz, 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)
    return path.read_bytes()


def main_pitch(samples: np.ndarray, hz: int) -> float:
    """The frequency in Hz with the most power."""
    return float(np.abs(np.fft.rfft(samples)).argmax() * hz / len(samples))
