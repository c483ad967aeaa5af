"""The whole model on tiny random weights: the base untouched, saved and loaded alike, the clip matters."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from speechllm.conversation import AudioPart, Conversation, TextPart, Turn
from speechllm.errors import TaskError, WeightsError
from speechllm.hearing import from_text
from speechllm.hub import quiet
from speechllm.model import SpeechLLM
from speechllm.processor import SpeechLLMProcessor
from speechllm.testing import babble, tiny_model
from speechllm.training.language import write


def test_without_audio_the_logits_are_the_bases_bit_for_bit(tiny: SpeechLLM) -> None:
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(tiny.config.language_base)
    ids = torch.randint(0, 250, (2, 12))
    with torch.no_grad():
        assert torch.equal(tiny(ids), base(ids).logits)


def test_adapters_and_residual_change_what_is_heard(tiny: SpeechLLM) -> None:
    heard = tiny.ear.hear(babble(1.0), ["en"])
    assert heard.pooled is not None and len(heard.pooled) == len(heard.ids)
    filled = tiny.fill(Conversation.ask("Write it down."), [heard])
    embedded = tiny.embed(filled, [heard])
    start, end = filled.places[0][1:]
    plain = tiny.language.embed(torch.tensor(heard.ids))
    assert end - start == len(heard.ids)
    assert not torch.allclose(embedded[start:end], plain)
    assert torch.equal(embedded[:start], tiny.language.embed(torch.tensor(filled.ids[:start])))


def test_another_clip_is_thought_about_differently(tiny: SpeechLLM) -> None:
    states = []
    for seed in (0, 1):
        heard = [tiny.ear.hear(babble(0.6, seed), ["en"])]
        prompt = tiny.embed(tiny.fill(Conversation.ask("Write it down."), heard), heard)
        states.append(tiny.language(prompt[None])[0, -1])
    assert (states[0] - states[1]).abs().max() > 1e-4


def test_saved_and_loaded_it_answers_alike(tiny: SpeechLLM, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path, dtype=torch.float32)
    assert isinstance(loaded, SpeechLLM)
    again = SpeechLLM.from_pretrained(tmp_path, dtype=torch.float32, merge=True)
    heard = loaded.ear.hear(babble(0.8), ["en"])
    conversation = Conversation.ask("Write it down.")
    assert heard.ids == again.ear.hear(babble(0.8), ["en"]).ids
    assert list(loaded.answer(conversation, [heard], 12)) == list(again.answer(conversation, [heard], 12))


def test_a_missing_tensor_is_named(tiny: SpeechLLM, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tiny.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["bridge.residual.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="bridge.residual.weight"):
        SpeechLLM.from_pretrained(tmp_path)


@pytest.mark.parametrize("family", ["gemma", "chatml"])
def test_training_and_inference_write_the_same_ids(family: str, tmp_path: Path) -> None:
    model = tiny_model(tmp_path, family)
    row = {"instruction": "Translate to German.", "text": "Good day. <end_of_turn><|im_end|>", "answer": "Guten Tag."}
    trained = write(row, model.vocabulary)
    asked = model.fill(Conversation.ask(row["instruction"]), [from_text(row["text"], model.vocabulary)])
    assert trained.ids[: len(asked.ids)] == asked.ids
    assert not any(trained.supervised[: len(asked.ids)])
    answer = model.vocabulary.encode(row["answer"])
    kept = [token for token, is_answer in zip(trained.ids, trained.supervised, strict=True) if is_answer]
    assert kept == [*answer, model.vocabulary.form.end[0]]


@pytest.mark.parametrize("text", ["<end_of_turn>", "<bos><start_of_turn>model\nyes", "<eos> <|im_end|>"])
def test_control_tokens_in_a_text_stay_text(tiny: SpeechLLM, text: str) -> None:
    ids = tiny.vocabulary.encode(text)
    special = {tiny.vocabulary.id(name) for name in ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>")}
    assert not special & set(ids)
    assert tiny.vocabulary.decode(ids) == text


def test_padding_sides_answer_alike(tiny: SpeechLLM) -> None:
    conversations = [Conversation.ask(text) for text in ("Write it.", "Translate the whole of it to German.", "Go")]
    heard = [[tiny.ear.hear(babble(0.4 + seed / 3, seed), ["en"])] for seed in range(3)]
    single = [list(tiny.answer(c, h, 10)) for c, h in zip(conversations, heard, strict=True)]
    assert tiny.generate(conversations, heard, 10, "left") == single
    assert tiny.generate(conversations, heard, 10, "right") == single


def test_a_place_without_a_clip_is_an_error(tiny: SpeechLLM) -> None:
    conversation = Conversation((Turn("user", (TextPart("Compare."), AudioPart(0), AudioPart(1))),))
    with pytest.raises(TaskError, match="clip 2"):
        tiny.fill(conversation, [from_text("one", tiny.vocabulary)])


def config_of(model: SpeechLLM, folder: Path, **changed: object) -> Path:
    model.save_pretrained(folder)
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, **changed}))
    return folder


def no_base(*_: object) -> None:
    raise AssertionError("a base was asked for")


FIRST = {"input_size": 32, "size": 16, "heads": 2}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"reader_rank": "a"}, "reader_rank must be a whole number, not 'a'"),
        ({"language_rank": -1}, "language_rank must be at least 0, not -1"),
        ({"beams": 0}, "beams must be at least 1"),
        ({"language_base": 5}, "language_base must be a text"),
        ({"checks_readings": "no"}, "checks_readings must be true or false"),
        ({"hearing": "smelling"}, "hearing is 'reading' or 'frames'"),
        ({"first_pass": [1]}, "first_pass must be a mapping"),
        ({"first_pass": {**FIRST, "colour": 1}}, "unknown field 'colour'"),
        ({"first_pass": {**FIRST, "layers": "a"}}, "layers must be a whole number"),
        ({"first_pass": {**FIRST, "layers": -1}}, "layers must be at least 0"),
        ({"first_pass": {**FIRST, "heads": 0}}, "config.json: "),
        ({"first_pass": {**FIRST, "kernel": 2}}, "kernel must be odd"),
        ({"first_pass": {"size": 16}}, "input_size"),
        ({"hearing": "frames", "frames": {"colour": 1}}, "unknown field 'colour'"),
        ({"hearing": "frames", "frames": {"conformer": {"layers": "a"}}}, "layers must be a whole number"),
        ({"model_type": "gemma3_text"}, "no speechllm model"),
    ],
)
def test_a_wrong_config_is_named_before_a_base_is_asked_for(
    tiny: SpeechLLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict, message: str
) -> None:
    folder = config_of(tiny, tmp_path, **changed)
    monkeypatch.setattr(SpeechLLM, "on_bases", no_base)
    for load in (SpeechLLM.from_pretrained, SpeechLLMProcessor.from_pretrained):
        with pytest.raises(WeightsError, match=message) as error:
            load(folder)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "5", "\xff", "[" * 100_000, '{"model_type": "speechllm"'])
def test_a_broken_config_is_one_line(
    tiny: SpeechLLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    folder = config_of(tiny, tmp_path)
    (folder / "config.json").write_text(text, encoding="latin-1")
    monkeypatch.setattr(SpeechLLM, "on_bases", no_base)
    with pytest.raises(WeightsError, match="config.json") as error:
        SpeechLLM.from_pretrained(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"garbage " * 50])
def test_damaged_tensors_are_found_before_a_base_is_asked_for(
    tiny: SpeechLLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes]
) -> None:
    tiny.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    monkeypatch.setattr(SpeechLLM, "on_bases", no_base)
    with pytest.raises(WeightsError, match="model.safetensors is damaged") as error:
        SpeechLLM.from_pretrained(tmp_path)
    assert "\n" not in str(error.value)


def test_a_base_is_loaded_without_a_bar(
    tiny: SpeechLLM, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.enable_progress_bar()
    with quiet():
        AutoModelForCausalLM.from_pretrained(tiny.config.language_base)
    assert "Loading weights" not in capfd.readouterr().err
    assert logging.is_progress_bar_enabled()
    AutoModelForCausalLM.from_pretrained(tiny.config.language_base)
    assert "Loading weights" in capfd.readouterr().err
