"""The command `speechllm evaluate speak`, and the instruments that it hears with.

    speechllm evaluate speak sentences.jsonl --limit 100 --json report.json
    speechllm evaluate speak sentences.jsonl --voice me.wav --voice-text "What I say in it." --i-have-consent

Nothing heavy is imported before the command line is read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechllm.commands import UsageError
from speechllm.errors import DataError, TaskError

if TYPE_CHECKING:
    from speechllm.evaluation.spoken import Instruments, Say


def options(parser: argparse.ArgumentParser) -> None:
    """Give the parser of `evaluate` what only `speak` takes."""
    group = parser.add_argument_group("speak")
    group.add_argument("--voice", metavar="CLIP", type=Path, help="speak like this clip, where a row has no `voice`")
    group.add_argument("--voice-text", metavar="TEXT", help="what is said in that clip")
    group.add_argument(
        "--i-have-consent", action="store_true", help="the people whose voices are copied have agreed to it"
    )
    group.add_argument(
        "--page", metavar="FOLDER", type=Path,
        help="where to write the listening page (default: listening-DATA, or listening-OUT beside OUT)",
    )  # fmt: skip
    group.add_argument("--seed", metavar="N", type=_seed, help="of the drawing, the same for each row (default: 0)")


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def refuse(options: argparse.Namespace) -> None:
    """Raise UsageError for an option of `speak` that came with another task."""
    for name in ("voice", "voice_text", "i_have_consent", "page", "seed"):
        if getattr(options, name, None) not in (None, False):
            raise UsageError(f"--{name.replace('_', '-')} is for the task speak, not for {options.task!r}")


def evaluate(options: argparse.Namespace, assistant_factory: Callable[[argparse.Namespace], Any]) -> int:
    """Say a manifest's rows, print the figures and write a listening page; exit code 1 where a row gave no answer.

    assistant_factory: gives the loaded model for the options; called when everything else is known to be right.
    """
    from speechllm.evaluation import listening, spoken

    rows = _rows(options)
    page = _places(options)
    instruments = load_instruments()
    say = sayer(assistant_factory(options), consent=options.i_have_consent, seed=options.seed or 0)
    report = spoken.measure(say, rows, instruments, progress=sys.stderr.isatty())
    print(report.table(), flush=True)
    if options.json:
        report.save(options.json)
    print(f"listen: {listening.write(report, page, title=_stem(options.data))}", flush=True)
    return 1 if report.figures()["errors"] else 0


def _rows(options: argparse.Namespace) -> list:
    """The rows, once the options are known to be right."""
    from speechllm.audio import decode
    from speechllm.evaluation import spoken

    if getattr(options, "set", None) or getattr(options, "reader", "attention") != "attention":
        raise UsageError("speak takes no --set and no --reader: its texts and voices are in DATA.jsonl")
    if options.voice_text and not options.voice:
        raise UsageError("--voice-text is what is said in a clip: give it as --voice")
    if options.voice:
        next(decode.stream(str(options.voice)))  # a broken recording is known before a model loads
    chosen = {name: getattr(options, name, None) for name in ("split", "lang", "limit")}
    try:
        rows = spoken.read(options.data, voice=options.voice, voice_text=options.voice_text, **chosen)
    except TaskError as error:
        raise UsageError(str(error)) from error
    if not rows:
        raise DataError(f"{options.data}: no such row; see --split, --lang and --limit")
    if any(row.voice is not None for row in rows) and not options.i_have_consent:
        raise UsageError("a voice is copied only if its owner agreed: say so by --i-have-consent")
    return rows


def _places(options: argparse.Namespace) -> Path:
    """Folder of the page, made; UsageError or SpeechLLMError where it or the report cannot be written."""
    from speechllm.evaluation.commands import check_writable

    out = options.json
    if out and (out.is_dir() or not out.resolve().parent.is_dir()):
        raise UsageError(f"--json {out}: not a file in an existing folder")
    if out:
        check_writable(out)
    beside = out.with_name(f"listening-{out.stem}") if out else Path(f"listening-{_stem(options.data)}")
    page = options.page or beside
    try:
        page.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--page {page}: cannot be a folder: {error.strerror or error}") from error
    return page


def _stem(data: Path) -> str:
    """Name of a manifest without its endings, of a folder as it is."""
    name = data.resolve().name
    return name.removesuffix(".gz").rpartition(".")[0] or name


def sayer(assistant: Any, *, consent: bool, seed: int) -> Say:
    """Rows as `Assistant.run` says them, each with the same seed: any one can be said again alone."""

    def say(row: Any) -> Any:
        voice = {} if row.voice is None else {"voice": row.voice, "voice_text": row.voice_text, "consent": consent}
        return assistant.run("speak", text=row.text, language=row.lang, seed=seed, **voice)

    return say


def load_instruments(threads: int = 2) -> Instruments:
    """Whisper base, Resemblyzer's speaker encoder and DNSMOS, fetched on first use.

    Raises DataError when the package that runs Whisper is not installed, WeightsError when weights cannot be had.
    """
    from speechllm.evaluation.dnsmos import DNSMOS
    from speechllm.evaluation.speakers import SpeakerEncoder
    from speechllm.evaluation.spoken import HZ, Instruments
    from speechllm.evaluation.whisper_base import WhisperBase

    reader, speakers, scores = WhisperBase(threads), SpeakerEncoder.load(), DNSMOS()
    return Instruments(
        read=lambda clip, lang: reader.transcribe(clip.resampled(HZ).samples, lang),
        embed=lambda clip: speakers.embed(clip).numpy(),
        quality=lambda clip: scores.score(clip).overall,
    )
