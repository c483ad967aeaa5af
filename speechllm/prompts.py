"""Wordings of an instruction, read from `prompts/*.txt`.

One wording a line; `#` opens a comment line; lines below a line `[held out]` are kept out of training, so
that an evaluation can ask in words the model has never met. `{name}` marks a slot: letters, digits and underscores,
no digit first. Other braces, as of a piece of JSON, are text.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from speechllm.errors import TaskError

HELD_OUT_LINE = "[held out]"
_SLOT = re.compile(r"\{([^\W\d]\w*)\}")
_NEARLY_SLOT = re.compile(r"\{[\w\s.-]*\}")  # braces around words that no slot can be called


@dataclass(frozen=True)
class Wordings:
    """The wordings of one instruction."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]


def parse(text: str) -> Wordings:
    """Wordings of the text of a prompt file."""
    parts: dict[bool, list[str]] = {False: [], True: []}
    held_out = False
    for line in map(str.strip, text.splitlines()):
        if line.lower() == HELD_OUT_LINE:
            held_out = True
        elif line and not line.startswith("#"):
            parts[held_out].append(line)
    return Wordings(tuple(parts[False]), tuple(parts[True]))


def load(name: str | Path) -> Wordings:
    """Wordings of the prompt `name` ("translate", "follow/upper_case") or of a text file given by its path.

    Read anew when the file has changed. Raises TaskError when there is no such prompt, when it holds no wording to
    train on, or braces that are nearly a slot.
    """
    path = Path(name)
    if path.suffix != ".txt":
        path = data_folder("prompts") / f"{name}.txt"
    try:
        return _load(path.absolute(), stamp(path))
    except (OSError, ValueError) as error:
        raise TaskError(f"cannot read the prompt {str(name)!r} from {str(path)!r}: {error}") from error


@lru_cache(maxsize=256)
def _load(path: Path, _: tuple[int, ...]) -> Wordings:
    wordings = parse(path.read_text(encoding="utf-8"))
    if not wordings.train:
        raise TaskError(f"{path}: no wording above the line {HELD_OUT_LINE!r}")
    for wording in (*wordings.train, *wordings.held_out):
        for braces in _NEARLY_SLOT.findall(wording):
            if not _SLOT.fullmatch(braces):
                raise TaskError(f"{path}: {braces} cannot be a slot: letters, digits and underscores, no digit first")
    return wordings


def stamp(path: Path) -> tuple[int, ...]:
    """What changes when a file does. Raises OSError or ValueError for a path that cannot be."""
    state = os.stat(path)
    return state.st_dev, state.st_ino, state.st_mtime_ns, state.st_size


def is_slot(name: str) -> bool:
    """Whether `{name}` in a wording is a slot."""
    return _SLOT.fullmatch(f"{{{name}}}") is not None


def slots_of(wording: str) -> frozenset[str]:
    """Names of the slots that a wording mentions."""
    return frozenset(_SLOT.findall(wording))


def fill(wording: str, values: Mapping[str, str]) -> str:
    """The wording with its slots filled, in one pass: braces inside a value stay text.

    Raises TaskError for a slot without a value.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise TaskError(f"the wording {wording!r} needs a value for {match[1]!r}")
        return values[match[1]]

    return _SLOT.sub(value, wording)


def data_folder(kind: str) -> Path:
    """Folder of the data files `kind` ("tasks", "prompts", "recipes"), in a wheel or a checkout."""
    package = Path(__file__).parent
    carried = package / "_data" / kind
    return carried if carried.is_dir() else package.parent / kind
