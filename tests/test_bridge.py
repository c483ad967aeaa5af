"""Bridges against naive loops, and what each promises: no change at first, no frame of the padding."""

import pytest
import torch
from torch import Tensor

from speechllm.bridge import ReadingBridge, StackingBridge, pool


def test_the_residual_starts_as_nothing_and_then_counts() -> None:
    bridge, embeddings, pooled = ReadingBridge(6, 4), torch.randn(3, 4), torch.randn(3, 6)
    assert torch.equal(bridge(embeddings, pooled), embeddings)
    torch.nn.init.normal_(bridge.residual.weight)
    centred = (pooled - pooled.mean(1, keepdim=True)) / (pooled.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    expected = embeddings + centred @ bridge.residual.weight.T
    torch.testing.assert_close(bridge(embeddings, pooled), expected, atol=1e-5, rtol=1e-5)


def test_a_reading_given_as_text_stays_as_it_is() -> None:
    bridge, embeddings = ReadingBridge(6, 4), torch.randn(3, 4)
    torch.nn.init.normal_(bridge.residual.weight)
    assert bridge(embeddings, None) is embeddings
    assert bridge(torch.zeros(0, 4), torch.zeros(0, 6)).shape == (0, 4)


def test_the_residual_keeps_the_dtype_of_the_embeddings() -> None:
    bridge = ReadingBridge(6, 4)
    assert bridge(torch.randn(3, 4, dtype=torch.bfloat16), torch.randn(3, 6)).dtype is torch.bfloat16


@pytest.mark.parametrize("spans", [[(0, 2), (2, 7), (7, 10)], [(4, 5)], [(0, 10), (3, 3), (10, 10), (9, 14)], []])
def test_pool_is_the_mean_of_each_span(spans: list[tuple[int, int]]) -> None:
    hidden = torch.randn(10, 3)
    found = pool(hidden, spans)
    assert found.shape == (len(spans), 3)
    for row, (start, end) in zip(found, spans, strict=True):
        start = min(start, 9)
        torch.testing.assert_close(row, hidden[start : max(start + 1, min(end, 10))].mean(0))


def naive(bridge: StackingBridge, row: Tensor) -> Tensor:
    """One row (T, D), its frames k at a time through the two layers by hand; the last is filled up with zeros."""
    first, _, second = bridge.layers
    out = []
    for start in range(0, len(row), bridge.stack):
        frames = [*row[start : start + bridge.stack]]
        frames += [torch.zeros(row.shape[1])] * (bridge.stack - len(frames))
        inner = first.weight @ torch.cat(frames) + first.bias
        out.append(second.weight @ inner.clamp(min=0) + second.bias)
    return torch.stack(out)


@pytest.mark.parametrize("stack", [1, 2, 5])
def test_stacking_equals_a_loop_over_positions(stack: int) -> None:
    bridge, hidden, lengths = StackingBridge(6, 4, stack, inner=8), torch.randn(3, 11, 6), torch.tensor([11, 7, 1])
    found, counts = bridge(hidden, lengths)
    assert counts.tolist() == [-(-length // stack) for length in (11, 7, 1)]
    for row, (length, count) in enumerate(zip(lengths.tolist(), counts.tolist(), strict=True)):
        torch.testing.assert_close(found[row, :count], naive(bridge, hidden[row, :length]))


def test_what_lies_past_a_length_changes_nothing() -> None:
    bridge, hidden = StackingBridge(6, 4, 3, inner=8), torch.randn(1, 9, 6)
    found, _ = bridge(hidden, torch.tensor([4]))
    hidden[:, 4:] = 100.0
    assert torch.equal(bridge(hidden, torch.tensor([4]))[0], found)
