"""Stage `frames`: bridge and LLM adapters learn to listen to an encoder's frames (Ma et al. 2024, "SLAM-ASR").

A hub encoder stays frozen and its frames are cached; a Conformer of one's own learns along, from cached log-mel. Each
row is the conversation that inference builds, with as many places as the bridge gives positions. The loss counts
answer tokens only.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from speechllm.audio.augment import spec_augment
from speechllm.audio.decode import load
from speechllm.bridge import StackingBridge
from speechllm.conversation import Conversation, Filled, fill, render
from speechllm.data import cache
from speechllm.frames import FILLER, FramesConfig, FramesEncoder, LogMelConformer, log_mel_config
from speechllm.language.base import Language
from speechllm.language.vocabulary import Vocabulary
from speechllm.training.batching import Buckets, pad
from speechllm.training.language import answer_loss, padded
from speechllm.training.loop import Schedule


@dataclass(frozen=True)
class FramesOptions:
    """What the recipe says of this stage."""

    schedule: Schedule
    corpora: tuple[str, ...]  # shared sets by name, "asterisk", or paths of manifests
    tasks: tuple[str, ...] = ("transcribe",)  # each clip teaches those whose answer its manifest holds
    encoder: str = ""  # name, folder or hub id of a frozen encoder; empty: a Conformer of one's own
    encoder_source: str | None = None  # where that encoder must come from; None: from anywhere
    conformer: dict[str, Any] = field(default_factory=dict)  # of one's own: fields of `ConformerConfig`
    stack: int = 5  # frames that make one position
    inner: int = 2048  # width between the bridge's two layers
    base: str = "gemma-3-270m"
    source: str | None = "packages"  # where the LLM must come from; None: from anywhere
    rank: int = 32  # of the LLM's adapters; 0: the LLM stays as it is
    alpha: int = 64
    tokens: int = 4096  # padded positions of the LLM in a batch
    longest: int = 512  # rows with more positions are left out
    augment: bool = True  # masks over time and features (Park et al. 2019)
    seed: int = 0

    def __post_init__(self) -> None:
        self.config()

    def config(self) -> FramesConfig:
        """The ear that this trains, every size written out; raises DataError for one that cannot be."""
        given = FramesConfig(self.encoder, self.encoder_source, self.conformer, self.stack, self.inner)
        if self.encoder:
            return given
        return FramesConfig(conformer=asdict(log_mel_config(self.conformer)), stack=self.stack, inner=self.inner)


def frames_cache(root: Path, key: str, paths: Sequence[str], encoder: FramesEncoder) -> cache.Cache:
    """What enters the trained parts for each recording, (T, F) fp16 under `frames`; clip by clip, as inference does.

    A frozen encoder's hidden states, or the features of a Conformer that is trained itself.
    """
    weight = next(encoder.parameters())

    def compute(part: list[dict]) -> list[dict[str, Tensor]]:
        out = []
        for row in part:
            frames, lengths = encoder.features([load(row["audio"])])
            if not isinstance(encoder, LogMelConformer):
                with torch.inference_mode():
                    frames, _ = encoder(frames.to(weight.device, weight.dtype), lengths.to(weight.device))
            out.append({"frames": frames[0].half().cpu()})
        return out

    rows = [{"audio": path} for path in paths]
    return cache.build(root, f"frames-{cache.digest(key, rows)}", rows, compute, "frames")


def write(row: Mapping[str, Any], positions: int, vocabulary: Vocabulary) -> Filled:
    """Ids of a row {instruction, answer}: the conversation that inference builds, its place `positions` wide."""
    conversation = Conversation.ask(row["instruction"], row["answer"])
    return fill(render(conversation, vocabulary.form, vocabulary), [[FILLER] * positions])


class Listening(nn.Module):
    """What learns in this stage: the LLM's adapters, the bridge, and the Conformer where it is one's own."""

    def __init__(self, conformer: LogMelConformer | None, bridge: StackingBridge, language: Language) -> None:
        super().__init__()
        self.conformer, self.bridge, self.language = conformer, bridge, language

    def positions(self, frames: int) -> int:
        """How many positions of the LLM `frames` cached frames become."""
        if self.conformer is not None:
            frames = int(self.conformer.output_lengths(torch.tensor(frames)))
        return -(-frames // self.bridge.stack)

    def forward(
        self, ids: Tensor, labels: Tensor, placed: Tensor, frames: Tensor, lengths: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        """`answer_loss` of a batch of `FramesObjective`, the bridge's embeddings in their places."""
        if self.conformer is not None:
            frames, lengths = self.conformer(frames, lengths)
        heard, counts = self.bridge(frames, lengths)
        is_heard = torch.arange(heard.shape[1], device=heard.device) < counts[:, None]
        embeddings = self.language.embed(ids)
        embeddings = embeddings.masked_scatter(placed[..., None], heard[is_heard].to(embeddings.dtype))
        return answer_loss(self.language, embeddings, labels)


class FramesObjective:
    """Cross-entropy of the answers over the output rows in use.

    Args:
        rows: written rows, and for each the place of its recording in `frames`.
    """

    def __init__(
        self, module: Listening, rows: Sequence[tuple[Filled, int]], frames: cache.Cache, options: FramesOptions
    ) -> None:
        self.module: nn.Module = module
        self.rows, self.frames, self.options = rows, frames, options
        self.buckets = Buckets([len(filled.ids) for filled, _ in rows], options.tokens, options.seed)

    def batch(self, number: int) -> tuple[Tensor, ...]:
        """ids (B, N), labels (B, N) of the next token or -100, placed (B, N) bool, frames (B, T, F), lengths (B,)."""
        chosen = [self.rows[i] for i in self.buckets[number]]
        ids, labels = padded([filled for filled, _ in chosen])
        placed = torch.zeros_like(ids, dtype=torch.bool)
        for row, (filled, _) in enumerate(chosen):
            _, start, end = filled.places[0]
            placed[row, start:end] = True
        frames = [self.frames[place]["frames"].float() for _, place in chosen]
        if self.options.augment:
            generator = torch.Generator().manual_seed(random.Random(f"{self.options.seed}/{number}").randrange(1 << 30))
            frames = [spec_augment(each, generator) for each in frames]
        return ids, labels, placed, *pad(frames)

    def loss(self, module: Any, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, float]]:
        """Mean cross-entropy of the answer tokens."""
        device = next(module.parameters()).device
        return module(*(each.to(device) for each in batch))
