"""The command `speechllm detect`: whether recordings carry the mark and the tag of generated speech.

    speechllm detect answer.mp3 talk.ogg

Nothing heavy is imported before the command line is read.
"""

from __future__ import annotations

import argparse
import json

from speechllm.commands import complain
from speechllm.errors import AudioError

SAYS = "tell whether recordings are speech that this package generated"
EXAMPLES = """\
examples:
  speechllm detect answer.mp3
  speechllm detect *.wav --json

The mark is in the sound and outlasts MP3, telephone sound and cuts; the tag is a note in the file that anyone
can strip or forge. A file that cannot be read gives a line on standard error and exit code 1; the others are told.
"""


def options(parser: argparse.ArgumentParser) -> None:
    """Give the parser of `detect` its options."""
    parser.add_argument("files", metavar="FILE", nargs="+", help="recordings")
    parser.add_argument("--json", action="store_true", help="one JSON object a recording")


def detect(options: argparse.Namespace) -> int:
    """Say of each file in one line whether the mark is in it; exit code 1 if one could not be read."""
    code = 0
    for name in options.files:
        try:
            print(_told(name, options.json), flush=True)
        except AudioError as error:
            complain(error, name)
            code = 1
    return code


def _told(name: str, as_json: bool) -> str:
    from speechllm.audio import mark
    from speechllm.audio.decode import load
    from speechllm.audio.save import tag

    found = mark.detect(load(name))
    comment = tag(name)
    if as_json:
        told = {
            "file": name,
            "is_marked": found.is_marked,
            "score": round(found.score, 2),
            "threshold": round(found.threshold, 2),
            "tag": comment,
        }
        return json.dumps(told, ensure_ascii=False)
    tagged = f"; tag: {comment}" if comment else ""
    head = "generated (mark found, " if found.is_marked else "no mark found ("
    return f"{name}: {head}score {found.score:.1f}{tagged})"
