"""Fields that came from a file, held against the type hints of the dataclass or function that takes them.

YAML and JSON give whatever was written: a text where a list is meant iterates letters, true counts as 1. Every reader
of a file asks here before it builds anything.
"""

from __future__ import annotations

import math
import reprlib
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

_KINDS: dict[Any, str] = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}


def read_yaml(path: Path) -> Any:
    """What a YAML file says. Raises ValueError that says in one line why it cannot be read."""
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    except (OSError, yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError) as error:
        # beside its own errors PyYAML lets through those of its constructors, as of a date that cannot be
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def shown(value: Any) -> str:
    """A value as an error message quotes it: short, however large it is."""
    return reprlib.repr(value)


def wrong(kind: Callable[..., Any], given: Any) -> str | None:
    """In one line the first field of `given` that is unknown to `kind` or of the wrong type; None: all are right."""
    if not isinstance(given, Mapping):
        return f"a mapping is wanted, not {shown(given)}"
    hints = hints_of(kind)
    if unknown := sorted(map(str, set(given) - set(hints))):
        return f"unknown field {unknown[0]!r} (known: {', '.join(sorted(hints)) or 'none'})"
    for name, value in given.items():
        if said := wanted(hints[name], value):
            return f"{name} must be {said}, not {shown(value)}"
    return None


def hints_of(kind: Callable[..., Any]) -> dict[str, Any]:
    """Types of the fields of a dataclass, or of the arguments of a function."""
    return {name: hint for name, hint in get_type_hints(kind).items() if name not in ("return", "kwargs")}


def wanted(hint: Any, value: Any) -> str | None:
    """What a field of this type takes, if `value` is something else; a list does for a tuple, an int for a float."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        said = [wanted(each, value) for each in inner if each is not type(None)]
        is_right = None in said or (value is None and type(None) in inner)
        return None if is_right else " or ".join(filter(None, said))
    if origin is tuple:
        return _wanted_tuple(inner[0], value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _wanted_mapping(inner[1], value)
    if hint in (int, float):
        return None if _is_number(hint, value) else _KINDS[hint]
    is_right = hint not in _KINDS or isinstance(value, hint)
    return None if is_right else _KINDS[hint]


def _is_number(hint: type, value: Any) -> bool:
    kinds = (int,) if hint is int else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)


def _wanted_tuple(inner: Any, value: Any) -> str | None:
    is_right = isinstance(value, (list, tuple)) and all(wanted(inner, each) is None for each in value)
    return None if is_right else f"a list, each {_KINDS.get(inner, 'of its kind')}"


def _wanted_mapping(inner: Any, value: Any) -> str | None:
    is_right = isinstance(value, Mapping) and all(
        isinstance(name, str) and wanted(inner, each) is None for name, each in value.items()
    )
    return None if is_right else f"a mapping{f' to {_KINDS[inner]} each' if inner in _KINDS else ''}"
