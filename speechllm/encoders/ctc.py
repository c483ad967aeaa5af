"""First reader: a CTC head over characters, its greedy reading, and the alignment that times its words.

Graves et al. 2006, "Connectionist temporal classification". The alignment is the Viterbi path through the
CTC trellis: states are the labels with a blank before, between and after; a path stays, steps, or skips the
blank between two different labels.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from speechllm.errors import DataError
from speechllm.reading import Word

BLANK = 0
LETTERS = (  # trained heads hold one row a letter in this order: new letters go to the end
    " 'abcdefghijklmnopqrstuvwxyz0123456789"
    "àáâãäåæçèéêëìíîïñòóôõöøùúûüýÿœß"  # de fr es it nl pt sv
    "čďěňřšťůž"  # cs
    "ąćęłńśźż"  # pl
    "абвгдежзийклмнопрстуфхцчшщъыьэюяё"  # ru
)
UNHEARD = 1e-3  # mean posterior below which a word of digits alone counts as not spelled by the reader


class Characters:
    """The alphabet of the CTC head: id 0 is blank, then space, apostrophe, letters and digits."""

    def __init__(self, letters: str = LETTERS) -> None:
        if len(set(letters)) != len(letters):
            raise DataError("characters: a letter stands twice in the alphabet")
        self.letters = letters
        self._ids = {letter: position for position, letter in enumerate(letters, start=1)}

    def __len__(self) -> int:
        return len(self.letters) + 1

    def normalise(self, text: str) -> str:
        """Lower-cased text in the alphabet's letters, words apart by one space.

        Hyphens and dashes become spaces, other punctuation goes; a letter that is not in the alphabet becomes
        its base letter ("ő" "o", "ﬁ" "fi"), or goes if that is not there either.
        """
        return " ".join("".join(map(self._spell, unicodedata.normalize("NFC", text).lower())).split())

    def _spell(self, character: str) -> str:
        if character in self._ids:
            return character
        if character.isspace() or unicodedata.category(character) in ("Pd", "Pc") or character in "/\u2212":
            return " "
        if character in "\u2019\u2018\u02bc\u00b4`\u2032\u02b9":
            return "'"
        return "".join(part for part in unicodedata.normalize("NFKD", character).lower() if part in self._ids)

    def encode(self, text: str) -> list[int]:
        """Labels of the normalised text, without blanks."""
        return [self._ids[letter] for letter in self.normalise(text)]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of labels; blanks are left out, repeats are kept."""
        return "".join(self.letters[label - 1] for label in ids if label != BLANK)

    def encode_pieces(self, pieces: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Labels (L,) of the joined pieces and, for each, the piece (L,) that it comes from; both int64.

        The labels are those of `encode("".join(pieces))`, save where one letter is split across two pieces.
        """
        spelled = [
            (self._ids[letter], owner)
            for owner, piece in enumerate(pieces)
            for character in unicodedata.normalize("NFC", piece).lower()
            for letter in self._spell(character)
        ]
        space = self._ids[" "]
        kept: list[tuple[int, int]] = []
        for label, owner in spelled:
            if label != space or (kept and kept[-1][0] != space):
                kept.append((label, owner))
        if kept and kept[-1][0] == space:
            kept.pop()
        pairs = np.array(kept, dtype=np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]


ALPHABET = Characters()


class CTCHead(nn.Module):
    """Log-posteriors of the characters at each frame."""

    def __init__(self, size: int, vocabulary: int = len(ALPHABET)) -> None:
        super().__init__()
        self.project = nn.Linear(size, vocabulary)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, T, D) float to (B, T, V) float32 log-probabilities."""
        assert hidden.ndim == 3 and hidden.shape[2] == self.project.in_features, tuple(hidden.shape)
        return self.project(hidden).float().log_softmax(dim=-1)


@dataclass(frozen=True)
class Spelling:
    """What a CTC head spells greedily; characters, spans and confidences go together one to one."""

    text: str  # L characters
    spans: np.ndarray  # (L, 2) int64: first frame of each character, and the frame after its last
    confidences: np.ndarray  # (L,) float32: mean posterior over the character's frames


def greedy(log_probs: Tensor, lengths: Tensor, characters: Characters = ALPHABET) -> list[Spelling]:
    """The best label of each frame, repeats joined, blanks dropped; (B, T, V), (B,) to a spelling a row.

    Spaces at the ends, and spaces after spaces, are left out together with their frames.
    """
    assert log_probs.ndim == 3 and lengths.shape == log_probs.shape[:1], (log_probs.shape, lengths.shape)
    best, labels = (tensor.cpu().numpy() for tensor in log_probs.detach().float().max(dim=-1))
    rows = zip(best, labels, lengths.tolist(), strict=True)
    return [_collapse(row[:length], ids[:length], characters) for row, ids, length in rows]


def _collapse(best: np.ndarray, labels: np.ndarray, characters: Characters) -> Spelling:
    """One row of `greedy`: best (T,) log-posterior and label of each frame."""
    starts = np.flatnonzero(np.diff(labels, prepend=-1))
    ends = np.append(starts, len(labels))[1:]
    kept: list[tuple[int, int]] = []
    text = ""
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        letter = characters.decode([int(labels[start])])
        if letter and (letter != " " or (text and text[-1] != " ")):
            kept.append((start, end))
            text += letter
    if text.endswith(" "):
        kept.pop()
        text = text[:-1]
    confidences = np.array([np.exp(best[start:end]).mean() for start, end in kept], dtype=np.float32)
    return Spelling(text, np.array(kept, dtype=np.int64).reshape(-1, 2), confidences)


def align(log_probs: np.ndarray | Tensor, labels: np.ndarray | Sequence[int]) -> np.ndarray:
    """(L, 2) int64: first frame of each label and the frame after its last, on the likeliest CTC path.

    `log_probs` (T, V), `labels` (L,) without blanks; raises DataError for a label that is not in V. Where no
    path exists (fewer frames than the labels and the blanks between equal neighbours need), the labels are
    spread evenly over the clip, and spans may be empty.
    """
    scores = _as_array(log_probs)
    ids = np.asarray(labels, dtype=np.int64)
    assert scores.ndim == 2 and ids.ndim == 1, (scores.shape, ids.shape)
    if len(ids) == 0:
        return np.zeros((0, 2), dtype=np.int64)
    if ids.min() <= BLANK or ids.max() >= scores.shape[1]:
        raise DataError(f"labels to align must be 1 to {scores.shape[1] - 1}, got {ids.min()} to {ids.max()}")
    path = _best_path(scores, ids) if len(scores) >= len(ids) + int((ids[1:] == ids[:-1]).sum()) else None
    if path is None:
        edges = np.linspace(0, len(scores), len(ids) + 1).astype(np.int64)
        return np.stack([edges[:-1], edges[1:]], axis=1)
    wanted = 2 * np.arange(len(ids)) + 1  # the path never goes back, so a label's frames are one stretch
    return np.stack([np.searchsorted(path, wanted), np.searchsorted(path, wanted, side="right")], axis=1)


def _best_path(scores: np.ndarray, ids: np.ndarray) -> np.ndarray | None:
    """(T,) trellis state of each frame, 2 l + 1 for label l, even: a blank; None: every path scores -inf."""
    frames, states = len(scores), 2 * len(ids) + 1
    symbols = np.full(states, BLANK)
    symbols[1::2] = ids
    may_skip = np.zeros(states, dtype=bool)
    may_skip[3::2] = ids[1:] != ids[:-1]
    emitted = scores[:, symbols]  # (T, S)
    came_from = np.zeros((frames, states), dtype=np.int8)  # how many states back
    best = np.full(states, -np.inf)
    best[:2] = emitted[0, :2]
    candidates = np.full((3, states), -np.inf)
    for frame in range(1, frames):
        candidates[0] = best
        candidates[1, 1:] = best[:-1]
        candidates[2, 2:] = np.where(may_skip[2:], best[:-2], -np.inf)
        came_from[frame] = candidates.argmax(axis=0)
        best = candidates.max(axis=0) + emitted[frame]
    state = states - 1 if best[-1] > best[-2] else states - 2
    if not np.isfinite(best[state]):
        return None
    path = np.empty(frames, dtype=np.int64)
    for frame in range(frames - 1, -1, -1):
        path[frame] = state
        state -= int(came_from[frame, state])
    return path


def _as_array(log_probs: np.ndarray | Tensor) -> np.ndarray:
    if isinstance(log_probs, np.ndarray):
        return log_probs.astype(np.float64, copy=False)
    return log_probs.detach().double().cpu().numpy()


def token_spans(pieces: Sequence[str], log_probs: np.ndarray | Tensor, characters: Characters = ALPHABET) -> np.ndarray:
    """(N, 2) int64 frames, half-open, of each piece of a text (the pieces joined are the text), by alignment.

    A piece spans its letters, or its space if it is nothing else; a piece without letters, such as a comma,
    gets the gap between its neighbours, several in a row equal parts of it, perhaps empty. Starts and ends
    never go back.
    """
    return _piece_spans(pieces, _as_array(log_probs), characters)[0]


def _piece_spans(pieces: Sequence[str], log_probs: np.ndarray, characters: Characters) -> tuple[np.ndarray, np.ndarray]:
    """Spans (N, 2) int64 of the pieces and their mean posteriors (N,) float64, 0 where no letters are."""
    labels, owners = characters.encode_pieces(pieces)
    aligned = align(log_probs, labels)
    spans = np.full((len(pieces), 2), -1, dtype=np.int64)
    confidences = np.zeros(len(pieces))
    space = characters.letters.find(" ") + 1
    for piece in sorted(set(owners.tolist())):
        own = np.flatnonzero(owners == piece)
        heard = own[labels[own] != space]
        if len(heard) == 0 and pieces[int(piece)].strip():  # " –": the space belongs to no sound of it
            continue
        heard = heard if len(heard) else own
        spans[piece] = aligned[heard[0], 0], aligned[heard[-1], 1]
        posteriors = np.concatenate([np.exp(log_probs[slice(*aligned[i]), labels[i]]) for i in heard])
        confidences[piece] = posteriors.mean() if len(posteriors) else 0.0
    _fill_gaps(spans, len(log_probs))
    return spans, confidences


def _fill_gaps(spans: np.ndarray, frames: int) -> None:
    """Give each run of rows marked -1 equal parts of the gap between its neighbours, in place."""
    piece = 0
    while piece < len(spans):
        if spans[piece, 0] >= 0:
            piece += 1
            continue
        first = piece
        while piece < len(spans) and spans[piece, 0] < 0:
            piece += 1
        start = spans[first - 1, 1] if first else 0
        end = spans[piece, 0] if piece < len(spans) else frames
        edges = np.linspace(start, max(start, end), piece - first + 1).astype(np.int64)
        spans[first:piece] = np.stack([edges[:-1], edges[1:]], axis=1)


def word_times(
    text: str, log_probs: np.ndarray | Tensor, frame_rate: float, characters: Characters = ALPHABET
) -> tuple[Word, ...]:
    """The words of a text as written, each with the seconds in which the CTC head hears its letters.

    `log_probs` (T, V) at `frame_rate` Hz. A word without letters ("–"), or of digits that the head does not
    spell ("42" where it was said as "forty two"), gets the gap between its neighbours. Times are in order and
    inside the clip; the confidence is the mean posterior of the word's letters over their frames.
    """
    words = text.split()
    if not words:
        return ()
    pieces = [words[0]] + [" " + word for word in words[1:]]
    scores = _as_array(log_probs)
    spans, confidences = _piece_spans(pieces, scores, characters)
    unheard = [
        confidence < UNHEARD and not any(character.isalpha() for character in word)
        for word, confidence in zip(words, confidences, strict=True)
    ]
    spans[unheard] = -1
    _fill_gaps(spans, len(scores))
    seconds = spans / frame_rate
    return tuple(
        Word(word, float(start), float(end), float(confidence))
        for word, (start, end), confidence in zip(words, seconds, confidences, strict=True)
    )
