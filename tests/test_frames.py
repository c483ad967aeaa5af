"""Hearing by frames: any encoder's frames become positions, saved and loaded alike, and a toy corpus can be learned."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import soundfile
import torch
import transformers
import yaml
from safetensors.torch import load_file

from speechllm.assistant import Assistant
from speechllm.audio.clip import Clip
from speechllm.audio.decode import load
from speechllm.conversation import Conversation
from speechllm.data import spoken
from speechllm.encoders.hub import HubEncoder
from speechllm.errors import DataError, TaskError, WeightsError
from speechllm.frames import FramesConfig, log_mel_config
from speechllm.hearing import from_text, joined
from speechllm.model import SpeechLLM, SpeechLLMConfig
from speechllm.testing import babble, tiny_language, tone
from speechllm.training import frames, recipe

NARROW = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
CONFORMER = {"size": 16, "layers": 1, "heads": 2, "feed_forward": 32, "kernel": 5, "dropout": 0.0}
ASK = Conversation.ask("Write it down.")


def w2v_bert(folder: Path) -> str:
    config = transformers.Wav2Vec2BertConfig(**NARROW)
    HubEncoder(transformers.Wav2Vec2BertModel(config), transformers.SeamlessM4TFeatureExtractor()).save_pretrained(
        folder
    )
    return str(folder)


def wav2vec2(folder: Path) -> str:
    config = transformers.Wav2Vec2Config(
        **NARROW,
        conv_dim=(16,) * 7,
        feat_extract_norm="layer",
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    )
    HubEncoder(transformers.Wav2Vec2Model(config), transformers.Wav2Vec2FeatureExtractor()).save_pretrained(folder)
    return str(folder)


def conformer(folder: Path) -> str:
    return ""  # of one's own


ENCODERS = [w2v_bert, wav2vec2, conformer]


@pytest.fixture(params=ENCODERS, ids=lambda make: make.__name__, scope="module")
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SpeechLLM:
    """A model of random weights that fp16 holds exactly; tests must not change it."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("frames")
    encoder = request.param(folder / "encoder")
    sizes = FramesConfig(encoder, conformer={} if encoder else CONFORMER, stack=3, inner=24)
    config = SpeechLLMConfig(
        hearing="frames",
        frames=asdict(sizes),
        language_rank=2,
        language_alpha=2,
        language_base=str(tiny_language(folder / "language")),
    )
    made = SpeechLLM.on_bases(config)
    for parameter in made._trained().values():
        torch.nn.init.normal_(parameter.data, std=0.2)
        parameter.data.copy_(parameter.data.half())
    return made.requires_grad_(False)


def test_stacked_frames_are_the_positions(model: SpeechLLM) -> None:
    clip = babble(1.3)
    hidden, lengths = model.ear.frames(clip)
    heard = model.ear.hear(clip, ["de"])
    assert len(heard.ids) == -(-int(lengths[0]) // 3)
    assert heard.reading.text == "" and heard.reading.language == "de"
    expected, _ = model.bridge(hidden, lengths)
    torch.testing.assert_close(heard.embeddings, expected[0])
    filled = model.fill(ASK, [heard])
    embedded, (_, start, end) = model.embed(filled, [heard]), filled.places[0]
    assert torch.equal(embedded[start:end], expected[0])
    assert torch.equal(embedded[:start], model.language.embed(torch.tensor(filled.ids[:start])))
    assert torch.equal(embedded[end:], model.language.embed(torch.tensor(filled.ids[end:])))


def test_another_clip_is_heard_differently(model: SpeechLLM) -> None:
    first, second = (model.ear.hear(babble(0.8, seed)).embeddings for seed in (0, 1))
    assert first.shape == second.shape
    assert (first - second).abs().max() > 1e-3


def test_saved_and_loaded_it_hears_and_answers_alike(model: SpeechLLM, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    own = {name.split(".")[0] for name in load_file(tmp_path / "model.safetensors")}
    assert own == {"bridge", "language"} | ({"conformer"} if not model.config.frames["encoder"] else set())
    loaded = SpeechLLM.from_pretrained(tmp_path, dtype=torch.float32)
    heard, again = model.ear.hear(babble(0.8)), loaded.ear.hear(babble(0.8))
    assert torch.equal(heard.embeddings, again.embeddings)
    assert list(loaded.answer(ASK, [again], 12)) == list(model.answer(ASK, [heard], 12))


def test_batch_and_padding_do_not_change_the_answer(model: SpeechLLM) -> None:
    heard = [[model.ear.hear(babble(0.4 + seed / 3, seed))] for seed in range(3)]
    single = [list(model.answer(ASK, each, 8)) for each in heard]
    assert model.generate([ASK] * 3, heard, 8, "left") == single
    assert model.generate([ASK] * 3, heard, 8, "right") == single


def test_a_text_may_stand_in_the_place_of_a_clip(model: SpeechLLM) -> None:
    given = [from_text("Good day.", model.vocabulary)]
    filled = model.fill(ASK, given)
    assert torch.equal(model.embed(filled, given), model.language.embed(torch.tensor(filled.ids)))


def test_pieces_of_a_long_recording_stand_side_by_side(model: SpeechLLM) -> None:
    parts = [model.ear.hear(babble(0.5, seed)).shifted(seed) for seed in range(2)]
    whole = joined(parts, model.vocabulary)
    assert len(whole.ids) == len(whole.embeddings) == sum(len(part.ids) for part in parts)
    assert torch.equal(whole.embeddings[len(parts[0].ids) :], parts[1].embeddings)


def test_an_assistant_answers_about_frames(model: SpeechLLM, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    assistant = Assistant(str(tmp_path), device="cpu")
    clip = load(Path(__file__).parents[1] / "demos/clips/en_clouds.ogg")
    answer = assistant.run("transcribe", audio=clip, max_new_tokens=8)
    assert answer.finish != "no speech" and answer.reading == "" and not answer.words
    heard = [assistant.model.ear.hear(clip)]
    expected = assistant.model.answer(Conversation.ask(answer.prompt), heard, 8)
    assert answer.text == assistant.model.vocabulary.decode(expected).strip()
    assert assistant.run("transcribe", audio=tone(1.0)).finish == "no speech"
    with pytest.raises(TaskError, match="no first pass"):
        assistant.run("transcribe", audio=clip, reader="ctc")


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.05])
def test_very_short_clips_give_at_least_one_position(model: SpeechLLM, seconds: float) -> None:
    heard = model.ear.hear(tone(seconds))
    assert len(heard.ids) >= 1
    assert torch.isfinite(heard.embeddings).all()


def test_training_hears_what_inference_hears(model: SpeechLLM, tmp_path: Path) -> None:
    paths = []
    for seed in range(3):
        clip = babble(0.5 + seed / 4, seed)
        soundfile.write(tmp_path / f"{seed}.wav", clip.samples, clip.rate)
        paths.append(str(tmp_path / f"{seed}.wav"))
    own = None if model.config.frames["encoder"] else model.ear.encoder
    listening = frames.Listening(own, model.bridge, model.language)
    cached = frames.frames_cache(tmp_path, "key", paths, model.ear.encoder)
    row = {"instruction": "Write it down.", "answer": "Good day."}
    written = [
        (frames.write(row, listening.positions(len(cached[i]["frames"])), model.vocabulary), i) for i in range(3)
    ]
    for filled, place in written:
        asked = model.fill(ASK, [model.ear.hear(Clip(*soundfile.read(paths[place], dtype="float32")))])
        assert filled.ids[: len(asked.ids)] == asked.ids
        assert not any(filled.supervised[: len(asked.ids)])
    options = frames.FramesOptions(recipe.Schedule(steps=1), (), tokens=10_000, augment=False)
    together = frames.FramesObjective(listening, written, cached, options)
    loss, figures = together.loss(together.module, together.batch(0))
    expected = [answer_loss_by_hand(model, Path(paths[place]), row) for _, place in written]
    assert float(loss) == pytest.approx(sum(expected) / 3, abs=5e-3)
    assert figures["tokens"] == 3 * (len(model.vocabulary.encode(row["answer"])) + 1)


def answer_loss_by_hand(model: SpeechLLM, path: Path, row: dict) -> float:
    """Mean of -log p of the answer's tokens after what inference would put before them."""
    heard = [model.ear.hear(Clip(*soundfile.read(path, dtype="float32")))]
    prompt = model.embed(model.fill(ASK, heard), heard)
    answer = torch.tensor([*model.vocabulary.encode(row["answer"]), model.vocabulary.form.end[0]])
    embeddings = torch.cat([prompt, model.language.embed(answer)])[None]
    scores = model.language.scores(model.language(embeddings)[0, len(prompt) - 1 : -1]).log_softmax(-1)
    return float(-scores[torch.arange(len(answer)), answer].mean())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stack": 0}, "stack and inner"),
        ({"conformer": {"colour": 1}}, "colour"),
        ({"conformer": {"kernel": 4}}, "kernel must be odd"),
        ({"encoder": "facebook/w2v-bert-2.0", "conformer": {"size": 8}}, "no conformer"),
    ],
)
def test_an_ear_that_cannot_be_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        FramesConfig(**fields)


def test_an_unknown_way_of_hearing_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="'reading' or 'frames', not 'feeling'"):
        SpeechLLM.on_bases(SpeechLLMConfig(hearing="feeling", language_base=str(tmp_path)))


TEXTS = ("Yes.", "No, never.", "A red cat.")


@pytest.fixture
def toy_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three made clips with texts, and one of a tone that says nothing."""
    folder = tmp_path / "data" / "speech" / "toy"
    folder.mkdir(parents=True)
    lines = []
    for seed, text in enumerate((*TEXTS, "")):
        clip = babble(0.5 + seed / 8, seed) if text else tone(0.6)
        soundfile.write(folder / f"{seed}.wav", clip.samples, clip.rate)
        lines.append({"audio": f"{seed}.wav", "split": "train", **({"text": text, "lang": "en"} if text else {})})
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    monkeypatch.setenv("SPEECHLLM_DATA", str(tmp_path / "data"))
    return folder


def toy_recipe(folder: Path, encoder: str, steps: int) -> Path:
    options = {
        "corpora": ["toy"],
        "encoder": encoder,
        "base": str(tiny_language(folder / "language", "chatml")),
        "rank": 4,
        "alpha": 8,
        "stack": 4,
        "inner": 32,
        "tokens": 2000,
        **({} if encoder else {"conformer": CONFORMER}),
        "schedule": {"steps": steps, "lr": 0.02, "warmup": 2, "save_every": 5, "log_every": 1},
    }
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump({"name": "toy", "frames": options}))
    return path


@pytest.mark.parametrize("make", [w2v_bert, conformer], ids=lambda make: make.__name__)
def test_a_recipe_learns_a_toy_corpus(make: Callable[[Path], str], toy_corpus: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder = recipe.run(toy_recipe(tmp_path, make(tmp_path / "encoder"), steps=60), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run/frames/log.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < 0.6 * lines[0]["loss"]
    model = SpeechLLM.from_pretrained(folder, merge=True)
    answers = []
    for row in spoken.rows(["toy"], ["transcribe"]):
        heard = [model.ear.hear(Clip(*soundfile.read(row["audio"], dtype="float32")))]
        answer = model.vocabulary.decode(model.answer(Conversation.ask(row["instruction"]), heard, 20))
        answers.append((answer, row["answer"]))
    assert sum(answer == wanted for answer, wanted in answers) >= 3


@pytest.mark.parametrize("make", [wav2vec2, conformer], ids=lambda make: make.__name__)
def test_a_killed_run_goes_on_to_the_same_model(
    make: Callable[[Path], str], toy_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    path = toy_recipe(tmp_path, make(tmp_path / "encoder"), steps=8)
    whole = load_file(recipe.run(path, tmp_path / "whole") / "model.safetensors")
    asked, loss = [], frames.FramesObjective.loss

    def killed(self: frames.FramesObjective, module: torch.nn.Module, batch: tuple) -> tuple:
        asked.append(1)
        if len(asked) > 6:
            raise KeyboardInterrupt
        return loss(self, module, batch)

    with monkeypatch.context() as patch:
        patch.setattr(frames.FramesObjective, "loss", killed)
        with pytest.raises(KeyboardInterrupt):
            recipe.run(path, tmp_path / "cut")
    model = recipe.run(tmp_path / "cut")
    again = load_file(model / "model.safetensors")
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    before = (model / "model.safetensors").read_bytes()
    assert (recipe.run(tmp_path / "cut") / "model.safetensors").read_bytes() == before


def test_a_recipe_writes_out_the_conformer_it_trains() -> None:
    options = frames.FramesOptions(recipe.Schedule(steps=1), ("toy",), conformer={"size": 16, "heads": 2})
    assert options.config().conformer == asdict(log_mel_config({"size": 16, "heads": 2}))
