"""Cuts a text into its sentences, and refuses in one line a text that cannot be spoken."""

from __future__ import annotations

import functools
import re
import unicodedata

from speechllm import languages
from speechllm.errors import TaskError
from speechllm.spoken_text.lexicons import LEXICONS
from speechllm.spoken_text.writing import clean, written_out

LONGEST_TEXT = 5000  # characters that are said at once
SCRIPTS = {"CJK": "Chinese", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean"}
NO_SCRIPT = {"FEMININE", "MASCULINE", "MICRO", "MODIFIER"}  # first words of letters' names that tell no script
END = re.compile(r"""[.!?…]["')\]”’»]*$""")


def sentences(text: str, most: int = 220) -> list[str]:
    """The text cut at its sentences and lines, each at most so many characters unless one word is longer.

    Longer ones are cut at ";", ":" or ",", else at a space; "Oh!" goes with what follows. The pieces joined by
    spaces are the text with its whitespace collapsed.
    """
    pieces: list[str] = []
    for line in text.splitlines():
        start, words = 0, line.split()
        for number, word in enumerate(words, start=1):
            following = words[number] if number < len(words) else ""
            if not following or _ends(word, following, number - start == 1):
                pieces += _cut(" ".join(words[start:number]), most)
                start = number
    joined: list[str] = []
    for piece in pieces:
        is_short = bool(joined) and joined[-1].count(" ") < 2 and END.search(joined[-1]) is not None
        if is_short and len(joined[-1]) + len(piece) < most:
            joined[-1] += " " + piece
        else:
            joined.append(piece)
    return joined


def _ends(word: str, following: str, is_first: bool) -> bool:
    """Whether a sentence ends with this word, given the next; `is_first`: it is the first of its sentence."""
    if not END.search(word) or not any(map(str.isalnum, following)):  # what follows is a closing quotation mark
        return bool(re.fullmatch(r"""["')\]”’»]+""", word)) and following[:1].isupper() and not is_first
    bare = word.strip("\"'()[]“”‘’«»")
    if re.search(r"[!?]", word[-3:]):
        return not (word[-1] in "\"'”’»" and following[:1].islower())
    if re.fullmatch(r"[^\W\d]\.|\d{1,3}\.", bare):  # an initial, or a number of a list or day
        return bare[0].isdigit() and not is_first and not following[:1].islower()
    if bare in _short_forms() or re.fullmatch(r"(?:[^\W\d]\.){2,8}", bare):
        return bare in ("a.m.", "p.m.", "etc.", "usw.", "Inc.", "Ltd.", "Jr.") and following[:1].isupper()
    return not (following[:1].islower() and ("…" in word or ".." in word))


@functools.lru_cache(maxsize=1)
def _short_forms() -> frozenset[str]:
    tables = [each for lexicon in LEXICONS.values() for each in (lexicon.short, lexicon.titles, lexicon.numbered)]
    return frozenset(part for table in tables for form in table for part in form.split() if part.endswith("."))


def _cut(sentence: str, most: int) -> list[str]:
    """A sentence in pieces of at most `most` characters."""
    pieces = []
    while len(sentence) > most:
        head = sentence[: most + 1]
        marks = [max(head.rfind(sign + " ") for sign in signs) + 1 for signs in (";:", ",")]
        end = next((mark for mark in marks if mark > most // 4), head.rfind(" "))
        end = end if end > 0 else sentence.find(" ")
        if end < 0:
            break
        pieces.append(sentence[:end])
        sentence = sentence[end + 1 :]
    return [*pieces, sentence]


def fit(text: str, lang: str = "en") -> list[str]:
    """The sentences of a text as they are said, ready for a voice that spells.

    Raises:
        TaskError: in one line, that the text is empty, longer than `LONGEST_TEXT`, in another script than its
            language or without anything to say, or that the language is unknown.
    """
    from speechllm.encoders.ctc import ALPHABET  # which loads torch

    if not isinstance(text, str) or not text.strip():
        raise TaskError("there is no text to speak: give a sentence or more")
    if len(text) > LONGEST_TEXT:
        raise TaskError(f"this text has {len(text):,} characters; at most {LONGEST_TEXT:,} are spoken at once")
    code = languages.code(lang)
    own = "Cyrillic" if code == "ru" else "Latin"
    scripts = [_script(letter) for letter in clean(text) if letter.isalpha()]
    foreign = [script for script in scripts if script not in (own, "")]
    if 2 * len(foreign) > len(scripts):
        found = " and ".join(dict.fromkeys(sorted(foreign, key=foreign.count, reverse=True)))
        spoken = "no" if len(foreign) == len(scripts) else "few"
        name = languages.name(code)
        raise TaskError(
            f"this text has {spoken} letters that can be spoken: it is in {found} letters, {name} needs {own}"
        )
    pieces = [piece for piece in sentences(written_out(text, code)) if ALPHABET.normalise(piece).strip("' ")]
    if not pieces:
        raise TaskError("this text has no letters that can be spoken: it holds only signs or pictures")
    return pieces


def _script(letter: str) -> str:
    """ "Latin", "Cyrillic", "Chinese", …; "" for a letter of no script."""
    first = unicodedata.name(letter, "").split(" ")[0]
    return "" if not first or first in NO_SCRIPT else SCRIPTS.get(first, first.title())
