"""The losses: they count answers only, wherever the padding is, and equal a plain cross-entropy."""

from pathlib import Path

import torch
from torch.nn import functional as F

from speechllm.bridge import ReadingBridge
from speechllm.model import SpeechLLM
from speechllm.readers.attention import Spelling, WhisperModel
from speechllm.testing import tiny_whisper
from speechllm.training.language import Adapted, LanguageObjective, LanguageOptions, write
from speechllm.training.loop import Schedule
from speechllm.training.reader import ReaderObjective, ReaderOptions

ROWS = [
    {"instruction": "Translate to German.", "text": "Good day.", "answer": "Guten Tag."},
    {"instruction": "Write it.", "text": "A much longer text than the other one.", "answer": "No."},
]


def objective(tiny: SpeechLLM, rows: list[dict]) -> LanguageObjective:
    written = [write(row, tiny.vocabulary) for row in rows]
    options = LanguageOptions(Schedule(steps=1), tokens=10_000)
    return LanguageObjective(Adapted(tiny.language, tiny.bridge), written, lambda row: None, options)


def test_the_loss_counts_answer_tokens_only(tiny: SpeechLLM) -> None:
    row = write(ROWS[0], tiny.vocabulary)
    both = objective(tiny, ROWS[:1])
    loss, figures = both.loss(both.module, both.batch(0))
    logits = tiny.language.scores(tiny.language(tiny.language.embed(torch.tensor([row.ids]))))[0]
    answer = [i for i, is_answer in enumerate(row.supervised) if is_answer]
    expected = F.cross_entropy(logits[[i - 1 for i in answer]], torch.tensor([row.ids[i] for i in answer]))
    assert torch.allclose(loss, expected, atol=1e-5)
    assert figures["tokens"] == len(answer)


def test_padding_does_not_change_the_loss_and_answers_count_by_the_root_of_their_length(tiny: SpeechLLM) -> None:
    each = []
    for row in ROWS:
        alone = objective(tiny, [row])
        loss, figures = alone.loss(alone.module, alone.batch(0))
        each.append((loss.item(), figures["tokens"]))
    together = objective(tiny, ROWS)
    loss, figures = together.loss(together.module, together.batch(0))
    mean = sum(loss * tokens**0.5 for loss, tokens in each) / sum(tokens**0.5 for _, tokens in each)
    assert abs(loss.item() - mean) < 1e-4
    assert figures["tokens"] == sum(tokens for _, tokens in each)


def test_the_whole_head_counts_in_one_batch_of_several(tiny: SpeechLLM) -> None:
    row = write(ROWS[0], tiny.vocabulary)
    answer = torch.tensor([token for token, is_answer in zip(row.ids, row.supervised, strict=True) if is_answer])
    tiny.language.use_rows(answer.unique())
    try:
        one = objective(tiny, ROWS[:1])
        every, few = (one.loss(one.module, one.batch(number))[0] for number in (8, 9))
        hidden = tiny.language(tiny.language.embed(torch.tensor([row.ids])))[0, -len(answer) - 1 : -1]
        scores = tiny.language.scores(hidden, every_row=True)
    finally:
        tiny.language.use_rows(None)
    assert row.supervised[-len(answer) :] == (True,) * len(answer)
    assert torch.allclose(every, F.cross_entropy(scores, answer), atol=1e-5)
    places = torch.searchsorted(answer.unique(), answer)
    assert torch.allclose(few, F.cross_entropy(scores[:, answer.unique()], places), atol=1e-5)


def test_frames_reach_the_loss_through_the_residual(tiny: SpeechLLM) -> None:
    written = [write(ROWS[0], tiny.vocabulary)]
    places = written[0].places[0]
    frames = torch.randn(places[2] - places[1], 16)
    bridge = ReadingBridge(16, tiny.language.size)
    options = LanguageOptions(Schedule(steps=1))
    with_frames = LanguageObjective(Adapted(tiny.language, bridge), written, lambda row: frames, options)
    loss, _ = with_frames.loss(with_frames.module, with_frames.batch(0))
    loss.backward()
    assert bridge.residual.weight.grad is not None
    assert bridge.residual.weight.grad.abs().sum() > 0


def test_the_reader_learns_language_text_and_end(tmp_path: Path) -> None:
    folder = tiny_whisper(tmp_path)
    model, spelling = WhisperModel.from_pretrained(folder), Spelling(folder)
    mels = [{"mel": torch.randn(40, 80)}, {"mel": torch.randn(30, 80)}]
    rows = [{"text": "Hallo.", "lang": "de"}, {"text": "", "lang": ""}]
    reader = ReaderObjective(model, spelling, rows, mels, ReaderOptions(Schedule(steps=1)))  # type: ignore[arg-type]
    _, _, ids, labels = reader.batch(0)
    by_text = dict(zip(ids.tolist()[0][:2] and [tuple(row) for row in ids.tolist()], labels.tolist(), strict=True))
    (spoken, silent) = sorted(by_text.values(), key=lambda row: row[0], reverse=True)
    text = spelling.encode("Hallo.")
    assert spoken[:4] == [spelling.languages["de"], -100, -100, text[0]]
    assert spoken[-1] == spelling.end
    assert [label for label in silent if label != -100] == [spelling.end]
    loss, figures = reader.loss(model, reader.batch(0))
    assert loss > 0
    assert 0 <= figures["end_right"] <= 1
