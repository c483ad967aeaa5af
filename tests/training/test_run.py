"""A whole run of the model that reads, on tiny bases and a few made clips: three stages, one model, no step by hand."""

import gzip
import json
from pathlib import Path

import pytest
import soundfile
import torch
import yaml
from safetensors.torch import load_file

from speechllm.conversation import Conversation
from speechllm.data import mixture
from speechllm.model import SpeechLLM
from speechllm.testing import babble, tiny_language, tiny_whisper, tone
from speechllm.training import recipe

TEXTS = {"de": "Nein, danke.", "en": "Yes, please.", "fr": "Je ne sais pas."}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """A clip in each of three languages and a tone; gives the rows of a mixture about them."""
    folder, rows = tmp_path / "data", []
    manifests: dict[str, list[dict]] = {"toy": [], "noises": []}
    for name in manifests:
        (folder / "speech" / name).mkdir(parents=True)
    for seed, (lang, text) in enumerate(TEXTS.items()):
        path, clip = folder / "speech" / "toy" / f"{seed}.wav", babble(0.6 + seed / 8, seed)
        soundfile.write(path, clip.samples, clip.rate)
        manifests["toy"].append({"audio": path.name, "text": text, "lang": lang, "split": "train"})
        row = {"task": "transcribe", "slots": {}, "instruction": "Write it down.", "lang": lang, "answer": text}
        rows += [{**row, "text": text, "audio": str(path)}, {**row, "text": text.lower()}]
    soundfile.write(folder / "speech/noises/tone.wav", tone(0.6).samples, 16_000)
    manifests["noises"].append({"audio": "tone.wav", "split": "train"})
    for name, lines in manifests.items():
        (folder / "speech" / name / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "texts/sentences").mkdir(parents=True)
    with gzip.open(folder / "texts/sentences/train.jsonl.gz", "wt") as file:
        file.write("\n".join(json.dumps({"text": text, "lang": lang}) for lang, text in TEXTS.items()))
    monkeypatch.setenv("SPEECHLLM_DATA", str(folder))
    return rows


def write_recipe(folder: Path) -> Path:
    schedule = {"steps": 3, "lr": 1.0e-2, "warmup": 1, "save_every": 2, "log_every": 1}
    small = {"rank": 2, "alpha": 2, "source": None}
    stages = {
        "reader": {
            "base": str(tiny_whisper(folder / "whisper")),
            **small,
            "corpora": ["toy", "noises"],
            "restyle": ["toy"],
            "frames": 500,
            "schedule": schedule,
        },
        "ctc": {"size": 16, "layers": 1, "dropout": 0.0, "frames": 500, "schedule": schedule},
        "language": {
            "base": str(tiny_language(folder / "language")),
            **small,
            "rows": 6,
            "tokens": 500,
            "schedule": schedule,
        },
    }
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump({"name": "toy", **stages}))
    return path


def test_three_stages_make_a_model_and_a_second_start_changes_nothing(
    data: list[dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mixture, "build", lambda spec: data[: spec.rows])
    torch.manual_seed(0)
    folder = recipe.run(write_recipe(tmp_path), tmp_path / "run")
    for stage in ("reader", "ctc", "language"):
        lines = (tmp_path / "run" / stage / "log.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]
    tensors = load_file(folder / "model.safetensors")
    assert {name.split(".")[0] for name in tensors} == {"whisper", "first_pass", "bridge", "language"}
    assert all(tensors[name].any() for name in tensors if "lora_B" in name or name == "bridge.residual.weight")
    assert (recipe.run(tmp_path / "run") / "model.safetensors").read_bytes() == (
        folder / "model.safetensors"
    ).read_bytes()

    model = SpeechLLM.from_pretrained(folder, merge=True)
    heard = [model.ear.hear(babble(0.6), ["de"])]
    assert heard[0].pooled is not None
    assert len(list(model.answer(Conversation.ask("Write it down."), heard, 6))) <= 6
