"""Any recording to a mono clip: a path, bytes, a binary file, an array with its rate, or a clip.

`load` gives all of it, `stream` the same samples block by block in bounded memory. Both decode by content,
mix channels down to their mean, resample through one continuous soxr filter, and stop at the limits while
they decode: what a header declares is checked first, and not believed after that.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import soxr

from speechllm.audio.clip import Clip, check_rate
from speechllm.audio.containers import (
    MOST_CHANNELS,
    AudioLimits,
    decoded,
    opened_file,
    opened_path,
    scaled,
    shown,
)
from speechllm.errors import AudioError

__all__ = ["AudioLimits", "Source", "load", "stream"]

Source: TypeAlias = "str | os.PathLike[str] | bytes | BinaryIO | tuple[Any, int] | Clip"
_LIMITS = AudioLimits()
_LOUDEST = 16.0  # times full scale; beyond it, floats were never divided by their integer range
_ARRAY_PIECE = 1 << 18  # samples of an array that are copied at a time


def load(source: Source, limits: AudioLimits = _LIMITS, rate: int = 16_000) -> Clip:
    """The whole recording as a mono clip at `rate` Hz, at least one sample long.

    Arrays are (N,), (N, C) or (C, N) of float (full scale [-1, 1]), int16, int32 or uint8. The shorter axis,
    at most 8 long, counts the channels; where both are equal it is (N, C).
    Raises AudioError when it cannot be read, is empty or holds values that are not finite; AudioLimitError
    when it is larger or longer than `limits`.
    """
    parts = list(_resampled(source, limits, rate))
    return Clip(parts[0] if len(parts) == 1 else np.concatenate(parts), rate)


def stream(
    source: Source, limits: AudioLimits = _LIMITS, rate: int = 16_000, block_seconds: float = 30.0
) -> Iterator[Clip]:
    """The recording as consecutive clips of `block_seconds`, the last one shorter; joined, they are `load`'s.

    Memory stays at about one block. Raises as `load` does, a limit when the decoding reaches it.
    """
    size = round(block_seconds * check_rate(rate, "the new rate"))
    if size < 1:
        raise AudioError(f"blocks of {block_seconds} s are too short")
    return _reblocked(_resampled(source, limits, rate), size, rate)


def _reblocked(pieces: Iterable[np.ndarray], size: int, rate: int) -> Iterator[Clip]:
    held: list[np.ndarray] = []
    count = 0
    for piece in pieces:
        held.append(piece)
        count += len(piece)
        while count >= size:
            joined = np.concatenate(held)
            yield Clip(joined[:size].copy(), rate)
            held, count = [joined[size:]], count - size
    if count:
        yield Clip(np.concatenate(held), rate)


def _resampled(source: Source, limits: AudioLimits, rate: int) -> Iterator[np.ndarray]:
    """Non-empty pieces (n,) float32 at `rate`, at least one of them."""
    check_rate(rate, "the new rate")
    filters: soxr.ResampleStream | None = None
    empty = True
    for samples, source_rate in _mono(source, limits):
        if source_rate != rate:
            filters = filters or soxr.ResampleStream(source_rate, rate, 1, dtype="float32")
            samples = filters.resample_chunk(samples)
        if len(samples):
            empty = False
            yield samples
    if filters is not None:
        samples = filters.resample_chunk(np.zeros(0, np.float32), last=True)
        if len(samples):
            empty = False
            yield samples
    if empty:
        raise AudioError(f"{_name(source)}: holds no samples at {rate} Hz")


def _mono(source: Source, limits: AudioLimits) -> Iterator[tuple[np.ndarray, int]]:
    """Pieces (n,) float32 and their one rate in Hz: finite, mixed down, counted against the limit."""
    name = _name(source)
    first_rate, count = 0, 0
    for samples, rate in _pieces(source, limits, name):
        first_rate = first_rate or rate
        if rate != first_rate:
            raise AudioError(f"{name}: its rate changes from {first_rate} to {rate} Hz; convert it to one rate")
        count += len(samples)
        limits.check_seconds(count / rate, name)
        loudest = float(np.abs(samples).max(initial=0.0))
        if not np.isfinite(loudest):
            raise AudioError(f"{name}: holds samples that are not finite (NaN or infinite)")
        if loudest > _LOUDEST:
            raise AudioError(f"{name}: float samples reach {loudest:.6g}, full scale is 1; divide by the integer range")
        mono = samples.mean(axis=1, dtype=np.float32) if samples.shape[1] > 1 else samples[:, 0]
        yield np.ascontiguousarray(mono), rate


def _pieces(source: Source, limits: AudioLimits, name: str) -> Iterator[tuple[np.ndarray, int]]:
    """Pieces `(samples (n, C) float32, rate)` of whatever was given."""
    if isinstance(source, Clip):
        yield from _array_pieces(source.samples, source.rate, limits, name)
    elif isinstance(source, (str, os.PathLike)):
        with opened_path(source, limits) as view:
            yield from decoded(view, limits, name)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        limits.check_bytes(memoryview(source).nbytes, name)
        with opened_file(io.BytesIO(source), limits, name) as view:
            yield from decoded(view, limits, name)
    elif isinstance(source, (tuple, list)) and len(source) == 2:
        yield from _array_pieces(source[0], source[1], limits, name)
    elif callable(getattr(source, "read", None)):
        with opened_file(source, limits, name) as view:
            yield from decoded(view, limits, name)
    elif isinstance(source, np.ndarray):
        raise AudioError("the array came without its rate; give (array, rate in Hz)")
    else:
        raise AudioError(f"{name}: not audio; give a path, bytes, a binary file, (array, rate in Hz) or a Clip")


def _array_pieces(array: Any, rate: Any, limits: AudioLimits, name: str) -> Iterator[tuple[np.ndarray, int]]:
    rate = check_rate(rate, name)
    try:
        samples = np.asarray(array)
    except Exception as error:  # whatever a foreign array type raises on conversion
        raise AudioError(f"{name}: cannot become an array: {shown(error)}") from None
    kind = f"{samples.dtype.kind}{samples.dtype.itemsize}"
    if kind[0] != "f" and kind not in ("i2", "i4", "u1"):
        raise AudioError(f"{name}: {samples.dtype} samples; give float in [-1, 1], int16, int32 or uint8")
    limits.check_bytes(samples.nbytes, name)
    samples = _as_columns(samples, name)
    limits.check_seconds(len(samples) / rate, name)
    for start in range(0, len(samples), _ARRAY_PIECE):
        yield scaled(samples[start : start + _ARRAY_PIECE]), rate


def _as_columns(samples: np.ndarray, name: str) -> np.ndarray:
    """The array as (N, C): see `load` for the rule."""
    if samples.ndim == 1:
        return samples[:, None]
    if samples.ndim != 2 or not 1 <= min(samples.shape) <= MOST_CHANNELS:
        if samples.size == 0:
            raise AudioError(f"{name}: holds no samples")
        raise AudioError(
            f"{name}: shape {samples.shape}; give (N,), (N, C) or (C, N) with 1 to {MOST_CHANNELS} channels"
        )
    return samples.T if samples.shape[0] < samples.shape[1] else samples


def _name(source: object) -> str:
    """How messages call the source."""
    if isinstance(source, (str, os.PathLike)):
        return shown(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "the audio bytes"
    if isinstance(source, (tuple, list)):
        return "the audio array"
    if isinstance(source, Clip):
        return "the clip"
    named = getattr(source, "name", None)
    return shown(named) if isinstance(named, str) else f"the {type(source).__name__}"
