"""What the command line does with speech that is made: `speechllm speak`, and the output of tasks that speak."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechllm.commands import UsageError, complain, open_assistant, standard_input
from speechllm.errors import TaskError

if TYPE_CHECKING:
    from speechllm.answer import Answer
    from speechllm.tasks import Task

SAYS = "say a text aloud"
EXAMPLES = """\
examples:
  speechllm speak "Good morning." -o morning.wav
  speechllm speak "Guten Morgen." --lang de -o morgen.mp3
  speechllm speak "Good morning." --voice me.wav --i-have-consent -o me.wav
  speechllm speak --lines sentences.txt -o folder      0001.wav, 0002.wav ..., a file a line
  echo "Good morning." | speechllm speak - -o morning.wav

The file's name says which format: .wav, .flac, .ogg, .opus, .mp3. What is made carries a tag and an inaudible mark,
which `speechllm detect FILE` finds. A voice is a few seconds of one person speaking, and needs that person's consent.
"""
LINES_SUFFIX = ".wav"


def options(parser: argparse.ArgumentParser) -> None:
    """Give the parser of `speak` its arguments."""
    parser.add_argument("text", metavar="TEXT", nargs="?", help="what to say; - reads it from standard input")
    parser.add_argument("--lines", metavar="FILE", help="say each line of a file, to files in a folder")
    parser.add_argument("--lang", metavar="LANGUAGE", help="language of the text, by name or code (default: English)")
    sound_options(parser)


def sound_options(parser: argparse.ArgumentParser) -> None:
    """Arguments of everything that makes speech."""
    group = parser.add_argument_group("speech")
    group.add_argument("-o", "--out", metavar="FILE|FOLDER", type=Path, help="where the sound is written")
    group.add_argument("--voice", metavar="CLIP", help="speak like whoever speaks in this recording")
    group.add_argument("--voice-text", metavar="TEXT", help="what is said in it (default: it is read)")
    group.add_argument(
        "--i-have-consent", action="store_true", help="whoever speaks in the recording has agreed to be copied"
    )
    group.add_argument("--seed", metavar="N", type=int, help="the same seed says it the same way (default: 0)")
    group.add_argument(
        "--best-of", metavar="N", type=int, help="say each sentence N times and keep the one best understood"
    )


def given(options: argparse.Namespace) -> dict[str, Any]:
    """The options of `Assistant.run` about speech that were given."""
    found = {name: getattr(options, name) for name in ("voice", "voice_text", "seed", "best_of")}
    found = {name: value for name, value in found.items() if value is not None}
    return {**found, "consent": True} if options.i_have_consent and "voice" in found else found


def check_out(options: argparse.Namespace, task: Task, several: bool = False) -> None:
    """Raise UsageError unless the task speaks and there is a place for its sound, or neither."""
    from speechllm.audio.save import FORMATS

    out = options.out
    if not task.says:
        if out is not None:
            raise UsageError(f"-o takes the sound of tasks that speak, such as reply: not of task {task.name!r}")
        return
    if out is None:
        raise UsageError(f"task {task.name!r} speaks: say where to with -o FILE, such as -o {task.name}.wav")
    if several:
        if not out.is_dir():
            raise UsageError(f"-o {out}: with several recordings it is an existing folder")
        places = [place(out, name) for name in options.audio]
        taken = {Path(name).resolve() for name in options.audio}
        if twice := [each for each in places if places.count(each) > 1 or each.resolve() in taken]:
            raise UsageError(f"-o {out}: {twice[0].name} in it would be written over; name another folder")
        return
    if out.is_dir() or not out.resolve().parent.is_dir():
        raise UsageError(f"-o {out}: not a file in an existing folder")
    if out.suffix.lower() not in FORMATS:
        raise UsageError(f"-o {out}: the file's name ends in {', '.join(FORMATS)}")


def place(out: Path, name: str) -> Path:
    """Where the sound about a recording goes: into a folder, by its name, or to the file itself."""
    return out / f"{Path(name).stem}{LINES_SUFFIX}" if out.is_dir() else out


def write(answer: Answer, out: Path) -> None:
    """Write what was said, and say in a line on standard error what it is."""
    if answer.audio is None:
        return
    answer.audio.save(out, answer.text)
    took = answer.timings["say"]
    cut = "; a sound was cut where it went on and on" if answer.finish == "length" else ""
    print(f"{out}: {answer.audio.seconds:.2f} s of speech, made in {took:.2f} s{cut}", file=sys.stderr, flush=True)


def speak(options: argparse.Namespace) -> int:
    """Say a text, or each line of a file; exit code 1 where one could not be said."""
    from speechllm import request, tasks

    if (options.text is None) == (options.lines is None):
        raise UsageError("give a TEXT, or a file of them as --lines, and not both")
    task = tasks.load("speak")
    if options.lines is None:
        check_out(options, task)
        jobs = [(options.out, _text(options.text))]
    else:
        jobs = list(_lines(options))
    own = {"language": options.lang, **given(options)}
    try:
        for _, text in jobs[:1]:
            request.checked("speak", {"text": text, **own})
    except TaskError as error:
        raise UsageError(str(error)) from error
    assistant, failed = open_assistant(options), 0
    for out, text in jobs:
        try:
            write(assistant.run("speak", text=text, **own), out)
        except Exception as error:  # one line must not stop the others
            if options.debug:
                raise
            complain(error, out.name if options.lines else "")
            failed += 1
    return int(failed > 0)


def _text(given: str) -> str:
    if given != "-":
        return given
    text = standard_input(request_bytes()).decode("utf-8", "replace").strip()
    if not text:
        raise UsageError("no text came in on standard input")
    return text


def request_bytes() -> int:
    """Most bytes of a text that are read."""
    from speechllm.request import LONGEST_TEXT

    return 4 * LONGEST_TEXT


def _lines(options: argparse.Namespace) -> Iterator[tuple[Path, str]]:
    """Where each line of --lines goes, and what it says; empty lines are passed over and counted."""
    if options.out is None:
        raise UsageError("--lines writes several files: say where to with -o FOLDER")
    try:
        lines = Path(options.lines).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--lines {options.lines}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from error
    if not any(line.strip() for line in lines):
        raise UsageError(f"--lines {options.lines}: there is nothing to say in it")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"-o {options.out}: cannot be a folder: {error.strerror or error}") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield options.out / f"{number:04d}{LINES_SUFFIX}", line.strip()
