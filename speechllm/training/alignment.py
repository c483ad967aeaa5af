"""Stage `align`: the first pass learns to hear phonemes in recordings, so as to time the letters that stand for them.

Where the letters of a recording are said is what a voice learns from. The ear's CTC head tells it well in languages
that it knows; of one that it does not know it puts letters where they are not. And how a sound is spelled, nobody can
hear: in French "eau" and "o" are one. What is learned here is used for that alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from speechllm.acoustic import Acoustic
from speechllm.audio.decode import load
from speechllm.data import cache
from speechllm.hearing import Ear
from speechllm.letter_times import Spelled
from speechllm.readers.first_pass import FirstPass
from speechllm.training.ctc import CTCOptions
from speechllm.training.loop import Schedule
from speechllm.woven import PAUSE, labels, silent

HEARD_PAUSE = 1  # the label of a pause, before those of the signs that phonemes are written with


@dataclass(frozen=True)
class AlignOptions:
    """What the recipe says of this stage."""

    schedule: Schedule
    corpora: tuple[str, ...]  # that are learned, and timed by what was learned
    frames: int = 12000  # padded frames (50 Hz) of a batch
    seed: int = 0

    @property
    def ctc(self) -> CTCOptions:
        """The same for the stage `ctc`, whose objective it is."""
        return CTCOptions(schedule=self.schedule, frames=self.frames, seed=self.seed)


def spelling(reader: Acoustic) -> Callable[[str, str | None], Spelled]:
    """Letters and their language to labels: what a model that has learned to read spells.

    A pause is `HEARD_PAUSE`, and so are letters of a word that it spells nothing for: no word is silent.
    """

    def spell(said: str, lang: str | None) -> Spelled:
        wanted = labels(said)
        sounds = reader.sounds(wanted, lang)
        passed = silent(wanted, [not each for each in sounds])
        found = [
            () if skip else tuple(HEARD_PAUSE + sign for sign in each) if each and label != PAUSE else (HEARD_PAUSE,)
            for label, each, skip in zip(wanted, sounds, passed, strict=True)
        ]
        return found[1:-1]

    return spell


def listener(ear: FirstPass, signs: int) -> FirstPass:
    """A copy of the ear's first pass in float32 that learns, with a new head for the labels of `spelling`."""
    made = FirstPass(ear.conformer.config, 1 + HEARD_PAUSE + signs)
    made.conformer.load_state_dict(ear.conformer.state_dict())
    return made


def frames_cache(root: Path, key: str, rows: Sequence[dict], ear: Ear) -> cache.Cache:
    """Of each row (audio) `hidden` (T, D) fp16, the ear's frames. key: names what made them."""
    plain = [{"audio": row["audio"]} for row in rows]

    def compute(part: list[dict]) -> list[dict[str, Tensor]]:
        return [{"hidden": ear.frames(load(row["audio"]))[0][0].to(torch.float16)} for row in part]

    return cache.build(root, f"frames-{cache.digest(key, plain)}", plain, compute, "frames")
