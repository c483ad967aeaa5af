"""The second way of hearing: an encoder's frames, stacked and projected, are the LLM's positions; nobody reads them.

What most speech-LLMs do (Ma et al. 2024, "SLAM-ASR"): k frames of a speech encoder side by side, two linear layers, one
position of the LLM, which must learn to listen. The encoder is any of transformers, frozen and named, or a Conformer of
one's own on log-mel, trained from scratch.

Limits: without a reading there are no words, no times, no draft, and no language but the one that was given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from speechllm import weights
from speechllm.audio.clip import Clip
from speechllm.audio.features import FRAMES_PER_SECOND, MELS, log_mel
from speechllm.bridge import StackingBridge
from speechllm.encoders.conformer import Conformer, ConformerConfig
from speechllm.encoders.hub import SHORTEST, HubEncoder
from speechllm.errors import DataError
from speechllm.hearing import Heard
from speechllm.reading import Reading

FILLER = 0  # the id that holds a place until the bridge's embeddings are put over it


@dataclass(frozen=True)
class FramesConfig:
    """Which encoder hears, and how its frames become positions."""

    encoder: str = ""  # name, folder or hub id of a frozen encoder; empty: a Conformer of one's own
    source: str | None = None  # where that encoder must come from; None: from anywhere
    conformer: Mapping[str, Any] = field(default_factory=dict)  # of one's own: fields of `ConformerConfig`
    stack: int = 5  # frames k that make one position
    inner: int = 2048  # width between the bridge's two layers

    def __post_init__(self) -> None:
        if self.stack < 1 or self.inner < 1:
            raise DataError(f"frames: stack and inner must be at least 1, got {self.stack} and {self.inner}")
        if self.encoder and self.conformer:
            raise DataError(f"frames: the encoder is {self.encoder}, so there is no conformer to describe")
        log_mel_config(self.conformer)


def log_mel_config(fields: Mapping[str, Any]) -> ConformerConfig:
    """A Conformer on log-mel at 100 Hz that gives 25 frames a second, but for what `fields` say.

    Raises:
        DataError: a field is unknown or of a size that cannot be.
    """
    usual = {"input_size": MELS, "front": "strided", "subsampling": 4, "input_rate": FRAMES_PER_SECOND}
    try:
        return ConformerConfig(**{**usual, **fields})
    except TypeError as error:
        raise DataError(f"frames, conformer: {error}") from error


class LogMelConformer(Conformer):
    """A Conformer that makes its own features of clips, as a `HubEncoder` does."""

    @property
    def size(self) -> int:
        """D, width of the hidden states."""
        return self.config.size

    def features(self, clips: Sequence[Clip]) -> tuple[Tensor, Tensor]:
        """Log-mel of clips of any rate: (B, T, 80) float32, zero past each length, and lengths (B,) int64."""
        rows = [log_mel(clip, max(0.0, SHORTEST - clip.seconds)) for clip in clips]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Hidden states (B,) that features of `lengths` (B,) give."""
        return (lengths + self.config.subsampling - 1) // self.config.subsampling


FramesEncoder = HubEncoder | LogMelConformer


class FramesEar:
    """Encoder and stacking bridge, clip by clip, so that what a clip says never depends on its neighbours."""

    def __init__(self, encoder: FramesEncoder, bridge: StackingBridge) -> None:
        self.encoder, self.bridge = encoder, bridge

    def pack(self) -> None:
        """Nothing here writes tokens."""

    @torch.inference_mode()
    def frames(self, clip: Clip) -> tuple[Tensor, Tensor]:
        """The encoder's hidden states (1, T, D) at `encoder.frame_rate`, and their length (1,)."""
        weight = next(self.encoder.parameters())
        features, lengths = self.encoder.features([clip])
        return self.encoder(features.to(weight.device, weight.dtype), lengths.to(weight.device))

    @torch.inference_mode()
    def hear(self, clip: Clip, languages: Sequence[str] = ()) -> Heard:
        """Embeddings of a clip; its reading is empty, its language that of `languages` when they are one."""
        hidden, lengths = self.frames(clip)
        embeddings, counts = self.bridge(hidden.to(next(self.bridge.parameters()).dtype), lengths)
        count = int(counts[0])
        language = languages[0] if len(languages) == 1 else None
        reading = Reading("", (), language, self.encoder.frame_rate)
        return Heard(reading, (FILLER,) * count, None, embeddings[0, :count])


def build(config: FramesConfig, size: int, dtype: torch.dtype) -> tuple[dict[str, nn.Module], FramesEar]:
    """The named parts of an ear for an LLM of width `size`, its bridge untrained, and the ear itself.

    Raises:
        WeightsError: the encoder cannot be had.
    """
    if config.encoder:
        encoder: FramesEncoder = HubEncoder.from_pretrained(weights.get(config.encoder, config.source))
        parts: dict[str, nn.Module] = {"encoder": encoder.to(dtype).requires_grad_(False)}
    else:
        encoder = LogMelConformer(log_mel_config(config.conformer))
        parts = {"conformer": encoder.to(dtype)}
    bridge = StackingBridge(encoder.size, size, config.stack, config.inner)
    return {**parts, "bridge": bridge}, FramesEar(encoder, bridge)
