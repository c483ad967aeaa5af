"""The one decode loop: greedy answers for one request, many, or a stream of tokens.

A draft makes a single request cheaper without changing its answer (Leviathan et al. 2023, §2, in the greedy case): the
model reads several proposed tokens in one pass and keeps them up to the first with which it disagrees. `transcribe`
drafts with the reading itself, so the LLM checks what was read in one pass and writes only where it disagrees.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from speechllm.language.base import Language

LOOP = 24  # tokens that only repeat what was just written: a greedy answer never leaves such a loop
LONGEST_RUN = 8  # tokens in the run that a loop repeats
RESYNC = 8  # draft tokens searched for the token that the model preferred


@dataclass
class Effort:
    """What a decode cost; filled while it runs."""

    passes: int = 0  # runs of the body, the prompt's included
    tokens: int = 0  # tokens written
    drafted: int = 0  # tokens taken over from the draft
    finished: list[bool] = field(default_factory=list)  # per request: whether it ended by itself
    loops: list[int] = field(
        default_factory=list
    )  # per request: tokens in the run that it only repeats; 0: it does not


@torch.inference_mode()
def decode(
    language: Language,
    prompts: Sequence[Tensor],
    stops: frozenset[int],
    limits: Sequence[int],
    draft: Sequence[int] = (),
    padding: str = "left",
    effort: Effort | None = None,
) -> Iterator[tuple[int, int]]:
    """Write greedy answers to prompts of embeddings, (N_i, H) each.

    Args:
        stops: ids that end an answer; they are not given back.
        limits: most tokens of each answer.
        draft: what a single request will probably answer.
        padding: "left" or "right", where shorter prompts are filled up; the answers are the same.
    Yields:
        (request, token id) in the order in which they are known.
    """
    effort = effort if effort is not None else Effort()
    effort.finished[:], effort.loops[:] = [False] * len(prompts), [0] * len(prompts)
    if len(prompts) == 1:
        for token in _one(language, prompts[0], stops, limits[0], list(draft), effort):
            yield 0, token
    elif prompts:
        yield from _many(language, prompts, stops, limits, padding, effort)


def _one(
    language: Language, prompt: Tensor, stops: frozenset[int], limit: int, draft: list[int], effort: Effort
) -> Iterator[int]:
    from transformers import DynamicCache

    cache = DynamicCache()
    embeddings, written = prompt[None], 0
    answer: list[int] = []
    while written < limit:
        proposed = draft[: limit - written - 1]
        kept = embeddings.shape[1]
        if proposed:
            ids = torch.tensor([proposed], device=language.device)
            embeddings = torch.cat([embeddings, language.embed(ids)], 1)
        hidden = language(embeddings, cache=cache)[0, kept - 1 :]
        chosen = language.best(hidden).tolist()
        effort.passes += 1
        agreed = 0
        while agreed < len(proposed) and chosen[agreed] == proposed[agreed] and chosen[agreed] not in stops:
            agreed += 1
        for token in chosen[: agreed + 1]:
            if token in stops:
                effort.finished[0] = True
                return
            answer.append(token)
            yield token
            if size := repeated(answer):
                effort.loops[0] = size
                return
        effort.drafted += agreed
        effort.tokens += agreed + 1
        written += agreed + 1
        if agreed < len(proposed):
            cache.crop(agreed - len(proposed))
        draft = _rest(draft, agreed, chosen[agreed])
        embeddings = language.embed(torch.tensor([[chosen[agreed]]], device=language.device))


def _rest(draft: list[int], agreed: int, token: int) -> list[int]:
    """The draft after a disagreement: after the preferred token if it comes soon, else one token was replaced."""
    ahead = draft[agreed : agreed + RESYNC]
    return draft[agreed + ahead.index(token) + 1 :] if token in ahead else draft[agreed + 1 :]


def _many(
    language: Language,
    prompts: Sequence[Tensor],
    stops: frozenset[int],
    limits: Sequence[int],
    padding: str,
    effort: Effort,
) -> Iterator[tuple[int, int]]:
    from transformers import DynamicCache

    cache = DynamicCache()
    embeddings, mask = padded(prompts, padding)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    open_rows = [limit > 0 for limit in limits]
    answers: list[list[int]] = [[] for _ in prompts]
    last = torch.tensor([len(prompt) - 1 for prompt in prompts], device=mask.device)
    place = last if padding == "right" else torch.full_like(last, embeddings.shape[1] - 1)
    while any(open_rows):
        hidden = language(embeddings, mask, positions, cache)
        chosen = language.best(hidden[torch.arange(len(prompts)), place])
        effort.passes += 1
        for row, token in enumerate(chosen.tolist()):
            if not open_rows[row]:
                continue
            if token in stops:
                effort.finished[row], open_rows[row] = True, False
                continue
            answers[row].append(token)
            effort.tokens += 1
            effort.loops[row] = repeated(answers[row])
            open_rows[row] = len(answers[row]) < limits[row] and not effort.loops[row]
            yield row, token
        if padding == "right":
            _move_left(cache, mask, positions)
            padding = "left"
        mask = torch.cat([mask, mask.new_ones(len(prompts), 1)], 1)
        positions = positions.max(1, keepdim=True).values + 1
        embeddings = language.embed(chosen[:, None])
        place = torch.zeros_like(place)


def repeated(answer: Sequence[int]) -> int:
    """Tokens in the run with which an answer ends over and over: 1 to 8, four times and 24 tokens at least; 0: none."""
    for size in range(1, LONGEST_RUN + 1):
        times = max(4, -(-LOOP // size))
        tail = list(answer[-size * times :])
        if len(tail) == size * times and tail == tail[-size:] * times:
            return size
    return 0


def once(answer: Sequence[int], size: int) -> int:
    """How many tokens of an answer stay when the run of `size` tokens that it repeats at its end is said once."""
    first = len(answer)
    while first > size and answer[first - 1] == answer[first - 1 - size]:
        first -= 1
    return first


def settled(answer: Sequence[int]) -> int:
    """How many tokens of an answer stay whatever loop its last tokens may turn out to begin."""
    return min((once(answer, size) for size in range(1, LONGEST_RUN + 1)), default=len(answer))


def _move_left(cache: Any, mask: Tensor, positions: Tensor) -> None:
    """Turn right padding into left padding in place: a gap before the answer would count in a sliding window."""
    for row, length in enumerate(mask.sum(1).tolist()):
        shift = mask.shape[1] - length
        for layer in cache.layers:
            layer.keys[row], layer.values[row] = layer.keys[row].roll(shift, 1), layer.values[row].roll(shift, 1)
        mask[row], positions[row] = mask[row].roll(shift), positions[row].roll(shift)


def padded(prompts: Sequence[Tensor], side: str) -> tuple[Tensor, Tensor]:
    """Prompts (N_i, H) as one batch (B, N, H) of zeros where padded, and its mask (B, N) int, 1 where a prompt is."""
    assert side in ("left", "right"), side
    longest = max(len(prompt) for prompt in prompts)
    out = prompts[0].new_zeros(len(prompts), longest, prompts[0].shape[1])
    mask = torch.zeros(len(prompts), longest, dtype=torch.long, device=out.device)
    for row, prompt in enumerate(prompts):
        start = longest - len(prompt) if side == "left" else 0
        out[row, start : start + len(prompt)] = prompt
        mask[row, start : start + len(prompt)] = 1
    return out, mask
