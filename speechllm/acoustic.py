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

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechllm.encoders.conformer import Conformer, ConformerConfig
from speechllm.encoders.ctc import BLANK
from speechllm.encoders.masks import OFFLINE
from speechllm.errors import DataError
from speechllm.pitch import PitchPredictor
from speechllm.text_encoder import PhonemeHead, TextEncoder, numbers
from speechllm.woven import silent

RIDGE = 0.05  # where training begins: weight of ridge regression, as a share of the frames' square sum
# A voice that training has not heard is better known again with less ridge and more spread than the least distance asks
# for, and understood as well (docs/speaking.md).
LENIENT, WIDER = 0.2, 2.0
LEAST = 0.01  # added to variances: a latent that hardly moves in a prompt is no reason to make it move a lot
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
    signs: int = 0  # that it writes phonemes with; 0: none, and so every letter is said
    marks: tuple[int, ...] = ()  # those of them that are no sounds (`PhonemeHead`)
    frame_rate: float = 50.0  # Hz

    def __post_init__(self) -> None:
        if not all(0 < mark <= self.signs for mark in self.marks):
            raise DataError(f"marks are some of the {self.signs} signs, from 1 on")

    def conformer(self) -> ConformerConfig:
        """That of the blocks."""
        return ConformerConfig(
            input_size=self.size, size=self.size, layers=self.layers, heads=self.heads, kernel=self.kernel,
            feed_forward=self.feed_forward, subsampling=1, dropout=self.dropout, input_rate=self.frame_rate,
        )  # fmt: skip


@dataclass(frozen=True)
class Refit:
    """The output layer for some voices: it gets a linear map of its frames besides, and spreads as these voices do."""

    weight: Tensor  # (B, H, D)
    read: Tensor  # (B, 1, H) mean of the frames that it was fitted on
    lacking: Tensor  # (B, 1, D) mean of what was lacking there
    mean: Tensor  # (B, 1, D) of the voice
    wider: Tensor  # (B, 1, D) its spread over that of what is predicted of it
    echo: Tensor | None = None  # of a new voice (B, P, D), its prompt as it is then predicted, by halves

    def __call__(self, predicted: Tensor, frames: Tensor) -> Tensor:
        """What the plain layer predicts of frames (B, T, H), (B, T, D), for these voices."""
        found = predicted + (frames.float() - self.read) @ self.weight + self.lacking
        return (found - self.mean) * self.wider + self.mean


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
        self.phonemes = PhonemeHead(config.size, config.signs, config.marks) if config.signs else None
        self.is_prompt = nn.Parameter(torch.zeros(config.size))
        self.known = nn.Linear(config.latents, config.size)
        self.speaker = nn.Linear(config.latents, config.size)
        self.progress = nn.Linear(PROGRESS, config.size)
        self.timbre = Timbre(config)
        self.pitch = PitchPredictor(config.size)
        self.sung = nn.Linear(2, config.size)
        self.conformer = Conformer(config.conformer())
        self.out = nn.Linear(config.size, config.latents)
        self.ridge = nn.Parameter(torch.tensor(math.log(RIDGE)))
        # Of the latents of recordings, set before training: what is predicted has mean 0 and deviation 1.
        self.register_buffer("mean", torch.zeros(config.latents))
        self.register_buffer("deviation", torch.ones(config.latents))

    @torch.inference_mode()
    def sounds(self, labels: Sequence[int], lang: str | None) -> list[tuple[int, ...]]:
        """The signs of the sounds that begin at each label of a text, in a language (ISO 639-1) or one not told."""
        device = self.codes.weight.device
        assert self.phonemes is not None, "it spells no phonemes"
        read = self.text(torch.tensor([labels], device=device), numbers([lang], device))
        return [tuple(sign for sign in signs if sign != BLANK) for signs in self.phonemes.sounds(read)[0].tolist()]

    def is_silent(self, labels: Sequence[int], lang: str) -> list[bool]:
        """Which of the labels of a text in a language (ISO 639-1) are letters that nothing is said for."""
        if self.phonemes is None:
            return [False] * len(labels)
        return silent(labels, [not sounds for sounds in self.sounds(labels, lang)])

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
        refit: Refit | None = None,
    ) -> Tensor:
        """Latents (B, T, D) of all frames; those of the prompts mean nothing.

        Args:
            codes: (B, T) int, of the first codebook; `codebook_size` where they are not told.
            said: (B, T, H) what `spread` gives for the letters said there; 0 where they are not told.
            lengths: (B,) frames of each row.
            latents: (B, T, D), read in the first `prompts` (B,) frames of each row alone.
            refit: of the prompts' voices; None: the output layer as it is.
        """
        frames = self._frames(codes, said, lengths, latents, prompts)
        found = self.out(frames).float()
        return (found if refit is None else refit(found, frames)) * self.deviation + self.mean

    def _frames(self, codes: Tensor, said: Tensor, lengths: Tensor, latents: Tensor, prompts: Tensor) -> Tensor:
        """Frames (B, T, H) that the output layer reads."""
        assert codes.ndim == 2 and latents.shape[:2] == codes.shape, (tuple(codes.shape), tuple(latents.shape))
        is_prompt = _begins(prompts, codes.shape[1])
        dtype = self.out.weight.dtype
        known = ((latents - self.mean) / self.deviation * is_prompt).to(dtype)
        voice = known.sum(1, keepdim=True) / prompts.clamp(min=1)[:, None, None].to(dtype)
        hidden = self.codes(codes) + said.to(dtype) + self.speaker(voice)
        hidden = hidden + (self.known(known) + self.is_prompt) * is_prompt
        return self.conformer(hidden, lengths, OFFLINE, self.timbre(known, is_prompt))[0]

    def refit(self, codes: Tensor, said: Tensor, latents: Tensor, prompts: Tensor, *, is_new: bool = False) -> Refit:
        """Fit the output layer to the voice of each prompt, by what it lacks there.

        Each half of a prompt is predicted after the other one, by letters alone, and ridge regression maps the frames
        to what is lacking. It has a closed form, so training goes through it and learns frames of which a few seconds
        tell a voice (Bertinetto et al. 2019, "Meta-learning with differentiable closed-form solvers", §3.2).

        Args:
            codes: (B, P), said: (B, P, H), latents: (B, P, D) of prompts of `prompts` (B,) frames, padded. A row
                without a prompt gets a map that adds nothing.
            is_new: the voices are none that training has heard: go further (`LENIENT`, `WIDER`).
        """
        place = torch.arange(codes.shape[1], device=codes.device)
        count = prompts.clamp(min=1)  # a row without a prompt has a frame that does not count
        first = torch.div(prompts, 2, rounding_mode="floor")
        second = prompts - first
        rows = torch.arange(len(codes), device=codes.device)[:, None]
        turned = torch.where(place < prompts[:, None], (place + first[:, None]) % count[:, None], place)

        def after(order: Tensor, known: Tensor) -> Tensor:
            told = torch.where(place < known[:, None], codes[rows, order], self.config.codebook_size)
            return self._frames(told, said[rows, order], count, latents[rows, order], known)

        back = (place + second[:, None]) % count[:, None]
        is_first = (place < first[:, None]).unsqueeze(-1)
        frames = torch.where(is_first, after(turned, second)[rows, back], after(place.expand_as(turned), first))
        return self._fitted(frames, latents, _begins(prompts, codes.shape[1]), is_new=is_new)

    def _fitted(self, frames: Tensor, latents: Tensor, is_known: Tensor, *, is_new: bool) -> Refit:
        """Ridge regression from frames (B, P, H) to what they lack to latents (B, P, D), where known (B, P, 1)."""
        with torch.autocast(frames.device.type, enabled=False):
            frames, wanted = frames.float(), ((latents - self.mean) / self.deviation).float()
            predicted = F.linear(frames, self.out.weight.float(), self.out.bias.float())
            count = is_known.sum(1, keepdim=True).clamp(min=1)

            def centred(values: Tensor) -> tuple[Tensor, Tensor]:
                mean = (values * is_known).sum(1, keepdim=True) / count
                return mean, (values - mean) * is_known

            (read, x), (lacking, y), (mean, z) = map(centred, (frames, wanted - predicted, wanted))
            kernel = x @ x.transpose(1, 2)
            size = kernel.diagonal(dim1=1, dim2=2).sum(1)[:, None, None].clamp(min=1e-3)
            ridge = size * self.ridge.float().exp() * (LENIENT if is_new else 1.0)
            kernel = kernel + ridge * torch.eye(kernel.shape[1], device=kernel.device)
            # Row by row: in batches LAPACK's threads can wait for each other for ever (seen with `solve`).
            solved = [
                torch.cholesky_solve(each, torch.linalg.cholesky_ex(matrix).L)
                for matrix, each in zip(kernel, y, strict=True)
            ]
            weight = x.transpose(1, 2) @ torch.stack(solved)

            def spread(values: Tensor) -> Tensor:
                return (values.square().sum(1, keepdim=True) / count + LEAST).sqrt()

            wider = spread(z) / spread(centred(predicted + x @ weight)[1])
            if not is_new:
                return Refit(weight, read, lacking, mean, wider)
            found = Refit(weight, read, lacking, mean, 1 + WIDER * (wider - 1))
            return replace(found, echo=found(predicted, frames) * self.deviation + self.mean)

    @torch.inference_mode()
    def fill(self, codes: Tensor, said: Tensor, latents: Tensor, refit: Refit | None = None) -> Tensor:
        """Latents (T, D) of speech (T,) after a voice of P frames.

        Args:
            codes: (P + T,); said: (P + T, H); latents: (P, D) of the voice, whose output layer `refit` is.
        """
        before = len(latents)
        known = latents.new_zeros(len(codes), latents.shape[1])
        known[:before] = latents
        length, prompt = (torch.tensor([each], device=codes.device) for each in (len(codes), before))
        return self(codes[None], said[None], length, known[None], prompt, refit)[0, before:]


def _begins(counts: Tensor, frames: int) -> Tensor:
    """(B, T, 1) bool: the first so many (B,) frames of rows."""
    return (torch.arange(frames, device=counts.device) < counts[:, None]).unsqueeze(-1)
