"""Linear layers whose weights are kept in 8 bits, for decoding on a processor.

A step that writes one token reads every weight once, so its time is the memory's: 8 bits a weight are read four times
faster than fp32. Weights have a scale for each output row; inputs get theirs when they come (dynamic quantisation;
Jacob et al. 2018, §2: the sums are exact integers).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

BLOCK = 1 << 15  # rows packed at once: a large head is never there in fp32 as a whole


def is_available() -> bool:
    """Whether this build of torch has the kernels."""
    return torch.backends.quantized.engine != "none" and hasattr(torch, "quantize_per_channel")


class Int8Rows(nn.Module):
    """A product with fixed weights (O, I) and bias (O,) or None, in 8 bits: (…, I) float -> (…, O) fp32."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        biases = [None] * (-(-len(weight) // BLOCK)) if bias is None else bias.detach().float().split(BLOCK)
        rows = weight.detach().split(BLOCK)
        self.packed = [_packed(part.float(), offset) for part, offset in zip(rows, biases, strict=True)]

    def forward(self, x: Tensor) -> Tensor:
        # 7 bits for the input: with 8, processors without VNNI instructions overflow.
        x = x.float()
        parts = [torch.ops.quantized.linear_dynamic(x, packed, True) for packed in self.packed]
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


def _packed(weight: Tensor, bias: Tensor | None) -> Any:
    scales = weight.abs().amax(1).clamp(min=1e-12).double() / 127
    with warnings.catch_warnings():
        # torch is to move these kernels elsewhere; `is_available` then says no, and layers stay as they are.
        warnings.filterwarnings("ignore", message=".*quantize_per_channel")
        whole = torch.quantize_per_channel(weight, scales, torch.zeros(len(weight), dtype=torch.long), 0, torch.qint8)
    return torch.ops.quantized.linear_prepack(whole, bias)


def pack_linear(module: nn.Module, keep: Sequence[nn.Module] = ()) -> None:
    """Replace every linear layer below `module` by `Int8Rows`, but for those in `keep`."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and not any(child is one for one in keep):
                setattr(parent, name, Int8Rows(child.weight, child.bias))
