"""Write a clip of generated speech to a file that says so: WAV, FLAC, Ogg or MP3, by the name of the file.

    save(clip, "answer.flac", "Good morning.")
    tag("answer.flac")              # "generated speech (speechllm 0.1.0)"

The tag is a comment in the file's metadata: anyone can read it, and anyone can strip it. What stays in the sound itself
is the mark of `speechllm.audio.mark`.
"""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path

import numpy as np
import soundfile

from speechllm import __version__
from speechllm.audio.clip import Clip
from speechllm.audio.containers import shown
from speechllm.errors import AudioError

COMMENT = f"generated speech (speechllm {__version__})"
FORMATS = {  # suffix: libsndfile's names of container and encoding
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
_TITLE_LETTERS = 200
_RATES = {  # Hz that an encoder takes; others are resampled to the next one above
    ".opus": (8_000, 12_000, 16_000, 24_000, 48_000),
    ".mp3": (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
}
_PIECE = 1 << 16  # samples written at a time: the Vorbis encoder overflows its stack on very long ones


class Sound(Clip):
    """Generated speech: a clip that knows how it is written to a file and played."""

    def save(self, path: str | Path, text: str = "") -> Path:
        """Write it to a file and give the path; see `save` of this module."""
        return save(self, path, text)

    def _repr_html_(self) -> str:
        """A player, in a notebook."""
        held = io.BytesIO()
        soundfile.write(held, np.clip(self.samples, -1.0, 1.0), self.rate, format="WAV", subtype="PCM_16")
        return f'<audio controls src="data:audio/wav;base64,{base64.b64encode(held.getvalue()).decode()}"></audio>'


def save(clip: Clip, path: str | Path, text: str = "") -> Path:
    """Write a clip, tagged as generated, and give the path; `text`, what is said, becomes the title.

    The file appears whole or not at all. Samples beyond full scale are cut off. MP3 and Opus hold some rates only: the
    next higher one is used. Raises AudioError for a suffix that is none of `FORMATS`, an empty clip, a folder that is
    not there and a file that cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise AudioError(f"{shown(path)}: the name ends in none of {', '.join(FORMATS)}")
    if not len(clip.samples):
        raise AudioError(f"{shown(path)}: there are no samples to write")
    if not path.parent.is_dir():
        raise AudioError(f"{shown(path)}: there is no folder {shown(path.parent)}")
    rates = _RATES.get(suffix, (clip.rate,))
    clip = clip.resampled(next((rate for rate in rates if rate >= clip.rate), rates[-1]))
    unfinished = path.with_name(f".{path.name[:40]}.{os.getpid()}.partial")
    try:
        _write(clip, unfinished, suffix, text)
        os.replace(unfinished, path)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:120]
        raise AudioError(f"{shown(path)}: cannot be written ({reason})") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def tag(path: str | Path) -> str | None:
    """The comment in a file's metadata, None if there is none or its format has none that is understood.

    Raises AudioError for a file that cannot be read at all.
    """
    try:
        with open(path, "rb") as file, soundfile.SoundFile(file) as sound:
            return " ".join(sound.comment.split()) or None
    except OSError as error:
        raise AudioError(f"{shown(path)}: cannot be read ({error.strerror or error})") from error
    except (RuntimeError, ValueError, TypeError):  # formats that libsndfile does not know: `decode` may
        return None


def _write(clip: Clip, path: Path, suffix: str, text: str) -> None:
    container, encoding = FORMATS[suffix]
    with open(path, "wb") as raw, soundfile.SoundFile(raw, "w", clip.rate, 1, encoding, format=container) as sound:
        sound.comment = COMMENT
        title = " ".join(text.split())[:_TITLE_LETTERS]
        if title:
            sound.title = title
        for start in range(0, len(clip.samples), _PIECE):
            sound.write(clip.samples[start : start + _PIECE].clip(-1.0, 1.0))
