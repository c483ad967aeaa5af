"""Corrupt a text the way a recogniser misreads speech, so that the language model learns to see through it.

A word gives way to another real word of the same consonants ("farm", "firm"), gets a similar letter,
loses, doubles or swaps one, ends wrongly, is dropped, or is joined to its neighbour.
"""

import random
import re
from collections.abc import Iterable, Mapping, Sequence

_SIMILAR = {
    "a": "eo", "e": "iao", "i": "eyj", "o": "ua", "u": "oü", "y": "i", "b": "pv", "p": "b", "d": "t",
    "t": "d", "g": "k", "k": "gc", "c": "ks", "s": "zc", "z": "s", "v": "fwb", "f": "v", "w": "v",
    "m": "n", "n": "m", "l": "r", "r": "l", "ä": "e", "ö": "o", "ü": "u", "é": "e", "è": "e", "á": "a",
    "í": "i", "ó": "o", "ú": "u", "č": "c", "š": "s", "ž": "z", "ř": "r", "ě": "e", "ý": "y", "а": "о",
    "о": "а", "е": "и", "и": "е", "ы": "и", "б": "п", "п": "б", "д": "т", "т": "д", "г": "к", "к": "г",
    "з": "с", "с": "з", "в": "ф", "ф": "в", "ж": "ш", "ш": "щ",
}  # fmt: skip
_VOWELS = set("aeiouyäöüáéíóúàèìòùâêîôûëïýěůаеёиоуыэюя")
_ENDINGS = ("s", "e", "n", "d", "ed", "en", "er", "es", "t", "a", "o")
_CYRILLIC_ENDINGS = ("и", "а", "у", "ы", "й")
_LETTERS = re.compile(r"[^\W\d_]+")


def skeleton(word: str) -> str:
    """First letter and consonants: words that share it sound alike."""
    lower = word.lower()
    return lower[:1] + "".join(letter for letter in lower[1:] if letter not in _VOWELS)


def sound_alikes(sentences: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Words of the sentences that sound alike, by `skeleton`."""
    found: dict[str, dict[str, None]] = {}
    for sentence in sentences:
        for word in _LETTERS.findall(sentence.lower()):
            if len(word) > 2:
                found.setdefault(skeleton(word), {})[word] = None
    return {key: tuple(words) for key, words in found.items() if 1 < len(words) < 30}


def as_read(
    text: str, rng: random.Random, strength: float = 0.1, alikes: Mapping[str, Sequence[str]] | None = None
) -> str:
    """The text as a recogniser might read it: about `strength` of its words are misread, at least one.

    A text of one or two words stays: too little would be left of it.
    alikes: real words that sound alike, from `sound_alikes`; None misspells letters only, and drops no word.
    """
    words = text.split()
    if len(words) < 3:
        return text
    wrong = {rng.randrange(len(words))}
    wrong |= {place for place in range(len(words)) if rng.random() < strength}
    out: list[str] = []
    for place, word in enumerate(words):
        misread = _misread(word, rng, alikes) if place in wrong else word
        joined = place in wrong and alikes is not None and out and rng.random() < 0.06
        if joined:
            out[-1] += misread.lower()
        elif misread:
            out.append(misread)
    return " ".join(out)


def _misread(word: str, rng: random.Random, alikes: Mapping[str, Sequence[str]] | None) -> str:
    """The word misread, marks and capital kept; empty where it is dropped."""
    match = _LETTERS.search(word)
    if not match:
        return word
    letters = match[0]
    draw = rng.random()
    if alikes is not None and draw < 0.08 and len(letters) < 5:
        return ""
    if alikes is not None and draw < 0.5 and (others := alikes.get(skeleton(letters))):
        other = rng.choice(others)
    elif draw < 0.65 and len(letters) > 3:
        other = letters[:-1] if rng.random() < 0.5 else letters + rng.choice(_endings(letters))
    else:
        other = _misspelt(letters, rng)
    other = other.upper() if letters.isupper() and len(letters) > 1 else other
    other = other[:1].upper() + other[1:] if letters[0].isupper() else other
    return word[: match.start()] + other + word[match.end() :]


def _endings(letters: str) -> Sequence[str]:
    return _CYRILLIC_ENDINGS if letters[-1].lower() > "\u0400" else _ENDINGS


def _misspelt(letters: str, rng: random.Random) -> str:
    """One letter of the word replaced by a similar one, dropped, doubled, or swapped with the next."""
    place = rng.randrange(len(letters))
    head, letter, tail = letters[:place], letters[place], letters[place + 1 :]
    draw = rng.random()
    if draw < 0.55 and letter.lower() in _SIMILAR:
        return head + rng.choice(_SIMILAR[letter.lower()]) + tail
    if draw < 0.75 and len(letters) > 2:
        return head + tail
    if draw < 0.9 or not tail:
        return head + letter * 2 + tail
    return head + tail[0] + letter + tail[1:]


def unpunctuated(text: str) -> str:
    """Lower case without punctuation, as some readers write."""
    return " ".join(re.sub(r"(?<!\w)['’\-]|['’\-](?!\w)|[^\w\s'’\-]", " ", text.lower()).split()) or text
