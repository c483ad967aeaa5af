"""What a reader read of a clip without the LLM: text, the seconds each word spans, and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Word:
    """A word as written, with the seconds of the clip in which it is said."""

    text: str
    start: float  # seconds
    end: float  # seconds, >= start
    confidence: float  # mean posterior, 0 to 1; 0 where the word has nothing that can be heard ("–")

    def shifted(self, seconds: float) -> Word:
        """The same word, that much later: a piece of a long recording counts from the recording's start."""
        return replace(self, start=self.start + seconds, end=self.end + seconds)


@dataclass(frozen=True)
class Reading:
    """A reader's text of one clip."""

    text: str
    words: tuple[Word, ...] = ()  # in order of time
    language: str | None = None  # ISO 639-1 code
    frame_rate: float = 0.0  # Hz of the frames that gave the times; 0 where the reader gives none

    @property
    def confidence(self) -> float:
        """Mean of the words' confidences; 0 for an empty reading."""
        return sum(word.confidence for word in self.words) / len(self.words) if self.words else 0.0

    def shifted(self, seconds: float) -> Reading:
        """The same reading with every time that much later."""
        return replace(self, words=tuple(word.shifted(seconds) for word in self.words))
