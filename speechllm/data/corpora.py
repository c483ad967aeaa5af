"""Corpora on disk: recordings by manifest, and texts in gzip-compressed JSON lines.

A manifest is a `manifest.jsonl` whose rows carry `audio` (relative to it), `text`, `lang`, `speaker`,
`split`, `duration`. The folder of all sets is `SPEECHLLM_DATA`, or `../shared/data` beside the checkout.
"""

import gzip
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from speechllm import fields
from speechllm.errors import DataError

FOLDER_VARIABLE = "SPEECHLLM_DATA"
_KNOWN = {"audio", "text", "lang", "speaker", "split", "duration"}


@dataclass(frozen=True)
class Example:
    """One recording of a corpus."""

    audio: Path
    text: str | None  # None where nobody wrote down what is said
    lang: str  # ISO 639-1; empty where the recording holds no speech
    split: str  # "train" or "eval"
    speaker: str | None = None
    seconds: float | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)  # every other field of the row


def data_folder() -> Path:
    """Folder that holds `speech/` and `texts/`; it need not exist."""
    given = os.environ.get(FOLDER_VARIABLE)
    return Path(given).expanduser() if given else Path(__file__).parents[2].parent / "shared" / "data"


def rows(path: str | Path) -> Iterator[dict[str, Any]]:
    """Rows of a JSON lines file, plain or gzip-compressed (".gz"); empty lines are passed over.

    Raises DataError that names the file and the line.
    """
    return (row for _, row in numbered_rows(path))


def numbered_rows(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """`rows` with the number of each one's line, from 1."""
    path, number = Path(path), 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):  # as bytes: text is decoded ahead, past the bad line
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")  # some editors begin with a mark
                if text.strip():
                    row = json.loads(text)
                    if not isinstance(row, dict):
                        raise DataError(f"{path}, line {number}: a row is a JSON object, not {fields.shown(row)}")
                    yield number, row
    except RecursionError as error:
        raise DataError(f"{path}, line {number}: nested too deep") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, line {number}: not UTF-8 ({error.reason})") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {number}: not JSON ({error.msg}, column {error.colno})") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def manifest(path: str | Path, split: str | None = None, lang: str | None = None) -> Iterator[Example]:
    """Recordings of a manifest (or of the folder that holds it), one split and one language if given.

    Raises DataError for a row without `audio`.
    """
    path = Path(path)
    path = path / "manifest.jsonl" if path.is_dir() else path
    for row in rows(path):
        if "audio" not in row:
            raise DataError(f"{path}: a row has no field 'audio': {json.dumps(row)[:80]}")
        example = Example(
            audio=path.parent / row["audio"],
            text=_unquoted(row["text"]) if row.get("text") else row.get("text"),
            lang=row.get("lang") or "",
            split=row.get("split") or "train",
            speaker=row.get("speaker"),
            seconds=row.get("duration"),
            fields={name: value for name, value in row.items() if name not in _KNOWN},
        )
        if split in (None, example.split) and lang in (None, example.lang):
            yield example


def speech(name: str, split: str | None = None, lang: str | None = None) -> Iterator[Example]:
    """Recordings of the shared set `name`, say "librispeech_test_other"."""
    return manifest(data_folder() / "speech" / name, split, lang)


def texts(name: str) -> Iterator[dict[str, Any]]:
    """Rows of a shared set of texts, say "translation/en-de.train" or "questions/eval"."""
    return rows(data_folder() / "texts" / f"{name}.jsonl.gz")


def _unquoted(text: str) -> str:
    """Undo the quoting of a table that was stored as text: `"He said ""no""."` is He said "no"."""
    if '""' not in text:
        return text
    is_whole = len(text) > 2 and text[0] == text[-1] == '"' and text.count('"') % 2 == 0
    return (text[1:-1] if is_whole else text).replace('""', '"')
