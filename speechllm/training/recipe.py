"""A recipe is a YAML that trains: which bases, which corpora, and how long each stage learns.

Its stages say how the model hears: `reader`, `ctc` and `language` make one that reads, `frames` alone one that
listens to an encoder's frames.

    python train.py recipes/pocket.yaml            # runs/pocket, goes on where it stopped
    accelerate launch train.py recipes/pocket.yaml # the same on many devices

A run is the folder in which it happens: its recipe, the caches of what is frozen, a folder a stage with checkpoints and
`log.jsonl`, and at the end `model/`, which `Assistant` loads.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml

from speechllm.errors import DataError
from speechllm.training.ctc import CTCOptions
from speechllm.training.frames import FramesOptions
from speechllm.training.language import LanguageOptions
from speechllm.training.loop import Schedule
from speechllm.training.reader import ReaderOptions

Options = TypeVar("Options")
RECIPE = "recipe.yaml"


@dataclass(frozen=True)
class Recipe:
    """A parsed recipe of a model that reads (`hearing.py`)."""

    name: str
    reader: ReaderOptions
    ctc: CTCOptions
    language: LanguageOptions


@dataclass(frozen=True)
class FramesRecipe:
    """A parsed recipe of a model that listens to frames (`frames.py`)."""

    name: str
    frames: FramesOptions


def read(path: Path) -> Recipe | FramesRecipe:
    """Parse a recipe.

    Raises:
        DataError: it is no YAML, or a field is unknown, missing or of the wrong kind.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"cannot read the recipe {path}: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: a recipe is a mapping with name, and reader, ctc and language, or frames")
    kind = FramesRecipe if "frames" in content else Recipe
    stages = {name: hint for name, hint in get_type_hints(kind).items() if name != "name"}
    if unknown := set(content) - {"name", *stages}:
        raise DataError(f"{path}: unknown field {sorted(map(str, unknown))[0]!r} (known: name, {', '.join(stages)})")
    options: dict[str, Any] = {}
    for name, hint in stages.items():
        if name not in content:
            raise DataError(f"{path}: the stage {name!r} is missing (wanted: {', '.join(stages)}; or frames alone)")
        options[name] = _options(hint, content[name] or {}, f"{path}, {name}")
    return kind(str(content.get("name") or path.stem), **options)


def _options(kind: type[Options], given: Mapping[str, Any], where: str) -> Options:
    """An options dataclass from a mapping, lists as tuples, `schedule` as a Schedule."""
    if not isinstance(given, Mapping):
        raise DataError(f"{where}: a mapping is wanted, not {given!r}")
    hints = get_type_hints(kind)
    if unknown := set(given) - set(hints):
        raise DataError(f"{where}: unknown field {sorted(map(str, unknown))[0]!r} (known: {', '.join(sorted(hints))})")
    values: dict[str, Any] = {}
    for name, value in given.items():
        if hints[name] is Schedule:
            values[name] = _options(Schedule, value, f"{where}, {name}")
        elif isinstance(value, list):
            values[name] = tuple(value)
        elif hints[name] in (int, float) and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise DataError(f"{where}: {name} must be a number, not {value!r} (write 5.0e-4, not 5e-4)")
        else:
            values[name] = value
    try:
        return kind(**values)
    except TypeError as error:
        raise DataError(f"{where}: {error}") from error


def run(path: Path | str, folder: Path | str | None = None) -> Path:
    """Train a recipe, or go on with a run (its folder); gives the folder of the finished model.

    Raises:
        DataError, TrainingError, WeightsError: in one line, what stopped it.
    """
    from speechllm.training.stages import begin

    path = Path(path)
    home = path if path.is_dir() else Path(folder or Path("runs") / path.stem)
    recipe = read(home / RECIPE if path.is_dir() else path)
    home.mkdir(parents=True, exist_ok=True)
    if not path.is_dir():
        if (home / RECIPE).exists() and (home / RECIPE).read_bytes() != path.read_bytes():
            raise DataError(
                f"{home} was begun with another recipe; give another folder, or `train {home}` to go on with it"
            )
        shutil.copyfile(path, home / RECIPE)
    return begin(recipe, home).train()
