"""Labels in the reader's own style: the corpus's words, written with the reader's capitals, marks and figures.

Corpora of read speech often give upper-case text without punctuation. A reader tuned on it forgets how to write.
The untuned reader, at a clip's true length, writes the right words in its own style but does not stop. So its text
is cut where the reference ends, and where the two disagree on a word the reference wins.
"""

from __future__ import annotations

import re

from rapidfuzz.distance import Levenshtein


def plain_words(text: str) -> list[str]:
    """Lower-case words without marks, as compared between reference and reading."""
    return [word for word in (re.sub(r"[^\w']+", "", part).lower() for part in text.split()) if word]


def styled(reference: str, heard: str, worst: float = 0.5) -> str | None:
    """Write `reference` in the style of `heard`; None where they share too little to trust (edits per word > worst)."""
    target = plain_words(reference)
    words = [word for word in heard.split() if plain_words(word)]
    plain = [plain_words(word)[0] for word in words]
    if not target or not plain:
        return None
    last = min(len(plain), int(len(target) * 1.4) + 3)
    distances = {n: Levenshtein.distance(plain[:n], target) for n in range(1, last + 1)}
    best = min(distances, key=lambda n: (distances[n], abs(n - len(target))))
    if distances[best] > worst * len(target):
        return None
    out: list[str] = []
    for is_equal, mine_span, theirs_span in _runs(plain[:best], target):
        mine, theirs = words[mine_span], target[theirs_span]
        figures = any(character.isdigit() for word in mine for character in word)
        out += mine if is_equal or figures else _as(mine, theirs)
    text = " ".join(out)
    return text if text[-1] in ".?!" or best == len(words) else text.rstrip(",;:") + "."


def _runs(heard: list[str], target: list[str]) -> list[tuple[bool, slice, slice]]:
    """Runs in which both agree or differ, in order: "42" against "forty two" is one run."""
    runs: list[tuple[bool, slice, slice]] = []
    for edit in Levenshtein.opcodes(heard, target):
        is_equal = edit.tag == "equal"
        start, other = edit.src_start, edit.dest_start
        if runs and not is_equal and not runs[-1][0]:
            _, before, beside = runs.pop()
            start, other = before.start, beside.start
        runs.append((is_equal, slice(start, edit.src_end), slice(other, edit.dest_end)))
    return runs


def _as(mine: list[str], theirs: list[str]) -> list[str]:
    """The reference's words with the capital and the closing mark of the words they replace."""
    if not theirs:
        return []
    out = list(theirs)
    if mine and mine[0][0].isupper():
        out[0] = out[0].capitalize()
    if mine and (mark := re.search(r"[.,;:?!]+$", mine[-1])):
        out[-1] += mark.group()
    return ["I" + word[1:] if word == "i" or word.startswith("i'") else word for word in out]
