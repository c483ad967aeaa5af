"""The text mixture that teaches the language model its tasks: what is said, an instruction, the answer.

    python -m speechllm.data.mixture --out rows.jsonl --rows 200000 --seed 0

Because the bridge speaks in the language model's own embeddings, unpaired text trains every skill on the
text side; about half of the rows are corrupted as a recogniser would misread them. A row is a JSON object

    {"task": "translate", "slots": {"target": "German"}, "instruction": "Translate to German.",
     "text": as read, "lang": "en", "answer": "...", "said": the text before corruption, where it differs}

and, with `audio`, the path of the recording where there is one. The same seed gives the same rows.
"""

import argparse
import hashlib
import itertools
import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from speechllm import languages, prompts, tasks
from speechllm.data import corpora, dialogues, instructions, phone_prompts, reserved
from speechllm.data.g722 import as_flac
from speechllm.data.instruction_checks import plain
from speechllm.data.reading_errors import as_read, sound_alikes, unpunctuated

Row = dict[str, Any]
_DEV_BELOW = 4  # first byte of a text's hash: 1 text in 64 is dev
LONGEST = 60  # words of a text or an answer
SHARES = {"transcribe": 0.18, "translate": 0.42, "answer": 0.07, "ask": 0.12, "follow": 0.21}
MANIFESTS = (
    "librispeech_train", "librispeech_dev", "common_voice_v1_en", "common_voice_later_en",
    "common_voice_multi", "kathleen_en", "kerstin_de", "nathalie_nl", "css10_es",
)  # fmt: skip
PAIR_WEIGHTS = {"de": 1.0, "fr": 1.0, "es": 1.0, "nl": 0.9, "ru": 0.9, "cs": 0.75, "it": 0.5}  # with English
DIALOGUES = ("cs", "it")  # Tatoeba has few pairs with Czech and none with Italian to train on
LANG_WEIGHTS = {"en": 8, "de": 2, "fr": 2, "es": 2, "it": 2, "ru": 2, "cs": 1.5, "nl": 1.5}


@dataclass(frozen=True)
class MixtureSpec:
    """How many rows of what; everything is drawn from `seed`."""

    rows: int = 200_000
    seed: int = 0
    shares: Mapping[str, float] = field(default_factory=lambda: dict(SHARES))  # by task
    phone_share: float = 0.3  # of the translations: telephone prompts; 0: none
    misread: float = 0.5  # share of the rows that are corrupted as a recogniser would
    strength: float = 0.1  # share of the words that are misread in such a row
    bare: float = 0.15  # share of the translations whose source is lower case without punctuation
    is_dev: bool = False  # rows of texts that the training rows never use, to watch the training by
    audio: bool = False  # carry the paths of recordings


@dataclass
class Pools:
    """Texts that rows are made of. A phone prompt carries its path, or None."""

    follow: instructions.Sources
    spoken: list[tuple[str, str, str | None]]  # text, language, path of the recording
    phone: dict[tuple[str, str], list[tuple[str, str, str | None]]]  # by (source, target)
    questions: list[tuple[str, str]]
    contexts: list[tuple[str, str, str, str]]  # context, question, answer, language
    alikes: dict[str, dict[str, tuple[str, ...]]]


def build(spec: MixtureSpec, pools: Pools | None = None) -> Iterator[Row]:
    """Rows of the mixture, tasks in random order. Raises DataError when a corpus is missing."""
    pools = pools or load(spec)
    rng = random.Random(f"{spec.seed} {spec.is_dev}")
    makers: dict[str, Callable[[MixtureSpec, Pools, random.Random], Row | None]] = {
        "transcribe": _transcribe, "translate": _translate, "answer": _answer, "ask": _ask, "follow": _follow,
    }  # fmt: skip
    names, weights = zip(*spec.shares.items(), strict=True)
    made = 0
    while made < spec.rows:
        name = rng.choices(names, weights)[0]
        row = makers[name](spec, pools, rng)
        while row is None or len(row["said"].split()) > LONGEST or len(row["answer"].split()) > LONGEST:
            row = makers[name](spec, pools, rng)
        if row["said"] == row["text"]:
            del row["said"]
        made += 1
        yield row


def _row(task: str, slots: Row, said: str, read: str, lang: str, answer: str, rng: random.Random) -> Row:
    loaded = tasks.load(task)
    number = rng.randrange(len(loaded.wordings(slots)))
    instruction = loaded.instruction(slots, number)
    return {
        "task": task, "slots": slots, "instruction": instruction,
        "text": read, "lang": lang, "answer": answer, "said": said,
    }  # fmt: skip


def _read(spec: MixtureSpec, pools: Pools, text: str, lang: str, rng: random.Random, chance: float = 1.0) -> str:
    """The text as read: misread in a share `spec.misread * chance` of the cases."""
    if rng.random() >= spec.misread * chance:
        return text
    return as_read(text, rng, spec.strength * rng.choice((0.3, 1.0, 2.0)), pools.alikes.get(lang, {}))


def _transcribe(spec: MixtureSpec, pools: Pools, rng: random.Random) -> Row:
    """Copy, nearly always: a reading is to be trusted, but for a misspelt letter now and then."""
    if rng.random() < 0.25:
        text, lang, path = rng.choice(pools.spoken)
    else:
        lang, path = _lang(rng), None
        text = rng.choice(pools.follow.sentences[lang])
        if rng.random() < 0.15:
            text += " " + rng.choice(pools.follow.sentences[lang])
    if rng.random() < 0.1:
        text = unpunctuated(text)
    read = as_read(text, rng, strength=0.05) if rng.random() < 0.3 * spec.misread else text
    slots = {"language": languages.name(lang)} if rng.random() < 0.3 else {}
    return _with_audio(_row("transcribe", slots, text, read, lang, text, rng), path)


def _with_audio(row: Row, path: str | None) -> Row:
    if path:
        row["audio"] = path
    return row


def _translate(spec: MixtureSpec, pools: Pools, rng: random.Random) -> Row | None:
    path = None
    if pools.phone and rng.random() < spec.phone_share:
        directions = sorted(pools.phone)
        english = [3.5 if "en" in direction else 1.0 for direction in directions]
        source, target = rng.choices(directions, english)[0]
        text, answer, path = rng.choice(pools.phone[source, target])
        if rng.random() < 0.2:
            more, translation, _ = rng.choice(pools.phone[source, target])
            text, answer, path = f"{_ended(text)} {more}", f"{_ended(answer)} {translation}", None
    else:
        other = rng.choices(list(PAIR_WEIGHTS), list(PAIR_WEIGHTS.values()))[0]
        source, target = ("en", other) if rng.random() < 0.5 else (other, "en")
        text, answer = rng.choice(pools.follow.pairs[source, target])
        if rng.random() < 0.15:
            more, translation = rng.choice(pools.follow.pairs[source, target])
            text, answer = f"{_ended(text)} {more}", f"{_ended(answer)} {translation}"
    slots = {"target": languages.name(target)}
    if rng.random() < 0.35:
        slots["source"] = languages.name(source)
    said = unpunctuated(text) if rng.random() < spec.bare else text
    read = _read(spec, pools, said, source, rng)
    return _with_audio(_row("translate", slots, said, read, source, answer, rng), path)


def _ended(text: str) -> str:
    return text if text[-1] in '.!?"»“”' else text.rstrip(",;: ") + "."


def _answer(spec: MixtureSpec, pools: Pools, rng: random.Random) -> Row:
    question, answer = rng.choice(pools.questions)
    if rng.random() < 0.75:
        question = _asked(question)
    return _row("answer", {}, question, _read(spec, pools, question, "en", rng), "en", answer, rng)


def _asked(question: str) -> str:
    """A question as a reader mostly writes it; the sources are lower case."""
    if question[:1].isupper():
        return question
    return question[:1].upper() + question[1:].rstrip(" ?") + "?"


def _ask(spec: MixtureSpec, pools: Pools, rng: random.Random) -> Row | None:
    draw = rng.random()
    if draw < 0.65:
        text, question, answer, lang = rng.choice(pools.contexts)
        return _row("ask", {"question": question}, text, _read(spec, pools, text, lang, rng), lang, answer, rng)
    lang = _lang(rng) if draw < 0.8 else "en" if rng.random() < 0.7 else _lang(rng)
    text = rng.choice(pools.follow.sentences[lang])
    if draw < 0.8:
        question, answer = rng.choice(prompts.load("ask/language").train), languages.name(lang)
    elif draw < 0.9:
        if rng.random() < 0.5 and not text.rstrip('"').endswith("?"):
            text = _asked(rng.choice(pools.questions)[0].lower()) if lang == "en" else text
        question = rng.choice(prompts.load("ask/is_question").train)
        answer = "yes" if text.rstrip('"').endswith("?") else "no"
    else:
        item = instructions.about("contains", text, rng, lang, other=rng.choice(pools.follow.sentences[lang]))
        if item is None or len(item.arguments["word"]) < 5:
            return None
        question = prompts.fill(rng.choice(prompts.load("ask/mentions").train), item.arguments)
        answer = item.answer
    return _row("ask", {"question": question}, text, _read(spec, pools, text, lang, rng), lang, answer, rng)


def _follow(spec: MixtureSpec, pools: Pools, rng: random.Random) -> Row | None:
    names = list(instructions.OPERATIONS)
    operation = rng.choices(names, [instructions.WEIGHTS.get(name, 1.0) for name in names])[0]
    lang = "en" if rng.random() < 0.7 else _lang(rng)
    item = instructions.make(operation, pools.follow, rng, lang)
    if item is None:
        return None
    # Counting and lists hang on every word and mark: such rows stay as they were said more often.
    read = _read(spec, pools, item.text, lang, rng, chance=0.5)
    row = _row("follow", {"instruction": item.instruction}, item.text, read, lang, item.answer, rng)
    return {**row, "operation": operation}


def _lang(rng: random.Random) -> str:
    return rng.choices(list(LANG_WEIGHTS), list(LANG_WEIGHTS.values()))[0]


def load(spec: MixtureSpec) -> Pools:
    """Read the pools; dev and training pools share no text. Raises DataError for a missing corpus."""
    keep = _Keeper(spec.is_dev, reserved.texts())
    sentences: dict[str, list[str]] = {lang: [] for lang in languages.SPOKEN}
    for row in corpora.texts("sentences/train"):
        if keep(row["text"]):
            sentences[row["lang"]].append(row["text"])
    pairs: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for lang in PAIR_WEIGHTS:
        kept = [pair for pair in translations(lang) if keep(*pair)]
        pairs["en", lang] = kept
        pairs[lang, "en"] = [(theirs, english) for english, theirs in kept]
    numbers: dict[str, list[tuple[str, str]]] = {}
    for row in corpora.texts("numbers/train"):
        if keep(row["written"]):
            numbers.setdefault(row["lang"], []).append((row["spoken"], row["written"]))
    spanish = [english for english, _ in pairs["es", "en"]] + sentences["es"]
    return Pools(
        follow=instructions.Sources(sentences, numbers, pairs),
        spoken=_spoken(spec, keep),
        phone=_phone(spec, spanish) if spec.phone_share else {},
        questions=_questions(keep),
        contexts=_contexts(keep),
        alikes={lang: sound_alikes(texts[:12_000]) for lang, texts in sentences.items()},
    )


@dataclass(frozen=True)
class _Keeper:
    """Whether texts belong to these pools: none of an evaluation; 1 in 64 is dev, by hash of the first."""

    is_dev: bool
    reserved: frozenset[str]

    def __call__(self, *texts: str) -> bool:
        said = [plain(text) for text in texts]
        is_dev = hashlib.sha256(said[0].encode()).digest()[0] < _DEV_BELOW
        return is_dev == self.is_dev and self.reserved.isdisjoint(said)


def translations(lang: str) -> list[tuple[str, str]]:
    """Pairs (English, `lang`) to train on."""
    found = []
    if lang != "it":
        found += [(row["en"], row[lang]) for row in corpora.texts(f"translation/en-{lang}.train")]
    if lang in DIALOGUES:
        found += dialogues.pairs(lang)
    return found


def _spoken(spec: MixtureSpec, keep: _Keeper) -> list[tuple[str, str, str | None]]:
    found = []
    for name in MANIFESTS:
        for example in corpora.speech(name, "train"):
            if example.text and example.lang in languages.SPOKEN and keep(example.text):
                text = example.text.lower() if example.text.isupper() else example.text
                # A reader writes sentences: a recording whose text has neither capitals nor marks would teach
                # the language model to drop what was read.
                is_written = text[:1] != text[:1].lower() and text[-1] in '.!?"”»'
                found.append((text, example.lang, str(example.audio) if spec.audio and is_written else None))
    return found


def _phone(spec: MixtureSpec, spanish: list[str]) -> dict[tuple[str, str], list[tuple[str, str, str | None]]]:
    every = phone_prompts.prompts(audio=spec.audio)
    evaluated = {(lang, plain(text)) for one in every if one.split == "eval" for lang, text in one.texts.items()}
    counts = phone_prompts.accent_counts(spanish)
    found: dict[tuple[str, str], list[tuple[str, str, str | None]]] = {}
    for prompt in every:
        is_wanted = prompt.split == ("dev" if spec.is_dev else "train")
        if not is_wanted or prompt.id.startswith(("asterisk/letters/", "asterisk/phonetic/")):
            continue
        texts = {
            lang: phone_prompts.restore_accents(text, counts) if lang == "es" else text
            for lang, text in prompt.texts.items()
            if (lang, plain(text)) not in evaluated and plain(text)
        }
        for source, target in itertools.permutations(texts, 2):
            path = prompt.audio.get(source)
            entry = (texts[source], texts[target], str(as_flac(path)) if path else None)
            found.setdefault((source, target), []).append(entry)
    return found


def _questions(keep: _Keeper) -> list[tuple[str, str]]:
    found = [(row["question"], row["answers"][0]) for row in corpora.texts("questions/train") if row["answers"]]
    found += [
        (row["instruction"], row["response"])
        for row in corpora.texts("instructions/train")
        if row["category"] == "no_context"
        and len(row["instruction"].split()) <= 25
        and len(row["response"].split()) <= 25
    ]
    return [(question, answer) for question, answer in found if keep(question)]


def _contexts(keep: _Keeper) -> list[tuple[str, str, str, str]]:
    found = [
        (row["context"], row["question"], row["answers"][0], row["lang"])
        for row in corpora.texts("questions/squad_short")
    ]
    found += [
        (row["context"], row["instruction"], row["response"], row["lang"])
        for row in corpora.texts("instructions/train")
        if row["context"] and "\n" not in row["context"]
    ]
    return [
        (" ".join(context.split()), question, answer, lang)
        for context, question, answer, lang in found
        if keep(context) and len(context.split()) <= LONGEST
    ]


def main(arguments: list[str] | None = None) -> int:
    """Write a mixture as JSON lines."""
    parser = argparse.ArgumentParser(prog="python -m speechllm.data.mixture", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument("--rows", type=int, default=MixtureSpec.rows)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dev", action="store_true", help="rows to watch the training by, none of them trained on")
    parser.add_argument("--audio", action="store_true", help="carry the paths of recordings")
    given = parser.parse_args(arguments)
    spec = MixtureSpec(rows=given.rows, seed=given.seed, is_dev=given.dev, audio=given.audio)
    with open(given.out, "w", encoding="utf-8") as out:
        out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in build(spec))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
