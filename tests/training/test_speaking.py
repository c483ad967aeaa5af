"""The stage `speak`: rows as inference writes them, a loss over speech alone, and that it learns."""

from pathlib import Path

import pytest
import torch

from speechllm.data.voiced import fits, groups, together
from speechllm.encoders.ctc import ALPHABET
from speechllm.language.speech import SpeechTokens
from speechllm.model import SpeechLLM
from speechllm.training.loop import Schedule
from speechllm.training.said_over import said_over
from speechllm.training.speaking import Speaking, SpeakObjective, SpeakOptions, batched, write
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
    assert torch.equal(row.places[ends + 1], row.places[ends] + 1)
    assert int(row.places[-1]) == len(row.labels) - 1


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


def test_steps_are_said_over_after_the_steps_before_them(tiny: SpeechLLM, tokens: SpeechTokens) -> None:
    module = Speaking(tiny.language, tokens)
    rows = [write(together([ROW], [FOUND], [0], 2), 2, tiny.vocabulary, n) for n in (0, 1)]
    batch = batched(rows, [row.read for row in rows])
    drawn = module.drawn(batch, 1e-4, torch.Generator())
    assert [each.shape for each in drawn] == [(7, 2), (7, 2)]
    for row, found in zip(rows, drawn, strict=True):
        letters = tokens.read(row.labels[None], torch.tensor([0]))[0]
        steps = tokens.embed(row.read, letters[row.places])
        hidden = tiny.language(torch.cat([tiny.language.embed(row.prompt), steps])[None])[0, len(row.prompt) :]
        assert torch.equal(found[:, 0], tokens.scores(hidden, found[:, :0]).argmax(-1))
        assert torch.equal(found[:, 1], tokens.scores(hidden, found[:, :1]).argmax(-1))


def test_what_is_said_over_is_as_long_as_its_codes(tiny: SpeechLLM, tokens: SpeechTokens, tmp_path: Path) -> None:
    module, crowded = Speaking(tiny.language, tokens), {**ROW, "text": "A b c d e f"}
    odd = {**FOUND, "codes": torch.cat([FOUND["codes"], FOUND["codes"][:, :1]], 1)}
    rows, voiced = [{**row, "audio": str(n)} for n, row in enumerate((ROW, ROW, crowded))], [FOUND, odd, FOUND]
    found = said_over(tmp_path, "key", rows, voiced, module, tiny.vocabulary)  # type: ignore[arg-type]
    assert [len(found[row]["said"]) for row in range(3)] == [14, 15, 14]
    assert not torch.equal(found[0]["said"], FOUND["codes"][0])
    assert int(found[1]["said"][-1]) == int(odd["codes"][0, -1])
    assert torch.equal(found[2]["said"], FOUND["codes"][0])


def test_some_steps_are_read_wrong(tiny: SpeechLLM, tokens: SpeechTokens) -> None:
    options = SpeakOptions(Schedule(1), ("toy",), wrong=1.0)
    objective = SpeakObjective(Speaking(tiny.language, tokens), [ROW], [FOUND], tiny.vocabulary, options)
    batches = [objective.batch(number) for number in range(20)]
    assert any(not torch.equal(each.read[:, 1:], each.codes[:, :-1]) for each in batches)
    assert all(torch.equal(each.codes, batches[0].codes) and (each.read[:, 0] == -1).all() for each in batches)
    assert torch.equal(objective.batch(3).read, batches[3].read)
