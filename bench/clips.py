"""Recordings that benchmarks cut, join or make: real clips of the shared sets, silences, noises."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from speechllm.audio.clip import Clip
from speechllm.audio.decode import load
from speechllm.data import corpora
from speechllm.data.corpora import Example

RATE = 16_000  # Hz


def read(audio: Path | str) -> Clip:
    """A recording at 16 kHz."""
    return load(str(audio), rate=RATE)


def spoken(name: str, limit: int | None = None, lang: str | None = None) -> list[Example]:
    """Evaluation clips of a shared set that have a text, the first `limit` of them."""
    return [example for example in corpora.speech(name, "eval", lang) if example.text][:limit]


def joined(clips: Sequence[Clip], gap_seconds: float = 0.0) -> Clip:
    """Clips one after another, with silence between them."""
    gap = np.zeros(round(gap_seconds * RATE), np.float32)
    parts: list[np.ndarray] = []
    for clip in clips:
        parts += [gap, clip.samples] if parts else [clip.samples]
    return Clip(np.concatenate(parts), RATE)


def of_length(examples: Sequence[Example], seconds: float, count: int) -> list[Clip]:
    """`count` clips of exactly so many seconds: neighbours of a set joined until long enough, then cut.

    Sets are sorted by speaker, so that joined clips are mostly of one voice.
    """
    made: list[Clip] = []
    coming = iter(examples)
    while len(made) < count:
        parts: list[Clip] = []
        while sum(part.seconds for part in parts) < seconds:
            example = next(coming, None)
            if example is None:
                raise ValueError(f"the set is too small for {count} clips of {seconds} seconds")
            parts.append(read(example.audio))
        made.append(joined(parts).cut(0.0, seconds))
    return made


def noise(seconds: float, decibels: float, seed: int = 0) -> Clip:
    """White noise of that level below full scale (RMS, dB); minus infinity is digital silence."""
    level = 10.0 ** (decibels / 20.0)
    samples = np.random.default_rng(seed).standard_normal(round(seconds * RATE)) * level
    return Clip(samples.astype(np.float32), RATE)
