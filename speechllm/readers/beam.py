"""Beam search of one clip's text with an attention decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from speechllm.readers.attention import DecoderState, WhisperDecoder


@dataclass(frozen=True)
class Found:
    """A finished text: its tokens without the end, and the mean log-probability of a token, the end's included."""

    tokens: tuple[int, ...]
    score: float


@torch.inference_mode()
def search(
    decoder: WhisperDecoder, state: DecoderState, prompt: list[int], end: int, beams: int, limit: int
) -> list[Found]:
    """The finished texts, best first, by the mean log-probability of their tokens (Radford et al. 2022, §4.5).

    The search ends when `beams` texts have ended, or at `limit` tokens, where what is open counts as finished.

    Args:
        state: of the frames of one clip, nothing read yet.
        prompt: control tokens before the first word.
        end: the token that ends a text; those above it are control tokens and never written.
    """
    device = decoder.embed_tokens.weight.device
    logits = decoder.logits(decoder(torch.tensor([prompt], device=device), state)[:, -1])
    texts: list[tuple[int, ...]] = [()]
    sums = torch.zeros(1)
    found: list[Found] = []
    for _ in range(limit):
        scores = logits[:, : end + 1].float().log_softmax(1).cpu() + sums[:, None]
        values, places = scores.flatten().topk(min(2 * beams, scores.numel()))
        rows, tokens = places // (end + 1), places % (end + 1)
        kept: list[int] = []
        for place, (row, token, value) in enumerate(zip(rows.tolist(), tokens.tolist(), values.tolist(), strict=True)):
            if token == end and place < beams:
                found.append(Found(texts[row], value / (len(texts[row]) + 1)))
            elif token != end and len(kept) < beams:
                kept.append(place)
        if len(found) >= beams:
            return sorted(found, key=lambda one: -one.score)
        rows, tokens, sums = rows[kept], tokens[kept], values[kept]
        texts = [(*texts[row], token) for row, token in zip(rows.tolist(), tokens.tolist(), strict=True)]
        state.keep(rows.to(device))
        logits = decoder.logits(decoder(tokens[:, None].to(device), state)[:, -1])
    found += [Found(text, value / max(1, len(text))) for text, value in zip(texts, sums.tolist(), strict=True)]
    return sorted(found, key=lambda one: -one.score)
