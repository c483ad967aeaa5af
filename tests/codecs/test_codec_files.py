"""Codes in files: what goes in comes out, and a hostile file gives one line that names it."""

from __future__ import annotations

import contextlib
import json
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from speechllm.codecs import files
from speechllm.codecs.files import Codes
from speechllm.errors import DataError

METADATA = {
    "format": files.FORMAT,
    "codec": "facebook/encodec_24khz",
    "sample_rate": "24000",
    "frame_rate": "75.0",
    "codebooks": "2",
    "codebook_size": "1024",
    "samples": "3100",
}


def some(frames: int = 10, size: int = 1024, **changed: Any) -> Codes:
    values = torch.randint(size, (2, frames), generator=torch.Generator().manual_seed(0))
    values[0, 0] = size - 1
    fields = {"values": values, "codec": "facebook/encodec_24khz", "sample_rate": 24000, "frame_rate": 75.0}
    return Codes(**{**fields, "codebook_size": size, "samples": frames * 320 - 100, **changed})


@pytest.mark.parametrize("size", [2, 1024, 32768, 32769])
def test_what_goes_in_comes_out(tmp_path, size):
    codes = some(size=size)
    files.save(codes, tmp_path / "a.safetensors")
    again = files.load(tmp_path / "a.safetensors")
    assert again.values.equal(codes.values) and again.values.dtype == torch.int64
    assert again.codebooks == 2 and again.seconds == codes.seconds
    for name in files.NAMES:
        assert getattr(again, name) == getattr(codes, name)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.metadata()["codec"] == "facebook/encodec_24khz"
        assert file.get_tensor("codes").dtype == (torch.int16 if size <= 32768 else torch.int32)


def test_rates_that_are_no_whole_numbers(tmp_path):
    codes = some(sample_rate=44100, frame_rate=44100 / 512, samples=10 * 512)
    files.save(codes, tmp_path / "a")
    assert files.load(tmp_path / "a").frame_rate == 44100 / 512


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        files.load(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and len(message) < 200 + len(str(path))
    return message


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": "other"}, "holds no codes"),
        ({"codec": ""}, "codec's name"),
        ({"codec": "x" * 10_000}, "codec's name"),
        ({"codec": "a\nb"}, "codec's name"),
        ({"sample_rate": "0"}, "sample_rate 0"),
        ({"sample_rate": "24000.5"}, "sample_rate is no whole number"),
        ({"sample_rate": "9" * 5000}, "sample_rate is no whole number"),
        ({"sample_rate": "٢٤٠٠٠"}, "sample_rate is no whole number"),
        ({"frame_rate": "nan"}, "frame_rate nan"),
        ({"frame_rate": "inf"}, "frame_rate inf"),
        ({"frame_rate": "-75"}, "frame_rate -75"),
        ({"frame_rate": "fast"}, "frame_rate nan"),
        ({"frame_rate": "50"}, "do not make the 10 frames"),
        ({"codebooks": "3"}, "says 3 codebooks, the tensor has 2"),
        ({"codebook_size": "4"}, "outside the codebook"),
        ({"codebook_size": "999999999"}, "codebook_size"),
        ({"samples": "999999"}, "do not make the 10 frames"),
        ({"samples": "-1"}, "samples is no whole number"),
        ({"samples": "2880"}, "do not make"),
    ],
)
def test_metadata_that_is_refused(tmp_path, change, says):
    codes = torch.full((2, 10), 5, dtype=torch.int16)
    save_file({"codes": codes}, tmp_path / "a.safetensors", METADATA)
    assert files.load(tmp_path / "a.safetensors").values.equal(codes.long())
    save_file({"codes": codes}, tmp_path / "a.safetensors", {**METADATA, **change})
    assert says in refused(tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", files.NAMES)
def test_metadata_that_is_missing(tmp_path, name):
    metadata = {key: value for key, value in METADATA.items() if key != name}
    save_file({"codes": torch.zeros(2, 10, dtype=torch.int16)}, tmp_path / "a", metadata)
    assert f"lacks '{name}'" in refused(tmp_path / "a")


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"codes": torch.zeros(2, 10)}, "float32"),
        ({"codes": torch.zeros(2, 10, dtype=torch.bool)}, "bool"),
        ({"codes": torch.full((2, 10), -1)}, "code -1"),
        ({"codes": torch.full((2, 10), 2**62)}, "outside the codebook"),
        ({"codes": torch.zeros(20, dtype=torch.int16)}, "(20,)"),
        ({"codes": torch.zeros(2, 0, dtype=torch.int16)}, "do not make the 0 frames"),
        ({"codes": torch.zeros(200, 10, dtype=torch.int16)}, "(200, 10)"),
        ({"other": torch.zeros(2, 10, dtype=torch.int16)}, "other tensors"),
        ({"codes": torch.zeros(2, 10, dtype=torch.int16), "more": torch.zeros(1)}, "other tensors"),
    ],
)
def test_tensors_that_are_refused(tmp_path, tensors, says):
    save_file(tensors, tmp_path / "a", METADATA)
    assert says in refused(tmp_path / "a")


class Boom:
    """Pickles to a call that would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_files_of_other_kinds(tmp_path):
    header = json.dumps({"codes": {"dtype": "I16", "shape": [2, 10**12], "data_offsets": [0, 40]}}).encode()
    hostile = {
        "empty": b"",
        "short": b"\x01",
        "noise": bytes(range(256)) * 4,
        "huge header": struct.pack("<Q", 2**62) + b"{}",
        "no json": struct.pack("<Q", 4) + b"}{}{",
        "shape that lies": struct.pack("<Q", len(header)) + header + bytes(40),
        "pickle": pickle.dumps(Boom(tmp_path / "executed")),
        "zip": b"PK\x03\x04" + bytes(100),
    }
    for name, data in hostile.items():
        (tmp_path / name).write_bytes(data)
        assert "cannot be read as safetensors" in refused(tmp_path / name)
    assert not (tmp_path / "executed").exists()
    assert "no such file" in refused(tmp_path)
    assert "no such file" in refused(tmp_path / "nowhere")


def test_a_file_that_is_too_large(tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(files.MOST_BYTES + 1)  # sparse
    assert "larger than the 64 MB" in refused(tmp_path / "large")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 600), byte=st.integers(0, 255), cut=st.integers(0, 600))
def test_a_changed_byte_or_a_cut_is_read_or_refused(tmp_path, place, byte, cut):
    files.save(some(), tmp_path / "a")
    data = bytearray((tmp_path / "a").read_bytes())
    data[place % len(data)] = byte
    (tmp_path / "b").write_bytes(data[: len(data) - cut] if cut % 2 else data)
    with contextlib.suppress(DataError):
        assert files.load(tmp_path / "b").values.max() < 1 << 20


def test_more_than_an_hour_is_refused():
    values = torch.zeros(1, 3601, dtype=torch.int16)
    assert Codes(values[:, :-1], "pocket", 8000, 1.0, 2, 3600 * 8000).seconds == 3600
    with pytest.raises(DataError, match="3601 seconds of codes, more than an hour"):
        Codes(values, "pocket", 8000, 1.0, 2, 3601 * 8000)


def test_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(DataError, match="cannot be written"):
        files.save(some(), tmp_path / "nowhere" / "a")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="cannot be written"):
        files.save(some(), tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
