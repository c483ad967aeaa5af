"""From a clip to what was heard: frames, a reading with times, and the frames under each of the LLM's word pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from speechllm.audio.clip import Clip
from speechllm.audio.features import log_mel
from speechllm.bridge import pool
from speechllm.encoders.ctc import ALPHABET, Characters, greedy, token_spans, word_times
from speechllm.encoders.masks import OFFLINE, AttentionPolicy
from speechllm.language.vocabulary import Vocabulary
from speechllm.readers.attention import AttentionReader, Spelling, WhisperModel
from speechllm.readers.first_pass import FirstPass
from speechllm.reading import Reading, Word

LANGUAGES = ("en", "de", "fr", "es", "it", "ru", "cs", "nl", "pl", "pt", "sv")  # those the reader was tuned for
BEAMS = 4  # of the reader's search


@dataclass(frozen=True)
class Heard:
    """What the LLM gets of one clip."""

    reading: Reading
    ids: tuple[int, ...]  # the reading in the LLM's word pieces
    pooled: Tensor | None  # (len(ids), D) frames under each piece; None where the reading was given as text
    embeddings: Tensor | None = None  # (len(ids), H) in place of those of the ids, which then only hold the place

    def shifted(self, seconds: float) -> Heard:
        """The same, with every time of the reading that much later."""
        return replace(self, reading=self.reading.shifted(seconds))


def joined(parts: Sequence[Heard], vocabulary: Vocabulary) -> Heard:
    """The pieces of a long recording as one: their texts with spaces between, their times as they are.

    Pieces that come as embeddings are put side by side.
    """
    if len(parts) == 1:
        return parts[0]
    text = " ".join(part.reading.text for part in parts if part.reading.text)
    words: tuple[Word, ...] = tuple(word for part in parts for word in part.reading.words)
    languages = [part.reading.language for part in parts if part.reading.text]
    language = max(set(languages), key=languages.count) if languages else None
    rate = parts[0].reading.frame_rate if parts else 0.0
    reading = Reading(text, words, language, rate)
    embeddings = [part.embeddings for part in parts if part.embeddings is not None]
    if embeddings:
        assert len(embeddings) == len(parts), "all pieces of a recording are heard in one way"
        return Heard(reading, tuple(i for part in parts for i in part.ids), None, torch.cat(embeddings))
    return Heard(reading, tuple(vocabulary.encode(text)), None)


def from_text(text: str, vocabulary: Vocabulary, language: str | None = None) -> Heard:
    """A reading given as text: what the LLM would get of a clip that was read without error."""
    return Heard(Reading(text, (), language), tuple(vocabulary.encode(text)), None)


class Ear:
    """Encoder, both readers and the pooling, clip by clip.

    One clip at a time on purpose: encoders are bound by arithmetic, so a batch gains nothing on a processor, and what
    a clip says then never depends on its neighbours, bit for bit.
    """

    def __init__(
        self,
        whisper: WhisperModel,
        first_pass: FirstPass,
        spelling: Spelling,
        vocabulary: Vocabulary,
        tail_seconds: float,
        characters: Characters = ALPHABET,
        beams: int = BEAMS,
    ) -> None:
        self.whisper, self.first_pass = whisper, first_pass
        self.spelling, self.vocabulary = spelling, vocabulary
        self.reader = AttentionReader(whisper.decoder, spelling)
        self.tail_seconds, self.characters, self.beams = tail_seconds, characters, beams

    def pack(self) -> None:
        """Keep the weights of the reader's steps in 8 bits."""
        self.whisper.decoder.pack()

    @torch.inference_mode()
    def frames(self, clip: Clip) -> tuple[Tensor, Tensor]:
        """The encoder's hidden states (1, T, D) at 50 Hz, and their length (1,)."""
        weight = self.whisper.encoder.conv1.weight
        mel = log_mel(clip, self.tail_seconds)[None].to(weight.device, weight.dtype)
        return self.whisper.encoder(mel, torch.tensor([mel.shape[1]], device=weight.device))

    @torch.inference_mode()
    def spell(self, clip: Clip, policy: AttentionPolicy = OFFLINE) -> Reading:
        """The first pass alone: what the CTC head spells under an attention policy."""
        _, log_probs, lengths = self.first_pass(*self.frames(clip), policy)
        text = greedy(log_probs, lengths, self.characters)[0].text
        return Reading(text, self._words(text, log_probs, clip), None, self.first_pass.conformer.frame_rate)

    @torch.inference_mode()
    def hear(self, clip: Clip, languages: Sequence[str] = ()) -> Heard:
        """Read a clip of at most 28 seconds; `languages` are those it may be in, none: any of `LANGUAGES`."""
        hidden, lengths = self.frames(clip)
        allowed = tuple(languages) or LANGUAGES
        language = allowed[0] if len(allowed) == 1 else self.reader.languages(hidden, lengths, allowed)[0]
        text = self.reader.search(hidden, lengths, language, self.beams).text
        return self.align(text, language, hidden, lengths, clip)

    @torch.inference_mode()
    def align(self, text: str, language: str | None, hidden: Tensor, lengths: Tensor, clip: Clip) -> Heard:
        """Give a text of a clip its times and the frames under each piece, by the CTC head."""
        frames, log_probs, _ = self.first_pass(hidden, lengths)
        ids = tuple(self.vocabulary.encode(text))
        spans = token_spans(self.vocabulary.pieces(ids), log_probs[0], self.characters)
        reading = Reading(text, self._words(text, log_probs, clip), language, self.first_pass.conformer.frame_rate)
        return Heard(reading, ids, pool(frames[0], spans))

    def _words(self, text: str, log_probs: Tensor, clip: Clip) -> tuple[Word, ...]:
        """Times, none beyond the clip: the tail of silence is not part of it."""
        words = word_times(text, log_probs[0], self.first_pass.conformer.frame_rate, self.characters)
        return tuple(
            Word(word.text, min(word.start, clip.seconds), min(word.end, clip.seconds), word.confidence)
            for word in words
        )
