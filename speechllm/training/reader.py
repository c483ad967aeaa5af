"""Stage `reader`: Whisper learns by LoRA to read clips at their true length (Hu et al. 2021).

What has to be learned is where the text ends; the labels are therefore in the reader's own style (`data/labels.py`).
Clips of noise, music and silence have the empty label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechllm.audio.decode import load
from speechllm.audio.features import log_mel
from speechllm.data import cache
from speechllm.data.labels import styled
from speechllm.readers.attention import AttentionReader, Spelling, WhisperModel
from speechllm.training.batching import Buckets, pad
from speechllm.training.loop import Schedule

IGNORED = -100  # label of positions without loss


@dataclass(frozen=True)
class ReaderOptions:
    """What the recipe says of this stage."""

    schedule: Schedule
    base: str = "whisper-base"
    source: str | None = "packages"  # where the base must come from; None: from anywhere
    tail_seconds: float = 0.5  # silence after each clip: a cue for the end
    rank: int = 32
    alpha: int = 64
    dropout: float = 0.0  # drawing its masks costs a quarter of a step on a processor
    frames: int = 8000  # padded frames (100 Hz) of a batch
    restyle: tuple[str, ...] = ()  # corpora whose labels take the reader's style
    seed: int = 0
    corpora: tuple[str, ...] = field(default_factory=tuple)


def mel_cache(root: Path, rows: Sequence[dict], tail_seconds: float) -> cache.Cache:
    """Log-mel features of each row's audio, (T, 80) fp16 under the name `mel`."""
    key = "mel-" + cache.digest([row["audio"] for row in rows], tail_seconds)
    return cache.build(
        root,
        key,
        rows,
        lambda part: [{"mel": log_mel(load(row["audio"]), tail_seconds).half()} for row in part],
        "features",
    )


def restyle(
    rows: Sequence[dict],
    mels: Sequence[dict[str, Tensor]] | cache.Cache,
    model: WhisperModel,
    spelling: Spelling,
    root: Path,
) -> list[str]:
    """Label of each row in the reader's style, or its plain text where the untuned reader was no help."""
    reader = AttentionReader(model.decoder, spelling)
    dtype = model.encoder.conv1.weight.dtype
    order = sorted(range(len(rows)), key=lambda i: len(mels[i]["mel"]))
    heard: dict[int, str] = {}

    def compute(part: list[dict]) -> list[dict[str, Tensor]]:
        out: list[dict[str, Tensor]] = []
        for start in range(0, len(part), 32):
            some = part[start : start + 32]
            features, lengths = pad([mels[row["index"]]["mel"] for row in some])
            with torch.inference_mode():
                hidden, lengths = model.encoder(features.to(dtype), lengths)
            words = max(len(row["text"].split()) for row in some)
            texts = reader.read(hidden, lengths, [row["lang"] for row in some], limit=2 * words + 12)
            out += [{"text": torch.tensor(list(text.text.encode()), dtype=torch.uint8)} for text in texts]
        return out

    indexed = [{**rows[i], "index": i} for i in order]
    kept = cache.build(root, "heard-" + cache.digest(indexed), indexed, compute, "styles")
    for place, i in enumerate(order):
        heard[i] = bytes(kept[place]["text"].tolist()).decode()
    return [styled(row["text"], heard[i]) or _sentence(row["text"]) for i, row in enumerate(rows)]


def _sentence(text: str) -> str:
    """A plain transcript as a sentence: a capital, a full stop."""
    text = text.lower().strip() if text.isupper() else text.strip()
    text = text[:1].upper() + text[1:]
    return text if not text or text[-1] in ".?!" else text + "."


class ReaderObjective:
    """Cross-entropy of the language token, the text and its end, teacher forced."""

    def __init__(
        self, model: WhisperModel, spelling: Spelling, rows: Sequence[dict], mels: cache.Cache, options: ReaderOptions
    ) -> None:
        self.module: nn.Module = model
        self.model = model
        self.spelling, self.rows, self.mels, self.options = spelling, rows, mels, options
        self.buckets = Buckets([len(mels[i]["mel"]) for i in range(len(rows))], options.frames, options.seed)

    def batch(self, number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """features (B, T, 80), lengths (B,), ids (B, N), labels (B, N)."""
        chosen = self.buckets[number]
        features, lengths = pad([self.mels[i]["mel"].float() for i in chosen])
        pairs = [self._ids_labels(self.rows[i]) for i in chosen]
        ids, _ = pad([torch.tensor(pair[0]) for pair in pairs], self.spelling.end)
        labels, _ = pad([torch.tensor(pair[1]) for pair in pairs], IGNORED)
        return features, lengths, ids, labels

    def _ids_labels(self, row: dict) -> tuple[list[int], list[int]]:
        text = self.spelling.encode(row["text"])[: 448 - 5]
        ids = self.spelling.prompt(row["lang"] or "en") + text
        language = ids[1] if row["lang"] else IGNORED
        return ids, [language, IGNORED, IGNORED, *text, self.spelling.end]

    def loss(self, module: Any, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, float]]:
        """Mean cross-entropy over the labelled positions."""
        features, lengths, ids, labels = batch
        device = next(module.parameters()).device
        states = module(features.to(device), lengths.to(device), ids.to(device))
        labels = labels.to(device)
        kept = labels != IGNORED
        logits = self.model.decoder.logits(states[kept]).float()
        loss = F.cross_entropy(logits, labels[kept])
        right = (logits.argmax(1) == labels[kept]).float()
        ends = labels[kept] == self.spelling.end
        return loss, {"right": float(right.mean()), "end_right": float(right[ends].mean())}
