"""Demos: `first` answers the bundled clips and speaks, `page` is a page in the browser. Both use `Assistant` alone.

make demo                  the same as: python -m demos.first
make demo ARGS=--no-serve
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CLIPS = Path(__file__).parent / "clips"
SENTENCE = "Good morning. This voice was made by a computer."  # that the demo says


@dataclass(frozen=True)
class DemoClip:
    """A bundled recording and what the demo asks of it."""

    audio: Path
    text: str  # what is said
    lang: str  # ISO 639-1
    task: str
    slots: Mapping[str, Any]


def clips() -> list[DemoClip]:
    """The bundled recordings in the order in which the demo asks them; clips/README.md has their sources."""
    rows = [json.loads(line) for line in (CLIPS / "manifest.jsonl").read_text("utf-8").splitlines()]
    return [DemoClip(CLIPS / row["audio"], row["text"], row["lang"], row["task"], row["slots"]) for row in rows]
