"""Stage `acoustic`: the codec's latents from the first codebook, after a prompt of the same voice, and their sound.

The acoustic model and the codec's decoder learn together: what is predicted goes through the decoder, and so do,
in some rows, the latents of real codes, which the decoder must not forget. Encoder and codebooks stand still.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechllm import pitch
from speechllm.acoustic import Acoustic, Refit
from speechllm.codecs.quantise import draw_depths
from speechllm.codecs.spectral import SpectralCodec
from speechllm.data.voiced import fits, groups, together
from speechllm.errors import DataError
from speechllm.text_encoder import numbers
from speechllm.training import pronunciation
from speechllm.training.batching import pad
from speechllm.training.loop import Schedule

FULL_SCALE = 32767


@dataclass(frozen=True)
class AcousticOptions:
    """What the recipe says of this stage."""

    schedule: Schedule
    corpora: tuple[str, ...]  # shared sets by name, folders with a manifest by path
    size: int = 256
    layers: int = 6
    batch: int = 8  # rows
    frames: int = 300  # of a row at most, prompt included
    prompt_frames: tuple[int, int] = (40, 160)  # of a prompt; at most half of the row
    unprompted: float = 0.05  # share of the rows without a prompt
    unlettered: float = 0.05  # share of the rows whose letters are not told
    uncoded: float = 0.4  # share of the rows whose codes after the prompt are not told: letters say what is said
    refitted: float = 0.7  # share of the rows with a prompt, to whose voice the output layer is fitted
    unnamed: float = 0.2  # share of the rows whose language is not told
    said: float = 0.5  # share of the others, of those that the LLM has said over, whose codes are as it says them
    wrong: float = 0.8  # of a row's codes are others, at most: those that the LLM says are not those of a recording
    crop_frames: int = 90  # of each row are made sound of
    real: float = 0.2  # share of the rows that are made sound of by their real codes
    depths: tuple[int, ...] = (1, 2, 4, 8)  # numbers of codebooks that these use
    depth_share: float = 0.3  # of them use one of these, the others all
    judged_from: int = 600
    judged_ramp: int = 300
    judged_frames: int = 50  # of each crop
    judged_channels: tuple[int, ...] = (16, 32, 64)
    mel: float = 45.0  # weights of the losses
    latent: float = 10.0
    moments: float = 10.0
    pronunciation: float = 1.0
    pitch: float = 5.0
    adversarial: float = 1.0
    matching: float = 2.0
    seed: int = 0


@dataclass(frozen=True)
class Batch:
    """Rows of one speaker each: a prompt, then what is to be said."""

    codes: Tensor  # (B, K, T) int64
    heard: Tensor  # (B, T) of the first codebook, some of them wrong or not told
    labels: Tensor  # (B, L) of the letters
    places: Tensor  # (B, T) which of them a frame says; -1: not told
    languages: Tensor  # (B,)
    lengths: Tensor  # (B,)
    pitches: Tensor  # (B, L, 2) of each letter, as `pitch.of_letters` has them
    means: Tensor  # (B,) mean height of the prompts, of the rows without one
    prompts: Tensor  # (B,) frames
    refitted: Tensor  # (B,) bool, whether the output layer is fitted to their voice
    starts: Tensor  # (B,) first frame of the crop
    depths: Tensor  # (B,) codebooks of the real codes that are made sound of; 0: the predicted latents
    samples: Tensor  # (B, N) float32 of the crop
    judged: slice
    pronounced: pronunciation.Batch | None  # texts beside them

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        movable = (Tensor, pronunciation.Batch)
        moved = {name: each.to(device) for name, each in vars(self).items() if isinstance(each, movable)}
        return replace(self, **moved)


class Rows:
    """Batches by number.

    Args:
        rows: what is said (text), by whom (corpus, speaker).
        voiced: of each row `codes` (K, T), `spans` (L, 2), `samples` (N,) int16, `heights` (T,) of its pitch, and
            `said` (T,) where the LLM said it.
        hop: samples a frame. codebook_size: of the first codebook.
        texts: whose pronunciation is learned beside; None: none.

    Raises DataError where no speaker says enough for a prompt and a crop.
    """

    def __init__(
        self,
        rows: Sequence[dict],
        voiced: Any,
        options: AcousticOptions,
        hop: int,
        codebook_size: int,
        texts: pronunciation.Texts | None = None,
    ) -> None:
        self.texts = texts if texts is not None and texts.options.beside else None
        self.rows, self.voiced, self.options, self.hop, self.codebook_size = rows, voiced, options, hop, codebook_size
        fitting = [i for i in range(len(rows)) if fits(rows[i], voiced[i], 1)]
        lengths = [voiced[i]["codes"].shape[1] for i in fitting]
        grouped = groups([rows[i] for i in fitting], lengths, 2 * options.frames, options.seed)
        least = options.crop_frames + 2 * options.prompt_frames[0]
        self.groups = [[fitting[i] for i in group] for group in grouped if sum(lengths[i] for i in group) >= least]
        if not self.groups or options.frames < least:
            raise DataError(f"a row has {least} frames at least, two prompts and a crop: give longer recordings")

    def __getitem__(self, number: int) -> Batch:
        """The batch with this number."""
        options = self.options
        rng = random.Random(f"{options.seed}/{number}")
        drawn = [self._row(rng) for _ in range(options.batch)]
        codes, lengths = pad([row["codes"].T for row in drawn])
        labels, places, heard = (pad([row[name] for row in drawn])[0] for name in ("labels", "places", "heard"))
        pitches, _ = pad([row["pitches"] for row in drawn], -1)
        languages = numbers([row["lang"] if rng.random() >= options.unnamed else None for row in drawn])
        generator = torch.Generator().manual_seed(rng.randrange(1 << 30))
        depths = draw_depths(len(drawn), options.depths, options.depth_share, generator)
        depths = torch.where(torch.rand(len(drawn), generator=generator) < options.real, depths, 0)
        first = rng.randint(0, options.crop_frames - options.judged_frames) * self.hop
        means, prompts, refitted, starts = (
            torch.tensor([row[name] for row in drawn]) for name in ("mean", "prompt", "refitted", "start")
        )
        return Batch(
            codes.transpose(1, 2), heard, labels, places, languages, lengths, pitches, means, prompts, refitted, starts,
            depths, torch.stack([row["samples"] for row in drawn]),
            slice(first, first + options.judged_frames * self.hop),
            self.texts.batch(number, self.texts.options.beside) if self.texts else None,
        )  # fmt: skip

    def _row(self, rng: random.Random) -> dict[str, Any]:
        options = self.options
        row = together(self.rows, self.voiced, rng.choice(self.groups))
        frames = row["codes"].shape[1]
        begin = rng.randint(0, max(0, frames - options.frames))
        end = min(frames, begin + options.frames)
        most = min(options.prompt_frames[1], (end - begin) // 2, end - begin - options.crop_frames)
        prompt = 0 if rng.random() < options.unprompted else rng.randint(options.prompt_frames[0], most)
        start = rng.randint(prompt, end - begin - options.crop_frames)
        places, heights = row["places"][begin:end], row["heights"][begin:end].float()
        samples = row["samples"][(begin + start) * self.hop : (begin + start + options.crop_frames) * self.hop]
        return {
            "codes": row["codes"][:, begin:end],
            "heard": self._heard(row, slice(begin, end), prompt, rng),
            "labels": row["labels"],
            "places": places if rng.random() >= options.unlettered else torch.full_like(places, -1),
            "lang": row["lang"],
            "pitches": pitch.of_letters(heights, places, len(row["labels"])),
            "mean": pitch.mean_height(heights[: prompt or None]),
            "prompt": prompt,
            "refitted": rng.random() < self.options.refitted,
            "start": start,
            "samples": samples.float() / FULL_SCALE,
        }

    def _heard(self, row: dict[str, Any], frames: slice, prompt: int, rng: random.Random) -> Tensor:
        """The first codebook of some frames as the model reads it: after the prompt not told, the LLM's, or wrong."""
        real = row["codes"][0, frames]
        if rng.random() < self.options.uncoded:
            return torch.cat([real[:prompt], torch.full_like(real[prompt:], self.codebook_size)])
        if "said" in row and rng.random() < self.options.said:
            return torch.cat([real[:prompt], row["said"][frames][prompt:]])
        return _mistaken(real, prompt, self.options.wrong, rng)


def _mistaken(codes: Tensor, prompt: int, most: float, rng: random.Random) -> Tensor:
    """Codes (T,) of which some after the prompt, in runs of up to six, are those of another place."""
    share, found = rng.uniform(0, most), codes.clone()
    place = prompt
    while place < len(codes):
        run = rng.randint(1, 6)
        if rng.random() < share:
            other = rng.randrange(len(codes))
            source = codes[other : other + run]
            found[place : place + len(source)] = source[: len(codes) - place]
        place += run
    return found


class AcousticLearner(nn.Module):
    """What learns in this stage: the acoustic model, and the decoder of a codec that stands still otherwise."""

    def __init__(self, acoustic: Acoustic, codec: SpectralCodec, crop_frames: int) -> None:
        super().__init__()
        head = acoustic.phonemes
        self.pronouncer = pronunciation.Pronouncer(acoustic.text, head) if head is not None else None
        self.acoustic, self.decoder, self.crop_frames = acoustic, codec.decoder.requires_grad_(True), crop_frames
        self.quantiser = codec.quantiser.requires_grad_(False)

    def train(self, mode: bool = True) -> AcousticLearner:
        """As ever, but that the codebooks stand still."""
        super().train(mode)
        self.quantiser.eval()
        return self

    @torch.no_grad()
    def measure(self, codes: Tensor) -> None:
        """Take mean and deviation of the latents of codes (B, K, T)."""
        latents = self.quantiser.decode(codes).flatten(0, 1)
        self.acoustic.mean.copy_(latents.mean(0))
        self.acoustic.deviation.copy_(latents.std(0).clamp(min=1e-3))

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Sound (B, N) of the crops, and how far the latents are from those of the codes, in their deviation."""
        with torch.no_grad():
            real = self.quantiser.decode(batch.codes)
        letters = self.acoustic.text(batch.labels, batch.languages)
        said = self.acoustic.spread(self.acoustic.sing(letters, batch.pitches), batch.places)
        refit = self._refit(batch, said, real)
        found = self.acoustic(batch.heard, said, batch.lengths, real, batch.prompts, refit)
        place = torch.arange(real.shape[1], device=real.device)
        wanted = (place >= batch.prompts[:, None]) & (place < batch.lengths[:, None])
        error = ((found - real) / self.acoustic.deviation).square().mean(-1)
        crops = batch.starts[:, None] + torch.arange(self.crop_frames, device=real.device)
        rows = torch.arange(len(crops), device=real.device)[:, None]
        sounded = torch.where((batch.depths > 0)[:, None, None], self._real(batch, rows, crops), found[rows, crops])
        figures = {"latent": error[wanted].mean(), "moments": self._moments(found, real, wanted)}
        figures["pitch"] = self.acoustic.pitch.loss(letters.detach(), batch.pitches, batch.means)
        if self.pronouncer is not None and batch.pronounced is not None:
            figures["pronunciation"] = self.pronouncer(batch.pronounced)
        return self.decoder(sounded), figures

    def _moments(self, found: Tensor, real: Tensor, wanted: Tensor) -> Tensor:
        """How far mean and spread of each row's frames, where wanted (B, T), are from the real ones, in deviations.

        What is predicted by least squares varies too little and sounds like an average voice; spread is a goal of its
        own therefore (Toda & Tokuda 2007, "A speech parameter generation algorithm considering global variance").
        """
        is_wanted = wanted[..., None].float()
        count = is_wanted.sum(1, keepdim=True).clamp(min=1)

        def moments(latents: Tensor) -> Tensor:
            scaled = latents / self.acoustic.deviation
            mean = (scaled * is_wanted).sum(1, keepdim=True) / count
            variance = ((scaled - mean).square() * is_wanted).sum(1, keepdim=True) / count
            return torch.stack([mean, (variance + 1e-5).sqrt()])

        return 2 * (moments(found) - moments(real)).abs().mean()

    def _refit(self, batch: Batch, said: Tensor, real: Tensor) -> Refit:
        """The output layer for the voices of the prompts, in some rows as it is."""
        longest = int(batch.prompts.max())
        prompts = batch.prompts * batch.refitted
        return self.acoustic.refit(batch.heard[:, :longest], said[:, :longest], real[:, :longest], prompts)

    @torch.no_grad()
    def _real(self, batch: Batch, rows: Tensor, frames: Tensor) -> Tensor:
        """Latents (B, S, D) of the crops' codes, each row's by its depth."""
        total: Tensor | None = None
        for number, book in enumerate(self.quantiser.books):
            part = book.values(batch.codes[rows, number, frames])  # type: ignore[operator]
            part = part * (batch.depths > number)[:, None, None]
            total = part if total is None else total + part
        assert total is not None
        return total


def padded(samples: Tensor, frames: int, hop: int) -> Tensor:
    """Samples (frames * hop,) of a recording whose last frame may be part empty."""
    return F.pad(samples, (0, max(0, frames * hop - len(samples))))[: frames * hop]
