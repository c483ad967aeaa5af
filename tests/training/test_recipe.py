"""Recipes: the shipped ones parse, a wrong field is named, a run is never mixed with another recipe."""

from pathlib import Path

import pytest

from speechllm.errors import DataError
from speechllm.tasks import data_folder
from speechllm.training import recipe


@pytest.mark.parametrize("path", sorted(data_folder("recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_parse(path: Path) -> None:
    parsed = recipe.read(path)
    stages = [vars(parsed)[name] for name in vars(parsed) if name != "name"]
    assert len(stages) == (1 if isinstance(parsed, recipe.FramesRecipe) else 3)
    assert parsed.name == path.stem
    assert all(stage.schedule.steps > 0 and isinstance(stage.schedule.lr, float) for stage in stages)
    assert path.read_text("utf-8").startswith(f"# python train.py recipes/{path.name}\n")


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
