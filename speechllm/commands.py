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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechllm.errors import AudioError, DataError, SpeechLLMError, TaskError, WeightsError

if TYPE_CHECKING:
    from speechllm.assistant import Answer, Assistant
    from speechllm.audio.decode import AudioLimits
    from speechllm.tasks import Task

SPOKEN_SLOTS = ("language", "source")  # slots that --lang fills: the language that is spoken
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

    limits = _limits(seconds)
    recordings = []
    for name in names:
        audio: str | bytes = _standard_input(limits.bytes) if name == "-" else name
        try:
            next(stream(audio, limits))
            recordings.append(Recording(name, audio))
        except (AudioError, OSError) as error:
            complain(error, "standard input" if name == "-" else name)
            recordings.append(Recording(name, None))
    return recordings


def _limits(seconds: float | None) -> AudioLimits:
    from speechllm.audio.decode import AudioLimits

    return AudioLimits() if seconds is None else AudioLimits(seconds=seconds)


def _standard_input(most_bytes: int) -> bytes:
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("'-' reads audio from standard input: pipe a recording into it")
    return sys.stdin.buffer.read(most_bytes + 1)


def _assistant(options: argparse.Namespace) -> Assistant:
    from speechllm.assistant import Assistant

    if options.device and options.device.startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            raise SpeechLLMError(f"there is no GPU for --device {options.device}; leave it out to do without")
    limits = _limits(getattr(options, "max_seconds", None))
    return Assistant(options.model, device=options.device, limits=limits)


class Progress:
    """How much of a long recording is heard: a line that is rewritten, or one every few seconds in a log."""

    def __init__(self, name: str, audio: str | bytes) -> None:
        self.name, self.audio = name, audio
        self.total: float | None = None
        self.is_terminal = sys.stderr.isatty()
        self.is_shown, self.last = False, time.monotonic()

    def __call__(self, done: float, _: float) -> None:
        if done < SHOWN_AFTER and not self.is_shown:
            return
        if self.total is None:
            self.total = _declared_seconds(self.audio)
        of_all = f" of {_minutes(self.total)}" if self.total >= done else ""
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


def _declared_seconds(audio: str | bytes) -> float:
    """Seconds as the header has them; 0 where it does not say."""
    import soundfile

    try:
        return 0.0 if isinstance(audio, bytes) else float(soundfile.info(audio).duration)
    except (OSError, RuntimeError):
        return 0.0


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


# run, ask


def run(options: argparse.Namespace) -> int:
    """Answer a task about each recording."""
    task, slots = _checked(options.task, options.set, options.lang, options.wording, options.reader)
    return _answer_all(options, task, slots)


def ask(options: argparse.Namespace) -> int:
    """Answer a question about a recording."""
    task, slots = _checked("ask", [("question", options.question)], None, options.wording, "attention")
    options.audio, options.reader = [options.audio], "attention"
    return _answer_all(options, task, slots)


def _checked(
    name: str, given: Sequence[tuple[str, str]], lang: str | None, wording: int | None, reader: str
) -> tuple[Task, dict[str, str]]:
    """The task and its slots, or UsageError: a wrong slot must not wait for a model to load."""
    task, slots = _task(name), dict(given)
    try:
        if lang is not None:
            spoken = next((slot for slot in SPOKEN_SLOTS if slot in task.slots), None)
            if spoken is None:
                raise TaskError(f"task {task.name!r} has no slot for the spoken language: leave --lang out")
            slots.setdefault(spoken, lang)
        task.instruction(slots, wording)
    except TaskError as error:
        raise UsageError(str(error)) from error
    _check_reader(reader, task)
    return task, slots


def _check_reader(reader: str, task: Task) -> None:
    if reader == "ctc" and task.name != "transcribe":
        raise UsageError(f"--reader ctc, the first pass alone, only transcribes: not for task {task.name!r}")


def _answer_all(options: argparse.Namespace, task: Task, slots: Mapping[str, str]) -> int:
    recordings = _recordings(options.audio, options.max_seconds)
    if all(recording.audio is None for recording in recordings):
        return 1
    assistant = _assistant(options)
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
            complain(error, recording.name)
            code = 1
    return code


def _answer_one(
    assistant: Assistant,
    options: argparse.Namespace,
    task: Task,
    slots: Mapping[str, str],
    recording: Recording,
    several: bool,
) -> None:
    assert recording.audio is not None
    own: dict[str, Any] = {**slots, "wording": options.wording, "reader": options.reader}
    head = f"{recording.name}: " if several else ""
    # The task goes by the name under which it was given: a path stays one.
    name = getattr(options, "task", task.name)
    if options.stream:
        print(head, end="", flush=True)
        try:
            for piece in assistant.stream(name, audio=recording.audio, **own):
                print(piece, end="", flush=True)
        finally:
            print(flush=True)
        return
    progress = Progress(recording.name, recording.audio)
    try:
        answer = assistant.run(name, audio=recording.audio, progress=progress, **own)
    finally:
        progress.clear()
    if options.json:
        row = {"audio": recording.name, **_rounded(asdict(answer))}
        print(json.dumps(row, ensure_ascii=False), flush=True)
    elif options.times:
        _print_times(answer, f"{recording.name}\t" if several else "")
    else:
        print(head + answer.text, flush=True)


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


# tasks, evaluate, train, weights


def tasks(options: argparse.Namespace) -> int:
    """The tasks with their slots and an example of each; of those named, the numbered wordings too."""
    from speechllm import tasks

    known = tasks.names()
    for name in options.names or known:
        task = _task(name)
        print(f"{name}: {task.description}")
        for slot_name, slot in task.slots.items():
            need = "required" if slot.required else "optional"
            kind = "language by name or code, " if slot.kind == "language" else ""
            print(f"    {slot_name:12} {need}: {kind}{slot.description}")
        for example in task.examples:
            slots = "".join(f" --set {shlex.quote(f'{key}={value}')}" for key, value in example.items())
            print(f"    $ speechllm run {shlex.quote(name)} clip.ogg{slots}")
            for number, wording in enumerate(task.wordings(example) if options.names else ()):
                print(f"        --wording {number:<3} {wording}")
        print()
    if not options.names:
        print("speechllm tasks NAME lists a task's wordings. A task of your own is a YAML file like these:")
        print("speechllm run mine.yaml clip.ogg")
    return 0


def _task(name: str) -> Task:
    from speechllm import tasks

    try:
        return tasks.load(name)
    except TaskError as error:
        raise UsageError(str(error)) from error


def evaluate(options: argparse.Namespace) -> int:
    """Run a task on a manifest's rows and print the figures; exit code 1 where no row gave an answer."""
    from itertools import islice

    from speechllm.evaluation import runner

    task = _task(options.task)
    out = options.json
    if out and (out.is_dir() or not out.resolve().parent.is_dir()):
        raise UsageError(f"--json {out}: not a file in an existing folder")
    _check_reader(options.reader, task)
    slots = dict(options.set)
    try:
        rows = runner.read(options.data, task, split=options.split, lang=options.lang, slots=slots)
        rows = list(islice(rows, options.limit))
    except TaskError as error:
        raise UsageError(str(error)) from error
    if not rows:
        raise DataError(f"{options.data}: no such row with a {task.target!r}; see --split, --lang and --limit")
    assistant = _assistant(options)

    def run(_: Task, audio: Path, **slots: Any) -> Answer:
        return assistant.run(options.task, audio=audio, reader=options.reader, **slots)

    report = runner.evaluate(run, task, rows, progress=sys.stderr.isatty())
    if out:
        report.save(out)
    print(report.table())
    return 1 if report.errors == report.n else 0


def train(options: argparse.Namespace) -> int:
    """Train by a recipe, or go on with a run."""
    from speechllm.training import recipe

    recipe.run(options.recipe)
    return 0


def weights(options: argparse.Namespace) -> int:
    """Fetch weights and print their folders; without a name, list the names."""
    from speechllm import weights

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
