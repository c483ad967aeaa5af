"""How long a recording says it is, before it is decoded: for a line of progress, and never relied on.

A header may be wrong or lack the length; what is read counts.
"""

from __future__ import annotations

import io
import os
from typing import Any, cast

import numpy as np

from speechllm.audio import containers
from speechllm.audio.clip import Clip
from speechllm.audio.containers import AudioLimits
from speechllm.errors import AudioError

_MOST = 1e7  # seconds; beyond it, the header does not know


def declared_seconds(source: Any, limits: AudioLimits | None = None) -> float | None:
    """Seconds as the recording declares them, or None; of a file object None, as it is being read from."""
    limits = limits or AudioLimits()
    try:
        if isinstance(source, Clip):
            return source.seconds
        if isinstance(source, (tuple, list)):
            return max(np.shape(source[0])) / source[1]
        if isinstance(source, (bytes, bytearray, memoryview)):
            return _of_header(io.BytesIO(source))
        if isinstance(source, (str, os.PathLike)):
            with containers.opened_path(source, limits) as view:
                return _of_header(view)
    except (AudioError, OSError, ValueError, TypeError, IndexError, ZeroDivisionError):
        return None  # whoever reads the recording says what is wrong with it
    return None


def _of_header(view: Any) -> float | None:
    """Of libsndfile's formats and FFmpeg's, as they are told apart when decoding."""
    import av
    import soundfile
    from av.error import FFmpegError

    head = view.read(3)
    view.seek(0)
    seconds = 0.0
    try:
        if head in (b"ID3", b"caf") or (head[:1] == b"\xff" and head[1:2] >= b"\xe0"):
            return None  # mp3 and aac: a guess from the first packets
        with soundfile.SoundFile(cast(Any, view)) as sound:
            seconds = sound.frames / sound.samplerate
    except (soundfile.LibsndfileError, TypeError):
        view.seek(0)
        options = {"format_whitelist": containers._FORMATS, "protocol_whitelist": "none"}
        try:
            with av.open(view, "r", options=options, io_open=containers._refuse) as container:
                known = container.duration if container.format.name not in containers._ESTIMATED else None
                seconds = (known or 0) / av.time_base
        except (FFmpegError, ValueError, OSError):
            return None
    return seconds if 0 < seconds < _MOST else None
