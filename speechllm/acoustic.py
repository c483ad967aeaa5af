"""How somebody sounds who says known words: the codec's latents from the first codebook, the letters and a voice.

A Conformer reads, at every frame, the embedding of the first codebook's code, where it is told, and the vector of the
letter said there (`text_encoder.py`). Frames of a voice prompt, whose latents are known, stand before those that are
wanted and tell who speaks and how (after the non-autoregressive model of Wang et al. 2023, "VALL-E", §4.2.2). VALL-E
predicts the other codebooks one by one. Residual codes are all but random where data is scarce, so here their sum is
predicted, all at once, and the codec's decoder learns along with it what a sum that is not sharp shall sound like.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from speechllm.encoders.conformer import Conformer, ConformerConfig
from speechllm.encoders.masks import OFFLINE, AttentionPolicy
from speechllm.text_encoder import TextEncoder


@dataclass(frozen=True)
class AcousticConfig:
    """Sizes of the model; the defaults make 11 M parameters."""

    codebook_size: int = 1024
    latents: int = 384  # width D of the codec's latents
    size: int = 256
    layers: int = 6
    heads: int = 4
    feed_forward: int = 1024
    kernel: int = 15
    dropout: float = 0.0
    text_width: int = 256  # inside the text encoder
    frame_rate: float = 50.0  # Hz

    def conformer(self) -> ConformerConfig:
        """That of the blocks."""
        return ConformerConfig(
            input_size=self.size, size=self.size, layers=self.layers, heads=self.heads, kernel=self.kernel,
            feed_forward=self.feed_forward, subsampling=1, dropout=self.dropout, input_rate=self.frame_rate,
        )  # fmt: skip


class Acoustic(nn.Module):
    """First codebook, letters and a voice to latents."""

    mean: Tensor  # (D,)
    deviation: Tensor

    def __init__(self, config: AcousticConfig) -> None:
        super().__init__()
        self.config = config
        self.codes = nn.Embedding(config.codebook_size + 1, config.size)  # the last row: not told
        self.text = TextEncoder(config.size, config.text_width)
        self.is_prompt = nn.Parameter(torch.zeros(config.size))
        self.known = nn.Linear(config.latents, config.size)
        self.speaker = nn.Linear(config.latents, config.size)
        self.conformer = Conformer(config.conformer())
        self.out = nn.Linear(config.size, config.latents)
        # Of the latents of recordings, set before training: what is predicted has mean 0 and deviation 1.
        self.register_buffer("mean", torch.zeros(config.latents))
        self.register_buffer("deviation", torch.ones(config.latents))

    def forward(
        self,
        codes: Tensor,
        said: Tensor,
        lengths: Tensor,
        latents: Tensor,
        prompts: Tensor,
        policy: AttentionPolicy = OFFLINE,
    ) -> Tensor:
        """Latents (B, T, D) of all frames; those of the prompts mean nothing.

        Args:
            codes: (B, T) int, of the first codebook; `codebook_size` where they are not told.
            said: (B, T, H) what `text` gives for the letters said there; 0 where they are not told.
            lengths: (B,) frames of each row.
            latents: (B, T, D), read in the first `prompts` (B,) frames of each row alone.
        """
        assert codes.ndim == 2 and latents.shape[:2] == codes.shape, (tuple(codes.shape), tuple(latents.shape))
        is_prompt = (torch.arange(codes.shape[1], device=codes.device) < prompts[:, None]).unsqueeze(-1)
        dtype = self.out.weight.dtype
        known = ((latents - self.mean) / self.deviation * is_prompt).to(dtype)
        voice = known.sum(1, keepdim=True) / prompts.clamp(min=1)[:, None, None].to(dtype)
        hidden = self.codes(codes) + said.to(dtype) + self.speaker(voice)
        hidden = hidden + (self.known(known) + self.is_prompt) * is_prompt
        frames, _ = self.conformer(hidden, lengths, policy)
        return self.out(frames).float() * self.deviation + self.mean

    @torch.inference_mode()
    def fill(self, codes: Tensor, said: Tensor, latents: Tensor) -> Tensor:
        """Latents (T, D) of speech (T,) after a voice of P frames.

        Args:
            codes: (P + T,); said: (P + T, H); latents: (P, D) of the voice.
        """
        before = len(latents)
        known = latents.new_zeros(len(codes), latents.shape[1])
        known[:before] = latents
        length, prompt = (torch.tensor([each], device=codes.device) for each in (len(codes), before))
        return self(codes[None], said[None], length, known[None], prompt)[0, before:]
