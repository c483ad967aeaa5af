"""The rows of a manifest as a task is measured on them, each checked before the first one runs.

A row is any JSON object with `audio` (relative to the manifest) and the task's target field. A field
named like a slot fills it, `lang` fills a slot for the spoken language, and values set for the whole run
come before both. A target that is a map by language is looked up in the language that is asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechllm import fields, languages
from speechllm.data import corpora
from speechllm.errors import DataError, TaskError
from speechllm.tasks import SPOKEN_SLOTS, Task

_SINGULAR = {"answers": "answer", "answer": "answers"}  # a target field goes by either name
_LONGEST_SECONDS = 1e9  # more is no duration, and may not fit a float


@dataclass(frozen=True)
class EvaluationRow:
    """One row to run."""

    audio: Path
    shown: str  # the audio as the row names it
    slots: Mapping[str, str]
    references: tuple[str, ...]
    lang: str  # language of the answer, ISO 639-1
    spoken: str | None  # language that is spoken, where the row says it and it is one that can be read
    seconds: float | None
    fields: Mapping[str, Any]


class Rows(list[EvaluationRow]):
    """Rows to run, in the manifest's order."""

    left_out = 0  # rows, otherwise wanted, without a right answer in the target language


def read(
    path: str | Path,
    task: Task,
    *,
    split: str | None = None,
    lang: str | None = None,
    slots: Mapping[str, Any] | None = None,
    limit: int | None = None,
) -> Rows:
    """Rows of a manifest for a task, of one split and one spoken language if given; `slots` hold for all.

    Where the task has a target language, a row without a right answer in it is left out and counted; `limit`
    ends the reading after so many rows.
    Raises DataError, with the line, for a row that lacks its recording or right answer or has a field of the wrong
    kind; TaskError for a slot that is missing, or whose given value is wrong.
    """
    path = Path(path)
    path = path / "manifest.jsonl" if path.is_dir() else path
    wanted = languages.code(lang) if lang else None
    rows = Rows()
    for number, row in corpora.numbered_rows(path):
        if limit is not None and len(rows) >= limit:
            break
        where = f"{path}, line {number}"
        _check(row, where)
        if (split and row.get("split") != split) or (wanted and _code(row.get("lang")) != wanted):
            continue
        _check_is_there(path.parent, row["audio"], where)
        values = task.values(_slots(row, task, slots or {}, where))
        references = _references(row, task, values, where)
        if references is None:
            rows.left_out += 1
            continue
        spoken = _code(row.get("lang"))
        answered = languages.code(values["target"]) if _has_target(task) and "target" in values else spoken or "en"
        known = spoken if spoken in languages.NAMES else None
        audio = path.parent / row["audio"]
        rows.append(EvaluationRow(audio, row["audio"], values, references, answered, known, row.get("duration"), row))
    return rows


def _check(row: Mapping[str, Any], where: str) -> None:
    """Raise DataError for what every row must have."""
    audio, lang, seconds = row.get("audio"), row.get("lang"), row.get("duration")
    if audio is None:
        raise DataError(f"{where}: no field 'audio'")
    if not isinstance(audio, str):
        raise DataError(f"{where}: audio is the path of a recording, not {fields.shown(audio)}")
    if lang is not None and not isinstance(lang, str):
        raise DataError(f"{where}: lang is a language by name or code, not {fields.shown(lang)}")
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if seconds is not None and not (is_number and 0 <= seconds <= _LONGEST_SECONDS):
        raise DataError(f"{where}: duration is a number of seconds, not {fields.shown(seconds)}")


def _check_is_there(folder: Path, audio: str, where: str) -> None:
    """Raise DataError for a recording that is no file."""
    try:
        is_there = (folder / audio).is_file()
    except (OSError, ValueError):  # a path that no file can have
        is_there = False
    if not is_there:
        raise DataError(f"{where}: there is no recording {audio[:200]!r}; paths are relative to the manifest")


def _code(lang: Any) -> str | None:
    """ISO code of a row's language; one that is not known is kept as it is."""
    try:
        return languages.code(lang) if lang else None
    except TaskError:
        return str(lang)


def _has_target(task: Task) -> bool:
    """Whether the answer is in a language that a slot names."""
    return "target" in task.slots and task.slots["target"].kind == "language"


def _slots(row: Mapping[str, Any], task: Task, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Values of the slots: those given, else the row's fields, else the spoken language."""
    filled = dict(given)
    for name, slot in task.slots.items():
        if name in filled:
            continue
        value = row.get(name)
        if slot.kind == "language":
            # Manifests use such names for other things too: a `source` may be where the clip is from.
            candidates = [value, row.get("lang") if name in SPOKEN_SLOTS else None]
            value = next((one for one in candidates if isinstance(one, str) and _code(one) in languages.NAMES), None)
        elif value is not None and (isinstance(value, bool) or not isinstance(value, str | int | float)):
            raise DataError(f"{where}: {name} is a text, not {fields.shown(value)}")
        elif isinstance(value, str) and not value.strip():
            raise DataError(f"{where}: {name} is empty")
        if value is not None:
            filled[name] = value
    if _has_target(task) and "target" not in filled and isinstance(row.get(task.target), Mapping):
        only = list(row[task.target])
        if len(only) == 1:
            filled["target"] = only[0]
    return filled


def _references(row: Mapping[str, Any], task: Task, slots: Mapping[str, str], where: str) -> tuple[str, ...] | None:
    """The right answers; None where the row has none in the language that is asked for."""
    value = row.get(task.target, row.get(_SINGULAR.get(task.target, task.target)))
    wanted = _code(slots.get("target")) if _has_target(task) else None
    if isinstance(value, Mapping):
        wanted = wanted or _code(row.get("lang"))
        value = next((text for lang, text in value.items() if _code(lang) == wanted), None)
        if value is None:
            return None
    elif wanted:
        own = row.get("target")  # the language of a right answer that is no map
        own = _code(own) if isinstance(own, str) else None
        if value is None or (own in languages.NAMES and own != wanted):
            return None
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        value = [str(value)]
    if not value or not isinstance(value, Sequence) or not all(isinstance(one, str) for one in value):
        raise DataError(f"{where}: no right answer in the field {task.target!r}")
    return tuple(value)
