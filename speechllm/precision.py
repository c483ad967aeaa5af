"""Which number format this processor multiplies fastest, found by trying it."""

from __future__ import annotations

import functools
import time

import torch


@functools.cache
def fast_dtype(device: str = "cpu") -> torch.dtype:
    """bfloat16 where a small product runs faster in it than in float32, else float32.

    Processors without bf16 instructions emulate them about a hundred times slower, and no flag of the
    operating system tells reliably, so a 256 x 512 x 512 product is timed: about ten milliseconds.
    """
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if device != "cpu":
        return torch.float32
    best = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    for _ in range(12):  # by turns, and the best of each: other work on the machine comes and goes
        for dtype in best:
            best[dtype] = min(best[dtype], _seconds(dtype))
        if best[torch.bfloat16] > 5 * best[torch.float32]:
            break
    return torch.bfloat16 if best[torch.bfloat16] < 0.8 * best[torch.float32] else torch.float32


def _seconds(dtype: torch.dtype) -> float:
    left, right = torch.ones(256, 512, dtype=dtype), torch.ones(512, 512, dtype=dtype)
    begin = time.perf_counter()
    torch.mm(left, right)
    return time.perf_counter() - begin
