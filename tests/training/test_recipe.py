"""Recipes: the shipped ones parse, a wrong field is named, a run is never mixed with another recipe."""

from pathlib import Path

import pytest
import yaml

from speechllm.errors import DataError
from speechllm.tasks import data_folder
from speechllm.training import recipe


@pytest.mark.parametrize("path", sorted(data_folder("recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_parse(path: Path) -> None:
    parsed = recipe.read(path)
    stages = [stage for name, stage in vars(parsed).items() if name not in ("name", "voices")]
    assert len(stages) == {recipe.Recipe: 3, recipe.VoiceRecipe: 4}.get(type(parsed), 1)
    assert parsed.name == path.stem
    assert all(stage.schedule.steps > 0 and isinstance(stage.schedule.lr, float) for stage in stages)
    assert path.read_text("utf-8").startswith(f"# python train.py recipes/{path.name}\n")


VOICE = "voices: {}\nspeak: {corpora: [a], schedule: {steps: 1}}\nacoustic: {corpora: [a], schedule: {steps: 1}}\n"


def test_a_stage_that_is_not_always_wanted_may_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(VOICE)
    parsed = recipe.read(tmp_path / "r.yaml")
    assert isinstance(parsed, recipe.VoiceRecipe) and parsed.pronounce is None
    (tmp_path / "r.yaml").write_text(VOICE + "pronounce: {texts: [a.jsonl], schedule: {steps: 2}, batch: 3}\n")
    parsed = recipe.read(tmp_path / "r.yaml")
    assert isinstance(parsed, recipe.VoiceRecipe) and parsed.pronounce and parsed.pronounce.batch == 3
    (tmp_path / "r.yaml").write_text(VOICE + "pronounce: {texts: [a.jsonl], schedule: {steps: 2}, batch: 0}\n")
    with pytest.raises(DataError, match="pronounce: batch must be above 0"):
        recipe.read(tmp_path / "r.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reader: {schedule: {steps: 1}, ranks: 3}", "unknown field 'ranks'"),
        ("readers: {}", "unknown field 'readers'"),
        ("reader: {}", "schedule"),
        ("reader: {schedule: {steps: 1, lr: fast}}", "lr must be a number"),
        ("reader: {schedule: {steps: 1}}", "the stage 'ctc' is missing"),
        ("{}", "the stage 'reader' is missing"),
        ("frames: {schedule: {steps: 1}}", "corpora"),
        ("frames: {schedule: {steps: 1}, corpora: [a], conformer: {colour: 1}}", "colour"),
        ("{frames: {schedule: {steps: 1}, corpora: [a]}, reader: {schedule: {steps: 1}}}", "unknown field 'reader'"),
        ("codec: {schedule: {steps: 1}}", "corpora"),
        ("codec: {schedule: {steps: 1}, corpora: [a], model: {colour: 1}}", "model, unknown field 'colour'"),
        ("codec: {schedule: {steps: 1}, corpora: [a], batch: 0}", "batch must be above 0"),
        ("{codec: {schedule: {steps: 1}, corpora: [a]}, reader: {schedule: {steps: 1}}}", "unknown field 'reader'"),
        ("voices: {corpora: [a]}", "unknown field 'corpora'"),
        ("voices: {}", "the stage 'speak' is missing"),
        ("- 1", "mapping"),
        ("reader: [", "cannot read"),
    ],
)
def test_a_wrong_recipe_says_what_is_wrong(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_text(text)
    with pytest.raises(DataError, match=message):
        recipe.read(tmp_path / "odd.yaml")


def test_a_run_keeps_to_its_recipe(tmp_path: Path) -> None:
    shipped = data_folder("recipes") / "pocket.yaml"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("name: other")
    with pytest.raises(DataError, match="another recipe"):
        recipe.run(shipped, tmp_path / "run")


WHOLE = {
    "reader": {"schedule": {"steps": 1}, "corpora": ["a"]},
    "ctc": {"schedule": {"steps": 1}},
    "language": {"schedule": {"steps": 1}},
}


@pytest.mark.parametrize(
    ("stage", "changed", "message"),
    [
        ("reader", {"restyle": "librispeech_train"}, "restyle must be a list, each a text, not 'librispeech_train'"),
        ("reader", {"corpora": "x"}, "corpora must be a list"),
        ("reader", {"corpora": [1]}, "corpora must be a list, each a text"),
        ("reader", {"rank": True}, "rank must be a whole number"),
        ("reader", {"tail_seconds": -1.0}, "tail_seconds must be at least 0"),
        ("reader", {"tail_seconds": float("nan")}, "tail_seconds must be a number"),
        ("reader", {"base": 5}, "base must be a text"),
        ("reader", {"source": 5}, "source must be a text"),
        ("ctc", {"schedule": {"steps": 1.5}}, "schedule: steps must be a whole number, not 1.5"),
        ("ctc", {"schedule": {"steps": -1}}, "schedule: steps must be above 0, not -1"),
        ("ctc", {"schedule": {"steps": 1, "lr": 0}}, "lr must be above 0"),
        ("ctc", {"schedule": [1]}, "schedule: a mapping is wanted"),
        ("ctc", {"schedule": 5}, "schedule: a mapping is wanted, not 5"),
        ("ctc", {"dropout": 1.5}, "dropout must be at most 1"),
        ("language", {"whole_head_every": 0}, "whole_head_every must be above 0"),
        ("language", {"phone_share": 2}, "phone_share must be at most 1"),
        ("language", {"tokens": -1}, "tokens must be above 0"),
        ("language", {"rows": 0}, "rows must be above 0"),
        ("language", {"recordings": -1}, "recordings must be at least 0"),
        ("language", {"checks_readings": "no"}, "checks_readings must be true or false"),
        ("language", {"shares": [1]}, "shares must be a mapping to a number each"),
        ("language", {"shares": {"ask": "a"}}, "shares must be a mapping to a number each"),
        ("language", {"shares": {"ask": -1}}, "shares, ask must be at least 0"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(stage: str, changed: dict, message: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(yaml.safe_dump({**WHOLE, stage: {**WHOLE[stage], **changed}}))
    with pytest.raises(DataError, match=f"{stage}.*{message}") as error:
        recipe.read(path)
    assert "\n" not in str(error.value)
    assert "odd.yaml" in str(error.value)


@pytest.mark.parametrize("stage", ["reader: 5", "frames: [1]", "reader: false", "frames: {schedule: }"])
def test_a_stage_that_is_no_mapping_is_refused(stage: str, tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_text(stage)
    with pytest.raises(DataError, match="a mapping is wanted"):
        recipe.read(tmp_path / "odd.yaml")


def test_lists_null_and_whole_numbers_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    reader = {"schedule": {"steps": 1, "lr": 1, "seed": -1}, "corpora": ["a", "b"], "source": None, "rank": 0}
    path.write_text(yaml.safe_dump({**WHOLE, "reader": reader, "language": {**WHOLE["language"], "shares": None}}))
    parsed = recipe.read(path)
    assert isinstance(parsed, recipe.Recipe)
    assert parsed.reader.corpora == ("a", "b")
    assert parsed.reader.source is None
    assert parsed.language.shares is None


@pytest.mark.parametrize("text", ["[" * 3000, "name: 2024-99-99", "name: [a]\nreader: {schedule: {steps: 1}}"])
def test_what_yaml_cannot_hold_is_a_data_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_text(text)
    with pytest.raises(DataError, match="odd.yaml"):
        recipe.read(tmp_path / "odd.yaml")
