"""Whisper's audio encoder at a clip's true length (Radford et al. 2022, §2.2), with the padding of a batch masked.

The released model always reads 30 seconds. A five-second clip at its own length costs ten to fifteen times
less; what changes is only where the input ends, which the reader learns by a short tuning (`recipes/pocket.yaml`).
Parameter names are those of the Hugging Face checkpoint, so its tensors load as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class WhisperConfig:
    """Sizes of a Whisper model; the defaults are those of `whisper-base`."""

    mels: int = 80  # log-mel channels
    size: int = 512  # width of the hidden states
    heads: int = 8
    encoder_layers: int = 6
    decoder_layers: int = 6
    feed_forward: int = 2048
    vocabulary: int = 51865
    encoder_positions: int = 1500  # frames at 50 Hz: 30 seconds
    decoder_positions: int = 448  # tokens

    @classmethod
    def from_hub(cls, config: dict) -> WhisperConfig:
        """Read the sizes out of a Hugging Face `config.json`."""
        return cls(
            mels=config["num_mel_bins"],
            size=config["d_model"],
            heads=config["encoder_attention_heads"],
            encoder_layers=config["encoder_layers"],
            decoder_layers=config["decoder_layers"],
            feed_forward=config["encoder_ffn_dim"],
            vocabulary=config["vocab_size"],
            encoder_positions=config["max_source_positions"],
            decoder_positions=config["max_target_positions"],
        )


class Attention(nn.Module):
    """Multi-head attention with Whisper's layout: no bias on the keys."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(size, size)
        self.k_proj = nn.Linear(size, size, bias=False)
        self.v_proj = nn.Linear(size, size)
        self.out_proj = nn.Linear(size, size)

    def split(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, heads, T, D / heads)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Project what is attended to: two tensors (B, heads, T, D / heads)."""
        return self.split(self.k_proj(x)), self.split(self.v_proj(x))

    def attend(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, causal: bool = False) -> Tensor:
        """Attend from x (B, T, D); `mask` broadcasts to (B, heads, T, keys), True where attention is allowed."""
        query = self.split(self.q_proj(x))
        mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, is_causal=causal)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class EncoderLayer(nn.Module):
    """Pre-norm self-attention and feed-forward."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config.size, config.heads)
        self.self_attn_layer_norm = nn.LayerNorm(config.size)
        self.fc1 = nn.Linear(config.size, config.feed_forward)
        self.fc2 = nn.Linear(config.feed_forward, config.size)
        self.final_layer_norm = nn.LayerNorm(config.size)

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        normed = self.self_attn_layer_norm(hidden)
        hidden = hidden + self.self_attn.attend(normed, *self.self_attn.keys_values(normed), mask)
        return hidden + self.fc2(F.gelu(self.fc1(self.final_layer_norm(hidden))))


class WhisperEncoder(nn.Module):
    """Log-mel at 100 Hz to hidden states at 50 Hz.

    Limits: offline only (each frame sees the whole clip); at most `encoder_positions` frames, 30 seconds.
    """

    frame_rate = 50.0  # Hz

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.config = config
        self.conv1 = nn.Conv1d(config.mels, config.size, 3, padding=1)
        self.conv2 = nn.Conv1d(config.size, config.size, 3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(config.encoder_positions, config.size)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.layer_norm = nn.LayerNorm(config.size)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a padded batch.

        Args:
            features: (B, T, mels) float log-mel at 100 Hz, zero or anything beyond each length.
            lengths: (B,) int, frames at 100 Hz.
        Returns:
            hidden (B, T', D) at 50 Hz, zero beyond each length, and lengths (B,) with T' = ceil(T / 2).
        """
        assert features.ndim == 3 and features.shape[2] == self.config.mels, features.shape
        assert lengths.shape == features.shape[:1], (lengths.shape, features.shape)
        kept = _within(lengths, features.shape[1])
        # The convolutions must see zeros after a row's end, as they do when that row stands alone.
        x = (features.to(self.conv1.weight.dtype) * kept.unsqueeze(2)).transpose(1, 2)
        x = F.gelu(self.conv1(x)) * kept.unsqueeze(1)
        x = F.gelu(self.conv2(x)).transpose(1, 2)
        lengths = (lengths + 1) // 2
        if x.shape[1] > self.config.encoder_positions:
            raise ValueError(f"{x.shape[1]} frames are more than the {self.config.encoder_positions} Whisper can place")
        hidden = x + self.embed_positions.weight[: x.shape[1]]
        kept = _within(lengths, x.shape[1])
        mask = None if bool(kept.all()) else kept[:, None, None, :]
        for layer in self.layers:
            hidden = layer(hidden, mask)
        return self.layer_norm(hidden) * kept.unsqueeze(2), lengths


def _within(lengths: Tensor, size: int) -> Tensor:
    """(B, size) bool: True on the positions inside each row's length."""
    return torch.arange(size, device=lengths.device) < lengths.unsqueeze(1)
