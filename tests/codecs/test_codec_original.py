"""The original encodec package behind the contract, by a stand-in with the package's own calls."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from speechllm import codecs
from speechllm.audio.clip import Clip
from speechllm.errors import DataError, WeightsError


class EncodecModel(nn.Module):
    """What `encodec.EncodecModel` shows of itself in release 0.1.1, over a codec of sign and loudness."""

    target_bandwidths = (1.5, 3.0, 6, 12.0, 24.0)
    sample_rate, channels, frame_rate, normalize, segment, bandwidth = 24_000, 1, 75, False, None, None
    quantizer = types.SimpleNamespace(bins=1024, n_q=32)
    asked: Any = None

    @staticmethod
    def encodec_model_24khz(pretrained: bool = True, repository: Path | None = None) -> EncodecModel:
        if repository is not None and not repository.is_dir():
            raise ValueError(f"{repository} must exist and be a directory.")
        assert pretrained
        return EncodecModel().eval()

    def set_target_bandwidth(self, bandwidth: float) -> None:
        if bandwidth not in self.target_bandwidths:
            raise ValueError(f"This model doesn't support the bandwidth {bandwidth}. Select one of ...")
        self.bandwidth = bandwidth

    def encode(self, x: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        assert x.ndim == 3 and self.bandwidth is not None
        frames = nn.functional.pad(x, (0, -x.shape[-1] % 320)).view(1, -1, 320)
        codes = (frames.abs().mean(-1) * 1000).long()
        return [(codes[:, None].expand(-1, int(self.bandwidth * 1000 / 750), -1), None)]

    def decode(self, encoded_frames: list[tuple[Tensor, Tensor | None]]) -> Tensor:
        [(codes, scale)] = encoded_frames
        assert codes.ndim == 3 and scale is None
        return (codes.float().mean(1, keepdim=True) / 1000).repeat_interleave(320, dim=-1)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Any:
    module: Any = types.ModuleType("encodec")
    module.EncodecModel = EncodecModel
    monkeypatch.setitem(sys.modules, "encodec", module)
    return module


@pytest.mark.parametrize(("bandwidth", "codebooks"), [(1.5, 2), (3.0, 4), (6.0, 8), (12.0, 16), (24.0, 32), (None, 32)])
def test_it_keeps_the_contract(package, bandwidth, codebooks):
    codec = codecs.load("encodec", "cpu", bandwidth=bandwidth)
    assert (codec.name, codec.sample_rate, codec.frame_rate, codec.codebook_size) == ("encodec", 24000, 75.0, 1024)
    clip = Clip(np.linspace(-1, 1, 1601, dtype=np.float32), 24_000)
    codes = codec.encode(clip)
    assert codes.shape == (codec.codebooks, 6) == (codebooks, 6)
    assert codes.dtype == torch.int64
    assert len(codec.decode(codes[:1]).samples) == 6 * 320
    streamed = np.concatenate([piece.samples for piece in codec.stream(codes.split(2, dim=1))])
    assert np.array_equal(streamed, codec.decode(codes).samples)


def test_what_is_refused(package, tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"bandwidth 7 is not one of this codec's: 1.5, 3, 6, 12, 24 kbit/s"):
        codecs.load("encodec", bandwidth=7)
    with pytest.raises(WeightsError, match="weights cannot be had: .*must exist"):
        codecs.load("encodec", repository=tmp_path / "nowhere")
    monkeypatch.setattr(EncodecModel, "channels", 2)
    with pytest.raises(WeightsError, match="stereo"):
        codecs.load("encodec")


def test_without_the_package_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "encodec", None)
    with pytest.raises(
        WeightsError, match=r"pip install encodec torchaudio .*CC BY-NC.*facebook/encodec_24khz"
    ) as caught:
        codecs.load("encodec")
    assert "\n" not in str(caught.value)


def test_a_torchaudio_of_another_torch_is_told(monkeypatch, tmp_path):
    (tmp_path / "encodec.py").write_text("raise OSError('libtorchaudio.so: undefined symbol')\n")
    monkeypatch.delitem(sys.modules, "encodec", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WeightsError, match="undefined symbol.*pip install"):
        codecs.load("encodec")
