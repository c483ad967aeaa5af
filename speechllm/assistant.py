"""The one object people meet: give it a task and a recording, get an answer.

from speechllm import Assistant
print(Assistant("pocket").run("transcribe", audio="talk.ogg").text)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from speechllm import languages, tasks, weights
from speechllm.audio.clip import Clip
from speechllm.audio.decode import AudioLimits, stream
from speechllm.audio.segments import SpeechDetector, cut_at_pauses
from speechllm.conversation import Conversation
from speechllm.errors import TaskError
from speechllm.reading import Word

LONGEST_SECONDS = 28.0  # read in one go; Whisper places 30, the tail of silence included
LONGEST_POSITIONS = 2048  # of the LLM: longer readings are refused where they cannot be cut
Progress = Callable[[float, float], None]


@dataclass(frozen=True)
class Answer:
    """What comes back."""

    text: str
    task: str
    prompt: str  # the instruction as it was put to the model
    words: tuple[Word, ...] = ()  # of the reading, with times
    language: str | None = None  # ISO 639-1, as spoken
    reading: str = ""  # what the reader read
    finish: str = "stop"  # "stop", "length", or "no speech"
    timings: dict[str, float] = field(default_factory=dict)  # seconds: decode_audio, hear, answer, total
    seconds: float = 0.0  # of audio


@dataclass(frozen=True)
class _Request:
    """One task about one recording, checked."""

    task: tasks.Task
    instruction: str
    languages: tuple[str, ...]  # that may be spoken
    reader: str
    limit: int | None
    draft: bool
    check: bool | None  # None: as the model is configured


class Stream:
    """Pieces of an answer while it is written; `answer` is there after the last one."""

    def __init__(self, pieces: Iterator[str]) -> None:
        self._pieces = self._run(pieces)
        self._answer: Answer | None = None

    def _run(self, pieces: Iterator[Any]) -> Iterator[str]:
        for piece in pieces:
            if isinstance(piece, Answer):
                self._answer = piece
            else:
                yield piece

    def __iter__(self) -> Iterator[str]:
        return self._pieces

    @property
    def answer(self) -> Answer:
        """The whole answer; reads what is left of the stream first."""
        for _ in self._pieces:
            pass
        assert self._answer is not None
        return self._answer


class Assistant:
    """A loaded model that runs tasks.

    Args:
        model: name, folder or hub id.
        device: "cpu", "cuda", …; None: a GPU if there is one.
        limits: on the bytes and seconds of a recording.
    Raises:
        WeightsError: the model or one of its bases cannot be had.
    """

    def __init__(self, model: str = "pocket", device: str | None = None, limits: AudioLimits | None = None) -> None:
        import torch

        from speechllm import int8
        from speechllm.model import SpeechLLM

        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.model = SpeechLLM.from_pretrained(model, device=device, merge=True)
        if device == "cpu" and int8.is_available():
            self.model.pack()
        self.detector = SpeechDetector(weights.get("silero-vad") / "silero_vad.onnx")
        self.limits = limits or AudioLimits()

    def run(self, task: str, audio: Any = None, *, progress: Progress | None = None, **options: Any) -> Answer:
        """Run a task about one recording.

        Args:
            task: name of a task, or the path of a YAML.
            audio: path, bytes, file object, (array, rate) or Clip.
            progress: called with the seconds done and in all, as a long recording is read.
            options: the task's slots, and: `wording` (number of the instruction's wording), `held_out` (take it from
                those kept out of training), `reader` ("attention" or, for transcribe, "ctc"), `reading` (a text in
                place of the audio), `max_new_tokens`, `check` (transcribe: True lets the LLM check the reading,
                False gives it as it is, None as the model is configured), `draft` (False: check without drafting).
        Raises:
            TaskError, AudioError: in one line, what is wrong with the request.
        """
        return self.stream(task, audio, progress=progress, **options).answer

    def stream(self, task: str, audio: Any = None, *, progress: Progress | None = None, **options: Any) -> Stream:
        """As `run`, but gives pieces of text as they are written. The request is checked at once."""
        reading = options.pop("reading", None)
        request = _request(task, options)
        if (audio is None) == (reading is None):
            raise TaskError("give a recording as audio=, or what it says as reading=, and not both")
        if request.reader == "ctc" and self.model.config.hearing != "reading":
            raise TaskError("this model listens to frames and has no first pass: leave reader at 'attention'")
        return Stream(self._pieces(request, audio, reading, progress))

    def batch(self, task: str, audio: Sequence[Any], **options: Any) -> list[Answer]:
        """Run a task about several recordings; the answers are those that `run` gives to each, token for token.

        Decoding is bound by one row of numbers at a time here, so that no row's arithmetic depends on another's;
        `SpeechLLM.generate` decodes padded batches.
        """
        return [self.run(task, each, **options) for each in audio]

    def _pieces(self, request: _Request, audio: Any, reading: str | None, progress: Progress | None) -> Iterator[Any]:
        clock = _Clock()
        if reading is not None:
            yield from self._answer_one(request, [self._given(request, reading)], 0.0, clock)
            return
        heard, seconds = [], 0.0
        parts: list[Answer] = []
        for offset, clip in self._clips(audio, clock):
            seconds = max(seconds, offset + clip.seconds)
            each = self._hear(request, clip, offset, clock)
            if progress:
                progress(offset + clip.seconds, clock.seconds)
            if request.task.by_stretch and request.reader == "attention":
                between = " " if any(part.text for part in parts) else ""
                for piece in self._answer_one(request, [each], clip.seconds, clock):
                    if isinstance(piece, Answer):
                        parts.append(piece)
                    else:
                        yield between + piece
                        between = ""
            else:
                heard.append(each)
        if parts:
            yield _joined(parts, clock)
        elif heard and request.reader == "ctc":
            text = " ".join(each.reading.text for each in heard)
            yield text
            yield clock.answer(request, text, heard, "stop")
        elif heard:
            yield from self._answer_one(request, heard, seconds, clock)
        else:
            yield clock.answer(request, "", [], "no speech")

    def _clips(self, audio: Any, clock: _Clock) -> Iterator[tuple[float, Clip]]:
        """Stretches of speech with the second at which they begin; a recording that fits is one stretch, whole."""

        def blocks() -> Iterator[Clip]:
            for block in stream(audio, self.limits):
                clock.seconds += block.seconds
                yield block

        def stretches() -> Iterator[tuple[float, Clip]]:
            coming = blocks()
            first, second = next(coming, None), next(coming, None)
            if first is not None and second is None and first.seconds <= LONGEST_SECONDS:
                if self.detector.segments(first):
                    yield 0.0, first
                return
            known = [block for block in (first, second) if block is not None]
            yield from cut_at_pauses(chain(known, coming), self.detector, LONGEST_SECONDS)

        cut = stretches()
        while True:
            with clock.time("decode_audio"):
                found = next(cut, None)
            if found is None:
                return
            yield found

    def _hear(self, request: _Request, clip: Clip, offset: float, clock: _Clock) -> Any:
        from speechllm.hearing import Heard

        with clock.time("hear"):
            if request.reader == "ctc":
                return Heard(self.model.ear.spell(clip).shifted(offset), (), None)
            return self.model.ear.hear(clip, request.languages).shifted(offset)

    def _given(self, request: _Request, reading: str) -> Any:
        from speechllm.hearing import from_text

        return from_text(reading, self.model.vocabulary, request.languages[0] if request.languages else None)

    def _answer_one(self, request: _Request, parts: Sequence[Any], seconds: float, clock: _Clock) -> Iterator[Any]:
        """The LLM's answer about what was heard."""
        from speechllm.decode import Effort
        from speechllm.hearing import joined

        heard = joined(parts, self.model.vocabulary)
        if not heard.ids:
            yield clock.answer(request, "", parts, "no speech")
            return
        if len(heard.ids) > LONGEST_POSITIONS:
            raise TaskError(
                f"task {request.task.name!r} reads at most {LONGEST_POSITIONS} word pieces at once, this recording "
                f"has {len(heard.ids)}; give a shorter stretch of it"
            )
        copies = request.task.copies and heard.embeddings is None
        if copies and not (self.model.config.checks_readings if request.check is None else request.check):
            yield heard.reading.text
            yield clock.answer(request, heard.reading.text, [heard], "stop", seconds)
            return
        most = 2 * len(heard.ids) + 16 if copies else request.task.max_new_tokens
        limit = request.limit or most
        draft = [*heard.ids, self.model.vocabulary.form.end[0]] if copies and request.draft else []
        effort, ids, text = Effort(), [], ""
        tokens = self.model.answer(Conversation.ask(request.instruction), [heard], limit, draft, effort)
        while True:
            with clock.time("answer"):
                token = next(tokens, None)
                if token is None:
                    break
                ids.append(token)
                now = self.model.vocabulary.decode(ids)
            if not now.endswith("\ufffd") and len(now) > len(text):
                yield now[len(text) :]
                text = now
        whole = self.model.vocabulary.decode(ids)
        if len(whole) > len(text):  # cut by the limit inside a character
            yield whole[len(text) :]
        finish = "stop" if effort.finished == [True] else "length"
        yield clock.answer(request, whole.strip(), [heard], finish, seconds)


class _Clock:
    """Seconds spent, by what they were spent on."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.spent: dict[str, float] = {"decode_audio": 0.0, "hear": 0.0, "answer": 0.0}
        self.seconds = 0.0  # of audio read so far

    def time(self, name: str) -> _Span:
        """A context that adds its seconds to `name`."""
        return _Span(self.spent, name)

    def answer(
        self, request: _Request, text: str, heard: Sequence[Any], finish: str, seconds: float | None = None
    ) -> Answer:
        """An answer with the times so far."""
        words = tuple(word for each in heard for word in each.reading.words)
        language = next((each.reading.language for each in heard if each.reading.language), None)
        reading = " ".join(each.reading.text for each in heard if each.reading.text)
        return Answer(
            text,
            request.task.name,
            request.instruction,
            words,
            language,
            reading,
            finish,
            self.timings(),
            seconds if seconds else self.seconds,
        )

    def timings(self) -> dict[str, float]:
        """Seconds by name, and in all."""
        return {**self.spent, "total": time.perf_counter() - self.began}


class _Span:
    """Adds the seconds between entry and exit."""

    def __init__(self, spent: dict[str, float], name: str) -> None:
        self.spent, self.name = spent, name

    def __enter__(self) -> None:
        self.began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.spent[self.name] += time.perf_counter() - self.began


def _joined(parts: Sequence[Answer], clock: _Clock) -> Answer:
    """The answers to the stretches of a long recording as one."""
    spoken = [part for part in parts if part.text]
    codes = [part.language for part in spoken if part.language]
    finish = "no speech" if not spoken else "length" if any(part.finish == "length" for part in spoken) else "stop"
    return Answer(
        text=" ".join(part.text for part in spoken),
        task=parts[0].task,
        prompt=parts[0].prompt,
        words=tuple(word for part in parts for word in part.words),
        language=max(set(codes), key=codes.count) if codes else None,
        reading=" ".join(part.reading for part in parts if part.reading),
        finish=finish,
        timings=clock.timings(),
        seconds=clock.seconds,
    )


def _request(name: str, options: dict[str, Any]) -> _Request:
    """Check a request before any work is done for it.

    Raises:
        TaskError: unknown task, slot, wording or reader.
    """
    task = tasks.load(name)
    own = {
        key: options.pop(key, default)
        for key, default in (
            ("wording", None),
            ("held_out", False),
            ("reader", "attention"),
            ("max_new_tokens", None),
            ("draft", True),
            ("check", None),
        )
    }
    if own["reader"] not in ("attention", "ctc"):
        raise TaskError(f"reader is 'attention' or 'ctc', not {own['reader']!r}")
    if own["reader"] == "ctc" and not task.copies:
        raise TaskError(f"the first pass alone (reader 'ctc') transcribes; task {task.name!r} needs reader 'attention'")
    if own["max_new_tokens"] is not None and own["max_new_tokens"] < 1:
        raise TaskError(f"max_new_tokens must be at least 1, got {own['max_new_tokens']}")
    given = options.get("language") or options.get("source") or ()
    spoken = [given] if isinstance(given, str) else list(given)
    codes = tuple(languages.code(part.strip()) for each in spoken for part in each.split(","))
    instruction = task.instruction(options, own["wording"], own["held_out"])
    return _Request(task, instruction, codes, own["reader"], own["max_new_tokens"], own["draft"], own["check"])
