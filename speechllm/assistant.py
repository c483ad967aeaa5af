"""The one object people meet: give it a task and a recording, get an answer.

from speechllm import Assistant
print(Assistant("pocket").run("transcribe", audio="talk.ogg").text)
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from speechllm import devices, weights
from speechllm.answer import Answer, HeardSoFar, Progress, Stream
from speechllm.audio.clip import Clip
from speechllm.audio.decode import AudioLimits, stream
from speechllm.audio.duration import declared_seconds
from speechllm.audio.segments import SpeechDetector, cut_at_pauses
from speechllm.conversation import Conversation
from speechllm.errors import TaskError
from speechllm.request import LONGEST_POSITIONS, Request, checked, is_several

LONGEST_SECONDS = 28.0  # read in one go; Whisper places 30, the tail of silence included


class Assistant:
    """A loaded model that runs tasks.

    Args:
        model: name, folder or hub id.
        device: "cpu", "cuda", "cuda:1" or "mps"; None: a GPU if there is one.
        limits: on the bytes and seconds of a recording.
    Raises:
        SpeechLLMError: there is no such device.
        WeightsError: the model or one of its bases cannot be had.
    """

    def __init__(self, model: str = "pocket", device: str | None = None, limits: AudioLimits | None = None) -> None:
        device = devices.checked(device)
        from speechllm import int8
        from speechllm.aloud import Aloud
        from speechllm.model import SpeechLLM

        self.model = SpeechLLM.from_pretrained(model, device=device, merge=True)
        if device == "cpu" and int8.is_available():
            self.model.pack()
        self.detector = SpeechDetector(weights.get("silero-vad") / "silero_vad.onnx")
        self.limits = limits or AudioLimits()
        self.aloud = Aloud(self.model, self.detector, self.limits)

    def run(self, task: str, audio: Any = None, *, progress: Progress | None = None, **options: Any) -> Answer:
        """Run a task about one recording.

        Args:
            task: name of a task, or the path of a YAML.
            audio: path, bytes, file object, (array, rate) or Clip.
            progress: called after each stretch with the seconds heard and those in all (None where the recording
                does not say), and at last with all of them, as both.
            options: the task's slots, and: `language` (that is spoken, or several: by name or code), `wording` (number
                of the instruction's wording), `held_out` (take it from those kept out of training), `reader`
                ("attention" or, for transcribe, "ctc"), `reading` (a text in place of the audio), `max_new_tokens`,
                `check` (transcribe: True lets the LLM check the reading, False gives it as it is, None as the model
                is configured), `draft` (False: check without drafting). Of tasks that speak: `voice` (a recording of
                whoever shall speak; needs `consent=True`), `voice_text` (what is said in it), `seed` (the same one says
                it the same way), `best_of` (ways of saying each sentence, of which the best understood is kept).
        Raises:
            TaskError, AudioError: in one line, what is wrong with the request.
            ConsentError: a voice without the consent of whoever it belongs to.
        """
        return self.stream(task, audio, progress=progress, **options).answer

    def stream(self, task: str, audio: Any = None, *, progress: Progress | None = None, **options: Any) -> Stream:
        """As `run`, but gives pieces of text and sound as they are made. The request is checked at once."""
        request = self._request(task, options)
        if request.task.reads and audio is not None:
            raise TaskError(
                f"task {request.task.name!r} reads its slot {request.task.reads!r}: leave out the recording"
            )
        if (audio is None) == (request.reading is None):
            raise TaskError("give a recording as audio=, or what it says as reading=, and not both")
        if progress is not None and not callable(progress):
            raise TaskError(f"progress is a function of the seconds done and in all, not {type(progress).__name__}")
        given = None if request.reading is None else self._given(request, request.reading)
        steps = self._steps(request, audio, given)
        return Stream(steps if request.speech is None else self.aloud.said(request, steps), progress)

    def batch(
        self, task: str, audio: Iterable[Any], *, progress: Progress | None = None, **options: Any
    ) -> list[Answer]:
        """Run a task about several recordings; the answers are those that `run` gives to each, token for token.

        Decoding is bound by one row of numbers at a time here, so that no row's arithmetic depends on another's;
        `SpeechLLM.generate` decodes padded batches.
        """
        if self._request(task, options).reading is not None:
            raise TaskError("a batch takes recordings as audio=; ask about each reading= by run")
        if not is_several(audio):
            raise TaskError(f"a batch takes a list of recordings as audio=, not one {type(audio).__name__}")
        return [self.run(task, each, progress=progress, **options) for each in audio]

    def _request(self, task: str, options: Mapping[str, Any]) -> Request:
        """The checked request, as far as this model can do it."""
        request = checked(task, options)
        if self.model.config.hearing != "reading" and request.reading is None:
            if request.reader == "ctc":
                raise TaskError("this model listens to frames and has no first pass: leave reader at 'attention'")
            if request.check is False:
                raise TaskError("this model listens to frames, there is no reading to give as it is: leave out check")
        elif request.limit is not None and self._is_unchecked(request):
            raise TaskError(
                "max_new_tokens bounds what the LLM writes, and this model's transcripts are given as they are read: "
                "leave it out, or let the LLM check them with check=True"
            )
        if request.speech is not None:
            self.aloud.check(request)
        taken = len(self.model.fill(Conversation.ask(request.instruction), [self._given(request, "")]).ids)
        if taken >= LONGEST_POSITIONS:
            raise TaskError(
                f"the instruction of task {request.task.name!r} takes {taken} word pieces, at most {LONGEST_POSITIONS} "
                "are read at once, what is said included: make it shorter"
            )
        return replace(request, room=LONGEST_POSITIONS - taken)

    def _is_unchecked(self, request: Request) -> bool:
        """Whether the answer is the reading as it is."""
        does_check = self.model.config.checks_readings if request.check is None else request.check
        return request.task.copies and not (does_check and not request.task.reads)

    def _steps(self, request: Request, audio: Any, given: Any) -> Iterator[Any]:
        """Pieces of the answer, `HeardSoFar` after each stretch, and the Answer."""
        clock = _Clock()
        if given is not None:
            yield from self._answer_one(request, [given], clock)
            return
        heard: list[Any] = []
        parts: list[Answer] = []
        progress = None
        for offset, clip in self._clips(audio, clock):
            each = self._hear(request, clip, offset, clock)
            progress = clock.progress(offset + clip.seconds, audio)
            yield progress
            if request.task.by_stretch and request.reader == "attention":
                between = " " if any(part.text for part in parts) else ""
                for piece in self._answer_one(request, [each], clock):
                    if isinstance(piece, Answer):
                        parts.append(piece)
                    else:
                        yield between + piece
                        between = ""
            else:
                heard.append(each)
                request.check_room(sum(len(each.ids) for each in heard), offset + clip.seconds)
        if progress != HeardSoFar(clock.seconds, clock.seconds):
            yield HeardSoFar(clock.seconds, clock.seconds)
        if parts:
            yield _joined(parts, clock)
        elif heard and request.reader == "ctc":
            text = " ".join(each.reading.text for each in heard)
            yield text
            yield clock.answer(request, text, heard, "stop")
        elif heard:
            yield from self._answer_one(request, heard, clock)
        else:
            yield clock.answer(request, "", [], "no speech")

    def _clips(self, audio: Any, clock: _Clock) -> Iterator[tuple[float, Clip]]:
        """Stretches of speech with the second at which they begin; a recording that fits is one stretch, whole."""

        def blocks() -> Iterator[Clip]:
            for block in stream(audio, self.limits):
                clock.seconds += block.seconds
                yield block
            clock.is_whole = True

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

    def _hear(self, request: Request, clip: Clip, offset: float, clock: _Clock) -> Any:
        from speechllm.hearing import Heard

        with clock.time("hear"):
            if request.reader == "ctc":
                return Heard(self.model.ear.spell(clip).shifted(offset), (), None)
            return self.model.ear.hear(clip, request.languages).shifted(offset)

    def _given(self, request: Request, reading: str) -> Any:
        from speechllm.hearing import from_text

        heard = from_text(reading, self.model.vocabulary, request.languages[0] if len(request.languages) == 1 else None)
        request.check_room(len(heard.ids))
        return heard

    def _answer_one(self, request: Request, parts: Sequence[Any], clock: _Clock) -> Iterator[Any]:
        """The LLM's answer about what was heard."""
        from speechllm.hearing import joined

        heard = joined(parts, self.model.vocabulary)
        if not heard.ids:
            yield clock.answer(request, "", parts, "no speech")
            return
        request.check_room(len(heard.ids))
        copies = request.task.copies and heard.embeddings is None
        if copies and self._is_unchecked(request):
            yield heard.reading.text
            yield clock.answer(request, heard.reading.text, [heard], "stop")
            return
        most = 2 * len(heard.ids) + 16 if copies else request.task.max_new_tokens
        draft = [*heard.ids, self.model.vocabulary.form.end[0]] if copies and request.draft else []
        yield from self._write(request, heard, request.limit or most, draft, clock)

    def _write(self, request: Request, heard: Any, limit: int, draft: Sequence[int], clock: _Clock) -> Iterator[Any]:
        """Pieces of the LLM's answer, and the Answer."""
        from speechllm.decode import Effort, once, settled

        effort, ids, text = Effort(), [], ""
        tokens = self.model.answer(Conversation.ask(request.instruction), [heard], limit, draft, effort)
        while True:
            with clock.time("answer"):
                token = next(tokens, None)
                if token is None:
                    break
                ids.append(token)
                now = self.model.vocabulary.decode(ids[: settled(ids)])  # what may begin a loop waits
            if not now.endswith("\ufffd") and len(now) > len(text):
                yield now[len(text) :]
                text = now
        finish = "loop" if any(effort.loops) else "stop" if all(effort.finished) else "length"
        whole = self.model.vocabulary.decode(ids[: once(ids, effort.loops[0])] if finish == "loop" else ids)
        if len(whole) > len(text):  # what waited, or was cut by the limit inside a character
            yield whole[len(text) :]
        yield clock.answer(request, whole.strip(), [heard], finish)


class _Clock:
    """Seconds spent, by what they were spent on."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.spent: dict[str, float] = {"decode_audio": 0.0, "hear": 0.0, "answer": 0.0}
        self.seconds, self.is_whole = 0.0, False  # of audio decoded so far; whether that is all
        self._declared: float | None = -1.0  # seconds that the recording says it has; below 0: not asked yet

    def time(self, name: str) -> _Span:
        """A context that adds its seconds to `name`."""
        return _Span(self.spent, name)

    def progress(self, done: float, audio: Any) -> HeardSoFar:
        """How much of `audio` is heard, with `done` seconds of it; a declared length is believed until it is passed."""
        if self.is_whole:
            return HeardSoFar(min(done, self.seconds), self.seconds)
        if self._declared is not None and self._declared < 0:
            self._declared = declared_seconds(audio)
        return HeardSoFar(done, self._declared if self._declared and self._declared >= self.seconds - 0.1 else None)

    def answer(self, request: Request, text: str, heard: Sequence[Any], finish: str) -> Answer:
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
            self.seconds,
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
    finishes = {part.finish for part in spoken}
    finish = next((each for each in ("loop", "length", "stop") if each in finishes), "no speech")
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
