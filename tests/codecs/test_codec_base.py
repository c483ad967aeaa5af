"""The codec contract, by a codec of one's own in a few lines: shapes, lengths, streams and what is refused."""

from __future__ import annotations

import subprocess
import sys
import types
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from speechllm import codecs
from speechllm.audio.clip import Clip
from speechllm.codecs.base import Codec, Window, trimmed
from speechllm.errors import DataError, WeightsError


class Loudness(Codec):
    """One code a frame of 100 samples: its loudness; sound smoothed over one frame before and two after."""

    name, sample_rate, frame_rate, codebooks, codebook_size, is_causal = "loudness", 8000, 80.0, 2, 256, False
    context = (1, 2)

    def _encode(self, samples: Tensor) -> Tensor:
        frames = torch.nn.functional.pad(samples, (0, -len(samples) % 100)).view(-1, 100)
        return (frames.abs().mean(1) * 255).round().long().clamp(0, 255).expand(2, -1)

    def _decode(self, codes: Tensor) -> Tensor:
        kernel = torch.tensor([[[0.5, 1.0, 0.25, 0.125]]])
        padded = torch.nn.functional.pad(codes.float().sum(0)[None, None], (1, 2))
        return torch.nn.functional.conv1d(padded, kernel)[0, 0].repeat_interleave(100) / 1000


def test_a_codec_of_ones_own_streams_by_its_context():
    codec = Loudness()
    assert codec.hop_length == 100
    codes = codec.encode(Clip(np.linspace(0, 1, 1001, dtype=np.float32), 8000))
    assert codes.shape == (2, 11)
    whole = codec.decode(codes)
    assert len(trimmed(whole, 1001).samples) == 1001
    pieces = list(codec.stream(codes.split(1, dim=1)))
    assert [len(piece.samples) for piece in pieces] == [100] * 9 + [200]  # two frames of look-ahead
    assert np.array_equal(np.concatenate([piece.samples for piece in pieces]), whole.samples)


def test_without_a_known_context_a_stream_is_one_piece():
    codec = Loudness()
    codec.context = None
    codes = torch.arange(20).expand(2, -1)
    pieces = list(codec.stream(codes.split(3, dim=1)))
    assert len(pieces) == 1
    assert np.array_equal(pieces[0].samples, codec.decode(codes).samples)


def test_a_window_keeps_only_what_it_needs():
    codec = Loudness()
    runs: list[int] = []

    def run(codes: Tensor) -> Tensor:
        runs.append(codes.shape[1])
        return codec._decode(codes)

    window = Window(run, 1, 2, scale=100)
    for chunk in torch.zeros(2, 1000, dtype=torch.long).split(5, dim=1):
        window(chunk, False)
    assert max(runs) == 5 + 1 + 2


def test_an_empty_stream_gives_nothing():
    codec = Loudness()
    assert not list(codec.stream([]))
    assert not list(codec.stream([torch.zeros(2, 0, dtype=torch.long)]))


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.full((1, 3), 256), "code 256 is outside the codebook: codes are 0 to 255"),
        (torch.tensor([[0, -1]]), "code -1 is outside"),
        (torch.zeros(1, 3), "whole numbers.*not float32"),
        (torch.zeros(1, 3, dtype=torch.bool), "not bool"),
        (torch.zeros(1, 3, dtype=torch.uint16), "not uint16"),
        (torch.zeros(3, dtype=torch.long), r"not \(3,\)"),
        (torch.zeros(1, 1, 3, dtype=torch.long), r"not \(1, 1, 3\)"),
        (torch.zeros(3, 3, dtype=torch.long), r"1 to 2 codebooks, frames\), not \(3, 3\)"),
        (torch.zeros(0, 3, dtype=torch.long), r"not \(0, 3\)"),
        (torch.zeros(2, 0, dtype=torch.long), "0 frames"),
        ([[1, 2]], "not list"),
        (np.zeros((1, 3), np.int64), "not ndarray"),
    ],
)
def test_codes_that_are_refused(codes, message):
    with pytest.raises(DataError, match=message) as caught:
        Loudness().decode(codes)
    assert "\n" not in str(caught.value)
    if not (isinstance(codes, Tensor) and codes.shape[-1] == 0):
        with pytest.raises(DataError, match=message):
            list(Loudness().stream([codes]))


def test_chunks_that_differ_are_refused():
    chunks = [torch.zeros(2, 3, dtype=torch.long), torch.zeros(1, 3, dtype=torch.long)]
    with pytest.raises(DataError, match="2 codebooks, then 1"):
        list(Loudness().stream(chunks))


def test_small_integers_are_codes_too():
    codes = torch.arange(6).view(1, 6)
    expected = Loudness().decode(codes).samples
    for dtype in (torch.int16, torch.int32, torch.uint8):
        assert np.array_equal(Loudness().decode(codes.to(dtype)).samples, expected)


def test_pocket_is_loaded_from_its_module(monkeypatch, tmp_path):
    asked: list[Any] = []
    stand_in: Any = types.ModuleType("speechllm.codecs.pocket")
    stand_in.load = lambda *given, **options: asked.append((given, options)) or Loudness()
    monkeypatch.setitem(sys.modules, "speechllm.codecs.pocket", stand_in)
    monkeypatch.setattr(codecs, "pocket", stand_in, raising=False)
    (tmp_path / "config.json").write_text(f'{{"model_type": "{codecs.POCKET_TYPE}"}}')
    assert codecs.load("pocket", "cpu", codebooks=2).name == "loudness"
    codecs.load(tmp_path)
    assert asked == [(("pocket", "cpu"), {"codebooks": 2}), ((tmp_path, None), {})]


def test_a_file_is_no_codec(tmp_path):
    (tmp_path / "codec.bin").write_bytes(b"x")
    with pytest.raises(WeightsError):
        codecs.load(tmp_path / "codec.bin")


def test_the_package_is_light():
    seen = "import sys, speechllm.codecs, speechllm.codecs.commands; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
