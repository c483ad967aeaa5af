"""Codes in a file: safetensors with one tensor `codes` (K, T) and metadata that says what they are codes of.

    files.save(Codes.of(codec, codec.encode(clip), samples), "talk.safetensors")

A file is data from anywhere: its size, header, shapes, numbers and metadata are checked before they are used, and
nothing in it is executed or fetched.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from speechllm.codecs.base import Codec, check_codes
from speechllm.errors import DataError

FORMAT = "speechllm codes 1"
MOST_BYTES = 1 << 26  # 64 MB; an hour of 32 codebooks at 75 Hz takes 17
MOST_SECONDS = 3600  # as for recordings
MOST_CODEBOOKS, MOST_SIZE = 128, 1 << 20
NAMES = ("codec", "sample_rate", "frame_rate", "codebooks", "codebook_size", "samples")  # of the metadata


@dataclass(frozen=True, eq=False)
class Codes:
    """Codes of one recording and what decodes them; raises DataError unless all of it fits together."""

    values: Tensor  # (K, T) int64
    codec: str  # name that `codecs.load` knows
    sample_rate: int  # Hz
    frame_rate: float  # Hz
    codebook_size: int
    samples: int  # of the recording at `sample_rate`; the last frame may hold more

    @classmethod
    def of(cls, codec: Codec, values: Tensor, samples: int | None = None) -> Codes:
        """Codes (K', T) of a codec; samples: of the recording at the codec's rate, None for all of the frames."""
        samples = values.shape[-1] * codec.hop_length if samples is None else samples
        return cls(values, codec.name, codec.sample_rate, codec.frame_rate, codec.codebook_size, samples)

    def __post_init__(self) -> None:
        if not 1 <= len(self.codec) <= 200 or not self.codec.isprintable():
            raise DataError("the codec's name is not 1 to 200 printable letters")
        _within("sample_rate", self.sample_rate, 8_000, 192_000)
        _within("frame_rate", self.frame_rate, 1, 1_000)
        _within("codebook_size", self.codebook_size, 2, MOST_SIZE)
        check_codes(self.values, MOST_CODEBOOKS, self.codebook_size)
        frames, hop_length = self.values.shape[1], self.sample_rate / self.frame_rate
        if not (frames - 1) * hop_length < self.samples <= frames * hop_length + 0.5:
            raise DataError(f"{self.samples} samples do not make the {frames} frames of {hop_length:g} that are there")
        if self.seconds > MOST_SECONDS:
            raise DataError(f"there are {self.seconds:.0f} seconds of codes, more than an hour")
        object.__setattr__(self, "values", self.values.to(torch.long))

    @property
    def codebooks(self) -> int:
        """K."""
        return len(self.values)

    @property
    def seconds(self) -> float:
        """Duration of the recording in seconds."""
        return self.samples / self.sample_rate

    def check(self, codec: Codec) -> None:
        """Raise DataError unless `codec` decodes these: same rates and codebook size, at least as many codebooks."""
        pairs = {
            "sample_rate": (self.sample_rate, codec.sample_rate),
            "frame_rate": (self.frame_rate, codec.frame_rate),
            "codebook_size": (self.codebook_size, codec.codebook_size),
        }
        for name, (own, other) in pairs.items():
            if abs(own - other) > 1e-6 * other:
                raise DataError(f"these codes have {name} {own:g}, the codec {codec.name} has {other:g}")
        if self.codebooks > codec.codebooks:
            raise DataError(f"these codes have {self.codebooks} codebooks, the codec {codec.name} {codec.codebooks}")


def save(codes: Codes, path: str | Path) -> None:
    """Write codes as the smallest integers that hold them; the file appears whole or not at all."""
    from safetensors.torch import save as to_bytes

    small = codes.codebook_size <= torch.iinfo(torch.int16).max + 1
    values = codes.values.to("cpu", torch.int16 if small else torch.int32).contiguous()
    metadata = {name: str(getattr(codes, name)) for name in NAMES}
    data = to_bytes({"codes": values}, {"format": FORMAT, **metadata})
    path = Path(path)
    unfinished = path.with_name(f".{path.name[:80]}.unfinished")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error


def load(path: str | Path) -> Codes:
    """Read a file of codes; DataError in one line, with its name, for anything that is not one."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    try:
        if not path.is_file():
            raise DataError("there is no such file")
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"is larger than the {MOST_BYTES >> 20} MB that codes may take")
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise DataError("holds no codes: `speechllm codec encode` writes such files")
            if list(file.keys()) != ["codes"]:
                raise DataError("holds other tensors than `codes`")
            return _read(file.get_tensor("codes"), metadata)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except (OSError, ValueError, RuntimeError, OverflowError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{path}: cannot be read as safetensors ({reason})") from error


def _read(values: Tensor, metadata: dict[str, str]) -> Codes:
    numbers: dict[str, float] = {}
    for name in NAMES:
        text = metadata.get(name)
        if text is None:
            raise DataError(f"its metadata lacks {name!r}")
        if name != "codec":
            numbers[name] = _number(name, text)
    codes = Codes(
        values,
        metadata["codec"],
        int(numbers["sample_rate"]),
        numbers["frame_rate"],
        int(numbers["codebook_size"]),
        int(numbers["samples"]),
    )
    if codes.codebooks != numbers["codebooks"]:
        raise DataError(f"its metadata says {numbers['codebooks']:g} codebooks, the tensor has {codes.codebooks}")
    return codes


def _number(name: str, text: str) -> float:
    """A number of the metadata, whole unless it is the frame rate; an int where it is whole."""
    if name == "frame_rate":
        try:
            return float(text) if len(text) <= 32 else float("nan")
        except ValueError:
            return float("nan")  # outside of every bound
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise DataError(f"its {name} is no whole number: {text[:20]!r}")
    return int(text)


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise DataError(f"{name} {value:g} is not from {low:g} to {high:g}")
