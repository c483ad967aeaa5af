"""Which number format this processor multiplies fastest, found by trying it."""

from __future__ import annotations

import functools
import time

import torch


@functools.cache
def fast_dtype(device: str = "cpu") -> torch.dtype:
    """bfloat16 where a small product runs faster in it than in float32, else float32.

    Processors without bf16 instructions emulate them about a hundred times slower, and no flag of the
    operating system tells reliably, so a 256 x 512 x 512 product is timed: about two milliseconds.
    """
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if device != "cpu":
        return torch.float32
    return torch.bfloat16 if _seconds(torch.bfloat16) < 0.8 * _seconds(torch.float32) else torch.float32


def _seconds(dtype: torch.dtype) -> float:
    """Best of a few timings, and never many of a slow one."""
    left, right = torch.ones(256, 512, dtype=dtype), torch.ones(512, 512, dtype=dtype)
    best, started = float("inf"), time.perf_counter()
    for _ in range(6):
        begin = time.perf_counter()
        torch.mm(left, right)
        best = min(best, time.perf_counter() - begin)
        if time.perf_counter() - started > 0.1:
            break
    return best
