"""Checkable instructions about real recordings that no training saw, in wordings that no training saw.

    python -m speechllm.evaluation.instruction_items --out items.jsonl --count 200
    speechllm evaluate follow items.jsonl

Operations take turns, clips are drawn by seed. Clips whose right answer recognition style could change
(numbers, hyphens, titles that are written short) are left to the operations that they do not touch.
"""

import argparse
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speechllm import languages
from speechllm.data import corpora, instructions, phone_prompts
from speechllm.data.instruction_checks import NUMBER_WORDS, plain, sentences, words
from speechllm.data.instructions import OPERATIONS, TRANSLATING, Item

SETS = ("common_voice_v1_en", "common_voice_later_en", "librispeech_test_clean", "kathleen_en", "kerstin_de")
LONGEST = 14.0  # seconds
_NUMBERS = (
    *(word for word in NUMBER_WORDS if word != "one"),
    *("thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety", "hundred", "thousand", "million"),
)
_WRITTEN_OTHERWISE = re.compile(
    r"\d|-|\b(one|once|first|second|third|half|quarter|mister|missus|mrs|mr|dr|doctor|saint|okay|ok|o'clock"
    rf"|{'|'.join(_NUMBERS)})s?\b|hundert|tausend|zwei|drei|\bvier|fünf|sechs|sieben|\bacht|neun|zehn|ß",
    re.IGNORECASE,
)

Clip = tuple[str, str, str, dict[str, str]]  # path, text, language, translations


def clips() -> list[Clip]:
    """Evaluation clips of the shared sets, texts in capitals made small."""
    found: list[Clip] = []
    for name in SETS:
        for example in corpora.speech(name, "eval"):
            if example.text and (example.seconds or 0.0) <= LONGEST:
                text = example.text.lower() if example.text.isupper() else example.text
                found.append((str(example.audio), text, example.lang, {}))
    return found


def phone_clips() -> list[Clip]:
    """Evaluation clips of the telephone prompts, with their translations."""
    found = []
    for row in phone_prompts.rows("eval"):
        if 4 <= len(words(row["text"])) <= 30:
            found.append((row["audio"], row["text"], row["lang"], row["translation"]))
    return found


def items(count: int = 200, seed: int = 0, phone: bool = True) -> Iterator[dict[str, Any]]:
    """Manifest rows for the task `follow`: audio, text, lang, operation, arguments, instruction, answer.

    phone: use telephone prompts too; only they have two sentences or a translation, so that the
    operations on these are left out without them.
    """
    rng = random.Random(seed)
    read, called = clips(), phone_clips() if phone else []
    decks: dict[str, list[Clip]] = {}
    for name, operation in OPERATIONS.items():
        deck = called if operation.sentences > 1 or name in TRANSLATING else read
        decks[name] = rng.sample(deck, len(deck))
    made = 0
    while made < count and any(decks.values()):
        for name in OPERATIONS:
            item = None
            while item is None and decks[name] and made < count:
                clip = decks[name].pop()
                item = _item(name, clip, rng, rng.choice(read)[1])
            if item is not None:
                made += 1
                yield _row(clip, item)


def _row(clip: Clip, item: Item) -> dict[str, Any]:
    return {
        "audio": clip[0], "text": item.text, "lang": item.lang, "split": "eval", "operation": item.operation,
        "arguments": dict(item.arguments), "instruction": item.instruction, "answer": item.answer,
    }  # fmt: skip


def _item(name: str, clip: Clip, rng: random.Random, other: str) -> Item | None:
    _, text, lang, translations = clip
    if name in TRANSLATING:
        return _translating(name, text, lang, translations, rng)
    if name == "numbers_to_digits":
        return _digits(text, lang, rng)
    is_about_sentences = OPERATIONS[name].sentences > 1
    if not is_about_sentences and (_WRITTEN_OTHERWISE.search(text) or len(words(text)) < 3):
        return None
    return instructions.about(name, text, rng, lang, held_out=True, other=other)


def _translating(name: str, text: str, lang: str, translations: dict[str, str], rng: random.Random) -> Item | None:
    target = rng.choice(sorted(translations)) if lang == "en" else "en"
    translation = translations.get(target)
    if not translation:
        return None
    if name == "transcribe_translate":
        answer = f"{text}\n{translation}"
    else:
        here, there = sentences(text), sentences(translation)
        place = 0 if name == "translate_first" else -1
        if len(here) != len(there) or len(here) < 2 or len(words(here[place])) < 2:
            return None
        answer = there[place]
    arguments = {"language": languages.name(target)}
    filled = instructions.wording(OPERATIONS[name], arguments, rng, held_out=True)
    return Item(name, filled, text, answer, lang, arguments)


def _digits(text: str, lang: str, rng: random.Random) -> Item | None:
    """A clip with a number word above one; Whisper's number normaliser gives the right digits."""
    from transformers.models.whisper.english_normalizer import EnglishNumberNormalizer

    has_number = any(word in _NUMBERS for word in plain(text).split())
    has_more = re.search(r"\d|\b(one|first|second|third|half|and a|past|quarter|o'clock)\b", text.lower())
    if lang != "en" or not has_number or has_more:
        return None
    written = EnglishNumberNormalizer()(text.lower())
    if not re.search(r"\d", written):
        return None
    filled = instructions.wording(OPERATIONS["numbers_to_digits"], {}, rng, held_out=True)
    return Item("numbers_to_digits", filled, text, written, lang)


def main(arguments: list[str] | None = None) -> int:
    """Write checkable instructions about real recordings as a manifest."""
    parser = argparse.ArgumentParser(prog="python -m speechllm.evaluation.instruction_items", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    with given.out.open("w", encoding="utf-8") as out:
        out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in items(given.count, given.seed))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
