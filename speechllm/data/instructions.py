"""Instruction-followed recognition: operations on what is said, with right answers and checks.

An operation draws its arguments from the spoken text ("which word to replace"), gives the right answer,
and says whether another answer follows it. The wordings of each are data: `prompts/follow/OPERATION.txt`.

The checks are in `instruction_checks`.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from speechllm import languages, prompts
from speechllm.data import instruction_checks as checks
from speechllm.data.instruction_checks import NUMBER_WORDS, Arguments, sentences, words

ORDINALS = {2: "second", 3: "third", 4: "fourth", 5: "fifth"}
PHRASES = (
    "Note:", "Transcript:", "The speaker says:", "Here it is:", "OK.", "Attention!", "Quote:", "First,",
    "Heard:", "Message:", "Hello!", "Memo:", "Caller:", "Dear all,", "Item one:", "In short:", "Today:",
    "Voice note:", "Look:",
)  # fmt: skip
ENDINGS = (
    "The end.", "Over.", "Thank you.", "End of message.", "(end)", "Amen.", "That is all.", "Stop.",
    "Done.", "Bye!", "Full stop.", "Over and out.", "Best wishes.", "...", "END", "Regards.",
    "That was it.", "See you.", "Finished.",
)  # fmt: skip
REPLACEMENTS = (
    "banana", "[beep]", "***", "something", "table", "Anna", "winter", "green", "music", "window",
    "London", "river", "coffee", "nobody", "seven", "elephant", "XXX", "bread", "teacher", "purple",
    "Peter", "mountain", "soup", "X",
)  # fmt: skip


@dataclass(frozen=True)
class Operation:
    """One thing that an instruction can ask for."""

    name: str
    draw: Callable[[str, random.Random], dict[str, str] | None]  # arguments, or None where it does not apply
    answer: Callable[[str, Arguments], str]
    check: Callable[[str, str, Arguments], bool]  # (right answer, answer given, arguments)
    sentences: int = 1  # sentences that the spoken text must have

    def wordings(self, held_out: bool = False) -> tuple[str, ...]:
        """The unfilled wordings of this operation."""
        both = prompts.load(f"follow/{self.name}")
        return both.held_out if held_out else both.train


@dataclass(frozen=True)
class Item:
    """One instruction about one spoken text, with the right answer."""

    operation: str
    instruction: str
    text: str  # what is said
    answer: str
    lang: str = "en"
    arguments: Arguments = field(default_factory=dict)


def followed(
    operation: str, text: str, answer: str, arguments: Arguments | None = None, expected: str | None = None
) -> bool:
    """Whether `answer` follows the instruction about the spoken `text`.

    expected: the right answer; needed by the operations that translate, else computed from the text.
    """
    op, arguments = OPERATIONS[operation], arguments or {}
    right = expected if expected is not None else op.answer(text, arguments)
    return bool(answer.strip()) and op.check(right, answer.strip(), arguments)


def _no_arguments(text: str, rng: random.Random) -> dict[str, str] | None:
    return {}


def _needs(minimum: int, maximum: int = 60) -> Callable[[str, random.Random], dict[str, str] | None]:
    return lambda text, rng: {} if minimum <= len(words(text)) <= maximum else None


def _draw_n(text: str, rng: random.Random) -> dict[str, str] | None:
    most = min(6, len(words(text)) - 1)
    if most < 2:
        return None
    n = rng.randint(2, most)
    return {"n": NUMBER_WORDS[n] if rng.random() < 0.6 else str(n), "number": str(n)}


def _draw_nth(text: str, rng: random.Random) -> dict[str, str] | None:
    most = min(5, len(words(text)))
    if most < 2:
        return None
    n = rng.randint(2, most)
    return {"n": str(n), "ordinal": ORDINALS[n]}


def _draw_word(text: str, rng: random.Random) -> dict[str, str] | None:
    """A word of the text that occurs once."""
    lower = [word.lower() for word in words(text)]
    once = [word for word in lower if lower.count(word) == 1 and len(word) > 2 and word.isalpha()]
    return {"word": rng.choice(once)} if once else None


def _draw_word_before(text: str, rng: random.Random) -> dict[str, str] | None:
    lower = [word.lower() for word in words(text)]
    once = [word for word in lower[:-1] if lower.count(word) == 1 and word.isalpha()]
    return {"word": rng.choice(once)} if once else None


def _draw_replacement(text: str, rng: random.Random) -> dict[str, str] | None:
    drawn = _draw_word(text, rng)
    replacement = rng.choice(REPLACEMENTS)
    return {**drawn, "replacement": replacement} if drawn and replacement.lower() not in text.lower() else None


def _draw_longest(text: str, rng: random.Random) -> dict[str, str] | None:
    lengths = sorted((len(word) for word in set(words(text.lower()))), reverse=True)
    return {} if len(lengths) > 2 and lengths[0] > lengths[1] else None


def _draw_counted(text: str, rng: random.Random) -> dict[str, str] | None:
    lower = [word.lower() for word in words(text) if word.isalpha()]
    many = [word for word in set(lower) if lower.count(word) > 1]
    return {"word": rng.choice(sorted(many) if many and rng.random() < 0.7 else sorted(set(lower)))} if lower else None


def _draw_phrase(phrases: Sequence[str]) -> Callable[[str, random.Random], dict[str, str] | None]:
    return lambda text, rng: {"phrase": rng.choice(phrases)}


def _without_marks(text: str) -> str:
    return " ".join(words(re.sub(r"(?<!\w)['’\-–—]|['’\-–—](?!\w)|[^\w\s'’\-]", " ", text)))


def _replaced(text: str, arguments: Arguments, replacement: str) -> str:
    pattern = rf"(?<!\w){re.escape(arguments['word'])}(?!\w)"

    def put(match: re.Match[str]) -> str:
        at_start = match.start() == 0 and match[0][0].isupper()
        return replacement[:1].upper() + replacement[1:] if at_start else replacement

    return " ".join(re.sub(pattern, put, text, flags=re.IGNORECASE).split())


def _deleted(text: str, arguments: Arguments) -> str:
    shorter = re.sub(r"\s+([.,;:?!])", r"\1", _replaced(text, arguments, ""))
    return shorter[:1].upper() + shorter[1:] if text[:1].isupper() else shorter


def _at(text: str, number: int) -> str:
    return words(text)[number]


def _after(text: str, arguments: Arguments) -> str:
    found = words(text)
    return found[[word.lower() for word in found].index(arguments["word"]) + 1]


def _occurrences(text: str, arguments: Arguments) -> int:
    return [word.lower() for word in words(text)].count(arguments["word"])


def _translated(text: str, arguments: Arguments) -> str:
    raise KeyError("a translation cannot be computed from the spoken text: give the right answer as `expected`")


_ALL = [
    Operation("upper_case", _no_arguments, lambda t, a: t.upper(), checks.close_with(str.isupper)),
    Operation("lower_case", _no_arguments, lambda t, a: t.lower(), checks.close_with(str.islower)),
    Operation(
        "no_punctuation",
        _no_arguments,
        lambda t, a: _without_marks(t),
        checks.close_with(checks.has_no_marks),
    ),
    Operation(
        "lower_plain",
        _no_arguments,
        lambda t, a: _without_marks(t).lower(),
        checks.close_with(lambda g: g.islower() and checks.has_no_marks(g)),
    ),
    Operation(
        "title_case",
        _needs(2),
        lambda t, a: re.sub(r"(?<![\w'’])[^\W\d_]", lambda m: m[0].upper(), t),
        checks.close_with(checks.is_title),
    ),
    Operation("first_words", _draw_n, lambda t, a: " ".join(words(t)[: int(a["number"])]), checks.same_count),
    Operation("last_words", _draw_n, lambda t, a: " ".join(words(t)[-int(a["number"]) :]), checks.same_count),
    Operation("first_word", _needs(2), lambda t, a: _at(t, 0), checks.one_word),
    Operation("last_word", _needs(2), lambda t, a: _at(t, -1), checks.one_word),
    Operation("nth_word", _draw_nth, lambda t, a: _at(t, int(a["n"]) - 1), checks.one_word),
    Operation("word_after", _draw_word_before, _after, checks.one_word),
    Operation("longest_word", _draw_longest, lambda t, a: max(words(t), key=len), checks.one_word),
    Operation("count_words", _needs(1, 14), lambda t, a: str(len(words(t))), checks.same_number),
    Operation(
        "contains",
        _draw_word,
        lambda t, a: "yes" if checks.holds(t, a["word"]) else "no",
        checks.same_count,
    ),
    Operation("occurrences", _draw_counted, lambda t, a: str(_occurrences(t, a)), checks.same_number),
    Operation(
        "replace_word",
        _draw_replacement,
        lambda t, a: _replaced(t, a, a["replacement"]),
        checks.has_new_word,
    ),
    Operation("delete_word", _draw_word, _deleted, checks.lacks_word),
    Operation("numbers_to_digits", _no_arguments, lambda t, a: t, checks.same_digits),
    Operation(
        "sentences_list",
        _no_arguments,
        lambda t, a: "\n".join(f"- {s}" for s in sentences(t)),
        checks.BULLETED,
        sentences=2,
    ),
    Operation(
        "numbered_list",
        _no_arguments,
        lambda t, a: "\n".join(f"{n}. {s}" for n, s in enumerate(sentences(t), start=1)),
        checks.NUMBERED,
        sentences=2,
    ),
    Operation("first_sentence", _no_arguments, lambda t, a: sentences(t)[0], checks.close_with(bool), sentences=2),
    Operation("last_sentence", _no_arguments, lambda t, a: sentences(t)[-1], checks.close_with(bool), sentences=2),
    Operation("translate_first", _no_arguments, _translated, checks.is_translation, sentences=2),
    Operation("translate_last", _no_arguments, _translated, checks.is_translation, sentences=2),
    Operation("transcribe_translate", _no_arguments, _translated, checks.is_both),
    Operation("one_per_line", _needs(2, 15), lambda t, a: "\n".join(words(t)), checks.same_lines),
    Operation("comma_separated", _needs(2, 15), lambda t, a: ", ".join(words(t)), checks.same_commas),
    Operation("begin_with", _draw_phrase(PHRASES), lambda t, a: f"{a['phrase']} {t}", checks.opens),
    Operation("end_with", _draw_phrase(ENDINGS), lambda t, a: f"{t} {a['phrase']}", checks.closes),
    Operation("quotes", _no_arguments, lambda t, a: f'"{t}"', checks.close_with(checks.is_quoted)),
    Operation("reverse_words", _needs(2, 10), lambda t, a: " ".join(reversed(words(t))), checks.same_count),
]
WEIGHTS = {
    "upper_case": 3.0, "lower_case": 2.0, "no_punctuation": 0.7, "lower_plain": 0.7, "first_words": 2.2,
    "last_words": 2.4, "first_word": 0.8, "last_word": 1.6, "nth_word": 1.6, "word_after": 1.3, "longest_word": 1.4,
    "count_words": 2.2, "contains": 1.6, "occurrences": 1.6, "replace_word": 1.8, "delete_word": 1.5,
    "numbers_to_digits": 2.0, "sentences_list": 0.7, "numbered_list": 0.7, "first_sentence": 0.8, "last_sentence": 1.4,
    "translate_first": 1.2, "translate_last": 1.4, "transcribe_translate": 2.0, "one_per_line": 0.8,
    "comma_separated": 0.8, "begin_with": 0.7, "end_with": 0.8, "quotes": 0.5, "reverse_words": 2.0,
}  # how often an operation is drawn for training, where not once: those that are hard to learn more often  # fmt: skip
OPERATIONS: dict[str, Operation] = {operation.name: operation for operation in _ALL}
TRANSLATING = ("translate_first", "translate_last", "transcribe_translate")


@dataclass(frozen=True)
class Sources:
    """Texts that items are made from."""

    sentences: Mapping[str, Sequence[str]]  # by language
    numbers: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)  # (spoken, written) by language
    pairs: Mapping[tuple[str, str], Sequence[tuple[str, str]]] = field(default_factory=dict)  # by (source, target)


def wording(operation: Operation, arguments: Arguments, rng: random.Random, held_out: bool = False) -> str:
    """A filled wording of the operation, drawn at random."""
    fitting = [w for w in operation.wordings(held_out) if prompts.slots_of(w) <= set(arguments)]
    return prompts.fill(rng.choice(fitting), arguments)


def make(operation: str, sources: Sources, rng: random.Random, lang: str = "en", held_out: bool = False) -> Item | None:
    """An item of an operation in one language; None where the drawn text does not suit it (draw again)."""
    op = OPERATIONS[operation]
    if operation in TRANSLATING:
        return _make_translating(op, sources, rng, lang, held_out)
    if operation == "numbers_to_digits":
        if not sources.numbers.get(lang):
            return None
        text, answer = rng.choice(sources.numbers[lang])
        text = answer if rng.random() < 0.2 else text  # a recogniser may have written the figures already
        return Item(operation, wording(op, {}, rng, held_out), text, answer, lang)
    pool = sources.sentences[lang]
    text = " ".join(rng.choice(pool) for _ in range(op.sentences + (op.sentences > 1 and rng.random() < 0.3)))
    return about(operation, text, rng, lang, held_out, other=rng.choice(pool))


def about(
    operation: str, text: str, rng: random.Random, lang: str = "en", held_out: bool = False, other: str = ""
) -> Item | None:
    """An item of an operation (none that translates) about a given text; None where it does not apply.

    other: a text from which a word that is not said is drawn, for "yes if it occurs".
    """
    op = OPERATIONS[operation]
    if not words(text) or len(sentences(text)) < op.sentences:
        return None
    arguments = op.draw(text, rng)
    absent = {"contains": 0.5, "occurrences": 0.15}.get(operation, 0.0)  # how often the word is one that is not said
    if other and rng.random() < absent:
        arguments = op.draw(other, rng)
        if arguments is not None and checks.holds(text, arguments["word"]):
            return None
    if arguments is None:
        return None
    return Item(operation, wording(op, arguments, rng, held_out), text, op.answer(text, arguments), lang, arguments)


def _make_translating(op: Operation, sources: Sources, rng: random.Random, lang: str, held_out: bool) -> Item | None:
    directions = sorted(direction for direction in sources.pairs if direction[0] == lang and sources.pairs[direction])
    if not directions:
        return None
    source, target = rng.choice(directions)
    arguments = {"language": languages.name(target)}
    filled = wording(op, arguments, rng, held_out)
    pool = sources.pairs[source, target]
    if op.name == "transcribe_translate":
        text, translation = rng.choice(pool)
        return Item(op.name, filled, text, f"{text}\n{translation}", lang, arguments)
    drawn = [rng.choice(pool) for _ in range(2)]
    if not all(side[-1] in ".!?" and len(sentences(side)) == 1 for pair in drawn for side in pair):
        return None
    text = " ".join(text for text, _ in drawn)
    return Item(op.name, filled, text, drawn[0 if op.name == "translate_first" else -1][1], lang, arguments)
