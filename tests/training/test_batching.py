"""Buckets: every row once an epoch, no batch over the budget, the same batch for the same number."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from speechllm.training.batching import Buckets, pad


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(50, 200), st.integers(0, 5))
def test_an_epoch_holds_every_row_once_within_the_budget(lengths: list[int], budget: int, seed: int) -> None:
    buckets = Buckets(lengths, budget, seed)
    batches = [buckets[number] for number in range(buckets.size)]
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(max(lengths[row] for row in batch) * len(batch) <= budget for batch in batches)


def test_batches_are_addressed_by_number() -> None:
    lengths = [(7 * i) % 23 + 1 for i in range(100)]
    first, second = Buckets(lengths, 60, 1), Buckets(lengths, 60, 1)
    later = second[first.size + 3]
    assert [first[i] for i in range(first.size + 4)][-1] == later
    assert [first[i] for i in range(first.size)] != [Buckets(lengths, 60, 2)[i] for i in range(first.size)]


def test_padding_fills_on_the_right() -> None:
    out, lengths = pad([torch.tensor([1, 2, 3]), torch.tensor([4])], -100)
    assert out.tolist() == [[1, 2, 3], [4, -100, -100]]
    assert lengths.tolist() == [3, 1]
