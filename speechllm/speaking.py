"""Speech tokens for a text: letter by letter, codes drawn until the model says that the letter is done.

Codes are drawn by nucleus sampling; one that fills too much of what was just said is drawn anew from the whole
distribution (Chen et al. 2024, "VALL-E 2", §3.3: repetition-aware sampling). A letter that has had its most steps is
closed, so that no answer runs away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from speechllm.language.base import Language
from speechllm.language.speech import SpeechTokens
from speechllm.woven import PAUSE, most_steps


@dataclass(frozen=True)
class Sampling:
    """How codes are drawn."""

    temperature: float = 0.6  # 0: the likeliest, always
    top_p: float = 0.8  # probability that the nucleus holds
    window: int = 25  # codes looked back on
    most: float = 0.6  # share of the window that one code may fill before it is drawn anew
    seed: int | None = None  # None: another every time

    def moved(self, by: int) -> Sampling:
        """The same with another seed, `by` further on."""
        return self if self.seed is None else replace(self, seed=(self.seed + by) % (1 << 32))


class Sampler:
    """Draws columns of logits by a `Sampling`; the same seed draws the same."""

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self.generator = torch.Generator()
        if sampling.seed is None:
            self.generator.seed()
        else:
            self.generator.manual_seed(sampling.seed)
        self.said: list[int] = []

    def draw(self, logits: Tensor) -> int:
        """A column of logits (C,)."""
        options = self.sampling
        if options.temperature == 0:
            return int(logits.argmax())
        chances = (logits.float().cpu() / options.temperature).softmax(0)
        column = self._one(nucleus(chances, options.top_p))
        recent = self.said[-options.window :]
        if len(recent) == options.window and recent.count(column) > options.most * options.window:
            column = self._one(chances)
        self.said.append(column)
        return column

    def _one(self, chances: Tensor) -> int:
        return int(torch.multinomial(chances, 1, generator=self.generator))


def nucleus(chances: Tensor, top_p: float) -> Tensor:
    """The fewest largest of chances (C,) that hold `top_p`, the others 0 (Holtzman et al. 2020, §3.1)."""
    ordered, places = chances.sort(descending=True)
    is_kept = ordered.cumsum(0) - ordered < top_p
    return torch.zeros_like(chances).scatter(0, places[is_kept], ordered[is_kept])


@dataclass(frozen=True)
class Piece:
    """Codes that a letter or a pause was said with."""

    place: int  # among the labels
    codes: tuple[int, ...]  # of a silent letter none
    is_cut: bool  # it had its most steps before the model was done with it


@torch.inference_mode()
def say(
    language: Language,
    tokens: SpeechTokens,
    prompt: Tensor,
    before: Sequence[int],
    labels: Sequence[int],
    said: Tensor,
    is_silent: Sequence[bool],
    step_seconds: float,
    sampling: Sampling | None = None,
) -> Iterator[Piece]:
    """The codes of each letter, as soon as it is said.

    A letter ends with the step at which half of its sayings would have ended, by what the model says at each step.

    Args:
        prompt: embeddings (N, H) of everything before the first step; before: the codes of the step before it, or none.
        labels: what is said, letters and pauses; said: (len(labels), H), what `SpeechTokens.read` gives for them.
        is_silent: (len(labels),) which of them are passed over.
        step_seconds: of a step.
    """
    from transformers import DynamicCache

    cache, sampler = DynamicCache(), Sampler(sampling or Sampling())
    waiting = prompt
    step = torch.tensor(before or [-1] * tokens.group, device=prompt.device)
    for place, label in enumerate(labels):
        codes: list[int] = []
        going_on, most = 1.0, 0 if is_silent[place] else most_steps(label, step_seconds)
        while going_on >= 0.5 and len(codes) < most * tokens.group:
            row = tokens.embed(step, said[place]).to(prompt.dtype)
            hidden = language(torch.cat([waiting, row[None]])[None], cache=cache)[0, -1]
            waiting = prompt[:0]
            step = _step(tokens, hidden, sampler)
            going_on *= 1 - float(tokens.is_done(hidden, step).sigmoid())
            codes += step.tolist()
        yield Piece(place, tuple(codes), most > 0 and going_on >= 0.5 and label != PAUSE)


def _step(tokens: SpeechTokens, hidden: Tensor, sampler: Sampler) -> Tensor:
    """Codes (G,) of one step after a hidden state (H,)."""
    said = torch.zeros(0, dtype=torch.long, device=hidden.device)
    while len(said) < tokens.group:
        drawn = sampler.draw(tokens.scores(hidden, said))
        said = torch.cat([said, torch.tensor([drawn], device=hidden.device)])
    return said
