"""Rows that teach tasks from recordings alone: for each clip, every task whose right answer its manifest holds.

A manifest's field named like a task's target is the answer (`text` of transcribe, `translation` of translate, a map by
language or a text beside `target`), a field named like a slot fills it: what `speechllm evaluate` reads can be trained
on. A row is {"audio": path, "task", "instruction", "answer", "text": what is said, "lang"}; noise and music are to be
transcribed as nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from speechllm import languages, tasks
from speechllm.data import corpora, phone_prompts
from speechllm.data.g722 import as_flac
from speechllm.data.recordings import LONGEST, unreserved
from speechllm.errors import DataError, TaskError
from speechllm.tasks import Task

NAMED = 0.3  # share of the rows whose instruction names the language that is spoken


def rows(names: Sequence[str], task_names: Sequence[str], seed: int = 0) -> list[dict[str, Any]]:
    """Rows of the train splits of shared sets by name, of "asterisk", and of manifests by path.

    Raises:
        DataError: there is not one row.
        TaskError: a task is unknown.
    """
    chosen = [tasks.load(name) for name in task_names]
    rng = random.Random(seed)
    found = unreserved(row for name in names for clip in _clips(name) for row in _rows(clip, chosen, rng))
    if not found:
        raise DataError(f"no recording of {', '.join(names) or 'no corpus'} has an answer to {', '.join(task_names)}")
    return found


def _clips(name: str) -> Iterator[dict[str, Any]]:
    """Recordings as rows of their manifests, `audio` a whole path, texts in capitals lowered."""
    if name == "asterisk":
        yield from _prompts()
        return
    is_path = "/" in name or name.endswith(".jsonl")
    for clip in corpora.manifest(name, "train") if is_path else corpora.speech(name, "train"):
        if (clip.text is None and clip.lang) or (clip.seconds or 0) > LONGEST:
            continue
        text = (clip.text or "").strip()
        text = text.lower() if text.isupper() else text
        yield {**clip.fields, "audio": str(clip.audio), "text": text, "lang": clip.lang}


def _prompts() -> Iterator[dict[str, Any]]:
    for prompt in phone_prompts.prompts(split="train"):
        for lang, audio in sorted(prompt.audio.items()):
            if lang in prompt.texts and len(prompt.texts[lang].split()) >= 2:
                others = {other: text for other, text in prompt.texts.items() if other != lang}
                yield {"audio": str(as_flac(audio)), "text": prompt.texts[lang], "lang": lang, "translation": others}


def _rows(clip: Mapping[str, Any], chosen: Sequence[Task], rng: random.Random) -> Iterator[dict[str, Any]]:
    for task in chosen:
        value = clip.get(task.target)
        by_target = value if isinstance(value, Mapping) else {clip.get("target"): value}
        for target, answer in by_target.items():
            answer = answer[0] if isinstance(answer, list | tuple) and answer else answer
            slots = _slots(clip, task, target, rng)
            is_silent = not clip["text"] and task.name != "transcribe"
            if isinstance(answer, str) and slots is not None and not is_silent:
                instruction = task.instruction(slots, rng.randrange(len(task.wordings(slots))))
                yield {
                    "audio": clip["audio"],
                    "task": task.name,
                    "instruction": instruction,
                    "answer": answer,
                    "text": clip["text"],
                    "lang": clip["lang"],
                }


def _slots(clip: Mapping[str, Any], task: Task, target: Any, rng: random.Random) -> dict[str, str] | None:
    """Values of a task's slots, or None where the clip cannot fill them."""
    values = {name: clip.get(name) for name, slot in task.slots.items() if slot.kind != "language"}
    if "target" in task.slots:
        values["target"] = target
    for name in tasks.SPOKEN_SLOTS:
        if name in task.slots and clip["lang"] in languages.NAMES and rng.random() < NAMED:
            values[name] = clip["lang"]
    try:
        return task.values({name: value for name, value in values.items() if value is not None})
    except TaskError:
        return None
