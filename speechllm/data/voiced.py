"""Recordings as a model learns to speak them: the codes of each, and the frames of its letters.

Letters are found by aligning the text with what a CTC head hears (`letter_times.py`). Sentences of one
speaker are put one after another, so that what is learned is to go on in a voice.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from speechllm.audio.decode import load
from speechllm.codecs.base import Codec
from speechllm.data import cache
from speechllm.hearing import Ear
from speechllm.letter_times import LetterTimes
from speechllm.woven import SILENT, edges, labels, letters, spread


def voiced(
    root: Path,
    key: str,
    rows: Sequence[dict],
    codec: Codec,
    ear: Ear,
    times: LetterTimes,
    frames: cache.Cache | None = None,
) -> cache.Cache:
    """Of each row (audio, text): `codes` (K, T) int16, and `spans` (L, 2) int16, the frames of each letter.

    Args:
        key: names what made them, codec, ear, and what finds the letters.
        times: finds the letters in the ear's frames.
        frames: of each row `hidden` (T, D), the ear's, where they are known.
    """
    plain = [{"audio": row["audio"], "text": row["text"]} for row in rows]

    def compute(part: list[dict]) -> list[dict[str, Tensor]]:
        out = []
        for row in part:
            clip = load(row["audio"])
            with torch.inference_mode():
                heard = ear.frames(clip) if frames is None else _known(frames, row["row"], times)
            lang = rows[row["row"]].get("lang")
            spans = times(*heard, letters(row["text"]), lang, codec.frame_rate)
            found = torch.tensor(spans, dtype=torch.int16).view(-1, 2)
            out.append({"codes": codec.encode(clip).to(torch.int16), "spans": found})
        return out

    numbered = [{**row, "row": number} for number, row in enumerate(plain)]
    return cache.build(root, f"letters-{cache.digest(key, plain)}", numbered, compute, "codes")


def _known(frames: cache.Cache, row: int, times: LetterTimes) -> tuple[Tensor, Tensor]:
    """A row's frames as `Ear.frames` gives them."""
    weight = next(times.first_pass.parameters())
    hidden = frames[row]["hidden"].to(weight.device, weight.dtype)[None]
    return hidden, torch.tensor([hidden.shape[1]], device=weight.device)


def groups(rows: Sequence[dict], lengths: Sequence[int], most: int, seed: int) -> list[list[int]]:
    """Numbers of rows that stand together: of one speaker, of at most `most` frames but for a single longer row.

    How much of that is filled is drawn anew for each group, from a quarter on; rows without a speaker stand alone.
    """
    rng, speakers = random.Random(seed), dict[object, list[int]]()
    for number, row in enumerate(rows):
        name = (row["corpus"], row["speaker"]) if row.get("speaker") else number
        speakers.setdefault(name, []).append(number)
    found = []
    for numbers in speakers.values():
        rng.shuffle(numbers)
        room = 0
        for number in numbers:
            if lengths[number] > room:
                found.append([])
                room = rng.randint(most // 4, most)
            found[-1].append(number)
            room -= lengths[number]
    return found


def together(rows: Sequence[dict], voiced: Any, group: Sequence[int], step: int = 1) -> dict[str, Any]:
    """Rows of one speaker as one: `lang`, `text`, `codes` (K, T), `labels` (L,) and `places` (T,), one a frame.

    What else rows have, a whole number of values a frame, the result has too. step: each row's frames are cut
    to a multiple of it, and so is every stretch of a letter. Raises DataError where letters don't fit into their row.
    """
    codes, said, places, rest = [], list[int](), list[int](), dict[str, list[Tensor]]()
    for number in group:
        found, text = voiced[number], letters(rows[number]["text"])
        frames = found["codes"].shape[1]
        bounds = edges(text, [(int(start), int(end)) for start, end in found["spans"].tolist()], frames, step)
        codes.append(found["codes"][:, : bounds[-1]].long())
        places += spread(range(len(said), len(said) + len(bounds) - 1), bounds)
        said += labels(text)
        for name in found.keys() - {"codes", "spans"}:
            rest.setdefault(name, []).append(found[name][: len(found[name]) // frames * bounds[-1]])
    return {
        "lang": rows[group[0]].get("lang"),
        "text": " ".join(_lowered(rows[number]["text"]) for number in group),
        "codes": torch.cat(codes, 1),
        "labels": torch.tensor(said),
        "places": torch.tensor(places),
        **{name: torch.cat(parts) for name, parts in rest.items()},
    }


def fits(row: dict, voiced: dict[str, Tensor], step: int) -> bool:
    """Whether a row's letters fit into its frames."""
    said = letters(row["text"])
    spans, frames = voiced["spans"], voiced["codes"].shape[1]
    heard = sum(tuple(span) != SILENT for span in spans.tolist())
    return bool(said) and len(spans) == len(said) and (heard + 2) * step <= frames - 1


def _lowered(text: str) -> str:
    """Texts that were written in capitals alone say nothing by them."""
    return text.lower() if text.isupper() else text
