"""What comes back from a request: an answer, whole or piece by piece while it is made."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from speechllm.audio.clip import Clip
from speechllm.audio.save import Sound
from speechllm.errors import TaskError
from speechllm.reading import Word

Progress = Callable[[float, float | None], None]


@dataclass(frozen=True)
class Answer:
    """What comes back."""

    text: str
    task: str
    prompt: str  # the instruction as it was put to the model
    words: tuple[Word, ...] = ()  # of the reading, with times
    language: str | None = None  # ISO 639-1, as spoken
    reading: str = ""  # what the reader read
    finish: str = "stop"  # "stop", "length" (cut), "loop" (it only repeated itself: said once), or "no speech"
    timings: dict[str, float] = field(default_factory=dict)  # seconds: decode_audio, hear, answer, total
    seconds: float = 0.0  # of the whole recording, its silence included
    audio: Sound | None = None  # the answer said aloud, where the task speaks; then timings has first_audio and say too


@dataclass(frozen=True)
class HeardSoFar:
    """How much of a recording is heard, in seconds."""

    done: float
    total: float | None  # None: the recording does not say how long it is


class Stream:
    """Pieces of an answer while it is made; `answer` is there after the last one.

    Iterating gives the pieces of text, `clips()` those of sound, `steps()` everything in order.
    """

    def __init__(self, source: Iterator[Any], progress: Progress | None = None) -> None:
        """source: pieces of text and Clips, `HeardSoFar` now and then, and at last the Answer."""
        self._steps = self._run(source, progress)
        self._answer: Answer | None = None
        self._error: Exception | None = None
        self._is_closed = False

    def _run(self, source: Iterator[Any], progress: Progress | None) -> Generator[str | Clip | HeardSoFar, None, None]:
        try:
            for step in source:
                if isinstance(step, Answer):
                    self._answer = step
                    continue
                if progress and isinstance(step, HeardSoFar):
                    progress(step.done, step.total)
                yield step
                if self._is_closed:
                    return
        except Exception as error:
            self._error = error
            raise
        finally:
            if isinstance(source, Generator):
                source.close()

    def steps(self) -> Iterator[str | Clip | HeardSoFar]:
        """The pieces, and after each stretch of the recording how much of it is heard."""
        return self._steps

    def clips(self) -> Iterator[Clip]:
        """The pieces of sound; joined, they are the answer's audio."""
        return (step for step in self._steps if isinstance(step, Clip))

    def __iter__(self) -> Iterator[str]:
        return (step for step in self._steps if isinstance(step, str))

    def close(self) -> None:
        """End the work: at once, or after the stretch that another thread is hearing just now."""
        self._is_closed = True
        with suppress(ValueError):  # it is running in another thread
            self._steps.close()

    @property
    def answer(self) -> Answer:
        """The whole answer; reads what is left of the stream first. A stream that failed raises its error again."""
        for _ in self._steps:
            pass
        if self._error is not None:
            raise self._error
        if self._answer is None:
            raise TaskError("the stream was closed before its answer was whole")
        return self._answer
