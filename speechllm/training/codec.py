"""Stage `codec`: the pocket codec learns from random stretches of recordings, first alone, then against discriminators.

    python train.py recipes/pocket-codec.yaml

Mel distance and commitment from the start, with the distillation of the first codebook; from step `judged_from` on
the discriminators as well (`codec_losses.py`, `adversarial.py`).
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechllm import fields, weights
from speechllm.audio.clip import Clip
from speechllm.audio.decode import load
from speechllm.audio.features import log_mel
from speechllm.codecs import pocket
from speechllm.codecs.quantise import draw_depths
from speechllm.codecs.spectral import SpectralCodec, SpectralConfig
from speechllm.data import cache
from speechllm.data.recordings import train_rows
from speechllm.errors import DataError
from speechllm.precision import fast_dtype
from speechllm.readers.attention import WhisperModel
from speechllm.training import codec_losses, ctc
from speechllm.training.adversarial import fit
from speechllm.training.loop import Schedule, make_accelerator

TEACHER_HOP = 320  # samples between a Whisper encoder's hidden states: 50 Hz
FULL_SCALE = 32767


@dataclass(frozen=True)
class CodecOptions:
    """What the recipe says of this stage."""

    schedule: Schedule
    corpora: tuple[str, ...]  # shared sets by name, or "asterisk"
    model: dict[str, Any] = field(default_factory=dict)  # fields of `SpectralConfig`
    teacher: str = "whisper-base"  # whose encoder the first codebook follows; empty: none
    teacher_source: str | None = "packages"  # where the teacher must come from; None: from anywhere
    batch: int = 8  # stretches; many steps teach more than large ones
    crop_seconds: float = 2.0  # of each
    gain: float = 10.0  # dB by which a stretch is made louder or softer, at most
    depths: tuple[int, ...] = (1, 2, 4, 8)  # numbers of codebooks that shall decode
    depth_share: float = 0.5  # of the rows use one of these, the others all codebooks
    judged_from: int = 1_000_000_000  # step at which the discriminators begin
    judged_ramp: int = 300  # steps in which their losses reach their weights
    judged_seconds: float = 1.0  # of each stretch are shown to them
    judged_channels: tuple[int, ...] = (16, 32, 64)  # of the discriminators' layers
    mel: float = 45.0  # weights of the losses
    commitment: float = 1.0
    distillation: float = 10.0
    adversarial: float = 1.0
    matching: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        config = self.config()
        if self.batch < 1 or self.crop_seconds * config.frame_rate < 1 or self.judged_seconds <= 0:
            raise DataError("a batch needs a stretch, a stretch a frame, and judged_seconds must be above 0")
        if not self.depths or not all(1 <= each <= config.codebooks for each in self.depths):
            raise DataError(f"depths are numbers from 1 to the {config.codebooks} codebooks, not {list(self.depths)}")
        if max(self.depths) != config.codebooks:
            raise DataError(f"depths must name the {config.codebooks} codebooks too, not only {list(self.depths)}")
        if len(self.judged_channels) < 2:
            raise DataError("judged_channels are those of two layers or more")
        if self.teacher and config.hop % TEACHER_HOP:
            raise DataError(f"with a teacher, hop is a multiple of {TEACHER_HOP} samples, not {config.hop}")

    def config(self) -> SpectralConfig:
        """The network that this trains; raises DataError for one that cannot be."""
        if said := fields.wrong(SpectralConfig, self.model):
            raise DataError(f"model, {said}")
        return SpectralConfig(**self.model)


@dataclass(frozen=True)
class Batch:
    """Stretches of recordings, and what was drawn for them."""

    samples: Tensor  # (B, T * hop) float32
    features: Tensor | None  # (B, T, D) float32 of the teacher, zero past a recording's end
    depths: Tensor  # (B,) codebooks in use
    judged: slice  # the samples that the discriminators see

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        features = None if self.features is None else self.features.to(device)
        return Batch(self.samples.to(device), features, self.depths.to(device), self.judged)


def sound_cache(root: Path, rows: Sequence[dict]) -> cache.Cache:
    """The waveform of each row's audio at 16 kHz, (N,) int16 under `samples`."""
    plain = [{"audio": row["audio"]} for row in rows]

    def compute(part: list[dict]) -> list[dict[str, Tensor]]:
        clips = [torch.from_numpy(load(row["audio"]).samples) for row in part]
        return [{"samples": (clip.clamp(-1, 1) * FULL_SCALE).round().to(torch.int16)} for clip in clips]

    return cache.build(root, f"sound-{cache.digest(plain)}", plain, compute, "waveforms")


class LogMels(Sequence):
    """Whisper's features of cached waveforms, made when asked for."""

    def __init__(self, sounds: cache.Cache) -> None:
        self.sounds = sounds

    def __len__(self) -> int:
        return len(self.sounds)

    def __getitem__(self, row: Any) -> Any:
        return {"mel": log_mel(Clip(self.sounds[row]["samples"].numpy().astype("float32") / FULL_SCALE, 16_000))}


class Learner(nn.Module):
    """What the codec's optimizer trains: the codec, and the map from its first codebook to the teacher."""

    def __init__(self, config: SpectralConfig, teacher_size: int = 0) -> None:
        super().__init__()
        self.codec = SpectralCodec(config)
        self.distillation = codec_losses.Distillation(config.size, teacher_size) if teacher_size else None

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Reconstruction (B, N), and by name: commitment, the distance to the teacher, codes in use of a codebook."""
        made, quantised = self.codec(batch.samples, batch.depths)
        distance = made.new_zeros(())
        if self.distillation is not None and batch.features is not None:
            distance = self.distillation(quantised.first, batch.features)
        used = torch.tensor([float(len(each.unique())) for each in quantised.codes.unbind(1)]).mean()
        return made, {"commitment": quantised.commitment, "distillation": distance, "codes": used}


class Stretches:
    """Batches of random stretches by number; every second of the recordings is as likely as any other.

    Args:
        sounds: waveforms, of each row `samples` (N,) int16.
        hidden: the teacher's features, of each row `hidden` (T, D); None: no teacher.
    """

    def __init__(self, sounds: Any, hidden: Any, options: CodecOptions) -> None:
        self.sounds, self.hidden, self.options, self.config = sounds, hidden, options, options.config()
        self.frames = round(options.crop_seconds * self.config.frame_rate)
        self.ends = list(accumulate(len(sounds[i]["samples"]) for i in range(len(sounds))))
        if not self.ends or not self.ends[-1]:
            raise DataError("the corpora hold no recordings to learn from")
        self.mean, self.deviation = self._spread() if hidden is not None else (torch.zeros(0), torch.ones(0))

    def __getitem__(self, number: int) -> Batch:
        """The batch with this number."""
        rng = random.Random(f"{self.options.seed}/{number}")
        rows, features = [], []
        for _ in range(self.options.batch):
            place, samples, start = self._stretch(rng)
            rows.append(self._louder(samples, rng))
            if self.hidden is not None:
                features.append(self._features(place, start))
        generator = torch.Generator().manual_seed(rng.randrange(1 << 30))
        depths = draw_depths(len(rows), self.options.depths, self.options.depth_share, generator)
        shown = min(round(self.options.judged_seconds * self.config.sample_rate), len(rows[0]))
        first = rng.randint(0, len(rows[0]) - shown)
        return Batch(
            torch.stack(rows), torch.stack(features) if features else None, depths, slice(first, first + shown)
        )

    def _stretch(self, rng: random.Random) -> tuple[int, Tensor, int]:
        """A row, a stretch of its samples that begins with a frame, and that frame."""
        place = bisect_right(self.ends, drawn := rng.randrange(self.ends[-1]))
        samples, hop = self.sounds[place]["samples"], self.config.hop
        latest = max(0, len(samples) // hop - self.frames)
        start = min((drawn - self.ends[place] + len(samples)) // hop, latest)
        stretch = samples[start * hop : (start + self.frames) * hop].float() / FULL_SCALE
        return place, F.pad(stretch, (0, self.frames * hop - len(stretch))), start

    def _louder(self, samples: Tensor, rng: random.Random) -> Tensor:
        """By up to `gain` dB louder or softer, but not beyond full scale."""
        factor = 10 ** (rng.uniform(-self.options.gain, self.options.gain) / 20)
        return samples * min(factor, 1 / max(1e-3, float(samples.abs().max())))

    def _features(self, place: int, start: int) -> Tensor:
        """The teacher's standardised features of the frames from `start` on, (T, D), zero past the end."""
        ratio = self.config.hop // TEACHER_HOP
        found = self.hidden[place]["hidden"][start * ratio : (start + self.frames) * ratio]
        found = codec_losses.standardise(found, self.mean, self.deviation)
        return F.pad(found, (0, 0, 0, self.frames * ratio - len(found))).unflatten(0, (-1, ratio)).mean(1)

    def _spread(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation (D,) of the teacher's features over up to 200 recordings."""
        every = max(1, len(self.hidden) // 200)
        seen = torch.cat([self.hidden[i]["hidden"].float() for i in range(0, len(self.hidden), every)])
        return seen.mean(0), seen.std(0)


class CodecRun:
    """The run of a codec in its folder: caches, one stage, the finished model."""

    def __init__(self, options: CodecOptions, folder: Path) -> None:
        self.options, self.folder, self.caches = options, folder, folder / "cache"
        self.accelerator = make_accelerator()

    def train(self) -> Path:
        """The stage; gives the folder of the finished codec."""
        options = self.options
        rows = train_rows(options.corpora)
        sounds = sound_cache(self.caches, rows)
        hidden, size = None, 0
        if options.teacher:
            folder = weights.get(options.teacher, options.teacher_source)
            # `hidden_cache` runs it on the processor, whatever trains: in the number format of that.
            teacher = WhisperModel.from_pretrained(folder, fast_dtype("cpu")).requires_grad_(False).eval()
            key = cache.digest(options.teacher, weights.provenance(folder))
            hidden, size = ctc.hidden_cache(self.caches, key, LogMels(sounds), teacher, rows), teacher.config.size
        torch.manual_seed(options.schedule.seed)
        learner = Learner(options.config(), size)
        stretches, rate = Stretches(sounds, hidden, options), learner.codec.config.sample_rate
        fit(stretches, learner, rate, options, self.folder / "codec", self.accelerator)
        if self.accelerator.is_main_process:
            pocket.save_model(learner.codec, self.folder / "model")
        self.accelerator.wait_for_everyone()
        return self.folder / "model"
