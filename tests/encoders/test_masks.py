"""The four policies against mask tables written out: row = the frame, column = what it sees (Li 2022)."""

import pytest
import torch

from speechllm.encoders.masks import FULL_HISTORY, OFFLINE, AttentionPolicy, limited_history, look_ahead
from speechllm.errors import DataError

TABLES = {
    "offline": (
        OFFLINE,
        """
        1 1 1 1 1 1
        1 1 1 1 1 1
        1 1 1 1 1 1
        1 1 1 1 1 1
        1 1 1 1 1 1
        1 1 1 1 1 1
        """,
    ),
    "full history": (
        FULL_HISTORY,
        """
        1 . . . . .
        1 1 . . . .
        1 1 1 . . .
        1 1 1 1 . .
        1 1 1 1 1 .
        1 1 1 1 1 1
        """,
    ),
    "limited history of 2": (
        limited_history(2),
        """
        1 . . . . .
        1 1 . . . .
        1 1 1 . . .
        . 1 1 1 . .
        . . 1 1 1 .
        . . . 1 1 1
        """,
    ),
    "small look-ahead: chunks of 2, 1 frame before": (
        look_ahead(chunk=2, left=1),
        """
        1 1 . . . . .
        1 1 . . . . .
        . 1 1 1 . . .
        . 1 1 1 . . .
        . . . 1 1 1 .
        . . . 1 1 1 .
        . . . . . 1 1
        """,
    ),
    "small look-ahead: chunks of 3, all before": (
        look_ahead(chunk=3),
        """
        1 1 1 . . . . .
        1 1 1 . . . . .
        1 1 1 . . . . .
        1 1 1 1 1 1 . .
        1 1 1 1 1 1 . .
        1 1 1 1 1 1 . .
        1 1 1 1 1 1 1 1
        1 1 1 1 1 1 1 1
        """,
    ),
    "right context frame by frame": (
        AttentionPolicy(left=1, right=2),
        """
        1 1 1 . . .
        1 1 1 1 . .
        . 1 1 1 1 .
        . . 1 1 1 1
        . . . 1 1 1
        . . . . 1 1
        """,
    ),
}


def table(drawn: str) -> torch.Tensor:
    return torch.tensor([[mark == "1" for mark in row.split()] for row in drawn.strip().splitlines()])


@pytest.mark.parametrize("name", TABLES)
def test_mask_is_the_table(name):
    policy, drawn = TABLES[name]
    expected = table(drawn)
    mask = policy.mask(len(expected))
    assert mask.dtype == torch.bool
    assert torch.equal(mask, expected)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_horizon_is_what_stacked_masks_reach(name, layers):
    policy, length = TABLES[name][0], 24
    reach = torch.eye(length)
    for _ in range(layers):
        reach = (policy.mask(length).float() @ reach > 0).float()
    for frame in range(length):
        last = int(reach[frame].nonzero().max())
        horizon = policy.horizon(frame, layers)
        assert last == (length - 1 if horizon is None else min(horizon, length - 1))


def test_look_ahead_does_not_grow_with_depth_but_right_context_does():
    assert look_ahead(8).horizon(9, layers=12) == look_ahead(8).horizon(9) == 15
    assert AttentionPolicy(right=2).horizon(9, layers=12) == 9 + 24


def test_only_offline_sees_everything():
    assert [TABLES[name][0].sees_everything for name in TABLES] == [True] + [False] * 5


@pytest.mark.parametrize("wrong", [{"left": -1}, {"right": -1}, {"chunk": 0}])
def test_impossible_policies_are_refused(wrong):
    with pytest.raises(DataError, match=next(iter(wrong))):
        AttentionPolicy(**wrong)
