"""Files of trained tensors: safetensors in fp16, or with matrices in 8 bits a row.

In 8 bits a tensor of two or more dimensions is kept as int8 with one fp32 scale for each index of its first
dimension, under its name and `NAME.scale`. The largest number of a row is 127 steps, so that each is off by 1/254 of it
at most. What has fewer dimensions stays fp16.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from speechllm.errors import WeightsError

SCALE = ".scale"
STEPS = 127


def save(tensors: Mapping[str, Tensor], path: Path, bits: int = 16) -> None:
    """Write tensors by name, floats in 16 or 8 bits, whole numbers as they are."""
    from safetensors.torch import save_file

    kept: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu()
        if not tensor.is_floating_point():
            kept[name] = tensor.contiguous()
        elif bits == 8 and tensor.ndim >= 2:
            kept[name], kept[name + SCALE] = _packed(tensor.float())
        else:
            kept[name] = tensor.half().contiguous()
    save_file(kept, path)


def load(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of `save` by name, those in 8 bits as fp32. Raises WeightsError for one that is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        kept = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        said = " ".join(str(error).split())
        raise WeightsError(f"{path} is damaged or no file of safetensors: {said}") from error
    scales = {name: kept.pop(name) for name in list(kept) if name.endswith(SCALE) and _is_packed(kept, name)}
    return {name: _unpacked(name, tensor, scales.get(name + SCALE), path) for name, tensor in kept.items()}


def _is_packed(kept: Mapping[str, Tensor], scale: str) -> bool:
    owner = kept.get(scale.removesuffix(SCALE))
    return owner is not None and owner.dtype == torch.int8


def _packed(tensor: Tensor) -> tuple[Tensor, Tensor]:
    scale = tensor.flatten(1).abs().amax(1) / STEPS
    shape = (-1, *[1] * (tensor.ndim - 1))
    return (tensor / scale.clamp(min=1e-30).view(shape)).round().to(torch.int8).contiguous(), scale


def _unpacked(name: str, tensor: Tensor, scale: Tensor | None, path: Path) -> Tensor:
    if scale is None:
        return tensor
    if scale.shape != tensor.shape[:1] or not scale.is_floating_point():
        raise WeightsError(f"{path}: the scales of {name} are not one for each of its {len(tensor)} rows")
    return tensor.float() * scale.float().view(-1, *[1] * (tensor.ndim - 1))
