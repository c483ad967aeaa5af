"""How somebody sounds who says known words: the codec's latents from the first codebook, the letters and a voice.

A Conformer reads, at every frame, the embedding of the first codebook's code, where it is told, and the vector of the
letter said there (`text_encoder.py`), with how far that letter has got. Frames of a voice prompt, whose latents are
known, stand before those that are wanted and tell who speaks and how (after the non-autoregressive model of Wang et
al. 2023, "VALL-E", §4.2.2); besides, their mean and deviation scale and shift every block's input (Perez et al. 2018,
"FiLM"), for a timbre is the same in all frames. VALL-E predicts the other codebooks one by one. Residual codes are all
but random where data is scarce, so here their sum is predicted, all at once, and the codec's decoder learns along with
it what a sum that is not sharp shall sound like.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechllm.encoders.conformer import Conformer, ConformerConfig
from speechllm.encoders.masks import OFFLINE, AttentionPolicy
from speechllm.pitch import PitchPredictor
from speechllm.text_encoder import TextEncoder

WIDER = 0.3  # part of the way to a voice's own spread: more is more like it, and understood worse (docs/speaking.md)
PROGRESS = 3  # numbers that tell how far a letter has got


@dataclass(frozen=True)
class AcousticConfig:
    """Sizes of the model; the defaults make 13 M parameters."""

    codebook_size: int = 1024
    latents: int = 384  # width D of the codec's latents
    size: int = 256
    layers: int = 6
    heads: int = 4
    feed_forward: int = 1024
    kernel: int = 15
    dropout: float = 0.0
    text_width: int = 256  # inside the text encoder
    text_layers: int = 5  # of its convolutions: reading a word takes more of its letters than timing it
    frame_rate: float = 50.0  # Hz

    def conformer(self) -> ConformerConfig:
        """That of the blocks."""
        return ConformerConfig(
            input_size=self.size, size=self.size, layers=self.layers, heads=self.heads, kernel=self.kernel,
            feed_forward=self.feed_forward, subsampling=1, dropout=self.dropout, input_rate=self.frame_rate,
        )  # fmt: skip


@dataclass(frozen=True)
class Adaptation:
    """A linear transform of latents, for one voice; all (D,)."""

    wider: Tensor
    mean: Tensor  # of what is predicted
    target: Tensor  # where it goes

    def __call__(self, latents: Tensor) -> Tensor:
        """Latents (T, D), moved."""
        return (latents - self.mean) * self.wider + self.target


class Timbre(nn.Module):
    """What a voice's frames have in common, as a style of the Conformer's blocks."""

    def __init__(self, config: AcousticConfig) -> None:
        super().__init__()
        self.layers, self.size = config.layers, config.size
        self.frame = nn.Linear(config.latents, config.size)
        self.pooled = nn.Linear(2 * config.size, config.size)
        self.style = nn.Linear(config.size, config.layers * 2 * config.size)
        nn.init.zeros_(self.style.weight)
        nn.init.zeros_(self.style.bias)

    def forward(self, known: Tensor, is_prompt: Tensor) -> Tensor:
        """Style (layers, 2, B, 1, H) of standardised latents (B, T, D) where `is_prompt` (B, T, 1)."""
        frames = F.gelu(self.frame(known)).float() * is_prompt
        count = is_prompt.sum(1).clamp(min=1)
        mean = frames.sum(1) / count
        variance = ((frames - mean[:, None]).square() * is_prompt).sum(1) / count
        pooled = torch.cat([mean, (variance + 1e-5).sqrt()], 1).to(known.dtype)
        style = self.style(F.gelu(self.pooled(pooled)))
        return style.unflatten(1, (self.layers, 2, 1, self.size)).permute(1, 2, 0, 3, 4)


def progress(places: Tensor) -> Tensor:
    """How far each frame's letter has got (B, T, 3): the part of it before the frame, after it, and its length, log.

    places: (B, T) which letter a frame says.
    """
    frames = places.shape[1]
    at = torch.arange(frames, device=places.device)
    is_new = F.pad(places[:, 1:] != places[:, :-1], (1, 0), value=True)
    start = torch.where(is_new, at, 0).cummax(1).values
    is_last = F.pad(is_new[:, 1:], (0, 1), value=True)
    end = torch.where(is_last, at, frames).flip(1).cummin(1).values.flip(1) + 1
    length = (end - start).float()
    before = (at - start + 0.5) / length
    return torch.stack([before, 1 - before, length.log()], -1)


class Acoustic(nn.Module):
    """First codebook, letters and a voice to latents."""

    mean: Tensor  # (D,)
    deviation: Tensor

    def __init__(self, config: AcousticConfig) -> None:
        super().__init__()
        self.config = config
        self.codes = nn.Embedding(config.codebook_size + 1, config.size)  # the last row: not told
        self.text = TextEncoder(config.size, config.text_width, config.text_layers)
        self.is_prompt = nn.Parameter(torch.zeros(config.size))
        self.known = nn.Linear(config.latents, config.size)
        self.speaker = nn.Linear(config.latents, config.size)
        self.progress = nn.Linear(PROGRESS, config.size)
        self.timbre = Timbre(config)
        self.pitch = PitchPredictor(config.size)
        self.sung = nn.Linear(2, config.size)
        self.conformer = Conformer(config.conformer())
        self.out = nn.Linear(config.size, config.latents)
        # Of the latents of recordings, set before training: what is predicted has mean 0 and deviation 1.
        self.register_buffer("mean", torch.zeros(config.latents))
        self.register_buffer("deviation", torch.ones(config.latents))

    def sing(self, letters: Tensor, pitch: Tensor) -> Tensor:
        """Vectors (B, L, H) of `text` that tell besides how high each letter is said.

        pitch: (B, L, 2), of each letter the share of voiced frames and their height (`pitch.py`).
        """
        share, height = pitch[..., 0].clamp(min=0), pitch[..., 1]
        return letters + self.sung(torch.stack([share, share * height], -1).to(self.sung.weight.dtype))

    def spread(self, letters: Tensor, places: Tensor) -> Tensor:
        """What is said at each frame (B, T, H).

        Args:
            letters: (B, L, H) vectors of `sing`.
            places: (B, T) which of them a frame says; -1: not told.
        """
        at = places.unsqueeze(-1)
        said = letters.gather(1, at.clamp(min=0).expand(-1, -1, letters.shape[2]))
        return (said + self.progress(progress(places).to(self.progress.weight.dtype))) * (at >= 0)

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
            said: (B, T, H) what `spread` gives for the letters said there; 0 where they are not told.
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
        frames, _ = self.conformer(hidden, lengths, policy, self.timbre(known, is_prompt))
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

    @torch.inference_mode()
    def adapted(self, codes: Tensor, said: Tensor, latents: Tensor) -> Adaptation:
        """How to bring what is predicted in a voice nearer to it: by what is predicted, by letters alone, of itself.

        Of the linear transforms that adapt to a speaker (Gales 1998, "Maximum likelihood linear transformations")
        the diagonal one, for seconds are few: mean and spread of what is predicted become those of the voice.

        Args:
            codes: (P,), said: (P, H), latents: (P, D) of the voice.
        """
        untold = torch.full_like(codes, self.config.codebook_size)
        again = self.fill(torch.cat([codes, untold]), torch.cat([said, said]), latents)
        wider = 1 + WIDER * (latents.std(0) / again.std(0).clamp(min=1e-3) - 1)
        return Adaptation(wider, again.mean(0), latents.mean(0))
