"""Which frames a frame may attend to, as data: offline, full history, limited history and small look-ahead.

A policy cuts time into blocks of `chunk` frames (one frame when `chunk` is None). A frame sees its whole
block, `left` frames before the block and `right` frames after it; None means all of them. Li 2022, "Recent
advances in end-to-end automatic speech recognition" (attention mask is all you need); Chen et al. 2021,
"Developing real-time streaming transformer transducer for speech recognition on large-scale dataset".

Look-ahead is by chunk: in a stack of layers `right = R` looks R frames further with every layer (12 layers:
12 R frames of delay), while the end of a chunk is the same frame in every layer. So `look_ahead` sets
`chunk`, not `right`. History grows with depth too, but costs no delay.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from speechllm.errors import DataError


@dataclass(frozen=True)
class AttentionPolicy:
    """Frames that a frame may see, in encoder output frames."""

    left: int | None = None  # frames before the block; None: all
    right: int | None = None  # frames after the block; None: all, 0: none
    chunk: int | None = None  # frames a block holds; None: one

    def __post_init__(self) -> None:
        for name, least in (("left", 0), ("right", 0), ("chunk", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise DataError(f"attention policy: {name} must be None or at least {least}, got {value}")

    @property
    def block(self) -> int:
        """Frames a block holds."""
        return self.chunk or 1

    @property
    def sees_everything(self) -> bool:
        """Whether every frame sees every other one, so that no mask is needed."""
        return self.left is None and self.right is None

    def mask(self, length: int, device: torch.device | str | None = None) -> torch.Tensor:
        """(length, length) bool; row t, column s is True where frame t may attend to frame s."""
        frame = torch.arange(length, device=device)
        start = (frame // self.block * self.block)[:, None]
        seen = torch.ones(length, length, dtype=torch.bool, device=device)
        if self.left is not None:
            seen &= frame[None, :] >= start - self.left
        if self.right is not None:
            seen &= frame[None, :] < start + self.block + self.right
        return seen

    def horizon(self, frame: int, layers: int = 1) -> int | None:
        """Last input frame on which output `frame` of that many layers depends; None: the input's end."""
        if self.right is None:
            return None
        for _ in range(layers):
            frame = (frame // self.block + 1) * self.block - 1 + self.right
        return frame


OFFLINE = AttentionPolicy()
FULL_HISTORY = AttentionPolicy(right=0)


def limited_history(left: int) -> AttentionPolicy:
    """A frame sees itself and `left` frames before it: bounded memory per layer, no delay."""
    return AttentionPolicy(left=left, right=0)


def look_ahead(chunk: int, left: int | None = None) -> AttentionPolicy:
    """A frame sees its whole chunk and `left` frames before it; the mean delay is (chunk - 1) / 2 frames."""
    return AttentionPolicy(left=left, right=0, chunk=chunk)
