"""A recipe is a YAML that trains: which bases, which corpora, and how long each stage learns.

Its stages say how the model hears: `reader`, `ctc` and `language` make one that reads, `frames` alone one that
listens to an encoder's frames; `codec` alone makes a neural codec; `voices`, `acoustic` and `speak` teach a model to
speak.

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
from typing import Any, TypeVar, get_args, get_type_hints

from speechllm import fields
from speechllm.errors import DataError
from speechllm.training.acoustic import AcousticOptions
from speechllm.training.alignment import AlignOptions
from speechllm.training.codec import CodecOptions
from speechllm.training.ctc import CTCOptions
from speechllm.training.frames import FramesOptions
from speechllm.training.language import LanguageOptions
from speechllm.training.loop import Schedule
from speechllm.training.pronunciation import PronounceOptions
from speechllm.training.reader import ReaderOptions
from speechllm.training.speaking import SpeakOptions
from speechllm.training.voice import VoicesOptions

Options = TypeVar("Options")
RECIPE = "recipe.yaml"
# Numbers are at least 0 but for a seed; these are more, and those at most 1.
_ABOVE_ZERO = frozenset(
    {"steps", "lr", "clip", "save_every", "log_every", "size", "layers", "frames", "tokens", "longest", "rows"}
    | {"whole_head_every", "stack", "inner", "alpha", "batch", "crop_seconds", "judged_seconds"}
)
_SHARES = frozenset(
    {"phone_share", "dropout", "depth_share", "real", "wrong", "unprompted", "unlettered", "uncoded", "unnamed"}
)


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


@dataclass(frozen=True)
class CodecRecipe:
    """A parsed recipe of a neural codec (`codecs/pocket.py`)."""

    name: str
    codec: CodecOptions


@dataclass(frozen=True)
class VoiceRecipe:
    """A parsed recipe that teaches a trained model to speak (`speaking.py`)."""

    name: str
    voices: VoicesOptions
    speak: SpeakOptions
    acoustic: AcousticOptions
    pronounce: PronounceOptions | None = None
    align: AlignOptions | None = None


AnyRecipe = Recipe | FramesRecipe | CodecRecipe | VoiceRecipe
# Each kind by a stage that it alone has; a recipe with none of these is one that reads.
_KINDS: dict[str, type] = {"frames": FramesRecipe, "codec": CodecRecipe, "voices": VoiceRecipe}


def read(path: Path) -> AnyRecipe:
    """Parse a recipe.

    Raises:
        DataError: it is no YAML, or a field is unknown, missing or of the wrong kind.
    """
    try:
        content = fields.read_yaml(path)
    except ValueError as error:
        raise DataError(f"cannot read the recipe {path}: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: a recipe is a mapping with name, and reader, ctc and language, or frames, or codec")
    kind = next((kind for stage, kind in _KINDS.items() if stage in content), Recipe)
    stages = {name: hint for name, hint in get_type_hints(kind).items() if name != "name"}
    if unknown := set(content) - {"name", *stages}:
        raise DataError(f"{path}: unknown field {sorted(map(str, unknown))[0]!r} (known: name, {', '.join(stages)})")
    options: dict[str, Any] = {}
    for name, hint in stages.items():
        if name not in content and type(None) in get_args(hint):
            continue
        if name not in content:
            raise DataError(
                f"{path}: the stage {name!r} is missing (wanted: {', '.join(stages)}; frames or codec alone)"
            )
        hint = next(each for each in (get_args(hint) or (hint,)) if each is not type(None))
        options[name] = _options(hint, {} if content[name] is None else content[name], f"{path}, {name}")
    name = content.get("name") or path.stem
    if not isinstance(name, str):
        raise DataError(f"{path}: name must be a text, not {fields.shown(name)}")
    return kind(name, **options)


def _options(kind: type[Options], given: Any, where: str) -> Options:
    """An options dataclass from a mapping, every field held against its type; `schedule` becomes a Schedule."""
    hints = fields.hints_of(kind)
    values = dict(given) if isinstance(given, Mapping) else {}
    if hints.get("schedule") is Schedule and "schedule" in values:
        values["schedule"] = _options(Schedule, values["schedule"], f"{where}, schedule")
    if said := fields.wrong(kind, values if isinstance(given, Mapping) else given):
        hint = " (write 5.0e-4, not 5e-4)" if "must be a number" in said else ""
        raise DataError(f"{where}: {said}{hint}")
    for name, value in values.items():
        if said := _out_of_range(name, value):
            raise DataError(f"{where}: {said}")
        if isinstance(value, list):
            values[name] = tuple(value)
    try:
        return kind(**values)
    except (DataError, TypeError, ValueError, ZeroDivisionError) as error:
        raise DataError(f"{where}: {error}") from error


def _out_of_range(name: str, value: Any) -> str | None:
    """What is wrong with a number of that name, or with one in a mapping of that name; None: nothing."""
    if isinstance(value, Mapping) and name == "shares":
        return next((f"{name}, {said}" for task, share in value.items() if (said := _out_of_range(task, share))), None)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or name == "seed":
        return None
    if value < 0 or (value == 0 and name in _ABOVE_ZERO):
        return f"{name} must be {'above' if name in _ABOVE_ZERO else 'at least'} 0, not {value}"
    return f"{name} must be at most 1, not {value}" if name in _SHARES and value > 1 else None


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
