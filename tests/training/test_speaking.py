"""The stage `speak`: rows as inference writes them, a loss over speech alone, and that it learns."""

import pytest
import torch

from speechllm.data.voiced import fits, groups, together
from speechllm.encoders.ctc import ALPHABET
from speechllm.language.speech import SpeechTokens
from speechllm.model import SpeechLLM
from speechllm.training.loop import Schedule
from speechllm.training.speaking import Speaking, SpeakObjective, SpeakOptions, write
from speechllm.woven import PAUSE

CODES = torch.arange(28).view(2, 14) % 8
FOUND = {"codes": CODES.to(torch.int16), "spans": torch.tensor([(2, 4), (5, 6), (7, 8)])}
ROW = {"text": "A b", "corpus": "toy", "speaker": "ann"}


@pytest.fixture
def tokens(tiny: SpeechLLM) -> SpeechTokens:
    torch.manual_seed(0)
    return SpeechTokens(tiny.language.size, 8)


def test_sentences_of_one_speaker_stand_together() -> None:
    rows = [{**ROW, "speaker": name} for name in (*"aab", None, None)]
    found = groups(rows, [10] * 5, 40, 0)
    assert sorted(map(sorted, found)) in ([[0, 1], [2], [3], [4]], [[0], [1], [2], [3], [4]])
    assert any(len(group) == 2 for seed in range(9) for group in groups(rows, [10] * 5, 40, seed))
    assert groups(rows[:1], [100], 40, 0) == [[0]]


def test_rows_together_keep_frames_letters_and_samples_in_step() -> None:
    samples = torch.arange(14 * 5)
    one = together([ROW, {**ROW, "text": "A B"}], [{**FOUND, "samples": samples}] * 2, [0, 1], 2)
    assert one["text"] == "A b a b"
    assert one["codes"].shape == (2, 28) and one["samples"].shape == (140,) and one["places"].shape == (28,)
    a, b = ALPHABET.encode("ab")
    assert one["labels"].tolist() == [PAUSE, a, PAUSE, b, PAUSE] * 2
    assert (one["places"].diff() >= 0).all() and set(one["places"].tolist()) == set(range(10))
    assert (one["places"][::2] == one["places"][1::2]).all()


def test_rows_with_more_letters_than_frames_are_known() -> None:
    assert fits(ROW, FOUND, 2)
    assert not fits({**ROW, "text": "A b c d e f"}, FOUND, 2)
    assert not fits({**ROW, "text": "!"}, FOUND, 2)


def test_a_row_is_a_request_and_steps(tiny: SpeechLLM) -> None:
    row = write(together([ROW], [FOUND], [0], 2), 2, tiny.vocabulary, 0)
    assert "A b" in tiny.vocabulary.decode(row.prompt.tolist())
    assert torch.equal(row.codes.flatten(), CODES[0])
    assert int(row.is_done.sum()) == 5 and bool(row.is_done[-1])
    ends = row.is_done.nonzero()[:-1, 0]
    assert torch.equal(row.letters[ends + 1], row.following[ends])
    assert int(row.following[-1]) == 0


def test_the_loss_is_that_of_rows_alone_and_falls(tiny: SpeechLLM, tokens: SpeechTokens) -> None:
    module = Speaking(tiny.language, tokens)
    longer = {**ROW, "text": "A longer row"}
    wide = {
        "codes": (torch.arange(120).view(2, 60) % 8),
        "spans": torch.tensor([(4 * i, 4 * i + 2) for i in range(12)]),
    }
    options = SpeakOptions(Schedule(1), ("toy",), tokens=400, wrong=0.0, frames=20)
    both = SpeakObjective(module, [{**ROW, "speaker": None}, {**longer, "speaker": None}], [FOUND, wide],
                          tiny.vocabulary, options)  # fmt: skip
    batch = both.batch(0)
    assert batch.steps.tolist() == [7, 30]
    whole, figures = both.loss(module, batch)
    assert figures["steps"] == 37
    losses = []
    for row, found in (({**ROW, "speaker": None}, FOUND), ({**longer, "speaker": None}, wide)):
        alone = SpeakObjective(module, [row], [found], tiny.vocabulary, options)
        alone.rows = [each for each in both.rows if len(each.codes) == len(found["codes"][0]) // 2]
        losses.append(alone.loss(module, alone.batch(0))[0].item())
    one, two = losses
    assert whole.item() == pytest.approx((7 * one + 30 * two) / 37, abs=1e-4)
    optimizer = torch.optim.Adam(tokens.parameters(), lr=0.05)
    for _ in range(30):
        loss, _ = both.loss(module, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.7 * whole.item()


def test_some_steps_are_read_wrong(tiny: SpeechLLM, tokens: SpeechTokens) -> None:
    options = SpeakOptions(Schedule(1), ("toy",), wrong=1.0)
    objective = SpeakObjective(Speaking(tiny.language, tokens), [ROW], [FOUND], tiny.vocabulary, options)
    batches = [objective.batch(number) for number in range(20)]
    assert any(not torch.equal(each.read[:, 1:], each.codes[:, :-1]) for each in batches)
    assert all(torch.equal(each.codes, batches[0].codes) and (each.read[:, 0] == -1).all() for each in batches)
    assert torch.equal(objective.batch(3).read, batches[3].read)
