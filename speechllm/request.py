"""A request for one task about one recording, checked before any work is done for it."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from speechllm import languages, tasks
from speechllm.audio.clip import Clip
from speechllm.errors import ConsentError, TaskError

LONGEST_POSITIONS = 2048  # of the LLM, instruction and reading together; longer conversations are refused
MOST_TOKENS = 4096  # of an answer that a request may ask for
MOST_SEED = (1 << 32) - 1
MOST_WAYS = 16  # of saying a sentence
LONGEST_TEXT = 8 * LONGEST_POSITIONS  # characters: more can't fit, and need not be spelled to know it


@dataclass(frozen=True)
class Speech:
    """How an answer is said aloud."""

    lang: str | None  # ISO 639-1; None: as it was heard
    voice: Any = None  # a recording of whoever shall speak; None: the model's own
    voice_text: str | None = None  # what is said in it; None: it is read
    seed: int = 0
    best_of: int = 1  # ways of saying each sentence, of which the best understood is kept


@dataclass(frozen=True)
class Request:
    """What is asked, with every value checked."""

    task: tasks.Task
    instruction: str
    languages: tuple[str, ...]  # ISO 639-1, that may be spoken; none: any
    reading: str | None  # in place of a recording
    reader: str
    limit: int | None  # most tokens of the answer; None: the task's own
    draft: bool
    check: bool | None  # None: as the model is configured
    speech: Speech | None = None  # None: the answer is not said
    room: int = LONGEST_POSITIONS  # positions that the instruction leaves to what is heard

    def check_room(self, pieces: int, seconds: float | None = None) -> None:
        """Refuse what cannot be read at once beside the instruction; the first pass alone asks no LLM.

        Args:
            pieces: word pieces of what is said.
            seconds: how far the recording is heard.
        Raises:
            TaskError: they are more than `room`.
        """
        if pieces > self.room and self.reader == "attention":
            where = "the text has" if seconds is None else f"the first {seconds:.0f} s of this recording have"
            raise TaskError(
                f"task {self.task.name!r} reads at most {self.room} word pieces at once beside its instruction, "
                f"{where} {pieces}; give a shorter stretch of it"
            )


def checked(name: Any, options: Mapping[str, Any]) -> Request:
    """The request for the task `name` with its slots and options (`Assistant.run` lists them).

    Raises:
        TaskError: in one line, which task, slot or option is wrong.
    """
    task = tasks.load(name)
    slots = dict(options)
    wording = _whole("wording", slots.pop("wording", None), 0)
    limit = _whole("max_new_tokens", slots.pop("max_new_tokens", None), 1, MOST_TOKENS)
    held_out, draft = (
        _flag(flag, slots.pop(flag, default)) for flag, default in (("held_out", False), ("draft", True))
    )
    check = slots.pop("check", None)
    check = check if check is None else _flag("check", check)
    reader = slots.pop("reader", "attention")
    reading = slots.pop("reading", None)
    speech = _speech(task, slots)
    if reading is not None:
        _text("reading", reading)
        if task.reads:
            raise TaskError(f"task {task.name!r} reads its slot {task.reads!r}: leave out reading")
    spoken = _spoken(task, slots)
    if "language" not in task.slots:
        slots.pop("language", None)
    for slot, value in slots.items():
        _slot(task, slot, value)
    _reader(task, reader, reading, limit, check, held_out or wording is not None)
    instruction = task.instruction(slots, wording, held_out)
    if task.reads:
        reading = task.values(slots)[task.reads]
    return Request(task, instruction, spoken, reading, reader, limit, draft, check, speech)


def _speech(task: tasks.Task, slots: dict[str, Any]) -> Speech | None:
    """How the answer is said; takes its options out of `slots`."""
    given = {name: slots.pop(name) for name in ("voice", "voice_text", "consent", "seed", "best_of") if name in slots}
    given = {name: value for name, value in given.items() if value is not None}
    if not task.says:
        if given:
            raise TaskError(f"{sorted(given)[0]} is for tasks that speak, such as speak, not for {task.name!r}")
        return None
    has_consent = _flag("consent", given.get("consent", False))
    if "voice" in given and not has_consent:
        raise ConsentError(
            "a voice is cloned only with the consent of whoever it belongs to: say consent=True (--i-have-consent) "
            "if you have it"
        )
    if "voice_text" in given:
        _text("voice_text", given["voice_text"])
        if "voice" not in given:
            raise TaskError("voice_text says what is said in the recording of a voice: give voice too")
    lang = slots.get(task.says_in) if task.says_in else None
    seed = _whole("seed", given.get("seed", 0), 0, MOST_SEED)
    best_of = _whole("best_of", given.get("best_of", 1), 1, MOST_WAYS)
    assert seed is not None and best_of is not None
    code = languages.code(lang) if isinstance(lang, str) and lang.strip() else None
    return Speech(code, given.get("voice"), given.get("voice_text"), seed, best_of)


def is_several(audio: Any) -> bool:
    """Whether it is several recordings, not one, in whatever form, and not nothing."""
    if isinstance(audio, (str, bytes, bytearray, memoryview, os.PathLike, Clip, Mapping)) or hasattr(audio, "read"):
        return False
    is_pair = isinstance(audio, tuple) and len(audio) == 2 and not hasattr(audio[1], "__len__")
    is_array = hasattr(audio, "dtype") or (is_pair and isinstance(audio[1], (int, float)))
    return isinstance(audio, Iterable) and not is_array


def _reader(
    task: tasks.Task, reader: Any, reading: str | None, limit: int | None, check: bool | None, is_worded: bool
) -> None:
    """Refuse what a reader cannot do."""
    if not isinstance(reader, str) or reader not in ("attention", "ctc"):
        raise TaskError(f"reader is 'attention' or 'ctc', not {str(reader)[:80]!r}")
    if check is not None and not task.copies:
        raise TaskError(f"check is for tasks whose answer is the reading, such as transcribe, not for {task.name!r}")
    if reader == "attention":
        return
    alone = "the first pass alone (reader 'ctc')"
    if not task.copies:
        raise TaskError(f"{alone} transcribes; task {task.name!r} needs reader 'attention'")
    if reading is not None:
        raise TaskError(f"{alone} hears a recording: leave reader out, or give audio= in place of reading=")
    if check:
        raise TaskError(f"{alone} is not checked by the LLM: leave out check, or reader")
    if is_worded:
        raise TaskError(f"{alone} is given no instruction: leave out wording and held_out, or reader")
    if limit is not None:
        raise TaskError(f"{alone} writes no tokens: leave out max_new_tokens, or reader")


def _spoken(task: tasks.Task, slots: Mapping[str, Any]) -> tuple[str, ...]:
    """Codes of the languages that may be spoken: the option `language`, else the slot `source`."""
    for name in ("language", "source"):
        slot, given = task.slots.get(name), slots.get(name)
        if given is None or (name == "source" and slot is None) or (slot is not None and slot.kind != "language"):
            continue
        many = given.split(",") if isinstance(given, str) else given
        if not isinstance(many, (list, tuple)) or not many or not all(isinstance(one, str) for one in many):
            raise TaskError(f"{name} is a language by name or code, or a list of them, not {str(given)[:80]!r}")
        for one in many:
            _text(name, one)
        return tuple(dict.fromkeys(languages.code(one) for each in many for one in each.split(",")))
    return ()


def _slot(task: tasks.Task, name: str, value: Any) -> None:
    """Refuse values that would be something else once they are text."""
    slot = task.slots.get(name)
    if slot is None or value is None:  # the task itself says what it lacks
        return
    if isinstance(value, (list, tuple)) and slot.kind == "language":
        for one in value:
            _text(name, one)
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        _text(name, value)


def _text(name: str, value: Any) -> None:
    """Refuse what is no text, or none that the LLM can read."""
    if not isinstance(value, str):
        raise TaskError(f"{name} is a text, not {type(value).__name__}")
    if len(value) > LONGEST_TEXT:
        raise TaskError(f"{name} has {len(value)} characters, at most {LONGEST_TEXT} are read: make it shorter")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise TaskError(f"{name} holds half a character (a lone surrogate): give whole Unicode text")


def _whole(name: str, value: Any, least: int, most: int | None = None) -> int | None:
    if value is None:
        return None
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TaskError(f"{name} must be a whole number, not {str(value)[:80]!r}")
    if number < least:
        raise TaskError(f"{name} must be at least {least}, got {number}")
    if most is not None and number > most:
        raise TaskError(f"{name} must be at most {most}, got {str(number)[:20]}")
    return number


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TaskError(f"{name} is True or False, not {str(value)[:80]!r}")
    return value
