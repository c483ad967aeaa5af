"""What each command of the command line does, once its options are read (`cli.py` reads them).

A command gives its exit code. The task, its slots and the recordings are checked before a model is loaded, so
that a mistake is told at once.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from speechllm.errors import AudioError, SpeechLLMError, TaskError, WeightsError

if TYPE_CHECKING:
    from speechllm.assistant import Answer, Assistant
    from speechllm.audio.decode import AudioLimits
    from speechllm.tasks import Task

FINISHES = {
    "no speech": "no speech was heard",
    "length": "the answer was cut at the longest that the task or a spoken word allows",
    "loop": "the answer was cut where it began to repeat itself",
}
SHOWN_AFTER = 60.0  # seconds of audio from which on progress is shown
SHOWN_EVERY = 10.0  # seconds between lines of progress where no terminal shows them


class UsageError(SpeechLLMError):
    """The command is wrong: exit code 2."""


def complain(error: BaseException, name: str = "") -> None:
    """Say an error in one line on standard error, with the recording's name unless the message has it."""
    message = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, SpeechLLMError | OSError):
        message = f"{type(error).__name__}: {message[:300]} (--debug shows where)"
    if name and name not in message:
        message = f"{name}: {message}"
    print(f"speechllm: {message}", file=sys.stderr, flush=True)


# The recordings of a command


@dataclass(frozen=True)
class Recording:
    """One recording of the command line."""

    name: str
    audio: str | bytes | None  # None: it cannot be read, and that was said


def _recordings(names: Sequence[str], seconds: float | None) -> list[Recording]:
    """The recordings, each tried by its first block: a broken one is known before a model loads."""
    from speechllm.audio.decode import stream

    if names.count("-") > 1:
        raise UsageError("'-' can be given once: there is one standard input")
    limits = _limits(seconds)
    recordings = []
    for name in names:
        try:
            audio: str | bytes = standard_input(limits.bytes) if name == "-" else name
            next(stream(audio, limits))
            recordings.append(Recording(name, audio))
        except (AudioError, OSError) as error:
            complain(error, _called(name))
            recordings.append(Recording(name, None))
    return recordings


def _called(name: str) -> str:
    """How messages call a recording."""
    return "standard input" if name == "-" else name


def _limits(seconds: float | None) -> AudioLimits:
    from speechllm.audio.decode import AudioLimits

    return AudioLimits() if seconds is None else AudioLimits(seconds=seconds)


def standard_input(most_bytes: int) -> bytes:
    """What comes in on standard input; UsageError where nothing is piped in, AudioError where nothing comes."""
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("'-' reads from standard input: pipe something into it")
    given = sys.stdin.buffer.read(most_bytes + 1)
    if not given:
        raise AudioError("nothing came in on standard input")
    return given


def open_assistant(options: argparse.Namespace) -> Assistant:
    """The model that the options name."""
    from speechllm.assistant import Assistant

    limits = _limits(getattr(options, "max_seconds", None))
    return Assistant(options.model, device=options.device, limits=limits)


class Progress:
    """How much of a long recording is heard: a line that is rewritten, or one every few seconds in a log."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_terminal = sys.stderr.isatty()
        self.is_shown, self.last = False, time.monotonic()

    def __call__(self, done: float, total: float | None) -> None:
        if done < SHOWN_AFTER and not self.is_shown:
            return
        of_all = f" of {_minutes(total)}" if total else ""
        text = f"{self.name}: heard {_minutes(done)}{of_all}"
        if self.is_terminal:
            self.is_shown = True
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self.last >= SHOWN_EVERY:
            self.last = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the line away."""
        if self.is_shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


# run, ask


def run(options: argparse.Namespace) -> int:
    """Answer a task about each recording."""
    from speechllm import speak_commands

    speech = speak_commands.given(options)
    task, slots = _checked(options.task, options.set, options.lang, options.wording, options.reader, speech)
    if options.times and not task.copies:
        raise UsageError(f"--times shows the words that are said, not an answer: not for task {task.name!r}")
    if task.reads and options.audio:
        raise UsageError(f"task {task.name!r} reads --set {task.reads}=, it takes no recording")
    if not task.reads and not options.audio:
        raise UsageError(f"task {task.name!r} needs a recording: AUDIO")
    speak_commands.check_out(options, task, several=len(options.audio) > 1)
    return _answer_all(options, task, slots)


def ask(options: argparse.Namespace) -> int:
    """Answer a question about a recording."""
    task, slots = _checked("ask", [("question", options.question)], options.lang, options.wording, "attention")
    options.audio, options.reader, options.times, options.out = [options.audio], "attention", False, None
    return _answer_all(options, task, slots)


def _checked(
    name: str,
    given: Sequence[tuple[str, str]],
    lang: str | None,
    wording: int | None,
    reader: str,
    speech: Mapping[str, Any] | None = None,
) -> tuple[Task, dict[str, Any]]:
    """The task and its slots, the spoken language among them; or UsageError, which must not wait for a model."""
    from speechllm import request, tasks

    task, slots = known_task(name), once(given)
    if lang is not None:
        # `language` is an option of every task, `source` where the task has a slot of that kind
        own = [slot for slot in tasks.SPOKEN_SLOTS if slot in task.slots and task.slots[slot].kind == "language"]
        if twice := [slot for slot in tasks.SPOKEN_SLOTS if slot in slots and slot in ("language", *own)]:
            raise UsageError(f"--lang and --set {twice[0]}= say the same: give one of them")
        slots[own[0] if own and "," not in lang else "language"] = lang
    check_reader(reader, task)
    try:
        request.checked(name, {**slots, **(speech or {}), "wording": wording, "reader": reader})
    except TaskError as error:
        raise UsageError(str(error)) from error
    return task, {**slots, **(speech or {})}


def once(given: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The values of --set by slot."""
    slots: dict[str, str] = {}
    for name, value in given:
        if name in slots:
            raise UsageError(f"--set {name}= is given twice")
        slots[name] = value
    return slots


def check_reader(reader: str, task: Task) -> None:
    """Raise UsageError unless the reader can do the task."""
    if reader == "ctc" and not task.copies:
        raise UsageError(f"--reader ctc, the first pass alone, only transcribes: not for task {task.name!r}")


def _answer_all(options: argparse.Namespace, task: Task, slots: Mapping[str, Any]) -> int:
    if task.reads:
        _answer_one(open_assistant(options), options, task, slots, Recording("", None), several=False)
        return 0
    recordings = _recordings(options.audio, options.max_seconds)
    if all(recording.audio is None for recording in recordings):
        return 1
    assistant = open_assistant(options)
    code = 0
    for recording in recordings:
        try:
            if recording.audio is None:
                code = 1
                continue
            _answer_one(assistant, options, task, slots, recording, several=len(recordings) > 1)
        except (BrokenPipeError, UsageError):
            raise
        except Exception as error:  # one recording must not stop the others
            if options.debug:
                raise
            complain(error, _called(recording.name))
            code = 1
    return code


def _answer_one(
    assistant: Assistant,
    options: argparse.Namespace,
    task: Task,
    slots: Mapping[str, Any],
    recording: Recording,
    several: bool,
) -> None:
    own: dict[str, Any] = {**slots, "wording": options.wording, "reader": options.reader}
    head = f"{recording.name}: " if several else ""
    # The task goes by the name under which it was given: a path stays one.
    name = getattr(options, "task", task.name)
    if options.stream:
        print(head, end="", flush=True)
        stream = assistant.stream(name, audio=recording.audio, **own)
        try:
            for piece in stream:
                print(piece, end="", flush=True)
        finally:
            print(flush=True)
        _end(stream.answer, options, recording)
        return
    progress = Progress(recording.name)
    try:
        answer = assistant.run(name, audio=recording.audio, progress=progress, **own)
    finally:
        progress.clear()
    if options.json:
        row = {**_rounded(asdict(replace(answer, audio=None))), "audio": recording.name}
        print(json.dumps(row, ensure_ascii=False), flush=True)
    elif options.times:
        _print_times(answer, f"{recording.name}\t" if several else "")
    else:
        print(head + answer.text, flush=True)
    _end(answer, options, recording)


def _end(answer: Answer, options: argparse.Namespace, recording: Recording) -> None:
    """Write what was said, and remark on an answer that is empty or ends early."""
    from speechllm import speak_commands

    if options.out is not None:
        speak_commands.write(answer, speak_commands.place(options.out, recording.name))
    _remark(answer, recording.name)


def _remark(answer: Answer, name: str) -> None:
    """Say on standard error why an answer is empty or ends early."""
    if answer.finish in FINISHES:
        head = f"{_called(name)}: " if name else ""  # a task that reads a text has no recording
        print(f"speechllm: {head}{FINISHES[answer.finish]}", file=sys.stderr, flush=True)


def _print_times(answer: Answer, head: str) -> None:
    for word in answer.words:
        print(f"{head}{word.start:.2f}\t{word.end:.2f}\t{word.text}")
    sys.stdout.flush()


def _rounded(value: Any) -> Any:
    """The same value with every float at four digits: times are known to hundredths of a second."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value


# tasks, train, weights


def tasks(options: argparse.Namespace) -> int:
    """The tasks with their slots and an example of each; of those named, the numbered wordings too."""
    from speechllm import tasks

    known = tasks.names()
    for name in options.names or known:
        task = known_task(name)
        print(f"{name}: {task.description}")
        for slot_name, slot in task.slots.items():
            need = "required" if slot.required else "optional"
            kind = "language by name or code, " if slot.kind == "language" else ""
            print(f"    {slot_name:12} {need}: {kind}{slot.description}")
        for example in task.examples:
            slots = "".join(f" --set {shlex.quote(f'{key}={value}')}" for key, value in example.items())
            heard, said = "" if task.reads else " clip.ogg", f" -o {task.name}.wav" if task.says else ""
            print(f"    $ speechllm run {shlex.quote(name)}{heard}{slots}{said}")
            wordings = task.wordings(example) if options.names else ()
            for wording in dict.fromkeys(wordings):  # one may be there twice, to be drawn more often in training
                print(f"        --wording {wordings.index(wording):<3} {wording}")
        print()
    if not options.names:
        print("speechllm tasks NAME lists a task's wordings. A task of your own is a YAML file like these:")
        print("speechllm run mine.yaml clip.ogg")
    return 0


def known_task(name: str) -> Task:
    """The task of that name or path; UsageError where there is none."""
    from speechllm import tasks

    try:
        return tasks.load(name)
    except TaskError as error:
        raise UsageError(str(error)) from error


def train(options: argparse.Namespace) -> int:
    """Train by a recipe, or go on with a run."""
    from speechllm.training import recipe

    recipe.run(options.recipe)
    return 0


def weights(options: argparse.Namespace) -> int:
    """Fetch weights and print their folders; without a name, list the names."""
    from speechllm import weights

    if not all(name.strip() for name in options.names):
        raise UsageError("an empty name")
    if not options.names:
        print("\n".join(weights.names()))
    failed = 0
    for name in options.names:
        try:
            print(weights.get(name, options.source), flush=True)
        except WeightsError as error:
            complain(error, name)
            failed = 1
    return failed
