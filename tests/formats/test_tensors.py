"""Files of trained tensors: what comes back, how large they are, what is refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from speechllm.errors import WeightsError
from speechllm.formats import tensors

torch.manual_seed(0)
GIVEN = {
    "matrix": torch.randn(64, 100) * torch.logspace(-6, 3, 64)[:, None],
    "convolution": torch.randn(32, 4, 7),
    "bias": torch.randn(40),
    "ids": torch.arange(5),
    "zeros": torch.zeros(3, 8),
    "layer.scale": torch.randn(6),
}


def test_sixteen_bits_round_to_half(tmp_path: Path) -> None:
    tensors.save(GIVEN, tmp_path / "a.safetensors")
    found = tensors.load(tmp_path / "a.safetensors")
    assert {name: each.dtype for name, each in found.items()} == {
        name: torch.long if name == "ids" else torch.half for name in GIVEN
    }
    assert all(torch.equal(found[name], each.half() if each.is_floating_point() else each)
               for name, each in GIVEN.items())  # fmt: skip


def test_eight_bits_are_within_half_a_step_of_each_row(tmp_path: Path) -> None:
    tensors.save(GIVEN, tmp_path / "a.safetensors", bits=8)
    found = tensors.load(tmp_path / "a.safetensors")
    assert found.keys() == GIVEN.keys()
    for name in ("matrix", "convolution", "zeros"):
        largest = GIVEN[name].flatten(1).abs().amax(1)
        off = (found[name] - GIVEN[name]).flatten(1).abs().amax(1)
        assert (off <= largest / 254 * 1.001).all()
    assert torch.equal(found["bias"], GIVEN["bias"].half())
    assert torch.equal(found["layer.scale"], GIVEN["layer.scale"].half())
    assert load_file(tmp_path / "a.safetensors")["matrix"].dtype == torch.int8


def test_what_was_in_eight_bits_is_written_again_as_it_was(tmp_path: Path) -> None:
    tensors.save(GIVEN, tmp_path / "a.safetensors", bits=8)
    tensors.save(tensors.load(tmp_path / "a.safetensors"), tmp_path / "b.safetensors", bits=8)
    one, two = load_file(tmp_path / "a.safetensors"), load_file(tmp_path / "b.safetensors")
    assert all(torch.equal(one[name], two[name]) for name in one if one[name].dtype == torch.int8)


@pytest.mark.parametrize("scale", [torch.ones(3), torch.ones(64, 1), torch.ones(64, dtype=torch.int8)])
def test_scales_of_another_shape_are_refused(tmp_path: Path, scale: torch.Tensor) -> None:
    save_file({"a": torch.ones(64, 2, dtype=torch.int8), "a.scale": scale}, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match="scales of a"):
        tensors.load(tmp_path / "a.safetensors")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"no tensors")
    with pytest.raises(WeightsError, match="damaged"):
        tensors.load(tmp_path / "a.safetensors")
