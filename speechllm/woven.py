"""Speech and its letters step by step: which letter is said at which frames.

Where a letter's sound begins and ends is known in training from the alignment of the CTC head, and in speaking the
model itself says when a letter is done. So the model always knows what it is saying, nothing can be skipped or said
over and over, and sound leaves as it comes. (VALL-E, Wang et al. 2023, leaves the alignment to attention, which
thousands of hours teach.)
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise

from speechllm.encoders.ctc import ALPHABET
from speechllm.errors import DataError

PAUSE = ALPHABET.encode("a b")[1]  # the space: between words, before the first and after the last
SHORT = 4  # frames that two letters share evenly between them; a longer pause belongs to the space beside it
KEPT = 2  # of a longer pause that the letter beside it keeps
SILENT = (-1, -1)  # the span of a letter that is written, but not said
LETTER_SECONDS, PAUSE_SECONDS = 0.5, 1.0  # that a letter or a pause may take at most


def letters(text: str) -> str:
    """The letters of a text as they are said, its words with one space between."""
    return ALPHABET.normalise(text)


def labels(said: str) -> list[int]:
    """Labels of letters, with a pause before and after them."""
    return [PAUSE, *ALPHABET.encode(said), PAUSE]


def silent(labels: Sequence[int], is_silent: Sequence[bool]) -> list[bool]:
    """Which labels are not said: those of silent letters, but no pause, and no word as a whole."""
    found = list[bool]()
    for is_pause, word in groupby(zip(labels, is_silent, strict=True), key=lambda each: each[0] == PAUSE):
        flags = [flag for _, flag in word]
        found += [flag and not is_pause and not all(flags) for flag in flags]
    return found


def edges(said: str, spans: Sequence[tuple[int, int]], frames: int, group: int = 1) -> list[int]:
    """Where the stretches of `labels(said)` meet: [0, …], one more than there are labels.

    Args:
        spans: (start, end) frames of each letter, as the CTC head hears them; between them it hears nothing.
        frames: of the clip.
        group: every edge is a multiple of it; a stretch has at least so many frames, that of a silent letter none.
    Raises:
        DataError: there are no letters, or more than fit into the frames.
    """
    heard = [number for number, span in enumerate(spans) if span != SILENT]
    count, last = len(heard) + 2, frames - frames % group
    if not heard or len(spans) != len(said) or count * group > last:
        raise DataError(f"{len(said)} letters with {len(spans)} spans do not fit into {frames} frames")
    wanted = [max(0, spans[heard[0]][0] - KEPT)]
    for one, other in pairwise(heard):
        end, start = spans[one][1], spans[other][0]
        pause = max(0, start - end)
        if pause <= SHORT or " " not in (said[one], said[other]):
            wanted.append(end + pause // 2)
        else:
            wanted.append(start - KEPT if said[one] == " " else end + KEPT)
    wanted.append(spans[heard[-1]][1] + SHORT)
    found = [0]
    for edge in wanted:
        found.append(max(group * round(edge / group), found[-1] + group))
    found.append(last)
    for number in reversed(range(1, count)):
        found[number] = min(found[number], found[number + 1] - group)
    return _with_empty(found, [span == SILENT for span in spans])


def _with_empty(found: Sequence[int], is_silent: Sequence[bool]) -> list[int]:
    """Edges of all stretches from those of the ones that are said, pauses at both ends included."""
    all_of_them, place = [found[0]], 0
    for silent in [False, *is_silent, False]:
        place += not silent
        all_of_them.append(found[place])
    return all_of_them


def spread(labels: Sequence[int], bounds: Sequence[int]) -> list[int]:
    """The label of each frame."""
    return [label for label, (start, end) in zip(labels, pairwise(bounds), strict=True) for _ in range(start, end)]


def most_steps(label: int, step_seconds: float) -> int:
    """Steps that a letter or pause may take."""
    return max(1, round((PAUSE_SECONDS if label == PAUSE else LETTER_SECONDS) / step_seconds))
