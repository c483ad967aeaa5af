"""The command `speechllm evaluate`: a task on a manifest's rows, and its figures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechllm import commands
from speechllm.commands import UsageError
from speechllm.errors import DataError, SpeechLLMError, TaskError

if TYPE_CHECKING:
    from speechllm.answer import Answer
    from speechllm.tasks import Task


def evaluate(options: argparse.Namespace) -> int:
    """Run a task on a manifest's rows and print the figures; exit code 1 where a row gave no answer."""
    from speechllm.evaluation import runner, spoken_commands

    if options.task == "speak":
        return spoken_commands.evaluate(options, commands.open_assistant)
    spoken_commands.refuse(options)
    task = commands.known_task(options.task)
    out = options.json
    if out and (out.is_dir() or not out.resolve().parent.is_dir()):
        raise UsageError(f"--json {out}: not a file in an existing folder")
    commands.check_reader(options.reader, task)
    slots = commands.once(options.set)
    try:
        chosen = {"split": options.split, "lang": options.lang, "limit": options.limit}
        rows = runner.read(options.data, task, slots=slots, **chosen)
    except TaskError as error:
        raise UsageError(str(error)) from error
    lacking = f"without a {task.target!r} in the target language"
    if not rows and rows.left_out:
        raise DataError(f"{options.data}: all {rows.left_out} rows are {lacking}; see --set target=")
    if not rows:
        raise DataError(f"{options.data}: no such row; see --split, --lang and --limit")
    runner.check(rows, task)
    if out:
        check_writable(out)
    if rows.left_out:
        print(f"speechllm: {options.data}: {rows.left_out} rows {lacking} are left out", file=sys.stderr, flush=True)
    assistant = commands.open_assistant(options)

    def run(_: Task, audio: Path, **slots: Any) -> Answer:
        return assistant.run(options.task, audio=audio, reader=options.reader, **slots)

    report = runner.evaluate(run, task, rows, progress=sys.stderr.isatty())
    print(report.table(), flush=True)
    if out:
        report.save(out)
    return 1 if report.errors else 0


def check_writable(path: Path) -> None:
    """Raise SpeechLLMError where a report cannot be written: that is known before anything runs."""
    is_new = not path.exists()
    if not is_new and not path.is_file():
        return  # a pipe or device: opened once, to write
    try:
        path.open("a").close()
        if is_new:
            path.unlink()
    except OSError as error:
        raise SpeechLLMError(f"cannot write {path}: {error.strerror or error}") from error
