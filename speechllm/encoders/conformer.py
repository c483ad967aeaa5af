"""Conformer encoder under any attention policy: Gulati et al. 2020, "Conformer".

A block is a half-step feed-forward, self-attention, a convolution module, a half-step feed-forward, a norm.
- Relative positions are rotary (Su et al. 2021; in a Conformer: Li, Xu and Zhang 2021): the score of two
  frames depends on their distance alone, needs no T x T bias, and keeps PyTorch's fused attention on CPU.
- The depthwise convolution keeps to the policy with one set of weights: the kernel is centred, and taps that
  reach where the policy forbids read zero, that is beyond the block's end when look-ahead is limited, and
  beyond `left` before the block. Offline it is the ordinary convolution (Li et al. 2023, "Dynamic chunk
  convolution"). Thus one model, trained with policies drawn at random, runs under all of them.
- LayerNorm instead of BatchNorm in the convolution module: what one row says does not depend on the batch.

Frames past a row's length are zero wherever a module reads across time, so padding changes no row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechllm.encoders.masks import OFFLINE, AttentionPolicy
from speechllm.errors import DataError


@dataclass(frozen=True)
class ConformerConfig:
    """Sizes of a Conformer; the defaults with 512-wide Whisper features make 6.3 M parameters."""

    input_size: int  # F, width of the features
    size: int = 256  # D, width of the blocks
    layers: int = 4
    heads: int = 4
    kernel: int = 15  # taps of the depthwise convolution, odd
    feed_forward: int = 1024
    subsampling: int = 2  # input frames for one output frame
    front: str = "stack"  # "stack": features of another encoder; "strided": log-mel through strided convolutions
    dropout: float = 0.1
    input_rate: float = 50.0  # Hz of the features

    def __post_init__(self) -> None:
        if self.size % self.heads or self.size // self.heads % 2:
            raise DataError(f"conformer: size {self.size} must give each of {self.heads} heads an even width")
        if self.kernel % 2 == 0:
            raise DataError(f"conformer: kernel must be odd to have a centre, got {self.kernel}")
        if self.front not in ("stack", "strided"):
            raise DataError(f'conformer: front must be "stack" or "strided", got {self.front!r}')
        power_of_two = self.subsampling > 0 and self.subsampling & (self.subsampling - 1) == 0
        if self.subsampling < 1 or (self.front == "strided" and not power_of_two):
            raise DataError(f"conformer: front {self.front} cannot subsample by {self.subsampling}")


def valid_frames(lengths: Tensor, frames: int) -> Tensor:
    """(B, frames) bool, True at the frames that a row of `lengths` (B,) has."""
    return torch.arange(frames, device=lengths.device)[None, :] < lengths[:, None]


class Stack(nn.Module):
    """Joins `subsampling` = s neighbouring frames and projects them; output t reads inputs t*s to t*s+s-1."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self.subsampling = config.subsampling
        self.norm = nn.LayerNorm(config.input_size)  # hub encoders have a few features of huge scale
        self.project = nn.Linear(config.input_size * config.subsampling, config.size)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        batch, frames, width = features.shape
        hidden = self.norm(features) * valid_frames(lengths, frames)[..., None]
        hidden = F.pad(hidden, (0, 0, 0, -frames % self.subsampling))
        stacked = hidden.reshape(batch, -1, self.subsampling * width)
        return self.project(stacked), (lengths + self.subsampling - 1) // self.subsampling


class Strided(nn.Module):
    """Log-mel through convolutions of stride 2, three taps each, padded by one frame on the left only.

    Output t reads no input later than the last of its own s = `subsampling` frames, t*s+s-1.
    """

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        widths = [config.input_size] + [config.size] * max(1, round(math.log2(config.subsampling)))
        self.stride = 2 if config.subsampling > 1 else 1
        self.convolutions = nn.ModuleList(nn.Conv1d(narrow, wide, 3, self.stride) for narrow, wide in pairwise(widths))

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        hidden = features.transpose(1, 2)
        for convolution in self.convolutions:
            frames, stride = hidden.shape[-1], self.stride
            hidden = hidden * valid_frames(lengths, frames)[:, None, :]
            left = 1 if stride == 2 else 2
            hidden = F.silu(convolution(F.pad(hidden, (left, frames % stride))))
            lengths = (lengths + stride - 1) // stride
        return hidden.transpose(1, 2), lengths


class FeedForward(nn.Module):
    """Norm, widen, swish, narrow."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.size)
        self.widen = nn.Linear(config.size, config.feed_forward)
        self.narrow = nn.Linear(config.feed_forward, config.size)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = self.dropout(F.silu(self.widen(self.norm(hidden))))
        return self.dropout(self.narrow(hidden))


def rotary_angles(frames: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin, (frames, width / 2) float32 each, of the rotary position embedding."""
    speed = 10000.0 ** (-torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)
    angles = torch.arange(frames, device=device, dtype=torch.float32)[:, None] * speed[None, :]
    return angles.cos(), angles.sin()


def rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the two halves of each head, (B, H, T, W), by the angle of its frame; keeps the dtype."""
    first, second = heads.float().chunk(2, dim=-1)
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return turned.to(heads.dtype)


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self.heads, self.rate = config.heads, config.dropout
        self.norm = nn.LayerNorm(config.size)
        self.project = nn.Linear(config.size, 3 * config.size)
        self.merge = nn.Linear(config.size, config.size)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor, angles: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        batch, frames, size = hidden.shape
        projected = self.project(self.norm(hidden)).view(batch, frames, 3, self.heads, -1)
        query, key, value = projected.permute(2, 0, 3, 1, 4)
        query, key = rotate(query, *angles), rotate(key, *angles)
        rate = self.rate if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=rate)
        return self.dropout(self.merge(mixed.transpose(1, 2).reshape(batch, frames, size)))


class Convolution(nn.Module):
    """Pointwise GLU, depthwise convolution under the policy, norm, swish, pointwise (Gulati et al. §2.2)."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.size)
        self.gate = nn.Linear(config.size, 2 * config.size)
        self.depthwise = nn.Conv1d(config.size, config.size, config.kernel, groups=config.size)
        self.depthwise_norm = nn.LayerNorm(config.size)
        self.merge = nn.Linear(config.size, config.size)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor, valid: Tensor, policy: AttentionPolicy) -> Tensor:
        gated = F.glu(self.gate(self.norm(hidden)), dim=-1) * valid[..., None]
        mixed = depthwise(gated.transpose(1, 2), self.depthwise.weight, self.depthwise.bias, policy)
        return self.dropout(self.merge(F.silu(self.depthwise_norm(mixed.transpose(1, 2)))))


def depthwise(hidden: Tensor, weight: Tensor, bias: Tensor | None, policy: AttentionPolicy) -> Tensor:
    """Centred depthwise convolution of (B, D, T) whose taps read zero where the policy forbids; (B, D, T).

    `weight` (D, 1, K) with K odd. Frames before the block are read up to `policy.left`; frames after it only
    when `policy.right` is None, since a right context would grow with depth.
    """
    size, frames, half = hidden.shape[1], hidden.shape[-1], weight.shape[-1] // 2
    history = half if policy.left is None else min(half, policy.left)
    free = policy.right is None
    if policy.block == 1 or (free and history == half):
        future = half if free else 0
        taps = weight[..., half - history : half + 1 + future]
        return F.conv1d(F.pad(hidden, (history, future)), taps, bias, groups=size)
    future = half if free else 0
    padded = F.pad(hidden, (history, -frames % policy.block + future))
    blocks = padded.unfold(-1, history + policy.block + future, policy.block)  # (B, D, blocks, history + block)
    blocks = F.pad(blocks, (half - history, half - future))
    mixed = F.conv2d(blocks, weight.unsqueeze(2), bias, groups=size)
    return mixed.flatten(2)[..., :frames]


class Block(nn.Module):
    """One Conformer block."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self.before = FeedForward(config)
        self.attention = Attention(config)
        self.convolution = Convolution(config)
        self.after = FeedForward(config)
        self.norm = nn.LayerNorm(config.size)

    def forward(
        self,
        hidden: Tensor,
        angles: tuple[Tensor, Tensor],
        mask: Tensor | None,
        valid: Tensor,
        policy: AttentionPolicy,
    ) -> Tensor:
        hidden = hidden + 0.5 * self.before(hidden)
        hidden = hidden + self.attention(hidden, angles, mask)
        hidden = hidden + self.convolution(hidden, valid, policy)
        return self.norm(hidden + 0.5 * self.after(hidden))


class Conformer(nn.Module):
    """`(features (B, T, F) float, lengths (B,) int) -> (hidden (B, T', D), lengths (B,))`.

    T' = ceil(T / subsampling), and the lengths likewise.
    """

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self.config = config
        self.front = Stack(config) if config.front == "stack" else Strided(config)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))

    @property
    def frame_rate(self) -> float:
        """Output frames a second, Hz."""
        return self.config.input_rate / self.config.subsampling

    def forward(
        self, features: Tensor, lengths: Tensor, policy: AttentionPolicy = OFFLINE, style: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode; output frames past a row's length are zero.

        style: (layers, 2, B, 1, D), what each block's input is scaled by, beside 1, and shifted by.
        """
        assert features.ndim == 3 and features.shape[2] == self.config.input_size, tuple(features.shape)
        assert lengths.shape == features.shape[:1], (tuple(lengths.shape), tuple(features.shape))
        features = features.masked_fill(~valid_frames(lengths, features.shape[1])[..., None], 0.0)
        hidden, lengths = self.front(features, lengths)
        hidden = self.dropout(hidden)
        frames = hidden.shape[1]
        valid = valid_frames(lengths, frames)
        mask = attention_mask(valid, policy)
        angles = rotary_angles(frames, self.config.size // self.config.heads, hidden.device)
        for number, block in enumerate(self.blocks):
            if style is not None:
                hidden = hidden * (1 + style[number, 0]) + style[number, 1]
            hidden = block(hidden, angles, mask, valid, policy)
        return hidden * valid[..., None], lengths


def attention_mask(valid: Tensor, policy: AttentionPolicy) -> Tensor | None:
    """(B or 1, 1, T, T) bool, True where a frame may attend: the policy, less the padding; None: everywhere.

    Every frame sees itself, padding too: a row of the softmax without any key would be NaN.
    """
    frames = valid.shape[1]
    padded = not bool(valid.all())
    if policy.sees_everything and not padded:
        return None
    mask = policy.mask(frames, valid.device)[None, None]
    if padded:
        mask = mask & valid[:, None, None, :] | torch.eye(frames, dtype=torch.bool, device=valid.device)
    return mask
