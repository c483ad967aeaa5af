"""Tasks as data: a YAML file in `tasks/` says what goes in, what comes out, and how to ask for it.

    name: translate
    description: Translate speech into another language.
    slots:
      target: {kind: language, required: true, description: language to translate into}
    prompt: translate          # prompts/translate.txt, or a .txt file beside the YAML
    target: translation        # field of a manifest that holds the right answer
    metrics: [bleu, chrf]
    max_new_tokens: 256
    examples:
      - {target: German}

A task is a pure function of slots and a wording to an instruction; adding one touches no Python.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from speechllm import fields, languages, prompts
from speechllm.errors import TaskError
from speechllm.prompts import Wordings, data_folder

__all__ = ["Slot", "Task", "data_folder", "load", "names"]

SPOKEN_SLOTS = ("language", "source")  # slots that say which language is spoken
_KINDS = ("text", "language")
_FLAGS = ("by_stretch", "copies", "says")
_SLOT_FIELDS = ("reads", "says_in")
_FIELDS = {"name", "description", "slots", "prompt", "target", "metrics", "max_new_tokens", "examples", *_FLAGS}
_FIELDS |= set(_SLOT_FIELDS)
# what a request takes beside the slots, and the arguments of `Assistant.run`: no slot can be called so
RESERVED = frozenset(
    {
        "reader",
        "reading",
        "wording",
        "check",
        "draft",
        "held_out",
        "max_new_tokens",
        "voice",
        "voice_text",
        "consent",
        "seed",
        "best_of",
        "progress",
        "audio",
        "task",
        "self",
    }
)


@dataclass(frozen=True)
class Slot:
    """One value that a task takes beside the audio."""

    required: bool = False
    description: str = ""
    kind: str = "text"  # "text", or "language": by English name or code, spoken as the name
    several: bool = False  # a language slot that takes more than one: "German or English"

    def value(self, given: Any) -> str:
        """The value as the prompt says it. Raises TaskError for an unknown language or an empty text."""
        if self.kind == "language":
            many = given if isinstance(given, Sequence) and not isinstance(given, str) else str(given).split(",")
            spoken = [languages.name(str(one)) for one in many]
            if not spoken or (len(spoken) > 1 and not self.several):
                raise TaskError(f"one language is wanted, not {given!r}")
            return " or ".join(spoken)
        text = str(given).strip()
        if not text:
            raise TaskError("an empty text is not a value")
        return text


@dataclass(frozen=True)
class Task:
    """What a task takes, asks and is measured by."""

    name: str
    description: str
    slots: Mapping[str, Slot]
    prompt: str  # name in prompts/, or the path of a text file
    target: str  # field of a manifest row that holds the right answer
    metrics: tuple[str, ...]
    max_new_tokens: int = 256
    examples: tuple[Mapping[str, str], ...] = ()  # slot values to show
    by_stretch: bool = False  # a long recording is answered stretch by stretch, not as one text
    copies: bool = False  # the answer is nearly what was read: it is drafted with the reading and bounded by it
    reads: str = ""  # slot whose text stands in place of a recording; empty: a recording is heard
    says: bool = False  # the answer is said aloud too
    says_in: str = ""  # slot with the language in which it is said; empty: the one that was heard

    def values(self, slots: Mapping[str, Any]) -> dict[str, str]:
        """Checked values of the given slots, languages by English name; a slot given as None is left out.

        Raises TaskError that names the missing, unknown or wrong slot.
        """
        given = {name: value for name, value in slots.items() if value is not None}
        unknown = sorted(map(str, set(given) - set(self.slots)))
        if unknown:
            known = ", ".join(self.slots) or "none"
            raise TaskError(f"task {self.name!r} has no slot {unknown[0]!r} (its slots: {known})")
        for name, slot in self.slots.items():
            if slot.required and name not in given:
                raise TaskError(f"task {self.name!r} needs the slot {name!r}: {slot.description}")
        values = {}
        for name, value in given.items():
            try:
                values[name] = self.slots[name].value(value)
            except TaskError as error:
                raise TaskError(f"slot {name!r} of task {self.name!r}: {error}") from error
        return values

    def wordings(self, slots: Mapping[str, Any], held_out: bool = False) -> tuple[str, ...]:
        """The unfilled wordings that say as many of the given slots as any wording of the prompt does."""
        both: Wordings = prompts.load(self.prompt)
        given = {name for name, value in slots.items() if value is not None}
        usable = [(prompts.slots_of(w), w) for w in (both.held_out if held_out else both.train)]
        usable = [(named, w) for named, w in usable if named <= given]
        if not usable:
            kind = "held-out " if held_out else ""
            raise TaskError(f"prompt {self.prompt!r} has no {kind}wording for the slots {sorted(given)}")
        most = max(len(named) for named, _ in usable)
        return tuple(w for named, w in usable if len(named) == most)

    def instruction(self, slots: Mapping[str, Any], wording: int | None = None, held_out: bool = False) -> str:
        """The filled instruction: wording number `wording` (None: the first) of those that fit the slots.

        Raises TaskError for wrong slots or a wording that does not exist.
        """
        values = self.values(slots)
        fitting = self.wordings(values, held_out)
        number = 0 if wording is None else wording
        if not 0 <= number < len(fitting):
            raise TaskError(f"task {self.name!r} has wordings 0 to {len(fitting) - 1} for these slots, not {number}")
        return prompts.fill(fitting[number], values)


def names() -> list[str]:
    """Names of the tasks that come with the package."""
    return sorted(path.stem for path in data_folder("tasks").glob("*.yaml"))


def load(task: "str | Path | Task") -> Task:
    """A task by name, or from a YAML file of one's own, read anew when it has changed; a Task is given back as it is.

    Raises TaskError that says what is wrong with it.
    """
    if isinstance(task, Task):
        return task
    path = Path(task) if isinstance(task, (str, Path)) else Path(str(task))
    is_own = path.suffix in (".yaml", ".yml")
    place = path if is_own else data_folder("tasks") / f"{path}.yaml"
    try:
        return _load(place.absolute(), prompts.stamp(place))
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        if is_own:
            raise TaskError(f"cannot read the task {str(path)[:200]!r}: {_why(error)}") from error
        known = ", ".join(names())
        raise TaskError(f"no task {str(task)[:80]!r}: use one of {known} or the path of a YAML") from error


def _why(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)


@lru_cache(maxsize=64)
def _load(path: Path, _: tuple[int, ...]) -> Task:
    try:
        content = fields.read_yaml(path)
    except ValueError as error:
        raise TaskError(f"cannot read the task {path}: {error}") from error
    return _task(content, path)


def _task(content: Any, path: Path) -> Task:
    if not isinstance(content, dict):
        raise TaskError(f"{path}: a task is a mapping with the fields {', '.join(sorted(_FIELDS))}")
    if unknown := sorted(map(str, set(content) - _FIELDS)):
        raise TaskError(f"{path}: unknown field {unknown[0]!r} (known: {', '.join(sorted(_FIELDS))})")
    for field in ("name", "prompt", "target"):
        if not isinstance(content.get(field), str) or not content[field].strip():
            raise TaskError(f"{path}: the field {field!r} must be a text")
    for field, kind in (("slots", dict), ("metrics", list), ("examples", list)):
        if not isinstance(content.get(field) or kind(), kind):
            raise TaskError(f"{path}: the field {field!r} must be a {'mapping' if kind is dict else 'list'}")
    description = content.get("description") or ""
    if not isinstance(description, str):
        raise TaskError(f"{path}: the field 'description' must be a text, not {fields.shown(description)}: quote it")
    beside = path.parent / content["prompt"]
    more: dict[str, Any] = {flag: _flag(content, flag, path) for flag in _FLAGS}
    more |= {field: _slot_field(content, field, path) for field in _SLOT_FIELDS}
    task = Task(
        name=content["name"],
        description=description.strip(),
        slots={name: _slot(name, slot, path) for name, slot in (content.get("slots") or {}).items()},
        prompt=str(beside) if beside.suffix == ".txt" else content["prompt"],
        target=content["target"],
        metrics=_metrics(content.get("metrics") or (), path),
        max_new_tokens=_positive(content.get("max_new_tokens", Task.max_new_tokens), path),
        examples=tuple(content.get("examples") or ()),
        **more,
    )
    _check_examples(task, path)
    return task


def _flag(content: Mapping[str, Any], name: str, path: Path) -> bool:
    value = content.get(name, False)
    if not isinstance(value, bool):
        raise TaskError(f"{path}: {name} is true or false, not {fields.shown(value)}")
    return value


def _slot_field(content: Mapping[str, Any], field: str, path: Path) -> str:
    """The name of a slot that a field gives; empty where it is not there."""
    name, slots = content.get(field) or "", content.get("slots") or {}
    if name and (not isinstance(name, str) or name not in slots):
        raise TaskError(f"{path}: {field} is the name of a slot, not {fields.shown(name)}")
    slot = slots.get(name) or {}
    if name and field == "says_in" and slot.get("kind") != "language":
        raise TaskError(f"{path}: says_in: the slot {name!r} must be of kind language")
    if name and field == "reads" and not slot.get("required"):
        raise TaskError(f"{path}: reads: the slot {name!r} must be required")
    return name


def _slot(name: Any, content: Any, path: Path) -> Slot:
    if not isinstance(name, str) or not prompts.is_slot(name):
        shown = fields.shown(name)
        raise TaskError(f"{path}: slot {shown}: a name has letters, digits and underscores, no digit first")
    if name in RESERVED:
        raise TaskError(f"{path}: slot {name!r}: a request takes something else by that name; call the slot otherwise")
    if said := fields.wrong(Slot, {} if content is None else content):
        raise TaskError(f"{path}: slot {name!r}: {said}")
    slot = Slot(**(content or {}))
    if slot.kind not in _KINDS:
        raise TaskError(f"{path}: slot {name!r}: kind is one of {', '.join(_KINDS)}, not {fields.shown(slot.kind)}")
    return slot


def _metrics(given: Sequence[Any], path: Path) -> tuple[str, ...]:
    from speechllm.evaluation.metrics import METRICS

    for name in given:
        if not isinstance(name, str) or name not in METRICS:
            raise TaskError(f"{path}: unknown metric {fields.shown(name)}: use {', '.join(METRICS)}")
    return tuple(given)


def _check_examples(task: Task, path: Path) -> None:
    for example in task.examples:
        if not isinstance(example, Mapping) or not all(isinstance(value, str) for value in example.values()):
            raise TaskError(f"{path}: an example is a mapping of slots to texts, not {fields.shown(example)}")
        try:
            task.values(example)
        except TaskError as error:
            raise TaskError(f"{path}: example {fields.shown(dict(example))}: {error}") from error


def _positive(number: Any, path: Path) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise TaskError(f"{path}: max_new_tokens must be a whole number above 0, not {fields.shown(number)}")
    return number
