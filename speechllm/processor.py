"""What stands before and after the model: clips to padded features, conversations to segments, ids to text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import AutoProcessor

from speechllm import weights
from speechllm.audio.clip import Clip
from speechllm.audio.features import log_mel
from speechllm.conversation import Conversation, Segment, render
from speechllm.language.vocabulary import Vocabulary
from speechllm.model import SpeechLLMConfig, read_config
from speechllm.training.batching import pad


class SpeechLLMProcessor:
    """Features, segments and text of one model.

    How many positions a clip fills only the bridge knows: a conversation becomes segments with places, not padded ids.
    """

    def __init__(self, config: SpeechLLMConfig, vocabulary: Vocabulary) -> None:
        self.config, self.vocabulary = config, vocabulary

    @classmethod
    def from_pretrained(cls, folder: str | Path, **_: Any) -> SpeechLLMProcessor:
        """The processor of a model's folder, name or hub id. Raises WeightsError where that is none."""
        config = read_config(weights.get(str(folder)))
        return cls(config, Vocabulary(weights.get(config.language_base, config.language_source)))

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:
        """Write config.json, which is all that a processor needs; the vocabulary is the base's."""
        self.config.save_pretrained(folder)

    def features(self, clips: Sequence[Clip]) -> tuple[Tensor, Tensor]:
        """Log-mel of clips at their true lengths: (B, T, 80) float32 at 100 Hz, and lengths (B,) int."""
        return pad([log_mel(clip, self.config.tail_seconds) for clip in clips])

    def __call__(self, conversation: Conversation) -> list[Segment]:
        """A conversation as runs of ids and places for audio."""
        return render(conversation, self.vocabulary.form, self.vocabulary)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of an answer's ids, control tokens left out."""
        return self.vocabulary.decode(ids)


AutoProcessor.register(SpeechLLMConfig, SpeechLLMProcessor)
